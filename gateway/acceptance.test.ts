/** Calls that are answered later: 202 once the dispatcher has them, and never before. */
import { hash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type ErrorCode, ERRORS } from '#contract/errors.ts';
import { MAX_EVENT_BYTES } from '#contract/events.ts';
import { decodeBody } from '#kit/event-body.ts';
import type { RouteOverrides } from '../test/helpers/gateway-controller.ts';
import type { GatewayConfig } from './config.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { call, type CallOptions } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

const ASYNC = { prefer: 'respond-async' };

/** Runs `body` with `hello` routed and a dispatcher that accepts all. */
function withFunction(
  body: (harness: Harness) => Promise<void>,
  options: RouteOverrides = {},
  config: Partial<GatewayConfig> = {},
): Promise<void> {
  return withGateway(
    async (harness) => {
      harness.dispatcher.accept();
      harness.controller.route('hello', options);
      harness.controller.settings();
      await harness.controller.settled();
      await body(harness);
    },
    { events: 'up', config },
  );
}

const post = (harness: Harness, headers: Record<string, string | string[]> = {}, options: CallOptions = {}) =>
  call(`${harness.url}/hello`, { method: 'POST', body: 'hi', ...options, headers: { ...ASYNC, ...headers } });

describe('an invocation that is answered later', () => {
  it('is answered with 202 and where to ask, as the dispatcher has it', async () => {
    await withFunction(async (harness) => {
      const id = harness.dispatcher.accept();
      const answer = await post(harness, { 'x-request-id': 'mine' });
      expect(answer.status).toBe(202);
      expect(answer.headers).toMatchObject({
        location: `/.fn/invocations/${id}`,
        'preference-applied': 'respond-async',
        'content-type': 'application/json',
        'cache-control': 'no-store',
        'x-request-id': 'mine',
      });
      expect(answer.headers['idempotency-replayed']).toBeUndefined();
      expect(answer.json()).toEqual({ id, state: 'queued', url: `/.fn/invocations/${id}` });
      expect(harness.controller.all('want')).toEqual([]);
    });
  });

  it('is told as the function would have got it', async () => {
    await withFunction(async (harness) => {
      await new RawClient(harness.port)
        .write(
          [
            'PUT /hello/a//b?x=%20 HTTP/1.1',
            'Host: example.test:81',
            'Prefer: wait=5',
            'PREFER: respond-async',
            'Authorization: Basic eDp5',
            'Idempotency-Key: k-1',
            'Fn-Delay: 5m',
            'Fn-Order-Key: user-7',
            'Fn-Event: queue',
            'fn-anything: x',
            'X-Forwarded-For: 6.6.6.6',
            'Connection: close, X-Hop',
            'X-Hop: 1',
            'Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
            'Tracestate: a=b',
            'Transfer-Encoding: chunked',
            '',
            '2',
            'h\xff',
            '0',
            '',
            '',
          ].join('\r\n'),
        )
        .until('202 Accepted');
      const accept = await harness.dispatcher.hear('accept');
      const { headers } = accept.request;
      const seen = Object.fromEntries(headers.flatMap((name, i) => (i % 2 === 0 ? [[name, headers[i + 1]]] : [])));
      expect(accept).toMatchObject({
        namespace: 'default',
        name: 'hello',
        revision: null,
        idempotencyKey: 'k-1',
        delayMs: 300_000,
        orderKey: 'user-7',
        request: { method: 'PUT', path: '/a//b?x=%20' },
      });
      expect(decodeBody(accept.request.body)).toEqual(Buffer.from('h\xff', 'latin1'));
      expect(accept.traceparent).toMatch(/^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$/);
      expect(accept.traceparent).not.toContain('00f067aa0ba902b7');
      expect(seen).toEqual({
        host: 'example.test:81',
        authorization: 'Basic eDp5',
        'idempotency-key': 'k-1',
        tracestate: 'a=b',
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-proto': 'http',
        'x-forwarded-host': 'example.test:81',
        'x-forwarded-prefix': '/hello',
      });
    });
  });

  it('of an Idempotency-Key that was there is answered with the first one', async () => {
    await withFunction(async (harness) => {
      const id = harness.dispatcher.accept({ duplicate: true });
      const answer = await post(harness, { 'idempotency-key': 'k' });
      expect(answer.status).toBe(202);
      expect(answer.headers).toMatchObject({ 'idempotency-replayed': 'true', location: `/.fn/invocations/${id}` });
    });
  });

  it('by a preview URL is for that revision', async () => {
    await withFunction(async (harness) => {
      await call(`${harness.url}/hello@1`, { headers: ASYNC });
      await post(harness);
      expect(harness.dispatcher.all('accept').map(({ revision }) => revision)).toEqual(['default/hello@1', null]);
    });
  });

  it.each(['GET', 'HEAD', 'DELETE', 'OPTIONS'])('may be of any method: %s', async (method) => {
    await withFunction(async (harness) => {
      expect((await call(`${harness.url}/hello`, { method, headers: ASYNC })).status).toBe(202);
      expect((await harness.dispatcher.hear('accept')).request).toMatchObject({ method, body: { text: '' } });
    });
  });

  it('holds bodies up to the limit, declared or not, and after 100 Continue', async () => {
    await withFunction(async (harness) => {
      const whole = Buffer.alloc(MAX_EVENT_BYTES, 0x80);
      expect((await post(harness, {}, { body: whole })).status).toBe(202);
      expect((await post(harness, { 'transfer-encoding': 'chunked' }, { body: whole })).status).toBe(202);
      const client = new RawClient(harness.port).write(
        'POST /hello HTTP/1.1\r\nHost: x\r\nPrefer: respond-async\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n',
      );
      await client.until('100 Continue');
      await client.write('hi').until('202 Accepted');
      client.close();
      const bodies = harness.dispatcher.all('accept').map(({ request }) => decodeBody(request.body));
      expect(bodies.map((body) => body.length)).toEqual([MAX_EVENT_BYTES, MAX_EVENT_BYTES, 2]);
      expect(bodies[0]!.equals(whole)).toBe(true);
      const more = Buffer.alloc(MAX_EVENT_BYTES + 1);
      for (const chunked of [false, true]) {
        const answer = await post(harness, chunked ? { 'transfer-encoding': 'chunked' } : {}, { body: more });
        expect([answer.status, answer.json().code]).toEqual([413, 'body-too-large']);
      }
      expect(harness.dispatcher.all('accept')).toHaveLength(3);
    });
  });

  it('of which too much is being received is answered with 503, until that is over', async () => {
    await withFunction(
      async (harness) => {
        const slow = new RawClient(harness.port).write(
          'POST /hello HTTP/1.1\r\nHost: x\r\nPrefer: respond-async\r\nContent-Length: 1048576\r\nExpect: 100-continue\r\n\r\n',
        );
        await slow.until('100 Continue');
        const answer = await post(harness);
        expect([answer.status, answer.json().code]).toEqual([503, 'events-unavailable']);
        expect((await post(harness, {}, { method: 'GET', body: '' })).status).toBe(202);
        slow.close();
        expect(await waitFor('the memory', async () => (await post(harness)).status === 202, { everyMs: 5 })).toBe(true);
        expect((await post(harness, { 'transfer-encoding': 'chunked' })).status).toBe(202);
      },
      {},
      { maxCollectingBytes: MAX_EVENT_BYTES },
    );
  });

  it('says who may read the answer (CORS), also of an error', async () => {
    const cors = {
      origins: ['https://a.test'],
      methods: ['POST' as const],
      headers: ['prefer'],
      exposeHeaders: ['location'],
      credentials: false,
      maxAgeSeconds: 5,
    };
    await withFunction(
      async (harness) => {
        const good = await post(harness, { origin: 'https://a.test' });
        const bad = await post(harness, { origin: 'https://a.test', 'fn-delay': 'x' });
        for (const answer of [good, bad])
          expect(answer.headers).toMatchObject({
            'access-control-allow-origin': 'https://a.test',
            'access-control-expose-headers': 'location',
          });
        expect([good.status, bad.status]).toEqual([202, 400]);
        const preflight = await call(`${harness.url}/hello`, {
          method: 'OPTIONS',
          headers: { ...ASYNC, origin: 'https://a.test', 'access-control-request-method': 'POST' },
        });
        expect(preflight.status).toBe(204);
      },
      { cors },
    );
  });

  it.each<[Record<string, string | string[]>, RegExp]>([
    [{ 'fn-delay': '15d' }, /fn-delay/],
    [{ 'fn-delay': 'soon' }, /fn-delay/],
    [{ 'idempotency-key': 'a b' }, /idempotency-key/],
    [{ 'idempotency-key': ['a', 'b'] }, /more than one idempotency-key/],
    [{ 'fn-order-key': 'x'.repeat(257) }, /fn-order-key/],
  ])('%j is refused with 400', async (headers, detail) => {
    await withFunction(async (harness) => {
      const answer = await post(harness, headers);
      expect(answer.status).toBe(400);
      expect(answer.json()).toMatchObject({ code: 'bad-request', detail: expect.stringMatching(detail) });
      expect(harness.dispatcher.all('accept')).toEqual([]);
    });
  });

  it.each<[ErrorCode, string | undefined]>([
    ['backlog-full', '7'],
    ['idempotency-mismatch', undefined],
    ['store-unavailable', '7'],
  ])('that the dispatcher refuses is answered with %s', async (code, retryAfter) => {
    await withFunction(async (harness) => {
      harness.dispatcher.answer = (message) =>
        message.type === 'accept'
          ? {
              type: 'refused',
              seq: message.seq,
              problem: { type: `urn:fn:error:${code}`, title: 't', status: ERRORS[code].status, detail: 'd', code },
              retryAfterSeconds: retryAfter === undefined ? null : 7,
            }
          : null;
      const answer = await post(harness);
      expect([answer.status, answer.json().code, answer.headers['retry-after']]).toEqual([ERRORS[code].status, code, retryAfter]);
      expect(answer.headers['preference-applied']).toBeUndefined();
    });
  });

  it('is a call of the function in the journal', async () => {
    await withFunction(async (harness) => {
      await post(harness, { 'x-request-id': 'journaled' });
      harness.controller.send({ type: 'recall', id: 'journaled' });
      const { calls } = await harness.controller.hear('recalled');
      expect(calls).toMatchObject([{ id: 'journaled', status: 202, method: 'POST', path: '/hello', name: 'hello' }]);
      expect(calls[0]).not.toHaveProperty('instance');
      expect(calls[0]).not.toHaveProperty('revision');
    });
  });
});

describe('who may', () => {
  it('needs the token of the function, which is not kept', async () => {
    await withFunction(
      async (harness) => {
        const token = 'fn_abcdefghijkl_secret';
        const sha256 = hash('sha256', token);
        harness.controller.settings({ tokens: [{ id: 't-abcdefghijkl', sha256, namespaces: ['default'], expiresAt: null }] });
        await harness.controller.settled();
        const refused = await post(harness);
        expect([refused.status, refused.headers['www-authenticate']]).toEqual([401, 'Bearer realm="fn"']);
        expect(harness.dispatcher.all('accept')).toEqual([]);
        expect((await post(harness, { authorization: `Bearer ${token}` })).status).toBe(202);
        expect((await harness.dispatcher.hear('accept')).request.headers).not.toContain('authorization');
      },
      { auth: { type: 'token' } },
    );
  });

  it('keeps the rate limit and those of the namespace', async () => {
    await withFunction(
      async (harness) => {
        expect((await post(harness)).status).toBe(202);
        expect((await post(harness)).json()).toMatchObject({ code: 'rate-limited' });
      },
      { rateLimit: { requestsPerSecond: 0.01, burst: 1, by: 'function' } },
    );
    await withFunction(async (harness) => {
      harness.controller.settings({ limits: [{ namespace: 'default', concurrency: 1, requestsPerSecond: null }] });
      await harness.controller.settled();
      harness.dispatcher.answer = () => null;
      const first = post(harness);
      const { seq } = await harness.dispatcher.hear('accept');
      expect((await post(harness)).json()).toMatchObject({ code: 'too-many-requests' });
      harness.dispatcher.send({ type: 'accepted', seq, id: 'e-000000000000000000000000', duplicate: false });
      expect((await first).status).toBe(202);
      harness.dispatcher.accept();
      expect((await post(harness)).status).toBe(202);
    });
  });
});

describe('Prefer is for the function', () => {
  it.each<[string, RouteOverrides, Record<string, string>]>([
    ['where its invocations are answered at once only', { async: false }, { prefer: 'respond-async' }],
    ['where it asks for something else', {}, { prefer: 'return=minimal' }],
  ])('%s', async (_what, route, headers) => {
    await withFunction(async (harness) => {
      const instance = await startInstance(harness.socket('i'), (incoming, outgoing) => outgoing.end(incoming.headers.prefer));
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      const answer = await call(`${harness.url}/hello`, { headers });
      expect([answer.status, answer.text]).toEqual([200, headers.prefer]);
      expect(harness.dispatcher.all('accept')).toEqual([]);
    }, route);
  });
});

describe('without an answer of the dispatcher', () => {
  const unavailable = async (
    answer: Promise<{ status: number; json: () => Record<string, unknown>; headers: Record<string, unknown> }>,
  ) => {
    const { status, json, headers } = await answer;
    expect([status, json().code, headers['retry-after']]).toEqual([503, 'events-unavailable', '1']);
    return String(json().detail);
  };

  it('as there is none at all: 503 at once', async () => {
    await withGateway(async (harness) => {
      harness.controller.route('hello');
      await harness.controller.settled();
      expect(await unavailable(post(harness))).toMatch(/has no dispatcher/);
    });
  });

  it('which is not there: the controller is told, and after 3 s 503', async () => {
    await withGateway(
      async (harness) => {
        harness.controller.route('hello');
        await harness.controller.settled();
        const answers = [post(harness), post(harness)];
        await harness.controller.hear('events');
        for (const answer of answers)
          expect(await unavailable(answer)).toMatch(/being started, or cannot write its store, as on a full disk .*nothing was accepted/);
        expect(harness.controller.all('events').length).toBeLessThan(6);
      },
      { events: 'down' },
    );
  });

  it('which is started meanwhile: 202', async () => {
    await withGateway(
      async (harness) => {
        harness.controller.route('hello');
        await harness.controller.settled();
        harness.controller.onMessage = (message) => {
          if (message.type === 'events') void harness.dispatcher.start();
        };
        harness.dispatcher.accept();
        expect((await post(harness)).status).toBe(202);
      },
      { events: 'down' },
    );
  });

  it('as the link breaks between accept and accepted: 503; then it is linked again', async () => {
    await withFunction(async (harness) => {
      harness.dispatcher.answer = (message) => {
        if (message.type === 'accept') harness.dispatcher.cut();
        return null;
      };
      expect(await unavailable(post(harness))).toMatch(/may have accepted/);
      harness.dispatcher.accept();
      await waitFor('the link', () => harness.gateway.state.events, { everyMs: 2 });
      expect((await post(harness)).status).toBe(202);
      expect(harness.dispatcher.all('hello')).toHaveLength(2);
    });
  });

  it('which does not answer for 5 s: 503, and what it says later is not heard', async () => {
    await withFunction(async (harness) => {
      harness.dispatcher.answer = () => null;
      expect(await unavailable(post(harness))).toMatch(/did not answer within 5000 ms/);
      const { seq } = harness.dispatcher.all('accept')[0]!;
      harness.dispatcher.send({ type: 'accepted', seq, id: 'e-000000000000000000000000', duplicate: false });
      harness.dispatcher.accept();
      expect((await post(harness)).status).toBe(202);
      expect(harness.gateway.state.deadlines).toBe(0);
    });
  });

  it('which talks nonsense: the link is cut, and nothing is accepted', async () => {
    await withFunction(async (harness) => {
      harness.dispatcher.answer = (message) => {
        if (message.type === 'accept') harness.dispatcher.write('{"type":"accepted","seq":1,"id":"../x","duplicate":false}\n');
        return null;
      };
      expect(await unavailable(post(harness))).toMatch(/may have accepted/);
    });
  });

  it('a client that goes away is forgotten', async () => {
    await withFunction(async (harness) => {
      harness.dispatcher.answer = () => null;
      const client = new RawClient(harness.port).write('GET /hello HTTP/1.1\r\nHost: x\r\nPrefer: respond-async\r\n\r\n');
      await harness.dispatcher.hear('accept');
      client.close();
      expect(await waitFor('its end', () => harness.gateway.state.deadlines === 0, { everyMs: 2 })).toBe(true);
    });
  });
});
