/** What became of an invocation, its result and its end by the client; and webhooks. */
import { hash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { InvocationView } from '#contract/events.ts';
import { problem } from '#contract/errors.ts';
import type { RouteSpec } from '#contract/access.ts';
import { decodeBody } from '#kit/event-body.ts';
import { testView } from '../test/helpers/gateway-dispatcher.ts';
import { type RouteOverrides, testRoute } from '../test/helpers/gateway-controller.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { call, type CallOptions } from '../test/helpers/http.ts';

const ID = 'e-0123456789abcdefghijklmn';
const TOKEN = 'fn_abcdefghijkl_secret';
const route = (host: string): RouteSpec => ({ host, path: '/*' });

interface Known {
  view?: Partial<InvocationView>;
  namespace?: string;
  result?: { status: number; headers: string[]; text: string };
  cancel?: { status: number; headers: string[]; text: string };
}

/** Runs `body` with `hello` routed, here and in `acme`, and a dispatcher that knows one invocation. */
function withInvocation(
  body: (harness: Harness) => Promise<void>,
  { view = {}, namespace = 'default', ...answers }: Known = {},
  options: RouteOverrides = {},
) {
  return withGateway(
    async (harness) => {
      harness.controller.route('hello', options);
      harness.controller.put(testRoute('acme', 'hello', { 1: 100 }, { routes: [route('acme.test')] }));
      harness.controller.settings({
        tokens: [{ id: 't-abcdefghijkl', sha256: hash('sha256', TOKEN), namespaces: ['default'], expiresAt: null }],
      });
      await harness.controller.settled();
      harness.dispatcher.answer = (message) => {
        if (message.type !== 'invocation') return null;
        const { seq, id, action } = message;
        if (id !== ID) return { type: 'invocation', seq, found: null };
        if (action === 'read')
          return { type: 'invocation', seq, found: { namespace, name: 'hello', view: JSON.stringify(testView(ID, view)) } };
        const { status, headers, text } = answers[action] ?? notKept();
        return { type: 'answer', seq, status, headers, body: { text } };
      };
      await body(harness);
    },
    { events: 'up' },
  );
}

function notKept() {
  const missing = problem('invocation-not-found', 'no result is kept');
  return { status: missing.status, headers: ['content-type', 'application/problem+json'], text: JSON.stringify(missing) };
}

const ask = (harness: Harness, rest = '', options: CallOptions = {}, id = ID) =>
  call(`${harness.url}/.fn/invocations/${id}${rest}`, options);

describe('an invocation', () => {
  it('tells its state, and when to ask again', async () => {
    await withInvocation(async (harness) => {
      const answer = await ask(harness);
      expect(answer.status).toBe(200);
      expect(answer.json()).toEqual(testView(ID));
      expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'cache-control': 'no-store', 'retry-after': '1' });
      expect(answer.headers['x-request-id']).toBeDefined();
      const head = await ask(harness, '', { method: 'HEAD' });
      expect([head.status, head.headers['content-length'], head.text]).toEqual([200, String(answer.body.length), '']);
    });
    await withInvocation(async (harness) => expect((await ask(harness)).headers['retry-after']).toBeUndefined(), {
      view: { state: 'succeeded', finishedAt: 1 },
    });
  });

  it.each(['queued', 'running', 'retrying'] as const)('that is %s has 202 in place of a result', async (state) => {
    await withInvocation(
      async (harness) => {
        const answer = await ask(harness, '/result');
        expect([answer.status, answer.headers['fn-state'], answer.headers['retry-after']]).toEqual([202, state, '1']);
        expect(answer.json()).toMatchObject({ id: ID, state });
        expect(harness.dispatcher.all('invocation').map(({ action }) => action)).toEqual(['read']);
      },
      { view: { state } },
    );
  });

  it("that is over has the function's own answer, without what is for a whole site", async () => {
    const headers = [
      ...['content-type', 'text/csv', 'x-rows', '2', 'location', '/elsewhere', 'set-cookie', 'a=b', 'clear-site-data', '*'],
      ...[
        'content-length',
        '999',
        'cache-control',
        'public',
        'transfer-encoding',
        'chunked',
        'access-control-allow-origin',
        '*',
        'bad name',
        'x',
        'x-bad',
        'a\nb',
      ],
    ];
    await withInvocation(
      async (harness) => {
        const answer = await ask(harness, '/result?x=1');
        expect([answer.status, answer.text]).toEqual([418, 'a,b']);
        expect(answer.headers).toMatchObject({
          'content-type': 'text/csv',
          'x-rows': '2',
          location: '/elsewhere',
          'content-length': '3',
          'cache-control': 'no-store',
        });
        for (const name of ['set-cookie', 'clear-site-data', 'transfer-encoding', 'access-control-allow-origin', 'fn-state', 'x-bad'])
          expect(answer.headers[name]).toBeUndefined();
        expect((await ask(harness, '/result', { method: 'HEAD' })).text).toBe('');
      },
      { view: { state: 'succeeded' }, result: { status: 418, headers, text: 'a,b' } },
    );
  });

  it('that is over without a result says so', async () => {
    await withInvocation(
      async (harness) => {
        const answer = await ask(harness, '/result');
        expect([answer.status, answer.json().code]).toEqual([404, 'invocation-not-found']);
      },
      { view: { state: 'cancelled' } },
    );
  });

  it('is cancelled by DELETE, or is over', async () => {
    const cancelled = { status: 200, headers: ['content-type', 'application/json'], text: '{"state":"cancelled"}' };
    await withInvocation(async (harness) => expect((await ask(harness, '', { method: 'DELETE' })).json()).toEqual({ state: 'cancelled' }), {
      cancel: cancelled,
    });
    const conflict = { status: 409, headers: ['content-type', 'application/problem+json'], text: '{"code":"conflict"}' };
    await withInvocation(async (harness) => expect((await ask(harness, '', { method: 'DELETE' })).status).toBe(409), { cancel: conflict });
  });

  it.each(['e-x', 'E-0123456789ABCDEFGHIJKLMN', '..%2fx', 'e-0123456789abcdefghijklmn/more', `${ID}/`, ''])(
    '%s is not there',
    async (id) => {
      await withInvocation(async (harness) => {
        const answer = await ask(harness, '', {}, id);
        expect([answer.status, answer.json().code]).toEqual([404, 'invocation-not-found']);
        expect(harness.dispatcher.all('invocation')).toEqual([]);
      });
    },
  );

  it('that nobody knows, and one of a function that is gone, are alike', async () => {
    const told: unknown[] = [];
    await withInvocation(async (harness) => {
      const unknown = await ask(harness, '', {}, 'e-000000000000000000000000');
      told.push([unknown.status, { ...unknown.json(), instance: '' }]);
    });
    await withInvocation(
      async (harness) => {
        const gone = await ask(harness, '/result');
        told.push([gone.status, { ...gone.json(), instance: '' }]);
      },
      { namespace: 'gone' },
    );
    expect(told[0]).toEqual(told[1]);
    expect(told[0]).toMatchObject([404, { code: 'invocation-not-found' }]);
  });

  it.each([
    ['', 'POST', 'GET, HEAD, DELETE'],
    ['', 'OPTIONS', 'GET, HEAD, DELETE'],
    ['/result', 'DELETE', 'GET, HEAD'],
  ])('%s takes no %s', async (rest, method, allow) => {
    await withInvocation(async (harness) => {
      const answer = await ask(harness, rest, { method, body: 'x' });
      expect([answer.status, answer.headers.allow]).toEqual([405, allow]);
    });
  });

  it('is told of to who may call its function, and to nobody else', async () => {
    await withInvocation(
      async (harness) => {
        for (const [rest, method] of [
          ['', 'GET'],
          ['/result', 'GET'],
          ['', 'DELETE'],
        ] as const) {
          const answer = await ask(harness, rest, { method });
          expect([answer.status, answer.json().code, answer.headers['www-authenticate']]).toEqual([
            401,
            'unauthorized',
            'Bearer realm="fn"',
          ]);
        }
        expect(harness.dispatcher.all('invocation').every(({ action }) => action === 'read')).toBe(true);
        expect((await ask(harness, '', { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(200);
      },
      {},
      { auth: { type: 'token' } },
    );
  });

  it("of another tenant is not there on a tenant's own host", async () => {
    const status = async (harness: Harness, host: string) => (await ask(harness, '', { headers: { host } })).status;
    await withInvocation(async (harness) =>
      expect([await status(harness, 'acme.test'), await status(harness, 'x.test')]).toEqual([404, 200]),
    );
    await withInvocation(async (harness) => expect(await status(harness, 'acme.test')).toBe(200), { namespace: 'acme' });
  });

  it('may be asked for by a page that may call the function (CORS)', async () => {
    const cors = {
      origins: ['https://a.test'],
      methods: ['DELETE' as const],
      headers: [],
      exposeHeaders: [],
      credentials: false,
      maxAgeSeconds: 5,
    };
    await withInvocation(
      async (harness) => {
        const headers = { origin: 'https://a.test', 'access-control-request-method': 'DELETE' };
        const preflight = await ask(harness, '', { method: 'OPTIONS', headers });
        expect([preflight.status, preflight.headers['access-control-allow-methods']]).toEqual([204, 'DELETE']);
        expect((await ask(harness, '', { headers })).headers['access-control-allow-origin']).toBe('https://a.test');
      },
      {},
      { cors },
    );
  });

  it('cannot be told of without the dispatcher, or where it talks nonsense', async () => {
    await withInvocation(async (harness) => {
      harness.dispatcher.answer = (message) => {
        if (message.type === 'invocation') harness.dispatcher.cut();
        return null;
      };
      expect((await ask(harness)).json()).toMatchObject({ status: 503, code: 'events-unavailable' });
    });
    await withInvocation(async (harness) => {
      harness.dispatcher.answer = (message) =>
        message.type === 'invocation'
          ? { type: 'invocation', seq: message.seq, found: { namespace: 'default', name: 'hello', view: '{' } }
          : null;
      expect((await ask(harness)).json()).toMatchObject({ status: 500, code: 'internal' });
    });
  });
});

describe('a webhook', () => {
  /** Runs `body` with functions routed and a dispatcher that answers each webhook. */
  const withWebhook = (body: (harness: Harness) => Promise<void>, options: RouteOverrides = {}) =>
    withInvocation(
      async (harness) => {
        harness.dispatcher.answer = (message) =>
          message.type === 'webhook'
            ? {
                type: 'answer',
                seq: message.seq,
                status: 202,
                headers: ['content-type', 'text/plain', 'x-said', 'yes'],
                body: { text: 'ok' },
              }
            : null;
        await body(harness);
      },
      {},
      options,
    );
  const post = (harness: Harness, path: string, options: CallOptions = {}) =>
    call(`${harness.url}/.fn/webhooks/${path}`, { method: 'POST', body: 'x', ...options });

  it('reaches its trigger as it was sent, and gets its answer', async () => {
    await withWebhook(
      async (harness) => {
        const answer = await post(harness, 'hello/github?a=1', {
          body: Buffer.from([0xff]),
          headers: { 'x-hub-signature-256': 's', 'x-request-id': 'r' },
        });
        expect([answer.status, answer.text, answer.headers['x-said'], answer.headers['x-request-id']]).toEqual([202, 'ok', 'yes', 'r']);
        const webhook = await harness.dispatcher.hear('webhook');
        expect(webhook).toMatchObject({
          namespace: 'default',
          name: 'hello',
          trigger: 'github',
          requestId: 'r',
          request: { method: 'POST', path: '/.fn/webhooks/hello/github?a=1' },
        });
        expect(webhook.request.headers).toEqual(expect.arrayContaining(['x-hub-signature-256', 's']));
        expect(decodeBody(webhook.request.body)).toEqual(Buffer.from([0xff]));
        expect((await post(harness, '@acme/hello/t')).status).toBe(202);
        expect(await harness.dispatcher.hear('webhook', 2)).toMatchObject({ namespace: 'acme', name: 'hello', trigger: 't' });
      },
      // The signature is the auth.
      { auth: { type: 'token' } },
    );
  });

  it.each(['', 'hello', 'other/t', '@acme/t', '@none/hello/t', 'hello/t/more', 'hello/T', 'hello/..'])('%s leads nowhere', async (path) => {
    await withWebhook(async (harness) => {
      const answer = await new RawClient(harness.port)
        .write(`POST /.fn/webhooks/${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
        .untilClosed();
      expect(answer).toMatch(/^HTTP\/1\.1 404 [^]*"trigger-not-found"/);
      expect(harness.dispatcher.all('webhook')).toEqual([]);
    });
  });

  it('is sent with POST, is not too large, keeps the limits, and stays on its host', async () => {
    await withWebhook(
      async (harness) => {
        const got = await call(`${harness.url}/.fn/webhooks/hello/t`);
        expect([got.status, got.headers.allow]).toEqual([405, 'POST']);
        expect((await post(harness, 'hello/t', { headers: { host: 'acme.test' } })).status).toBe(404);
        expect((await post(harness, 'hello/t', { body: Buffer.alloc(1_048_577) })).status).toBe(413);
        expect((await post(harness, 'hello/t')).json()).toMatchObject({ code: 'rate-limited' });
      },
      { rateLimit: { requestsPerSecond: 0.01, burst: 1, by: 'ip' } },
    );
  });

  it('that cannot be checked is answered with 503', async () => {
    await withWebhook(async (harness) => {
      harness.dispatcher.answer = (message) => {
        if (message.type === 'webhook') harness.dispatcher.cut();
        return null;
      };
      expect((await post(harness, 'hello/t')).json()).toMatchObject({ status: 503, code: 'events-unavailable' });
    });
  });
});
