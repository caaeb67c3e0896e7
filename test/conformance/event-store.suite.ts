/** What every EventStore must do, whatever it writes to. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import type { InvocationState } from '#contract/events.ts';
import type { EventStore, NewEvent } from '../../controller/store/events.ts';
import {
  ATTEMPT,
  claimAll,
  dead,
  ERROR,
  event,
  type EventStorePlace,
  idOf,
  idsOf,
  LANE,
  letter,
  released,
  RESULT,
  retry,
  succeeded,
  T,
} from './event-store.fixture.ts';

export function eventStoreSuite(makePlace: () => Promise<EventStorePlace>): void {
  let place: EventStorePlace;
  let store: EventStore;

  beforeEach(async () => {
    place = await makePlace();
    store = await place.open();
    await store.join('o1', T + 60_000);
  });
  afterEach(() => place.end());

  /** Enqueued and claimed by o1. */
  async function claimed(...events: NewEvent[]) {
    await store.enqueue(events, T);
    return await claimAll(store);
  }
  const stateOf = async (name: string): Promise<InvocationState | undefined> => (await store.get(idOf(name)))?.state;
  const code = (run: Promise<unknown>): Promise<unknown> =>
    run.then(
      () => 'done',
      (error: unknown) => (error instanceof FnError ? error.code : error),
    );

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
      expect(await code(claimAll(store))).toBe('not-leader');
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
      expect(await code(claimAll(store))).toBe('not-leader');
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
      expect(third).toMatchObject({ deliveries: 3, attempts: 1, firstAt: T });
      await store.settle([succeeded(third!)]);
      // Of the newest failed attempt: still to be read.
      expect(await store.get(claim!.id)).toMatchObject({ state: 'succeeded', attempts: 1, error: { ...ERROR, status: null } });
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

    it('of a function that was deleted: nothing but what was over; its keys are free again', async () => {
      const other = { lane: 'default/f2', name: 'f2' };
      const dedup = { key: 'k', fingerprint: 'f', until: T + 999 };
      const [ended, running] = await claimed(event('ended'), event('running'));
      await store.settle([succeeded(ended!, { following: [event('then', { lane: `${LANE}>` })] })]);
      await store.enqueue([event('k1', { orderKey: 'k' }), event('k2', { orderKey: 'k', dedup }), event('kept', other)], T);
      await store.addDead([letter('l')]);
      expect(await store.forget('default', 'f')).toBe(5);
      expect(await store.forget('default', 'f')).toBe(0);
      expect(await store.settle([succeeded(running!)])).toEqual(['fenced']);
      expect(await Promise.all(['ended', 'running', 'then', 'k1', 'k2', 'l', 'kept'].map(stateOf))).toEqual([
        'succeeded',
        ...Array<undefined>(5).fill(undefined),
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
    expect(await Promise.all(calls.map(code))).toEqual(Array(calls.length).fill('store-unavailable'));
    store = await place.open();
    expect([await stateOf('a'), await stateOf('b')]).toEqual(['queued', undefined]);
  });
}
