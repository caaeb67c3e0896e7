/** Answers what gateways ask: accepting invocations, webhooks, what became of an invocation. */
import { FnError, problem, PROBLEM_TYPE, type Problem } from '#contract/errors.ts';
import type { GatewayEventMessage } from '#contract/events-link.ts';
import { encodeBody } from '#kit/event-body.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { accept } from './accept.ts';
import type { FunctionTable } from './functions.ts';
import type { Reply } from './gateways.ts';
import type { Intake } from './intake.ts';
import type { Questions } from './questions.ts';
import type { Triggers } from './types.ts';

type Of<Type extends GatewayEventMessage['type']> = Extract<GatewayEventMessage, { type: Type }>;

/** The result of a function that answered without a type of content is bytes to whoever reads it. */
const NO_TYPE = 'application/octet-stream';
/** When the store may be there again, seconds. */
const STORE_RETRY_SECONDS = 1;

export interface FrontOptions {
  functions: FunctionTable;
  intake: Intake;
  questions: Questions;
  triggers: Pick<Triggers, 'webhook'>;
  clock: Clock;
  log: Log;
}

export interface Refusal {
  problem: Problem;
  retryAfterSeconds: number | null;
}

/** As clients see it. What is nobody's mistake but ours is logged. */
export function refusalOf(error: unknown, log: Log): Refusal {
  if (!(error instanceof FnError)) {
    log.error({ error: error instanceof Error ? error.stack : String(error) }, 'a question about events failed');
    return { problem: problem('internal', 'The dispatcher failed; its log says why.'), retryAfterSeconds: null };
  }
  if (error.code === 'store-unavailable') {
    // That it is away has been said; each of a thousand requests a second need not say it again.
    log.debug({ error: error.message }, 'the store of events cannot be used');
    const detail = 'The store of events cannot be used now.';
    return { problem: problem('events-unavailable', detail), retryAfterSeconds: STORE_RETRY_SECONDS };
  }
  return { problem: error.toProblem(), retryAfterSeconds: error.options.retryAfterSeconds ?? null };
}

/** The store failed while it was written, so that it may be there: whoever repeats it without a key might have it twice. */
function acceptRefusal(error: unknown, log: Log): Refusal {
  const refusal = refusalOf(error, log);
  if (!(error instanceof FnError) || error.code !== 'store-unavailable') return refusal;
  const detail = 'The store of events did not confirm it; it may have accepted it: send it again with the same Idempotency-Key.';
  return { ...refusal, problem: problem('events-unavailable', detail) };
}

export class Front {
  readonly #options: FrontOptions;

  constructor(options: FrontOptions) {
    this.#options = options;
  }

  /** Does not throw. */
  asked(message: Of<'accept' | 'webhook' | 'invocation'>, reply: Reply): void {
    void this.#answered(message, reply);
  }

  async #answered(message: Of<'accept' | 'webhook' | 'invocation'>, reply: Reply): Promise<void> {
    const { seq } = message;
    try {
      if (message.type === 'accept') await this.#accept(message, reply);
      else if (message.type === 'webhook') await this.#webhook(message, reply);
      else if (message.action === 'read') await this.#read(message, reply);
      else await this.#invocation(message, reply);
    } catch (error) {
      const refusal = message.type === 'accept' ? acceptRefusal(error, this.#options.log) : refusalOf(error, this.#options.log);
      if (message.type === 'webhook') reply(problemAnswer(seq, refusal));
      else reply({ type: 'refused', seq, ...refusal });
    }
  }

  async #accept(message: Of<'accept'>, reply: Reply): Promise<void> {
    const { functions, intake, clock } = this.#options;
    reply({ type: 'accepted', seq: message.seq, ...(await accept(message, { functions, intake, at: clock.wall() })) });
  }

  async #webhook(message: Of<'webhook'>, reply: Reply): Promise<void> {
    const { status, headers, body } = await this.#options.triggers.webhook(message);
    reply({ type: 'answer', seq: message.seq, status, headers, body: encodeBody(body) });
  }

  async #read({ seq, id }: Of<'invocation'>, reply: Reply): Promise<void> {
    const stored = await this.#options.questions.find(id);
    if (stored === null) {
      reply({ type: 'invocation', seq, found: null });
      return;
    }
    const { namespace, name } = stored.event;
    const view = JSON.stringify(await this.#options.questions.getInvocation(namespace, name, id));
    reply({ type: 'invocation', seq, found: { namespace, name, view } });
  }

  async #invocation({ seq, id, action }: Of<'invocation'>, reply: Reply): Promise<void> {
    const { questions, log } = this.#options;
    try {
      const stored = await questions.find(id);
      if (stored === null) throw new FnError('invocation-not-found', `There is no invocation ${id}, or it is kept no longer.`);
      if (action === 'cancel') {
        const view = JSON.stringify(await questions.cancel(stored));
        reply({ type: 'answer', seq, status: 200, headers: ['content-type', 'application/json'], body: { text: view } });
        return;
      }
      const { status, headers, body } = await questions.result(stored);
      const typed = body.length === 0 || headers.includes('content-type') ? headers : [...headers, 'content-type', NO_TYPE];
      reply({ type: 'answer', seq, status, headers: typed, body: encodeBody(body) });
    } catch (error) {
      reply(problemAnswer(seq, refusalOf(error, log)));
    }
  }
}

function problemAnswer(seq: number, refusal: Refusal): Parameters<Reply>[0] {
  const { status } = refusal.problem;
  const headers = ['content-type', PROBLEM_TYPE];
  if (refusal.retryAfterSeconds !== null) headers.push('retry-after', String(Math.ceil(refusal.retryAfterSeconds)));
  return { type: 'answer', seq, status, headers, body: { text: JSON.stringify(refusal.problem) } };
}
