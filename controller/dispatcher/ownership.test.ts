import { beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { BEAT_EVERY_MS, Ownership, OWNER_TTL_MS } from './ownership.ts';

/** Owners as a store has them, and what is asked of it. */
class Owners {
  readonly asked: string[] = [];
  readonly alive = new Set<string>();
  away = false;

  #answer<T>(what: string, answer: () => T): Promise<T> {
    if (this.away) return Promise.reject(new FnError('store-unavailable', 'away'));
    this.asked.push(what);
    return Promise.resolve(answer());
  }

  join = (owner: string) => this.#answer(`join ${owner}`, () => void this.alive.add(owner));
  beat = (owner: string) => this.#answer(`beat ${owner}`, () => this.alive.has(owner));
  leave = (owner: string) => this.#answer(`leave ${owner}`, () => Number(this.alive.delete(owner)));
  expire = () => this.#answer('expire', () => 0);
}

let clock: VirtualClock;
let store: Owners;
let inUse: Set<string>;
let lost: string[];
let ownership: Ownership;

beforeEach(async () => {
  clock = new VirtualClock();
  store = new Owners();
  inUse = new Set();
  lost = [];
  ownership = new Ownership({
    store,
    clock,
    log: silentLog,
    events: { onLost: (owner) => lost.push(owner), onFreed: () => {}, onJoined: () => {}, inUse: (owner) => inUse.has(owner) },
  });
  await ownership.start('d', ['dead-1', 'dead-2']);
});

const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};
const pass = async (ms: number) => {
  for (let left = ms; left > 0; left -= BEAT_EVERY_MS) {
    clock.advance(Math.min(left, BEAT_EVERY_MS));
    await settle();
  }
};

describe('the name that events are claimed in', () => {
  it('is joined when the dead have left', () => {
    expect(store.asked).toEqual(['leave dead-1', 'leave dead-2', 'join d']);
    expect(ownership.current).toBe('d');
  });

  it('beats, and others are looked at only after that', async () => {
    store.asked.length = 0;
    await pass(2 * BEAT_EVERY_MS);
    expect(store.asked).toEqual(['beat d', 'expire', 'beat d', 'expire']);
  });

  it('is another one when the store took it for dead', async () => {
    store.alive.delete('d');
    await pass(BEAT_EVERY_MS);
    expect([lost, ownership.current]).toEqual([['d'], 'd.1']);
  });

  it('is given up when a claim failed, and leaves once nothing of it is left', async () => {
    inUse.add('d');
    ownership.doubt('d');
    await settle();
    expect(ownership.current).toBe('d.1');
    await pass(BEAT_EVERY_MS);
    expect(store.asked.slice(-3)).toEqual(['beat d.1', 'beat d', 'expire']);
    inUse.clear();
    await pass(BEAT_EVERY_MS);
    expect(store.asked.slice(-3)).toEqual(['beat d.1', 'leave d', 'expire']);
    expect(lost).toEqual([]);
  });

  it('is none while the store is away, and none before its time is over that nobody heard', async () => {
    store.away = true;
    await pass(BEAT_EVERY_MS);
    expect(ownership.current).toBeNull();
    store.away = false;
    await pass(BEAT_EVERY_MS);
    expect(ownership.current).toBe('d');
    // The process stood still: no timer ran.
    const standing = new VirtualClock();
    const other = new Ownership({
      store,
      clock: standing,
      log: silentLog,
      events: { onLost: () => {}, onFreed: () => {}, onJoined: () => {}, inUse: () => false },
    });
    store.beat = () => new Promise(() => {});
    await other.start('f', []);
    standing.advance(OWNER_TTL_MS);
    expect(other.current).toBeNull();
  });

  it('leaves at the end, with all that were given up', async () => {
    inUse.add('d');
    ownership.doubt('d');
    await settle();
    await ownership.close();
    expect([...store.alive]).toEqual([]);
    expect(ownership.current).toBeNull();
  });
});
