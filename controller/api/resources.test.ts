/** Traffic, access, secrets, tokens, namespaces and the audit log over the API: what they take, and what they refuse. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { CreateTokenResponse } from '#contract/tenancy.ts';
import { type Answer, ApiFixture, bundleOf } from '../../test/helpers/api-fixture.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
});
afterAll(() => api.close());

const HELLO = '/v1/namespaces/default/functions/hello';
const CANARY = 'hunter2';

async function deploy(): Promise<void> {
  const bundle = await api.upload();
  await api.json('POST', `${HELLO}/revisions`, { bundle, entry: 'index.mjs', settings: {} });
}

beforeEach(async () => {
  api.platform.functions.clear();
  await deploy();
  await deploy();
  api.platform.calls.length = 0;
  api.logged.length = 0;
  api.changedSecrets.length = 0;
});

const all = (revision: number) => ({ traffic: [{ revision, percent: 100 }] });

describe('ETag and If-Match', () => {
  it('a view has its ETag, and a change made from it goes through once', async () => {
    const { headers, json } = await api.call({ path: HELLO });
    expect(headers.etag).toBe(`"${(json as { etag: string }).etag}"`);
    const change = (path: string, body: object, tag: string) => api.json('PUT', `${HELLO}/${path}`, body, { headers: { 'if-match': tag } });
    const first = await change('traffic', all(1), headers.etag!);
    expect(first.status).toBe(200);
    expect(first.headers.etag).not.toBe(headers.etag);
    expect((await change('traffic', all(2), headers.etag!)).problem).toMatchObject({ status: 412, code: 'precondition-failed' });
    expect((await change('access', {}, headers.etag!)).problem.code).toBe('precondition-failed');
    expect((await change('access', {}, first.headers.etag!)).status).toBe(200);
    expect((await change('traffic', all(2), '*')).status).toBe(200);
    expect((await api.json('PUT', `${HELLO}/traffic`, all(1))).status).toBe(200);
  });

  it.each(['7', 'W/"7"', '"1", "2"', '""', 'nonsense', '"'])('If-Match: %s is refused', async (tag) => {
    const { problem } = await api.json('PUT', `${HELLO}/traffic`, all(1), { headers: { 'if-match': tag } });
    expect(problem.code).toBe('bad-request');
    expect(api.platform.calls).toEqual([]);
  });
});

/** Each refused body: what it is, where it is wrong, and the body. */
type Refused = [string, string, unknown];

async function refused(method: string, path: string, pointer: string, body: unknown): Promise<Answer> {
  const answer = await api.json(method, path, body);
  expect(answer.problem).toMatchObject({ status: 422, code: 'invalid' });
  expect(answer.problem.errors?.map((error) => error.pointer)).toContain(pointer);
  expect(api.platform.calls).toEqual([]);
  expect(api.changedSecrets).toEqual([]);
  expect(answer.text).not.toContain(CANARY);
  return answer;
}

describe('traffic', () => {
  it('is set, and answered with the function', async () => {
    const { json } = await api.json('PUT', `${HELLO}/traffic`, {
      traffic: [
        { revision: 2, percent: 90 },
        { revision: 1, percent: 10 },
      ],
    });
    expect(json).toMatchObject({
      traffic: [
        { revision: 2, percent: 90 },
        { revision: 1, percent: 10 },
      ],
    });
    expect((await api.call({ path: `${HELLO}/revisions` })).json).toMatchObject({
      revisions: [
        { number: 2, percent: 90 },
        { number: 1, percent: 10 },
      ],
    });
  });

  it('for a revision that is not there: 404', async () => {
    expect((await api.json('PUT', `${HELLO}/traffic`, all(9))).problem.code).toBe('revision-not-found');
  });

  it.each<Refused>([
    ['less than all', '/traffic', { traffic: [{ revision: 1, percent: 99 }] }],
    [
      'more than all',
      '/traffic',
      {
        traffic: [
          { revision: 1, percent: 60 },
          { revision: 2, percent: 60 },
        ],
      },
    ],
    [
      'a revision twice',
      '/traffic',
      {
        traffic: [
          { revision: 1, percent: 50 },
          { revision: 1, percent: 50 },
        ],
      },
    ],
    ['nothing', '/traffic', { traffic: [] }],
    [
      'a share of nothing',
      '/traffic/1/percent',
      {
        traffic: [
          { revision: 1, percent: 100 },
          { revision: 2, percent: 0 },
        ],
      },
    ],
    ['half a percent', '/traffic/0/percent', { traffic: [{ revision: 1, percent: 99.5 }] }],
    ['revision 0', '/traffic/0/revision', all(0)],
    ['an unknown field', '/sticky', { ...all(1), sticky: true }],
  ])('of %s: 422', async (_name, pointer, body) => {
    expect((await refused('PUT', `${HELLO}/traffic`, pointer, body)).status).toBe(422);
  });
});

describe('access', () => {
  it.each<Refused>([
    ['a path that leads out', '/routes/0/path', { routes: [{ path: '/../x' }] }],
    ["the platform's path", '/routes/0/path', { routes: [{ path: '/.fn/init' }] }],
    ['a host in upper case', '/routes/0/host', { routes: [{ host: 'A.example.com' }] }],
    ['a host with a port', '/routes/0/host', { routes: [{ host: 'a.example.com:80' }] }],
    ['an unknown method', '/routes/0/methods/0', { routes: [{ methods: ['BREW'] }] }],
    ['no method', '/routes/0/methods', { routes: [{ methods: [] }] }],
    ['too many routes', '/routes', { routes: Array.from({ length: 65 }, (_, index) => ({ path: `/${index}` })) }],
    ['credentials for everybody', '/cors/credentials', { cors: { origins: ['*'], credentials: true } }],
    ['an origin with a path', '/cors/origins/0', { cors: { origins: ['https://a.example.com/x'] } }],
    ['an unknown kind of auth', '/auth/type', { auth: { type: 'basic' } }],
    ['a JWT without an issuer', '/auth/issuer', { auth: { type: 'jwt', audience: 'x' } }],
    ['keys from a file', '/auth/jwksUrl', { auth: { type: 'jwt', issuer: 'x', audience: 'x', jwksUrl: 'file:///etc/passwd' } }],
    [
      'a key that is secret',
      '/auth/jwks/keys/0/k',
      { auth: { type: 'jwt', issuer: 'x', audience: 'x', jwks: { keys: [{ kty: 'oct', k: 'c2VjcmV0' }] } } },
    ],
    ['no requests at all', '/rateLimit/requestsPerSecond', { rateLimit: { requestsPerSecond: 0 } }],
    ['a header in upper case', '/sticky/name', { sticky: { by: 'header', name: 'X-User' } }],
    ['logs without end', '/logs/maxBytes', { logs: { maxBytes: 1e18 } }],
    ['an unknown field', '/route', { route: [] }],
  ])('with %s: 422', async (_name, pointer, body) => {
    expect((await refused('PUT', `${HELLO}/access`, pointer, body)).status).toBe(422);
  });
});

describe('logs', () => {
  it('are asked for by all that a query can say', async () => {
    const query = 'follow=false&since=5&until=9&limit=3&request=r-1&level=warn&grep=a%20b';
    expect((await api.call({ path: `${HELLO}/logs?${query}` })).status).toBe(200);
    expect(api.platform.selection).toEqual({ follow: false, since: 5, until: 9, limit: 3, request: 'r-1', level: 'warn', grep: 'a b' });
    expect((await api.call({ path: `${HELLO}/logs/stats` })).json).toEqual({ bytes: 10, droppedLines: 3, oldest: 1 });
  });

  it.each(['level=loud', 'until=-1', 'grep=', 'request=', 'limit=10001', 'level=warn&level=info', 'tail=5'])('?%s: 422', async (query) => {
    expect((await api.call({ path: `${HELLO}/logs?${query}` })).problem.code).toBe('invalid');
    expect(api.platform.calls).toEqual([]);
  });
});

describe('secrets', () => {
  const path = '/v1/namespaces/default/secrets';

  it('are set, the same again without a change, listed and deleted; no answer has a value', async () => {
    const put = (value: string) => api.json('PUT', `${path}/API_KEY`, { value });
    const answers = [await put(CANARY), await put(CANARY), await put(`${CANARY}-2`)];
    expect(answers.map(({ status, json }) => [status, (json as { version: number }).version])).toEqual([
      [200, 1],
      [200, 1],
      [200, 2],
    ]);
    expect(api.changedSecrets).toEqual(['default/API_KEY', 'default/API_KEY']);
    answers.push(await api.call({ path }), await api.call({ path: `${path}/API_KEY` }), await api.call({ path: '/v1/audit' }));
    answers.push(await api.call({ method: 'DELETE', path: `${path}/API_KEY` }));
    expect(answers.map(({ text }) => text).join()).not.toContain(CANARY);
    expect(JSON.stringify(api.logged)).not.toContain(CANARY);
    expect((await api.call({ path: `${path}/API_KEY` })).problem.code).toBe('secret-not-found');
    expect((await api.call({ method: 'DELETE', path: `${path}/API_KEY` })).problem.code).toBe('secret-not-found');
  });

  it.each<Refused>([
    ['no value', '/value', {}],
    ['a value that is no text', '/value', { value: { [CANARY]: CANARY } }],
    ['a number', '/value', { value: 5 }],
    ['NUL', '/value', { value: `${CANARY}\0` }],
    ['too many characters', '/value', { value: CANARY.repeat(10_000) }],
    ['too many bytes', '/value', { value: 'ü'.repeat(40_000) }],
    ['an unknown field', '/values', { value: CANARY, values: CANARY }],
  ])('of %s: 422, and the value is not repeated', async (_name, pointer, body) => {
    expect((await refused('PUT', `${path}/API_KEY`, pointer, body)).status).toBe(422);
  });

  it.each([
    ['cut short', `{"value":"${CANARY}`, 400],
    ['without quotes', `{"value":${CANARY}}`, 400],
    ['over a mebibyte', `{"value":"${CANARY.repeat(200_000)}"}`, 413],
  ])('in a body %s: the value is not repeated, nor logged', async (_name, body, status) => {
    const answer = await api.call({ method: 'PUT', path: `${path}/A`, headers: { 'content-type': 'application/json' }, body });
    expect(answer.problem.status).toBe(status);
    expect(answer.text + JSON.stringify(api.logged)).not.toContain(CANARY);
  });

  it.each(['9LIVES', 'FN_TOKEN', '__proto__', 'with-dash', 'a'.repeat(129), 'caf%C3%A9'])('named %s: 422', async (name) => {
    expect((await api.json('PUT', `${path}/${name}`, { value: 'x' })).problem).toMatchObject({
      status: 422,
      errors: [{ pointer: 'path/name' }],
    });
  });
});

describe('tokens', () => {
  const good = { name: 'ci', scopes: ['deploy'], namespaces: ['shop'] };

  it('are made, used, listed and revoked', async () => {
    const { status, json } = await api.json('POST', '/v1/tokens', good);
    expect(status).toBe(201);
    const { token, id } = CreateTokenResponse.parse(json);
    expect((await api.call({ path: '/v1/whoami', token })).json).toEqual({ ...good, id, version: '1.2.3' });
    const list = await api.call({ path: '/v1/tokens' });
    expect(list.json).toMatchObject({ tokens: [{ id, revokedAt: null }] });
    expect(list.text + JSON.stringify(api.logged) + (await api.call({ path: '/v1/audit' })).text).not.toContain(token.slice(17));
    const revoke = () => api.call({ method: 'DELETE', path: `/v1/tokens/${id}` });
    const first = await revoke();
    expect((await revoke()).json).toEqual(first.json);
    expect((await api.call({ path: '/v1/whoami', token })).problem.code).toBe('unauthorized');
  });

  it('expired, revoked, wrong, under another scheme: all alike', async () => {
    const { token, id } = CreateTokenResponse.parse(
      (await api.json('POST', '/v1/tokens', { ...good, expiresAt: Date.now() + 3_600_000 })).json,
    );
    await api.call({ method: 'DELETE', path: `/v1/tokens/${id}` });
    const headers = [`Bearer ${token}`, `Basic ${token}`, token, 'Bearer x', `Bearer fn_${'z'.repeat(12)}_${'z'.repeat(43)}`, ''];
    const answers = await Promise.all(headers.map((authorization) => api.call({ path: HELLO, via: 'tcp', headers: { authorization } })));
    const alike = answers.map(({ status, headers: own, problem: { instance: _instance, ...problem } }) =>
      JSON.stringify({ status, challenge: own['www-authenticate'], problem }),
    );
    expect(new Set(alike).size).toBe(1);
    expect(alike[0]).toContain('"status":401');
  });

  it.each<Refused>([
    ['no name', '/name', { ...good, name: '' }],
    ['a long name', '/name', { ...good, name: 'x'.repeat(101) }],
    ['no scope', '/scopes', { ...good, scopes: [] }],
    ['an unknown scope', '/scopes/0', { ...good, scopes: ['root'] }],
    ['no namespace', '/namespaces', { ...good, namespaces: [] }],
    ['a namespace that none can be', '/namespaces/0', { ...good, namespaces: ['../x'] }],
    ['an end in the past', '/expiresAt', { ...good, expiresAt: 5 }],
    ['an end at half a millisecond', '/expiresAt', { ...good, expiresAt: 1e15 + 0.5 }],
    ['an id of one’s own', '/id', { ...good, id: 't-000000000000' }],
  ])('with %s: 422', async (_name, pointer, body) => {
    expect((await refused('POST', '/v1/tokens', pointer, body)).status).toBe(422);
  });

  it.each(['x', 't-SHORT', `fn_${'a'.repeat(12)}_${'b'.repeat(43)}`])('id %s: 422', async (id) => {
    expect((await api.call({ method: 'DELETE', path: `/v1/tokens/${id}` })).problem.errors).toMatchObject([{ pointer: 'path/id' }]);
  });
});

describe('namespaces', () => {
  it('are set twice with the same answer, and shown with what they use', async () => {
    const put = () => api.json('PUT', '/v1/namespaces/shop', { quota: { functions: 2 }, hosts: ['shop.example.com'] });
    const first = await put();
    expect(first.json).toMatchObject({ name: 'shop', quota: { functions: 2, memoryMib: null }, usage: { functions: 0, memoryMib: 0 } });
    expect((await put()).json).toEqual(first.json);
    expect((await api.call({ path: '/v1/namespaces/shop' })).json).toEqual(first.json);
    expect((await api.json('PUT', '/v1/namespaces/blog', { hosts: ['shop.example.com'] })).problem.code).toBe('conflict');
    expect((await api.call({ method: 'DELETE', path: '/v1/namespaces/shop' })).status).toBe(204);
    expect((await api.call({ method: 'DELETE', path: '/v1/namespaces/shop' })).problem.code).toBe('namespace-not-found');
  });

  it.each<Refused>([
    ['memory −1', '/quota/memoryMib', { quota: { memoryMib: -1 } }],
    ['1e18 functions', '/quota/functions', { quota: { functions: 1e18 } }],
    ['half a function', '/quota/functions', { quota: { functions: 0.5 } }],
    ['a host with a path', '/hosts/0', { hosts: ['a.example.com/x'] }],
    ['an unknown limit', '/quota/cpu', { quota: { cpu: 1 } }],
    ['an unknown field', '/owner', { owner: 'me' }],
  ])('with %s: 422', async (_name, pointer, body) => {
    expect((await refused('PUT', '/v1/namespaces/shop', pointer, body)).status).toBe(422);
  });

  it.each(['UPPER', 'a'.repeat(64), 'constructor', '-x', '__proto__', 'a_b'])('named %s: 422', async (name) => {
    expect((await api.json('PUT', `/v1/namespaces/${name}`, {})).problem.errors).toMatchObject([{ pointer: 'path/namespace' }]);
  });

  it.each([
    ['declared', {}],
    ['chunked', { 'transfer-encoding': 'chunked' }],
  ])('a bundle over the quota, %s: 403, closed, nothing kept', async (_name, headers) => {
    const { digest, data } = await bundleOf({ 'index.mjs': Array.from({ length: 500 }, () => Math.random()).join() });
    await api.json('PUT', '/v1/namespaces/small', { quota: { bundleBytes: 1_000 } });
    const path = `/v1/namespaces/small/bundles/${digest}`;
    const answer = await api.call({ method: 'PUT', path, headers: { 'content-type': 'application/gzip', ...headers }, body: data });
    expect(answer.problem).toMatchObject({ status: 403, code: 'quota-exceeded', detail: expect.stringContaining('bundleBytes') });
    expect(answer.headers.connection).toBe('close');
    expect((await api.call({ method: 'HEAD', path })).status).toBe(404);
    await api.json('PUT', '/v1/namespaces/small', { quota: { bundleBytes: data.length } });
    expect((await api.call({ method: 'PUT', path, headers: { 'content-type': 'application/gzip' }, body: data })).status).toBe(201);
  });
});

describe('the audit log', () => {
  const newest = async () => ((await api.call({ path: '/v1/audit?limit=1' })).json as { entries: object[] }).entries[0];

  it('has who, what, where, how it ended, and the id of the request', async () => {
    const { token, id } = await api.tokenFor(['default'], 'deploy');
    const answer = await api.json('PUT', `${HELLO}/traffic`, all(1), { token });
    expect(await newest()).toMatchObject({
      by: { id, name: 'deploy of default' },
      action: 'function.traffic',
      namespace: 'default',
      subject: 'hello',
      request: answer.headers['x-request-id'],
      outcome: 'ok',
      detail: all(1),
    });
    await api.json('PUT', `${HELLO}/traffic`, all(9), { token });
    expect(await newest()).toMatchObject({ outcome: 'revision-not-found' });
    await api.json('POST', '/v1/tokens', {}, { token });
    expect(await newest()).toMatchObject({ action: 'token.create', outcome: 'forbidden', by: { id } });
    const { bundle } = api.platform.functions.get('default/hello')!.revisions[0]!;
    await api.json('POST', `${HELLO}/revisions`, { bundle, entry: 'index.mjs', settings: { env: { PASSWORD: CANARY } } });
    expect(await newest()).toMatchObject({ action: 'function.deploy', outcome: 'ok', detail: { revision: 3, bundle } });
    expect(JSON.stringify(await newest())).not.toContain(CANARY);
  });

  it('has nothing of what only looks, and nothing of nobody', async () => {
    const before = await newest();
    await api.call({ path: HELLO });
    await api.call({ path: '/v1/functions/../x' });
    await api.json('PUT', `${HELLO}/traffic`, all(1), { token: 'wrong' });
    expect(await newest()).toEqual(before);
  });

  it.each(['limit=0', 'limit=1001', 'since=x', 'before=0', 'namespace=NO', 'until=5'])('?%s: 422', async (query) => {
    expect((await api.call({ path: `/v1/audit?${query}` })).problem.code).toBe('invalid');
  });

  it('a change that cannot be written down is not answered with success', async () => {
    const failing = await ApiFixture.start({
      audit: {
        record: () => Promise.reject(new FnError('store-unavailable', 'The disk is full.')),
        list: async () => [],
      },
    });
    try {
      const { problem } = await failing.json('PUT', '/v1/namespaces/default/secrets/A', { value: 'x' });
      expect(problem.code).toBe('store-unavailable');
      // Why a change failed comes first; that it was not written down is in the log.
      const missing = await failing.call({ method: 'DELETE', path: '/v1/namespaces/default/secrets/B' });
      expect(missing.problem.code).toBe('secret-not-found');
      expect(failing.logged.some(({ message }) => message.includes('could not be written to the audit log'))).toBe(true);
    } finally {
      await failing.close();
    }
  });
});
