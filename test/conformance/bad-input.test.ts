/**
 * Bad input, and the answer that each must get: every line of the list, in every variant, on the listeners that are
 * real (the public one of the gateway, the control API) and on raw sockets, in one piece, byte by byte and in pieces.
 *
 * Each answer is application/problem+json with all its fields and no stack trace, nothing has changed by it, and the next
 * request on a fresh connection is well. The list is in bad-input.cases.ts; a test at the end holds that each variant has a case.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ERRORS, type ErrorCode, FnError } from '#contract/errors.ts';
import { MAX_EVENT_BYTES } from '#contract/events.ts';
import { API_LIMITS } from '../../controller/api/env.ts';
import { SERVER_LIMITS } from '../../controller/api/server.ts';
import { BODY_PACE } from '../../gateway/body.ts';
import { readConfig } from '../../gateway/config.ts';
import { CONNECTIONS_CHECK_MS } from '../../gateway/server.ts';
import { ApiFixture, bundleOf } from '../helpers/api-fixture.ts';
import { runCli, temporaryFolder } from '../helpers/cli.ts';
import { createStubApi, listenStubApi } from '../helpers/cli-stub-api.ts';
import type { Harness } from '../helpers/gateway-harness.ts';
import { RawClient } from '../helpers/gateway-harness.ts';
import { startRawInstance } from '../helpers/gateway-instance.ts';
import { call } from '../helpers/http.ts';
import { tar } from '../helpers/tar.ts';
import { waitFor } from '../helpers/wait.ts';
import { API, type Case, controlled, covered, HELLO, HTTP, LINES, of, PATHS, send, webhook } from './bad-input.cases.ts';
import { openGateway, refusedAnswer, WAYS } from './bad-input.fixture.ts';

let api: ApiFixture;
let gateway: Awaited<ReturnType<typeof openGateway>>;
/** Requests that reached the function. */
let seen = 0;
beforeAll(async () => {
  api = await ApiFixture.start();
  const bundle = await api.upload();
  await api.json('POST', '/v1/namespaces/default/functions/hello/revisions', { bundle, entry: 'index.mjs', settings: {} });
  gateway = await openGateway({ config: { maxBodyBytes: 10_000 } });
  const { harness } = gateway;
  const instance = await startRawInstance(harness.socket('hello'), (socket, text) => {
    if (!text.includes(' HTTP/1.1\r\n')) return;
    seen++;
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
  });
  harness.defer(() => instance.stop());
  harness.controller.grantOnDemand(() => instance.address);
  harness.controller.route('hello');
  await harness.controller.settled();
});
afterAll(async () => {
  await gateway.close();
  await api.close();
});

/** All that a request could change of the platform. */
async function apiState(): Promise<string> {
  const paths = ['/v1/functions', '/v1/namespaces', '/v1/namespaces/default/secrets', '/v1/namespaces/default/functions/hello/triggers'];
  const answers = await Promise.all(paths.map(async (path) => (await api.call({ path })).text));
  return JSON.stringify([answers, readdirSync(api.folder, { recursive: true }).toSorted()]);
}

function bytesFor(on: 'gateway' | 'api', { bytes, bare = false }: Case): Buffer {
  if (Buffer.isBuffer(bytes)) return bytes;
  const path = on === 'gateway' ? '/hello' : `${HELLO}/revisions`;
  const text = bytes.replace('PATH', path);
  return Buffer.from(bare || on === 'gateway' ? text : text.replace('\r\n', `\r\nAuthorization: Bearer ${api.token}\r\n`), 'latin1');
}

describe.each([...HTTP, ...PATHS, ...API])('$name', (one) => {
  for (const on of one.on === undefined ? (['gateway', 'api'] as const) : [one.on]) {
    it(`on the ${on === 'api' ? 'control API' : 'gateway'}: ${one.status} ${one.code}`, async () => {
      const target = on === 'api' ? api.target('tcp') : { host: '127.0.0.1', port: gateway.harness.port };
      const before = on === 'api' ? await apiState() : String(seen);
      for (const way of WAYS) {
        const answer = await refusedAnswer(target, bytesFor(on, one), way);
        expect([way, answer.status, answer.problem.code]).toEqual([way, one.status, one.code]);
        expect([way, answer.closed, answer.headers.get('connection') === 'close']).toEqual([way, one.closes ?? false, one.closes ?? false]);
        if (one.pointer !== undefined) expect(answer.problem.errors?.map(({ pointer }) => pointer)).toContain(one.pointer);
      }
      if (on === 'api') {
        expect(await apiState()).toBe(before);
        expect((await api.call({ path: '/v1/status' })).status).toBe(200);
      } else {
        // A chunked body is on its way to the function when it turns out to be too large.
        if (one.name !== 'body over the limit: chunked') expect(String(seen)).toBe(before);
        expect((await call(`${gateway.harness.url}/hello`)).text).toBe('ok');
      }
    });
  }
});

describe('the control API', () => {
  const target = () => api.target('tcp');
  const as = (token: string, bytes: string): Buffer => Buffer.from(bytes.replace('\r\n', `\r\nAuthorization: Bearer ${token}\r\n`));

  it(`${of('token', 'none')}, ${of('token', 'bad')}, ${of('token', 'expired')}, ${of('token', 'another scheme')}: 401, all alike`, async () => {
    const made = await api.json('POST', '/v1/tokens', {
      name: 'soon over',
      scopes: ['read'],
      namespaces: ['default'],
      expiresAt: Date.now() + 3_000,
    });
    const { token: expired } = made.json as { token: string };
    await waitFor('its end', async () => (await api.call({ path: HELLO, token: expired })).status === 401, { everyMs: 20 });
    const answers = await Promise.all(
      ['', 'Bearer nonsense', `Bearer ${api.token}x`, `Bearer ${expired}`, `Basic ${api.token}`, api.token].map((value) =>
        refusedAnswer(
          target(),
          Buffer.from(`GET ${HELLO} HTTP/1.1\r\nHost: a\r\n${value === '' ? '' : `Authorization: ${value}\r\n`}\r\n`),
        ),
      ),
    );
    const alike = answers.map(({ status, problem: { instance: _instance, ...problem } }) => JSON.stringify([status, problem]));
    expect([new Set(alike).size, answers[0]!.problem.code]).toEqual([1, 'unauthorized']);
  });

  it(`${of('rights', 'missing scope')}: 403; ${of('rights', "another tenant's")}: 404 as if absent`, async () => {
    const reader = (await api.tokenFor(['default'], 'read')).token;
    const stranger = (await api.tokenFor(['other'], 'deploy')).token;
    const remove = `DELETE ${HELLO} HTTP/1.1\r\nHost: a\r\n\r\n`;
    expect((await refusedAnswer(target(), as(reader, remove))).problem).toMatchObject({ status: 403, code: 'forbidden' });
    const answers = await Promise.all(
      [HELLO, HELLO.replace('hello', 'absent')].map((path) => refusedAnswer(target(), as(stranger, controlled(path)))),
    );
    const [theirs, absent] = answers.map(({ problem }) => ({
      status: problem.status,
      code: problem.code,
      detail: problem.detail.replace('absent', 'hello'),
    }));
    expect([theirs, theirs!.status]).toEqual([absent, 404]);
    expect((await api.call({ path: HELLO })).status).toBe(200);
  });

  it(`${of('values', 'over quota')}: 403, and nothing kept`, async () => {
    await api.json('PUT', '/v1/namespaces/small', { quota: { bundleBytes: 10 } });
    const { digest, data } = await bundleOf({ 'index.mjs': 'x' });
    const before = await apiState();
    const head = `PUT /v1/namespaces/small/bundles/${digest} HTTP/1.1\r\nHost: a\r\nContent-Type: application/gzip\r\nContent-Length: ${data.length}\r\n\r\n`;
    const answer = await refusedAnswer(target(), Buffer.concat([as(api.token, head), data]));
    expect([answer.status, answer.problem.code, answer.closed]).toEqual([403, 'quota-exceeded', true]);
    expect(await apiState()).toBe(before);
  });

  const file = { name: 'index.mjs', content: 'x' };
  it.each<[string, Buffer, number, boolean?]>([
    [of('bundle', '..'), gzipSync(tar(file, { name: '../x', content: 'x' })), 422],
    [of('bundle', 'link'), gzipSync(tar(file, { name: 'l', type: '2', link: '/etc/passwd' })), 422],
    [of('bundle', 'link', 'a hard one'), gzipSync(tar(file, { name: 'l', type: '1', link: 'index.mjs' })), 422],
    [of('bundle', 'device'), gzipSync(tar(file, { name: 'd', type: '3' })), 422],
    [of('bundle', 'bomb'), gzipSync(tar({ name: 'b', content: Buffer.alloc(40 * 1_048_576) })), 413],
    [of('bundle', 'truncated'), gzipSync(tar(file)).subarray(0, 40), 422],
    [of('bundle', 'wrong digest'), gzipSync(tar(file)), 422, true],
  ])('%s', async (_name, data, status, altered = false) => {
    const before = await apiState();
    const digest = createHash('sha256')
      .update(altered ? 'another' : data)
      .digest('hex');
    const head = `PUT /v1/namespaces/default/bundles/sha256:${digest} HTTP/1.1\r\nHost: a\r\nContent-Type: application/gzip\r\nContent-Length: ${data.length}\r\n\r\n`;
    const answer = await refusedAnswer(target(), Buffer.concat([as(api.token, head), data]), 'in pieces');
    expect([answer.status, answer.problem.code]).toEqual([status, status === 413 ? 'body-too-large' : 'invalid']);
    expect(await apiState()).toBe(before);
  });

  it(`${of('unknown', 'runtime')}: 422`, async () => {
    const bundle = await api.upload();
    const refuse = new FnError('runtime-missing', 'There is no runtime cobol here.', {
      errors: [{ pointer: '/settings/runtime', detail: 'is not here' }],
    });
    const gate = Promise.reject(refuse);
    gate.catch(() => {});
    api.platform.deployGate = gate;
    onTestFinished(() => void (api.platform.deployGate = Promise.resolve()));
    const before = await apiState();
    const answer = await refusedAnswer(
      target(),
      as(api.token, send('POST', `${HELLO}/revisions`, JSON.stringify({ bundle, entry: 'index.mjs', settings: { runtime: 'cobol' } }))),
    );
    expect([answer.status, answer.problem.code]).toEqual([422, 'runtime-missing']);
    expect(await apiState()).toBe(before);
  });

  it(`${of('trigger', 'private address')}: 422`, async () => {
    const before = await apiState();
    const answer = await refusedAnswer(target(), as(api.token, webhook('http://169.254.169.254/keys')));
    expect([answer.status, answer.problem.code]).toEqual([422, 'invalid']);
    expect(await apiState()).toBe(before);
  });
});

describe('what dribbles: 408 within 12 s', () => {
  it(`${of('dribble', 'head')}; ${of('dribble', 'body')}`, async () => {
    // The limits themselves are within 12 s, and short ones are kept.
    expect(SERVER_LIMITS.headersTimeoutMs + SERVER_LIMITS.checkIntervalMs).toBeLessThanOrEqual(12_000);
    expect(API_LIMITS.bodyWindowMs).toBeLessThanOrEqual(12_000);
    expect(readConfig({ FN_LINK_SOCKET: '/l', FN_LISTEN: '127.0.0.1:0' }).headersTimeoutMs + CONNECTIONS_CHECK_MS).toBeLessThanOrEqual(
      12_000,
    );
    expect(BODY_PACE.windowMs).toBeLessThanOrEqual(12_000);
    const slow = await ApiFixture.start({
      limits: { ...API_LIMITS, bodyWindowMs: 150 },
      serverLimits: { ...SERVER_LIMITS, headersTimeoutMs: 150, checkIntervalMs: 50 },
    });
    const slowGateway = await openGateway({ config: { headersTimeoutMs: 150 } });
    try {
      const head = 'GET /v1/status HTTP/1.1\r\nHost: a\r\n';
      const body = `POST ${HELLO}/revisions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${slow.token}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{`;
      const answers = await Promise.all([
        refusedAnswer(slow.target('tcp'), Buffer.from(head)),
        refusedAnswer(slow.target('tcp'), Buffer.from(body)),
        refusedAnswer({ host: '127.0.0.1', port: slowGateway.harness.port }, Buffer.from(head)),
      ]);
      for (const { status, problem, closed } of answers) expect([status, problem.code, closed]).toEqual([408, 'request-timeout', true]);
    } finally {
      await slowGateway.close();
      await slow.close();
    }
  });
});

describe('the gateway', () => {
  /** Runs with a function that answers each connection by `serve`. */
  async function withFunction(
    options: Parameters<typeof openGateway>[0],
    route: { maxSlots?: number; timeoutMs?: number },
    serve: (socket: Socket, harness: Harness) => void,
    body: (harness: Harness) => Promise<void>,
  ): Promise<void> {
    const { harness, close } = await openGateway(options);
    try {
      const instance = await startRawInstance(harness.socket('x'), (socket) => serve(socket, harness));
      harness.defer(() => instance.stop());
      harness.controller.route('x', route);
      await harness.controller.settled();
      harness.controller.grantOnDemand(() => instance.address, 1);
      await body(harness);
    } finally {
      await close();
    }
  }
  const ASK = Buffer.from('GET /x HTTP/1.1\r\nHost: a\r\n\r\n');
  const at = (harness: Harness) => ({ host: '127.0.0.1', port: harness.port });

  it(`${of('full', 'concurrency')}: 429 with Retry-After`, async () => {
    await withFunction(
      { config: { maxWaitingPerFunction: 1 } },
      { maxSlots: 1 },
      () => {},
      async (harness) => {
        const first = new RawClient(harness.port).write(ASK.toString());
        await waitFor('one in flight', () => harness.gateway.state.inFlight === 1, { everyMs: 2 });
        const second = new RawClient(harness.port).write(ASK.toString());
        await waitFor('one that waits', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
        expect((await refusedAnswer(at(harness), ASK)).problem).toMatchObject({ status: 429, code: 'too-many-requests' });
        for (const client of [first, second]) client.close();
      },
    );
  });

  it(`${of('full', 'start queue')}: 503 with Retry-After`, async () => {
    const { harness, close } = await openGateway({ config: { maxWaitingPerFunction: 1 } });
    try {
      harness.controller.route('x');
      await harness.controller.settled();
      const client = new RawClient(harness.port).write(ASK.toString());
      await waitFor('one that waits', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
      expect((await refusedAnswer(at(harness), ASK)).problem).toMatchObject({ status: 503, code: 'queue-full' });
      client.close();
    } finally {
      await close();
    }
  });

  it.each<[string, number, ErrorCode, (socket: Socket, harness: Harness) => void]>([
    [
      of('function', 'CRLF header'),
      502,
      'function-bad-response',
      (socket) => socket.write('HTTP/1.1 200 OK\r\nX: a\r\r\nSet-Cookie: b\r\n\r\n'),
    ],
    [
      of('function', 'wrong length'),
      502,
      'function-bad-response',
      (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab'),
    ],
    [of('function', 'crash'), 502, 'function-crashed', (socket, harness) => ends(socket, harness, 'exit')],
    [of('function', 'out of memory'), 502, 'function-oom', (socket, harness) => ends(socket, harness, 'oom')],
    [of('function', 'overrun'), 504, 'function-timeout', () => {}],
  ])('%s: %i %s', async (_name, status, code, serve) => {
    await withFunction({}, { timeoutMs: 300 }, serve, async (harness) => {
      expect((await refusedAnswer(at(harness), ASK)).problem).toMatchObject({ status, code });
    });
  });

  function ends(socket: Socket, { controller }: Harness, cause: 'exit' | 'oom'): void {
    controller.send({ type: 'gone', instance: controller.granted[0]!.instance, cause, detail: 'as the test says' });
    socket.destroy();
  }

  const later = (body: string, headers = ''): Buffer =>
    Buffer.from(`POST /x HTTP/1.1\r\nHost: a\r\nPrefer: respond-async\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`);
  it.each<[string, ErrorCode, Buffer]>([
    [of('enqueue', 'store down'), 'store-unavailable', later('hi')],
    [of('enqueue', 'queue full'), 'backlog-full', later('hi')],
    [of('enqueue', 'too large'), 'body-too-large', later('x'.repeat(MAX_EVENT_BYTES + 1))],
    [of('preconditions', 'Idempotency-Key'), 'idempotency-mismatch', later('hi', 'Idempotency-Key: k\r\n')],
  ])('%s: never 202', async (_name, code, bytes) => {
    const { harness, close } = await openGateway({ events: 'up' });
    try {
      harness.controller.route('x');
      await harness.controller.settled();
      harness.dispatcher.answer = (message) =>
        message.type === 'accept'
          ? { type: 'refused', seq: message.seq, problem: new FnError(code, 'as the test says').toProblem(), retryAfterSeconds: null }
          : null;
      expect((await refusedAnswer(at(harness), bytes)).problem).toMatchObject({ status: ERRORS[code].status, code });
    } finally {
      await close();
    }
  });
});

describe('the CLI', () => {
  async function project(text = 'functions:\n  hello: { entry: ./hello.js }\n') {
    const folder = temporaryFolder(onTestFinished);
    mkdirSync(join(folder, 'home'));
    writeFileSync(join(folder, 'hello.js'), "export const GET = () => new Response('x');\n");
    writeFileSync(join(folder, 'fn.yaml'), text);
    const stub = createStubApi({ publicUrl: 'http://127.0.0.1:9', token: 'good' });
    onTestFinished(() => void stub.server.close());
    const url = await listenStubApi(stub);
    const run = (env: NodeJS.ProcessEnv = {}, signal?: AbortSignal) =>
      runCli(['deploy'], {
        cwd: folder,
        home: join(folder, 'home'),
        env: { FN_URL: url, FN_TOKEN: 'good', ...env },
        ...(signal ? { signal } : {}),
      });
    /** No revision, not even half of one. */
    const untouched = () => expect(stub.requests.filter((line) => line.startsWith('POST'))).toEqual([]);
    return { stub, run, untouched };
  }

  it(`${of('CLI', 'bad YAML')}: 2, with line and column`, async () => {
    const { run, untouched } = await project('functions:\n  hello: { entry: ./hello.js\n  x: [\n');
    const { code, stderr } = await run();
    expect([code, stderr]).toEqual([2, expect.stringMatching(/fn\.yaml:\d+:\d+: /)]);
    untouched();
  });

  it(`${of('CLI', 'unreachable')}: 4`, async () => {
    const { run } = await project();
    const { code, stderr } = await run({ FN_URL: 'http://127.0.0.1:1' });
    expect([code, stderr]).toEqual([4, expect.stringContaining('error: ')]);
  });

  it(`${of('CLI', 'not authorised')}: 3`, async () => {
    const { run, untouched } = await project();
    const { code, stderr } = await run({ FN_TOKEN: 'bad' });
    expect([code, stderr]).toEqual([3, expect.stringContaining('error: ')]);
    untouched();
  });

  it(`${of('CLI', 'Ctrl-C')} during an upload: 130, and no half revision`, async () => {
    const { stub, run, untouched } = await project();
    const interrupt = new AbortController();
    stub.server.on('request', (incoming) => {
      if (incoming.method === 'PUT') interrupt.abort(new Error('interrupted'));
    });
    expect((await run({}, interrupt.signal)).code).toBe(130);
    untouched();
  });
});

it('every variant of every line has a case', () => {
  expect([...covered].toSorted()).toEqual(
    Object.entries(LINES)
      .flatMap(([line, variants]) => variants.map((variant) => `${line}: ${variant}`))
      .toSorted(),
  );
});
