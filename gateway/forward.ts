/** A client's request to a function: body → slot → instance → response. */
import type { Duplex } from 'node:stream';
import { type ErrorCode, type Problem, problem } from '#contract/errors.ts';
import { HEADERS } from '#contract/runtime.ts';
import type { Flow } from './attempt.ts';
import { REPLAY_BYTES } from './body.ts';
import type { FailOptions } from './call.ts';
import { type Asked, type ClientOwner, ClientSide } from './client-side.ts';
import { type CorsRules, isPreflight } from './cors.ts';
import type { HeldLease } from './demand.ts';
import { EventStream, type EventStreamOwner, isEventStream } from './events.ts';
import { valueOf } from './flat-headers.ts';
import { functionHeaders, readResponseHead, type ResponseHead } from './headers.ts';
import { Passage } from './passage.ts';
import type { ProblemAnswer } from './problems.ts';
import { ResponseRelay } from './relay.ts';
import type { InstanceRequest } from './request-writer.ts';
import { replyPreflight } from './replies.ts';
import { isOnSharedHost } from './routes.ts';
import { serverTiming } from './timing.ts';
import type { Upstream } from './upstream.ts';
import { WebSocketTunnel } from './websocket.ts';

export { MAX_ATTEMPTS } from './passage.ts';

export class Exchange extends Passage implements ClientOwner, EventStreamOwner {
  readonly #client: ClientSide;
  readonly #relay: ResponseRelay;
  #collecting = false;
  #events: EventStream | null = null;

  constructor(asked: Asked) {
    const { context, match, id, outgoing } = asked;
    super(context, match, id);
    this.#client = new ClientSide(asked, this, { maxBodyBytes: context.maxBodyBytes, keepBytes: REPLAY_BYTES });
    this.#relay = new ResponseRelay(outgoing);
  }

  get method(): string {
    return this.#client.incoming.method!;
  }

  get path(): string {
    return this.#client.incoming.url!;
  }

  get secure(): boolean {
    return this.#client.connection.secure;
  }

  get event(): null {
    return null;
  }

  protected get incomingTrace(): string | undefined {
    return this.#client.head.traceparent;
  }

  get answering(): boolean {
    return this.phase === 'answering' || this.phase === 'done';
  }

  begin(): void {
    this.#client.begin();
  }

  // As the owner of its client's side.

  onTurn(): void {
    const { cors } = this.match.entry;
    if (cors !== null && isPreflight(this.method, this.#client.head.forward)) this.#answerPreflight(cors);
    else this.#client.admit();
  }

  onAdmitted(): void {
    const { body, head, expectsContinue } = this.#client;
    const declared = head.contentLength;
    if (declared > 0 && declared <= REPLAY_BYTES && !expectsContinue) {
      // A small body is read before a slot is taken: a slow client holds no slot, and it can be sent again.
      this.#collecting = true;
      body!.collect(this.arrivedAt);
    } else {
      this.acquire(false);
    }
  }

  onCollected(): void {
    if (!this.#collecting || this.phase !== 'arriving') return;
    if (this.resolve()) this.acquire(false);
  }

  /** By the gateway: no instance is started, nobody has to say who he is. */
  #answerPreflight(cors: CorsRules): void {
    const { forward } = this.#client.head;
    const flat = cors.preflight(valueOf(forward, 'origin')!, valueOf(forward, 'access-control-request-headers'));
    const now = this.context.clock.now();
    this.phase = 'done';
    this.status = 204;
    replyPreflight(this.#client.asker(now), flat);
    this.ended(now);
  }

  // As a waiter.

  onFail(reason: Problem, retryAfterSeconds: number | undefined): void {
    this.refuse({ problem: reason, retryAfterSeconds });
  }

  // On its way to an instance.

  protected override get replayable(): boolean {
    const { body } = this.#client;
    return body === null || body.replayable;
  }

  protected requestFor(instance: string, now: number): InstanceRequest {
    const { clock, publicHost } = this.context;
    const { body: requestBody, head, connection, incoming, outgoing } = this.#client;
    const { target, prefix, rest } = this.match;
    const body = requestBody === null ? null : requestBody.open(now);
    const headers = functionHeaders(head, {
      requestId: this.id,
      instance,
      deadline: Math.round(clock.wall() + target.timeoutMs),
      remote: connection.remote,
      secure: connection.secure,
      prefix,
      fallbackHost: publicHost,
      traceparent: this.traceparent!,
      continued: this.trace.parent !== null,
    });
    const upgrade = outgoing.upgrade === null ? null : 'websocket';
    return { method: incoming.method!, path: rest, headers, body, bodyLength: head.contentLength, upgrade };
  }

  onSending(): void {
    this.#client.proceed();
  }

  onHead(status: number, reason: string, headers: string[]): boolean {
    const { outgoing } = this.#client;
    const head = readResponseHead(headers, isOnSharedHost(this.match));
    if (typeof head === 'string') {
      this.onBadResponse(`the response has ${head}`);
      return false;
    }
    const now = this.context.clock.now();
    this.#addOwn(head, now);
    if (this.context.draining) outgoing.shouldKeepAlive = false;
    try {
      this.#relay.begin(status, reason, head);
    } catch (error) {
      this.onBadResponse(`the response has an invalid header: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
    this.phase = 'answering';
    this.headAt = now;
    this.status = status;
    if (isEventStream(head)) this.#becomeEvents(now);
    return true;
  }

  /** What the platform says beside the function. */
  #addOwn(head: ResponseHead, now: number): void {
    const timing = serverTiming(this, now);
    head.flat.push(HEADERS.requestId, this.id, 'server-timing', head.serverTiming === null ? timing : `${timing}, ${head.serverTiming}`);
    this.#client.addFunctions(head.flat);
  }

  onData(flow: Flow, chunk: Buffer): void {
    this.#relay.data(flow, chunk);
    this.#events?.follow(chunk);
  }

  onQuiet(): void {
    this.#relay.flush();
  }

  onUpgrade(headers: string[], upstream: Duplex): void {
    const { clock, wheel, leases } = this.context;
    const upgrade = this.#client.outgoing.upgrade!;
    const head = upgrade.readAnswer(headers, isOnSharedHost(this.match));
    if (typeof head === 'string') {
      upstream.destroy();
      this.onBadResponse(`the response has ${head}`);
      return;
    }
    const now = clock.now();
    this.#addOwn(head, now);
    wheel.cancel(this);
    this.phase = 'answering';
    this.headAt = now;
    this.status = 101;
    this.stream = 'websocket';
    const { lease } = this.attempt!;
    lease.instance.connection.keep(upstream);
    const tunnel = new WebSocketTunnel({
      ...upgrade.accept(head),
      upstream,
      clock,
      wheel,
      maxAgeMs: this.match.target.maxStreamMs,
      onEnd: () => this.#onWebSocketEnd(lease, tunnel),
    });
    leases.streams.add(lease, tunnel);
    tunnel.begin();
  }

  #onWebSocketEnd(lease: HeldLease<Upstream>, tunnel: WebSocketTunnel): void {
    this.context.leases.streams.remove(lease, tunnel);
    this.letGo();
    this.ended(this.context.clock.now());
    this.#client.closed();
  }

  /** The timeout has been kept: from now on it may be as old as a stream may get. */
  #becomeEvents(now: number): void {
    const { wheel, leases } = this.context;
    this.stream = 'events';
    this.#events = new EventStream(this);
    wheel.set(this, now + this.match.target.maxStreamMs);
    leases.streams.add(this.attempt!.lease, this.#events);
  }

  onEventsEnd(): void {
    if (this.phase === 'answering') this.onEnd();
  }

  onEventsEnding(withinMs: number): void {
    this.context.wheel.set(this, this.context.clock.now() + withinMs);
  }

  onEnd(): void {
    const now = this.context.clock.now();
    const { body } = this.#client;
    // How long a stream lives says nothing of how soon a slot will be free.
    this.letGo(this.stream === null ? now - this.sentAt! : undefined);
    this.#relay.end();
    this.ended(now);
    if (body !== null && !body.complete) body.discard(now);
  }

  /** The head is out: all that is left is to let it look truncated. */
  onCut(error: Error): void {
    this.letGo();
    this.#relay.cut(this.#client.incoming);
    this.problem = { code: 'function-bad-response', detail: `the response broke off: ${error.message}` };
    this.ended(this.context.clock.now());
  }

  protected override overran(): void {
    const { body } = this.#client;
    if (this.phase === 'answering' && this.#events !== null) {
      this.#events.overdue();
    } else if (body?.starving === true && this.phase !== 'answering') {
      const { timeoutMs } = this.match.target;
      this.fail('request-timeout', `the body had not arrived after the ${timeoutMs} ms that the function has`, { close: true });
    } else {
      // A client that does not read what there is is no reason to end the instance.
      super.overran(!this.#relay.paused);
    }
  }

  // The ends.

  /** Answers with a problem; where the head is out already, cuts the connection. */
  fail(code: ErrorCode, detail: string, options: FailOptions = {}): void {
    this.refuse({ problem: problem(code, detail), ...options });
  }

  refuse(answer: ProblemAnswer & FailOptions): void {
    if (this.phase === 'done') return;
    const { outgoing, incoming } = this.#client;
    const begun = outgoing.headersSent;
    this.letGo();
    if (!begun) this.status = answer.problem.status;
    this.problem = { code: answer.problem.code, detail: answer.problem.detail };
    this.ended(this.context.clock.now());
    if (begun) {
      this.#relay.cut(incoming);
      return;
    }
    const headers: string[] = [];
    this.#client.addFunctions(headers);
    this.#client.problem(answer, headers);
  }

  onClientGone(): void {
    if (this.phase === 'done') return;
    this.letGo();
    this.aborted = true;
    this.ended(this.context.clock.now());
  }

  protected override letGo(serviceMs?: number): void {
    super.letGo(serviceMs);
    this.#client.leave();
  }

  protected override leaveAttempt(serviceMs?: number): void {
    if (this.#events !== null && this.attempt !== null) this.context.leases.streams.remove(this.attempt.lease, this.#events);
    super.leaveAttempt(serviceMs);
  }
}
