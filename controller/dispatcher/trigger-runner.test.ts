import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { AsyncSettings } from '#contract/events.ts';
import { RedisStreamTrigger } from '#contract/trigger.ts';
import { range, waitFor } from '../../test/helpers/wait.ts';
import { decodePayload } from './payload.ts';
import { TriggerRunner } from './trigger-runner.ts';
import { MemoryBroker, type TestEvent, TestHost, answered, functionOf, undelivered } from './trigger-testing.ts';

const of = functionOf({}, AsyncSettings.parse({}));
const FAST = { retryBaseSeconds: 0.01, retryMaxSeconds: 0.05 };
const shape = (more: object) =>
  RedisStreamTrigger.parse({ type: 'redis-stream', name: 'in', url: 'redis://x', stream: 's', ...FAST, ...more });

let host: TestHost;
let broker: MemoryBroker;
const runners: TriggerRunner[] = [];
/** Calls as they came. */
let calls: TestEvent[][];

function run(more: object = {}): TriggerRunner {
  const runner = new TriggerRunner({ host, of, trigger: shape(more), open: broker.open });
  runners.push(runner);
  runner.start();
  return runner;
}
const idle = () => waitFor('all messages to be done', () => broker.waiting.length === 0 && broker.taken.size === 0);

beforeEach(() => {
  host = new TestHost();
  broker = new MemoryBroker();
  calls = [];
  host.answer((events) => {
    calls.push(events);
    return answered(200);
  });
});
afterEach(() => Promise.all(runners.splice(0).map((runner) => runner.close(0))));

const ids = (count: number): string[] => range(count).map((n) => `m${n}`);
const sendAll = (names: readonly string[]) => names.forEach((name) => broker.send(name, `{"n":"${name}"}`));

describe('batches', () => {
  it('of one go in binary mode, each acknowledged', async () => {
    let headers: string[] = [];
    host.answer((events, delivery) => {
      calls.push(events);
      headers = delivery.request.headers;
      expect(delivery.kind).toBe('queue');
      return answered(204);
    });
    broker.send('a ü"%', 'x', { subject: 'line\nbreak', time: 0 });
    run();
    await idle();
    expect(calls).toEqual([[{ id: 'a%20%C3%BC%22%25', attempt: 1, data: 'x' }]]);
    const of = (name: string) => headers[headers.indexOf(name) + 1];
    expect([of('ce-specversion'), of('ce-subject'), of('ce-time'), of('ce-trigger'), of('content-type')]).toEqual([
      '1.0',
      'line%0Abreak',
      '1970-01-01T00:00:00.000Z',
      'in',
      'text/plain; charset=utf-8',
    ]);
  });

  it('are full where there is enough, and wait for their window where not', async () => {
    sendAll(ids(7));
    run({ batchSize: 5, batchWindowMs: 200, concurrency: 1 });
    await idle();
    expect(calls.map((events) => events.length)).toEqual([5, 2]);
    expect(calls.flat().map(({ id }) => id)).toEqual(ids(7));
  });

  it('keep the digits of long numbers, and carry bytes and text', async () => {
    let body = '';
    host.answer((_events, { request }) => {
      body = 'text' in request.body ? request.body.text : '';
      return answered(200);
    });
    broker.send('n', '{"n":12345678901234567890.10}');
    broker.send('t', 'plain "text"');
    broker.send('b', Uint8Array.from([0xff, 0x00]));
    broker.send('e', '');
    run({ batchSize: 4, batchWindowMs: 500 });
    await idle();
    expect(body).toContain('"data":{"n":12345678901234567890.10}');
    expect(JSON.parse(body)).toMatchObject([
      { id: 'n', attempt: 1, datacontenttype: 'application/json' },
      { id: 't', data: 'plain "text"' },
      { id: 'b', data_base64: '/wA=' },
      { id: 'e' },
    ]);
  });

  it('fail in part: only those that were named come again', async () => {
    host.answer((events) => {
      calls.push(events);
      const failing = events.filter(({ id, attempt }) => id === 'm1' && attempt < 3);
      return answered(200, { batchItemFailures: failing.map(({ id }) => ({ itemIdentifier: id })) });
    });
    sendAll(ids(3));
    const runner = run({ batchSize: 3, batchWindowMs: 100 });
    await idle();
    expect(calls.map((events) => events.map(({ id, attempt }) => `${id}:${attempt}`))).toEqual([
      ['m0:1', 'm1:1', 'm2:1'],
      ['m1:2'],
      ['m1:3'],
    ]);
    expect(runner.status()).toMatchObject({ succeeded: 3, failed: 2, deadLettered: 0 });
  });

  it('fail as a whole where the answer names a message that was not in it, or none that can be read', async () => {
    const answers = [{ batchItemFailures: [{ itemIdentifier: 'nobody' }] }, { batchItemFailures: 7 }];
    host.answer((events) => {
      calls.push(events);
      return answered(200, answers.shift() ?? '');
    });
    sendAll(['m0']);
    run({ batchSize: 2 });
    await idle();
    expect(calls.length).toBe(3);
  });

  it('with a poisonous message cost no other its life', async () => {
    host.answer((events) => (events.some(({ id }) => id === 'm13') ? answered(500, 'poison') : answered(200)));
    sendAll(ids(40));
    const runner = run({ batchSize: 10, maxAttempts: 3 });
    await idle();
    expect(host.dead.map(({ message, reason, attempts, error }) => [message, reason, attempts, error.status])).toEqual([
      ['m13', 'attempts', 3, 500],
    ]);
    expect(broker.acknowledged.toSorted()).toEqual(ids(40).toSorted());
    expect(runner.status()).toMatchObject({ succeeded: 39, deadLettered: 1 });
  });
});

describe('failures', () => {
  it('are counted, and end as a dead letter that has all of the event', async () => {
    host.answer((events) => {
      calls.push(events);
      return answered(500, 'no');
    });
    broker.send('p', '{"a":1}', { extensions: { color: 'red' } });
    run({ maxAttempts: 3, path: '/in' });
    await idle();
    expect(calls.map(([event]) => event!.attempt)).toEqual([1, 2, 3]);
    const [letter] = host.dead;
    expect(letter).toMatchObject({ message: 'p', reason: 'attempts', attempts: 3, request: 'r-1' });
    expect(letter!.event).toMatchObject({ lane: 'default/orders', trigger: 'in' });
    const { body, headers, ...rest } = decodePayload(letter!.event.payload);
    expect(rest).toMatchObject({ kind: 'queue', method: 'POST', path: '/in' });
    expect(body.toString()).toBe('{"a":1}');
    expect(headers).toContain('ce-color');
    expect(headers).not.toContain('ce-attempt');
  });

  it('of the platform do not count, and slow down all', async () => {
    let refused = 0;
    host.answer((events) => {
      calls.push(events);
      return ++refused <= 3 ? undelivered('no-capacity', 0.05) : answered(200);
    });
    sendAll(ids(3));
    const runner = run({ maxAttempts: 1 });
    await idle();
    expect(host.dead).toEqual([]);
    expect(calls.every((events) => events.every(({ attempt }) => attempt === 1))).toBe(true);
    expect(runner.status()).toMatchObject({ succeeded: 3, failed: 0 });
  });

  it('whose age is over end', async () => {
    host.answer(() => answered(500));
    sendAll(['old']);
    run({ maxAttempts: 100, maxAgeSeconds: 1, retryBaseSeconds: 0.3, retryMaxSeconds: 0.4 });
    await idle();
    expect(host.dead.map(({ reason }) => reason)).toEqual(['age']);
  });

  it('are not acknowledged before the dead letter is kept', async () => {
    host.answer(() => answered(500));
    host.away = new FnError('store-unavailable', 'the store is away');
    sendAll(['kept']);
    const runner = run({ maxAttempts: 1 });
    await waitFor('the trouble to be told', () => runner.status().state === 'failing');
    expect(runner.status().detail).toContain('the store is away');
    expect(broker.taken.has('kept')).toBe(true);
    host.away = null;
    await idle();
    expect(host.dead.length).toBe(1);
    expect(runner.status()).toMatchObject({ state: 'running', deadLettered: 1 });
  });

  it('go to the destination that is named, with the reason', async () => {
    host.answer(() => answered(500));
    sendAll(['sent']);
    run({ maxAttempts: 1, deadLetter: { type: 'redis-list', url: 'redis://x', list: 'dead' } });
    await idle();
    expect(host.dead).toEqual([]);
    expect(host.published.map(({ attributes }) => attributes)).toMatchObject([
      { id: 'sent', deadreason: 'attempts', deadattempts: '1', deadfunction: 'default/orders' },
    ]);
  });

  it('of workers before us count, and one attempt is left', async () => {
    host.answer((events) => {
      calls.push(events);
      return answered(500);
    });
    broker.send('worn', 'x', { deliveries: 50 });
    run({ maxAttempts: 5 });
    await idle();
    expect(calls.map(([event]) => event!.attempt)).toEqual([5]);
    expect(host.dead.map(({ attempts }) => attempts)).toEqual([5]);
  });
});

describe('what is not delivered', () => {
  it('is acknowledged and counted where the filter does not want it', async () => {
    sendAll(ids(4));
    const runner = run({ filter: { data: { n: [{ 'anything-but': ['m1', 'm2'] }] } } });
    await idle();
    expect(calls.flat().map(({ id }) => id)).toEqual(['m0', 'm3']);
    expect(runner.status()).toMatchObject({ filtered: 2, succeeded: 2 });
  });

  it('is a dead letter as it is where it is too large', async () => {
    broker.send('big', 'x'.repeat(101));
    broker.send('fits', 'x'.repeat(100));
    run({ maxPayloadBytes: 100 });
    await idle();
    expect(calls.flat().map(({ id }) => id)).toEqual(['fits']);
    expect(host.dead).toMatchObject([{ message: 'big', reason: 'too-large', attempts: 0 }]);
    expect(decodePayload(host.dead[0]!.event.payload).body.length).toBe(101);
  });
});

describe('order', () => {
  it('is kept within a key, also while one of it fails, and delays no other key', async () => {
    let open = false;
    host.answer((events) => {
      calls.push(events);
      return events.some(({ id }) => id === 'a0') && !open ? answered(500) : answered(200);
    });
    for (const n of range(3)) broker.send(`a${n}`, 'x', { orderKey: 'a' });
    for (const n of range(3)) broker.send(`b${n}`, 'x', { orderKey: 'b' });
    run({ maxAttempts: 100, concurrency: 4 });
    await waitFor('the other key', () => broker.acknowledged.includes('b2'));
    expect(broker.acknowledged.filter((id) => id.startsWith('a'))).toEqual([]);
    open = true;
    await idle();
    expect(broker.acknowledged.filter((id) => id.startsWith('a'))).toEqual(['a0', 'a1', 'a2']);
    expect(broker.acknowledged.filter((id) => id.startsWith('b'))).toEqual(['b0', 'b1', 'b2']);
  });

  it('is kept whatever fails together', async () => {
    const done: string[] = [];
    let turn = 0;
    host.answer((events) => {
      turn += 1;
      if (turn % 5 === 0) return undelivered('instance-lost');
      if (turn % 3 === 0) return answered(500);
      done.push(...events.map(({ id }) => id));
      return answered(200);
    });
    for (const n of range(60)) broker.send(`m${n}`, 'x', { orderKey: `k${n % 4}` });
    run({ batchSize: 7, concurrency: 3, maxAttempts: 100 });
    await waitFor('all messages to be done', () => done.length === 60, { timeoutMs: 40_000 });
    for (const key of range(4))
      expect(done.filter((id) => Number(id.slice(1)) % 4 === key)).toEqual(ids(60).filter((_id, n) => n % 4 === key));
    expect(host.dead).toEqual([]);
  });

  it('holds in batches: those of one key go together, and never beside each other', async () => {
    const under = new Set<string>();
    host.answer(async (events) => {
      calls.push(events);
      const keys = new Set(events.map(({ data }) => data));
      for (const key of keys) {
        expect(under.has(key)).toBe(false);
        under.add(key);
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
      for (const key of keys) under.delete(key);
      return answered(200);
    });
    for (const n of range(100)) broker.send(`m${n}`, `k${n % 3}`, { orderKey: `k${n % 3}` });
    run({ batchSize: 7, concurrency: 8 });
    await idle();
    for (const key of ['k0', 'k1', 'k2'])
      expect(
        calls
          .flat()
          .filter(({ data }) => data === key)
          .map(({ id }) => id),
      ).toEqual(ids(100).filter((_id, n) => `k${n % 3}` === key));
  });
});

describe('the broker', () => {
  it('that is away is told of, and found again', async () => {
    broker.away = new Error('connection refused');
    const runner = run();
    await waitFor('the failure', () => runner.status().state === 'failing');
    expect(runner.status().detail).toBe('connection refused');
    broker.away = null;
    sendAll(ids(2));
    await idle();
    expect(runner.status()).toMatchObject({ state: 'running', detail: null, succeeded: 2 });
  });

  it('that lost an acknowledgement gives the message again, and the function does not get it again', async () => {
    broker.failAcks = 1;
    sendAll(['once']);
    const runner = run();
    await waitFor('the call', () => calls.length === 1);
    broker.redeliver();
    await idle();
    expect(calls.length).toBe(1);
    expect(runner.status()).toMatchObject({ succeeded: 1, inFlight: 0 });
  });

  it('is told again and again of what is held', async () => {
    let go: () => void = () => {};
    const gate = new Promise<void>((resolve) => (go = resolve));
    host.answer(async () => {
      await gate;
      return answered(200);
    });
    sendAll(['long']);
    run();
    await waitFor('touches', () => broker.touches >= 2);
    go();
    await idle();
    expect(host.mostCalls).toBe(1);
  });

  it('is not asked for more than can be held', async () => {
    let go: () => void = () => {};
    const gate = new Promise<void>((resolve) => (go = resolve));
    host.answer(async () => {
      await gate;
      return answered(200);
    });
    sendAll(ids(500));
    run({ concurrency: 2, batchSize: 3 });
    await waitFor('both calls', () => host.calls === 2);
    // Two batches under way, and what is taken ahead.
    expect(broker.taken.size).toBeLessThanOrEqual(2 * 3 + 64);
    go();
    await idle();
    expect(host.mostCalls).toBe(2);
  });
});

describe('the end', () => {
  it('lets calls end, and gives the rest back', async () => {
    let go: () => void = () => {};
    const gate = new Promise<void>((resolve) => (go = resolve));
    host.answer(async (events) => {
      calls.push(events);
      await gate;
      return answered(200);
    });
    sendAll(ids(3));
    const runner = run({ concurrency: 1 });
    await waitFor('the call', () => calls.length === 1);
    const closed = runner.close(10_000);
    go();
    await closed;
    expect(broker.acknowledged).toEqual(['m0']);
    expect(broker.waiting.map(({ id }) => id)).toEqual(['m1', 'm2']);
  });

  it('cuts off what does not end, and gives it back', async () => {
    host.answer(() => new Promise(() => {}));
    sendAll(['stuck']);
    const runner = run();
    await waitFor('the call', () => host.calls === 1);
    await runner.close(10);
    expect(broker.waiting.map(({ id }) => id)).toEqual(['stuck']);
    expect(broker.acknowledged).toEqual([]);
  });
});
