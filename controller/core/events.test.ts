import { describe, expect, it } from 'vitest';
import { type Attempted, type AttemptOutcome, retryDelayMs, verdictBefore, verdictOf } from './events.ts';

const policy = { maxAttempts: 3, retryBaseMs: 1_000, retryMaxMs: 300_000 };
const answered = (status: number, more: Partial<AttemptOutcome> = {}): AttemptOutcome => ({
  status,
  problem: null,
  retryAfterSeconds: null,
  itemFailed: false,
  ...more,
});
const failed = (code: string, retryAfterSeconds: number | null = null): AttemptOutcome => ({
  status: null,
  problem: { code, detail: `it was ${code}` },
  retryAfterSeconds,
  itemFailed: false,
});
const after = (outcome: AttemptOutcome, more: Partial<Attempted> = {}) =>
  verdictOf({ outcome, attempts: 0, expiresAt: 100_000, policy, known: true, at: 0, chance: 0.5, ...more });

describe('the verdict on an attempt', () => {
  it.each([200, 202, 204, 299])('%i is success', (status) => {
    expect(after(answered(status))).toEqual({ verdict: 'succeeded' });
  });

  it.each([199, 301, 304, 400, 404, 429, 500, 503])('%i of the function is a failure that counts', (status) => {
    expect(after(answered(status))).toEqual({
      verdict: 'retry',
      dueAt: 500,
      counted: true,
      error: { code: 'function-error', detail: `The function answered ${status}.`, status },
    });
  });

  it('200 that names the event as failed is a failure', () => {
    expect(after(answered(200, { itemFailed: true }))).toMatchObject({
      verdict: 'retry',
      counted: true,
      error: { status: 200, detail: expect.stringMatching(/retry\(\).*throwing.*batchItemFailures/) },
    });
  });

  it.each(['function-crashed', 'function-oom', 'function-timeout', 'function-init-failed', 'body-too-large', 'revision-not-found'])(
    '%s counts',
    (code) => {
      expect(after(failed(code))).toMatchObject({ verdict: 'retry', counted: true, error: { code } });
    },
  );

  it.each([
    'no-capacity',
    'queue-timeout',
    'queue-full',
    'start-failed',
    'not-ready',
    'instance-lost',
    'shutting-down',
    'internal',
    'too-many-requests',
    'rate-limited',
    'a-code-of-a-later-release',
  ])('%s does not count, however often it was tried', (code) => {
    expect(after(failed(code), { attempts: 2 })).toMatchObject({ verdict: 'retry', counted: false, error: { code } });
  });

  it('the last attempt that fails is the end', () => {
    expect(after(answered(500), { attempts: 1 })).toMatchObject({ verdict: 'retry' });
    expect(after(answered(500), { attempts: 2 })).toMatchObject({ verdict: 'dead', reason: 'attempts', counted: true });
    expect(after(answered(500), { policy: { ...policy, maxAttempts: 1 } })).toMatchObject({ verdict: 'dead', reason: 'attempts' });
  });

  it('an attempt that would come after its age is the end', () => {
    expect(after(answered(500), { expiresAt: 500 })).toMatchObject({ verdict: 'dead', reason: 'age', counted: true });
    expect(after(failed('no-capacity'), { expiresAt: 500 })).toMatchObject({ verdict: 'dead', reason: 'age', counted: false });
  });

  it('what the platform refused is tried once more before its age is over, however long a pause was asked for', () => {
    expect(after(failed('no-capacity', 3_600), { expiresAt: 60_000 })).toMatchObject({ verdict: 'retry', dueAt: 30_000 });
  });

  it('a pause that is asked for is kept, and what waits for it comes back spread', () => {
    expect(after(failed('no-capacity', 4), { chance: 0 })).toMatchObject({ dueAt: 4_000 });
    expect(after(failed('no-capacity', 4), { chance: 1 })).toMatchObject({ dueAt: 8_000 });
    // However quick the function's own retries are: these do not count, and nothing else would slow them down.
    const quick = { maxAttempts: 3, retryBaseMs: 10, retryMaxMs: 10 };
    expect(after(failed('no-capacity'), { chance: 1, policy: quick })).toMatchObject({ dueAt: 250 });
    expect(after(answered(503, { retryAfterSeconds: 20 }))).toMatchObject({ dueAt: 20_000, counted: true });
  });

  it('a function that is gone takes its events with it; one that a gateway does not know yet is tried again', () => {
    expect(after(failed('function-not-found'), { known: false })).toEqual({ verdict: 'forget' });
    expect(after(failed('function-not-found'))).toMatchObject({ verdict: 'retry', counted: false });
  });
});

describe('full jitter', () => {
  it('doubles, and has an end', () => {
    expect([1, 2, 3, 20, 10_000].map((attempt) => retryDelayMs(attempt, policy, 1))).toEqual([1_000, 2_000, 4_000, 300_000, 300_000]);
  });
  it('begins at nothing', () => {
    expect(retryDelayMs(3, policy, 0)).toBe(0);
  });
});

describe('the verdict before an attempt', () => {
  const event = { deliveries: 1, attempts: 0, expiresAt: 1_000, lastError: null, at: 0 };

  it('is to deliver it', () => {
    expect(verdictBefore(event)).toBeNull();
    expect(verdictBefore({ ...event, deliveries: 40, attempts: 39 })).toBeNull();
  });
  it('its time is over: as it failed last, or because nobody had time for it', () => {
    expect(verdictBefore({ ...event, at: 1_000 })).toMatchObject({ reason: 'age', error: { code: 'queue-timeout' } });
    const lastError = { code: 'function-error', detail: 'no', status: 500 };
    expect(verdictBefore({ ...event, at: 2_000, lastError })).toMatchObject({ reason: 'age', error: lastError });
  });
  it('what ten dispatchers were lost with is not tried again', () => {
    expect(verdictBefore({ ...event, deliveries: 10 })).toBeNull();
    expect(verdictBefore({ ...event, deliveries: 11 })).toMatchObject({ verdict: 'dead', reason: 'lost-workers' });
  });
});
