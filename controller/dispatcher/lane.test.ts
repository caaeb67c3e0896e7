import { describe, expect, it } from 'vitest';
import { Trigger } from '#contract/trigger.ts';
import { functionEvents } from '../../test/helpers/dispatcher-harness.ts';
import { FunctionTable } from './functions.ts';
import { functionLane, Lane, sendLane, SENDS_AT_A_TIME, triggerLane } from './lane.ts';

const table = new FunctionTable();
const hook = Trigger.parse({ type: 'webhook', name: 'hook', verify: { scheme: 'none' }, concurrency: 2 });
table.set([
  functionEvents('hello', {}, { maxSlots: 40, instanceSlots: 10, triggers: [hook] }),
  functionEvents('one', { concurrency: 1 }, { maxSlots: 40, instanceSlots: 10 }),
]);
const laneOf = (lane: string, name: string) => {
  const made = new Lane({ lane, namespace: 'default', name });
  made.allowed = made.limits(table).least;
  return made;
};

describe('how many of a lane run at a time', () => {
  it.each([
    [functionLane('default', 'hello'), 'hello', { least: 10, most: 40 }],
    [functionLane('default', 'one'), 'one', { least: 1, most: 1 }],
    [sendLane('default', 'hello'), 'hello', { least: SENDS_AT_A_TIME, most: SENDS_AT_A_TIME }],
    [triggerLane('default', 'hello', 'hook'), 'hello', { least: 2, most: 2 }],
    [functionLane('default', 'gone'), 'gone', { least: 1, most: 1 }],
  ])('%s', (lane, name, limits) => {
    expect(laneOf(lane, name).limits(table)).toEqual(limits);
  });

  it('grows with what waits, to what its instances can take, and falls when nothing does', () => {
    const lane = laneOf(functionLane('default', 'hello'), 'hello');
    lane.waiting = 10_000;
    lane.served(1_000, false);
    const seen = [1, 2, 3].map(() => {
      lane.running = lane.allowed;
      expect(lane.open).toBe(false);
      expect(lane.free).toBe(0);
      lane.decide(table, 500);
      return lane.allowed;
    });
    expect(seen).toEqual([20, 40, 40]);
    lane.waiting = 0;
    lane.running = 0;
    lane.decide(table, 500);
    expect(lane.allowed).toBe(10);
  });

  it('halves where the platform could not take it, and comes up again by steps', () => {
    const lane = laneOf(functionLane('default', 'hello'), 'hello');
    lane.waiting = 10_000;
    const seen = [true, true, true, true, false, false, false, false].map((pushedBack) => {
      lane.served(1_000, pushedBack);
      lane.running = lane.allowed;
      expect(lane.free).toBe(0);
      lane.decide(table, 500);
      return lane.allowed;
    });
    expect(seen).toEqual([5, 2, 1, 1, 2, 4, 8, 16]);
  });

  it('is claimed ahead where calls are quick, and only then', () => {
    const lane = laneOf(functionLane('default', 'hello'), 'hello');
    expect(lane.free).toBe(10);
    lane.served(5, false);
    expect(lane.free).toBe(20);
    lane.running = 10;
    expect([lane.open, lane.free]).toEqual([false, 10]);
    lane.reserved = 6;
    expect(lane.free).toBe(0);
    const one = laneOf(functionLane('default', 'one'), 'one');
    one.served(5, false);
    expect(one.free).toBe(1);
  });
});
