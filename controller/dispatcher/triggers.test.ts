import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AsyncSettings } from '#contract/events.ts';
import { Trigger, type TriggerInput } from '#contract/trigger.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { MemoryBroker, TestHost, answered, functionOf } from './trigger-testing.ts';
import { type SourceAdapters, createTriggers } from './triggers.ts';
import type { FunctionEvents, Triggers } from './types.ts';

const unused = () => Promise.reject(new Error('this test has no trigger of that type'));
let host: TestHost;
let broker: MemoryBroker;
let loaded: number;
let triggers: Triggers;

beforeEach(() => {
  host = new TestHost();
  broker = new MemoryBroker();
  loaded = 0;
  const source: SourceAdapters = {
    'redis-stream': async () => {
      loaded += 1;
      return { openSource: broker.open };
    },
    'redis-list': unused,
    rabbitmq: unused,
    nats: unused,
    mqtt: unused,
    kafka: unused,
  };
  triggers = createTriggers(host, { source });
});
afterEach(() => triggers.close(0));

const of = (inputs: TriggerInput[], more: Partial<FunctionEvents> = {}) =>
  functionOf({ triggers: inputs.map((input) => Trigger.parse(input)), ...more }, AsyncSettings.parse({}));
const stream = (more: object = {}): TriggerInput => ({ type: 'redis-stream', name: 'in', url: 'redis://x', stream: 's', ...more });
const cron = (more: object = {}): TriggerInput => ({ type: 'cron', name: 'tick', schedule: '@hourly', ...more });
const hook: TriggerInput = { type: 'webhook', name: 'hook', verify: { scheme: 'none' } };
const states = async () =>
  Object.fromEntries(Object.entries(await triggers.status('default', 'orders')).map(([name, { state }]) => [name, state]));
const running = (name = 'in') => waitFor(`${name} to run`, async () => (await states())[name] === 'running');

describe('triggers', () => {
  it('run as the functions say: none, paused, running, removed', async () => {
    expect([triggers.active, await states()]).toEqual([false, {}]);
    triggers.apply([of([stream({ enabled: false }), cron({ enabled: false }), hook])], []);
    expect([triggers.active, await states(), loaded]).toEqual([false, { in: 'paused', tick: 'paused', hook: 'running' }, 0]);
    triggers.apply([of([stream(), cron()])], []);
    await running();
    await running('tick');
    expect([triggers.active, loaded, Object.keys(await states())]).toEqual([true, 1, ['in', 'tick']]);
    triggers.apply([], [{ namespace: 'default', name: 'orders', deleted: true }]);
    expect([triggers.active, await states()]).toEqual([false, {}]);
  });

  it('go on undisturbed where nothing of theirs has changed', async () => {
    triggers.apply([of([stream()])], []);
    await running();
    triggers.apply([of([stream(), hook], { maxSlots: 3, timeoutMs: 9 })], []);
    await running();
    expect(broker.opened).toBe(1);
  });

  it('begin anew where they have changed, when what was in flight has ended', async () => {
    let go: () => void = () => {};
    const gate = new Promise<void>((resolve) => (go = resolve));
    const paths: string[] = [];
    host.answer(async (_events, { request }) => {
      paths.push(request.path);
      await gate;
      return answered(200);
    });
    broker.send('1', 'x');
    triggers.apply([of([stream()])], []);
    await waitFor('the call', () => paths.length === 1);
    triggers.apply([of([stream({ path: '/a' })])], []);
    triggers.apply([of([stream({ path: '/b' })])], []);
    expect([broker.opened, await states()]).toEqual([1, { in: 'connecting' }]);
    go();
    await running();
    broker.send('2', 'x');
    await waitFor('the second call', () => paths.length === 2);
    expect([broker.opened, paths]).toEqual([2, ['/', '/b']]);
  });

  it('begin anew where a secret of theirs has changed, and only then', async () => {
    triggers.apply([of([stream({ url: 'redis://:${secret:PASSWORD}@x' })])], []);
    await running();
    triggers.secretsChanged(new Set(['default/OTHER', 'lab/PASSWORD']));
    triggers.secretsChanged(new Set(['default/PASSWORD']));
    await waitFor('the second one', () => broker.opened === 2);
    await running();
    expect(loaded).toBe(2);
  });

  it('begin anew where the change comes while they open', async () => {
    triggers.apply([of([stream({ url: 'redis://:${secret:PASSWORD}@x' })])], []);
    triggers.secretsChanged(new Set(['default/PASSWORD']));
    await running();
    expect(broker.opened).toBe(2);
  });

  it('forget their last tick with the trigger, and keep it over a change', async () => {
    triggers.apply([of([cron()])], []);
    await running('tick');
    expect([...host.state.keys()]).toEqual(['cron/default/orders/tick/']);
    triggers.apply([of([cron({ enabled: false })])], []);
    expect(host.state.size).toBe(1);
    triggers.apply([of([])], []);
    await waitFor('the state to go', () => host.state.size === 0);
    expect(triggers.active).toBe(false);
  });

  it('take webhooks of their function only', async () => {
    triggers.apply([of([hook, stream({ enabled: false })])], []);
    const send = (name: string, trigger: string) =>
      triggers.webhook({
        type: 'webhook',
        seq: 1,
        namespace: 'default',
        name,
        trigger,
        request: { method: 'POST', path: '/', headers: [], body: { text: 'x' } },
        requestId: 'r',
        traceparent: null,
      });
    const answers = await Promise.all([send('orders', 'hook'), send('other', 'hook'), send('orders', 'in'), send('orders', 'constructor')]);
    expect(answers.map(({ status }) => status)).toEqual([202, 404, 404, 404]);
    expect(new Set(answers.slice(1).map(({ body }) => body.toString())).size).toBe(1);
  });

  it('end in order, once', async () => {
    triggers.apply([of([stream()])], []);
    await running();
    await Promise.all([triggers.close(1_000), triggers.close(1_000)]);
    triggers.apply([of([stream()])], []);
    expect([broker.opened, triggers.active]).toEqual([1, false]);
  });
});
