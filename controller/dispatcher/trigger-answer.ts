/** What the answer to a batch says of each message in it. */
import { BatchAnswer } from '#contract/runtime.ts';
import type { AttemptOutcome } from '../core/events.ts';
import { parseJson } from './cloudevents.ts';
import type { DeliveryResult } from './types.ts';

/** Of an answer so much is read, bytes: a thousand ids of failed messages, and more. */
export const MAX_BATCH_ANSWER_BYTES = 1_048_576;
const NAMES_FAILURES = '"batchItemFailures"';

/** An outcome for each id, in the same order; with the pause that the function asks for. `whole`: they failed together. */
export interface BatchOutcome {
  outcomes: AttemptOutcome[];
  whole: boolean;
}

export function outcomesOf({ response, problem, retryAfterSeconds }: DeliveryResult, ids: readonly string[]): BatchOutcome {
  const all = (itemFailed: boolean): BatchOutcome => ({
    outcomes: ids.map(() => ({ status: response?.status ?? null, problem, retryAfterSeconds, itemFailed })),
    whole: problem !== null || itemFailed || response === null || response.status < 200 || response.status > 299,
  });
  if (response === null || response.status < 200 || response.status > 299) return all(false);
  // Cheap first: nearly no answer says anything of failures.
  if (response.body.length === 0 || !response.body.includes(NAMES_FAILURES)) return all(false);
  const value = parseJson(response.body);
  const answer = BatchAnswer.safeParse(value);
  // It says that some failed and not which: better all again than one lost.
  if (!answer.success) return all(value === undefined ? /^\s*\{/.test(response.body.toString('utf8', 0, 200)) : namesFailures(value));
  // Of one alone any is its own, however it writes the id: a name that is nobody's must not make a failure a success.
  const [only] = answer.data.batchItemFailures;
  if (ids.length === 1 && only !== undefined) {
    const { delaySeconds = retryAfterSeconds } = only;
    return { outcomes: [{ status: response.status, problem: null, retryAfterSeconds: delaySeconds, itemFailed: true }], whole: false };
  }
  const failures = new Map(answer.data.batchItemFailures.map((failure) => [failure.itemIdentifier, failure]));
  const known = new Set(ids);
  if ([...failures.keys()].some((id) => !known.has(id))) return all(true);
  const outcomes = ids.map((id): AttemptOutcome => {
    const failure = failures.get(id);
    return {
      status: response.status,
      problem: null,
      retryAfterSeconds: failure === undefined ? null : (failure.delaySeconds ?? retryAfterSeconds),
      itemFailed: failure !== undefined,
    };
  });
  return { outcomes, whole: false };
}

/** JSON that says something of failures, in another form than it should; null says that there were none. */
const namesFailures = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'batchItemFailures' in value && value.batchItemFailures !== null;
