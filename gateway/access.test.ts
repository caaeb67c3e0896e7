/** CORS, tokens and limits through a whole gateway. */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { BlockList } from 'node:net';
import { exportJWK } from 'jose';
import { describe, expect, it } from 'vitest';
import { Cors } from '#contract/access.ts';
import type { InvokeToken } from '#contract/link.ts';
import { codeOf, echoes, put, seen, spec, signedToken } from '../test/helpers/gateway-echoes.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { type Answer, call } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

const tokenOf = (text: string, more: Partial<InvokeToken> = {}): InvokeToken => ({
  id: 't-abcdefghijkl',
  sha256: createHash('sha256').update(text).digest('hex'),
  namespaces: ['default'],
  expiresAt: null,
  ...more,
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
          const token = await signedToken(privateKey);
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
