/** The routes, over a real unix socket and a fake Platform. */
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DeployResponse, FunctionList, type LogEntry, MAX_API_BODY_BYTES, PlatformStatus } from '#contract/api.ts';
import { FnError, Problem } from '#contract/errors.ts';
import { ApiFixture } from '../../test/helpers/api-fixture.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
});
afterAll(() => api.close());
afterEach(() => {
  api.platform.functions.clear();
  api.platform.logLines.length = 0;
  api.platform.calls.length = 0;
  api.platform.aborted.length = 0;
  api.platform.deployGate = Promise.resolve();
  api.logged.length = 0;
});

const HELLO = '/v1/namespaces/default/functions/hello';

async function deployed(name = 'hello', namespace = 'default'): Promise<string> {
  const bundle = await api.upload(undefined, namespace);
  await api.json('POST', `/v1/namespaces/${namespace}/functions/${name}/revisions`, { bundle, entry: 'index.mjs', settings: {} });
  return bundle;
}

const line = (msg: string, t = 1): LogEntry => ({
  t,
  level: 'info',
  stream: 'out',
  msg,
  revision: 'default/hello@1',
  instance: 'i-000000000000',
});

describe('status', () => {
  it('is what the platform says', async () => {
    const { status, json, headers } = await api.call({ path: '/v1/status' });
    expect(status).toBe(200);
    expect(PlatformStatus.parse(json)).toEqual(json);
    expect(headers['cache-control']).toBe('no-store');
    expect(headers['x-request-id']).toMatch(/^[a-z0-9]+-[a-z0-9]+$/);
  });

  it('gives each request an id of its own', async () => {
    const ids = await Promise.all(Array.from({ length: 5 }, async () => (await api.call({ path: '/v1/status' })).headers['x-request-id']));
    expect(new Set(ids).size).toBe(5);
  });
});

describe('functions', () => {
  it('deploys, lists, describes, lists revisions, deletes', async () => {
    const bundle = await deployed();
    await deployed();
    await deployed('other', 'team');
    const list = FunctionList.parse((await api.call({ path: '/v1/functions' })).json);
    expect(list.functions.map(({ namespace, name }) => `${namespace}/${name}`)).toEqual(['default/hello', 'team/other']);
    expect(FunctionList.parse((await api.call({ path: '/v1/functions?namespace=team' })).json).functions).toHaveLength(1);
    expect((await api.call({ path: HELLO })).json).toMatchObject({ name: 'hello', revisions: [2, 1], revision: { bundle } });
    expect((await api.call({ path: `${HELLO}/revisions` })).json).toMatchObject({ revisions: [{ number: 2 }, { number: 1 }] });
    const gone = await api.call({ method: 'DELETE', path: HELLO });
    expect([gone.status, gone.text]).toEqual([204, '']);
    expect((await api.call({ path: HELLO })).problem).toMatchObject({ status: 404, code: 'function-not-found' });
  });

  it('answers 201 with the revision, every default filled in', async () => {
    const bundle = await api.upload();
    const answer = await api.json('POST', `${HELLO}/revisions`, { bundle, entry: 'index.mjs', settings: { memoryMib: 256 } });
    expect(answer.status).toBe(201);
    expect(DeployResponse.parse(answer.json).revision.settings).toMatchObject({ memoryMib: 256, timeoutSeconds: 30, max: 100 });
  });

  it.each(['GET', 'DELETE'])('%s of what is not there: 404', async (method) => {
    expect((await api.call({ method, path: HELLO })).problem.code).toBe('function-not-found');
  });

  it("a function's own error reaches the client whole", async () => {
    const bundle = await api.upload();
    api.platform.failure = new FnError('deploy-refused', 'The function did not load.', {
      functionError: { name: 'TypeError', message: 'x is not a function', at: 'handler.ts:3:9' },
    });
    const { problem } = await api.json('POST', `${HELLO}/revisions`, { bundle, entry: 'index.mjs', settings: {} });
    expect(problem).toMatchObject({ status: 422, code: 'deploy-refused', functionError: { at: 'handler.ts:3:9' } });
  });

  it('a client that goes away before the commit abandons its deployment', async () => {
    const bundle = await api.upload();
    api.platform.deployGate = new Promise(() => {});
    const request = httpRequest({
      socketPath: api.socketPath,
      method: 'POST',
      path: `${HELLO}/revisions`,
      headers: { 'content-type': 'application/json' },
    });
    request.on('error', () => {});
    request.end(JSON.stringify({ bundle, entry: 'index.mjs', settings: {} }));
    await expect.poll(() => api.platform.calls).toContain('deploy default/hello');
    request.destroy();
    await expect.poll(() => api.platform.aborted).toEqual(['deploy']);
    expect(api.logged.filter(({ level }) => level === 'error')).toEqual([]);
  });
});

describe('what a deployment must not say: 422 with a pointer, and the platform is not asked', () => {
  it.each<[string, string, object]>([
    ['memory −1', '/settings/memoryMib', { settings: { memoryMib: -1 } }],
    ['memory 1e18', '/settings/memoryMib', { settings: { memoryMib: 1e18 } }],
    ['memory null', '/settings/memoryMib', { settings: { memoryMib: null } }],
    ['timeout 0', '/settings/timeoutSeconds', { settings: { timeoutSeconds: 0 } }],
    ['min above max', '/settings/min', { settings: { min: 5, max: 2 } }],
    ['egress to nonsense', '/settings/egress', { settings: { egress: 'everywhere' } }],
    ['a bad environment name', '/settings/env/1A', { settings: { env: { '1A': '' } } }],
    ["the platform's environment", '/settings/env/FN_X', { settings: { env: { FN_X: '' } } }],
    ['an unknown setting', '/settings/memory', { settings: { memory: 1 } }],
    ['an unknown field', '/nonsense', { nonsense: 1 }],
    ['a slash in the unknown field', '/a~1b', { 'a/b': 1 }],
    ['an entry that leads out', '/entry', { entry: '../x' }],
    ['an entry that is not in the bundle', '/entry', { entry: 'missing.mjs' }],
    ['an entry that is a folder', '/entry', { entry: 'lib' }],
    ['an entry inside a file', '/entry', { entry: 'index.mjs/x' }],
    ['a bundle that is not there', '/bundle', { bundle: `sha256:${'0'.repeat(64)}` }],
    ['no digest', '/bundle', { bundle: '../../etc' }],
  ])('%s', async (_name, pointer, change) => {
    const bundle = await api.upload({ 'index.mjs': '', 'lib/a.mjs': '' });
    api.platform.calls.length = 0;
    const { problem } = await api.json('POST', `${HELLO}/revisions`, { bundle, entry: 'index.mjs', settings: {}, ...change });
    expect(problem).toMatchObject({ status: 422, code: 'invalid' });
    expect(problem.errors?.map((error) => error.pointer)).toContain(pointer);
    expect(api.platform.calls).toEqual([]);
  });

  it.each([
    ['{"bundle":"x","__proto__":{"a":1}}', '/__proto__'],
    ['{"settings":{"env":{"__proto__":"x"}}}', '/settings/env/__proto__'],
  ])('__proto__ in %s', async (body, pointer) => {
    const { problem } = await api.call({
      method: 'POST',
      path: `${HELLO}/revisions`,
      headers: { 'content-type': 'application/json' },
      body,
    });
    expect(problem).toMatchObject({ status: 422, code: 'invalid', errors: [{ pointer }] });
  });

  it.each([
    ['/v1/namespaces/default/functions/UPPER', 'path/name'],
    ['/v1/namespaces/default/functions/constructor', 'path/name'],
    [`/v1/namespaces/default/functions/${'a'.repeat(64)}`, 'path/name'],
    ['/v1/namespaces/-x/functions/hello', 'path/namespace'],
    ['/v1/namespaces/__proto__/functions/hello', 'path/namespace'],
    ['/v1/namespaces/default/bundles/sha256:zz', 'path/digest'],
    ['/v1/functions?namespace=No', 'query/namespace'],
    ['/v1/functions?nonsense=1', 'query/nonsense'],
    ['/v1/functions?__proto__=1', 'query/__proto__'],
    ['/v1/functions?namespace=a&namespace=b', 'query/namespace'],
    [`${HELLO}/logs?limit=0`, 'query/limit'],
    [`${HELLO}/logs?since=x`, 'query/since'],
    [`${HELLO}/logs?follow=perhaps`, 'query/follow'],
  ])('GET %s', async (path, pointer) => {
    const { problem } = await api.call({ path });
    expect(problem).toMatchObject({ status: 422, code: 'invalid', errors: [{ pointer }] });
    expect(api.platform.calls).toEqual([]);
  });
});

describe('bodies', () => {
  const post = (body: string | Buffer, headers: Record<string, string> = { 'content-type': 'application/json' }) =>
    api.call({ method: 'POST', path: `${HELLO}/revisions`, headers, body });

  it.each<[string, string | Buffer, number]>([
    ['empty', '', 400],
    ['cut short', '{"a":', 400],
    ['NaN', '{"a":NaN}', 400],
    ['trailing', '{} {}', 400],
    ['not UTF-8', Buffer.from([0x22, 0xff, 0x22]), 400],
    ['too deep', '['.repeat(100_000), 400],
    ['deep in a string is not deep', JSON.stringify('['.repeat(100)), 422],
    ['an array', '[]', 422],
    ['null', 'null', 422],
  ])('%s', async (_name, body, status) => {
    expect((await post(body)).problem.status).toBe(status);
  });

  it.each([
    ['none', {}],
    ['text', { 'content-type': 'text/plain' }],
    ['form', { 'content-type': 'application/x-www-form-urlencoded' }],
    ['another charset', { 'content-type': 'application/json; charset=utf-16' }],
    ['compressed', { 'content-type': 'application/json', 'content-encoding': 'gzip' }],
  ])('content type %s: 415', async (_name, headers) => {
    expect((await post('{}', headers as Record<string, string>)).problem.code).toBe('unsupported-media-type');
  });

  it('what the parser says about a body is not quoted: it may be secret', async () => {
    const answer = await post('{"password": hunter2}');
    expect(answer.problem.status).toBe(400);
    expect(answer.text).not.toContain('hunter');
  });

  it('over the limit, declared: 413 and close, without being read', async () => {
    const answer = await post(Buffer.alloc(MAX_API_BODY_BYTES + 1, 0x20));
    expect(answer.problem.code).toBe('body-too-large');
    expect(answer.headers.connection).toBe('close');
  });

  it('over the limit, chunked: 413 and close', async () => {
    const answer = await post(Buffer.alloc(MAX_API_BODY_BYTES + 1, 0x20), {
      'content-type': 'application/json',
      'transfer-encoding': 'chunked',
    });
    expect(answer.problem.code).toBe('body-too-large');
    expect(answer.headers.connection).toBe('close');
  });

  it('at the limit: read', async () => {
    expect((await post(Buffer.alloc(MAX_API_BODY_BYTES, 0x20))).problem.status).toBe(400);
  });
});

describe('logs', () => {
  it('come as lines of JSON, and end', async () => {
    await deployed();
    for (const [index, text] of ['one', 'zwei ü', 'three\nlines'].entries()) api.platform.log(line(text, index));
    const answer = await api.call({ path: `${HELLO}/logs?since=1&limit=2` });
    expect(answer.headers['content-type']).toBe('application/x-ndjson');
    expect(
      answer.text
        .trim()
        .split('\n')
        .map((text) => JSON.parse(text)),
    ).toEqual([line('zwei ü', 1), line('three\nlines', 2)]);
  });

  it('of no function: 404, also with follow', async () => {
    expect((await api.call({ path: `${HELLO}/logs?follow=true` })).problem.code).toBe('function-not-found');
  });

  it('that fail before the first line have a status', async () => {
    await deployed();
    api.platform.log(line('BREAK'));
    expect((await api.call({ path: `${HELLO}/logs` })).problem.status).toBe(500);
  });

  it('that fail after it look cut off', async () => {
    await deployed();
    api.platform.log(line('good'));
    api.platform.log(line('BREAK'));
    await expect(api.call({ path: `${HELLO}/logs` })).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(api.logged.some(({ message }) => message.includes('broke off'))).toBe(true);
  });

  it('HEAD has no body, and does not wait for one', async () => {
    await deployed();
    expect((await api.call({ method: 'HEAD', path: `${HELLO}/logs?follow=1` })).status).toBe(200);
  });

  it('with follow: headers at once, each line when it is written, and the platform knows when the client goes', async () => {
    await deployed();
    const request = httpRequest({ socketPath: api.socketPath, path: `${HELLO}/logs?follow=true` });
    request.end();
    const [response] = await once(request, 'response');
    expect(response.statusCode).toBe(200);
    api.platform.log(line('first'));
    const [first] = await once(response, 'data');
    expect(JSON.parse(String(first)).msg).toBe('first');
    api.platform.log(line('second'));
    const [second] = await once(response, 'data');
    expect(JSON.parse(String(second)).msg).toBe('second');
    response.on('error', () => {});
    request.destroy();
    await expect.poll(() => api.platform.aborted).toEqual(['logs']);
  });

  it('a reader that does not read holds the log back, not our memory', async () => {
    await deployed();
    const big = 'x'.repeat(16_000);
    for (let index = 0; index < 2_000; index++) api.platform.logLines.push(line(big));
    const request = httpRequest({ socketPath: api.socketPath, path: `${HELLO}/logs` });
    request.end();
    const [response] = await once(request, 'response');
    let bytes = 0;
    for await (const chunk of response) bytes += (chunk as Buffer).length;
    expect(bytes).toBeGreaterThan(2_000 * 16_000);
  });
});

describe('errors', () => {
  it('of ours: 500 that says nothing, and a log line that says all, with the id of the request', async () => {
    api.platform.failure = new Error('secret at /home/x.ts');
    const answer = await api.call({ path: '/v1/status' });
    expect(answer.problem).toMatchObject({ status: 500, code: 'internal', instance: answer.headers['x-request-id'] });
    expect(answer.text).not.toMatch(/secret|\.ts|at /);
    const entry = api.logged.find(({ level }) => level === 'error');
    expect(entry?.fields).toMatchObject({ requestId: answer.headers['x-request-id'], cause: expect.stringContaining('secret at') });
  });

  it.each([
    [new FnError('no-capacity', 'Full.', { retryAfterSeconds: 2.5 }), 503, '3'],
    [new FnError('store-unavailable', 'Disk.', {}), 503, '1'],
    [new FnError('too-many-requests', 'Slow.', { retryAfterSeconds: 7 }), 429, '7'],
    [new FnError('conflict', 'No.'), 409, undefined],
  ])('%s', async (failure, status, retryAfter) => {
    api.platform.failure = failure;
    const answer = await api.call({ path: '/v1/status' });
    expect(answer.status).toBe(status);
    expect(answer.headers['retry-after']).toBe(retryAfter);
    expect(Problem.parse(answer.json)).toEqual(answer.json);
  });

  it.each([
    ['/', 404],
    ['/v1', 404],
    ['/v1/status/', 404],
    ['/v2/status', 404],
    ['/v1/openapi_json', 404],
  ])('GET %s: 404 as a problem', async (path, status) => {
    expect((await api.call({ path })).problem).toMatchObject({ status, code: 'not-found' });
  });

  it.each([
    ['POST', '/v1/status', 'GET, HEAD'],
    ['DELETE', '/v1/functions', 'GET, HEAD'],
    ['PUT', HELLO, 'DELETE, GET, HEAD'],
    ['OPTIONS', `${HELLO}/revisions`, 'GET, HEAD, POST'],
    ['GET', '/v1/shutdown', 'POST'],
    ['POST', `/v1/namespaces/default/bundles/sha256:${'0'.repeat(64)}`, 'GET, HEAD, PUT'],
    ['TRACE', '/v1/status', 'GET, HEAD'],
    ['PROPFIND', '/v1/status', 'GET, HEAD'],
  ])('%s %s: 405 + Allow', async (method, path, allow) => {
    const answer = await api.call({ method, path });
    expect(answer.problem.code).toBe('method-not-allowed');
    expect(answer.headers.allow).toBe(allow);
  });
});

describe('shutdown', () => {
  it('over the unix socket: 202, then the platform is told', async () => {
    const answer = await api.call({ method: 'POST', path: '/v1/shutdown' });
    expect([answer.status, answer.json]).toEqual([202, { stopping: true }]);
    await expect.poll(() => api.platform.calls).toEqual(['shutdown']);
  });

  it('over TCP: 403, with the token too', async () => {
    const answer = await api.call({ method: 'POST', path: '/v1/shutdown', via: 'tcp', headers: { authorization: `Bearer ${api.token}` } });
    expect(answer.problem.code).toBe('forbidden');
    expect(api.platform.calls).toEqual([]);
  });
});
