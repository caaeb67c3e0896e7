/**
 * `/.fn/invocations/ID`: what became of an invocation, and `/ID/result`: the function's own answer. Of whom it is,
 * the dispatcher says; then whoever asks must be let in as for a call of that function, before anything is
 * told. Who knows an id (124 bits of chance) learns by 401 that it exists, and nothing else.
 */
import type { IncomingMessage } from 'node:http';
import { type ErrorCode, problem } from '#contract/errors.ts';
import { EventId, INVOCATIONS_PATH, InvocationView } from '#contract/events.ts';
import { Admission } from './admission.ts';
import { type ClientConnection, closeRequest, type ForwardContext, type OpenRequest, type Outgoing } from './context.ts';
import { isPreflight } from './cors.ts';
import type { EventAnswer, EventAsker, OpenQuestion } from './events-link.ts';
import { valueOf } from './flat-headers.ts';
import type { RequestHead } from './headers.ts';
import { type ProblemAnswer, sendProblem } from './problems.ts';
import { readAnswer, type Asker, replyPreflight, replyWhole } from './replies.ts';
import type { RouteEntry } from './routes.ts';

/** Said with 202 in place of a result: the invocation is not over. Functions cannot say it. */
export const STATE_HEADER = 'fn-state';

/** While it is not over, it may be asked again so soon. */
const RETRY_AFTER_SECONDS = '1';
const OVER: ReadonlySet<InvocationView['state']> = new Set(['succeeded', 'failed', 'cancelled']);
const PATH = /^([^/?]+)(\/result)?(?:\?|$)/;

export interface InvocationAsked {
  readonly context: ForwardContext;
  readonly connection: ClientConnection;
  readonly incoming: IncomingMessage;
  readonly outgoing: Outgoing;
  readonly head: RequestHead;
  readonly id: string;
  /** Origin-form: begins with INVOCATIONS_PATH. */
  readonly target: string;
}

type Step = 'finding' | 'entering' | 'asking' | 'over';

export class InvocationRequest implements OpenRequest, EventAsker {
  readonly received = true;
  readonly #asked: InvocationAsked;
  readonly #arrivedAt: number;
  #step: Step = 'finding';
  #event = '';
  #result = false;
  #entry: RouteEntry | null = null;
  #view = '';
  #state: InvocationView['state'] = 'queued';
  #question: OpenQuestion | null = null;
  #admission: Admission | null = null;

  constructor(asked: InvocationAsked) {
    this.#asked = asked;
    this.#arrivedAt = asked.context.clock.now();
    asked.connection.open.add(this);
    asked.connection.last = this;
    asked.outgoing.watchedBy(this);
  }

  get answered(): boolean {
    return !this.#asked.connection.open.has(this);
  }

  /** Nothing of its body is read. */
  breakOff(): void {}

  begin(): void {
    const { context, target, incoming, head } = this.#asked;
    if (context.draining) this.#asked.outgoing.shouldKeepAlive = false;
    const path = PATH.exec(target.slice(INVOCATIONS_PATH.length));
    const event = EventId.safeParse(path?.[1]);
    this.#result = path?.[2] !== undefined;
    if (!isPreflight(incoming.method!, head.forward) && !this.#methods.includes(incoming.method!)) {
      const allow = this.#methods.join(', ');
      this.#refuse({ problem: problem('method-not-allowed', `this takes ${allow}`), allow });
    } else if (!event.success) this.#notFound();
    else if (!context.routes.ready) this.#fail('not-ready', 'the routes are not known yet');
    else {
      this.#event = event.data;
      this.#question = context.events.ask({ type: 'invocation', id: this.#event, action: 'read' }, this);
    }
  }

  get #methods(): readonly string[] {
    return this.#result ? ['GET', 'HEAD'] : ['GET', 'HEAD', 'DELETE'];
  }

  onEventAnswer(answer: EventAnswer): void {
    this.#question = null;
    if (this.#step === 'over') return;
    if (answer.type === 'refused') this.#refuse({ problem: answer.problem, retryAfterSeconds: answer.retryAfterSeconds ?? undefined });
    else if (answer.type === 'invocation' && this.#step === 'finding') this.#found(answer.found);
    else if (answer.type === 'answer' && this.#step === 'asking') this.#pass(answer);
    else this.#fail('internal', `the dispatcher answered ${answer.type}`);
  }

  onEventsUnavailable(detail: string): void {
    this.#question = null;
    this.#fail('events-unavailable', detail);
  }

  /** On a tenant's own host there are that tenant's functions only. */
  #found(found: Extract<EventAnswer, { type: 'invocation' }>['found']): void {
    const { context, head, connection, incoming } = this.#asked;
    const entry = found === null ? undefined : context.routes.find(found.namespace, found.name);
    if (found === null || entry === undefined || !context.routes.hostServes(head.host, found.namespace)) {
      this.#notFound();
      return;
    }
    const { cors } = entry;
    if (incoming.method === 'OPTIONS') {
      if (cors === null) return this.#notFound();
      const flat = cors.preflight(valueOf(head.forward, 'origin')!, valueOf(head.forward, 'access-control-request-headers'));
      this.#over();
      replyPreflight(this.#asker, flat);
      return;
    }
    this.#entry = entry;
    this.#view = found.view;
    this.#step = 'entering';
    if (context.gatekeeper.open(entry)) return this.#admitted();
    this.#admission = new Admission(context.gatekeeper, found.namespace);
    this.#admission.ask(entry, head, connection.remote, (denial) => {
      if (denial === null) this.#admitted();
      else this.#refuse({ ...denial, problem: problem(denial.code, denial.detail) });
    });
  }

  #admitted(): void {
    const { incoming, context } = this.#asked;
    const state = stateOf(this.#view);
    if (state === null) return this.#fail('internal', 'the dispatcher described the invocation in a way that is not known here');
    this.#state = state;
    const cancel = incoming.method === 'DELETE';
    if (!cancel && (!this.#result || !OVER.has(this.#state))) return this.#tell();
    this.#step = 'asking';
    this.#question = context.events.ask({ type: 'invocation', id: this.#event, action: cancel ? 'cancel' : 'result' }, this);
  }

  /** Its state: 200; 202 in place of a result that is not there yet. */
  #tell(): void {
    const flat = ['content-type', 'application/json', 'cache-control', 'no-store'];
    if (!OVER.has(this.#state)) flat.push('retry-after', RETRY_AFTER_SECONDS);
    if (this.#result) flat.push(STATE_HEADER, this.#state);
    this.#reply(this.#result ? 202 : 200, flat, Buffer.from(this.#view));
  }

  #pass(answer: Extract<EventAnswer, { type: 'answer' }>): void {
    const read = readAnswer(answer);
    if (read === null) return this.#fail('internal', `the dispatcher answered with the status ${answer.status}`);
    read.flat.push('cache-control', 'no-store');
    this.#reply(answer.status, read.flat, read.body);
  }

  #reply(status: number, flat: string[], body: Buffer): void {
    this.#addCors(flat);
    this.#over();
    replyWhole(this.#asker, status, flat, body);
  }

  #notFound(): void {
    this.#fail('invocation-not-found', 'there is no invocation with this id, or nothing is kept of it any more');
  }

  #fail(code: ErrorCode, detail: string): void {
    this.#refuse({ problem: problem(code, detail) });
  }

  #refuse(answer: ProblemAnswer): void {
    if (this.#step === 'over') return;
    const { outgoing, id } = this.#asked;
    const headers: string[] = [];
    this.#addCors(headers);
    this.#over();
    sendProblem(outgoing, { ...answer, headers, close: this.#unread || this.#asker.draining }, id);
  }

  #addCors(flat: string[]): void {
    this.#entry?.cors?.apply(flat, valueOf(this.#asked.head.forward, 'origin'));
  }

  get #unread(): boolean {
    const { incoming, head } = this.#asked;
    return !incoming.complete && (head.chunked || head.contentLength > 0);
  }

  get #asker(): Asker {
    const { incoming, outgoing, id, context } = this.#asked;
    const now = context.clock.now();
    const serverTiming = `fn;dur=${Math.round((now - this.#arrivedAt) * 100) / 100}`;
    return { incoming, outgoing, id, body: null, now, serverTiming, draining: context.draining || this.#unread };
  }

  #over(): void {
    this.#step = 'over';
    this.#question?.forget();
    this.#question = null;
    this.#admission?.leave();
  }

  onClose(): void {
    this.#over();
    closeRequest(this.#asked.connection, this);
  }
}

/** Of a view as JSON; null where it is none. */
function stateOf(view: string): InvocationView['state'] | null {
  try {
    return InvocationView.parse(JSON.parse(view)).state;
  } catch {
    return null;
  }
}
