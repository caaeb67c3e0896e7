/** Routes, traffic, CORS, tokens and limits through a whole gateway. */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import { BlockList } from 'node:net';
import { exportJWK, SignJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import { Cors, RouteSpec } from '#contract/access.ts';
import type { InvokeToken } from '#contract/link.ts';
import { type RouteOverrides, testRoute } from '../test/helpers/gateway-controller.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { type Answer, call } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

interface Seen {
  revision: string;
  method: string;
  url: string;
  headers: Record<string, string>;
}

/** Every revision of every function gets an instance, as soon as it is wanted, that says what it saw. */
function echoes(harness: Harness): void {
  let instances = 0;
  /** By revision, its lease, until it is given back; null: about to be granted. */
  const leases = new Map<string, string | null>();
  harness.controller.onMessage = (message) => {
    if (message.type === 'release') for (const [revision, lease] of leases) if (lease === message.lease) leases.delete(revision);
    if (message.type !== 'want' || message.waiting === 0 || leases.has(message.revision)) return;
    leases.set(message.revision, null);
    void (async () => {
      const path = harness.socket(`${message.revision.replace(/\W/g, '_')}-${(instances += 1)}`);
      const instance = await startInstance(path, ({ method, url, headers }, outgoing) => {
        outgoing.setHeader('access-control-allow-origin', 'https://of-the-function.test');
        outgoing.setHeader('fn-revision', 'spoofed');
        outgoing.setHeader('clear-site-data', '"*"');
        outgoing.end(JSON.stringify({ revision: message.revision, method, url, headers }));
      });
      harness.defer(() => instance.stop());
      leases.set(message.revision, harness.controller.grant(message.revision, instance.address, { slots: 50 }).lease);
    })();
  };
}

async function put(
  harness: Harness,
  name: string,
  options: RouteOverrides & { shares?: Record<number, number>; namespace?: string } = {},
): Promise<void> {
  const { shares = { 1: 100 }, namespace = 'default', ...overrides } = options;
  harness.controller.put(testRoute(namespace, name, shares, overrides));
  await harness.controller.settled();
}

const seen = (answer: Answer): Seen => answer.json<Seen>();
const codeOf = (answer: Answer): [number, string] => [answer.status, answer.json<{ code: string }>().code];
const spec = (route: Partial<RouteSpec>): RouteSpec => RouteSpec.parse(route);

describe('headers that speak for the whole origin', () => {
  it('pass on the hosts of a namespace, and from functions of default; not where the host is other tenants’ too', async () => {
    await withGateway(async (harness) => {
      echoes(harness);
      await put(harness, 'hello');
      await put(harness, 'front', { namespace: 'team', routes: [spec({ host: 'team.test' })] });
      const from = async (path: string, host: string) =>
        (await call(`${harness.url}${path}`, { headers: { host } })).headers['clear-site-data'];
      expect(await from('/', 'team.test')).toBe('"*"');
      expect(await from('/hello', 'localhost')).toBe('"*"');
      expect(await from('/@team/front', 'localhost')).toBeUndefined();
      expect(await from('/@team/front@1', 'localhost')).toBeUndefined();
    });
  });
});

describe('routes', () => {
  it('by host, name and pattern, with what is stripped told to the function', async () => {
    await withGateway(async (harness) => {
      echoes(harness);
      await put(harness, 'hello');
      await put(harness, 'shop', {
        routes: [
          spec({ host: 'shop.test', path: '/*', stripPrefix: '/v1' }),
          spec({ path: '/api/:id', methods: ['GET'], stripPrefix: '/api' }),
        ],
      });
      await put(harness, 'front', { namespace: 'team', routes: [spec({ host: '*.team.test' })] });
      const to = (path: string, host = 'localhost', method = 'GET') => call(`${harness.url}${path}`, { method, headers: { host } });
      const cases: [string, string, string, string, string | undefined][] = [
        ['/hello/x?y', 'localhost', 'default/hello@1', '/x?y', '/hello'],
        ['/hello/x', 'SHOP.test:1234', 'default/shop@1', '/hello/x', undefined],
        ['/', 'shop.test', 'default/shop@1', '/', undefined],
        ['/?q=1', 'shop.test.', 'default/shop@1', '/?q=1', undefined],
        ['/v1', 'shop.test', 'default/shop@1', '/', '/v1'],
        ['/v1?q', 'shop.test', 'default/shop@1', '/?q', '/v1'],
        ['/v1/a//b', 'shop.test', 'default/shop@1', '/a//b', '/v1'],
        ['/v1x', 'shop.test', 'default/shop@1', '/v1x', undefined],
        ['/api/7?q', 'localhost', 'default/shop@1', '/7?q', '/api'],
        ['/a', 'x.team.test', 'team/front@1', '/a', undefined],
        ['/@team/front/a', 'localhost', 'team/front@1', '/a', '/@team/front'],
      ];
      for (const [path, host, revision, url, prefix] of cases) {
        const { revision: by, url: rest, headers } = seen(await to(path, host));
        expect([path, by, rest, headers['x-forwarded-prefix'], headers['x-forwarded-host']]).toEqual([path, revision, url, prefix, host]);
      }
      expect(codeOf(await to('/none'))).toEqual([404, 'function-not-found']);
      expect(codeOf(await to('/', 'localhost'))).toEqual([404, 'not-found']);
      expect(codeOf(await to('/v1/.fn/init', 'shop.test'))).toEqual([404, 'not-found']);
      expect((await to('/.fn/health', 'shop.test')).json()).toEqual({ status: 'ok' });
      const refused = await to('/api/7', 'localhost', 'POST');
      expect([...codeOf(refused), refused.headers.allow]).toEqual([405, 'method-not-allowed', 'GET, HEAD']);
    });
  });

  it('that change take the place of those before, whatever else goes on', async () => {
    await withGateway(async (harness) => {
      echoes(harness);
      await put(harness, 'a', { routes: [spec({ path: '/x' })] });
      expect(seen(await call(`${harness.url}/x`)).revision).toBe('default/a@1');
      await put(harness, 'a', { shares: { 2: 100 }, routes: [spec({ path: '/x' })] });
      expect(seen(await call(`${harness.url}/x`)).revision).toBe('default/a@2');
      await put(harness, 'a', { shares: { 2: 100 }, routes: [spec({ path: '/y' })] });
      expect((await call(`${harness.url}/x`)).status).toBe(404);
      expect(seen(await call(`${harness.url}/y`)).revision).toBe('default/a@2');
      harness.controller.send({ type: 'routes', version: 900, set: [], remove: [{ namespace: 'default', name: 'a' }] });
      harness.controller.version = 900;
      await harness.controller.settled();
      expect((await call(`${harness.url}/y`)).status).toBe(404);
    });
  });

  it.each([
    ['GET /v HTTP/1.0\r\n\r\n', '404'],
    ['GET /v HTTP/1.0\r\nHost: a.test\r\n\r\n', '200'],
    ['GET http://a.test/v HTTP/1.0\r\n\r\n', '200'],
    ['GET http://a.test:80/v HTTP/1.1\r\nHost: a.test:80\r\nConnection: close\r\n\r\n', '200'],
    ['GET http://A.test/v HTTP/1.1\r\nHost: a.TEST\r\nConnection: close\r\n\r\n', '200'],
    ['GET http://a.test/v HTTP/1.1\r\nHost: b.test\r\n\r\n', '400'],
    ['GET http://b.test@a.test/v HTTP/1.0\r\n\r\n', '400'],
    ['GET http://a.test\\@b.test/v HTTP/1.0\r\n\r\n', '400'],
    ['GET /v HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n', '400'],
    ['GET /v HTTP/1.1\r\nHost: a.test, b.test\r\nConnection: close\r\n\r\n', '400'],
    ['GET /v HTTP/1.1\r\nHost: a.test/\r\nConnection: close\r\n\r\n', '400'],
    ['GET /v HTTP/1.1\r\nHost: a.test:80:80\r\nConnection: close\r\n\r\n', '400'],
    ['GET /v HTTP/1.1\r\nHost: a.test:99999999\r\nConnection: close\r\n\r\n', '400'],
    ['GET /v HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n', '404'],
    ['GET /v HTTP/1.1\r\nHost: a%2etest\r\nConnection: close\r\n\r\n', '404'],
    ['GET /v HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n', '404'],
    ['GET /v HTTP/1.1\r\nHost: b.test\r\nX-Forwarded-Host: a.test\r\nConnection: close\r\n\r\n', '404'],
    ['GET //a.test/v HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n', '404'],
    ['GET /%76 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n', '404'],
  ])('%j is answered %s', async (bytes, status) => {
    await withGateway(async (harness) => {
      echoes(harness);
      await put(harness, 'host', { routes: [spec({ host: 'a.test', path: '/v' })] });
      const client = new RawClient(harness.port).write(bytes);
      expect(await client.untilClosed()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    });
  });
});

describe('traffic', () => {
  it('is split by shares, and the answer says which revision it is of', async () => {
    await withGateway(async (harness) => {
      echoes(harness);
      await put(harness, 'f', { shares: { 1: 100, 2: 0 } });
      expect((await call(`${harness.url}/f`)).headers['fn-revision']).toBeUndefined();
      await put(harness, 'f', { shares: { 1: 50, 2: 50, 3: 0 } });
      const counts: Record<string, number> = {};
      for (let i = 0; i < 200; i++) {
        const answer = await call(`${harness.url}/f`);
        const revision = String(answer.headers['fn-revision']);
        expect(seen(answer).revision).toBe(`default/f@${revision}`);
        expect(answer.headers['set-cookie']).toBeUndefined();
        counts[revision] = (counts[revision] ?? 0) + 1;
      }
      expect(Object.keys(counts)).toEqual(['1', '2']);
      // Of 200 with even odds fewer than 50 come once in some 10^13 runs.
      expect(Math.min(...Object.values(counts))).toBeGreaterThan(50);
    });
  });

  it('by its preview URL reaches any revision that is kept, whatever the shares', async () => {
    await withGateway(async (harness) => {
      echoes(harness);
      await put(harness, 'f', { shares: { 7: 100, 6: 0 } });
      await put(harness, 'f', { shares: { 2: 100 }, namespace: 'team' });
      for (const [path, revision, rest] of [
        ['/f@6/a?b', 'default/f@6', '/a?b'],
        ['/f@7', 'default/f@7', '/'],
        ['/@team/f@2/a', 'team/f@2', '/a'],
      ] as const) {
        const answer = await call(`${harness.url}${path}`);
        expect([seen(answer).revision, seen(answer).url, answer.headers['fn-revision']]).toEqual([revision, rest, revision.split('@')[1]]);
        expect(seen(answer).headers['x-forwarded-prefix']).toBe(path.replace(/(@\d+).*/, '$1'));
      }
      expect(codeOf(await call(`${harness.url}/f@5`))).toEqual([404, 'revision-not-found']);
      for (const path of ['/f@', '/f@07', '/f@0', '/f@-1', '/f@7x', '/f@7@6', '/none@7', '/f%407', '/f@99999999999', '/@team@2/f'])
        expect([path, (await call(`${harness.url}${path}`)).status]).toEqual([path, 404]);
      expect(codeOf(await call(`${harness.url}/f@6/.fn/health`))).toEqual([404, 'not-found']);
    });
  });

  it('sticks by a header, and by a cookie that holds a bucket and nothing else', async () => {
    await withGateway(async (harness) => {
      echoes(harness);
      await put(harness, 'h', { shares: { 1: 50, 2: 50 }, sticky: { by: 'header', name: 'x-user' } });
      for (const user of ['a', 'b', 'c', 'd']) {
        const by = new Set<string>();
        for (let i = 0; i < 10; i++) by.add(seen(await call(`${harness.url}/h`, { headers: { 'x-user': user } })).revision);
        expect(by.size).toBe(1);
      }
      await put(harness, 'c', { shares: { 1: 50, 2: 50 }, sticky: { by: 'cookie', name: 'stay', maxAgeSeconds: 60 } });
      for (let i = 0; i < 5; i++) {
        const first = await call(`${harness.url}/c`);
        const [cookie = ''] = first.headers['set-cookie'] ?? [];
        expect(cookie).toMatch(/^stay=\d{1,4}; Path=\/c; Max-Age=60; HttpOnly; SameSite=Lax$/);
        for (let j = 0; j < 5; j++) {
          const next = await call(`${harness.url}/c`, { headers: { cookie: cookie.split(';')[0]! } });
          expect([seen(next).revision, next.headers['set-cookie']]).toEqual([seen(first).revision, undefined]);
        }
      }
      const of = async (cookie: string) => seen(await call(`${harness.url}/c`, { headers: { cookie } })).revision;
      expect([await of('stay=0'), await of('stay=4999'), await of('stay=5000'), await of('stay=9999')]).toEqual(
        ['1', '1', '2', '2'].map((number) => `default/c@${number}`),
      );
      const junk = await call(`${harness.url}/c`, { headers: { cookie: 'stay=99999' } });
      expect(junk.headers['set-cookie']).toHaveLength(1);
    });
  });

  it('that shifts while requests wait: those whose revision kept a share stay, the others go where they belong now', async () => {
    await withGateway(async (harness) => {
      await put(harness, 'f', { shares: { 1: 50, 2: 50, 3: 0 }, sticky: { by: 'cookie', name: 'stay', maxAgeSeconds: 60 } });
      const waiting = ['/f', '/f', '/f@3'].map((path, index) =>
        call(`${harness.url}${path}`, { headers: { cookie: `stay=${[0, 9_999, 0][index]}` } }),
      );
      await waitFor('three waiters', () => harness.gateway.state.waiting === 3, { everyMs: 2 });
      await put(harness, 'f', { shares: { 1: 0, 2: 100 } });
      expect(codeOf(await waiting[2]!)).toEqual([404, 'revision-not-found']);
      echoes(harness);
      harness.controller.onMessage(await harness.controller.hear('want', (want) => want.revision === 'default/f@2' && want.waiting === 2));
      for (const answer of await Promise.all(waiting.slice(0, 2))) expect(seen(answer).revision).toBe('default/f@2');
    });
  });
});

describe('a request that has waited before it asks for an instance', () => {
  it('for the keys of its token: goes by the routes as they are then', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const asked = Promise.withResolvers<ServerResponse>();
    const keys = createServer((_incoming, outgoing) => asked.resolve(outgoing));
    await new Promise<void>((resolve) => keys.listen(0, '127.0.0.1', resolve));
    const address = keys.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const jwksAllow = new BlockList();
    jwksAllow.addAddress('127.0.0.1');
    const token = await new SignJWT({ sub: 'alice' })
      .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
      .setIssuer('https://id.test')
      .setAudience('api')
      .setExpirationTime('5m')
      .sign(privateKey);
    try {
      await withGateway(
        async (harness) => {
          echoes(harness);
          const auth = {
            type: 'jwt',
            issuer: 'https://id.test',
            audience: 'api',
            claims: {},
            jwksUrl: `http://127.0.0.1:${port}/`,
          } as const;
          await put(harness, 'f', { auth });
          const answer = call(`${harness.url}/f`, { headers: { authorization: `Bearer ${token}` } });
          const fetched = await asked.promise;
          await put(harness, 'f', { auth, shares: { 1: 0, 2: 100 } });
          fetched.end(JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] }));
          expect(seen(await answer).revision).toBe('default/f@2');
        },
        { config: { jwksAllow } },
      );
    } finally {
      keys.closeAllConnections();
      keys.close();
    }
  });

  it('for those before it on its connection: likewise, or hears that the function is gone', async () => {
    await withGateway(async (harness) => {
      await put(harness, 'f');
      await put(harness, 'other');
      const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
      const client = new RawClient(harness.port).write(get('/f') + get('/f?second') + get('/other'));
      await waitFor('the first waits', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
      await put(harness, 'f', { shares: { 1: 100, 2: 0 } });
      const path = harness.socket('first');
      const first = Promise.withResolvers<ServerResponse>();
      const instance = await startInstance(path, (_incoming, outgoing) => first.resolve(outgoing));
      harness.defer(() => instance.stop());
      harness.controller.grant('default/f@1', instance.address);
      const answer = await first.promise;
      await put(harness, 'f', { shares: { 1: 0, 2: 100 } });
      const version = (harness.controller.version += 1);
      harness.controller.send({ type: 'routes', version, set: [], remove: [{ namespace: 'default', name: 'other' }] });
      await harness.controller.settled();
      echoes(harness);
      answer.end('the first');
      await client.until('function-not-found');
      expect(client.text).toMatch(/the first[^]*default\/f@2[^]*\/\?second[^]*404 Not Found/);
      expect(client.text).not.toContain('default/f@1');
      client.close();
    });
  });
});

describe('CORS', () => {
  it('answers preflights without an instance, sets the headers of answers, problems too', async () => {
    await withGateway(async (harness) => {
      await put(harness, 'f', {
        cors: Cors.parse({ origins: ['https://app.test'], methods: ['PUT'] }),
        auth: { type: 'token' },
        routes: [spec({ path: '/only-put', methods: ['PUT'] })],
      });
      harness.controller.settings();
      await harness.controller.settled();
      const ask = (path: string, origin = 'https://app.test') =>
        call(`${harness.url}${path}`, { method: 'OPTIONS', headers: { origin, 'access-control-request-method': 'PUT' } });
      for (const path of ['/f/a', '/only-put']) {
        const preflight = await ask(path);
        expect([preflight.status, preflight.text, preflight.headers['access-control-allow-origin']]).toEqual([204, '', 'https://app.test']);
        expect(preflight.headers['access-control-allow-methods']).toBe('PUT');
        expect(preflight.headers['x-request-id']).toBeDefined();
      }
      expect((await ask('/f', 'https://evil.test')).headers['access-control-allow-origin']).toBeUndefined();
      expect(harness.controller.all('want')).toEqual([]);
      const refused = await call(`${harness.url}/f`, { headers: { origin: 'https://app.test' } });
      expect([refused.status, refused.headers['access-control-allow-origin'], refused.headers.vary]).toEqual([
        401,
        'https://app.test',
        'Origin',
      ]);
      await put(harness, 'f', { cors: Cors.parse({ origins: ['https://app.test'] }) });
      echoes(harness);
      const answer = await call(`${harness.url}/f`, { headers: { origin: 'https://app.test' } });
      expect([answer.status, answer.headers['access-control-allow-origin']]).toEqual([200, 'https://app.test']);
      // Without a word about it the function's own headers stay, and OPTIONS is its own.
      await put(harness, 'g');
      expect((await call(`${harness.url}/g`)).headers['access-control-allow-origin']).toBe('https://of-the-function.test');
      expect(seen(await ask('/g')).method).toBe('OPTIONS');
    });
  });
});

const SECRET = `fn_abcdefghijkl_${'s'.repeat(43)}`;
const tokenOf = (text: string, more: Partial<InvokeToken> = {}): InvokeToken => ({
  id: 't-abcdefghijkl',
  sha256: createHash('sha256').update(text).digest('hex'),
  namespaces: ['default'],
  expiresAt: null,
  ...more,
});

describe('a function that asks for a token', () => {
  it('is reached with one that may, which it does not see; by anybody else not at all, and all are told the same', async () => {
    await withGateway(async (harness) => {
      await put(harness, 'f', { auth: { type: 'token' } });
      await put(harness, 'f', { auth: { type: 'token' }, namespace: 'team' });
      const ask = (authorization?: string | string[], path = '/f') =>
        call(`${harness.url}${path}`, { headers: authorization === undefined ? {} : { authorization } });
      // Before the tokens are known: neither in nor told off.
      expect(codeOf(await ask(`Bearer ${SECRET}`))).toEqual([503, 'not-ready']);
      harness.controller.settings({
        tokens: [
          tokenOf(SECRET),
          tokenOf('expired', { expiresAt: Date.now() - 1 }),
          tokenOf('all', { namespaces: '*', expiresAt: Date.now() + 60_000 }),
        ],
      });
      await harness.controller.settled();
      const bodies = new Set<string>();
      for (const authorization of [
        undefined,
        '',
        'Bearer',
        'Bearer ',
        'Bearer wrong',
        'Bearer expired',
        `Basic ${SECRET}`,
        SECRET,
        `Bearer ${SECRET} x`,
        `Bearer ${SECRET}\u00e4`,
        [`Bearer ${SECRET}`, `Bearer ${SECRET}`],
        `Bearer ${SECRET}, Bearer ${SECRET}`,
        `Bearer ${'x'.repeat(10_000)}`,
        'Bearer __proto__',
      ]) {
        const answer = await ask(authorization);
        expect([authorization, answer.status, answer.headers['www-authenticate']]).toEqual([authorization, 401, 'Bearer realm="fn"']);
        bodies.add(JSON.stringify({ ...answer.json(), instance: '' }));
      }
      bodies.add(JSON.stringify({ ...(await ask(`Bearer ${SECRET}`, '/@team/f')).json(), instance: '' }));
      bodies.add(JSON.stringify({ ...(await ask(undefined, '/f@1')).json(), instance: '' }));
      expect(bodies.size).toBe(1);
      expect(harness.controller.all('want')).toEqual([]);
      echoes(harness);
      for (const [authorization, path] of [
        [`Bearer ${SECRET}`, '/f'],
        [`bearer  ${SECRET}`, '/f'],
        ['Bearer all', '/@team/f'],
      ] as const) {
        const answer = await ask(authorization, path);
        expect([answer.status, seen(answer).headers.authorization]).toEqual([200, undefined]);
      }
      // Revoked: from the next request on, on the same connection.
      harness.controller.settings();
      await harness.controller.settled();
      expect((await ask(`Bearer ${SECRET}`)).status).toBe(401);
    });
  });

  it('opens no WebSocket to one who may not', async () => {
    await withGateway(async (harness) => {
      await put(harness, 'f', { auth: { type: 'token' } });
      harness.controller.settings({ tokens: [tokenOf(SECRET)] });
      await harness.controller.settled();
      const client = new RawClient(harness.port).write(
        [
          'GET /f HTTP/1.1',
          'Host: a',
          'Connection: Upgrade',
          'Upgrade: websocket',
          'Sec-WebSocket-Version: 13',
          `Sec-WebSocket-Key: ${'A'.repeat(22)}==`,
          '',
          '',
        ].join('\r\n'),
      );
      expect(await client.untilClosed()).toMatch(/^HTTP\/1\.1 401 /);
      expect(harness.controller.all('want')).toEqual([]);
    });
  });

  it('does not read the body of one who may not', async () => {
    await withGateway(async (harness) => {
      await put(harness, 'f', { auth: { type: 'token' } });
      harness.controller.settings();
      await harness.controller.settled();
      const client = new RawClient(harness.port).write(
        'POST /f HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 50000000\r\n\r\n',
      );
      const text = await client.untilClosed();
      expect(text).toMatch(/^HTTP\/1\.1 401 /);
      expect(text).not.toContain('100 Continue');
      expect(harness.controller.all('want')).toEqual([]);
    });
  });
});

describe('a function that asks for a JWT', () => {
  it('is reached with one by keys that are fetched, and not where they cannot be', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const keys = createServer(async (_incoming, outgoing) =>
      outgoing.end(JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k' }] })),
    );
    await new Promise<void>((resolve) => keys.listen(0, '127.0.0.1', resolve));
    const address = keys.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const jwksAllow = new BlockList();
    jwksAllow.addAddress('127.0.0.1');
    try {
      await withGateway(
        async (harness) => {
          echoes(harness);
          const auth = { type: 'jwt', issuer: 'https://id.test', audience: 'api', claims: {} } as const;
          await put(harness, 'f', { auth: { ...auth, jwksUrl: `http://127.0.0.1:${port}/keys` } });
          await put(harness, 'away', { auth: { ...auth, jwksUrl: 'http://10.0.0.1/keys' } });
          const token = await new SignJWT({ sub: 'alice' })
            .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
            .setIssuer('https://id.test')
            .setAudience('api')
            .setExpirationTime('5m')
            .sign(privateKey);
          const ask = (path: string, bearer: string) => call(`${harness.url}${path}`, { headers: { authorization: `Bearer ${bearer}` } });
          for (let i = 0; i < 3; i++) expect(seen(await ask('/f', token)).headers.authorization).toBe(`Bearer ${token}`);
          const bad = await ask('/f', `${token}x`);
          expect([...codeOf(bad), bad.headers['www-authenticate']]).toEqual([
            401,
            'unauthorized',
            'Bearer realm="fn", error="invalid_token", error_description="the signature of the token is wrong"',
          ]);
          const missing = await call(`${harness.url}/f`);
          expect([missing.status, missing.headers['www-authenticate']]).toEqual([401, 'Bearer realm="fn"']);
          const away = await ask('/away', token);
          expect([...codeOf(away), away.headers['retry-after']]).toEqual([503, 'not-ready', '5']);
          expect(away.text).not.toContain('10.0.0.1');
          // One that leaves while its token is looked at is no trouble.
          const gone = new RawClient(harness.port).write(`GET /f HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}y\r\n\r\n`);
          gone.close();
          expect((await ask('/f', token)).status).toBe(200);
        },
        { config: { jwksAllow } },
      );
    } finally {
      keys.closeAllConnections();
      keys.close();
    }
  });
});

describe('limits', () => {
  const statuses = (answers: Answer[]) => answers.map(({ status }) => status);

  it('of a function, of a client behind a proxy, of a caller', async () => {
    const trustedProxies = new BlockList();
    trustedProxies.addAddress('127.0.0.1');
    await withGateway(
      async (harness) => {
        echoes(harness);
        harness.controller.settings({ tokens: [tokenOf('a', { id: 't-a' }), tokenOf('b', { id: 't-b' })] });
        const rate = { requestsPerSecond: 0.01, burst: 2 };
        await put(harness, 'all', { rateLimit: { ...rate, by: 'function' } });
        await put(harness, 'ip', { rateLimit: { ...rate, by: 'ip' } });
        await put(harness, 'caller', { rateLimit: { ...rate, by: 'caller' }, auth: { type: 'token' } });
        const times = async (count: number, path: string, headers: Record<string, string> = {}) => {
          const answers: Answer[] = [];
          for (let i = 0; i < count; i++) answers.push(await call(`${harness.url}${path}`, { headers }));
          return answers;
        };
        const all = await times(3, '/all');
        expect(statuses(all)).toEqual([200, 200, 429]);
        expect([all[2]!.json<{ code: string }>().code, Number(all[2]!.headers['retry-after'])]).toEqual([
          'rate-limited',
          expect.closeTo(100, -1),
        ]);
        expect(statuses(await times(3, '/ip', { 'x-forwarded-for': '203.0.113.1' }))).toEqual([200, 200, 429]);
        expect(statuses(await times(1, '/ip', { 'x-forwarded-for': '203.0.113.1, 203.0.113.2' }))).toEqual([200]);
        expect(statuses(await times(1, '/ip', { 'x-forwarded-for': '203.0.113.9, 203.0.113.1' }))).toEqual([429]);
        expect(statuses(await times(3, '/caller', { authorization: 'Bearer a' }))).toEqual([200, 200, 429]);
        expect(statuses(await times(3, '/caller', { authorization: 'Bearer b' }))).toEqual([200, 200, 429]);
        // Who may not come in takes nothing from those who may.
        expect(statuses(await times(3, '/caller'))).toEqual([401, 401, 401]);
        // A function of two gateways: each lets half of it through.
        await put(harness, 'half', { rateLimit: { ...rate, by: 'function' } });
        harness.controller.settings({ gateways: 2 });
        await harness.controller.settled();
        expect(statuses(await times(2, '/half'))).toEqual([200, 429]);
      },
      { config: { trustedProxies } },
    );
  });

  it('of a namespace: at a time, and in a second', async () => {
    await withGateway(async (harness) => {
      const held: (() => void)[] = [];
      const instance = await startInstance(harness.socket('i'), (_incoming, outgoing) => held.push(() => outgoing.end('ok')));
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      await put(harness, 'f', { namespace: 'team' });
      await put(harness, 'g', { namespace: 'team' });
      harness.controller.settings({ limits: [{ namespace: 'team', concurrency: 2, requestsPerSecond: null }] });
      await harness.controller.settled();
      const first = [call(`${harness.url}/@team/f`), call(`${harness.url}/@team/g`)];
      await waitFor('two to be held', () => held.length === 2, { everyMs: 2 });
      const over = await call(`${harness.url}/@team/f`);
      expect([...codeOf(over), over.headers['retry-after']]).toEqual([429, 'too-many-requests', '1']);
      // One that goes away makes room, as one that is answered does.
      held[0]!();
      await Promise.race(first);
      const next = new RawClient(harness.port).write('GET /@team/f HTTP/1.1\r\nHost: a\r\n\r\n');
      await waitFor('the third to be held', () => held.length === 3, { everyMs: 2 });
      expect((await call(`${harness.url}/@team/f`)).status).toBe(429);
      next.close();
      await waitFor('room', async () => {
        const client = new RawClient(harness.port).write('GET /@team/f HTTP/1.1\r\nHost: a\r\n\r\n');
        await waitFor('an answer or a hold', () => held.length === 4 || client.text !== '', { everyMs: 2 });
        if (held.length === 4) return true;
        client.close();
        return false;
      });
      for (const answer of held) answer();
      await Promise.all(first);
      harness.controller.settings({ limits: [{ namespace: 'team', concurrency: null, requestsPerSecond: 0 }] });
      await harness.controller.settled();
      expect(codeOf(await call(`${harness.url}/@team/f`))).toEqual([429, 'rate-limited']);
    });
  });
});
