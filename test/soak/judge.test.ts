import { describe, expect, it } from 'vitest';
import {
  type Point,
  flatness,
  harmless,
  longestLife,
  medianOf,
  missingTicks,
  starvedTimes,
  theilSen,
  thinned,
  unexpected,
} from './judge.ts';

const MINUTE = 60_000;
const series = (count: number, value: (minute: number) => number): Point[] =>
  Array.from({ length: count }, (_, minute) => [minute * MINUTE, value(minute)] as const);
/** Noise that is the same each time. */
const noise = (minute: number) => ((minute * 7_919) % 101) / 101 - 0.5;

describe('theilSen', () => {
  it('is the slope of a line', () => {
    expect(theilSen(series(20, (minute) => 5 + 2 * minute)) * MINUTE).toBeCloseTo(2);
  });

  it('takes no notice of a fifth of outliers', () => {
    expect(theilSen(series(50, (minute) => (minute % 5 === 4 ? 1_000 : 3 * minute))) * MINUTE).toBeCloseTo(3);
  });

  it('takes no notice of points of the same time', () => {
    expect(
      theilSen([
        [0, 1],
        [0, 100],
        [MINUTE, 2],
      ]),
    ).not.toBe(Infinity);
  });
});

describe('flatness', () => {
  const bound = { share: 0.1, slack: 4 };

  it('is flat: noise around a level', () => {
    const found = flatness(
      series(60, (minute) => 100 + 8 * noise(minute)),
      bound,
    )!;
    expect(found).toMatchObject({ points: 60, minutes: 59, allowed: expect.closeTo(10, 0), flat: true });
    expect(Math.abs(found.rise)).toBeLessThan(4);
  });

  it('is not: a leak within noise', () => {
    expect(
      flatness(
        series(60, (minute) => 100 + 0.5 * minute + 8 * noise(minute)),
        bound,
      ),
    ).toMatchObject({ flat: false });
  });

  it('is not: a step near the end, which the slope does not see', () => {
    const step = series(60, (minute) => (minute < 46 ? 100 : 130));
    expect(theilSen(step)).toBe(0);
    expect(flatness(step, bound)).toMatchObject({ flat: false, early: 100, late: 130 });
  });

  it('is flat: a plateau after a rise that was cut off as settling, and a fall', () => {
    expect(
      flatness(
        series(60, (minute) => Math.min(100, 90 + minute)),
        bound,
      ),
    ).toMatchObject({ flat: true });
    expect(
      flatness(
        series(60, (minute) => 300 - 4 * minute),
        bound,
      ),
    ).toMatchObject({ flat: true });
  });

  it('allows small numbers their slack, and no more', () => {
    expect(
      flatness(
        series(20, (minute) => (minute < 10 ? 1 : 4)),
        bound,
      ),
    ).toMatchObject({ flat: true, allowed: 4 });
    expect(
      flatness(
        series(20, (minute) => (minute < 10 ? 1 : 8)),
        bound,
      ),
    ).toMatchObject({ flat: false });
  });

  it('says nothing of a few points', () => {
    expect(
      flatness(
        series(7, () => 1),
        bound,
      ),
    ).toBeNull();
  });
});

it('longestLife: the longest time that one process lived', () => {
  const samples = [1, 1, 2, 2, 2, 1, 1].map((pid, at) => ({ pid, at }));
  expect(longestLife(samples).map(({ at }) => at)).toEqual([2, 3, 4]);
  expect(longestLife([])).toEqual([]);
});

it('thinned keeps the last one', () => {
  expect(thinned([1, 2, 3, 4, 5], 2)).toEqual([2, 5]);
  expect(thinned([1, 2], 2)).toEqual([1, 2]);
});

it('medianOf', () => {
  expect([medianOf([3, 1, 2]), medianOf([4, 1, 2, 3])]).toEqual([2, 2.5]);
});

describe('unexpected', () => {
  const allowed = { 'kill gateway': { '*': /^ECONNRESET$/, ws: /^closed$/ }, 'kill controller': { deploy: /./ } };
  const windows = [
    { fault: 'kill gateway', from: 100, to: 200 },
    { fault: 'kill controller', from: 300, to: 400 },
  ];
  const failure = (kind: string, what: string, from: number, to = from) => ({ kind, what, from, to });
  const judged = (...failures: ReturnType<typeof failure>[]) => unexpected(failures, windows, allowed).length;

  it('is what fails outside of all windows', () => {
    expect(judged(failure('warm', 'ECONNRESET', 90), failure('warm', 'ECONNRESET', 201))).toBe(2);
  });

  it('is what the fault may not do, or not to this kind', () => {
    expect(judged(failure('warm', '500 function-error', 150), failure('warm', 'closed', 150), failure('warm', '503', 350))).toBe(3);
  });

  it('is not what the fault may do, nor what began before it and ended in it', () => {
    expect(judged(failure('warm', 'ECONNRESET', 90, 110), failure('ws', 'closed', 150), failure('deploy', 'whatever', 390, 500))).toBe(0);
  });
});

describe('harmless', () => {
  const starved = starvedTimes(
    [
      { at: 100_000, load: 39 },
      { at: 200_000, load: 40 },
    ],
    2,
  );
  const failure = (kind: string, what: string, from: number, to = from) => ({ kind, what, from, to });
  const judged = (...failures: ReturnType<typeof failure>[]) => [...harmless(failures, starved)].length;

  it('is where the patience of the soak was over while the machine starved, and nothing else of that time', () => {
    expect(starved).toEqual([{ from: 140_000, to: 200_000 }]);
    expect(judged(failure('deploy', 'fn deploy did not end within 90000 ms', 100_000, 190_000))).toBe(1);
    expect(judged(failure('deploy', 'fn deploy did not end within 90000 ms', 1_000, 91_000))).toBe(0);
    expect(judged(failure('deploy', 'exit 1: no capacity', 150_000), failure('warm', '503 queue-timeout', 150_000))).toBe(0);
  });

  it('is a rollback that somebody was faster than, and no other', () => {
    expect(judged(failure('rollback', 'exit 1: It has changed meanwhile (precondition-failed)', 5))).toBe(1);
    expect(judged(failure('rollback', 'exit 1: no-capacity', 5), failure('deploy', 'exit 1: (precondition-failed)', 5))).toBe(0);
  });

  it('is the old secret while the command that sets it goes on', () => {
    const slow = failure('secret set', 'fn secret set did not end within 90000 ms', 300_000, 390_000);
    expect(judged(slow, failure('secret', 'the secret is 1, not 2 (before: 1)', 380_000))).toBe(1);
    expect(judged(slow, failure('secret', 'the secret is 1, not 2 (before: 1)', 451_000), failure('secret', '502 x', 380_000))).toBe(0);
  });
});

it('missingTicks: those between the first and the last', () => {
  expect(missingTicks(new Set([0, 5, 15, 20]), 5)).toEqual([10]);
  expect(missingTicks(new Set(), 5)).toEqual([]);
});
