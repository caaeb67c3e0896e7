/** Bad input on the public listener: each row of docs/hardening, byte for byte on a raw socket. */
import { describe, expect, it } from 'vitest';
import { Problem } from '#contract/errors.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { waitFor } from '../test/helpers/wait.ts';

/** Runs with a function `hello` that counts what it sees and answers its URL. */
function withFunction(body: (harness: Harness, seen: string[]) => Promise<void>, config = {}): Promise<void> {
  return withGateway(
    async (harness) => {
      const seen: string[] = [];
      const instance = await startInstance(harness.socket('hello'), (incoming, outgoing) => {
        seen.push(incoming.url ?? '');
        incoming.resume();
        incoming.on('end', () => outgoing.end(`saw ${incoming.url}\n`));
      });
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      await body(harness, seen);
    },
    { config, prepare: (controller) => controller.route('hello', { timeoutMs: 60_000 }) },
  );
}

/** Takes the first answer apart, and checks what every problem must have. */
function problemOf(text: string): { status: number; head: string; problem: Problem } {
  const end = text.indexOf('\r\n\r\n');
  const head = text.slice(0, end);
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
  expect(head).toMatch(/\r\ncontent-type: application\/problem\+json/i);
  expect(head).toMatch(/\r\nx-request-id: \S+/i);
  expect(head).toMatch(/\r\nserver-timing: /i);
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
  const problem = Problem.parse(JSON.parse(text.slice(end + 4, end + 4 + length)));
  expect(problem.status).toBe(status);
  expect(problem.instance).toBe(/\r\nx-request-id: (\S+)/i.exec(head)?.[1]);
  expect(text).not.toMatch(/node:|\.ts:\d/);
  return { status, head, problem };
}

const GET = 'GET /hello HTTP/1.1\r\nHost: a\r\n';
const POST = 'POST /hello HTTP/1.1\r\nHost: a\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';

describe('bad input', () => {
  it.each<[string, string, number, string, boolean]>([
    ['Content-Length with Transfer-Encoding', `${POST}Content-Length: 3\r\n${CHUNKED}\r\n0\r\n\r\n`, 400, 'bad-request', true],
    ['Transfer-Encoding with Content-Length', `${POST}${CHUNKED}Content-Length: 3\r\n\r\n0\r\n\r\n`, 400, 'bad-request', true],
    ['duplicate Content-Length', `${POST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`, 400, 'bad-request', true],
    ['signed Content-Length', `${POST}Content-Length: +3\r\n\r\nabc`, 400, 'bad-request', true],
    ['Content-Length list', `${POST}Content-Length: 3, 3\r\n\r\nabc`, 400, 'bad-request', true],
    ['obsolete folding', `${GET}X: a\r\n b\r\n\r\n`, 400, 'bad-request', true],
    ['bare LF', 'GET /hello HTTP/1.1\nHost: a\n\n', 400, 'bad-request', true],
    ['bare CR', `${GET}X: a\rb\r\n\r\n`, 400, 'bad-request', true],
    ['NUL in a header', `${GET}X: a\0b\r\n\r\n`, 400, 'bad-request', true],
    ['space before the colon', `${GET}Content-Length : 3\r\n\r\nabc`, 400, 'bad-request', true],
    ['two Host headers', `${GET}Host: b\r\n\r\n`, 400, 'bad-request', true],
    ['no Host', 'GET /hello HTTP/1.1\r\n\r\n', 400, 'bad-request', true],
    ['Host with a path', 'GET /hello HTTP/1.1\r\nHost: a/admin?\r\n\r\n', 400, 'bad-request', true],
    ['Host with a user', 'GET /hello HTTP/1.1\r\nHost: u:p@a\r\n\r\n', 400, 'bad-request', true],
    ['Host with a space', 'GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n', 400, 'bad-request', true],
    ['Host with half an IPv6 address', 'GET /hello HTTP/1.1\r\nHost: [::1\r\n\r\n', 400, 'bad-request', true],
    ['Host with a backslash', 'GET /hello HTTP/1.1\r\nHost: a\\\\x\r\n\r\n', 400, 'bad-request', true],
    ['Host with no port number', 'GET /hello HTTP/1.1\r\nHost: a:b\r\n\r\n', 400, 'bad-request', true],
    ['absolute-form of another authority', 'GET http://b/hello HTTP/1.1\r\nHost: a\r\n\r\n', 400, 'bad-request', true],
    ['absolute-form of another scheme', 'GET ftp://a/hello HTTP/1.1\r\nHost: a\r\n\r\n', 400, 'bad-request', false],
    ['asterisk-form', 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n', 400, 'bad-request', false],
    ['fragment', 'GET /hello#x HTTP/1.1\r\nHost: a\r\n\r\n', 400, 'bad-request', false],
    ['CONNECT', 'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n', 405, 'method-not-allowed', true],
    ['gzip transfer coding', `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, 501, 'not-implemented', true],
    ['HTTP/1.0 with Transfer-Encoding', `POST /hello HTTP/1.0\r\n${CHUNKED}\r\n0\r\n\r\n`, 400, 'bad-request', true],
    ['HTTP/0.9', 'GET /hello\r\n\r\n', 400, 'bad-request', true],
    ['HTTP/2 without asking', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'bad-request', true],
    ['TLS', '\x16\x03\x01\x02\0\x01\0', 400, 'bad-request', true],
    ['headers over 16 KiB', `${GET}X: ${'a'.repeat(16_400)}\r\n\r\n`, 431, 'headers-too-large', true],
    ['headers over every limit', `${GET}X: ${'a'.repeat(100_000)}\r\n\r\n`, 431, 'headers-too-large', true],
    ['too many headers', `${GET}${Array.from({ length: 200 }, (_, i) => `X${i}: 1\r\n`).join('')}\r\n`, 431, 'headers-too-large', true],
    [
      'thousands of headers with a second Host behind them',
      `${GET}${'a:\r\n'.repeat(3_000)}Host: b\r\n\r\n`,
      431,
      'headers-too-large',
      true,
    ],
    ['URL over 8 KiB', `GET /hello?${'a'.repeat(8_200)} HTTP/1.1\r\nHost: a\r\n\r\n`, 414, 'uri-too-long', true],
    ['URL over every limit', `GET /hello?${'a'.repeat(60_000)}`, 414, 'uri-too-long', true],
    ['bad chunk size', `${POST}${CHUNKED}\r\nzz\r\n`, 400, 'bad-request', true],
    ['another expectation', `${POST}Expect: tea\r\nContent-Length: 1\r\n\r\n`, 417, 'expectation-failed', true],
    ['declared body over the limit', `${POST}Content-Length: 100001\r\n\r\n`, 413, 'body-too-large', true],
    ['unknown function', 'GET /nobody HTTP/1.1\r\nHost: a\r\n\r\n', 404, 'function-not-found', false],
    ['unknown namespace', 'GET /@x/hello HTTP/1.1\r\nHost: a\r\n\r\n', 404, 'function-not-found', false],
    ['percent-encoded name', 'GET /h%65llo HTTP/1.1\r\nHost: a\r\n\r\n', 404, 'function-not-found', false],
    ["path of the runtime's shim", 'POST /hello/.fn/init HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n', 404, 'not-found', false],
    ['platform path that is not there', 'GET /.fn/metrics HTTP/1.1\r\nHost: a\r\n\r\n', 404, 'not-found', false],
    ['the root', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', 404, 'not-found', false],
    ['wrong method on a platform page', 'DELETE /.fn/health HTTP/1.1\r\nHost: a\r\n\r\n', 405, 'method-not-allowed', false],
  ])('%s', async (_name, bytes, status, code, closes) => {
    await withFunction(
      async (harness, seen) => {
        const client = new RawClient(harness.port).write(bytes);
        await client.until(/\r\n\r\n\{.*\}/s);
        const answer = problemOf(client.text);
        expect([answer.status, answer.problem.code]).toEqual([status, code]);
        if (status === 405) expect(answer.head).toMatch(/\r\nallow: /i);
        if (closes) {
          expect(answer.head).toMatch(/\r\nconnection: close/i);
          await client.untilClosed();
        } else {
          client.write(`${GET}\r\n`);
          await client.until('saw /');
        }
        client.close();
        expect(seen).toEqual(closes ? [] : ['/']);
        expect(client.text.match(/HTTP\/1\.1 \d/g)).toHaveLength(closes ? 1 : 2);
      },
      { maxBodyBytes: 100_000 },
    );
  });

  it('absolute-form of the right authority is served', async () => {
    await withFunction(async (harness) => {
      const client = new RawClient(harness.port).write('GET http://A/hello?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      expect(await client.untilClosed()).toMatch(/saw \/\?x\n$/);
    });
  });

  it('dribbled header: 408 long before it is whole; a dribbled body too; both without a slot', async () => {
    await withFunction(async (harness, seen) => {
      const header = new RawClient(harness.port).write('GET /hello HTTP/1.1\r\n');
      const small = new RawClient(harness.port).write(`${POST}Content-Length: 100\r\n\r\n`);
      const large = new RawClient(harness.port).write(`${POST}Content-Length: 90000\r\n\r\n`);
      const silent = new RawClient(harness.port);
      const timer = setInterval(() => {
        if (!header.closed) header.write('a');
        if (!small.closed) small.write('a');
        if (!large.closed) large.write('a');
      }, 500);
      harness.defer(() => clearInterval(timer));
      for (const client of [header, small, large]) {
        // None of them would ever be whole, or not within this. The limits themselves are held by test/conformance/bad-input.
        await client.until('request-timeout', 45_000);
        expect(problemOf(client.text).status).toBe(408);
      }
      await silent.untilClosed();
      expect(silent.text).toBe('');
      expect(seen).toHaveLength(1);
      for (const client of [header, small, large]) await client.untilClosed();
    });
  });
});

describe('a connection', () => {
  it('answers pipelined requests in order, and garbage after them last', async () => {
    await withFunction(async (harness, seen) => {
      const client = new RawClient(harness.port).write(`${GET}\r\nGET /hello/2 HTTP/1.1\r\nHost: a\r\n\r\n\0garbage\r\n\r\n`);
      const text = await client.untilClosed();
      expect(text.match(/HTTP\/1\.1 \d{3}|saw \S+/g)).toEqual(['HTTP/1.1 200', 'saw /', 'HTTP/1.1 200', 'saw /2', 'HTTP/1.1 400']);
      expect(seen).toEqual(['/', '/2']);
    });
  });

  it('is not served twice by smuggling: what functions saw is what clients got', async () => {
    await withFunction(async (harness, seen) => {
      const smuggled = 'GET /hello/smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
      for (const bytes of [
        `${POST}Content-Length: ${smuggled.length}\r\n${CHUNKED}\r\n0\r\n\r\n${smuggled}`,
        `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
        `${POST}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n${smuggled}`,
        `${POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
        `${POST}Content-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
        `${POST}${CHUNKED}\r\n0\n\r\n${smuggled}`,
        `${POST}${CHUNKED}\r\n1;\nX\r\n0\r\n\r\n${smuggled}`,
        `GET /hello/x HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n${smuggled}`,
      ]) {
        const client = new RawClient(harness.port).write(bytes);
        const text = await client.untilClosed();
        expect([bytes, text]).toEqual([bytes, expect.stringMatching(/^HTTP\/1\.1 (400|501) /)]);
        expect([bytes, text.match(/HTTP\/1\.1 \d/g)?.length]).toEqual([bytes, 1]);
      }
      expect(seen).toEqual([]);
    });
  });

  it('serves nothing behind an answer that closes it, however the bytes come', async () => {
    await withFunction(
      async (harness, seen) => {
        const behind = 'GET /hello/behind HTTP/1.1\r\nHost: a\r\n\r\n';
        for (const [begin, status] of [
          [`${GET}Host: b\r\n\r\n`, 400],
          [`${POST}Transfer-Encoding: gzip, chunked\r\n\r\n`, 501],
          [`${GET}Expect: tea\r\n\r\n`, 417],
          ['CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n', 405],
          [`POST /nobody HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc`, 404],
          [`POST /hello/large HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n${'x'.repeat(2_000_000)}`, 413],
        ] as const) {
          const at = seen.length;
          const once = new RawClient(harness.port).write(begin + behind);
          const twice = new RawClient(harness.port).write(begin);
          await twice.until('HTTP/1.1 ');
          twice.write(behind);
          for (const client of [once, twice]) {
            const answers = (await client.untilClosed()).match(/HTTP\/1\.1 \d+/g);
            expect([begin.slice(0, 80), answers]).toEqual([begin.slice(0, 80), [`HTTP/1.1 ${status}`]]);
          }
          expect(seen.slice(at).filter((url) => url === '/behind')).toEqual([]);
        }
      },
      { maxBodyBytes: 1_000_000 },
    );
  });

  it('answers CONNECT in its turn, and a client that resets it harms nobody', async () => {
    await withFunction(async (harness, seen) => {
      const connect = 'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n';
      const client = new RawClient(harness.port).write(`${GET}\r\n${connect}`);
      expect((await client.untilClosed()).match(/HTTP\/1\.1 \d{3}|saw \S+/g)).toEqual(['HTTP/1.1 200', 'saw /', 'HTTP/1.1 405']);
      for (const bytes of [connect, `${GET}\r\n${connect}`]) {
        const rude = new RawClient(harness.port).write(bytes);
        await rude.until('HTTP/1.1 ');
        rude.socket.resetAndDestroy();
      }
      const good = await new RawClient(harness.port).write(`${GET}Connection: close\r\n\r\n`).untilClosed();
      expect(good).toMatch(/^HTTP\/1\.1 200 /);
      expect(seen).toEqual(['/', '/', '/']);
    });
  });

  it('a body may carry anything: a request inside it is not one', async () => {
    await withFunction(async (harness, seen) => {
      const inner = 'GET /hello/inner HTTP/1.1\r\nHost: a\r\n\r\n';
      const client = new RawClient(harness.port);
      client.write(`${POST}Content-Length: ${inner.length}\r\n\r\n${inner}`);
      client.write(`POST /hello/2 HTTP/1.1\r\nHost: a\r\n${CHUNKED}\r\n${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`);
      client.write('GET /hello/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      expect((await client.untilClosed()).match(/saw \S+/g)).toEqual(['saw /', 'saw /2', 'saw /3']);
      expect(seen).toEqual(['/', '/2', '/3']);
    });
  });

  it('beyond the limit is closed, those before it are served', async () => {
    await withFunction(
      async (harness) => {
        const clients = Array.from({ length: 8 }, () => new RawClient(harness.port));
        await waitFor('the excess to be closed', () => clients.filter((client) => client.closed).length === 3, { everyMs: 5 });
        const open = clients.find((client) => !client.closed)!;
        expect(await open.write(`${GET}\r\n`).until('saw /')).toMatch(/^HTTP\/1\.1 200 /);
        for (const client of clients) client.close();
      },
      { maxConnections: 5 },
    );
  });
});

describe('before the first snapshot', () => {
  it('nothing is said to be absent: 503 with Retry-After; it lives, but is not ready', async () => {
    await withGateway(
      async (harness) => {
        const ask = async (path: string): Promise<string> =>
          new RawClient(harness.port).write(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`).untilClosed();
        const answer = problemOf(await ask('/hello'));
        expect([answer.status, answer.problem.code]).toEqual([503, 'not-ready']);
        expect(answer.head).toMatch(/\r\nretry-after: 1/i);
        expect(problemOf(await ask('/.fn/ready')).problem.code).toBe('not-ready');
        expect(await ask('/.fn/health')).toMatch(/^HTTP\/1\.1 200 /);
        await harness.controller.start();
        await waitFor('the link', () => harness.gateway.state.connected, { everyMs: 2 });
        expect(await ask('/.fn/ready')).toMatch(/^HTTP\/1\.1 200 /);
        expect(problemOf(await ask('/hello')).problem.code).toBe('function-not-found');
        harness.controller.route('hello');
        await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
      },
      { linked: false },
    );
  });
});
