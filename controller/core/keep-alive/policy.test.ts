import { describe, expect, it } from 'vitest';
import { adaptive } from './adaptive.ts';
import { BIN_MS, held, historyFrom, historyText, MAX_HELD, newHistory, observe, RECENT, type IdleHistory } from './history.ts';
import { hybrid } from './hybrid.ts';
import { excessKeepMs, fixed, isKept, rarely, unusedMs, type Stay } from './policy.ts';

const MINUTES = BIN_MS;

/** A history of idle times, in minutes. */
function idled(...minutes: number[]): IdleHistory {
  const history = newHistory();
  for (const each of minutes) observe(history, each * MINUTES);
  return history;
}
const times = (count: number, minutes: number): number[] => Array<number>(count).fill(minutes);
const inMinutes = ({ stayMs, prewarm }: Stay) => ({
  stay: stayMs / MINUTES,
  prewarm: prewarm && [prewarm.fromMs / MINUTES, prewarm.untilMs / MINUTES],
});

describe('a history', () => {
  it('holds idle times by the minute, those beyond four hours, and the last ones', () => {
    const history = idled(0.5, 5, 5.9, 239.9, 240, ...times(RECENT, 7));
    expect([history.bins[0], history.bins[5], history.bins[239], history.beyond, history.bins[7]]).toEqual([1, 2, 1, 1, RECENT]);
    expect(history.recent).toEqual(times(RECENT, 7 * MINUTES));
    expect(held(history)).toBe(15);
  });

  it('forgets by halves, and never grows', () => {
    const history = idled(...times(MAX_HELD, 3));
    expect(held(history)).toBe(MAX_HELD / 2);
    for (const each of times(10 * MAX_HELD, 60)) observe(history, each * MINUTES);
    expect(held(history)).toBeLessThanOrEqual(MAX_HELD);
    expect(history.bins[3]).toBeLessThan(5);
  });

  it('is the same after it was written down, and none where what was written is damaged', () => {
    const history = idled(0.5, 5, 5.9, 300, 61);
    expect(historyFrom(historyText(history))).toEqual(history);
    for (const text of ['', '{', '{}', '[[1],0,[],0]', '[[240,1],0,[],1]', '[[1,-1],0,[],1]', '[[1,99999],0,[],1]', '[[],"x",[],0]'])
      expect([text, historyFrom(text)]).toEqual([text, null]);
  });
});

describe('what a stay comes to', () => {
  const stay = { stayMs: 2 * MINUTES, prewarm: { fromMs: 50 * MINUTES, untilMs: 70 * MINUTES } };
  it.each([
    [1, true, 1],
    [2, true, 2],
    [30, false, 2],
    [60, true, 12],
    [90, false, 22],
  ])('%i minutes idle', (idle, kept, unused) => {
    expect(isKept(stay, idle * MINUTES)).toBe(kept);
    expect(unusedMs(stay, idle * MINUTES)).toBe(unused * MINUTES);
  });

  it('beside another instance no longer than five minutes', () => {
    expect(excessKeepMs(fixed(60 * MINUTES)(newHistory()))).toBe(5 * MINUTES);
    expect(excessKeepMs(stay)).toBe(2 * MINUTES);
  });

  it('is worked out anew when the history has changed by a few percent', () => {
    let asked = 0;
    const policy = rarely(() => ({ stayMs: (asked += 1), prewarm: null }));
    const history = newHistory();
    for (const each of times(1_000, 1)) {
      observe(history, each);
      policy(history);
    }
    expect(asked).toBeGreaterThan(30);
    expect(asked).toBeLessThan(120);
  });
});

describe('the hybrid policy, as published', () => {
  const policy = hybrid();
  it.each([
    ['stays for the range where nothing is known', [], { stay: 240, prewarm: null }],
    // Head: 10 min × 0.9; tail: the end of its minute × 1.1.
    ['goes, and comes back for the head', times(20, 10), { stay: 0, prewarm: [9, 12.1] }],
    ['unloads nothing where the head is 0', [...times(5, 0.5), ...times(15, 10)], { stay: 12.1, prewarm: null }],
    // 120 bins of one count, 120 of none: a variation of 1.
    ['stays for the range where the bins are too even', Array.from({ length: 120 }, (_, bin) => 2 * bin), { stay: 240, prewarm: null }],
    ['forecasts what is mostly beyond', [...times(3, 300), 10], { stay: 0, prewarm: [227.5 * 0.85, 227.5 * 1.15] }],
  ])('%s', (_, history, expected) => {
    const { stay, prewarm } = inMinutes(policy(idled(...history)));
    expect(stay).toBeCloseTo(expected.stay, 6);
    if (expected.prewarm === null) expect(prewarm).toBeNull();
    else for (const [index, minute] of expected.prewarm.entries()) expect(prewarm?.[index]).toBeCloseTo(minute, 6);
  });
});

describe('the adaptive policy', () => {
  const policy = adaptive();
  const of = (...minutes: number[]) => inMinutes(policy(idled(...minutes)));

  it('keeps what it knows nothing of while the hazard that is assumed is worth a minute: 0.9 ÷ (t + 3) > 1 ÷ 100', () => {
    expect(of()).toEqual({ stay: 87, prewarm: null });
  });

  it('stays through the minutes that pay, and no longer', () => {
    // Going for less than a minute is not worth a start; whoever has not come after two does not come for hours.
    expect(of(...times(60, 1), ...times(40, 250))).toEqual({ stay: 2, prewarm: null });
  });

  it('goes between uses that are regular and far apart, and is there again before the next', () => {
    const { stay, prewarm } = of(...times(100, 60), ...times(20, 250));
    expect(stay).toBeLessThanOrEqual(1);
    expect(prewarm![0]).toBeLessThan(60);
    expect(prewarm![0]).toBeGreaterThan(45);
    expect(prewarm![1]).toBeGreaterThan(60);
    expect(prewarm![1]).toBeLessThan(70);
  });

  it('does both for bursts that come back', () => {
    const history = Array.from({ length: 50 }, () => [...times(3, 0.5), 120]).flat();
    const { stay, prewarm } = of(...history);
    expect(stay).toBeGreaterThanOrEqual(1);
    expect(stay).toBeLessThan(10);
    expect(prewarm![0]).toBeGreaterThan(90);
    expect(prewarm![1]).toBeGreaterThan(120);
  });

  it('forecasts beyond the histogram only what is regular', () => {
    expect(of(...times(4, 300)).prewarm).toEqual([285, 315]);
    expect(of(250, 700, 300, 1_300).prewarm).toBeNull();
  });

  it('stays longer the more a cold start is worth', () => {
    const stays = [20, 60, 180].map(
      (worthMinutes) =>
        adaptive({ worthMinutes, startMinutes: 1, priorWeight: 1, priorShape: 0.9, priorScale: 3, blur: 0.05 })(idled(1, 9, 30, 80, 150))
          .stayMs,
    );
    expect(stays).toEqual([...stays].sort((a, b) => a - b));
    expect(new Set(stays).size).toBe(3);
  });
});
