/** The gateway as HTTP has it: what goes through to the function, what comes back, what is refused. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, it } from 'vitest';
import { Problem } from '#contract/errors.ts';
import { call, open, rawExchange, readAll, serverTiming } from '../helpers/http.ts';
import { drivers, onlyOn, usePlatform } from '../helpers/suite.ts';
import { sleep, waitFor } from '../helpers/wait.ts';

const rssMib = (pid: number) => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

interface Seen {
  method: string;
  path: string;
  query: string;
  headers: Record<string, string>;
  body: string;
}

for (const driver of drivers('docker', 'process')) {
  describe(`http (${driver})`, () => {
    const platform = usePlatform({ driver });
    beforeAll(async () => {
      await platform().deploy('probe', 'test/e2e/fixtures/probe.ts', { flags: ['--timeout', '300', '--memory', '256'] });
    });

    it('any method, the rest of the path, the query and the headers reach the function', async () => {
      for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
        const seen = (await platform().call('/probe/a%20b/c//d?x=1&x=2&y=%26', { method, headers: { 'X-Mine': 'yes' } })).json<Seen>();
        expect(seen).toMatchObject({ method, path: '/a%20b/c//d', query: '?x=1&x=2&y=%26' });
        expect(seen.headers['x-mine']).toBe('yes');
      }
      expect((await platform().call('/probe')).json<Seen>().path).toBe('/');
      expect((await platform().call('/probe?q=1')).json<Seen>()).toMatchObject({ path: '/', query: '?q=1' });
    });

    it('x-forwarded-*, a request id and traceparent are set; internal and hop-by-hop headers are not passed', async () => {
      const response = await platform().call('/probe', {
        headers: {
          'x-forwarded-for': '6.6.6.6',
          'fn-instance': 'i-000000000000',
          'fn-deadline': '1',
          'proxy-authorization': 'secret',
          connection: 'close, x-hop',
          'x-hop': 'gone',
        },
      });
      const { headers } = response.json<Seen>();
      expect(headers['x-forwarded-for']).not.toContain('6.6.6.6');
      expect(headers['x-forwarded-for']).toContain('127.0.0.1');
      expect(headers['x-forwarded-proto']).toBe('http');
      expect(headers['x-forwarded-host']).toBe(`127.0.0.1:${platform().port}`);
      expect(headers['x-request-id']).toBe(response.headers['x-request-id']);
      expect(headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/);
      expect(headers['x-hop']).toBeUndefined();
      expect(headers['proxy-authorization']).toBeUndefined();
      const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
      const traced = (await platform().call('/probe', { headers: { traceparent: `00-${trace}-00f067aa0ba902b7-01` } })).json<Seen>();
      expect(traced.headers.traceparent).toContain(trace);
    });

    it('headers of the function come back, repeated ones too, but none that begins with fn-', async () => {
      const response = await platform().call('/probe/headers');
      expect(response.headers['set-cookie']).toEqual(['a=1', 'b=2']);
      expect(response.headers['x-custom']).toBe('yes');
      expect(Object.keys(response.headers).filter((name) => name.startsWith('fn-'))).toEqual([]);
    });

    it('Server-Timing on every response, with the kind of start', async () => {
      for (const path of ['/probe', '/probe/status/404', '/probe/stream?count=2']) {
        const timing = serverTiming((await platform().call(path)).headers['server-timing']);
        expect(timing.start).toBe('warm');
        expect(Object.keys(timing.phases).length).toBeGreaterThan(0);
      }
      expect((await platform().call('/nobody')).headers['server-timing']).toBeDefined();
    });

    it('HEAD, 204 and 304 have no body, and the connection goes on', async () => {
      const requests = ['HEAD /probe/range', 'GET /probe/status/204', 'GET /probe/status/304', 'GET /probe/status/200']
        .map((line) => `${line} HTTP/1.1\r\nhost: x\r\n\r\n`)
        .join('');
      const { text } = await rawExchange(platform().port, requests, (said) => said.includes('status 200'));
      expect(text.match(/HTTP\/1\.1 (\d+)/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 204', 'HTTP/1.1 304', 'HTTP/1.1 200']);
      expect(text).toMatch(/\r\n\r\nHTTP\/1\.1 204/);
      expect(text).toMatch(/\r\n\r\nHTTP\/1\.1 304/);
      expect(text).toContain('status 200');
    });

    it('Range goes to the function and comes back', async () => {
      const response = await platform().call('/probe/range', { headers: { range: 'bytes=10-19' } });
      expect([response.status, response.text, response.headers['content-range']]).toEqual([206, '0000000001', 'bytes 10-19/1000']);
    });

    it('Expect: 100-continue is answered before the body is sent', async () => {
      const { request, response } = open(`${platform().url}/probe/upload`, {
        method: 'POST',
        headers: { expect: '100-continue', 'content-length': '5' },
      });
      request.flushHeaders();
      await new Promise<void>((resolve, reject) => {
        request.once('continue', resolve);
        request.once('error', reject);
      });
      request.end('hello');
      const incoming = await response;
      expect(incoming.statusCode).toBe(200);
      expect(JSON.parse((await readAll(incoming)).toString())).toMatchObject({ bytes: 5 });
    });

    it('bodies stream in both directions at once', async () => {
      const { request, response } = open(`${platform().url}/probe/bidi`, { method: 'POST' });
      request.write('first');
      const incoming = await response;
      const chunks = incoming[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
      expect(String((await chunks.next()).value)).toBe('first');
      request.write('second');
      expect(String((await chunks.next()).value)).toBe('second');
      request.end();
      expect((await chunks.next()).done).toBe(true);
    });

    it('a body of 90 MiB passes in both directions without being held in the gateway', async () => {
      const pid = await platform().pid('gateway');
      const before = rssMib(pid);
      const block = randomBytes(1024 * 1024);
      const hash = createHash('sha256');
      let highest = before;
      const body = Readable.from(
        (function* blocks() {
          for (let index = 0; index < 90; index++) {
            hash.update(block);
            highest = Math.max(highest, rssMib(pid));
            yield block;
          }
        })(),
      );
      const answer = (await platform().call('/probe/upload', { method: 'POST', body })).json();
      expect(answer).toMatchObject({ bytes: block.length * 90, sha256: hash.digest('hex') });
      const big = await platform().call('/probe/big?mib=90');
      expect(big.body.length).toBe(90 * 1024 * 1024);
      expect(Math.max(highest, rssMib(pid)) - before).toBeLessThan(80);
    });

    it('a client that does not read holds the function back, not the gateway', async () => {
      const pid = await platform().pid('gateway');
      const before = rssMib(pid);
      const socket = connect(platform().port, '127.0.0.1');
      socket.pause();
      socket.write('GET /probe/big?mib=150 HTTP/1.1\r\nhost: x\r\n\r\n');
      await sleep(3_000);
      expect(rssMib(pid) - before).toBeLessThan(60);
      socket.destroy();
      expect((await platform().call('/probe')).status).toBe(200);
    });

    it('the function sees that its client has gone, long before it is done or its time is up', async () => {
      const heard = async (of: 'waiting' | 'aborted', id: string) =>
        (await platform().call('/probe/aborted')).json<Record<typeof of, string[]>>()[of].includes(id);
      const { request } = open(`${platform().url}/probe/abortable/once?ms=600000`, { timeoutMs: 600_000 });
      request.on('error', () => {});
      request.end();
      await waitFor('the request', () => heard('waiting', 'once'));
      expect(await heard('aborted', 'once')).toBe(false);
      request.destroy();
      await waitFor('the abort', () => heard('aborted', 'once'));
    });

    it('a response that is cut short looks cut short', async () => {
      await platform().deploy(
        'cut',
        `export default () => { let n = 0; return new Response(new ReadableStream({ async pull(c) { if (n++ < 2) c.enqueue(new TextEncoder().encode('piece')); else { await new Promise((r) => setTimeout(r, 50)); process.exit(1); } } })); };`,
      );
      await expect(platform().call('/cut')).rejects.toThrow(/aborted|hang up|ECONNRESET|terminated/i);
    });

    it('errors are problem+json by the registry', async () => {
      const missing = await platform().call('/nobody/x');
      expect(missing.status).toBe(404);
      expect(missing.headers['content-type']).toContain('application/problem+json');
      const problem = Problem.parse(missing.json());
      expect(problem).toMatchObject({ code: 'function-not-found', status: 404, instance: missing.headers['x-request-id'] });
      expect((await platform().call('/@other/probe')).json()).toMatchObject({ code: 'function-not-found' });
      expect((await platform().call('/')).status).toBe(404);
    });

    it('/.fn/ is the platform’s: it cannot be shadowed, and the shim’s own paths cannot be reached', async () => {
      expect((await platform().call('/.fn/nothing')).status).toBe(404);
      for (const path of [
        '/probe/.fn/health',
        '/probe/.fn/init',
        '/probe/.fn/drain',
        '/probe//.fn/health',
        '/probe/%2efn/health',
        '/probe/x/../.fn/health',
        '/probe/.FN/health',
      ]) {
        const method = path.endsWith('health') ? 'GET' : 'POST';
        const { text } = await rawExchange(
          platform().port,
          `${method} ${path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}`,
        );
        expect(text).not.toMatch(/"status":\s*"(?:ready|generic|draining)"/);
        expect(text).not.toMatch(/nonce/);
      }
      expect((await platform().call('/probe')).status).toBe(200);
    });

    it('a namespace other than default is served under /@NS/', async () => {
      const { stdout } = await platform().deploy('there', `export default () => new Response('in a namespace');`, {
        flags: ['--namespace', 'team-a'],
      });
      expect(stdout.trim()).toBe(`${platform().url}/@team-a/there`);
      expect((await platform().call('/@team-a/there/x')).text).toBe('in a namespace');
      expect((await platform().call('/there')).status).toBe(404);
    });
  });
}

describe.each(onlyOn('process'))('bad requests (%s)', (driver) => {
  const platform = usePlatform({ driver });
  beforeAll(async () => {
    await platform().deploy('probe', 'test/e2e/fixtures/probe.ts');
  });

  const BAD: [what: string, bytes: string, status: RegExp][] = [
    [
      'content-length with transfer-encoding',
      'POST /probe HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      /^400$/,
    ],
    ['two content-lengths', 'POST /probe HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd', /^400$/],
    ['a signed content-length', 'POST /probe HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n\r\nabc', /^400$/],
    ['two hosts', 'GET /probe HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n', /^400$/],
    ['no host', 'GET /probe HTTP/1.1\r\n\r\n', /^400$/],
    ['an authority that is not the host', 'GET http://evil/probe HTTP/1.1\r\nhost: x\r\n\r\n', /^400$/],
    ['CONNECT', 'CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n', /^405$/],
    ['another transfer coding', 'POST /probe HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n', /^501$/],
    ['HTTP/1.0 with transfer-encoding', 'POST /probe HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', /^400$/],
    ['headers over 16 KiB', `GET /probe HTTP/1.1\r\nhost: x\r\nx-big: ${'a'.repeat(17_000)}\r\n\r\n`, /^431$/],
    ['too many headers', `GET /probe HTTP/1.1\r\nhost: x\r\n${'a:b\r\n'.repeat(2_500)}\r\n`, /^431$/],
    ['a URL over 8 KiB', `GET /probe/${'a'.repeat(8_300)} HTTP/1.1\r\nhost: x\r\n\r\n`, /^414$/],
    ['no HTTP', 'hello there\r\n\r\n', /^400$/],
  ];

  it.each(BAD)('%s', async (_, bytes, status) => {
    // Its answer is the last on the connection: a problem, whole.
    const { text } = await rawExchange(platform().port, bytes, (said) => /\r\n\r\n\{[^]*\}\s*$/.test(said));
    expect(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]).toMatch(status);
    expect(text).toMatch(/application\/problem\+json/i);
    expect(text).not.toMatch(/\n\s+at /);
    expect((await call(`${platform().url}/probe`)).status).toBe(200);
  });

  it('headers that dribble in are cut off, with 408', async () => {
    const socket = connect(platform().port, '127.0.0.1');
    const received: Buffer[] = [];
    socket.on('data', (chunk) => received.push(chunk));
    socket.on('error', () => {});
    socket.write('GET /probe HTTP/1.1\r\nhost: x\r\n');
    const drip = setInterval(() => socket.write('x-a: b\r\n'), 1_000);
    try {
      // It would go on for a minute: who ends it is the gateway.
      await waitFor('the connection to be closed', () => socket.closed || socket.destroyed, { timeoutMs: 60_000 });
    } finally {
      clearInterval(drip);
      socket.destroy();
    }
    expect(Buffer.concat(received).toString()).toMatch(/^HTTP\/1\.1 408/);
  });
});
