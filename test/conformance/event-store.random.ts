/** Some thousand events that do anything at all, in a store and in the model of one: both must say the same, each time. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import type { InvocationState } from '#contract/events.ts';
import type { Claim, EventStore, NewEvent } from '../../controller/store/events.ts';
import { dead, ERROR, event, type EventStorePlace, idOf, letter, released, RESULT, retry, succeeded, T } from './event-store.fixture.ts';
import { ModelEventStore } from './event-store.model.ts';

/** 40 runs of at most 80 steps of up to 6 events: some 5,000 events, more than half of them new. */
const RUNS = 40;
const STEPS = 80;

const LANES = [
  { lane: 'default/f', name: 'f' },
  { lane: 'default/f>', name: 'f' },
  { lane: 'default/g', name: 'g' },
];
const STATES: InvocationState[] = ['queued', 'retrying', 'running', 'succeeded', 'failed', 'cancelled'];
const OWNERS = ['o1', 'o2', 'o3'];

const small = (max: number) => fc.nat({ max });
const oneOf = <T>(...values: T[]) => fc.constantFrom(...values);
const eventSpec = fc.record({
  number: small(120),
  lane: oneOf(...LANES),
  trigger: oneOf(null, 't'),
  orderKey: oneOf(null, null, 'k1', 'k2'),
  delay: oneOf(0, 0, 0, 3, 20),
  dedup: fc.option(fc.record({ key: oneOf('a', 'b', 'c'), fingerprint: oneOf('1', '2'), forMs: small(30) }), { freq: 3 }),
});
type EventSpec = typeof eventSpec extends fc.Arbitrary<infer Spec> ? Spec : never;
const events = fc.array(eventSpec, { minLength: 1, maxLength: 6 });
const settlement = fc.record({
  claim: fc.nat(),
  how: oneOf('succeeded', 'succeeded', 'retry', 'dead', 'released'),
  n: small(3),
  next: fc.option(eventSpec),
});
const ids = fc.array(small(120), { minLength: 1, maxLength: 30 });

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('enqueue' as const), events, claimFor: oneOf(undefined, ...OWNERS) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('claim' as const), owner: oneOf(...OWNERS), limit: small(8) }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('settle' as const), settlements: fc.array(settlement, { minLength: 1, maxLength: 8 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), number: small(120) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: oneOf('join' as const, 'join' as const, 'beat' as const, 'leave' as const), owner: oneOf(...OWNERS) }),
  },
  { weight: 1, arbitrary: fc.record({ do: oneOf('expire' as const, 'prune' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('addDead' as const), events, message: small(5) }) },
  { weight: 2, arbitrary: fc.record({ do: oneOf('redrive' as const, 'purge' as const), ids }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('forget' as const), name: oneOf('f', 'g') }) },
);
type Step = typeof step extends fc.Arbitrary<infer Of> ? Of : never;

type Api = { [Name in keyof ModelEventStore]: (...args: Parameters<ModelEventStore[Name]>) => unknown };

const newEvent = ({ number, lane, trigger, orderKey, delay, dedup }: EventSpec, at: number): NewEvent =>
  event(`e${number}`, {
    ...lane,
    trigger,
    orderKey,
    createdAt: at,
    dueAt: at + delay,
    dedup: dedup === null ? null : { key: dedup.key, fingerprint: dedup.fingerprint, until: at + dedup.forMs },
  });

/** What a step asks of a store; of both the same. */
function asked(of: Step, at: number, claims: readonly Claim[]): (store: Api) => unknown {
  switch (of.do) {
    case 'enqueue':
      return (store) =>
        store.enqueue(
          of.events.map((spec) => newEvent(spec, at)),
          at,
          of.claimFor,
        );
    case 'claim':
      return (store) =>
        store.claim(
          of.owner,
          LANES.map(({ lane }) => ({ lane, limit: of.limit })),
          at,
        );
    case 'settle': {
      const made = of.settlements.map(({ claim: index, how, n, next }) => {
        const claim = claims.length === 0 ? { id: idOf('e1'), fence: 1 } : claims[index % claims.length]!;
        const more = { at, ...(next === null ? {} : { following: [newEvent(next, at)] }) };
        const end = { ...more, keptUntil: at + 5 * n, ...(n === 0 ? { result: null, resultInfo: null } : RESULT) };
        if (how === 'succeeded') return succeeded(claim, end);
        if (how === 'retry') return retry(claim, { ...more, dueAt: at + n, counted: n > 1, error: { ...ERROR, status: n } });
        return how === 'dead' ? dead(claim, { ...end, counted: n > 1 }) : { ...released(claim), ...more };
      });
      return (store) => store.settle(made);
    }
    case 'cancel':
      return (store) => store.cancel(idOf(`e${of.number}`), at, at + 10);
    case 'join':
      return (store) => store.join(of.owner, at + 30);
    case 'beat':
      return (store) => store.beat(of.owner, at + 30);
    case 'leave':
      return (store) => store.leave(of.owner);
    case 'expire':
      return (store) => store.expire(at);
    case 'prune':
      return (store) => store.prune(at);
    case 'addDead': {
      const letters = of.events.map((spec) =>
        letter('x', { event: { ...newEvent(spec, at), dedup: null }, message: `m${of.message}`, deadAt: at, keptUntil: at + 25 }),
      );
      return (store) => store.addDead(letters);
    }
    case 'redrive':
      return (store) =>
        store.redrive(
          of.ids.map((number) => idOf(`e${number}`)),
          at,
          at + 100,
        );
    case 'purge':
      return (store) => store.purge(of.ids.map((number) => idOf(`e${number}`)));
    case 'forget':
      return (store) => store.forget('default', of.name);
  }
}

/** The store in the form of the model. */
const apiOf = (store: EventStore): Api => ({
  ...bound(store),
  leave: (owner) => store.leave(owner, 0),
  prune: (at) => store.prune(at, 1_000),
  claim: async (owner, lanes, at) => {
    try {
      return await store.claim(owner, lanes, at);
    } catch (error) {
      if (error instanceof FnError) return error.code;
      throw error;
    }
  },
});

function bound(store: EventStore): Omit<Api, 'leave' | 'prune' | 'claim'> {
  return {
    join: (owner, until) => store.join(owner, until),
    beat: (owner, until) => store.beat(owner, until),
    expire: (at) => store.expire(at),
    enqueue: (given, at, claimFor) => store.enqueue(given, at, claimFor),
    settle: (settlements) => store.settle(settlements),
    get: (id) => store.get(id),
    result: (id) => store.result(id),
    cancel: (id, at, keptUntil) => store.cancel(id, at, keptUntil),
    list: (namespace, name, query) => store.list(namespace, name, query),
    lanes: (at) => store.lanes(at),
    addDead: (letters) => store.addDead(letters),
    listDead: (filter, query) => store.listDead(filter, query),
    countDead: (filter) => store.countDead(filter),
    getDead: (id) => store.getDead(id),
    redrive: (given, at, expiresAt) => store.redrive(given, at, expiresAt),
    purge: (given) => store.purge(given),
    forget: (namespace, name) => store.forget(namespace, name),
  };
}

/** Everything that can be seen. */
async function seen(store: Api, at: number): Promise<unknown> {
  const of = (name: string) => ({ namespace: 'default', name });
  const looks = ['f', 'g'].flatMap((name) => [
    ...STATES.map((state) => store.list('default', name, { state, limit: 5 })),
    store.list('default', name, { limit: 200 }),
    store.listDead(of(name), { limit: 200 }),
    store.listDead({ ...of(name), trigger: 't' }, { limit: 3 }),
    store.countDead({ ...of(name), trigger: 't' }),
  ]);
  const all = Array.from({ length: 121 }, (_, number) => [store.get(idOf(`e${number}`)), store.result(idOf(`e${number}`))]).flat();
  return await Promise.all([store.lanes(at), ...looks, ...all]);
}

export function randomSuite(makePlace: () => Promise<EventStorePlace>): void {
  it('does what the model does, whatever is asked of it', async () => {
    const property = fc.asyncProperty(
      fc.array(fc.tuple(step, small(6)), { minLength: 20, maxLength: STEPS, size: 'max' }),
      async (steps) => {
        const place = await makePlace();
        try {
          const store = apiOf(await place.open());
          const model = new ModelEventStore();
          const claims: Claim[] = [];
          let at = T;
          for (const [next, passed] of [[{ do: 'join', owner: 'o1' }, 0] as [Step, number], ...steps]) {
            at += passed;
            const ask = asked(next, at, claims);
            const expected = ask(model);
            expect([next.do, await ask(store)]).toEqual([next.do, expected]);
            remember(claims, next.do, expected);
            expect(await store.lanes(at)).toEqual(model.lanes(at));
          }
          expect(await seen(store, at)).toEqual(await seen(model, at));
        } finally {
          await place.end();
        }
      },
    );
    await fc.assert(property, { numRuns: RUNS });
  }, 120_000);
}

/** Claims are kept when they are over, so that some settlements come late. */
function remember(claims: Claim[], what: Step['do'], outcome: unknown): void {
  if (!Array.isArray(outcome)) return;
  for (const found of outcome as (Claim | { claim?: Claim | null })[]) {
    if (what === 'claim' && 'fence' in found) claims.push(found);
    if (what === 'enqueue' && 'claim' in found && found.claim) claims.push(found.claim);
  }
  claims.splice(0, Math.max(0, claims.length - 40));
}
