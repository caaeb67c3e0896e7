import { describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { type Clock, systemClock } from '#kit/clock.ts';
import { type Log, silentLog } from '#kit/log.ts';
import type { Leadership } from './store/types.ts';
import { openPatiently, takeTurn } from './turn.ts';

const FAST = { baseMs: 1, maxMs: 1 };
const away = () => new FnError('store-unavailable', 'The store failed (refused).');
const never = new AbortController().signal;

describe('a store that is away at the start', () => {
  it('is waited for, and each reason is told once', async () => {
    const told: object[] = [];
    const log: Log = { ...silentLog, warn: (fields) => told.push(fields) };
    const faults = [away(), away(), new FnError('store-unavailable', 'It is loading.'), away()];
    const open = async () => {
      const fault = faults.shift();
      if (fault) throw fault;
      return 'open';
    };
    expect(await openPatiently(open, log, never, FAST)).toBe('open');
    expect(told).toEqual([away(), { message: 'It is loading.' }, away()].map(({ message }) => ({ error: message })));
  });

  it('is not waited for where that changes nothing, nor once it is enough', async () => {
    await expect(openPatiently(() => Promise.reject(new TypeError('a bug')), silentLog, never, FAST)).rejects.toThrow('a bug');
    const enough = new AbortController();
    const waiting = openPatiently(() => Promise.reject(away()), silentLog, enough.signal, { baseMs: 60_000, maxMs: 60_000 });
    enough.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
  });
});

/** A lease that never ends by itself. */
class Holder implements Leadership {
  held: string | null = null;
  away = false;

  async campaign(candidate: string): Promise<boolean> {
    if (this.away) throw new Error('away');
    this.held ??= candidate;
    return this.held === candidate;
  }

  async resign(candidate: string): Promise<void> {
    if (this.held === candidate) this.held = null;
  }

  async leader(): Promise<string | null> {
    return this.held;
  }
}

describe('a turn to lead', () => {
  const turn = (leadership: Leadership, candidate: string, raiseTerm: () => Promise<number>, clock: Clock = systemClock) =>
    takeTurn(
      {
        leadership,
        holdOver: null,
        candidate,
        isDead: () => false,
        store: { raiseTerm },
        clock,
        log: silentLog,
        onLost: () => {},
        campaignMs: 1,
        raiseAgainMs: 5,
      },
      never,
    );

  it('begins when the term is raised', async () => {
    const holder = new Holder();
    holder.held = 'before';
    let term = 0;
    const taking = turn(holder, 'a', async () => ++term);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(term).toBe(0);
    holder.held = null;
    const { lease, term: under, former } = await taking;
    expect([term, under, lease.held, former, holder.held]).toEqual([1, 1, true, 'before', 'a']);
    lease.end();
  });

  it.each([away(), new FnError('not-leader', 'The lease is over.')])(
    'is given to another where the term cannot be raised (%s), and waited for again',
    async (fault) => {
      const holder = new Holder();
      const seen: (string | null)[] = [];
      let left = 3;
      const { lease } = await turn(holder, 'a', async () => {
        seen.push(holder.held);
        if (left-- > 0) throw fault;
        return 1;
      });
      expect(seen).toEqual(['a', 'a', 'a', 'a']);
      lease.end();
      await lease.resign();
      // While it waits, another that reaches the store gets it.
      left = 1;
      const taking = turn(holder, 'b', async () => {
        if (left-- > 0) throw fault;
        return 2;
      });
      const other = await turn(holder, 'c', async () => 3);
      expect(holder.held).toBe('c');
      await other.lease.resign();
      (await taking).lease.end();
      expect(holder.held).toBe('b');
    },
  );

  it('that fails by a bug is given up, and it is thrown', async () => {
    const holder = new Holder();
    await expect(turn(holder, 'a', () => Promise.reject(new TypeError('a bug')))).rejects.toThrow('a bug');
    expect(holder.held).toBeNull();
  });
});
