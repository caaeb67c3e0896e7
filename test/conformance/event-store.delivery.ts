/** What every EventStore must do from enqueue to settle: claims, fences, owners, keys. */
import { describe, expect, it } from 'vitest';
import type { InvocationState } from '#contract/events.ts';
import type { EventStore, NewEvent } from '../../controller/store/events.ts';
import {
  ATTEMPT,
  claimAll,
  codeOf,
  dead,
  eachWithStore,
  ERROR,
  event,
  type EventStorePlace,
  idOf,
  idsOf,
  LANE,
  released,
  RESULT,
  retry,
  succeeded,
  T,
} from './event-store.fixture.ts';

export function deliverySuite(makePlace: () => Promise<EventStorePlace>): void {
  let store: EventStore;
  eachWithStore(makePlace, (opened) => ({ store } = opened));

  /** Enqueued and claimed by o1. */
  async function claimed(...events: NewEvent[]) {
    await store.enqueue(events, T);
    return await claimAll(store);
  }
  const stateOf = async (name: string): Promise<InvocationState | undefined> => (await store.get(idOf(name)))?.state;

  describe('enqueue and claim', () => {
    it('gives back what it was given, byte for byte', async () => {
      const whole = event('a', {
        trigger: 'mails',
        dedup: { key: 'schlüssel "1"', fingerprint: 'x:y\0z', until: T + 9 },
        orderKey: 'kunde:7 ✓',
        payload: new Uint8Array(300_000).map((_, i) => i % 256),
      });
      expect(await store.enqueue([whole], T)).toEqual([{ outcome: 'enqueued', id: whole.id, claim: null }]);
      expect(await store.get(whole.id)).toEqual({
        event: whole,
        state: 'queued',
        fence: 0,
        attempts: 0,
        deliveries: 0,
        request: null,
        revision: null,
        error: null,
        resultInfo: null,
        finishedAt: null,
        keptUntil: null,
      });
      expect(await claimAll(store, 'o1', T + 3)).toEqual([
        { id: whole.id, fence: 1, deliveries: 1, attempts: 0, firstAt: T + 3, event: whole },
      ]);
      expect(await stateOf('a')).toBe('running');
    });

    it('keeps an empty payload apart from none', async () => {
      const [claim] = await claimed(event('a', { payload: new Uint8Array(0) }));
      expect(claim?.event.payload).toEqual(new Uint8Array(0));
    });

    it('claims the earliest first, those of the same time as they came, and nothing before its time', async () => {
      await store.enqueue(
        [event('c', { dueAt: T + 5 }), event('a', { dueAt: T - 5 }), event('b1'), event('b2'), event('d', { dueAt: T + 6 })],
        T,
      );
      expect(idsOf(await claimAll(store, 'o1', T + 5))).toEqual(['a', 'b1', 'b2', 'c'].map(idOf));
      expect(await claimAll(store, 'o1', T + 5)).toEqual([]);
      expect(idsOf(await claimAll(store, 'o1', T + 6))).toEqual([idOf('d')]);
    });

    it('claims of each lane at most its limit, in the order that was asked for', async () => {
      const other = { lane: 'default/g', name: 'g' };
      await store.enqueue([event('a1'), event('a2'), event('b1', other), event('b2', other)], T);
      const lanes = [
        { lane: 'default/g', limit: 1 },
        { lane: 'default/none', limit: 5 },
        { lane: LANE, limit: 5 },
      ];
      expect(idsOf(await store.claim('o1', lanes, T))).toEqual(['b1', 'a1', 'a2'].map(idOf));
    });

    it('makes no second one of an id that is there, whatever became of it', async () => {
      const [claim] = await claimed(event('a'));
      const again = () => store.enqueue([event('a', { payload: new Uint8Array([9]), dueAt: T - 1 })], T, 'o1');
      expect(await again()).toEqual([{ outcome: 'duplicate', id: idOf('a') }]);
      await store.settle([succeeded(claim!)]);
      expect(await again()).toEqual([{ outcome: 'duplicate', id: idOf('a') }]);
      expect(await claimAll(store)).toEqual([]);
    });

    it('two with one id in one call are one', async () => {
      expect((await store.enqueue([event('a'), event('a')], T)).map(({ outcome }) => outcome)).toEqual(['enqueued', 'duplicate']);
      expect(await claimAll(store)).toHaveLength(1);
    });

    it('claims at once for an owner: what is due and whose order key is free', async () => {
      const events = [event('a'), event('later', { dueAt: T + 1 }), event('k1', { orderKey: 'k' }), event('k2', { orderKey: 'k' })];
      const outcomes = await store.enqueue(events, T, 'o1');
      expect(outcomes.map((found) => (found.outcome === 'enqueued' ? found.claim?.fence : found.outcome))).toEqual([
        1,
        undefined,
        1,
        undefined,
      ]);
      expect(outcomes[0]).toEqual({
        outcome: 'enqueued',
        id: idOf('a'),
        claim: { id: idOf('a'), fence: 1, deliveries: 1, attempts: 0, firstAt: T, event: events[0] },
      });
      expect(await store.settle([succeeded({ id: idOf('a'), fence: 1 })])).toEqual(['settled']);
      expect(await claimAll(store)).toEqual([]);
    });

    it('does not claim for an owner that is not there, and keeps the event', async () => {
      expect(await store.enqueue([event('a')], T, 'nobody')).toEqual([{ outcome: 'enqueued', id: idOf('a'), claim: null }]);
      expect(idsOf(await claimAll(store))).toEqual([idOf('a')]);
    });

    it('takes nothing for nothing', async () => {
      expect([await store.enqueue([], T), await store.settle([]), await store.addDead([]), await store.redrive([], T, T)]).toEqual([
        [],
        [],
        [],
        [],
      ]);
      expect(await store.claim('o1', [], T)).toEqual([]);
    });
  });

  describe('deduplication by key', () => {
    const keyed = (name: string, changes: Partial<NewEvent> = {}, fingerprint = 'f1') =>
      event(name, { dedup: { key: 'k', fingerprint, until: T + 100 }, ...changes });

    it('tells of the first one, and of another request with the same key', async () => {
      await store.enqueue([keyed('a')], T);
      expect(await store.enqueue([keyed('b'), keyed('c', {}, 'f2')], T + 99)).toEqual([
        { outcome: 'duplicate', id: idOf('a') },
        { outcome: 'mismatch', id: idOf('a') },
      ]);
      expect(await claimAll(store)).toHaveLength(1);
    });

    it('holds after the event is over, removed and pruned, and ends with its time', async () => {
      const [claim] = await claimed(keyed('a'));
      await store.settle([dead(claim!)]);
      await store.purge([claim!.id]);
      expect(await store.enqueue([keyed('b')], T + 99)).toEqual([{ outcome: 'duplicate', id: idOf('a') }]);
      const again = keyed('b', { dedup: { key: 'k', fingerprint: 'f2', until: T + 200 } });
      expect(await store.enqueue([again], T + 100)).toMatchObject([{ outcome: 'enqueued' }]);
      expect(await store.enqueue([keyed('c', {}, 'f2')], T + 150)).toEqual([{ outcome: 'duplicate', id: idOf('b') }]);
    });

    it('is of one function and trigger', async () => {
      const others = [
        keyed('a'),
        keyed('b', { trigger: 't' }),
        keyed('c', { trigger: 'u' }),
        keyed('d', { name: 'g', lane: 'default/g' }),
        keyed('e', { namespace: 'n', lane: 'n/f' }),
      ];
      expect((await store.enqueue(others, T)).map(({ outcome }) => outcome)).toEqual(Array(5).fill('enqueued'));
    });

    it('a repeated call is told its own id, not a mismatch', async () => {
      await store.enqueue([keyed('a')], T);
      expect(await store.enqueue([keyed('a')], T)).toEqual([{ outcome: 'duplicate', id: idOf('a') }]);
    });
  });

  describe('owners and fences', () => {
    it('frees the claims of who beats no more; late settlements of his are fenced', async () => {
      const [claim] = await claimed(event('a'));
      expect(await store.expire(T + 59_999)).toBe(0);
      expect(await store.beat('o1', T + 70_000)).toBe(true);
      expect(await store.expire(T + 69_999)).toBe(0);
      expect(await store.expire(T + 70_000)).toBe(1);
      // Thawed: nobody has it yet.
      expect(await store.settle([succeeded(claim!)])).toEqual(['fenced']);
      expect(await store.beat('o1', T + 99_000)).toBe(false);
      expect(await codeOf(claimAll(store))).toBe('not-leader');
      await store.join('o2', T + 99_000);
      const [taken] = await claimAll(store, 'o2', T + 5);
      expect(taken).toMatchObject({ id: claim!.id, fence: 2, deliveries: 2, attempts: 0, firstAt: T + 5 });
      // Thawed: another has it.
      for (const late of [succeeded(claim!), retry(claim!), dead(claim!), released(claim!)])
        expect(await store.settle([late])).toEqual(['fenced']);
      expect(await store.settle([succeeded(taken!)])).toEqual(['settled']);
      expect(await store.settle([succeeded(taken!)])).toEqual(['fenced']);
    });

    it('an owner that leaves frees its claims, and no other', async () => {
      await store.join('o2', T + 60_000);
      await store.enqueue([event('a'), event('b'), event('c')], T);
      await claimAll(store, 'o1', T, LANE, 2);
      await claimAll(store, 'o2');
      expect([await store.leave('o1', T), await store.leave('o1', T), await store.leave('nobody', T)]).toEqual([2, 0, 0]);
      expect(idsOf(await claimAll(store, 'o2'))).toEqual(['a', 'b'].map(idOf));
      expect(await codeOf(claimAll(store))).toBe('not-leader');
    });

    it('one that joins again begins with no claims', async () => {
      const [claim] = await claimed(event('a'));
      await store.leave('o1', T);
      await store.join('o1', T + 90_000);
      expect(await store.settle([succeeded(claim!)])).toEqual(['fenced']);
      expect(await claimAll(store)).toMatchObject([{ fence: 2, deliveries: 2 }]);
    });

    it('a retried event of a lost worker still retries', async () => {
      const [claim] = await claimed(event('a'));
      await store.settle([retry(claim!)]);
      await claimAll(store, 'o1', T + 500);
      await store.leave('o1', T);
      expect(await store.get(claim!.id)).toMatchObject({ state: 'retrying', attempts: 1, deliveries: 2, event: { dueAt: T + 500 } });
    });

    it('settlements of ids that are not there are fenced', async () => {
      expect(await store.settle([succeeded({ id: idOf('none'), fence: 1 })])).toEqual(['fenced']);
    });
  });

  describe('settle', () => {
    it('succeeded: keeps state, result and what made it; the payload goes', async () => {
      const [claim] = await claimed(event('a'));
      expect(await store.settle([succeeded(claim!)])).toEqual(['settled']);
      expect(await store.get(claim!.id)).toEqual({
        event: event('a', { payload: new Uint8Array(0) }),
        state: 'succeeded',
        fence: 1,
        attempts: 0,
        deliveries: 1,
        ...ATTEMPT,
        error: null,
        resultInfo: RESULT.resultInfo,
        finishedAt: T + 10,
        keptUntil: T + 1_000,
      });
      expect(await store.result(claim!.id)).toEqual(RESULT.result);
    });

    it('without a result none is kept', async () => {
      const [claim] = await claimed(event('a'));
      await store.settle([succeeded(claim!, { result: null, resultInfo: null })]);
      expect([await store.result(claim!.id), await store.result(idOf('none')), await store.get(idOf('none'))]).toEqual([null, null, null]);
      expect(await stateOf('a')).toBe('succeeded');
    });

    it('an empty result is one', async () => {
      const [claim] = await claimed(event('a'));
      await store.settle([succeeded(claim!, { result: new Uint8Array(0) })]);
      expect(await store.result(claim!.id)).toEqual(new Uint8Array(0));
    });

    it('retry: again at its time, counted or not, with the time of the first claim', async () => {
      const [claim] = await claimed(event('a'));
      await store.settle([retry(claim!)]);
      expect(await store.get(claim!.id)).toMatchObject({
        state: 'retrying',
        attempts: 1,
        error: ERROR,
        ...ATTEMPT,
        event: { dueAt: T + 500 },
      });
      expect(await claimAll(store, 'o1', T + 499)).toEqual([]);
      const [second] = await claimAll(store, 'o1', T + 500);
      expect(second).toMatchObject({ fence: 2, deliveries: 2, attempts: 1, firstAt: T, event: { payload: claim!.event.payload } });
      await store.settle([retry(second!, { counted: false, dueAt: T + 600, error: { ...ERROR, status: null } })]);
      const [third] = await claimAll(store, 'o1', T + 600);
      // What does not count is no worker that was lost.
      expect(third).toMatchObject({ fence: 3, deliveries: 2, attempts: 1, firstAt: T });
      await store.settle([succeeded(third!)]);
      // Of the newest failed attempt: still to be read.
      expect(await store.get(claim!.id)).toMatchObject({ state: 'succeeded', attempts: 1, error: { ...ERROR, status: null } });
    });

    it('of calls of one turn: in the order in which they were made, claimed or not', async () => {
      await store.join('o1', T + 10_000);
      const [[first], [second]] = await Promise.all([
        store.enqueue([event('a', { orderKey: 'k' })], T, 'o1'),
        store.enqueue([event('b', { orderKey: 'k' })], T),
      ]);
      expect([first, second]).toMatchObject([
        { outcome: 'enqueued', claim: { fence: 1 } },
        { outcome: 'enqueued', claim: null },
      ]);
    });

    it('released: as if it had never been claimed, but for the fence', async () => {
      const [claim] = await claimed(event('a'));
      expect(await store.settle([released(claim!)])).toEqual(['settled']);
      expect(await store.get(claim!.id)).toMatchObject({ state: 'queued', fence: 1, deliveries: 0, request: null, event: { dueAt: T } });
      expect(await claimAll(store, 'o1', T + 7)).toMatchObject([{ fence: 2, deliveries: 1, firstAt: T + 7 }]);
    });

    it('dead: a dead letter with its payload, and the state failed', async () => {
      const [claim] = await claimed(event('a'));
      await store.settle([dead(claim!, { ...RESULT })]);
      expect(await store.getDead(claim!.id)).toEqual({
        event: event('a'),
        message: null,
        reason: 'attempts',
        error: ERROR,
        attempts: 1,
        request: ATTEMPT.request,
        deadAt: T + 10,
        keptUntil: T + 1_000,
      });
      expect(await store.get(claim!.id)).toMatchObject({ state: 'failed', attempts: 1, error: ERROR, resultInfo: RESULT.resultInfo });
      expect(await store.result(claim!.id)).toEqual(RESULT.result);
      expect(await claimAll(store, 'o1', T + 9_999)).toEqual([]);
    });

    it('enqueues what follows with it, and nothing of one that is fenced', async () => {
      const [claim] = await claimed(event('a'));
      const then = ['x', 'y'].map((name) => event(name, { lane: `${LANE}>` }));
      expect(await store.settle([succeeded({ id: claim!.id, fence: 7 }, { following: then })])).toEqual(['fenced']);
      expect(await stateOf('x')).toBeUndefined();
      expect(await store.settle([succeeded(claim!, { following: then })])).toEqual(['settled']);
      expect(idsOf(await claimAll(store, 'o1', T, `${LANE}>`))).toEqual(['x', 'y'].map(idOf));
    });

    it('each by itself: one that is fenced does not hinder the others', async () => {
      const [a, b, c] = await claimed(event('a'), event('b'), event('c'));
      const outcomes = await store.settle([succeeded(a!), retry({ ...b!, fence: 9 }), dead(c!), succeeded(a!)]);
      expect(outcomes).toEqual(['settled', 'fenced', 'settled', 'fenced']);
      expect([await stateOf('a'), await stateOf('b'), await stateOf('c')]).toEqual(['succeeded', 'running', 'failed']);
    });
  });

  describe('order keys', () => {
    const k = (name: string, changes: Partial<NewEvent> = {}) => event(name, { orderKey: 'k', ...changes });

    it('one at a time, as they were enqueued, whatever their times; others go by', async () => {
      await store.enqueue([k('k1', { dueAt: T + 5 }), k('k2'), event('free'), event('j1', { orderKey: 'j' })], T);
      expect(idsOf(await claimAll(store))).toEqual(['free', 'j1'].map(idOf));
      const [first] = await claimAll(store, 'o1', T + 5);
      expect(first?.id).toBe(idOf('k1'));
      expect(await claimAll(store, 'o1', T + 5)).toEqual([]);
      await store.settle([succeeded(first!)]);
      expect(idsOf(await claimAll(store, 'o1', T + 5))).toEqual([idOf('k2')]);
    });

    it('also while the first waits for its next attempt, is released, or its worker died', async () => {
      const [first] = await claimed(k('k1'), k('k2'));
      await store.settle([retry(first!)]);
      expect(await claimAll(store, 'o1', T + 499)).toEqual([]);
      const [second] = await claimAll(store, 'o1', T + 500);
      expect(second?.id).toBe(idOf('k1'));
      await store.settle([released(second!)]);
      expect(idsOf(await claimAll(store, 'o1', T + 500))).toEqual([idOf('k1')]);
      await store.leave('o1', T);
      await store.join('o1', T + 99_000);
      expect(idsOf(await claimAll(store, 'o1', T + 500))).toEqual([idOf('k1')]);
    });

    it.each(['dead', 'cancelled', 'cancelled while it runs'] as const)('the next one goes when the first is %s', async (how) => {
      await store.enqueue([k('k1'), k('k2'), k('k3')], T);
      if (how === 'cancelled') await store.cancel(idOf('k1'), T, T + 1_000);
      else {
        const [first] = await claimAll(store);
        if (how === 'dead') await store.settle([dead(first!)]);
        else await store.cancel(first!.id, T, T + 1_000);
      }
      expect(idsOf(await claimAll(store))).toEqual([idOf('k2')]);
    });

    it('one in the middle that is cancelled leaves the order as it is', async () => {
      const [first] = await claimed(k('k1'), k('k2'), k('k3'));
      await store.cancel(idOf('k2'), T, T + 1_000);
      expect(await claimAll(store)).toEqual([]);
      await store.settle([succeeded(first!)]);
      expect(idsOf(await claimAll(store))).toEqual([idOf('k3')]);
    });

    it('a dead letter that is sent again goes behind what is there', async () => {
      const [first] = await claimed(k('k1'), k('k2'));
      await store.settle([dead(first!)]);
      expect(await store.redrive([idOf('k1')], T, T + 1)).toEqual([idOf('k1')]);
      const [second] = await claimAll(store);
      expect(second?.id).toBe(idOf('k2'));
      expect(await claimAll(store)).toEqual([]);
      await store.settle([succeeded(second!)]);
      expect(idsOf(await claimAll(store))).toEqual([idOf('k1')]);
    });

    it('is of one lane', async () => {
      await store.enqueue([k('a'), k('b', { lane: `${LANE}>` })], T);
      expect([await claimAll(store), await claimAll(store, 'o1', T, `${LANE}>`)].map((found) => found.length)).toEqual([1, 1]);
    });
  });
}
