/** The listener, with raw bytes: what must be refused before it is understood, and who may come in at all. */
import { once } from 'node:events';
import { mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { Problem } from '#contract/errors.ts';
import { silentLog } from '#kit/log.ts';
import { ApiFixture, bundleOf } from '../../test/helpers/api-fixture.ts';
import { sleep, waitFor } from '../../test/helpers/wait.ts';
import { API_LIMITS } from './env.ts';
import { SERVER_LIMITS, startApiServer } from './server.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
});
afterAll(() => api.close());

/** Status, lower-cased headers and problem of a raw answer. */
function parse(answer: string): { status: number; head: string; problem: Problem } {
  const [head = '', body = ''] = answer.split('\r\n\r\n', 2);
  return { status: Number(head.split(' ')[1]), head: head.toLowerCase(), problem: Problem.parse(JSON.parse(body)) };
}

const GET = 'GET /v1/status HTTP/1.1\r\nHost: x\r\n';
const POST = 'POST /v1/namespaces/default/functions/hello/revisions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';

describe('bytes that are refused, each with a problem, and the connection closed', () => {
  it.each<[string, string, number]>([
    ['Content-Length with Transfer-Encoding', `${POST}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['Content-Length twice', `${POST}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400],
    ['a signed Content-Length', `${POST}Content-Length: +2\r\n\r\n{}`, 400],
    ['obsolete folding', `${GET}A: b\r\n c\r\n\r\n`, 400],
    ['a bare LF', 'GET /v1/status HTTP/1.1\nHost: x\n\n', 400],
    ['a bare CR', `${GET}A: b\rc\r\n\r\n`, 400],
    ['NUL in a header', `${GET}A: b\0c\r\n\r\n`, 400],
    ['a space before the colon', `${GET}A : b\r\n\r\n`, 400],
    ['two Host headers', `${GET}Host: y\r\n\r\n`, 400],
    ['no Host header', 'GET /v1/status HTTP/1.1\r\n\r\n', 400],
    ['a Host that is none', 'GET /v1/status HTTP/1.1\r\nHost: a/b@c\r\n\r\n', 400],
    ['two Authorization headers', `${GET}Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n`, 400],
    ["another authority than Host's", 'GET http://y/v1/status HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['CONNECT', 'CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    ['another transfer coding', `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, 501],
    ['HTTP/1.0 with Transfer-Encoding', `${POST.replace('1.1', '1.0')}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['HTTP/0.9', 'GET /v1/status\r\n\r\n', 400],
    ['HTTP/2.0', 'GET /v1/status HTTP/2.0\r\nHost: x\r\n\r\n', 400],
    ['not HTTP', '\u0016\u0003\u0001\u0002', 400],
    ['headers over 16 KiB', `${GET}A: ${'b'.repeat(16_384)}\r\n\r\n`, 431],
    ['headers far over it', `${GET}A: ${'b'.repeat(100_000)}\r\n\r\n`, 431],
    ['too many headers', `${GET}${'A: b\r\n'.repeat(101)}\r\n`, 431],
    ['a URL over 8 KiB', `GET /v1/${'a'.repeat(8_192)} HTTP/1.1\r\nHost: x\r\n\r\n`, 414],
    ['a URL far over it', `GET /v1/${'a'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 414],
    ['an unknown expectation', `${GET}Expect: the-unexpected\r\n\r\n`, 417],
    ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['a body declared too large', `${POST}Content-Length: 1048577\r\n\r\n`, 413],
    ['a body that grows too large', `${POST}Transfer-Encoding: chunked\r\n\r\n110000\r\n${' '.repeat(0x110000)}\r\n0\r\n\r\n`, 413],
    ['a bad chunk', `${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, 400],
  ])('%s', async (_name, bytes, status) => {
    const calls = api.platform.calls.length;
    const answer = parse(await api.raw(Buffer.from(bytes, 'latin1')));
    expect(answer.status).toBe(status);
    expect(answer.problem.status).toBe(status);
    expect(answer.head).toMatch(/content-type: application\/problem\+json/);
    expect(answer.head).toMatch(/connection: close/);
    expect(answer.head).toMatch(/x-request-id: \S+/);
    expect(api.platform.calls).toHaveLength(calls);
  });

  it.each([
    '/v1\\status',
    '/v1/status#x',
    '/v1/%00',
    '/v1/x/%2e%2e/status',
    '/v1/x/%2E%2E/status',
    '/v1/x%2Fstatus',
    '/v1/x%5cstatus',
    '//v1/status',
    '/v1//status',
    '/v1/x/../status',
    '/v1/./status',
    '/..',
    '/v1/statüs',
    '/v1/functions?a#b',
  ])('path %s: 400, also without a token over TCP', async (path) => {
    for (const via of ['unix', 'tcp'] as const)
      expect(parse(await api.raw(Buffer.from(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`, 'latin1'), { via })).status).toBe(400);
  });

  it('one bad request does not harm a good one on another connection', async () => {
    const [good] = await Promise.all([api.call({ path: '/v1/status' }), api.raw('nonsense\r\n\r\n')]);
    expect(good.status).toBe(200);
  });
});

describe('what is unusual and right', () => {
  it.each([
    ['an absolute URL of its own host', 'GET http://x/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'],
    ['HTTP/1.0 without Host', 'GET /v1/status HTTP/1.0\r\n\r\n'],
    ['an upgrade that is not taken', `${GET}Connection: close, upgrade\r\nUpgrade: h2c\r\n\r\n`],
    ['HEAD', 'HEAD /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'],
  ])('%s', async (_name, bytes) => {
    expect(await api.raw(bytes)).toMatch(/^HTTP\/1\.1 200 OK/);
  });

  it('a request is answered before what is broken behind it, and CONNECT in its turn; a reset harms nobody', async () => {
    for (const [behind, status] of [
      ['\0garbage\r\n\r\n', 400],
      ['CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    ] as const)
      expect((await api.raw(`${GET}\r\n${behind}`)).match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', `HTTP/1.1 ${status}`]);
    const rude = connect(api.target('tcp'));
    rude.write('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(rude, 'data');
    rude.resetAndDestroy();
    expect((await api.call({ path: '/v1/status' })).status).toBe(200);
  });

  it.each([
    ['a refusal', `${GET}Host: y\r\n\r\n`, 400],
    ['an upgrade that is not taken', `${GET}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n`, 200],
  ])('behind %s nothing is done', async (_name, begin, status) => {
    const bundle = await api.upload();
    await api.json('POST', '/v1/namespaces/default/functions/stays/revisions', { bundle, entry: 'index.mjs', settings: {} });
    const answer = await api.raw(`${begin}DELETE /v1/namespaces/default/functions/stays HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual([`HTTP/1.1 ${status}`]);
    expect((await api.call({ path: '/v1/namespaces/default/functions/stays' })).status).toBe(200);
  });

  it('requests in a pipeline are answered in their order', async () => {
    const answer = await api.raw(`${GET}\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 404']);
  });
});

describe('what dribbles', () => {
  let slow: ApiFixture;
  beforeAll(async () => {
    slow = await ApiFixture.start({
      limits: { ...API_LIMITS, bodyWindowMs: 200, minUploadBytesPerWindow: 1_000 },
      serverLimits: { ...SERVER_LIMITS, headersTimeoutMs: 200, checkIntervalMs: 50 },
    });
  });
  afterAll(() => slow.close());

  /** Sends `begin`, then a byte every 20 ms until the other side closes. */
  async function dribble(begin: string, byte = ' '): Promise<string> {
    // Over TCP: there a byte written after the other side has closed does not hide what it said before.
    const socket = connect(slow.target('tcp'));
    const chunks: Buffer[] = [];
    const timer = setInterval(() => socket.write(byte), 20);
    socket.on('data', (chunk) => {
      clearInterval(timer);
      chunks.push(chunk);
    });
    socket.on('error', () => {});
    socket.write(begin.replace('Host: x', `Host: x\r\nAuthorization: Bearer ${slow.token}`));
    await once(socket, 'close');
    clearInterval(timer);
    return Buffer.concat(chunks).toString();
  }

  it.each([
    ['headers', `${GET}A: `, 'a'],
    ['a JSON body', `${POST}Content-Length: 5000\r\n\r\n`, ' '],
    [
      'a bundle',
      `PUT /v1/namespaces/default/bundles/sha256:${'0'.repeat(64)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/gzip\r\nContent-Length: 5000\r\n\r\n`,
      'x',
    ],
  ])('%s: 408 and close', async (_name, begin, byte) => {
    const answer = parse(await dribble(begin, byte));
    expect([answer.status, answer.problem.code]).toEqual([408, 'request-timeout']);
    expect(answer.head).toMatch(/connection: close/);
  });

  it('a slow bundle that keeps its pace arrives', async () => {
    const { digest, data } = await bundleOf({ 'index.mjs': Array.from({ length: 3_000 }, (_, index) => (index * 48_271) % 65_521).join() });
    // Longer than a window in all, which is so long that a machine that stands still for a while is not taken for the client.
    const patient = await ApiFixture.start({ limits: { ...API_LIMITS, bodyWindowMs: 5_000, minUploadBytesPerWindow: 1_000 } });
    onTestFinished(() => patient.close());
    const socket = connect(patient.target());
    const closed = once(socket, 'close');
    let answer = '';
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    socket.write(
      `PUT /v1/namespaces/default/bundles/${digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/gzip\r\nContent-Length: ${data.length}\r\n\r\n`,
    );
    const begun = performance.now();
    for (let from = 0; from < data.length; from += 500) {
      socket.write(data.subarray(from, from + 500));
      await sleep(6_000 / (data.length / 500));
    }
    expect(performance.now() - begun).toBeGreaterThan(5_000);
    await closed;
    expect(answer).toMatch(/^HTTP\/1\.1 201 /);
  });
});

describe('the token over TCP', () => {
  const call = (headers: Record<string, string>, path = '/v1/status') => api.call({ path, via: 'tcp', headers });

  it('lets in, under its scheme in any case', async () => {
    expect((await call({ authorization: `Bearer ${api.token}` })).status).toBe(200);
    expect((await call({ authorization: `bearer ${api.token}` })).status).toBe(200);
  });

  it('without it, with a wrong one, or with the right one under another scheme: all alike', async () => {
    const token = api.token;
    const refused = [
      {},
      ...[
        '',
        'Bearer',
        'Bearer ',
        'Bearer x',
        `Basic ${token}`,
        token,
        `Bearer ${token}x`,
        `Bearer ${token.slice(0, -1)}`,
        `Bearer ${token} ${token}`,
      ].map((authorization) => ({ authorization })),
    ];
    const answers = await Promise.all(refused.map((headers) => call(headers as Record<string, string>)));
    const alike = answers.map(({ status, headers, problem: { instance: _instance, ...problem } }) => ({
      status,
      challenge: headers['www-authenticate'],
      problem,
    }));
    expect(new Set(alike.map((each) => JSON.stringify(each))).size).toBe(1);
    expect(alike[0]).toMatchObject({ status: 401, challenge: 'Bearer realm="fn"', problem: { code: 'unauthorized' } });
    expect(JSON.stringify(answers)).not.toContain(token);
  });

  it.each(['/', '/v1/nothing', '/v1/openapi.json', '/v1/functions', '/v1/namespaces/default/functions/UPPER'])(
    'nothing is shown without it: %s',
    async (path) => {
      expect((await call({}, path)).status).toBe(401);
    },
  );

  it('is not asked for on the unix socket', async () => {
    expect((await api.call({ path: '/v1/status', headers: { authorization: 'Bearer wrong' } })).status).toBe(200);
  });
});

describe('listening', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-listen-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const listen = (path: string) => startApiServer({ app: api.app, listen: { path }, log: silentLog });

  it('the socket and its folder are for their owner only; the folder above lets others pass', async () => {
    const path = join(folder, 'run', 'control', 's');
    const server = await listen(path);
    try {
      expect(server.url).toBe(`unix:${path}`);
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      expect((await stat(join(folder, 'run', 'control'))).mode & 0o777).toBe(0o700);
      expect((await stat(join(folder, 'run'))).mode & 0o777).toBe(0o711);
    } finally {
      await server.close();
    }
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('a folder that was open to others is closed to them', async () => {
    await mkdir(join(folder, 'c'), { mode: 0o755 });
    const server = await listen(join(folder, 'c', 's'));
    expect((await stat(join(folder, 'c'))).mode & 0o777).toBe(0o700);
    await server.close();
  });

  it('a socket on which somebody answers is left alone', async () => {
    const path = join(folder, 'c', 's');
    const first = await listen(path);
    try {
      await expect(listen(path)).rejects.toThrow(/another controller/);
      expect((await stat(path)).isSocket()).toBe(true);
    } finally {
      await first.close();
    }
  });

  it('a stale socket is replaced', async () => {
    const path = join(folder, 's');
    // As a killed process leaves it: bound, with nobody behind it.
    const dead = createServer().listen(path);
    await once(dead, 'listening');
    await rename(path, `${path}2`);
    await new Promise((resolve) => dead.close(resolve));
    await rename(`${path}2`, path);
    const server = await listen(path);
    try {
      const socket = connect(path);
      await once(socket, 'connect');
      socket.destroy();
      expect((await stat(path)).mode & 0o777).toBe(0o600);
    } finally {
      await server.close();
    }
  });

  it('a file that is no socket is left alone', async () => {
    const path = join(folder, 's');
    await writeFile(path, 'mine');
    await expect(listen(path)).rejects.toThrow(/not a socket/);
  });

  it('a path that the kernel would cut is refused in words', async () => {
    await expect(listen(join(folder, 'd'.repeat(110), 's'))).rejects.toThrow(/at most 107 bytes/);
  });

  it('close() waits for what is in flight, ends those who follow logs, and may be called twice', async () => {
    const own = await ApiFixture.start();
    const bundle = await own.upload();
    await own.json('POST', '/v1/namespaces/default/functions/hello/revisions', { bundle, entry: 'index.mjs', settings: {} });
    let open: () => void = () => {};
    own.platform.deployGate = new Promise((resolve) => {
      open = resolve;
    });
    const deploying = own.json('POST', '/v1/namespaces/default/functions/hello/revisions', { bundle, entry: 'index.mjs', settings: {} });
    const following = own.call({ path: '/v1/namespaces/default/functions/hello/logs?follow=1' });
    const called = (what: string) => own.platform.calls.filter((call) => call.startsWith(what)).length;
    await waitFor('both', () => called('deploy') === 2 && called('logs') > 0);
    const closing = Promise.all([own.close(), own.close()]);
    expect((await following).status).toBe(200);
    open();
    expect((await deploying).status).toBe(201);
    await closing;
  });
});
