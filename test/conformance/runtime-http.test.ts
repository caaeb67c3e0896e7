/** What HTTP asks of a shim: bodies stream both ways, aborts are seen, lengths and statuses are right. */
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { Problem } from '#contract/errors.ts';
import { gatewayHeaders, lineWith, readAnswer, startShim, type Shim } from './runtime-harness.ts';
import { RUNTIMES } from './runtime-table.ts';
import { waitFor } from '../helpers/wait.ts';

describe.each(RUNTIMES)('$name', (runtime) => {
  async function probe(): Promise<Shim> {
    const shim = await startShim(runtime);
    await shim.become('probe');
    return shim;
  }

  describe('the request', () => {
    it('has the client’s URL and headers, those of the platform left out, and ctx tells the rest', async () => {
      const shim = await probe();
      const deadline = Date.now() + 5_000;
      const ctx = (await shim.call('GET', '/ctx?a=1', { headers: gatewayHeaders('the-id', deadline) })).json();
      expect(ctx).toMatchObject({
        url: 'https://fn.example:8443/ctx?a=1',
        requestId: 'the-id',
        deadline,
        functionName: 'hello',
        namespace: 'default',
        revision: 7,
        remainingMs: expect.any(Number) as number,
      });
      const headers = (await shim.call('GET', '/headers', { headers: { ...gatewayHeaders('the-id'), 'X-Two': ['1', '2'] } })).json();
      expect(headers).toEqual(expect.arrayContaining([['x-two', '1, 2'], ['host', 'fn.example:8443']])); // prettier-ignore
      expect(JSON.stringify(headers)).toMatch(/traceparent/);
      expect(JSON.stringify(headers)).not.toMatch(/fn-instance|fn-deadline/);
    });

    it('a Host that is none does no harm', async () => {
      const shim = await probe();
      for (const host of ['a b', 'x/y', '@', 'user@host', '[', '']) {
        const answer = await shim.call('GET', '/ctx', { headers: { host } });
        expect(new URL((answer.json() as { url: string }).url).pathname).toBe('/ctx');
      }
    });

    it('its body streams in with back-pressure, and is echoed as it comes', async () => {
      const shim = await probe();
      const { outgoing, response } = shim.open('POST', '/echo');
      outgoing.write('one');
      const incoming = await response;
      expect(incoming.headers['x-method']).toBe('POST');
      expect(String((await once(incoming, 'data'))[0])).toBe('one');
      outgoing.end('two');
      expect((await readAnswer(incoming)).text).toBe('two');
    });

    it('its body of 64 MiB passes through without being held', async () => {
      const shim = await probe();
      const { outgoing, response } = shim.open('POST', '/echo');
      const chunk = Buffer.alloc(1024 * 1024, 7);
      const write = async () => {
        for (let i = 0; i < 64; i++) if (!outgoing.write(chunk)) await once(outgoing, 'drain');
        outgoing.end();
      };
      const read = async () => {
        let bytes = 0;
        for await (const piece of (await response) as AsyncIterable<Buffer>) bytes += piece.length;
        return bytes;
      };
      const [, bytes] = await Promise.all([write(), read()]);
      expect(bytes).toBe(64 * 1024 * 1024);
    });

    it('is aborted when the client goes away', async () => {
      const shim = await probe();
      const { outgoing } = shim.open('GET', '/waitForAbort/gone');
      outgoing.end();
      await waitFor('it to be in flight', async () => (await shim.health()).inFlight === 1);
      outgoing.destroy();
      await waitFor('the abort', async () => (await shim.call('GET', '/aborted')).text.includes('gone'));
      await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
      expect(shim.lines()).toEqual([]);
    });
  });

  describe('the response', () => {
    it('its first byte goes out when it is written', async () => {
      const shim = await probe();
      const { outgoing, response } = shim.open('GET', '/stream/x');
      outgoing.end();
      const incoming = await response;
      expect(String((await once(incoming, 'data'))[0])).toBe('first\n');
      const rest = readAnswer(incoming);
      await waitFor('the release', async () => (await shim.call('GET', '/release/x')).text === 'true');
      expect((await rest).text).toBe('second\n');
    });

    it('is not produced faster than the client reads, and ends when the client goes', async () => {
      const shim = await probe();
      const { outgoing, response } = shim.open('GET', '/endless/e');
      outgoing.end();
      const incoming = await response;
      await once(incoming, 'readable');
      await waitFor('it to be in flight', async () => (await shim.health()).inFlight === 1);
      incoming.destroy();
      const aborted = await waitFor('the cancel', async () => /e after (\d+)/.exec((await shim.call('GET', '/aborted')).text)?.[1]);
      // 64 KiB each: what the kernel and two high-water marks hold, and not the memory of the machine.
      expect(Number(aborted)).toBeLessThan(200);
      await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
    });

    it.each(['/brokenStream', '/badChunk', '/wrongLength'])('%s: what breaks in the middle looks broken, and is logged', async (path) => {
      const shim = await probe();
      await expect(shim.call('GET', path, { headers: gatewayHeaders('broken') })).rejects.toThrow(/aborted|hang up|ECONNRESET|Parse Error/);
      await waitFor('the log', () => shim.lines().some(({ level, req }) => level === 'error' && req === 'broken'));
      expect((await shim.health()).status).toBe('ready');
    });

    it.each([204, 304])('%i has no body, and keeps its headers', async (status) => {
      const shim = await probe();
      const answer = await shim.call('GET', `/status/${status}`);
      expect([answer.status, answer.text, answer.headers.etag]).toEqual([status, '', '"x"']);
      expect(answer.headers['transfer-encoding']).toBeUndefined();
      expect(answer.headers['content-length']).toBeUndefined();
    });

    it('HEAD has the length and no body, also of a stream that has no end', async () => {
      const shim = await probe();
      const hello = await shim.call('HEAD', '/bare');
      expect([hello.status, hello.headers['content-length'], hello.text]).toEqual([200, '3', '']);
      expect((await shim.call('HEAD', '/endless/head')).status).toBe(200);
      await waitFor('the cancel', async () => (await shim.call('GET', '/aborted')).text.includes('head after'));
    });

    it('keeps cookies apart', async () => {
      const shim = await probe();
      const cookies = await shim.call('GET', '/cookies');
      expect(cookies.headers['set-cookie']).toEqual(['a=1; Path=/', 'b=2']);
      expect(cookies.headers['content-length']).toBe('0');
      const bare = await shim.call('GET', '/bare');
      expect([...bare.body]).toEqual([1, 2, 3]);
    });

    it('cannot pretend to be a refusal', async () => {
      const shim = await probe();
      const answer = await shim.call('GET', '/refusedHeader');
      expect([answer.status, answer.text, answer.headers['fn-refused']]).toEqual([503, 'mine', undefined]);
    });
  });

  describe('what the handler throws', () => {
    it.each(runtime.throwing)('%s: a problem without a stack, and the whole of it in the log', async (path) => {
      const shim = await probe();
      const answer = await shim.call('GET', path, { headers: gatewayHeaders('threw') });
      expect([answer.status, answer.headers['content-type']]).toEqual([500, 'application/problem+json']);
      const problem = Problem.parse(answer.json());
      expect(problem).toMatchObject({ code: 'function-error', status: 500, instance: 'threw' });
      expect(problem.detail).toMatch(/^The function (?:threw: (?:a value that is no Error|\w+)|raised \w+)\. /);
      expect(answer.text).not.toMatch(/secret detail|probe\./);
      const line = await waitFor('the log', () => shim.lines().find(({ level }) => level === 'error'));
      expect(line).toMatchObject({ stream: 'err', req: 'threw' });
      expect((await shim.health()).inFlight).toBe(0);
    });

    it('is logged with its place', async () => {
      const shim = await probe();
      await shim.call('GET', '/throws');
      expect((await lineWith(shim, 'secret detail')).msg).toMatch(runtime.thrownAt);
    });
  });
});
