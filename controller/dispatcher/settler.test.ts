import { describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import type { Settlement } from '../store/events.ts';
import { Settler } from './settler.ts';

const settlement = (id: string): Settlement => ({
  id,
  fence: 1,
  at: 0,
  attempt: { request: null, revision: null },
  outcome: 'succeeded',
  result: null,
  resultInfo: null,
  keptUntil: 0,
});

const settlerOf = (settle: (batch: readonly Settlement[]) => Promise<('settled' | 'fenced')[]>) =>
  new Settler({ store: { settle }, clock: systemClock, log: silentLog });

describe('settling', () => {
  it('is one call for all of a moment', async () => {
    const batches: number[] = [];
    const settler = settlerOf(async (batch) => {
      batches.push(batch.length);
      return batch.map(({ id }) => (id === 'b' ? 'fenced' : 'settled'));
    });
    expect(await Promise.all(['a', 'b', 'c'].map((id) => settler.settle(settlement(id))))).toEqual(['settled', 'fenced', 'settled']);
    expect(batches).toEqual([3]);
  });

  it('goes with a commit that is made anyway', async () => {
    const settler = settlerOf(async (batch) => batch.map(() => 'settled'));
    const said = settler.settle(settlement('a'));
    settler.nudge();
    expect(settler.pending).toBe(1);
    expect(await said).toBe('settled');
  });

  it('waits for a store that is away, blocks what is new meanwhile, and loses nothing', async () => {
    let away = true;
    const seen: string[] = [];
    const settler = settlerOf(async (batch) => {
      if (away) throw new FnError('store-unavailable', 'away');
      seen.push(...batch.map(({ id }) => id));
      return batch.map(() => 'settled');
    });
    const first = settler.settle(settlement('a'), true);
    await expect.poll(() => settler.blocked).toBe(true);
    const second = settler.settle(settlement('b'));
    away = false;
    expect(await Promise.all([first, second])).toEqual(['settled', 'settled']);
    expect([seen, settler.blocked]).toEqual([['a', 'b'], false]);
  });

  it('of one that the store refuses keeps none of the others', async () => {
    const settler = settlerOf(async (batch) => {
      if (batch.some(({ id }) => id === 'bad')) throw new Error('no such column');
      return batch.map(() => 'settled');
    });
    expect(await Promise.all(['a', 'bad', 'c'].map((id) => settler.settle(settlement(id))))).toEqual(['settled', 'unknown', 'settled']);
  });

  it('leaves nobody waiting at the end', async () => {
    const settler = settlerOf(async () => {
      throw new FnError('store-unavailable', 'away');
    });
    const said = settler.settle(settlement('a'), true);
    await expect.poll(() => settler.blocked).toBe(true);
    settler.close();
    expect([await said, await settler.settle(settlement('b'))]).toEqual(['unknown', 'unknown']);
  });
});
