/** What changes while events wait or run: functions that are deleted and made anew, settings, and others that take all there is. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InvocationView } from '#contract/events.ts';
import { DispatcherHarness, functionEvents } from '../../test/helpers/dispatcher-harness.ts';
import { range, waitFor } from '../../test/helpers/wait.ts';
import type { EventStore } from '../store/events.ts';
import type { DispatcherChange } from './dispatcher.ts';
import type { FunctionEvents } from './types.ts';

let harness: DispatcherHarness;
beforeEach(() => {
  harness = new DispatcherHarness();
});
afterEach(() => harness.close());

const change = (set: FunctionEvents[], remove: DispatcherChange['remove'] = []): DispatcherChange => ({
  type: 'change',
  set,
  remove,
  secrets: {},
});
const gone = { namespace: 'default', name: 'hello', deleted: true };

/** A store of which one call waits until the gate opens. */
function gated(name: 'forget' | 'join', failures = 0) {
  const gate = Promise.withResolvers<void>();
  let failed = 0;
  const wrap = (store: EventStore): EventStore => {
    const call = store[name].bind(store) as (...args: unknown[]) => Promise<unknown>;
    const later = async (...args: unknown[]) => {
      await gate.promise;
      if (failed++ < failures) throw new Error('the store is away');
      return await call(...args);
    };
    return new Proxy(store, {
      get: (target, key) => {
        if (key === name) return later;
        const value: unknown = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  };
  return { wrap, open: () => gate.resolve() };
}

describe('a function that is deleted and made anew', () => {
  it('accepts nothing until what the old one had is gone: else that would go with it', async () => {
    const { wrap, open } = gated('forget', 1);
    const { gateway, dispatcher } = await harness.ready(undefined, { wrap });
    const old = await gateway.accepted('hello', { delayMs: 60_000 });
    dispatcher.change(change([functionEvents('hello')], [gone]));
    expect(await gateway.accept('hello')).toMatchObject({ type: 'refused', problem: { code: 'events-unavailable' } });
    open();
    const id = await waitFor('it to accept again', async () => {
      const answer = await gateway.accept('hello');
      return answer.type === 'accepted' && answer.id;
    });
    await waitFor('the new one to be called', () => gateway.deliveries.length > 0);
    const read = async (of: string) => {
      const answer = await gateway.invocation(of, 'read');
      if (answer.type !== 'invocation') throw new Error(`not answered: ${JSON.stringify(answer)}`);
      return answer.found === null ? null : InvocationView.parse(JSON.parse(answer.found.view));
    };
    expect(await read(old)).toBeNull();
    await waitFor('its end', async () => (await read(id))?.state === 'succeeded');
  });
});

describe('a change that comes while the store is away', () => {
  it('is not undone when the dispatcher is up', async () => {
    const { wrap, open } = gated('join');
    const { dispatcher, triggers, started } = await harness.start({ wrap });
    const applied: number[] = [];
    triggers.apply = (set: readonly { timeoutMs: number }[]) => void applied.push(...set.map(({ timeoutMs }) => timeoutMs));
    dispatcher.change(change([functionEvents('hello', {}, { timeoutMs: 7 })]));
    open();
    await started;
    expect(applied.at(-1)).toBe(7);
  });
});

describe('many that take long', () => {
  it('leave room for those of other functions', async () => {
    const slow = functionEvents('slow', {}, { maxSlots: 100_000, instanceSlots: 100_000 });
    const { gateway } = await harness.ready(({ name }) => (name === 'slow' ? null : { status: 200 }), {
      functions: [slow, functionEvents('quick')],
    });
    for (let i = 0; i < 5; i++) await Promise.all(range(500).map(() => gateway.accepted('slow')));
    await waitFor('the slow ones', () => gateway.deliveries.length > 900);
    await gateway.accepted('quick');
    const quick = await waitFor('the quick one', () => gateway.deliveries.find(({ name }) => name === 'quick'));
    expect(quick.kind).toBe('invocation');
  });
});

describe('a pause that the function asks for', () => {
  it.each([
    ['seconds', () => '3600'],
    ['a date', () => new Date(Date.now() + 3_600_000).toUTCString()],
  ])('as %s is kept', async (_, pause) => {
    const { gateway, dispatcher } = await harness.ready(() => ({ status: 503, headers: ['retry-after', pause()] }));
    const id = await gateway.accepted('hello');
    const view = await waitFor('the first attempt', async () => {
      const found = await dispatcher.questions.getInvocation('default', 'hello', id);
      return found.state === 'retrying' && found;
    });
    expect(view.dueAt! - view.createdAt).toBeGreaterThan(3_500_000);
  });
});

describe('what the store refuses to be told', () => {
  it('is worked on again: it is not left claimed for as long as the dispatcher lives', async () => {
    let refused = 0;
    const wrap = (store: EventStore): EventStore =>
      new Proxy(store, {
        get: (target, key) => {
          if (key === 'settle' && refused === 0)
            return async () => {
              refused += 1;
              throw new TypeError('a bug of ours');
            };
          const value: unknown = Reflect.get(target, key);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    const { gateway, dispatcher } = await harness.ready(undefined, { wrap });
    const id = await gateway.accepted('hello');
    await waitFor('its end', async () => (await dispatcher.questions.getInvocation('default', 'hello', id)).state === 'succeeded');
    expect(gateway.deliveries).toHaveLength(2);
  });
});
