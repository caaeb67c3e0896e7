/** The runtime protocol, as any shim must speak it. Driven over HTTP, as gateway and controller do. What is so over TCP alone: runtime-tcp.test.ts. */
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { HEADERS, RUNTIME_PATHS } from '#contract/runtime.ts';
import { gatewayHeaders, INSTANCE, lineWith, startShim } from './runtime-harness.ts';
import { NODE, overTcp, RUNTIMES } from './runtime-table.ts';
import { waitFor } from '../helpers/wait.ts';

const ALL = [...RUNTIMES, overTcp(NODE)];
/** What a shim says of code for which it has waited as long as it waits for any: ten seconds. */
const LATE = 'LoadTimeout';

it('tells code that never finishes loading as the function’s own error, whichever the runtime', async () => {
  const rows = ALL.map((runtime) => ({ runtime, row: runtime.loadErrors.find(({ error }) => error.name === LATE)! }));
  // Beside each other: each is waited for.
  const told = await Promise.all(
    rows.map(async ({ runtime, row }) => {
      const shim = await startShim(runtime);
      const error = await shim.fails(row.entry);
      return { runtime: runtime.name, error, status: (await shim.call('GET', '/')).status };
    }),
  );
  expect(told).toEqual(rows.map(({ runtime, row }) => ({ runtime: runtime.name, error: expect.objectContaining(row.error), status: 503 })));
});

describe.each(ALL)('$name', (runtime) => {
  describe('boot', () => {
    it('answers as a generic instance', async () => {
      const shim = await startShim(runtime);
      expect(await shim.health()).toEqual({ status: 'generic', instance: INSTANCE, revision: null, inFlight: 0, waitUntil: 0 });
    });

    it('refuses requests as long as it is generic', async () => {
      const shim = await startShim(runtime);
      const answer = await shim.call('GET', '/');
      expect(answer.status).toBe(503);
      expect(answer.headers[HEADERS.refused]).toBe('not-me');
    });

    it('answers 404 to anything else below /.fn/', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      for (const path of ['/.fn/', '/.fn/init/', '/.fn/health?x', '/.fn/other']) {
        expect([path, (await shim.call('GET', path)).status]).toEqual([path, 404]);
      }
      expect((await shim.call('DELETE', '/.fn/init')).status).toBe(404);
      expect((await shim.call('GET', '/.fn')).text).toBe('no route .fn');
    });
  });

  describe('init', () => {
    it('happens once: with the nonce, and never again', async () => {
      const shim = await startShim(runtime);
      expect((await shim.init({ nonce: 'wrong' })).status).toBe(403);
      expect((await shim.init({ nonce: '' })).status).toBe(403);
      expect((await shim.health()).status).toBe('generic');
      expect(await shim.become('hello')).toMatchObject({ form: runtime.form, slots: runtime.slots });
      expect(await shim.health()).toMatchObject({ status: 'ready', revision: 'default/hello@7' });
      expect((await shim.init()).status).toBe(403);
      expect((await shim.call('GET', '/')).text).toBe('hello');
    });

    it('is refused while another one runs', async () => {
      const shim = await startShim(runtime);
      const first = shim.init({ entry: 'slow-load' });
      await waitFor('the first to be under way', async () => (await shim.health()).status !== 'generic');
      expect(await shim.health()).toMatchObject({ status: 'draining', revision: 'default/hello@7' });
      expect((await shim.init()).status).toBe(403);
      expect((await shim.call('GET', '/')).headers[HEADERS.refused]).toBe('draining');
      expect((await first).status).toBe(200);
      expect((await shim.call('GET', '/')).text).toBe('slow');
    });

    it('is refused after one that failed, and the instance is not generic any more', async () => {
      const shim = await startShim(runtime);
      await shim.fails('throws');
      expect((await shim.health()).status).toBe('draining');
      expect((await shim.init()).status).toBe(403);
    });

    it('takes no body that is too large, not JSON or not an init', async () => {
      const shim = await startShim(runtime);
      expect((await shim.call('POST', RUNTIME_PATHS.init, { body: Buffer.alloc(5 * 1024 * 1024, 32) })).status).toBe(413);
      expect((await shim.call('POST', RUNTIME_PATHS.init, { body: '{' })).status).toBe(400);
      for (const body of ['null', '7', '[]', '{}']) expect((await shim.call('POST', RUNTIME_PATHS.init, { body })).status).toBe(403);
      expect((await shim.init({ entry: '../../../../etc/passwd' })).status).toBe(422);
      expect((await shim.init({ slots: 0 })).status).toBe(422);
      expect((await shim.health()).status).toBe('generic');
    });

    it('keeps the nonce and the environment of the platform from the function', async () => {
      const shim = await startShim(runtime, { SECRET_OF_THE_HOST: 'x' });
      await shim.become('probe', { env: { GREETING: 'hi', PORT: '9' } });
      const { env } = (await shim.call('GET', '/ctx')).json() as { env: Record<string, string> };
      expect(env).toMatchObject({
        ...runtime.environment,
        GREETING: 'hi',
        PORT: '9',
        FN_FUNCTION: 'hello',
        FN_NAMESPACE: 'default',
        FN_REVISION: '7',
      });
      expect(JSON.stringify(env)).not.toMatch(/SECRET_OF_THE_HOST|the-nonce|FN_SOCKET|FN_PORT|FN_CODE|FN_INSTANCE/);
    });

    it.each(runtime.loadErrors.filter(({ error }) => error.name !== LATE))(
      'tells $what as the function’s own error',
      async ({ entry, error }) => {
        const shim = await startShim(runtime);
        expect(await shim.fails(entry)).toMatchObject(error);
        expect((await shim.call('GET', '/')).status).toBe(503);
      },
    );
  });

  describe('code that is no code', () => {
    it.each(runtime.broken)('$entry is the function’s own error', async ({ entry, source, error }) => {
      const code = mkdtempSync(join(tmpdir(), 'fn-code-'));
      onTestFinished(() => rmSync(code, { recursive: true }));
      writeFileSync(join(code, entry), source);
      expect(await (await startShim(runtime)).fails(entry, { code })).toMatchObject(error);
    });
  });

  describe('slots', () => {
    it('are counted, and what is over them is refused before the function sees it', async () => {
      const shim = await startShim(runtime);
      expect(await shim.become('probe', { slots: 2 })).toMatchObject({ slots: 2 });
      const held = ['a', 'b'].map((name) => shim.call('GET', `/hold/${name}`));
      await waitFor('both to be in flight', async () => (await shim.health()).inFlight === 2);
      const refused = await shim.call('GET', '/release/a');
      expect([refused.status, refused.headers[HEADERS.refused], refused.text]).toEqual([503, 'full', '']);
      expect((await shim.health()).inFlight).toBe(2);
      shim.signal('SIGKILL');
      for (const { status } of await Promise.allSettled(held)) expect(status).toBe('rejected');
    });

    it('are given back when the response is over', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe', { slots: 2 });
      const held = shim.call('GET', '/hold/a');
      await waitFor('it to be in flight', async () => (await shim.health()).inFlight === 1);
      expect((await shim.call('GET', '/release/a')).text).toBe('true');
      expect((await held).text).toBe('released');
      await waitFor('the slots', async () => (await shim.health()).inFlight === 0);
    });

    it('stay taken while a handler works on after its client went away, until its deadline', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe', { slots: 1 });
      const gone = shim.open('GET', '/hold/a', gatewayHeaders('gone', Date.now() + 6_000));
      gone.outgoing.end();
      await waitFor('it to be in flight', async () => (await shim.health()).inFlight === 1);
      gone.outgoing.destroy();
      expect((await shim.call('GET', '/')).headers[HEADERS.refused]).toBe('full');
      await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
      expect((await shim.call('GET', '/bare')).status).toBe(200);
    });

    it('count what was given to waitUntil apart, and log its failure', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      expect((await shim.call('GET', '/later/x')).text).toBe('answered');
      await waitFor('the response to be over', async () => (await shim.health()).inFlight === 0);
      expect((await shim.health()).waitUntil).toBe(1);
      await shim.call('GET', '/release/x');
      await waitFor('it to settle', async () => (await shim.health()).waitUntil === 0);
      await shim.call('GET', '/rejectLater', { headers: gatewayHeaders('rejects-late') });
      expect(await lineWith(shim, 'late failure')).toMatchObject({ level: 'error', req: 'rejects-late' });
      expect((await shim.health()).status).toBe('ready');
    });

    it('refuse what was meant for another instance', async () => {
      const shim = await startShim(runtime);
      await shim.become('hello');
      const answer = await shim.call('GET', '/', { headers: { [HEADERS.instance]: 'i-zzzzzzzzzzzz' } });
      expect([answer.status, answer.headers[HEADERS.refused]]).toEqual([503, 'not-me']);
      expect((await shim.call('GET', '/', { headers: { [HEADERS.instance]: INSTANCE } })).status).toBe(200);
    });

    it('refuse before the body is asked for', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      const refused = shim.open('POST', '/echo', { expect: '100-continue', 'content-length': 4, [HEADERS.instance]: 'i-zzzzzzzzzzzz' });
      let continued = false;
      refused.outgoing.on('continue', () => (continued = true)).flushHeaders();
      expect((await refused.response).statusCode).toBe(503);
      expect(continued).toBe(false);
      refused.outgoing.destroy();
      const taken = shim.open('POST', '/echo', { expect: '100-continue', 'content-length': 4 });
      taken.outgoing.once('continue', () => taken.outgoing.end('data')).flushHeaders();
      expect((await taken.response).statusCode).toBe(200);
    });
  });

  describe('the end', () => {
    it('drain refuses new requests and lets those in flight end', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      const stream = shim.open('GET', '/stream/x', gatewayHeaders('streams', Date.now() + 60_000));
      stream.outgoing.end();
      const incoming = await stream.response;
      expect((await shim.call('POST', RUNTIME_PATHS.drain, { body: JSON.stringify({ deadlineMs: 60_000 }) })).status).toBe(200);
      expect(await shim.health()).toMatchObject({ status: 'draining', inFlight: 1 });
      expect((await shim.call('GET', '/release/x')).headers[HEADERS.refused]).toBe('draining');
      expect(incoming.complete).toBe(false);
      stream.outgoing.destroy();
      await waitFor('it to be over', async () => (await shim.health()).inFlight === 0);
    });

    it.each(runtime.fatal)('$path: an error that nothing caught is logged, and ends the process', async ({ path, said }) => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      await expect(shim.call('GET', path, { headers: gatewayHeaders('crashes') })).rejects.toThrow(/hang up|ECONNRESET/);
      expect(await shim.exited).toEqual({ code: 1, signal: null });
      expect(await lineWith(shim, said)).toMatchObject({ level: 'error', stream: 'err', req: 'crashes' });
    });

    it('process.exit in a handler ends the process with its code', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      await expect(shim.call('GET', '/exit')).rejects.toThrow(/hang up|ECONNRESET/);
      expect((await shim.exited).code).toBe(3);
      expect(await lineWith(shim, 'exit code 3')).toMatchObject({ level: 'warn', stream: 'sys' });
    });

    it('survives garbage on its socket', async () => {
      const shim = await startShim(runtime);
      await shim.become('hello');
      await new Promise<void>((resolve) => {
        const socket = shim.connect(() => socket.write('\0\r\nGET nonsense\r\n\r\n'));
        socket.on('close', () => resolve()).resume();
      });
      expect((await shim.call('GET', '/')).text).toBe('hello');
    });
  });

  describe('logs', () => {
    it('are one JSON object per write, with level, stream and request', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      await shim.call('GET', '/log/words', { headers: gatewayHeaders('r-1') });
      await lineWith(shim, 'raw words');
      expect(shim.lines().map(({ level, stream, msg, req }) => [level, stream, msg, req])).toEqual(
        runtime.logged.map((line) => [...line, 'r-1']),
      );
      expect(shim.stderr()).toBe('');
    });

    it('carry the right request also after an await, with many at a time', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      const names = Array.from({ length: 20 }, (_, index) => `n${index}`);
      await Promise.all(names.map((name) => shim.call('GET', `/logLater/${name}`, { headers: gatewayHeaders(`id-${name}`) })));
      await waitFor('all lines', () => shim.lines().length === names.length);
      for (const { msg, req } of shim.lines()) expect(req).toBe(`id-${msg.split(' ')[1]}`);
    });

    it('are cut at their longest, and hold no control characters', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      await shim.call('GET', '/logLong');
      await waitFor('both lines', () => shim.lines().length === 2);
      const [long, control] = shim.lines();
      expect(Buffer.byteLength(long!.msg)).toBeLessThanOrEqual(16_384);
      expect(long!.msg).toMatch(/^é+ … \(cut: 80000 bytes\)$/);
      expect(control!.msg).toBe('a\u001b[31mb\nc\u009bd\u2028e');
    });

    it('are dropped, counted, and said to be, when a function floods', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      expect((await shim.call('GET', '/flood')).text).toBe('flooded');
      const said = await lineWith(shim, 'were dropped');
      expect(said).toMatchObject({ level: 'warn', stream: 'sys' });
      await waitFor('the counts to add up', () => {
        const written = shim.lines().filter(({ msg }) => msg.startsWith('flood ')).length;
        const dropped = shim.lines().reduce((sum, { msg }) => sum + Number(/^(\d+) log lines were dropped/.exec(msg)?.[1] ?? 0), 0);
        return written + dropped === 60_000;
      });
      const bytes = shim.lines().reduce((sum, line) => sum + JSON.stringify(line).length + 1, 0);
      expect(bytes).toBeLessThan(16 * 1024 * 1024);
    });
  });
});

describe.each(RUNTIMES)('$name on a socket', (runtime) => {
  it('lets anybody connect', async () => {
    const shim = await startShim(runtime);
    expect('path' in shim.address && statSync(shim.address.path).mode & 0o777).toBe(0o666);
  });

  it('takes no code: the folder is shared', async () => {
    const shim = await startShim(runtime);
    expect((await shim.sendCode('{"files":[]}\n')).status).toBe(404);
  });

  it('SIGTERM ends the process when nothing is in flight', async () => {
    const shim = await startShim(runtime);
    await shim.become('hello');
    shim.signal('SIGTERM');
    expect(await shim.exited).toEqual({ code: 0, signal: null });
  });

  it('SIGTERM lets what is in flight end first, waitUntil too', async () => {
    const shim = await startShim(runtime);
    await shim.become('probe');
    expect((await shim.call('GET', '/laterMs/200')).text).toBe('answered');
    const slow = shim.open('POST', '/echo', { 'transfer-encoding': 'chunked' });
    slow.outgoing.write('begun');
    await waitFor('it to be in flight', async () => (await shim.health()).inFlight === 1);
    shim.signal('SIGTERM');
    await waitFor('it to drain', async () => (await shim.health()).status === 'draining');
    expect((await shim.call('GET', '/bare')).headers[HEADERS.refused]).toBe('draining');
    slow.outgoing.end(' and ended');
    let text = '';
    for await (const chunk of await slow.response) text += String(chunk);
    expect(text).toBe('begun and ended');
    expect(await shim.exited).toEqual({ code: 0, signal: null });
    expect(await lineWith(shim, 'settled')).toMatchObject({ level: 'info' });
  });
});
