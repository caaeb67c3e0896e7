import { describe, expect, it } from 'vitest';
import { CountsBatch, durationBoundMs, durationClass, DURATION_CLASSES, MAX_COUNTS_PER_BATCH } from '#contract/stats.ts';
import { Desk } from './desk.ts';
import type { EndedCall } from './journal.ts';
import { CallTally } from './tally.ts';
import { endedCall } from './testing.ts';

const NOW = 1_000;
const call = (overrides: Partial<EndedCall> = {}) =>
  endedCall(NOW, { arrivedAt: NOW - 110, askedAt: NOW - 110, sentAt: NOW - 100, headAt: NOW - 90, ...overrides });
const problem = { code: 'queue-timeout', detail: '' };
const cold = (kind: 'pooled' | 'full') => ({ kind, startMs: 0, initMs: 1 });

describe('classes of durations', () => {
  it('each duration is in the class whose end is the first that it does not pass', () => {
    for (const ms of [0, 0.1, 0.5, 0.51, 1, 3, 99.9, 100, 4_321, 100_000, 1e9]) {
      const at = durationClass(ms);
      expect(ms).toBeLessThanOrEqual(durationBoundMs(at));
      if (at > 0) expect(ms).toBeGreaterThan(durationBoundMs(at - 1) * 0.999_999);
    }
    expect(durationClass(1e9)).toBe(DURATION_CLASSES - 1);
  });
});

describe('the tally of requests', () => {
  it('what is at hand of a revision is its own, also when its counts have been told and taken for another', () => {
    const tally = new CallTally();
    const [one, two] = [new Desk(), new Desk()];
    const count = (revision: string, desk: Desk) => tally.ended(call({ revision, desk }), NOW);
    const told = () => {
      const batch = tally.next()!;
      tally.sent();
      tally.acknowledged(batch.seq);
      return batch.counts.map(({ revision, invocations }) => [revision, invocations]);
    };
    count('default/one@1', one);
    count('default/one@1', one);
    expect(told()).toEqual([['default/one@1', 2]]);
    // They are used again, by whoever comes first.
    count('default/two@1', two);
    count('default/one@1', one);
    count('default/two@1', two);
    expect(told()).toEqual([
      ['default/two@1', 2],
      ['default/one@1', 1],
    ]);
  });

  it('tells invocations, errors, what was rejected, cold starts and durations apart', () => {
    const tally = new CallTally();
    tally.ended(call(), NOW);
    tally.ended(call({ status: 503 }), NOW);
    tally.ended(call({ status: 0, aborted: true, start: cold('pooled') }), NOW);
    tally.ended(call({ stream: 'events', start: cold('full') }), NOW + 60_000);
    tally.ended(call({ instance: null, sentAt: null, status: 504, problem, start: cold('full') }), NOW);
    // Nobody's: not found, or not let in.
    tally.ended(call({ revision: null, instance: null, sentAt: null, status: 404 }), NOW);
    const batch = CountsBatch.parse(JSON.parse(JSON.stringify(tally.next())));
    expect(batch).toEqual({
      seq: 1,
      counts: [
        {
          revision: 'default/hello@1',
          invocations: 4,
          errors: 2,
          rejected: 1,
          pooled: 1,
          full: 2,
          durationMs: 310,
          durations: [
            [durationClass(10), 1],
            [durationClass(100), 3],
          ],
        },
      ],
    });
  });

  it('sends a batch again after a new link, the same until it is acknowledged, and what came meanwhile after it', () => {
    const tally = new CallTally();
    expect([tally.waits, tally.next()]).toEqual([false, null]);
    tally.ended(call(), NOW);
    const first = tally.next();
    // It could not be sent.
    expect(tally.next()).toBe(first);
    tally.sent();
    tally.ended(call({ revision: 'default/other@2' }), NOW);
    expect([tally.waits, tally.next()]).toEqual([false, null]);
    tally.linkUp();
    expect([tally.waits, tally.next()]).toEqual([true, first]);
    tally.sent();
    tally.acknowledged(7);
    expect(tally.next()).toBeNull();
    tally.acknowledged(1);
    expect(tally.waits).toBe(true);
    expect(tally.next()).toMatchObject({ seq: 2, counts: [{ revision: 'default/other@2', invocations: 1 }] });
  });

  it('a batch has so many revisions, the next one the rest; beyond the limit of revisions it says how many it did not count', () => {
    const tally = new CallTally();
    for (let n = 1; n <= 20_002; n += 1) tally.ended(call({ revision: `default/hello@${n}` }), NOW);
    expect(tally.uncounted).toBe(2);
    expect(tally.next()?.counts).toHaveLength(MAX_COUNTS_PER_BATCH);
    tally.sent();
    tally.acknowledged(1);
    expect(tally.next()?.counts[0]).toMatchObject({ revision: 'default/hello@1001' });
  });
});
