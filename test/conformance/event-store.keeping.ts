/** What every EventStore must do with what it keeps: cancelled events, results, dead letters, views. */
import { describe, expect, it } from 'vitest';
import type { InvocationState } from '#contract/events.ts';
import type { EventStore, NewEvent } from '../../controller/store/events.ts';
import {
  claimAll,
  codeOf,
  dead,
  eachWithStore,
  event,
  type EventStorePlace,
  idOf,
  idsOf,
  LANE,
  letter,
  RESULT,
  retry,
  succeeded,
  T,
} from './event-store.fixture.ts';

export function keepingSuite(makePlace: () => Promise<EventStorePlace>): void {
  let place: EventStorePlace;
  let store: EventStore;
  eachWithStore(makePlace, (opened) => ({ place, store } = opened));

  /** Enqueued and claimed by o1. */
  async function claimed(...events: NewEvent[]) {
    await store.enqueue(events, T);
    return await claimAll(store);
  }
  const stateOf = async (name: string): Promise<InvocationState | undefined> => (await store.get(idOf(name)))?.state;

  describe('cancel', () => {
    it('what waits is never claimed; what runs is fenced; what is over stays as it is', async () => {
      const [running] = await claimed(event('running'), event('waiting', { dueAt: T + 1 }));
      expect(await store.cancel(idOf('waiting'), T, T + 50)).toBe('cancelled');
      expect(await store.cancel(idOf('running'), T, T + 50)).toBe('cancelled');
      expect(await store.settle([succeeded(running!, { following: [event('then')] })])).toEqual(['fenced']);
      expect(await stateOf('then')).toBeUndefined();
      expect(await claimAll(store, 'o1', T + 1)).toEqual([]);
      expect(await store.get(idOf('running'))).toMatchObject({ state: 'cancelled', finishedAt: T, keptUntil: T + 50 });
      expect(await store.cancel(idOf('running'), T + 1, T + 99)).toBe('cancelled');
      expect(await store.get(idOf('running'))).toMatchObject({ keptUntil: T + 50 });
      expect(await store.cancel(idOf('none'), T, T)).toBeNull();
    });

    it('tells how it ended where it was over', async () => {
      const [a, b] = await claimed(event('a'), event('b'));
      await store.settle([succeeded(a!), dead(b!)]);
      expect([await store.cancel(a!.id, T, T), await store.cancel(b!.id, T, T)]).toEqual(['succeeded', 'failed']);
      expect(await store.countDead({ namespace: 'default', name: 'f' })).toBe(1);
    });

    it('an owner that leaves does not bring back what was cancelled', async () => {
      await claimed(event('a'));
      await store.cancel(idOf('a'), T, T + 50);
      expect(await store.leave('o1', T)).toBe(0);
      expect(await stateOf('a')).toBe('cancelled');
    });
  });

  describe('what is kept', () => {
    it('survives closing and opening, with claims and their fences', async () => {
      const [claim] = await claimed(event('a', { orderKey: 'k' }), event('b', { orderKey: 'k' }), event('c', { dueAt: T + 9 }));
      await store.addDead([letter('l')]);
      await store.putState('s', 'v');
      const before = [await store.lanes(T), await store.get(idOf('a')), await store.getDead(idOf('l'))];
      await store.close();
      store = await place.open();
      expect([await store.lanes(T), await store.get(idOf('a')), await store.getDead(idOf('l'))]).toEqual(before);
      expect(await store.getState('s')).toBe('v');
      expect(await store.settle([succeeded(claim!)])).toEqual(['settled']);
      expect(idsOf(await claimAll(store, 'o1', T + 9))).toEqual(['b', 'c'].map(idOf));
    });

    it('goes when its time is over, as much at a time as is allowed', async () => {
      const claims = await claimed(...['a', 'b', 'c', 'd', 'e'].map((name) => event(name)));
      const until = (name: string) => ({ keptUntil: T + (name === 'late' ? 200 : 100) });
      await store.settle([
        succeeded(claims[0]!, until('')),
        succeeded(claims[1]!, until('late')),
        dead(claims[2]!, until('')),
        retry(claims[3]!),
      ]);
      await store.cancel(idOf('e'), T, T + 100);
      expect(await store.prune(T + 99, 100)).toBe(0);
      expect(await store.prune(T + 100, 2)).toBe(2);
      expect(await store.prune(T + 100, 2)).toBe(1);
      expect(await store.prune(T + 100, 2)).toBe(0);
      expect(await Promise.all(['a', 'b', 'c', 'd', 'e'].map(stateOf))).toEqual([undefined, 'succeeded', undefined, 'retrying', undefined]);
      expect(await store.result(idOf('a'))).toBeNull();
      expect(await store.countDead({ namespace: 'default', name: 'f' })).toBe(0);
    });

    it('keys of deduplication whose time is over go, too', async () => {
      await store.enqueue([event('a', { dedup: { key: 'k', fingerprint: 'f', until: T + 10 } })], T);
      expect([await store.prune(T + 9, 10), await store.prune(T + 10, 10), await store.prune(T + 10, 10)]).toEqual([0, 1, 0]);
      expect(await stateOf('a')).toBe('queued');
    });

    it('small texts', async () => {
      await store.putState('cron/default/f/a', '1');
      await store.putState('cron/default/f/a', 'zweï');
      await store.putState('cron/default/f_/b', '2');
      await store.putState('cron/default/%', '3');
      await store.deleteState('cron/default/f/');
      await store.deleteState('cron/default/*');
      const keys = ['cron/default/f/a', 'cron/default/f_/b', 'cron/default/%', 'none'];
      expect(await Promise.all(keys.map((key) => store.getState(key)))).toEqual([null, '2', '3', null]);
    });

    it('of a function that was deleted: nothing; its keys are free again', async () => {
      const other = { lane: 'default/f2', name: 'f2' };
      const dedup = { key: 'k', fingerprint: 'f', until: T + 999 };
      const [ended, running] = await claimed(event('ended'), event('running'));
      await store.settle([succeeded(ended!, { following: [event('then', { lane: `${LANE}>` })] })]);
      await store.enqueue([event('k1', { orderKey: 'k' }), event('k2', { orderKey: 'k', dedup }), event('kept', other)], T);
      await store.addDead([letter('l')]);
      expect(await store.forget('default', 'f')).toBe(6);
      expect(await store.forget('default', 'f')).toBe(0);
      expect(await store.settle([succeeded(running!)])).toEqual(['fenced']);
      expect(await Promise.all(['ended', 'running', 'then', 'k1', 'k2', 'l', 'kept'].map(stateOf))).toEqual([
        ...Array<undefined>(6).fill(undefined),
        'queued',
      ]);
      expect((await store.lanes(T)).map(({ lane }) => lane)).toEqual(['default/f2']);
      expect(await store.enqueue([event('k3', { orderKey: 'k', dedup })], T, 'o1')).toMatchObject([
        { outcome: 'enqueued', claim: { fence: 1 } },
      ]);
      expect(await store.addDead([letter('new', { message: 'm-l' })])).toEqual([idOf('new')]);
    });

    it('of a function with more than can be removed at once', async () => {
      const many = Array.from({ length: 5_000 }, (_, i) => event(`n${i}`, { orderKey: i % 3 === 0 ? 'k' : null }));
      for (let i = 0; i < many.length; i += 1_000) await store.enqueue(many.slice(i, i + 1_000), T);
      expect(await store.forget('default', 'f')).toBe(5_000);
      expect(await store.lanes(T)).toEqual([]);
    });
  });

  describe('dead letters', () => {
    const of = { namespace: 'default', name: 'f' };
    const listed = async (query: Parameters<EventStore['listDead']>[1], trigger?: string) =>
      (await store.listDead({ ...of, trigger }, query)).map((found) => found.event.id);

    it('of brokers are one per lane, trigger and message', async () => {
      expect(await store.addDead([letter('a'), letter('b', { message: 'm-a' })])).toEqual([idOf('a'), idOf('a')]);
      const again = letter('c', { message: 'm-a', attempts: 9 });
      expect(await store.addDead([again])).toEqual([idOf('a')]);
      const elsewhere = letter('d', { message: 'm-a', event: event('d', { trigger: 'other' }) });
      expect(await store.addDead([elsewhere])).toEqual([idOf('d')]);
      expect(await store.getDead(idOf('a'))).toEqual({ ...letter('a') });
      expect(await store.countDead(of)).toBe(2);
      expect(await store.get(idOf('a'))).toMatchObject({ state: 'failed', attempts: 3 });
    });

    it('are listed by page, the newest first, of a function or a trigger', async () => {
      await store.addDead([1, 2, 3, 4, 5].map((i) => letter(`l${i}`, { deadAt: T + (i === 1 ? 9 : i === 5 ? 4 : i) })));
      await store.addDead([letter('o', { event: event('o', { trigger: 'other' }), deadAt: T + 20 })]);
      const [own] = await claimed(event('own'));
      await store.settle([dead(own!)]);
      const order = ['o', 'own', 'l1', 'l5', 'l4', 'l3', 'l2'].map(idOf);
      expect(await listed({ limit: 100 })).toEqual(order);
      expect(await listed({ limit: 3 })).toEqual(order.slice(0, 3));
      expect(await listed({ limit: 3, before: order[2] })).toEqual(order.slice(3, 6));
      expect(await listed({ limit: 3, before: order[6] })).toEqual([]);
      expect(await listed({ limit: 3, before: idOf('none') })).toEqual([]);
      expect(await listed({ limit: 9 }, 'queue')).toEqual(order.slice(2));
      expect(await listed({ limit: 2, before: order[3] }, 'queue')).toEqual(order.slice(4, 6));
      expect([
        await store.countDead(of),
        await store.countDead({ ...of, trigger: 'queue' }),
        await store.countDead({ ...of, name: 'g' }),
      ]).toEqual([7, 5, 0]);
    });

    it('are events again when they are sent again: with their id, no attempts, at the end of their lane', async () => {
      const [claim] = await claimed(event('a'));
      await store.settle([retry(claim!)]);
      const [second] = await claimAll(store, 'o1', T + 500);
      await store.settle([dead(second!, { ...RESULT })]);
      await store.addDead([letter('l')]);
      await store.enqueue([event('b', { dueAt: T + 1_000 })], T);
      expect(await store.redrive([idOf('a'), idOf('none'), idOf('b'), idOf('l')], T + 1_000, T + 7_777)).toEqual([idOf('a'), idOf('l')]);
      expect(await store.get(idOf('a'))).toEqual({
        event: event('a', { dueAt: T + 1_000, expiresAt: T + 7_777 }),
        state: 'queued',
        fence: 2,
        attempts: 0,
        deliveries: 0,
        request: null,
        revision: null,
        error: null,
        resultInfo: null,
        finishedAt: null,
        keptUntil: null,
      });
      expect([await store.result(idOf('a')), await store.getDead(idOf('a')), await store.countDead(of)]).toEqual([null, null, 0]);
      expect(await store.prune(T + 1_000, 10)).toBe(0);
      const claims = await claimAll(store, 'o1', T + 1_000);
      expect(idsOf(claims)).toEqual(['b', 'a', 'l'].map(idOf));
      expect(claims[1]).toMatchObject({ fence: 3, deliveries: 1, attempts: 0, firstAt: T + 1_000 });
      // The broker brings the message once more: it is known.
      expect(await store.addDead([letter('again', { message: 'm-l' })])).toEqual([idOf('l')]);
      expect(await store.settle([succeeded(second!), succeeded(claims[2]!)])).toEqual(['fenced', 'settled']);
    });

    it('are removed for good', async () => {
      await store.addDead([letter('a'), letter('b')]);
      await store.enqueue([event('c')], T);
      expect(await store.purge([idOf('a'), idOf('c'), idOf('a'), idOf('none')])).toEqual([idOf('a')]);
      expect([await store.getDead(idOf('a')), await store.get(idOf('a')), await store.countDead(of)]).toEqual([null, null, 1]);
      expect(await stateOf('c')).toBe('queued');
      expect(await store.addDead([letter('a2', { message: 'm-a' })])).toEqual([idOf('a2')]);
    });

    it('that are large make a page shorter, never empty', async () => {
      const payload = new Uint8Array(1_048_576);
      for (let i = 0; i < 40; i++) await store.addDead([letter(`l${i}`, { event: event(`l${i}`, { payload }), deadAt: T + i })]);
      const ids: string[] = [];
      let pages = 0;
      for (let before: string | undefined; ; pages++) {
        const page = await listed({ limit: 1_000, before });
        if (page.length === 0) break;
        ids.push(...page);
        before = page.at(-1);
      }
      expect([ids.length, new Set(ids).size, pages]).toEqual([40, 40, 2]);
    });
  });

  describe('views', () => {
    it('lists of a function the newest first, without payloads and what goes to destinations', async () => {
      const [a, b, c] = await claimed(event('a'), event('b', { trigger: 't' }), event('c'), event('x', { lane: `${LANE}>` }));
      await store.enqueue([event('d'), event('g', { name: 'g', lane: 'default/g' })], T);
      await store.settle([succeeded(a!), retry(b!)]);
      const list = await store.list('default', 'f', { limit: 10 });
      expect(list.map(({ event: { id }, state }) => [id, state])).toEqual([
        [idOf('d'), 'queued'],
        [c!.id, 'running'],
        [b!.id, 'retrying'],
        [a!.id, 'succeeded'],
      ]);
      expect(list.every(({ event: { payload } }) => payload.length === 0)).toBe(true);
      expect((await store.list('default', 'f', { limit: 2 })).map(({ state }) => state)).toEqual(['queued', 'running']);
      expect((await store.list('default', 'f', { state: 'retrying', limit: 2 })).map((found) => found.event.id)).toEqual([b!.id]);
      expect(await store.list('default', 'none', { limit: 2 })).toEqual([]);
    });

    it('says of each lane what waits, is claimed and is dead, and when the next one is due', async () => {
      const [a, b] = await claimed(event('a'), event('b'), event('c', { dueAt: T + 50 }), event('x', { lane: `${LANE}>`, dueAt: T + 5 }));
      await store.settle([dead(a!), retry(b!, { dueAt: T + 20 })]);
      await store.enqueue([event('k1', { orderKey: 'k', dueAt: T + 30 }), event('k2', { orderKey: 'k' })], T);
      const lane = { lane: LANE, namespace: 'default', name: 'f', waiting: 4, claimed: 0, nextAt: T + 20, oldestAt: null, dead: 1 };
      const to = { ...lane, lane: `${LANE}>`, waiting: 1, nextAt: T + 5, oldestAt: T + 5, dead: 0 };
      expect(await store.lanes(T + 10)).toEqual([lane, to]);
      await claimAll(store, 'o1', T + 20);
      expect((await store.lanes(T + 30))[0]).toEqual({ ...lane, waiting: 3, claimed: 1, nextAt: T + 30, oldestAt: T + 30 });
    });

    it('has no lane in which nothing is left to do', async () => {
      const [claim] = await claimed(event('a'));
      await store.settle([succeeded(claim!)]);
      expect(await store.lanes(T)).toEqual([]);
      await store.prune(T + 9_999, 10);
      await store.enqueue([event('b')], T);
      expect(await store.lanes(T)).toMatchObject([{ lane: LANE, waiting: 1 }]);
    });
  });

  it('many at a time: each is told its own, and each event has one owner', async () => {
    const owners = ['o1', 'o2', 'o3'];
    for (const owner of owners) await store.join(owner, T + 60_000);
    const names = Array.from({ length: 600 }, (_, i) => `e${i}`);
    const told = await Promise.all(names.map((name, i) => store.enqueue([event(name)], T, i % 2 === 0 ? owners[i % 3] : undefined)));
    expect(told.flatMap(idsOf)).toEqual(names.map(idOf));
    const claims = (await Promise.all(Array.from({ length: 30 }, (_, i) => claimAll(store, owners[i % 3], T, LANE, 20)))).flat();
    expect(new Set(idsOf(claims)).size).toBe(300);
    expect(claims).toHaveLength(300);
    const twice = await Promise.all([...claims, ...claims].map((claim) => store.settle([succeeded(claim)])));
    expect(twice.flat().filter((outcome) => outcome === 'settled')).toHaveLength(300);
    expect(await store.lanes(T)).toMatchObject([{ waiting: 0, claimed: 300 }]);
  });

  it('says that it is closed, and may be closed twice', async () => {
    const accepted = store.enqueue([event('a')], T);
    await accepted;
    await store.close();
    await store.close();
    const calls = [
      store.enqueue([event('b')], T),
      store.claim('o1', [{ lane: LANE, limit: 1 }], T),
      store.settle([succeeded({ id: idOf('a'), fence: 1 })]),
      store.get(idOf('a')),
      store.lanes(T),
      store.beat('o1', T),
      store.expire(T + 999_999),
      store.getState('x'),
    ];
    expect(await Promise.all(calls.map(codeOf))).toEqual(Array(calls.length).fill('store-unavailable'));
    store = await place.open();
    expect([await stateOf('a'), await stateOf('b')]).toEqual(['queued', undefined]);
  });
}
