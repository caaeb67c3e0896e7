/**
 * One request on its way: body → slot → instance → response. It is the waiter in the queue and the entry on
 * the wheel at once, so that a warm request makes few objects; each try on an instance is an Attempt.
 *
 * What may be sent twice: a request that no instance has seen (no connection), and one that an
 * instance refused before user code ran, as far as its body is still held. Nothing else ever.
 */
import type { Duplex } from 'node:stream';
import type { Dispatcher } from 'undici';
import { type ErrorCode, type Problem, problem } from '#contract/errors.ts';
import type { StartInfo } from '#contract/link.ts';
import { HEADERS, type Refusal } from '#contract/runtime.ts';
import { Attempt, type AttemptOwner } from './attempt.ts';
import { type BodyOwner, REPLAY_BYTES, RequestBody } from './body.ts';
import { readResponseHead, type ResponseHead } from './headers.ts';
import { type Asked, Call } from './call.ts';
import { closeRequest, type OpenRequest, type Outgoing } from './context.ts';
import { addHeaders } from './added-headers.ts';
import { Admission } from './admission.ts';
import { type CorsRules, isPreflight } from './cors.ts';
import type { Cause, HeldLease, Waiter } from './demand.ts';
import { valueOf } from './flat-headers.ts';
import type { ProblemAnswer } from './problems.ts';
import type { Place } from './queue.ts';
import { ResponseRelay } from './relay.ts';
import { type Asker, replyPreflight, replyProblem } from './replies.ts';
import { isOnSharedHost } from './routes.ts';
import { serverTiming } from './timing.ts';
import { ConnectError, type Upstream } from './upstream.ts';
import { lossOf } from './failures.ts';
import { EventStream, type EventStreamOwner, isEventStream } from './events.ts';
import { WebSocketTunnel } from './websocket.ts';
import type { WheelEntry, WheelSlot } from './wheel.ts';

/** Instances that one request is tried on, before 503. */
export const MAX_ATTEMPTS = 10;

function onOutgoingClose(this: Outgoing): void {
  this.request?.onClose();
}

type Phase = 'checking' | 'collecting' | 'waiting' | 'sent' | 'answering' | 'asking-why' | 'done';

export class Exchange extends Call implements Waiter<Upstream>, AttemptOwner, EventStreamOwner, WheelEntry, BodyOwner, OpenRequest {
  wheel: WheelSlot | null = null;
  place: Place | null = null;
  giveUpAt = 0;
  #events: EventStream | null = null;
  #refusal: Refusal | null = null;
  readonly #expectsContinue: boolean;
  readonly #body: RequestBody | null;
  readonly #relay: ResponseRelay;
  #phase: Phase = 'waiting';
  #attempt: Attempt | null = null;
  #attempts = 0;
  #continued = false;
  /** Null where nothing was to be asked. */
  #admission: Admission | null = null;

  constructor(asked: Asked) {
    super(asked);
    const { context, incoming, outgoing, head } = asked;
    this.#expectsContinue = asked.expectsContinue;
    this.#body = head.contentLength > 0 || head.chunked ? new RequestBody(incoming, this, context.wheel, context.maxBodyBytes) : null;
    this.#relay = new ResponseRelay(outgoing);
    outgoing.request = this;
  }

  get answering(): boolean {
    return this.#phase === 'answering' || this.#phase === 'done';
  }

  get received(): boolean {
    return this.#body === null || this.incoming.complete;
  }

  get answered(): boolean {
    return !this.connection.open.has(this);
  }

  begin(): void {
    const { open, pipelined } = this.connection;
    open.add(this);
    this.connection.last = this;
    this.outgoing.on('close', onOutgoingClose);
    if (open.size === 1) this.#begin();
    // What it is for may have changed while those before it were answered.
    else
      pipelined.push(() => {
        if (this.#resolve()) this.#begin();
      });
  }

  #begin(): void {
    if (this.context.draining) this.outgoing.shouldKeepAlive = false;
    const { gatekeeper } = this.context;
    const { entry } = this.match;
    if (entry.cors !== null && isPreflight(this.incoming.method!, this.head.forward)) {
      this.#answerPreflight(entry.cors);
    } else if (gatekeeper.open(entry)) {
      this.#admit();
    } else {
      this.#phase = 'checking';
      this.#admission = new Admission(gatekeeper, this.namespace);
      this.#admission.ask(entry, this.head, this.connection.remote, (denial) => {
        // Its token may have taken a while to check, and the routes may be others by now.
        if (denial !== null) this.#answer({ ...denial, problem: problem(denial.code, denial.detail) });
        else if (this.#resolve()) this.#admit();
      });
    }
  }

  #admit(): void {
    const declared = this.head.contentLength;
    if (declared > this.context.maxBodyBytes) {
      this.onTooLarge();
    } else if (declared > 0 && declared <= REPLAY_BYTES && !this.#expectsContinue) {
      // A small body is read before a slot is taken: a slow client holds no slot, and it can be sent again.
      this.#phase = 'collecting';
      this.#body!.collect(this.arrivedAt);
    } else {
      this.#acquire(false);
    }
  }

  onCollected(): void {
    if (this.#phase === 'collecting' && this.#resolve()) this.#acquire(false);
  }

  /** By the gateway: no instance is started, nobody has to say who he is. */
  #answerPreflight(cors: CorsRules): void {
    const { forward } = this.head;
    const flat = cors.preflight(valueOf(forward, 'origin')!, valueOf(forward, 'access-control-request-headers'));
    const now = this.context.clock.now();
    this.#phase = 'done';
    this.status = 204;
    replyPreflight(this.#asker(now), flat);
    this.context.calls.ended(this, now);
  }

  #acquire(again: boolean): void {
    const { clock, wheel, leases, queueTimeoutMs } = this.context;
    const { revision, maxSlots } = this.match.target;
    if (this.askedAt === null) {
      this.askedAt = clock.now();
      this.giveUpAt = this.askedAt + queueTimeoutMs;
    }
    this.#phase = 'waiting';
    const acquired = leases.acquire(this, revision, maxSlots, again);
    if (acquired === 'waiting') wheel.set(this, this.giveUpAt);
    else if (acquired === 'queue-full') this.fail(acquired, 'too many requests wait for an instance');
    else if (acquired === 'too-many-requests')
      this.fail(acquired, `all ${maxSlots} slots of the function are in use, and its queue is full`);
    else this.onLease(acquired, null);
  }

  // As a waiter.

  onLease(lease: HeldLease<Upstream>, start: StartInfo | null): void {
    if (start !== null) this.start = start;
    this.#send(lease);
  }

  onFail(reason: Problem, retryAfterSeconds: number | undefined): void {
    this.#answer({ problem: reason, retryAfterSeconds });
  }

  onReroute(): void {
    if (this.#resolve()) this.#acquire(false);
  }

  /** By the routes as they are now; answers where the function is gone. */
  #resolve(): boolean {
    const found = this.context.routes.again(this.match);
    if ('code' in found) {
      this.fail(found.code, found.detail);
      return false;
    }
    this.match = found;
    return true;
  }

  #send(lease: HeldLease<Upstream>): void {
    const { clock, wheel, leases, tracer } = this.context;
    const now = clock.now();
    const { timeoutMs } = this.match.target;
    this.#phase = 'sent';
    this.sentAt = now;
    this.#attempts++;
    this.instance = lease.instance.id;
    this.traceparent = tracer.next(this.trace);
    wheel.set(this, now + timeoutMs);
    const body = this.#body === null ? null : this.#body.open(now);
    const headers = this.headersFor(lease.instance.id, timeoutMs);
    if (body !== null && !Buffer.isBuffer(body) && this.head.contentLength >= 0)
      headers.push('content-length', String(this.head.contentLength));
    const attempt = new Attempt(this, lease, leases);
    this.#attempt = attempt;
    const upgrade = this.outgoing.upgrade === null ? null : 'websocket';
    attempt.send({ method: this.incoming.method!, path: this.match.rest, headers, body, upgrade });
  }

  // As the owner of an attempt.

  onSending(): void {
    if (!this.#expectsContinue || this.#continued) return;
    this.#continued = true;
    this.outgoing.writeContinue();
  }

  onHead(status: number, statusText: string | undefined, parsed: Record<string, string | string[] | undefined>): boolean {
    const head = readResponseHead(parsed, isOnSharedHost(this.match));
    if (typeof head === 'string') {
      this.onBadResponse(`the response has ${head}`);
      return false;
    }
    const now = this.context.clock.now();
    this.#addOwn(head, now);
    if (this.context.draining) this.outgoing.shouldKeepAlive = false;
    try {
      this.#relay.begin(status, statusText, head);
    } catch (error) {
      // Kept from the attempt: it is not the phrase of what is answered instead.
      this.outgoing.statusMessage = '';
      this.onBadResponse(`the response has an invalid header: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
    this.#phase = 'answering';
    this.headAt = now;
    this.status = status;
    if (isEventStream(head)) this.#becomeEvents(now);
    return true;
  }

  /** What the platform says beside the function. */
  #addOwn(head: ResponseHead, now: number): void {
    const timing = serverTiming(this, now);
    head.flat.push(HEADERS.requestId, this.id, 'server-timing', head.serverTiming === null ? timing : `${timing}, ${head.serverTiming}`);
    this.#addFunctions(head.flat);
  }

  /** What the function is configured to say with every answer. */
  #addFunctions(flat: string[]): void {
    const { connection, head, match } = this;
    addHeaders(flat, match, head.forward, connection.secure || head.forwardedProto === 'https');
  }

  onData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#relay.data(controller, chunk);
    this.#events?.follow(chunk);
  }

  onUpgrade(headers: Record<string, string | string[] | undefined>, upstream: Duplex): void {
    const { clock, wheel, leases } = this.context;
    const upgrade = this.outgoing.upgrade!;
    const head = upgrade.readAnswer(headers, isOnSharedHost(this.match));
    if (typeof head === 'string') {
      upstream.destroy();
      this.onBadResponse(`the response has ${head}`);
      return;
    }
    const now = clock.now();
    this.#addOwn(head, now);
    wheel.cancel(this);
    this.#phase = 'answering';
    this.headAt = now;
    this.status = 101;
    this.stream = 'websocket';
    const { lease } = this.#attempt!;
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
    this.#leave();
    this.context.calls.ended(this, this.context.clock.now());
    closeRequest(this.connection, this);
  }

  /** The timeout has been kept: from now on it may be as old as a stream may get. */
  #becomeEvents(now: number): void {
    const { wheel, leases } = this.context;
    this.stream = 'events';
    this.#events = new EventStream(this);
    wheel.set(this, now + this.match.target.maxStreamMs);
    leases.streams.add(this.#attempt!.lease, this.#events);
  }

  onEventsEnd(): void {
    if (this.#phase === 'answering') this.onEnd();
  }

  onEventsEnding(withinMs: number): void {
    this.context.wheel.set(this, this.context.clock.now() + withinMs);
  }

  onEnd(): void {
    const now = this.context.clock.now();
    this.#phase = 'done';
    this.context.wheel.cancel(this);
    // How long a stream lives says nothing of how soon a slot will be free.
    this.#leaveAttempt(this.stream === null ? now - this.sentAt! : undefined);
    this.#admission?.leave();
    this.#relay.end();
    this.context.calls.ended(this, now);
    if (this.#body !== null && !this.#body.complete) this.#body.discard(now);
  }

  /** The head is out: all that is left is to let it look truncated. */
  onCut(error: Error): void {
    this.#leave();
    this.#relay.cut(this.incoming);
    this.#ended('function-bad-response', `the response broke off: ${error.message}`);
  }

  onRefused(why: Refusal): void {
    this.#refusal = why;
    this.context.leases.refused(this.#attempt!.lease, why);
  }

  /** To another instance, by the route as it is now. */
  onNotTaken(error: Error | null): void {
    if (error instanceof ConnectError) this.context.leases.suspect(this.#attempt!.lease.instance, error.message);
    else if (error !== null && 'code' in error && error.code === 'UND_ERR_INVALID_ARG') {
      this.fail('bad-request', `the request cannot be passed on: ${error.message}`, { close: true });
      return;
    }
    (this.tries ??= []).push({ instance: this.instance!, why: error === null ? `refused: ${this.#refusal}` : error.message });
    this.sentAt = null;
    this.context.wheel.cancel(this);
    this.#leaveAttempt();
    if (this.#attempts >= MAX_ATTEMPTS) {
      this.fail('no-capacity', `${this.#attempts} instances in a row could not take the request`);
    } else if (this.#body !== null && !this.#body.replayable) {
      this.fail('no-capacity', 'the instance could not take the request, and its body is too long to be sent to another');
    } else if (this.#resolve()) {
      this.#acquire(true);
    }
  }

  onLost(error: Error): void {
    const { instance } = this.#attempt!.lease;
    this.#phase = 'asking-why';
    this.context.wheel.cancel(this);
    this.#leaveAttempt();
    this.context.leases.why(instance, (cause: Cause | null) => {
      if (this.#phase !== 'asking-why') return;
      const { code, detail } = lossOf(cause, error);
      this.fail(code, detail);
    });
  }

  onBadResponse(detail: string): void {
    this.fail('function-bad-response', detail);
  }

  // As an entry on the wheel.

  onDeadline(): void {
    const { leases } = this.context;
    const { target } = this.match;
    if (this.#phase === 'waiting') {
      leases.cancel(this, target.revision);
      this.fail('queue-timeout', `no instance became free within ${this.context.queueTimeoutMs} ms`);
    } else if (this.#events !== null && this.#phase === 'answering') {
      this.#events.overdue();
    } else if (this.#phase === 'sent' || this.#phase === 'answering') {
      if (this.#body?.starving === true && this.#phase !== 'answering') {
        this.fail('request-timeout', `the body had not arrived after the ${target.timeoutMs} ms that the function has`, { close: true });
        return;
      }
      // A client that does not read what there is is no reason to end the instance.
      if (!this.#relay.paused) leases.timedOut(this.#attempt!.lease.instance, this.id);
      this.fail('function-timeout', `the function did not finish within ${target.timeoutMs} ms`);
    }
  }

  // As the owner of its body.

  onTooLarge(): void {
    this.fail('body-too-large', `the body is over ${this.context.maxBodyBytes} bytes`, { close: true });
  }

  onTooSlow(): void {
    this.fail('request-timeout', 'the body came too slowly', { close: true });
  }

  // The ends.

  /** Answers with a problem; where the head is out already, cuts the connection. */
  fail(code: ErrorCode, detail: string, options: { close?: boolean; broken?: boolean } = {}): void {
    this.#answer({ problem: problem(code, detail), ...options });
  }

  breakOff(code: ErrorCode, detail: string): void {
    this.fail(code, detail, { close: true, broken: true });
  }

  #answer(answer: ProblemAnswer & { broken?: boolean }): void {
    if (this.#phase === 'done') return;
    const { clock, leases } = this.context;
    if (this.#phase === 'waiting') leases.cancel(this, this.match.target.revision);
    const begun = this.outgoing.headersSent;
    this.#leave();
    if (!begun) this.status = answer.problem.status;
    this.#ended(answer.problem.code, answer.problem.detail);
    if (begun) {
      this.#relay.cut(this.incoming);
      return;
    }
    const headers: string[] = [];
    this.#addFunctions(headers);
    replyProblem(this.#asker(clock.now()), { ...answer, headers }, answer.broken !== true && (!this.#expectsContinue || this.#continued));
  }

  #asker(now: number): Asker {
    const { id, incoming, outgoing } = this;
    return { id, incoming, outgoing, body: this.#body, now, serverTiming: serverTiming(this, now), draining: this.context.draining };
  }

  /** The connection to the client is gone, or the answer is complete. */
  onClose(): void {
    if (this.#phase !== 'done') {
      if (this.#phase === 'waiting') this.context.leases.cancel(this, this.match.target.revision);
      this.#leave();
      this.aborted = true;
      this.context.calls.ended(this, this.context.clock.now());
    }
    // After a complete answer the rest of the body may still be read: see RequestBody.discard.
    if (!this.outgoing.writableFinished) this.#body?.abandon();
    closeRequest(this.connection, this);
  }

  /** Lets go of instance, slot and deadline. */
  #leave(): void {
    this.#phase = 'done';
    this.context.wheel.cancel(this);
    this.#leaveAttempt();
    this.#admission?.leave();
  }

  #ended(code: string, detail: string): void {
    this.problem = { code, detail };
    this.context.calls.ended(this, this.context.clock.now());
  }

  #leaveAttempt(serviceMs?: number): void {
    const attempt = this.#attempt;
    this.#attempt = null;
    if (attempt === null) return;
    if (this.#events !== null) this.context.leases.streams.remove(attempt.lease, this.#events);
    attempt.leave(serviceMs);
  }
}
