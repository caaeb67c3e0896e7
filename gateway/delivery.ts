/**
 * An event on its way to a function: as a client's request (passage.ts), but nobody reads along. The answer is
 * collected, as far as it is of interest, and told to the dispatcher.
 */
import type { Duplex } from 'node:stream';
import type { EventKind, GatewayEventMessage } from '#contract/events-link.ts';
import { type ErrorCode, type Problem, problem } from '#contract/errors.ts';
import { MAX_EVENT_BYTES } from '#contract/events.ts';
import { HEADERS } from '#contract/runtime.ts';
import { decodeBody, encodeBody } from '#kit/event-body.ts';
import type { Flow } from './attempt.ts';
import type { ForwardContext } from './context.ts';
import type { Deliver } from './events-link.ts';
import { valueOf } from './flat-headers.ts';
import { readResponseHead } from './headers.ts';
import { Passage } from './passage.ts';
import { faultOf, type InstanceRequest } from './request-writer.ts';
import type { RouteMatch } from './routes.ts';

export type Delivered = Extract<GatewayEventMessage, { type: 'delivered' }>;

/** Who is told of its end, once. `result` is null where it was abandoned. */
export interface DeliveryOwner {
  onDelivered(delivery: Delivery, result: Delivered | null): void;
}

export class Delivery extends Passage {
  readonly seq: number;
  /** Of its body as it came: what it holds of memory. */
  readonly bodyBytes: number;
  readonly #message: Deliver;
  readonly #owner: DeliveryOwner;
  readonly #body: Buffer | null;
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #received = 0;
  #headers: string[] = [];

  constructor(context: ForwardContext, match: RouteMatch, id: string, message: Deliver, owner: DeliveryOwner) {
    super(context, match, id);
    const body = decodeBody(message.request.body);
    this.seq = message.seq;
    this.#message = message;
    this.#owner = owner;
    this.#body = body.length === 0 ? null : body;
    this.bodyBytes = body.length;
    this.#maxBytes = Math.min(message.maxResponseBytes, MAX_EVENT_BYTES);
  }

  get method(): string {
    return this.#message.request.method;
  }

  /** As a client would ask for it. */
  get path(): string {
    return this.match.entry.prefix + this.match.rest;
  }

  get secure(): boolean {
    return false;
  }

  get event(): EventKind {
    return this.#message.kind;
  }

  protected get incomingTrace(): string | undefined {
    return this.#message.traceparent ?? undefined;
  }

  begin(): void {
    const { method, headers } = this.#message.request;
    const fault = faultOf({ method, path: this.match.rest, headers });
    if (fault === null) this.acquire(false);
    else this.fail('bad-request', `the request cannot be passed on: ${fault}`);
  }

  /** The outcome is of no interest any more: as if a client had gone. */
  abandon(): void {
    if (this.phase === 'done') return;
    this.letGo();
    this.aborted = true;
    this.ended(this.context.clock.now());
    this.#owner.onDelivered(this, null);
  }

  protected requestFor(instance: string): InstanceRequest {
    const { clock, publicHost } = this.context;
    const { request, kind } = this.#message;
    const { target, rest } = this.match;
    const headers = request.headers.concat(
      HEADERS.requestId,
      this.id,
      HEADERS.traceparent,
      this.traceparent!,
      HEADERS.deadline,
      String(Math.round(clock.wall() + target.timeoutMs)),
      HEADERS.instance,
      instance,
      HEADERS.event,
      kind,
    );
    if (valueOf(request.headers, 'host') === undefined) headers.push('host', publicHost);
    return { method: request.method, path: rest, headers, body: this.#body, bodyLength: -1, upgrade: null };
  }

  onSending(): void {}

  onHead(status: number, _reason: string, headers: string[]): boolean {
    const head = readResponseHead(headers, false);
    if (typeof head === 'string') {
      this.onBadResponse(`the response has ${head}`);
      return false;
    }
    this.phase = 'answering';
    this.headAt = this.context.clock.now();
    this.status = status;
    this.#headers = head.flat;
    return true;
  }

  /** Its answer is told when all of it is here. */
  onQuiet(): void {}

  onData(_flow: Flow, chunk: Buffer): void {
    const left = this.#maxBytes - this.#received;
    this.#received += chunk.length;
    if (left > 0) this.#chunks.push(Buffer.from(chunk.length > left ? chunk.subarray(0, left) : chunk));
  }

  /** Nothing was asked to be upgraded. */
  onUpgrade(_headers: string[], socket: Duplex): void {
    socket.destroy();
    this.onBadResponse('the response switches to a protocol that was not asked for');
  }

  onEnd(): void {
    const now = this.context.clock.now();
    const chunks = this.#chunks;
    const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
    this.letGo(now - this.sentAt!);
    this.ended(now);
    this.#tell(now, null, null, {
      status: this.status,
      headers: this.#headers,
      body: encodeBody(body),
      truncated: this.#received > this.#maxBytes,
    });
  }

  onCut(error: Error): void {
    this.fail('function-bad-response', `the response broke off: ${error.message}`);
  }

  onFail(reason: Problem, retryAfterSeconds: number | undefined): void {
    this.#failed(reason, retryAfterSeconds ?? null);
  }

  fail(code: ErrorCode, detail: string): void {
    this.#failed(problem(code, detail), null);
  }

  #failed(reason: Problem, retryAfterSeconds: number | null): void {
    if (this.phase === 'done') return;
    const now = this.context.clock.now();
    this.letGo();
    this.status = reason.status;
    this.problem = { code: reason.code, detail: reason.detail };
    this.ended(now);
    this.#tell(now, { ...reason, instance: this.id }, retryAfterSeconds, null);
  }

  #tell(now: number, reason: Problem | null, retryAfterSeconds: number | null, response: Delivered['response']): void {
    const { sentAt, arrivedAt, seq, id, instance, match } = this;
    this.#chunks = [];
    this.#owner.onDelivered(this, {
      type: 'delivered',
      seq,
      requestId: id,
      instance,
      revision: match.target.revision,
      response,
      problem: reason,
      retryAfterSeconds,
      waitedMs: (sentAt ?? now) - arrivedAt,
      ranMs: sentAt === null ? 0 : now - sentAt,
    });
  }
}
