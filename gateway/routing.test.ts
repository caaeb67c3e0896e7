/** Routes and traffic through a whole gateway. */
import { generateKeyPairSync } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import { BlockList } from 'node:net';
import { exportJWK } from 'jose';
import { describe, expect, it } from 'vitest';
import { codeOf, echoes, put, seen, spec, signedToken } from '../test/helpers/gateway-echoes.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { call } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

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
    const token = await signedToken(privateKey);
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
