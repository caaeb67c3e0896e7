/** What becomes of an event after an attempt. Pure: time and chance are arguments. */
import { ERRORS, type ErrorCode } from '#contract/errors.ts';
import type { DeadLetterView, EventError } from '#contract/events.ts';

/** So many workers may be lost with an event before it is taken for what kills them. */
export const MAX_LOST_WORKERS = 10;
/** What the platform could not deliver is tried again after at most so long, ms, where nobody says for how long: capacity comes back soon. */
export const PLATFORM_RETRY_MAX_MS = 10_000;
/** And after a pause of up to so long at least, ms, however quick the function's own retries are: it does not count, so nothing else would slow it down. */
const PLATFORM_RETRY_MIN_MS = 250;
/** An event whose age is over within so long gets no further attempt for the platform's sake, ms. */
const LAST_TRY_MS = 1_000;
/** Longest `detail` that is kept of an attempt, characters. */
export const MAX_ERROR_DETAIL = 1_000;
/** A pause that somebody else asks for (Retry-After) is at most so long, ms. */
const MAX_ASKED_PAUSE_MS = 3_600_000;

export interface RetryPolicy {
  maxAttempts: number;
  retryBaseMs: number;
  retryMaxMs: number;
}

/** What an attempt came to. */
export interface AttemptOutcome {
  /** Of the function's own answer; null: there was none, and `problem` says why. */
  status: number | null;
  problem: { code: string; detail: string } | null;
  retryAfterSeconds: number | null;
  /** It answered with 2xx, and said of this very event that it failed. */
  itemFailed: boolean;
}

export interface Attempted {
  outcome: AttemptOutcome;
  /** Those before it that failed and counted. */
  attempts: number;
  expiresAt: number;
  policy: RetryPolicy;
  /** The function is known to the platform: it is not deleted. */
  known: boolean;
  at: number;
  /** 0 to 1. */
  chance: number;
}

export type Verdict =
  | { verdict: 'succeeded' }
  | { verdict: 'retry'; dueAt: number; counted: boolean; error: EventError }
  | { verdict: 'dead'; reason: DeadLetterView['reason']; counted: boolean; error: EventError }
  /** The function is gone, and so is all that waited for it. */
  | { verdict: 'forget' };

const isCode = (code: string): code is ErrorCode => Object.hasOwn(ERRORS, code);

/** The platform could not deliver it: nothing that the function did. Busy slots are no fault of the event, either. */
export function isPlatformsFault(code: string): boolean {
  return !isCode(code) || ERRORS[code].fault === 'platform' || code === 'too-many-requests' || code === 'rate-limited';
}

/** Full jitter: evenly from 0 to base × 2^(attempt − 1), and to the longest pause at most. `attempt` is 1 after the first failure. */
export function retryDelayMs(attempt: number, { retryBaseMs, retryMaxMs }: RetryPolicy, chance: number): number {
  return Math.round(Math.min(retryMaxMs, retryBaseMs * 2 ** Math.min(40, Math.max(0, attempt - 1))) * chance);
}

export function verdictOf(attempted: Attempted): Verdict {
  const { outcome, known } = attempted;
  const { status, problem, itemFailed } = outcome;
  if (status !== null && status >= 200 && status <= 299 && !itemFailed) return { verdict: 'succeeded' };
  if (problem !== null && problem.code === 'function-not-found' && !known) return { verdict: 'forget' };
  const error = errorOf(outcome);
  // A function that was deployed a moment ago may not be known to every gateway yet.
  const platforms = problem !== null && (isPlatformsFault(problem.code) || problem.code === 'function-not-found');
  return platforms ? afterPlatformsFailure(attempted, error) : afterFailure(attempted, error);
}

function afterFailure({ outcome, attempts, expiresAt, policy, at, chance }: Attempted, error: EventError): Verdict {
  if (attempts + 1 >= policy.maxAttempts) return { verdict: 'dead', reason: 'attempts', counted: true, error };
  const dueAt = at + Math.max(askedPauseMs(outcome), retryDelayMs(attempts + 1, policy, chance));
  if (dueAt >= expiresAt) return { verdict: 'dead', reason: 'age', counted: true, error };
  return { verdict: 'retry', dueAt, counted: true, error };
}

/** Tried until its age is over, and once more shortly before that, however long a pause was asked for. */
function afterPlatformsFailure({ outcome, expiresAt, policy, at, chance }: Attempted, error: EventError): Verdict {
  const left = expiresAt - at;
  if (left < LAST_TRY_MS) return { verdict: 'dead', reason: 'age', counted: false, error };
  const asked = askedPauseMs(outcome);
  // What was refused together is to come back spread.
  const pause = asked + chance * Math.min(PLATFORM_RETRY_MAX_MS, Math.max(PLATFORM_RETRY_MIN_MS, policy.retryBaseMs, asked));
  return { verdict: 'retry', dueAt: Math.round(at + Math.min(pause, left / 2)), counted: false, error };
}

const askedPauseMs = ({ retryAfterSeconds }: AttemptOutcome): number =>
  Math.min(MAX_ASKED_PAUSE_MS, Math.max(0, (retryAfterSeconds ?? 0) * 1_000));

function errorOf({ status, problem, itemFailed }: AttemptOutcome): EventError {
  if (problem !== null) return { code: problem.code, detail: problem.detail.slice(0, MAX_ERROR_DETAIL), status };
  if (itemFailed)
    return {
      code: 'function-error',
      detail: 'The function said that it failed: by retry(), by throwing for it alone, or among batchItemFailures.',
      status,
    };
  return { code: 'function-error', detail: `The function answered ${status}.`, status };
}

/** What is to be said of an event before it is delivered at all; null: it is to be delivered. */
export function verdictBefore(event: {
  deliveries: number;
  attempts: number;
  expiresAt: number;
  lastError: EventError | null;
  at: number;
}): Extract<Verdict, { verdict: 'dead' }> | null {
  const { deliveries, attempts, expiresAt, lastError, at } = event;
  const lost = deliveries - 1 - attempts;
  if (lost >= MAX_LOST_WORKERS) {
    const detail = `${lost} dispatchers ended while they worked on it.`;
    return { verdict: 'dead', reason: 'lost-workers', counted: false, error: { code: 'internal', detail, status: null } };
  }
  if (at < expiresAt) return null;
  const error = lastError ?? { code: 'queue-timeout', detail: 'Its time was over before its turn came.', status: null };
  return { verdict: 'dead', reason: 'age', counted: false, error };
}
