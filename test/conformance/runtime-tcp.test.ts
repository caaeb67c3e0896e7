/**
 * What is so over TCP alone, as in a cluster: an address may have been another instance's, code comes over the network,
 * and SIGTERM comes while gateways still send requests.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CodeReceived, HEADERS, MAX_CODE_INDEX_BYTES, RUNTIME_PATHS } from '#contract/runtime.ts';
import { goProgram } from '../helpers/go-program.ts';
import { programOf } from '../helpers/programs.ts';
import { ROOT } from '../helpers/root.ts';
import { BUILD_TIMEOUT_MS } from '../helpers/runtime-images.ts';
import { waitFor } from '../helpers/wait.ts';
import { codeBody, HASHED_NONCE, initRequest, INSTANCE, lineWith, NONCE, startShim, type Shim } from './runtime-harness.ts';
import { BUN, DENO, NODE, overTcp, PYTHON, type RuntimeUnderTest } from './runtime-table.ts';

/** Longest of both waits after SIGTERM, and then some. */
const END_TIMEOUT_MS = 30_000;
const MAX_CODE_BYTES = 512 * 1024 * 1024;

const program = mkdtempSync(join(tmpdir(), 'fn-program-'));
const BINARY: RuntimeUnderTest = {
  ...NODE,
  name: 'binary',
  command: { file: await programOf('binary'), args: [] },
  fixtures: program,
  extension: '',
};

beforeAll(async () => {
  copyFileSync(await goProgram(join(ROOT, 'test/e2e/fixtures/program/main.go')), join(program, 'server'));
  chmodSync(join(program, 'server'), 0o755);
}, BUILD_TIMEOUT_MS);
afterAll(() => rmSync(program, { recursive: true, force: true }));

const LANGUAGES = [NODE, BUN, DENO, PYTHON, BINARY].map((runtime) => ({
  runtime: overTcp(runtime),
  name: runtime.name,
  /** A fixture that answers POST /echo with its body. */
  entry: runtime === BINARY ? 'server' : 'probe',
}));

/** The head of what comes back for these bytes, and what came with it. */
function say(shim: Shim, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = '';
    const socket = shim.connect(() => socket.write(bytes));
    socket.on('data', (data) => {
      said += data.toString();
      if (!said.includes('\r\n\r\n')) return;
      socket.destroy();
      resolve(said);
    });
    socket.on('error', reject).on('close', () => reject(new Error(`the connection ended after ${JSON.stringify(said)}`)));
  });
}

/** A request that is in flight until `end` is called, which resolves to its answer. */
async function held(shim: Shim): Promise<() => Promise<string>> {
  const { outgoing, response } = shim.open('POST', '/echo', { 'transfer-encoding': 'chunked' });
  outgoing.write('begun');
  await waitFor('it to be in flight', async () => (await shim.health()).inFlight === 1, { everyMs: 10 });
  return async () => {
    outgoing.end(' and ended');
    let text = '';
    for await (const chunk of await response) text += String(chunk);
    return text;
  };
}

const echo = async (shim: Shim, body: string): Promise<string> => (await shim.call('POST', '/echo', { body })).text;
const drain = (shim: Shim) => shim.call('POST', RUNTIME_PATHS.drain, { body: JSON.stringify({ deadlineMs: 10_000 }) });

/** Bodies that are no code, and the status that says so. */
const file = (path: unknown, size: unknown = 0, executable: unknown = false) => ({ path, size, executable });
const listing = (files: unknown, rest = '') => `${JSON.stringify({ files })}\n${rest}`;
const many = (count: number, path: (index: number) => string) => Array.from({ length: count }, (_, index) => file(path(index)));
const NO_CODE: [what: string, status: number, body: () => string][] = [
  ['nothing', 422, () => ''],
  ['no list', 422, () => '{"files":[]}'],
  ['no JSON', 422, () => '{"files":\n'],
  ['another JSON', 422, () => '[]\n'],
  ['null', 422, () => 'null\n'],
  ['no files', 422, () => '{}\n'],
  ['files that are no list', 422, () => '{"files":{}}\n'],
  ['a file that is none', 422, () => listing([7])],
  ['no path', 422, () => listing([{ size: 0 }])],
  ['no size', 422, () => listing([{ path: 'a' }])],
  ['a path of another type', 422, () => listing([file(7)])],
  ['a size below 0', 422, () => listing([file('a', -1)])],
  ['half a byte', 422, () => listing([file('a', 0.5)], 'x')],
  ['a size that is text', 422, () => listing([file('a', '1')], 'x')],
  ['executable as text', 422, () => listing([file('a', 0, 'yes')])],
  ...['', '.', '..', '/etc/x', '../x', 'a/../../x', 'a/./b', 'a//b', 'a/', '/', 'x\0y', 'x'.repeat(513)].map(
    (path): [string, number, () => string] => [
      `the path ${JSON.stringify(path.slice(0, 20))}`,
      422,
      () => listing([file('good', 1), file(path)], '1'),
    ],
  ),
  ['a name that no file can have', 422, () => listing([file('a/good', 1), file(`a/${'x'.repeat(300)}`)], '1')],
  ['a file twice', 422, () => listing([file('a'), file('a')])],
  ['a file, then a folder', 422, () => listing([file('a/b'), file('a/b/c')])],
  ['a folder, then a file', 422, () => listing([file('a/b/c'), file('a')])],
  ['less than it says', 422, () => listing([file('a/b', 3), file('c', 3)], 'aaabb')],
  ['more than it says', 422, () => listing([file('a/b', 3), file('c', 3)], 'aaabbbc')],
  ['too many bytes', 413, () => listing([file('a', MAX_CODE_BYTES), file('b', 1)])],
  ['more bytes than can be counted', 413, () => listing([file('a', 2 ** 53 - 1), file('b', 2 ** 53 - 1)])],
  ['too many files', 413, () => listing(many(20_001, String))],
  ['too many folders', 413, () => listing(many(101, (index) => `${index}${'/x'.repeat(200)}`))],
  ['too long a list', 413, () => 'x'.repeat(MAX_CODE_INDEX_BYTES + 1)],
];

describe.each(LANGUAGES)('$name', ({ runtime, entry }) => {
  describe('who is meant', () => {
    it('must be said by every request, before anything else', async () => {
      const shim = await startShim(runtime);
      const upgrade =
        'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
      const requests = [
        ...['GET /.fn/health', 'POST /.fn/init', 'POST /.fn/code', 'POST /.fn/drain', 'GET /.fn/other', 'GET /'].map(
          (line) => `${line} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n`,
        ),
        `GET /ws HTTP/1.1\r\nhost: x\r\n${upgrade}`,
        `GET /.fn/health HTTP/1.1\r\nhost: x\r\n${upgrade}`,
      ];
      for (const state of ['generic', 'ready']) {
        if (state === 'ready') await shim.become(entry);
        for (const request of requests) {
          for (const named of ['', 'fn-instance: i-zzzzzzzzzzzz\r\n', `fn-instance: ${INSTANCE}x\r\n`]) {
            const said = await say(shim, `${request}${named}\r\n`);
            expect([request, said]).toEqual([request, expect.stringMatching(/^HTTP\/1\.1 503 [^]*\r\nfn-refused: not-me\r\n/i)]);
            expect(said).toMatch(/\r\ncontent-length: 0\r\n(?:[^]*\r\n)?\r\n$/i);
          }
        }
        expect((await shim.health()).status).toBe(state);
      }
    });
  });

  describe('code', () => {
    it('is there when it was received: its files, their modes, and nothing that can be written to by accident', async () => {
      const shim = await startShim(runtime);
      const large = randomBytes(1_500_000);
      const files = [
        { path: 'a/b/text', content: 'text' },
        { path: 'a/large', content: large },
        { path: 'empty', content: '' },
        { path: 'run', content: '#!', executable: true },
        { path: 'größe/last', content: 'x' },
      ];
      const answer = await shim.sendCode(codeBody(files));
      expect([answer.status, answer.text]).toEqual([200, expect.anything()]);
      expect(CodeReceived.parse(answer.json())).toEqual({ files: 5, bytes: large.length + 7 });
      for (const { path, content } of files) expect(readFileSync(join(shim.codeFolder, path)).equals(Buffer.from(content))).toBe(true);
      const mode = (path: string) => statSync(join(shim.codeFolder, path)).mode & 0o777;
      expect(['a/b/text', 'a/large', 'empty', 'größe/last'].map(mode)).toEqual([0o444, 0o444, 0o444, 0o444]);
      expect(['run', '', 'a', 'a/b', 'größe'].map(mode)).toEqual([0o555, 0o555, 0o555, 0o555, 0o555]);
    });

    it('comes once, with the nonce, and before init', async () => {
      const shim = await startShim(runtime);
      const body = codeBody([{ path: 'a', content: 'b' }]);
      for (const wrong of ['wrong', '', `${NONCE}x`, HASHED_NONCE, HASHED_NONCE.slice('sha256:'.length)]) {
        expect((await shim.sendCode(body, { [HEADERS.nonce]: wrong })).status).toBe(403);
        expect((await shim.call('POST', RUNTIME_PATHS.init, { body: JSON.stringify({ ...initRequest(), nonce: wrong }) })).status).toBe(
          403,
        );
      }
      expect(readdirSync(shim.codeFolder)).toEqual([]);
      await shim.become(entry);
      expect((await shim.sendCode(body)).status).toBe(403);
      expect(existsSync(join(shim.codeFolder, 'a'))).toBe(false);
      expect(await echo(shim, 'it runs')).toBe('it runs');
      const twice = await startShim(runtime);
      expect((await twice.sendCode(body)).status).toBe(200);
      expect((await twice.sendCode(body)).status).toBe(403);
      expect(readdirSync(twice.codeFolder)).toEqual(['a']);
    });

    it('that is none leaves nothing, and may be followed by one that is', async () => {
      const shim = await startShim(runtime);
      for (const [what, status, body] of NO_CODE) {
        for (const headers of [{}, { 'transfer-encoding': 'chunked' }]) {
          expect([what, (await shim.sendCode(body(), headers)).status]).toEqual([what, status]);
          expect([what, readdirSync(shim.codeFolder)]).toEqual([what, []]);
        }
      }
      expect((await shim.health()).status).toBe('generic');
      await shim.become(entry);
    });

    it('that stops in the middle leaves nothing; meanwhile there is no other, and no init', async () => {
      const shim = await startShim(runtime);
      const body = codeBody([
        { path: 'first', content: 'complete' },
        { path: 'a/second', content: 'x'.repeat(100_000) },
      ]);
      const { outgoing, response } = shim.open('POST', RUNTIME_PATHS.code, { [HEADERS.nonce]: NONCE, 'content-length': body.length });
      response.catch(() => {}); // it is to break
      outgoing.write(body.subarray(0, 50_000));
      await waitFor('the first file', () => existsSync(join(shim.codeFolder, 'a/second')), { everyMs: 10 });
      expect((await shim.sendCode(body)).status).toBe(403);
      const init = { nonce: NONCE, revision: 'default/hello@7', namespace: 'default', name: 'hello', number: 7, code: shim.codeFolder };
      const rest = { entry: 'x', env: {}, slots: null, timeoutMs: 1_000, memoryMib: 128, memoryClassMib: 128 };
      expect((await shim.call('POST', RUNTIME_PATHS.init, { body: JSON.stringify({ ...init, ...rest }) })).status).toBe(403);
      outgoing.destroy();
      await waitFor('it to be removed', () => readdirSync(shim.codeFolder).length === 0, { everyMs: 10 });
      await waitFor('another to be taken', async () => (await shim.sendCode(body)).status === 200, { everyMs: 10 });
      expect(readdirSync(shim.codeFolder).sort()).toEqual(['a', 'first']);
    });

    it('is not kept by an instance that was told to drain meanwhile', async () => {
      const shim = await startShim(runtime);
      const body = codeBody([{ path: 'a', content: 'x'.repeat(1_000) }]);
      const { outgoing, response } = shim.open('POST', RUNTIME_PATHS.code, { [HEADERS.nonce]: NONCE, 'content-length': body.length });
      outgoing.write(body.subarray(0, 500));
      await waitFor('the file', () => existsSync(join(shim.codeFolder, 'a')), { everyMs: 10 });
      expect((await drain(shim)).status).toBe(200);
      outgoing.end(body.subarray(500));
      expect((await response).resume().statusCode).toBe(403);
      expect(readdirSync(shim.codeFolder)).toEqual([]);
    });
  });

  describe('SIGTERM', () => {
    it('ends a generic instance', async () => {
      const shim = await startShim(runtime);
      shim.signal('SIGTERM');
      expect(await shim.exited).toEqual({ code: 0, signal: null });
    });

    it('lets it serve on until it is told to drain, and what is in flight has ended', async () => {
      const shim = await startShim(runtime);
      await shim.become(entry);
      const end = await held(shim);
      shim.signal('SIGTERM');
      for (let i = 0; i < 20; i++) expect(await echo(shim, `request ${i}`)).toBe(`request ${i}`);
      expect((await shim.health()).status).toBe('ready');
      expect((await drain(shim)).json()).toMatchObject({ status: 'draining', inFlight: 1 });
      expect((await shim.call('POST', '/echo')).headers[HEADERS.refused]).toBe('draining');
      expect(await end()).toBe('begun and ended');
      expect(await shim.exited).toEqual({ code: 0, signal: null });
    });

    it('after a drain ends it', async () => {
      const shim = await startShim(runtime);
      await shim.become(entry);
      await drain(shim);
      expect((await shim.health()).status).toBe('draining');
      shim.signal('SIGTERM');
      expect(await shim.exited).toEqual({ code: 0, signal: null });
    });

    it('a second time is a drain', async () => {
      const shim = await startShim(runtime);
      await shim.become(entry);
      const end = await held(shim);
      shim.signal('SIGTERM');
      expect(await echo(shim, 'served')).toBe('served');
      await waitFor('it to drain', async () => {
        shim.signal('SIGTERM');
        return (await shim.health()).status === 'draining';
      });
      expect(await end()).toBe('begun and ended');
      expect(await shim.exited).toEqual({ code: 0, signal: null });
    });
  });
});

/** Functions that end themselves at SIGTERM, as servers do. */
const SELF_ENDING = [
  ...[NODE, BUN, DENO].map((runtime) => ({
    runtime,
    what: 'process.on',
    source: "process.on('SIGTERM', () => { console.log('told'); process.exit(0); });",
  })),
  { runtime: NODE, what: 'process.once', source: "process.once('SIGTERM', () => { console.log('told'); process.exit(0); });" },
  {
    runtime: DENO,
    what: 'Deno.addSignalListener',
    source: "Deno.addSignalListener('SIGTERM', () => { console.log('told'); Deno.exit(0); });",
  },
  {
    runtime: PYTHON,
    what: 'signal.signal',
    source: 'import signal, sys\ndef end(*_):\n  print("told")\n  sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\n',
  },
].map((one) => ({ ...one, name: one.runtime.name }));

describe.each(SELF_ENDING)('$name: a function that ends itself by $what', ({ runtime, source }) => {
  it('hears of SIGTERM at the end', async () => {
    const shim = await startShim(overTcp(runtime));
    const handler =
      runtime === PYTHON ? 'def main(request):\n  return "served"\n' : "\nexport default { fetch: () => new Response('served') };";
    const entry = `index${runtime.extension}`;
    expect((await shim.sendCode(codeBody([{ path: entry, content: source + handler }]))).status).toBe(200);
    await shim.become(entry);
    shim.signal('SIGTERM');
    for (let i = 0; i < 20; i++) expect((await shim.call('GET', '/')).text).toBe('served');
    expect(shim.lines()).toEqual([]);
    await drain(shim);
    expect(await shim.exited).toEqual({ code: 0, signal: null });
    expect(await lineWith(shim, 'told')).toMatchObject({ level: 'info', stream: 'out' });
  });
});

describe('after SIGTERM', () => {
  it('an instance that nobody told to drain ends when nobody has used it for a while', async () => {
    const ends = LANGUAGES.map(async ({ runtime, entry }) => {
      const shim = await startShim(runtime);
      await shim.become(entry);
      shim.signal('SIGTERM');
      expect(await echo(shim, 'served')).toBe('served');
      return { name: runtime.name, ...(await shim.exited) };
    });
    expect(await Promise.all(ends)).toEqual(LANGUAGES.map(({ runtime: { name } }) => ({ name, code: 0, signal: null })));
  });

  it('one that is used all the time refuses requests after a while, and ends with the last', async () => {
    const ends = LANGUAGES.map(async ({ runtime, entry }) => {
      const shim = await startShim(runtime);
      await shim.become(entry);
      const end = await held(shim);
      shim.signal('SIGTERM');
      expect(await echo(shim, 'served')).toBe('served');
      const refused = async () => (await shim.call('POST', '/echo')).headers[HEADERS.refused];
      const why = await waitFor('it to refuse', refused, { timeoutMs: END_TIMEOUT_MS, everyMs: 200 });
      expect([runtime.name, why, await end()]).toEqual([runtime.name, 'draining', 'begun and ended']);
      return { name: runtime.name, ...(await shim.exited) };
    });
    expect(await Promise.all(ends)).toEqual(LANGUAGES.map(({ runtime: { name } }) => ({ name, code: 0, signal: null })));
  });
});
