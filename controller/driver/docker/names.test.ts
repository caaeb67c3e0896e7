import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { dnsServer, type DnsServer } from '../../../test/helpers/dns.ts';
import { MAX_ADDRESSES, Names, systemLookup, type Answer, type NamesOptions, type SavedNames } from './names.ts';

const A = '203.0.113.1';
const B = '203.0.113.2';
const C = '203.0.113.3';
const fails = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }));
const answers =
  (ttl: number, ...addresses: string[]) =>
  () =>
    Promise.resolve(addresses.map((address): Answer => ({ address, ttl })));

describe('names', () => {
  let clock: VirtualClock;
  let lookup: (name: string) => Promise<Answer[]>;
  let asked: string[];
  let changes: string[][];
  let used: Set<string>;
  let names: Names;

  const make = (options: Partial<NamesOptions> = {}, saved: SavedNames = {}): Names => {
    const made = new Names({
      lookup(name) {
        asked.push(name);
        return lookup(name);
      },
      clock,
      log: silentLog,
      inUse: () => used,
      onChange(changed) {
        changes.push([...changed]);
        return Promise.resolve();
      },
      ...options,
    });
    made.start(saved);
    return made;
  };
  /** In steps of a second; lookups here wait for nothing else, so a turn of the loop is enough for them. */
  const advance = async (ms: number): Promise<void> => {
    for (let left = ms; ; left -= 1_000) {
      await new Promise(setImmediate);
      clock.advance(Math.min(1_000, left));
      await new Promise(setImmediate);
      if (left <= 1_000) return;
    }
  };
  beforeEach(() => {
    clock = new VirtualClock();
    asked = [];
    changes = [];
    used = new Set(['api.example.com']);
    lookup = answers(30, A);
    names = make();
  });
  afterEach(() => names.close());
  const state = () => names.of('api.example.com');

  it('are asked for again when their time to live is over, within bounds', async () => {
    await advance(0);
    expect([asked.length, state().current]).toEqual([1, [A]]);
    await advance(29_000);
    expect(asked.length).toBe(1);
    lookup = answers(0, A);
    await advance(1_000);
    expect(asked.length).toBe(2);
    // No sooner than after ten seconds, whatever it says.
    lookup = answers(86_400, A);
    await advance(9_000);
    expect(asked.length).toBe(2);
    await advance(1_000);
    expect(asked.length).toBe(3);
    // No later than after five minutes.
    await advance(300_000);
    expect(asked.length).toBe(4);
    expect(changes).toEqual([['api.example.com']]);
  });

  it('an address that is no longer in the answer can be reached for ten minutes more', async () => {
    await advance(0);
    lookup = answers(30, B);
    await advance(30_000);
    expect(state()).toMatchObject({ current: [B], reachable: [B, A] });
    await advance(599_000);
    expect(state().reachable).toEqual([B, A]);
    await advance(1_000);
    expect(state().reachable).toEqual([B]);
    expect(changes.length).toBe(3);
  });

  it('what comes back in time was never gone, and the order of an answer is no news', async () => {
    lookup = answers(30, A, B);
    await advance(0);
    lookup = answers(30, B, A);
    await advance(30_000);
    expect(changes.length).toBe(1);
    lookup = answers(30, C);
    await advance(30_000);
    lookup = answers(30, A);
    await advance(30_000);
    expect(state()).toMatchObject({ current: [A], reachable: [A, B, C] });
  });

  it('keep their addresses for an hour where no name server answers, for ten minutes where the name is gone', async () => {
    for (const [code, kind, keptMs] of [
      ['ETIMEOUT', 'failed', 3_600_000],
      ['ENOTFOUND', 'missing', 600_000],
    ] as const) {
      lookup = answers(30, A);
      names = make();
      await advance(0);
      lookup = fails(code);
      await advance(30_000);
      expect(state()).toEqual({ current: [A], reachable: [A], failure: { kind, code } });
      await advance(keptMs - 1_000);
      expect(state().current).toEqual([A]);
      await advance(1_000);
      expect(state().reachable).toEqual([]);
      // And is there again with the first answer.
      lookup = answers(30, B);
      await advance(15_000);
      expect(state()).toEqual({ current: [B], reachable: [B], failure: null });
      names.close();
    }
  });

  it('who waits for the first answer gets it, and waits three seconds at most', async () => {
    used.add('slow.example.com');
    let answer: (answers: Answer[]) => void = () => {};
    lookup = (name) => (name === 'slow.example.com' ? new Promise((resolve) => (answer = resolve)) : answers(30, A)());
    let waited = false;
    const waiting = names.ready(['slow.example.com']).then(() => (waited = true));
    await advance(2_999);
    expect(waited).toBe(false);
    await advance(1);
    await waiting;
    expect(names.of('slow.example.com').failure).toEqual({ kind: 'failed', code: 'ETIMEOUT' });
    changes.length = 0;
    answer([{ address: A, ttl: 30 }]);
    await advance(0);
    expect(names.of('slow.example.com').current).toEqual([A]);
    expect(changes.flat()).toContain('slow.example.com');
  });

  it('one lookup serves all who ask at a time; what nobody uses is not asked for again', async () => {
    await Promise.all([names.ready(['new.example.com']), names.ready(['new.example.com']), names.ready(['new.example.com'])]);
    expect(asked.filter((name) => name === 'new.example.com').length).toBe(1);
    await advance(600_000);
    expect(asked.filter((name) => name === 'new.example.com').length).toBe(1);
    expect(names.save()).not.toHaveProperty(['new.example.com']);
  });

  it('what could not be put in force is tried again', async () => {
    names.close();
    let attempts = 0;
    names = make({ onChange: () => (++attempts < 3 ? Promise.reject(new Error('iptables is busy')) : Promise.resolve()) });
    lookup = answers(300, A);
    await advance(100_000);
    expect(attempts).toBe(3);
  });

  it('what an earlier controller knew holds until there is an answer', async () => {
    names.close();
    lookup = fails('ESERVFAIL');
    names = make({}, { 'api.example.com': { current: [A], old: [B] }, 'unused.example.com': { current: [C], old: [] } });
    expect(state().reachable).toEqual([A, B]);
    expect(names.save()).not.toHaveProperty(['unused.example.com']);
    await advance(600_000);
    expect(state().reachable).toEqual([A]);
  });

  it('takes no more addresses than it can keep', async () => {
    for (let round = 0; round < 5; round++) {
      lookup = answers(10, ...Array.from({ length: 100 }, (_, index) => `203.0.${round}.${index}`));
      await advance(10_000);
    }
    expect(state().current.length).toBe(MAX_ADDRESSES);
    expect(state().reachable.length).toBe(2 * MAX_ADDRESSES);
  });
});

describe('systemLookup', () => {
  let server: DnsServer;
  beforeEach(async () => void (server = await dnsServer()));
  afterEach(() => server.close());
  const look = () => systemLookup([server.address])('api.example.com');

  it('takes addresses with their time to live', async () => {
    server.hosts.set('api.example.com', { addresses: [A, B], ttl: 42 });
    expect(await look()).toEqual([
      { address: A, ttl: 42 },
      { address: B, ttl: 42 },
    ]);
  });

  it('tells a name that is not there from a server that cannot say', async () => {
    await expect(look()).rejects.toMatchObject({ code: 'ENOTFOUND' });
    server.hosts.set('api.example.com', { addresses: [], ttl: 0 });
    await expect(look()).rejects.toMatchObject({ code: 'ENODATA' });
    server.hosts.set('api.example.com', null);
    await expect(look()).rejects.toMatchObject({ code: 'ESERVFAIL' });
  });
});
