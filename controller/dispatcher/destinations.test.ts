/** What becomes of an outcome: at a function, a webhook, a broker. */
import { createHash, createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Destination } from '#contract/events.ts';
import { Trigger } from '#contract/trigger.ts';
import { newEventId } from '#kit/ids.ts';
import { DispatcherHarness, functionEvents, noPublishers } from '../../test/helpers/dispatcher-harness.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import type { OutgoingEvent } from '../triggers/types.ts';
import { headerOf } from './headers.ts';
import { encodePayload } from './payload.ts';

let harness: DispatcherHarness;
let server: Server;
let url: string;
const received: { headers: IncomingMessage['headers']; path: string; body: string }[] = [];
let answers: { status: number; headers?: Record<string, string> }[] = [];

beforeEach(async () => {
  harness = new DispatcherHarness();
  received.length = 0;
  answers = [];
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      received.push({ headers: request.headers, path: request.url ?? '', body: Buffer.concat(chunks).toString('utf8') });
      const { status, headers } = answers.shift() ?? { status: 204 };
      response.writeHead(status, headers).end();
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?a=1`;
});
afterEach(async () => {
  await harness.close();
  await new Promise((resolve) => {
    server.close(resolve);
  });
});

const hook = (more: object = {}): Destination => ({ type: 'webhook', url, secret: null, ...more });

describe('a webhook', () => {
  it('gets the outcome, signed, and again until it takes it, with the same id', async () => {
    answers = [{ status: 500 }, { status: 302, headers: { location: url } }];
    const secret = `whsec_${Buffer.from('key').toString('base64')}`;
    const functions = [functionEvents('hello', { onSuccess: [hook({ secret: 'HOOK' })] })];
    const { gateway } = await harness.ready(() => ({ status: 200, body: 'fine' }), { functions, secrets: { 'default/HOOK': secret } });
    const id = await gateway.accepted('hello', { body: 'x' });
    await waitFor('the third attempt', () => received.length === 3);
    const { headers, path, body } = received[2]!;
    expect([path, headers['content-type']]).toEqual(['/hook?a=1', 'application/cloudevents+json; charset=utf-8']);
    const ids = received.map((one) => one.headers['webhook-id']);
    expect(ids).toEqual([`${id}.succeeded`, `${id}.succeeded`, `${id}.succeeded`]);
    const signed = createHmac('sha256', 'key').update(`${ids[2]}.${headers['webhook-timestamp']}.${body}`).digest('base64');
    expect(headers['webhook-signature']).toBe(`v1,${signed}`);
    expect(JSON.parse(body)).toMatchObject({
      specversion: '1.0',
      type: 'fn.invocation.succeeded',
      data: { invocation: { id, state: 'succeeded' }, request: { body: 'x' }, response: { status: 200, body: 'fine' } },
    });
  });

  it('that may not be dialled is not, and what was for it is a dead letter of the function', async () => {
    const functions = [functionEvents('hello', { onFailure: [hook()], maxAttempts: 1, maxAgeSeconds: 3 }, { networks: [] })];
    const { gateway, dispatcher } = await harness.ready(() => ({ status: 500 }), { functions });
    await gateway.accepted('hello');
    const letters = await waitFor('both to be dead', async () => {
      const list = await dispatcher.questions.listDeadLetters('default', 'hello', {});
      return list.total === 2 ? list.deadLetters : null;
    });
    expect(letters.map(({ reason }) => reason)).toEqual(['undeliverable', 'attempts']);
    expect(letters[0]!.error.code).toBe('forbidden');
    expect(letters[0]!.event.type).toBe('fn.invocation.failed');
    expect(received).toEqual([]);
  });
});

describe('a function', () => {
  it('gets the outcome as an event; a chain of them ends', async () => {
    const loop: Destination = { type: 'function', name: 'hello' };
    const functions = [functionEvents('hello', { onSuccess: [loop] })];
    const { gateway, dispatcher } = await harness.ready(() => ({ status: 200 }), { functions });
    await gateway.accepted('hello');
    await waitFor('the chain to end', () => {
      const [stats] = dispatcher.stats();
      return gateway.deliveries.length === 17 && stats?.running === 0 && stats.waiting === 0;
    });
    const second = gateway.deliveries[1]!;
    expect(second).toMatchObject({ kind: 'event', request: { method: 'POST', path: '/' } });
    const names = ['ce-type', 'ce-hops', 'content-type', 'ce-attempt'];
    expect(names.map((name) => headerOf(second.request.headers, name))).toEqual(['fn.invocation.succeeded', '1', 'application/json', '1']);
    expect(headerOf(gateway.deliveries[16]!.request.headers, 'ce-hops')).toBe('16');
  });

  it('gets it also where a client has taken the key that it would be known by', async () => {
    const of = functionEvents('hello');
    const { gateway, triggers } = await harness.ready(() => ({ status: 200 }), { functions: [of, functionEvents('graves')] });
    const key = createHash('sha256').update('hello\n/s\n1').digest('base64url');
    await gateway.accepted('graves', { idempotencyKey: `publish:${key}`, body: 'mine' });
    const event: OutgoingEvent = { attributes: { specversion: '1.0', id: '1', source: '/s', type: 't' }, data: Buffer.from('x') };
    await triggers.host?.publish(of, { type: 'function', name: 'graves' }, event);
    await waitFor('both', () => gateway.deliveries.length === 2);
    expect(gateway.bodies().sort()).toEqual(['mine', 'x']);
  });

  it('that is not there yet gets the outcome when it is', async () => {
    const functions = [functionEvents('hello', { onSuccess: [{ type: 'function', name: 'ledger' }], retryMaxSeconds: 0.2 })];
    const { gateway, dispatcher } = await harness.ready(() => ({ status: 200 }), { functions });
    const id = await gateway.accepted('hello');
    await waitFor('it to be put off', () => dispatcher.stats().some(({ running, waiting }) => running === 0 && waiting === 1));
    dispatcher.change({ type: 'change', set: [functionEvents('ledger')], remove: [], secrets: {} });
    await waitFor('the outcome', () => gateway.deliveries.length === 2);
    const outcome = gateway.deliveries[1]!;
    expect([outcome.name, headerOf(outcome.request.headers, 'ce-id')]).toEqual(['ledger', `${id}.succeeded`]);
  });

  it('that passes each outcome on to itself four times makes no flood of one event', async () => {
    const loop: Destination = { type: 'function', name: 'hello' };
    const functions = [functionEvents('hello', { onSuccess: [loop, loop, loop, loop] })];
    const { gateway, dispatcher } = await harness.ready(() => ({ status: 200 }), { functions });
    await gateway.accepted('hello');
    const all = 1 + 4 + 16 + 64 + 256;
    await waitFor('the chain to end', () => {
      const [stats] = dispatcher.stats();
      return gateway.deliveries.length >= all && stats?.running === 0 && stats.waiting === 0;
    });
    expect(gateway.deliveries).toHaveLength(all);
  });

  it('gets what a trigger gives up once, however often that is repeated', async () => {
    const of = functionEvents('hello');
    const { gateway, triggers } = await harness.ready(() => ({ status: 200 }), { functions: [of, functionEvents('graves')] });
    const event: OutgoingEvent = { attributes: { specversion: '1.0', id: '1', source: '/s', type: 't' }, data: Buffer.from('x') };
    const to: Destination = { type: 'function', name: 'graves' };
    for (const _ of [1, 2]) await triggers.host?.publish(of, to, event);
    await triggers.host?.publish(of, to, { ...event, attributes: { ...event.attributes, id: '2' } });
    await waitFor('both', () => gateway.deliveries.length === 2);
    expect(gateway.deliveries.map(({ name, request }) => [name, headerOf(request.headers, 'ce-id')])).toEqual([
      ['graves', '1'],
      ['graves', '2'],
    ]);
    await expect(triggers.host?.publish(of, { type: 'function', name: 'gone' }, event)).rejects.toMatchObject({
      code: 'function-not-found',
    });
  });
});

describe('a broker', () => {
  it('is dialled once for many events, with its secrets filled in, and anew after a failure', async () => {
    const published: OutgoingEvent[] = [];
    const urls: string[] = [];
    let closed = 0;
    const nats: Destination = { type: 'nats', url: 'nats://u:${secret:PW}@broker.test:4222', subject: 's' };
    const functions = [functionEvents('hello', { onSuccess: [nats] })];
    let broken = false;
    const publishers = {
      ...noPublishers,
      nats: async () => ({
        openPublisher: async ({ destination }: { destination: { url: string } }) => {
          urls.push(destination.url);
          return {
            publish: async (event: OutgoingEvent) => {
              if (broken) throw new Error('no confirmation');
              published.push(event);
            },
            close: async () => {
              closed += 1;
            },
          };
        },
      }),
    };
    const { gateway } = await harness.ready(() => ({ status: 200 }), { functions, publishers, secrets: { 'default/PW': 'a@b' } });
    for (const _ of [1, 2, 3]) await gateway.accepted('hello');
    await waitFor('three', () => published.length === 3);
    expect(urls).toEqual(['nats://u:a%40b@broker.test:4222']);
    broken = true;
    await gateway.accepted('hello');
    await waitFor('the connection to be given up', () => closed >= 1);
    broken = false;
    await waitFor('the fourth', () => published.length === 4);
    expect(urls.length).toBeGreaterThanOrEqual(2);
  });
});

describe('a trigger’s own queue of dead letters', () => {
  it('gets the event as it came, and the function’s own has none of it', async () => {
    const published: OutgoingEvent[] = [];
    const publishers = {
      ...noPublishers,
      nats: async () => ({
        openPublisher: async () => ({
          publish: async (event: OutgoingEvent) => {
            published.push(event);
          },
          close: async () => {},
        }),
      }),
    };
    const deadLetter = { type: 'nats', url: 'nats://broker.test:4222', subject: 's' };
    const tick = Trigger.parse({ type: 'cron', name: 'tick', schedule: '* * * * *', maxAttempts: 2, retryBaseSeconds: 0.01, deadLetter });
    const functions = [functionEvents('hello', {}, { triggers: [tick] })];
    const { dispatcher, triggers, gateway } = await harness.ready(() => ({ status: 500 }), { functions, publishers });
    const at = Date.now();
    const headers = ['ce-specversion', '1.0', 'ce-id', 'tick-1', 'ce-source', '/s', 'ce-type', 't', 'content-type', 'text/plain'];
    const body = Buffer.from('now');
    await triggers.host?.enqueue([
      {
        id: newEventId(),
        lane: 'default/hello',
        namespace: 'default',
        name: 'hello',
        trigger: 'tick',
        dedup: null,
        orderKey: null,
        createdAt: at,
        dueAt: at,
        expiresAt: at + 60_000,
        payload: encodePayload({ kind: 'schedule', revision: null, traceparent: null, method: 'POST', path: '/', headers, body }),
      },
    ]);
    const [event] = await waitFor('it to be given up', () => (published.length > 0 ? published : null));
    expect(gateway.deliveries).toHaveLength(2);
    expect(Buffer.from(event!.data).toString('utf8')).toBe('now');
    expect(event!.attributes).toMatchObject({ id: 'tick-1', deadreason: 'attempts', deaderror: 'function-error', deadattempts: '2' });
    await waitFor('the function’s own to be empty', async () => {
      const { total } = await dispatcher.questions.listDeadLetters('default', 'hello', {});
      return total === 0;
    });
  });
});
