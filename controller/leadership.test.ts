import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { waitFor } from '../test/helpers/wait.ts';
import { Lease } from './leadership.ts';
import type { Leadership } from './store/types.ts';

const TTL_MS = 6_000;
const RENEW_MS = 2_000;

/** A store's lease in virtual time. */
class FakeStore implements Leadership {
  readonly #clock: VirtualClock;
  held: { candidate: string; until: number } | null = null;
  /** It does not answer: every call is rejected, or left hanging. */
  away: 'no' | 'rejects' | 'hangs' = 'no';
  renewals = 0;
  /** What the next answer takes, ms. */
  slow: number[] = [];

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  async campaign(candidate: string, ttlMs: number): Promise<boolean> {
    if (this.away === 'rejects') throw new Error('away');
    if (this.away === 'hangs') await new Promise(() => {});
    const now = this.#clock.now();
    if (this.held !== null && this.held.until > now && this.held.candidate !== candidate) return false;
    this.held = { candidate, until: now + ttlMs };
    this.renewals++;
    this.#clock.advance(this.slow.shift() ?? 0);
    return true;
  }

  async resign(candidate: string): Promise<void> {
    if (this.away !== 'no') throw new Error('away');
    if (this.held?.candidate === candidate) this.held = null;
  }

  async leader(): Promise<string | null> {
    return this.held !== null && this.held.until > this.#clock.now() ? this.held.candidate : null;
  }
}

function setting() {
  const clock = new VirtualClock();
  const store = new FakeStore(clock);
  const lost: string[] = [];
  const lease = (candidate: string) =>
    new Lease({ leadership: store, candidate, clock, log: silentLog, ttlMs: TTL_MS, renewMs: RENEW_MS, campaignMs: 1 });
  /** In steps, so that what a timer begins goes on before the next one. */
  const advance = async (ms: number, step = 100) => {
    for (let passed = 0; passed < ms; passed += step) {
      clock.advance(Math.min(step, ms - passed));
      await turn();
    }
  };
  return { clock, store, lost, lease, advance };
}

describe('a lease', () => {
  it('is renewed for as long as the store answers', async () => {
    const { store, lost, lease, advance } = setting();
    const one = lease('a');
    await one.win();
    one.hold((why) => lost.push(why));
    await advance(60_000);
    expect([lost, one.held, store.renewals]).toEqual([[], true, 31]);
    one.end();
  });

  it('that is told of when it is nearly over is renewed before anything is begun with it', async () => {
    const { store, lost, lease, advance } = setting();
    store.slow = [TTL_MS + 1, TTL_MS - 100, 10];
    const one = lease('a');
    let won = false;
    const winning = one.win().then(() => (won = true));
    await advance(10, 1);
    await winning;
    expect([won, one.held, store.renewals]).toEqual([true, true, 3]);
    one.hold((why) => lost.push(why));
    await advance(20_000);
    expect(lost).toEqual([]);
    one.end();
  });

  it('is waited for, and won when who had it does not renew it', async () => {
    const { store, lease, advance } = setting();
    await lease('a').win();
    const two = lease('b');
    let won = false;
    const winning = two.win().then(() => (won = true));
    await advance(TTL_MS - 100);
    expect([won, two.held]).toEqual([false, false]);
    await advance(200);
    await winning;
    expect([store.held?.candidate, two.held]).toEqual(['b', true]);
  });

  it('of a process that is certainly dead is taken at once', async () => {
    const { clock, store, lease } = setting();
    await lease('a').win();
    const two = new Lease({
      leadership: store,
      candidate: 'b',
      clock,
      log: silentLog,
      isDead: (candidate) => candidate === 'a',
      campaignMs: 1,
    });
    expect(await two.win()).toBe('a');
    expect(store.held?.candidate).toBe('b');
  });

  it('is given up at once by resign(); what waits for it wins without its time passing', async () => {
    const { lease } = setting();
    const one = lease('a');
    await one.win();
    const winning = lease('b').win();
    await one.resign();
    await winning;
    expect(one.held).toBe(false);
  });

  it.each(['rejects', 'hangs'] as const)(
    'of a store that %s is lost when its time is over by our own clock, and not before',
    async (away) => {
      const { store, lost, lease, advance } = setting();
      const one = lease('a');
      await one.win();
      one.hold((why) => lost.push(why));
      store.away = away;
      await advance(TTL_MS - 100);
      expect([lost, one.held]).toEqual([[], true]);
      await advance(100);
      expect([lost, one.held]).toEqual([['the lease was not renewed within 6000 ms'], false]);
      await advance(60_000);
      expect(lost).toHaveLength(1);
    },
  );

  it('survives a store that is away for less than its time', async () => {
    const { store, lost, lease, advance } = setting();
    const one = lease('a');
    await one.win();
    one.hold((why) => lost.push(why));
    store.away = 'rejects';
    await advance(5_000);
    store.away = 'no';
    await advance(20_000);
    expect([lost, one.held]).toEqual([[], true]);
    one.end();
  });

  it('of a process that was frozen past it is lost before anything else is done', async () => {
    const { clock, lost, lease } = setting();
    const one = lease('a');
    await one.win();
    one.hold((why) => lost.push(why));
    clock.advance(60_000);
    expect([lost, one.held]).toEqual([['the lease was not renewed within 6000 ms'], false]);
  });

  it('that another has taken is lost at the next renewal', async () => {
    const { clock, store, lost, lease, advance } = setting();
    const one = lease('a');
    await one.win();
    one.hold((why) => lost.push(why));
    store.held = { candidate: 'b', until: clock.now() + TTL_MS };
    await advance(RENEW_MS);
    expect(lost).toEqual(['the lease is held by another controller']);
  });

  it('a jump of the wall clock changes nothing', async () => {
    const { clock, lost, lease, advance } = setting();
    const one = lease('a');
    await one.win();
    one.hold((why) => lost.push(why));
    clock.jumpWall(3_600_000);
    await advance(10_000);
    clock.jumpWall(-7_200_000);
    await advance(10_000);
    expect([lost, one.held]).toEqual([[], true]);
    one.end();
  });

  it('waiting for one ends with its signal', async () => {
    const { lease } = setting();
    await lease('a').win();
    const waiting = new AbortController();
    const winning = lease('b').win(waiting.signal);
    waiting.abort(new Error('enough'));
    await expect(winning).rejects.toThrow('enough');
  });

  it('who waits for a store that is away says so once in a while, whatever it says of itself', async () => {
    const { clock, store, advance } = setting();
    let told = 0;
    const two = new Lease({ leadership: store, candidate: 'b', clock, log: { ...silentLog, warn: () => told++ }, campaignMs: 1 });
    let asked = 0;
    const campaign = store.campaign.bind(store);
    store.campaign = async (...candidate) => {
      if (asked < 50) throw new Error(`away, ${asked++}`);
      return campaign(...candidate);
    };
    const winning = two.win();
    await waitFor('some tries', () => asked > 25, { everyMs: 1 });
    expect(told).toBe(1);
    await advance(60_000);
    await winning;
    expect(told).toBe(2);
  });

  it('giving it up where the store is away is no failure', async () => {
    const { store, lease } = setting();
    const one = lease('a');
    await one.win();
    store.away = 'rejects';
    await one.resign();
    expect(one.held).toBe(false);
  });
});

/** Who decides about the lease is one thing, and the store with the term another: each may be away. */
class FakeTerm {
  number = 0;
  away: 'no' | 'rejects' | 'hangs' = 'no';

  raise(): () => Promise<boolean> {
    const mine = ++this.number;
    return async () => {
      if (this.away === 'rejects') throw new Error('the store is away');
      if (this.away === 'hangs') await new Promise(() => {});
      return this.number === mine;
    };
  }
}

describe('a lease that is kept by something else than the store', () => {
  const setHeld = async () => {
    const { clock, store, lost, advance } = setting();
    const term = new FakeTerm();
    const leader = async (candidate: string) => {
      let holdsTerm = async () => false;
      const holdOver = { isAway: (error: unknown) => error instanceof Error && error.message === 'away', holdsTerm: () => holdsTerm() };
      const lease = new Lease({
        leadership: store,
        candidate,
        clock,
        log: silentLog,
        ttlMs: TTL_MS,
        renewMs: RENEW_MS,
        campaignMs: 1,
        holdOver,
      });
      await lease.win();
      lease.hold((why) => lost.push(`${candidate}: ${why}`));
      holdsTerm = term.raise();
      return lease;
    };
    return { clock, store, lost, advance, term, leader, one: await leader('a') };
  };

  it.each(['rejects', 'hangs'] as const)('is led on without, while that %s, as long as the term is the newest', async (away) => {
    const { store, lost, advance, one } = await setHeld();
    store.away = away;
    await advance(600_000);
    expect([lost, one.held]).toEqual([[], true]);
    one.end();
  });

  it('is renewed when that is back, and another that waited does not get it', async () => {
    const { store, lost, advance, one } = await setHeld();
    store.away = 'rejects';
    await advance(60_000);
    store.away = 'no';
    await advance(RENEW_MS);
    expect([lost, store.held?.candidate, one.held]).toEqual([[], 'a', true]);
    one.end();
  });

  it('is lost at once when another got it when that came back, though the term is still ours', async () => {
    const { clock, store, lost, advance, one } = await setHeld();
    store.away = 'rejects';
    await advance(60_000);
    store.held = { candidate: 'b', until: clock.now() + TTL_MS };
    store.away = 'no';
    await advance(100);
    expect([lost, one.held]).toEqual([['a: the lease is held by another controller'], false]);
  });

  it('is lost by who alone cannot reach it, as soon as the other that got it has raised the term', async () => {
    const { clock, store, lost, advance, term, one } = await setHeld();
    store.away = 'rejects';
    await advance(TTL_MS * 2);
    // For all others it is there.
    store.held = { candidate: 'b', until: clock.now() + TTL_MS };
    await advance(TTL_MS);
    expect([lost, one.held]).toEqual([[], true]);
    term.raise();
    await advance(100);
    expect([lost, one.held]).toEqual([['a: another controller has raised the term'], false]);
  });

  it.each(['rejects', 'hangs'] as const)('is lost when its time is over where the store %s as well', async (away) => {
    const { store, lost, advance, term, one } = await setHeld();
    store.away = 'rejects';
    await advance(60_000);
    term.away = away;
    await advance(TTL_MS - 200);
    expect([lost, one.held]).toEqual([[], true]);
    await advance(300);
    expect([lost, one.held]).toEqual([[`a: the lease was not renewed within ${TTL_MS} ms`], false]);
  });

  it('survives a store that is away for less than that, and one that is away while the lease can be renewed', async () => {
    const { store, lost, advance, term, one } = await setHeld();
    store.away = 'rejects';
    term.away = 'rejects';
    await advance(TTL_MS - 1_000);
    term.away = 'no';
    await advance(60_000);
    store.away = 'no';
    term.away = 'rejects';
    await advance(60_000);
    expect([lost, one.held]).toEqual([[], true]);
    one.end();
  });

  it('is not led on without where what went wrong is no sign that it is away', async () => {
    const { store, lost, advance, one } = await setHeld();
    store.campaign = async () => {
      throw new Error('forbidden');
    };
    await advance(TTL_MS);
    expect([lost, one.held]).toEqual([[`a: the lease was not renewed within ${TTL_MS} ms`], false]);
  });

  it('of a process that was frozen past it is lost before anything else is done, whatever the term', async () => {
    const { clock, store, lost, advance, one } = await setHeld();
    store.away = 'rejects';
    await advance(60_000);
    clock.advance(60_000);
    expect([lost, one.held]).toEqual([[`a: the lease was not renewed within ${TTL_MS} ms`], false]);
    await advance(10_000);
    expect(one.held).toBe(false);
  });

  it('cannot be won while that is away; when it is back, who gets it raises the term', async () => {
    const { store, lost, advance, leader, one } = await setHeld();
    store.away = 'rejects';
    let won = false;
    const winning = leader('b').then((lease) => {
      won = true;
      return lease;
    });
    await advance(60_000);
    expect(won).toBe(false);
    one.end();
    store.away = 'no';
    const two = await winning;
    expect([store.held?.candidate, two.held, lost]).toEqual(['b', true, []]);
    two.end();
  });

  it('a late answer to a renewal counts, also where it is that another has it', async () => {
    const { store, lost, advance, one } = await setHeld();
    const answer = Promise.withResolvers<boolean>();
    store.campaign = () => answer.promise;
    await advance(20_000);
    expect([lost, one.held]).toEqual([[], true]);
    answer.resolve(false);
    await advance(100);
    expect(lost).toEqual(['a: the lease is held by another controller']);
  });

  it('is not taken again by a renewal that was under way when it was given up', async () => {
    const { store, advance, one } = await setHeld();
    const answer = Promise.withResolvers<void>();
    const campaign = store.campaign.bind(store);
    store.campaign = async (...asked) => {
      await answer.promise;
      return campaign(...asked);
    };
    await advance(RENEW_MS);
    const resigned = one.resign();
    answer.resolve();
    await resigned;
    expect(store.held).toBeNull();
  });
});
