/**
 * One request on its way: body → slot → instance → response. It is the undici handler, the waiter in
 * the queue and the entry on the wheel at once, so that a warm request makes few objects.
 *
 * What may be sent twice: a request that no instance has seen (no connection), and one that an
 * instance refused before user code ran, as far as its body is still held. Nothing else ever.
 */
import type { IncomingMessage } from 'node:http';
import type { Client, Dispatcher } from 'undici';
import { type ErrorCode, type Problem, problem } from '#contract/errors.ts';
import type { StartInfo } from '#contract/link.ts';
import { HEADERS, Refusal } from '#contract/runtime.ts';
import { type BodyOwner, REPLAY_BYTES, RequestBody } from './body.ts';
import { functionHeaders, MAX_INFORMATIONAL, readResponseHead, type RequestHead } from './headers.ts';
import { type ClientConnection, closeRequest, type ForwardContext, type OpenRequest, type Outgoing } from './context.ts';
import type { Cause, HeldLease, Waiter } from './demand.ts';
import { type ProblemAnswer, sendProblem } from './problems.ts';
import type { Place } from './queue.ts';
import { ResponseRelay } from './relay.ts';
import type { RouteMatch } from './routes.ts';
import { serverTiming, type Timing } from './timing.ts';
import { ConnectError, type Upstream } from './upstream.ts';
import { causeOfBadResponse, lossOf } from './failures.ts';
import type { WheelEntry, WheelSlot } from './wheel.ts';

/** Instances that one request is tried on, before 503. */
export const MAX_ATTEMPTS = 10;
/** Body of a refusal; past it the connection is cut. */
const MAX_REFUSAL_BYTES = 4_096;

function onOutgoingClose(this: Outgoing): void {
  this.request?.onClose();
}

type Phase = 'collecting' | 'waiting' | 'sent' | 'refused' | 'answering' | 'asking-why' | 'done';

export class Exchange implements Waiter<Upstream>, Dispatcher.DispatchHandler, WheelEntry, BodyOwner, Timing, OpenRequest {
  wheel: WheelSlot | null = null;
  place: Place | null = null;
  readonly id: string;
  readonly arrivedAt: number;
  askedAt: number | null = null;
  sentAt: number | null = null;
  start: StartInfo | null = null;
  giveUpAt = 0;
  readonly #context: ForwardContext;
  readonly #connection: ClientConnection;
  readonly #incoming: IncomingMessage;
  readonly #outgoing: Outgoing;
  readonly #head: RequestHead;
  readonly #expectsContinue: boolean;
  readonly #body: RequestBody | null;
  readonly #relay: ResponseRelay;
  #match: RouteMatch;
  #phase: Phase = 'waiting';
  #lease: HeldLease<Upstream> | null = null;
  #client: Client | null = null;
  #upstream: Upstream | null = null;
  #controller: Dispatcher.DispatchController | null = null;
  #attempts = 0;
  #informational = 0;
  #refusalBytes = 0;
  #continued = false;

  constructor(
    context: ForwardContext,
    connection: ClientConnection,
    incoming: IncomingMessage,
    outgoing: Outgoing,
    match: RouteMatch,
    head: RequestHead,
    id: string,
    expectsContinue: boolean,
  ) {
    this.#context = context;
    this.#connection = connection;
    this.#incoming = incoming;
    this.#outgoing = outgoing;
    this.#match = match;
    this.#head = head;
    this.#expectsContinue = expectsContinue;
    this.id = id;
    this.arrivedAt = context.clock.now();
    this.#body = head.contentLength > 0 || head.chunked ? new RequestBody(incoming, this, context.wheel, context.maxBodyBytes) : null;
    this.#relay = new ResponseRelay(outgoing);
    outgoing.request = this;
  }

  get answering(): boolean {
    return this.#phase === 'answering' || this.#phase === 'done';
  }

  get received(): boolean {
    return this.#body === null || this.#incoming.complete;
  }

  get answered(): boolean {
    return !this.#connection.open.has(this);
  }

  begin(): void {
    const { open, pipelined } = this.#connection;
    open.add(this);
    this.#connection.last = this;
    this.#outgoing.on('close', onOutgoingClose);
    if (open.size === 1) this.#begin();
    else pipelined.push(() => this.#begin());
  }

  #begin(): void {
    if (this.#context.draining) this.#outgoing.shouldKeepAlive = false;
    const declared = this.#head.contentLength;
    if (declared > this.#context.maxBodyBytes) {
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

  #acquire(again: boolean): void {
    const { clock, wheel, leases, queueTimeoutMs } = this.#context;
    const { revision, maxSlots } = this.#match.target;
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
    this.#lease = lease;
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
    const found = this.#context.routes.again(this.#match);
    if ('code' in found) {
      this.fail(found.code, found.detail);
      return false;
    }
    this.#match = found;
    return true;
  }

  #send(lease: HeldLease<Upstream>): void {
    const { clock, wheel, tracer, publicHost } = this.#context;
    const now = clock.now();
    const { timeoutMs } = this.#match.target;
    this.#phase = 'sent';
    this.sentAt = now;
    this.#attempts++;
    this.#controller = null;
    wheel.set(this, now + timeoutMs);
    const body = this.#body === null ? null : this.#body.open(now);
    const headers = functionHeaders(this.#head, {
      requestId: this.id,
      instance: lease.instance.id,
      deadline: Math.round(clock.wall() + timeoutMs),
      remote: this.#connection.remote,
      prefix: this.#match.prefix,
      fallbackHost: publicHost,
      ...tracer.next(this.#head.traceparent),
    });
    if (body !== null && !Buffer.isBuffer(body) && this.#head.contentLength >= 0)
      headers.push('content-length', String(this.#head.contentLength));
    this.#upstream = lease.instance.connection;
    this.#client = this.#upstream.acquire();
    this.#client.dispatch({ method: this.#incoming.method!, path: this.#match.rest, headers, body }, this);
  }

  // As undici's handler.

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.#phase !== 'sent' || this.#controller !== null) {
      // The client has gone while a connection was made; or undici would send it a second time.
      controller.abort(new Error('the request is over'));
      return;
    }
    this.#controller = controller;
    if (this.#expectsContinue && !this.#continued) {
      this.#continued = true;
      this.#outgoing.writeContinue();
    }
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    parsed: Record<string, string | string[] | undefined>,
    statusText?: string,
  ): void {
    if (this.#phase !== 'sent') return;
    if (status < 200) {
      // 102 and 103 are hints that need not be passed on.
      if (++this.#informational > MAX_INFORMATIONAL) this.#badResponse(`more than ${MAX_INFORMATIONAL} informational responses`);
      return;
    }
    if (status === 503 && Refusal.options.some((kind) => kind === parsed[HEADERS.refused])) {
      this.#phase = 'refused';
      this.#context.leases.refused(this.#lease!, parsed[HEADERS.refused] as Refusal);
      return;
    }
    const head = readResponseHead(parsed);
    if (typeof head === 'string') {
      this.#badResponse(`the response has ${head}`);
      return;
    }
    const timing = serverTiming(this, this.#context.clock.now());
    head.flat.push(HEADERS.requestId, this.id, 'server-timing', head.serverTiming === null ? timing : `${timing}, ${head.serverTiming}`);
    if (this.#context.draining) this.#outgoing.shouldKeepAlive = false;
    try {
      this.#relay.begin(status, statusText, head);
    } catch (error) {
      // Kept from the attempt: it is not the phrase of what is answered instead.
      this.#outgoing.statusMessage = '';
      this.#badResponse(`the response has an invalid header: ${error instanceof Error ? error.message : String(error)}`);
      return;
    }
    this.#phase = 'answering';
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#phase === 'answering') {
      this.#relay.data(controller, chunk);
    } else if (this.#phase === 'refused') {
      this.#refusalBytes += chunk.length;
      if (this.#refusalBytes > MAX_REFUSAL_BYTES) controller.abort(new Error('a refusal with a long body'));
    }
  }

  onResponseEnd(): void {
    if (this.#phase === 'refused') this.#again();
    else if (this.#phase === 'answering') this.#finish();
    else this.#releaseClient();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    const phase = this.#phase;
    if (phase === 'refused') {
      this.#again();
    } else if (phase === 'answering') {
      // The head is out: all that is left is to let it look truncated.
      this.#leave();
      this.#relay.cut(this.#incoming);
    } else if (phase === 'sent') {
      if (this.#controller === null) this.#notSent(error);
      else this.#lost(error);
    } else {
      this.#releaseClient();
    }
  }

  #finish(): void {
    const now = this.#context.clock.now();
    this.#phase = 'done';
    this.#context.wheel.cancel(this);
    this.#releaseClient();
    this.#releaseSlot(now - this.sentAt!);
    this.#relay.end();
    if (this.#body !== null && !this.#body.complete) this.#body.discard(now);
  }

  /** Nothing was sent: no connection, or one that broke before the request began. */
  #notSent(error: Error): void {
    if (error instanceof ConnectError) this.#context.leases.suspect(this.#lease!.instance, error.message);
    else if ('code' in error && error.code === 'UND_ERR_INVALID_ARG') {
      this.#releaseClient();
      this.fail('bad-request', `the request cannot be passed on: ${error.message}`, { close: true });
      return;
    }
    this.#again();
  }

  /** To another instance, by the route as it is now. */
  #again(): void {
    this.#context.wheel.cancel(this);
    this.#releaseClient();
    this.#releaseSlot();
    if (this.#attempts >= MAX_ATTEMPTS) {
      this.fail('no-capacity', `${this.#attempts} instances in a row could not take the request`);
    } else if (this.#body !== null && !this.#body.replayable) {
      this.fail('no-capacity', 'the instance could not take the request, and its body is too long to be sent to another');
    } else if (this.#resolve()) {
      this.#refusalBytes = 0;
      this.#acquire(true);
    }
  }

  /** The connection broke while the instance worked on it. */
  #lost(error: Error): void {
    const bad = causeOfBadResponse(error);
    if (bad !== null) {
      this.#badResponse(bad);
      return;
    }
    const { instance } = this.#lease!;
    this.#phase = 'asking-why';
    this.#context.wheel.cancel(this);
    this.#releaseClient();
    this.#releaseSlot();
    this.#context.leases.why(instance, (cause: Cause | null) => {
      if (this.#phase !== 'asking-why') return;
      const { code, detail } = lossOf(cause, error);
      this.fail(code, detail);
    });
  }

  #badResponse(detail: string): void {
    this.fail('function-bad-response', detail);
  }

  // As an entry on the wheel.

  onDeadline(): void {
    const { leases } = this.#context;
    const { target } = this.#match;
    if (this.#phase === 'waiting') {
      leases.cancel(this, target.revision);
      this.fail('queue-timeout', `no instance became free within ${this.#context.queueTimeoutMs} ms`);
    } else if (this.#phase === 'sent' || this.#phase === 'answering' || this.#phase === 'refused') {
      if (this.#body?.starving === true && this.#phase !== 'answering') {
        this.fail('request-timeout', `the body had not arrived after the ${target.timeoutMs} ms that the function has`, { close: true });
        return;
      }
      // A client that does not read what there is is no reason to end the instance.
      if (!this.#relay.paused) leases.timedOut(this.#lease!.instance, this.id);
      this.fail('function-timeout', `the function did not finish within ${target.timeoutMs} ms`);
    }
  }

  // As the owner of its body.

  onTooLarge(): void {
    this.fail('body-too-large', `the body is over ${this.#context.maxBodyBytes} bytes`, { close: true });
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
    const { clock, leases } = this.#context;
    if (this.#phase === 'waiting') leases.cancel(this, this.#match.target.revision);
    const begun = this.#outgoing.headersSent;
    this.#leave();
    if (begun) {
      this.#relay.cut(this.#incoming);
      return;
    }
    const now = clock.now();
    const unread = this.#body !== null && !this.#body.complete;
    const close = answer.close === true || unread || this.#context.draining;
    // A client may look for the answer only when it has sent its body: that is read for a while, but
    // for one that still waits for our 100, and where the bytes make no sense any more.
    const hold = unread && answer.broken !== true && (!this.#expectsContinue || this.#continued);
    sendProblem(this.#outgoing, { ...answer, close, serverTiming: serverTiming(this, now) }, this.id, hold);
    if (hold) {
      this.#incoming.once('end', () => this.#outgoing.end());
      this.#body!.discard(now);
    } else {
      this.#body?.abandon();
    }
  }

  /** The connection to the client is gone, or the answer is complete. */
  onClose(): void {
    if (this.#phase !== 'done') {
      if (this.#phase === 'waiting') this.#context.leases.cancel(this, this.#match.target.revision);
      this.#leave();
    }
    // After a complete answer the rest of the body may still be read: see RequestBody.discard.
    if (!this.#outgoing.writableFinished) this.#body?.abandon();
    closeRequest(this.#connection, this);
  }

  /** Lets go of instance, slot and deadline. What undici still says is not listened to. */
  #leave(): void {
    const running = this.#phase === 'sent' || this.#phase === 'answering' || this.#phase === 'refused';
    this.#phase = 'done';
    this.#context.wheel.cancel(this);
    const controller = this.#controller;
    this.#controller = null;
    // Without a controller it waits for a connection: onRequestStart aborts it when there is one.
    if (running && controller !== null) {
      controller.abort(new Error('the request is over'));
      this.#releaseClient();
    }
    this.#releaseSlot();
  }

  #releaseSlot(serviceMs?: number): void {
    const lease = this.#lease;
    this.#lease = null;
    if (lease !== null) this.#context.leases.free(lease, serviceMs);
  }

  /** Before the slot: whoever takes that next finds the connection. */
  #releaseClient(): void {
    const client = this.#client;
    this.#client = null;
    if (client !== null) this.#upstream!.release(client);
  }
}
