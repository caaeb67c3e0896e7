/**
 * A client's call that the dispatcher answers, and no instance: its body is collected, and what becomes of it
 * is asked. An invocation that is to be answered later (202 once it is durable), and a webhook.
 */
import type { EventKind, EventRequest } from '#contract/events-link.ts';
import { EVENT_HEADERS, INVOCATIONS_PATH, MAX_EVENT_BYTES } from '#contract/events.ts';
import { type ErrorCode, problem } from '#contract/errors.ts';
import { encodeBody } from '#kit/event-body.ts';
import { Call, type FailOptions } from './call.ts';
import { type Asked, type ClientOwner, ClientSide } from './client-side.ts';
import type { EventAnswer, EventAsker, EventQuestion, OpenQuestion } from './events-link.ts';
import { dropHeaders, valueOf } from './flat-headers.ts';
import { clientHeaders } from './headers.ts';
import { type EventOptions, readEventOptions, RESPOND_ASYNC } from './prefer.ts';
import type { ProblemAnswer } from './problems.ts';
import { readAnswer, replyWhole } from './replies.ts';

/** Said where an invocation with this Idempotency-Key was there already. */
export const REPLAYED_HEADER = 'idempotency-replayed';

export abstract class EventCall extends Call implements ClientOwner, EventAsker {
  protected readonly client: ClientSide;
  #question: OpenQuestion | null = null;
  #collecting = false;
  #over = false;
  #reserved = 0;

  constructor(asked: Asked) {
    super(asked.context, asked.match, asked.id);
    const maxBodyBytes = Math.min(MAX_EVENT_BYTES, asked.context.maxBodyBytes);
    this.client = new ClientSide(asked, this, { maxBodyBytes, keepBytes: maxBodyBytes });
  }

  /** What the dispatcher is asked, when the body is there. */
  protected abstract question(request: EventRequest): EventQuestion;
  /** Answers by what the dispatcher said. */
  protected abstract answer(answer: EventAnswer): void;

  get method(): string {
    return this.client.incoming.method!;
  }

  get path(): string {
    return this.client.incoming.url!;
  }

  get secure(): boolean {
    return this.client.connection.secure;
  }

  get event(): EventKind | null {
    return null;
  }

  /** Which one will get it is decided when it is delivered. */
  override get revision(): string | null {
    return this.match.pinned ? this.match.target.revision : null;
  }

  protected get incomingTrace(): string | undefined {
    return this.client.head.traceparent;
  }

  get answering(): boolean {
    return this.#over;
  }

  begin(): void {
    this.client.begin();
  }

  onTurn(): void {
    this.client.admit();
  }

  onAdmitted(): void {
    const { body, head } = this.client;
    if (body !== null && !this.#reserve(head.contentLength)) {
      this.fail('events-unavailable', 'too much is being received that is to be answered later; nothing was accepted');
      return;
    }
    this.client.proceed();
    this.#collecting = true;
    if (body === null) this.onCollected();
    else body.collect(this.arrivedAt);
  }

  /** Memory for the body, by its declared length, or as long as one may be. */
  #reserve(declared: number): boolean {
    const bytes = declared < 0 ? MAX_EVENT_BYTES : declared;
    if (!this.context.collecting.take(this.namespace, bytes)) return false;
    this.#reserved = bytes;
    return true;
  }

  onCollected(): void {
    if (!this.#collecting || this.#over || !this.resolve()) return;
    this.#collecting = false;
    const { head, connection, body } = this.client;
    const { prefix, rest } = this.match;
    const { publicHost, clock, events } = this.context;
    const bytes = body?.open(clock.now());
    const request: EventRequest = {
      method: this.method,
      path: rest,
      headers: clientHeaders(head, {
        remote: connection.remote,
        secure: connection.secure,
        prefix,
        fallbackHost: publicHost,
        continued: this.trace.parent !== null,
      }),
      body: Buffer.isBuffer(bytes) ? encodeBody(bytes) : { text: '' },
    };
    this.#question = events.ask(this.question(request), this);
  }

  /** Below which the delivery is, in its trace. */
  protected get ownTrace(): string {
    return this.context.tracer.own(this.trace);
  }

  onEventAnswer(answer: EventAnswer): void {
    this.#question = null;
    if (this.#over) return;
    if (answer.type === 'refused') this.refuse({ problem: answer.problem, retryAfterSeconds: answer.retryAfterSeconds ?? undefined });
    else this.answer(answer);
  }

  onEventsUnavailable(detail: string): void {
    this.#question = null;
    this.fail('events-unavailable', detail);
  }

  /** The whole answer. `flat`: lower-case name, value, … */
  protected reply(status: number, flat: string[], body: Buffer): void {
    const now = this.context.clock.now();
    this.#end();
    this.status = status;
    this.headAt = now;
    this.context.calls.ended(this, now);
    replyWhole(this.client.asker(now), status, flat, body);
  }

  fail(code: ErrorCode, detail: string, options: FailOptions = {}): void {
    this.refuse({ problem: problem(code, detail), ...options });
  }

  refuse(answer: ProblemAnswer & FailOptions): void {
    if (this.#over) return;
    this.#end();
    this.status = answer.problem.status;
    this.problem = { code: answer.problem.code, detail: answer.problem.detail };
    this.context.calls.ended(this, this.context.clock.now());
    const headers: string[] = [];
    this.addCors(headers);
    this.client.problem(answer, headers);
  }

  onClientGone(): void {
    if (this.#over) return;
    this.#end();
    this.aborted = true;
    this.context.calls.ended(this, this.context.clock.now());
  }

  protected addCors(flat: string[]): void {
    this.match.entry.cors?.apply(flat, valueOf(this.client.head.forward, 'origin'));
  }

  #end(): void {
    this.#over = true;
    this.#question?.forget();
    this.#question = null;
    this.context.collecting.give(this.namespace, this.#reserved);
    this.#reserved = 0;
    this.client.leave();
  }
}

/** A request with `Prefer: respond-async`: 202 once it is durable, and not before. */
export class Acceptance extends EventCall {
  #options: EventOptions = { idempotencyKey: null, delayMs: 0, orderKey: null };

  override onAdmitted(): void {
    const options = readEventOptions(this.client.incoming.rawHeaders);
    if (typeof options === 'string') {
      this.fail('bad-request', options);
      return;
    }
    this.#options = options;
    super.onAdmitted();
  }

  protected question(request: EventRequest): EventQuestion {
    dropHeaders(request.headers, (name) => name === EVENT_HEADERS.prefer);
    const { namespace, name, revision, id: requestId, ownTrace: traceparent } = this;
    return { type: 'accept', namespace, name, revision, request, requestId, traceparent, ...this.#options };
  }

  protected answer(answer: EventAnswer): void {
    if (answer.type !== 'accepted') {
      this.fail('internal', `the dispatcher answered ${answer.type}`);
      return;
    }
    const url = INVOCATIONS_PATH + answer.id;
    const body = Buffer.from(JSON.stringify({ id: answer.id, state: 'queued', url }));
    const flat = [
      'content-type',
      'application/json',
      'cache-control',
      'no-store',
      'location',
      url,
      EVENT_HEADERS.preferenceApplied,
      RESPOND_ASYNC,
    ];
    if (answer.duplicate) flat.push(REPLAYED_HEADER, 'true');
    this.addCors(flat);
    this.reply(202, flat, body);
  }
}

/** A webhook of one of the function's triggers. Who sent it the trigger itself checks, by its signature. */
export class WebhookCall extends EventCall {
  readonly #trigger: string;

  constructor(asked: Asked, trigger: string) {
    super(asked);
    this.#trigger = trigger;
  }

  override onTurn(): void {
    this.client.admit(false);
  }

  protected question(request: EventRequest): EventQuestion {
    const { namespace, name, id: requestId, ownTrace: traceparent } = this;
    return { type: 'webhook', namespace, name, trigger: this.#trigger, request, requestId, traceparent };
  }

  protected answer(answer: EventAnswer): void {
    const read = answer.type === 'answer' ? readAnswer(answer) : null;
    if (answer.type !== 'answer' || read === null) this.fail('internal', `the dispatcher gave no answer to a webhook: ${answer.type}`);
    else this.reply(answer.status, read.flat, read.body);
  }
}
