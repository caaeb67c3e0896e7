import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DueTimes } from './due.ts';

describe('due times', () => {
  it('gives what is due, each once, and none that was put off or taken away', () => {
    const due = new DueTimes();
    expect(due.next()).toBeNull();
    due.set('a', 10);
    due.set('b', 5);
    due.set('c', 7);
    due.set('b', 20);
    due.set('c', null);
    expect(due.next()).toBe(10);
    expect(due.take(9)).toEqual([]);
    expect(due.take(30)).toEqual(['a', 'b']);
    expect([due.size, due.next()]).toEqual([0, null]);
    due.set('a', 40);
    expect(due.take(40)).toEqual(['a']);
  });

  it('keeps few entries of what is put off again and again', () => {
    const due = new DueTimes();
    for (let at = 1; at <= 50_000; at += 1) {
      due.set(`k${at % 10}`, 600_000 + at);
      due.set(`x${at % 10}`, at % 3 === 0 ? null : 900_000 - at);
    }
    expect(due.entries).toBeLessThanOrEqual(256);
    expect(due.next()).toBe(600_000 + 49_991);
    expect(due.take(600_000 + 49_995)).toEqual(['k1', 'k2', 'k3', 'k4', 'k5']);
    expect(due.next()).toBe(600_000 + 49_996);
  });

  it('is a map of which the earliest are taken, whatever is done to it', () => {
    const step = fc.oneof(
      fc.record({ set: fc.constantFrom('a', 'b', 'c', 'd', 'e'), at: fc.option(fc.integer({ min: 0, max: 20 })) }),
      fc.record({ take: fc.integer({ min: 0, max: 20 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const due = new DueTimes();
        const model = new Map<string, number>();
        for (const each of steps) {
          if ('set' in each) {
            due.set(each.set, each.at);
            if (each.at === null) model.delete(each.set);
            else model.set(each.set, each.at);
          } else {
            const expected = [...model].filter(([, at]) => at <= each.take).map(([key]) => key);
            expect(due.take(each.take).toSorted()).toEqual(expected.toSorted());
            for (const key of expected) model.delete(key);
          }
          expect([due.size, due.next()]).toEqual([model.size, model.size === 0 ? null : Math.min(...model.values())]);
        }
      }),
    );
  });
});
