/** Events on their way to functions: what the function sees, and what the dispatcher is told. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { decodeBody } from '#kit/event-body.ts';
import { type RouteOverrides, testRoute } from '../test/helpers/gateway-controller.ts';
import type { Delivered } from '../test/helpers/gateway-dispatcher.ts';
import { startInstance, startRawInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, withGateway } from '../test/helpers/gateway-harness.ts';
import { call } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

type Handler = (incoming: IncomingMessage, outgoing: ServerResponse) => void;

const withEvents = (body: (harness: Harness) => Promise<void>, config: Parameters<typeof withGateway>[1] = {}) =>
  withGateway(body, { events: 'up', ...config });

/** An instance, routed as `hello` and granted when it is wanted. */
async function serve(harness: Harness, handler: Handler, route: RouteOverrides = {}, slots = 50) {
  const instance = await startInstance(harness.socket('hello'), handler);
  harness.defer(() => instance.stop());
  harness.controller.grantOnDemand(() => instance.address, slots);
  harness.controller.route('hello', route);
  await harness.controller.settled();
  return instance;
}

const bodyOf = ({ response }: Delivered): string => (response === null ? 'none' : decodeBody(response.body).toString('latin1'));

describe('an event', () => {
  it('is seen by the function as it was stored, with what the platform adds', async () => {
    await withEvents(async (harness) => {
      await serve(harness, (incoming, outgoing) => {
        incoming.on('data', (chunk: Buffer) => outgoing.setHeader('x-body', chunk.toString('hex')));
        incoming.on('end', () => {
          outgoing.setHeader('connection', 'x-hop').setHeader('x-hop', '1').setHeader('fn-secret', '1').setHeader('x-kept', 'yes');
          outgoing.end(JSON.stringify({ method: incoming.method, url: incoming.url, headers: incoming.headers }));
        });
      });
      const delivered = await harness.dispatcher.deliver({
        kind: 'invocation',
        method: 'PUT',
        path: '/a//b?x=%20',
        headers: ['host', 'example.test', 'x-forwarded-prefix', '/hello', 'ce-id', 'e-1'],
        body: { base64: Buffer.from([0xff, 0]).toString('base64') },
        traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
      });
      expect(delivered).toMatchObject({
        problem: null,
        retryAfterSeconds: null,
        revision: 'default/hello@1',
        response: { status: 200, truncated: false },
      });
      const seen = JSON.parse(bodyOf(delivered)) as { method: string; url: string; headers: Record<string, string> };
      expect(seen).toMatchObject({ method: 'PUT', url: '/a//b?x=%20' });
      expect(seen.headers).toMatchObject({
        host: 'example.test',
        'x-forwarded-prefix': '/hello',
        'ce-id': 'e-1',
        'fn-event': 'invocation',
        'fn-instance': delivered.instance,
        'x-request-id': delivered.requestId,
        'content-length': '2',
      });
      expect(seen.headers.traceparent).toMatch(/^00-4bf92f3577b34da6a3ce929d0e0e4736-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$/);
      expect(Number(seen.headers['fn-deadline'])).toBeGreaterThan(Date.now());
      const { headers } = delivered.response!;
      expect(headers).toEqual(expect.arrayContaining(['x-body', 'ff00', 'x-kept', 'yes']));
      for (const dropped of ['x-hop', 'fn-secret', 'connection']) expect(headers).not.toContain(dropped);
      expect(harness.gateway.state).toMatchObject({ delivering: 0, inFlight: 0 });
    });
  });

  it('without a host has that of the platform, and its own request id and trace', async () => {
    await withEvents(async (harness) => {
      await serve(harness, (incoming, outgoing) => outgoing.end(`${incoming.headers.host} ${incoming.headers.traceparent}`));
      const [one, two] = [await harness.dispatcher.deliver(), await harness.dispatcher.deliver()];
      expect(bodyOf(one)).toMatch(/^localhost:8080 00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
      expect(one.requestId).not.toBe(two.requestId);
      expect(bodyOf(one)).not.toBe(bodyOf(two));
    });
  });

  it('that fails in the function is told as the function answered', async () => {
    await withEvents(async (harness) => {
      await serve(harness, (_incoming, outgoing) => outgoing.writeHead(500, { 'retry-after': '9' }).end('\xff no'));
      const delivered = await harness.dispatcher.deliver();
      expect(delivered).toMatchObject({ problem: null, response: { status: 500, headers: expect.arrayContaining(['retry-after', '9']) } });
    });
  });

  it('has an answer of so many bytes, and the rest is read', async () => {
    await withEvents(async (harness) => {
      await serve(harness, (_incoming, outgoing) => outgoing.end('x'.repeat(100_000)));
      const delivered = await harness.dispatcher.deliver({ maxResponseBytes: 70_000 });
      expect([delivered.response!.truncated, bodyOf(delivered).length]).toEqual([true, 70_000]);
      const none = await harness.dispatcher.deliver({ maxResponseBytes: 0 });
      expect([none.response!.truncated, bodyOf(none)]).toEqual([true, '']);
      const whole = await harness.dispatcher.deliver({ maxResponseBytes: 100_000 });
      expect([whole.response!.truncated, bodyOf(whole).length]).toEqual([false, 100_000]);
    });
  });

  it('goes to the revision that it names, or as the traffic is', async () => {
    await withEvents(async (harness) => {
      const instances = await Promise.all(
        [1, 2].map((number) => startInstance(harness.socket(`i${number}`), (_incoming, outgoing) => outgoing.end(`${number}`))),
      );
      for (const instance of instances) harness.defer(() => instance.stop());
      harness.controller.grantOnDemand((revision) => instances[Number(revision.at(-1)) - 1]!.address);
      harness.controller.put(testRoute('default', 'hello', { 1: 0, 2: 100 }));
      await harness.controller.settled();
      expect(bodyOf(await harness.dispatcher.deliver())).toBe('2');
      expect(bodyOf(await harness.dispatcher.deliver({ revision: 'default/hello@1' }))).toBe('1');
      expect((await harness.dispatcher.deliver({ revision: 'default/hello@3' })).problem).toMatchObject({ code: 'revision-not-found' });
    });
  });

  it('is a call in the journal, that says what it was', async () => {
    await withEvents(async (harness) => {
      await serve(harness, (_incoming, outgoing) => outgoing.end('ok'));
      const { requestId } = await harness.dispatcher.deliver({ kind: 'schedule', path: '/tick?x' });
      harness.controller.send({ type: 'recall', id: requestId });
      const { calls } = await harness.controller.hear('recalled');
      expect(calls).toMatchObject([
        { id: requestId, status: 200, method: 'POST', path: '/hello/tick', event: 'schedule', revision: 'default/hello@1' },
      ]);
    });
  });
});

describe('what the function could not answer', () => {
  it.each<[string, string, RouteOverrides, (harness: Harness) => Handler]>([
    ['function-timeout', 'does not answer', { timeoutMs: 1_000 }, () => () => {}],
    [
      'function-bad-response',
      'breaks off',
      {},
      () => (_incoming, outgoing) => outgoing.writeHead(200, { 'content-length': '9' }).write('x', () => outgoing.destroy()),
    ],
    ['instance-lost', 'closes the connection', {}, () => (incoming) => incoming.socket.destroy()],
    [
      'function-crashed',
      'crashes',
      {},
      (harness) => (incoming) => {
        incoming.socket.destroy();
        harness.controller.send({ type: 'gone', instance: harness.controller.granted[0]!.instance, cause: 'exit', detail: 'code 1' });
      },
    ],
    [
      'function-oom',
      'is out of memory',
      {},
      (harness) => (incoming) => {
        incoming.socket.destroy();
        harness.controller.send({ type: 'gone', instance: harness.controller.granted[0]!.instance, cause: 'oom', detail: '64 MiB' });
      },
    ],
  ])('%s: it %s', async (code, _what, route, handler) => {
    await withEvents(async (harness) => {
      await serve(harness, handler(harness), route);
      const delivered = await harness.dispatcher.deliver();
      expect(delivered).toMatchObject({ response: null, problem: { code, instance: delivered.requestId }, revision: 'default/hello@1' });
      expect(delivered.instance).toMatch(/^i-/);
      if (code === 'function-timeout') expect(await harness.controller.hear('timeout')).toMatchObject({ request: delivered.requestId });
      expect(harness.gateway.state.delivering).toBe(0);
    });
  });

  it('as what came is no HTTP, or another protocol', async () => {
    await withEvents(async (harness) => {
      const instance = await startRawInstance(harness.socket('raw'), (socket, text) =>
        socket.write(
          text.includes('/upgrade') ? 'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n' : 'nonsense\r\n\r\n',
        ),
      );
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      harness.controller.route('hello');
      await harness.controller.settled();
      for (const path of ['/', '/upgrade'])
        expect((await harness.dispatcher.deliver({ path })).problem).toMatchObject({ code: 'function-bad-response' });
    });
  });

  it('was refused by an instance, and goes to another', async () => {
    await withEvents(async (harness) => {
      const full = await startInstance(harness.socket('full'), (_incoming, outgoing) =>
        outgoing.writeHead(503, { 'fn-refused': 'draining' }).end(),
      );
      const free = await startInstance(harness.socket('free'), (incoming, outgoing) => {
        let text = '';
        incoming.on('data', (chunk: Buffer) => (text += chunk.toString()));
        incoming.on('end', () => outgoing.end(text));
      });
      for (const instance of [full, free]) harness.defer(() => instance.stop());
      const revision = harness.controller.route('hello');
      await harness.controller.settled();
      const delivered = harness.dispatcher.deliver({ body: { text: 'again' } });
      await harness.controller.hear('want');
      harness.controller.grant(revision, full.address);
      await harness.controller.hear('release');
      const { instance } = harness.controller.grant(revision, free.address);
      const result = await delivered;
      expect([bodyOf(result), result.instance]).toEqual(['again', instance]);
    });
  });

  it.each<[string, string, { name?: string; path?: string; headers?: string[] }]>([
    ['function-not-found', 'is not there', { name: 'other' }],
    ['not-found', 'is asked for a path of the runtime', { path: '/.fn/init' }],
    ['bad-request', 'would get a header that is none', { headers: ['ce-id', 'a\r\nfn-instance: x'] }],
  ])('%s: it %s', async (code, _what, options) => {
    await withEvents(async (harness) => {
      await serve(harness, (_incoming, outgoing) => outgoing.end('ok'));
      expect(await harness.dispatcher.deliver(options)).toMatchObject({ response: null, problem: { code } });
    });
  });

  it('had no instance: the controller says so, or nobody in time', async () => {
    await withEvents(
      async (harness) => {
        const revision = harness.controller.route('hello');
        await harness.controller.settled();
        const failed = harness.dispatcher.deliver();
        await harness.controller.hear('want');
        const reason = { type: 'urn:fn:error:no-capacity', title: 't', status: 503, detail: 'the budget is used up', code: 'no-capacity' };
        harness.controller.send({ type: 'fail', revision, problem: reason, retryAfterSeconds: 4 });
        expect(await failed).toMatchObject({ problem: { code: 'no-capacity' }, retryAfterSeconds: 4, instance: null, ranMs: 0 });
        expect((await harness.dispatcher.deliver()).problem).toMatchObject({ code: 'queue-timeout' });
      },
      { config: { queueTimeoutMs: 2_000 } },
    );
  });

  it('is over what its namespace may have at a time', async () => {
    await withEvents(async (harness) => {
      const held: ServerResponse[] = [];
      await serve(harness, (_incoming, outgoing) => void held.push(outgoing));
      harness.controller.settings({ limits: [{ namespace: 'default', concurrency: 1, requestsPerSecond: 0 }] });
      await harness.controller.settled();
      const first = harness.dispatcher.deliver();
      await waitFor('it', () => held.length === 1, { everyMs: 2 });
      expect(await harness.dispatcher.deliver()).toMatchObject({ problem: { code: 'too-many-requests' }, retryAfterSeconds: 1 });
      held[0]!.end('ok');
      expect(bodyOf(await first)).toBe('ok');
      const third = harness.dispatcher.deliver();
      await waitFor('the next', () => held.length === 2, { everyMs: 2 });
      held[1]!.end('ok');
      expect(bodyOf(await third)).toBe('ok');
    });
  });
});

describe('an event of no interest any more', () => {
  it('is aborted, and its slot is free', async () => {
    await withEvents(async (harness) => {
      let seen = 0;
      let aborted = 0;
      await serve(
        harness,
        (incoming, outgoing) => {
          if (incoming.url === '/quick') outgoing.end('ok');
          else {
            seen++;
            outgoing.on('close', () => aborted++);
          }
        },
        {},
        1,
      );
      const { seq } = harness.dispatcher.begin();
      await waitFor('it to run', () => seen === 1, { everyMs: 2 });
      harness.dispatcher.send({ type: 'abandon', seq });
      await waitFor('the abort', () => aborted === 1, { everyMs: 2 });
      expect(bodyOf(await harness.dispatcher.deliver({ path: '/quick' }))).toBe('ok');
      expect(harness.gateway.state).toMatchObject({ delivering: 0, inFlight: 0 });
    });
  });

  it('while it waits, leaves the queue', async () => {
    await withEvents(async (harness) => {
      harness.controller.route('hello');
      await harness.controller.settled();
      const { seq } = harness.dispatcher.begin();
      await waitFor('it to wait', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
      harness.dispatcher.send({ type: 'abandon', seq });
      await waitFor('its end', () => harness.gateway.state.waiting === 0, { everyMs: 2 });
      expect(harness.gateway.state).toMatchObject({ delivering: 0, deadlines: 0 });
    });
  });

  it('is one whose link broke: it goes on, and nobody else is told of it', async () => {
    await withEvents(async (harness) => {
      const held: ServerResponse[] = [];
      await serve(harness, (incoming, outgoing) => (incoming.url === '/held' ? void held.push(outgoing) : void outgoing.end('quick')));
      harness.dispatcher.begin({ path: '/held' });
      await waitFor('it to run', () => held.length === 1, { everyMs: 2 });
      harness.dispatcher.cut();
      await waitFor('the link', () => harness.dispatcher.all('hello').length === 2 && harness.gateway.state.events, { everyMs: 2 });
      expect(harness.gateway.state.delivering).toBe(1);
      held[0]!.end('late');
      await waitFor('its end', () => harness.gateway.state.delivering === 0, { everyMs: 2 });
      expect(bodyOf(await harness.dispatcher.deliver())).toBe('quick');
      expect(harness.dispatcher.all('delivered')).toEqual([]);
    });
  });
});

it('a gateway that ends says so, finishes what it has, and takes no more', async () => {
  await withEvents(
    async (harness) => {
      const held: ServerResponse[] = [];
      await serve(harness, (_incoming, outgoing) => void held.push(outgoing));
      const first = harness.dispatcher.deliver();
      await waitFor('it to run', () => held.length === 1, { everyMs: 2 });
      const closed = harness.gateway.close();
      await harness.dispatcher.hear('draining');
      expect(await harness.dispatcher.deliver()).toMatchObject({ problem: { code: 'shutting-down' }, retryAfterSeconds: 1 });
      held[0]!.end('done');
      expect(bodyOf(await first)).toBe('done');
      await closed;
      expect(harness.dispatcher.links).toBe(0);
    },
    { config: { drainDeadlineMs: 10_000 } },
  );
});

it('many at a time are each told once, beside requests of clients', async () => {
  await withEvents(async (harness) => {
    await serve(harness, (incoming, outgoing) => outgoing.end(incoming.url));
    const paths = Array.from({ length: 2_000 }, (_, i) => `/${i}`);
    const [answers, client] = await Promise.all([
      Promise.all(paths.map((path) => harness.dispatcher.deliver({ path }))),
      call(`${harness.url}/hello/client`),
    ]);
    expect(answers.map(bodyOf)).toEqual(paths);
    expect(client.text).toBe('/client');
    expect(harness.dispatcher.all('delivered')).toEqual([]);
    expect(harness.gateway.state).toMatchObject({ delivering: 0, inFlight: 0 });
  });
});
