/** The runtime protocol of the shim for programs: it has no handlers, so the program of the fixture stands for the function. */
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HEADERS, RUNTIME_PATHS, type InitRequest } from '#contract/runtime.ts';
import { goProgram } from '../helpers/go-program.ts';
import { programOf } from '../helpers/programs.ts';
import { ROOT } from '../helpers/root.ts';
import { BUILD_TIMEOUT_MS } from '../helpers/runtime-images.ts';
import { waitFor } from '../helpers/wait.ts';
import { gatewayHeaders, INSTANCE, lineWith, readAnswer, startShim, type Shim } from './runtime-harness.ts';
import { NODE, type RuntimeUnderTest } from './runtime-table.ts';

const code = mkdtempSync(join(tmpdir(), 'fn-binary-'));
let runtime: RuntimeUnderTest;
let image: RuntimeUnderTest;

beforeAll(async () => {
  const file = await programOf('binary');
  copyFileSync(await goProgram(join(ROOT, 'test/e2e/fixtures/program/main.go')), join(code, 'server'));
  chmodSync(join(code, 'server'), 0o755);
  writeFileSync(join(code, 'notes.txt'), 'no program');
  runtime = { ...NODE, name: 'binary', command: { file, args: [] }, fixtures: code, extension: '' };
  image = { ...runtime, command: { file, args: ['-port', '9321', '--', join(code, 'server'), 'argument'] } };
}, BUILD_TIMEOUT_MS);
afterAll(() => rmSync(code, { recursive: true, force: true }));

async function started(change: Partial<InitRequest> = {}): Promise<Shim> {
  const shim = await startShim(runtime);
  await shim.become('server', { code, ...change });
  return shim;
}

/** What cannot be started, and how that is told. */
const FAULTS: { what: string; entry: string; env: Record<string, string>; error: { name: string; message: RegExp } }[] = [
  {
    what: 'one that ends',
    entry: 'server',
    env: { FAIL: '1' },
    error: { name: 'ProcessExit', message: /exit code 3\) before it listened[^]*no database/ },
  },
  { what: 'one that is not there', entry: 'nothing', env: {}, error: { name: 'StartError', message: /nothing is not in the bundle/ } },
  { what: 'one that is none', entry: 'notes.txt', env: {}, error: { name: 'StartError', message: /not an executable file/ } },
  { what: 'a port that is none', entry: 'server', env: { PORT: 'http' }, error: { name: 'InvalidPort', message: /"http"/ } },
];

describe('boot and init', () => {
  it('is generic, refuses requests, and knows three paths of its own', async () => {
    const shim = await startShim(runtime);
    expect(await shim.health()).toEqual({ status: 'generic', instance: INSTANCE, revision: null, inFlight: 0, waitUntil: 0 });
    expect((await shim.call('GET', '/')).headers[HEADERS.refused]).toBe('not-me');
    for (const path of ['/.fn/', '/.fn/init/', '/.fn/health?x']) expect((await shim.call('GET', path)).status).toBe(404);
  });

  it('happens once, with the nonce and a body that is one', async () => {
    const shim = await startShim(runtime);
    expect((await shim.init({ nonce: 'wrong' })).status).toBe(403);
    expect((await shim.call('POST', RUNTIME_PATHS.init, { body: Buffer.alloc(5 * 1024 * 1024, 32) })).status).toBe(413);
    expect((await shim.call('POST', RUNTIME_PATHS.init, { body: '{' })).status).toBe(400);
    for (const body of ['null', '7', '[]', '{}']) expect((await shim.call('POST', RUNTIME_PATHS.init, { body })).status).toBe(403);
    expect((await shim.init({ entry: '../../../../bin/true' })).status).toBe(422);
    expect((await shim.init({ slots: 0 })).status).toBe(422);
    expect(await shim.become('server', { code })).toMatchObject({ form: 'port', slots: 50 });
    expect((await shim.init()).status).toBe(403);
    expect(await shim.health()).toMatchObject({ status: 'ready', revision: 'default/hello@7' });
  });

  it('gives the program its environment and nothing of the platform’s', async () => {
    const shim = await startShim(runtime, { SECRET_OF_THE_HOST: 'x' });
    await shim.become('server', { code, env: { GREETING: 'hi' } });
    const env = (await shim.call('GET', '/env')).text;
    for (const line of ['GREETING=hi', 'HOST=127.0.0.1', 'FN_FUNCTION=hello', 'FN_REVISION=7', `cwd=${code}`])
      expect(env.split('\n')).toContain(line);
    expect(env).not.toMatch(/SECRET_OF_THE_HOST|the-nonce|FN_SOCKET|FN_INSTANCE/);
  });

  it('of an image starts what the image names, in its environment, on the port that it exposes', async () => {
    const shim = await startShim(image, { FROM_THE_IMAGE: 'yes' });
    await shim.become('image.json', { code });
    const env = (await shim.call('GET', '/env')).text.split('\n');
    expect(env).toEqual(expect.arrayContaining(['FROM_THE_IMAGE=yes', 'PORT=9321']));
  });

  it('of an image starts it in the folder that the image names, or says why it cannot', async () => {
    const inFolder = (folder: string) => {
      const { file } = image.command;
      return { ...image, command: { file, args: ['-port', '9322', '-dir', folder, '--', './server'] } };
    };
    const shim = await startShim(inFolder(code));
    await shim.become('image.json', { code });
    expect((await shim.call('GET', '/env')).text.split('\n')).toEqual(expect.arrayContaining([`cwd=${code}`, 'PORT=9322']));
    for (const [folder, why] of [
      [join(code, 'nothing'), 'no such file'],
      [join(code, 'notes.txt'), 'not a directory'],
    ] as const) {
      const told = await (await startShim(inFolder(folder))).fails('image.json', { code });
      expect([told.name, told.message]).toEqual(['StartError', expect.stringContaining(`WORKDIR ${folder} cannot be entered`)]);
      expect(told.message).toContain(why);
    }
  });

  it.each(FAULTS)('tells $what as the function’s own error', async ({ entry, env, error }) => {
    const shim = await startShim(runtime);
    const told = await shim.fails(entry, { code, env });
    expect([told.name, told.message]).toEqual([error.name, expect.stringMatching(error.message)]);
    expect((await shim.call('GET', '/')).headers[HEADERS.refused]).toBe('draining');
  });
});

describe('requests', () => {
  it('pass as they came, but for what is between gateway and shim', async () => {
    const shim = await started();
    expect((await shim.call('GET', '/a%2Fb|c', { headers: gatewayHeaders('r-1') })).text).toBe('hello /a/b|c');
    const headers = (await shim.call('GET', '/headers', { headers: gatewayHeaders('r-2') })).text;
    expect(headers).toMatch(/X-Request-Id: r-2/i);
    expect(headers).toMatch(/X-Forwarded-For: 203\.0\.113\.9\r?\n/i);
    expect(headers).not.toMatch(/Fn-|User-Agent/i);
    // The mark of an event is shown: the program can tell one from what a client sends.
    const event = { ...gatewayHeaders('r-3'), [HEADERS.event]: 'queue', 'ce-id': '1-0' };
    expect((await shim.call('POST', '/headers', { headers: event })).text).toMatch(/Ce-Id: 1-0[^]*Fn-Event: queue/i);
    expect((await shim.call('GET', '/refused')).headers[HEADERS.refused]).toBeUndefined();
    expect((await shim.call('POST', '/echo', { body: 'data' })).text).toBe('data');
  });

  it('take slots, and what is over them is refused before the program sees it', async () => {
    const shim = await started({ slots: 1 });
    const held = shim.open('POST', '/echo');
    held.outgoing.write('begun');
    await held.response;
    expect((await shim.call('GET', '/')).headers[HEADERS.refused]).toBe('full');
    expect((await shim.health()).inFlight).toBe(1);
    held.outgoing.destroy();
    await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
  });

  it('may take over the connection', async () => {
    const shim = await started();
    const said = await new Promise<string>((resolve, reject) => {
      let text = '';
      const socket = shim.connect(() => socket.write('GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n'));
      socket.on('error', reject).on('close', () => resolve(text));
      socket.on('data', (data) => {
        if (text === '') socket.write('marco');
        text += data.toString();
        if (text.endsWith('marco')) socket.end();
      });
    });
    expect(said).toMatch(/^HTTP\/1\.1 101 .*marco$/s);
  });

  it('that stream go out piece by piece', async () => {
    const shim = await started();
    const { outgoing, response } = shim.open('POST', '/echo');
    outgoing.write('one');
    const incoming = await response;
    expect(String((await once(incoming, 'data'))[0])).toBe('one');
    outgoing.end('two');
    expect((await readAnswer(incoming)).text).toBe('two');
  });
});

describe('the end', () => {
  it('of the program is that of the instance, with its code', async () => {
    const shim = await started();
    await expect(shim.call('GET', '/crash')).rejects.toThrow(/hang up|ECONNRESET/);
    expect(await shim.exited).toEqual({ code: 7, signal: null });
    expect(await lineWith(shim, 'exit code 7')).toMatchObject({ level: 'warn', stream: 'sys' });
  });

  it('SIGTERM lets what is in flight end first', async () => {
    const shim = await started();
    const held = shim.open('POST', '/echo');
    held.outgoing.write('begun');
    const incoming = await held.response;
    shim.signal('SIGTERM');
    await waitFor('it to drain', async () => (await shim.health()).status === 'draining');
    expect((await shim.call('GET', '/')).headers[HEADERS.refused]).toBe('draining');
    held.outgoing.end();
    for await (const _ of incoming);
    expect(await shim.exited).toEqual({ code: 0, signal: null });
  });
});

describe('logs', () => {
  it('are the program’s lines, cut, escaped, and tagged where one request alone is in flight', async () => {
    const shim = await started();
    await shim.call('GET', '/log', { headers: gatewayHeaders('r-3') });
    expect(await lineWith(shim, 'line err')).toMatchObject({ level: 'error', stream: 'err' });
    expect(await lineWith(shim, 'line out')).toMatchObject({ level: 'info', stream: 'out', msg: 'line out\u001b[31m \u009b' });
    const long = await lineWith(shim, 'cut: 80000 bytes');
    expect(Buffer.byteLength(long.msg)).toBeLessThanOrEqual(16_384);
    await shim.call('GET', '/tagged', { headers: gatewayHeaders('r-4') });
    expect(shim.stderr()).toBe('');
  });
});
