/** The way of a request through a whole gateway, with instances that behave. */
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Handler, serve } from '../test/helpers/gateway-served.ts';
import { call, open } from '../test/helpers/http.ts';
import { sleep, waitFor } from '../test/helpers/wait.ts';

const echo: Handler = (incoming, outgoing) => {
  outgoing.setHeader('content-type', 'application/json');
  outgoing.end(JSON.stringify({ method: incoming.method, url: incoming.url, headers: incoming.headers, raw: incoming.rawHeaders }));
};

describe('a request', () => {
  it('is seen by the function as it was sent, with what the platform adds', async () => {
    await withGateway(async (harness) => {
      await serve(harness, echo);
      const client = new RawClient(harness.port).write(
        [
          'PATCH /hello/a//b/../%2e%2e?x=1&y=%20 HTTP/1.1',
          'Host: example.test:81',
          'X-Custom: A',
          'FN-Instance: spoofed',
          'fn-anything: x',
          'X-Forwarded-For: 6.6.6.6',
          'x-forwarded-proto: https',
          'Forwarded: for=6.6.6.6',
          'X-Real-IP: 6.6.6.6',
          'Connection: close, X-Hop',
          'X-Hop: 1',
          'TE: trailers',
          'Upgrade: websocket',
          'Proxy-Authorization: secret',
          'Content-Length: 2',
          '',
          'hi',
        ].join('\r\n'),
      );
      const [head = '', body = ''] = (await client.untilClosed()).split('\r\n\r\n');
      expect(head).toMatch(/^HTTP\/1\.1 200 OK/);
      const seen = JSON.parse(body) as { method: string; url: string; headers: Record<string, string> };
      expect(seen).toMatchObject({ method: 'PATCH', url: '/a//b/../%2e%2e?x=1&y=%20' });
      expect(seen.headers).toMatchObject({
        'x-custom': 'A',
        host: 'example.test:81',
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-proto': 'http',
        'x-forwarded-host': 'example.test:81',
        'x-forwarded-prefix': '/hello',
        'content-length': '2',
        'x-request-id': /x-request-id: (.*)/.exec(head)![1],
      });
      expect(seen.headers['fn-instance']).toMatch(/^i-[a-z0-9]{12}$/);
      expect(Number(seen.headers['fn-deadline'])).toBeGreaterThan(Date.now());
      expect(seen.headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
      for (const name of ['fn-anything', 'x-hop', 'te', 'upgrade', 'proxy-authorization', 'forwarded', 'x-real-ip'])
        expect(seen.headers[name]).toBeUndefined();
    });
  });

  it('keeps a good request id and trace, and not bad ones', async () => {
    await withGateway(async (harness) => {
      await serve(harness, echo);
      const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
      const good = await call(`${harness.url}/hello`, {
        headers: { 'x-request-id': 'my.id-1', traceparent: `00-${trace}-00f067aa0ba902b7-00`, tracestate: 'a=b' },
      });
      const seen = good.json<{ headers: Record<string, string> }>().headers;
      expect(good.headers['x-request-id']).toBe('my.id-1');
      expect(seen['x-request-id']).toBe('my.id-1');
      expect(seen.traceparent).toMatch(new RegExp(`^00-${trace}-(?!00f067aa0ba902b7)[0-9a-f]{16}-00$`));
      expect(seen.tracestate).toBe('a=b');
      const bad = await call(`${harness.url}/hello`, {
        headers: { 'x-request-id': 'my id"', traceparent: `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`, tracestate: 'a=b' },
      });
      const other = bad.json<{ headers: Record<string, string> }>().headers;
      expect(bad.headers['x-request-id']).toMatch(/^[a-z0-9]+-[a-z0-9]+$/);
      expect(other.traceparent).not.toContain('0'.repeat(32));
      expect(other.tracestate).toBeUndefined();
    });
  });

  it('believes X-Forwarded-* of a trusted proxy', async () => {
    const { readConfig } = await import('./config.ts');
    const { trustedProxies } = readConfig({ FN_LINK_SOCKET: 'x', FN_LISTEN: ':0', FN_TRUSTED_PROXIES: '10.0.0.0/8, 127.0.0.1' });
    await withGateway(
      async (harness) => {
        await serve(harness, echo);
        const answer = await call(`${harness.url}/hello`, {
          headers: { 'x-forwarded-for': '6.6.6.6', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'a.test', 'x-forwarded-prefix': '/p' },
        });
        expect(answer.json<{ headers: object }>().headers).toMatchObject({
          'x-forwarded-for': '6.6.6.6, 127.0.0.1',
          'x-forwarded-proto': 'https',
          'x-forwarded-host': 'a.test',
          'x-forwarded-prefix': '/p/hello',
        });
      },
      { config: { trustedProxies } },
    );
  });

  it('tells where the time went: first pooled, then warm', async () => {
    await withGateway(async (harness) => {
      await serve(harness, (_incoming, outgoing) => {
        outgoing.setHeader('server-timing', 'db;dur=5');
        outgoing.end('x');
      });
      expect((await call(`${harness.url}/hello`)).headers['server-timing']).toMatch(
        /^fn;desc="pooled";dur=[\d.]+, queue;dur=[\d.]+, start;dur=0, init;dur=3, handler;dur=[\d.]+, db;dur=5$/,
      );
      expect((await call(`${harness.url}/hello`)).headers['server-timing']).toMatch(
        /^fn;desc="warm";dur=[\d.]+, queue;dur=[\d.]+, start;dur=0, init;dur=0, handler;dur=[\d.]+, db;dur=5$/,
      );
    });
  });
});

describe('a response', () => {
  it.each([
    ['GET', 204, undefined],
    ['GET', 304, undefined],
    ['HEAD', 200, 'body'],
    ['GET', 206, 'part'],
    ['GET', 418, 'teapot'],
  ])('%s %i passes as it is', async (method, status, body) => {
    await withGateway(async (harness) => {
      await serve(harness, (_incoming, outgoing) => {
        outgoing.writeHead(status, [
          'content-range',
          'bytes 0-3/9',
          'set-cookie',
          'a=1',
          'set-cookie',
          'b=2',
          'x-own',
          'v',
          'fn-secret',
          '1',
          'date',
          'Thu, 01 Jan 1970 00:00:00 GMT',
          ...(body === undefined ? [] : ['content-length', String(body.length)]),
        ]);
        outgoing.end(body);
      });
      const answer = await call(`${harness.url}/hello`, { method });
      expect(answer.status).toBe(status);
      expect(answer.text).toBe(method === 'HEAD' ? '' : (body ?? ''));
      expect(answer.headers).toMatchObject({
        'content-range': 'bytes 0-3/9',
        'set-cookie': ['a=1', 'b=2'],
        'x-own': 'v',
        date: 'Thu, 01 Jan 1970 00:00:00 GMT',
      });
      expect(answer.headers['fn-secret']).toBeUndefined();
      expect(answer.headers['content-length']).toBe(body === undefined ? undefined : String(body.length));
      expect(answer.rawHeaders.filter((name) => name.toLowerCase() === 'date')).toHaveLength(1);
    });
  });

  it('reaches the client byte by byte as it is written, head first', async () => {
    await withGateway(async (harness) => {
      const steps: (() => void)[] = [];
      await serve(harness, (_incoming, outgoing) => {
        outgoing.writeHead(200, { 'content-type': 'text/event-stream' });
        outgoing.flushHeaders();
        steps.push(
          () => outgoing.write('one'),
          () => outgoing.end('two'),
        );
      });
      const { request, response } = open(`${harness.url}/hello`);
      request.end();
      const incoming = await response;
      expect(incoming.statusCode).toBe(200);
      let text = '';
      incoming.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      steps[0]!();
      await waitFor('the first chunk', () => text === 'one', { everyMs: 2 });
      steps[1]!();
      await waitFor('the rest', () => text === 'onetwo' && incoming.complete, { everyMs: 2 });
    });
  });

  it('to an HTTP/1.0 client has no chunks and ends with the connection', async () => {
    await withGateway(async (harness) => {
      await serve(harness, (incoming, outgoing) => {
        outgoing.write(`${incoming.headers.host};`);
        setTimeout(() => outgoing.end('done'), 5);
      });
      const client = new RawClient(harness.port).write('GET /hello HTTP/1.0\r\n\r\n');
      const text = await client.untilClosed();
      expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      expect(text).not.toMatch(/transfer-encoding/i);
      expect(text).toMatch(/\r\n\r\nlocalhost:8080;done$/);
    });
  });
});

describe('a body', () => {
  it('streams both ways at once', async () => {
    await withGateway(async (harness) => {
      await serve(harness, (incoming, outgoing) => incoming.pipe(outgoing));
      const { request, response } = open(`${harness.url}/hello`, { method: 'POST' });
      request.write('ping');
      const incoming = await response;
      let text = '';
      incoming.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      await waitFor('the echo', () => text === 'ping', { everyMs: 2 });
      request.end('pong');
      await waitFor('the end', () => incoming.complete, { everyMs: 2 });
      expect(text).toBe('pingpong');
    });
  });

  it.each([0, 1, 65_536, 65_537, 5_000_000])('of %i bytes arrives whole, declared or chunked', async (size) => {
    await withGateway(async (harness) => {
      await serve(harness, (incoming, outgoing) => {
        const hash = createHash('sha256');
        incoming.on('data', (chunk: Buffer) => hash.update(chunk));
        incoming.on('end', () => outgoing.end(hash.digest('hex')));
      });
      const bytes = randomBytes(size);
      const expected = createHash('sha256').update(bytes).digest('hex');
      expect((await call(`${harness.url}/hello`, { method: 'PUT', body: bytes })).text).toBe(expected);
      expect(
        (
          await call(`${harness.url}/hello`, {
            method: 'PUT',
            body: Readable.from([bytes.subarray(0, 10), bytes.subarray(10)].filter((part) => part.length > 0)),
          })
        ).text,
      ).toBe(expected);
    });
  });

  it('over the limit is refused: declared at once, chunked when it is passed; the function sees the abort', async () => {
    await withGateway(
      async (harness) => {
        let aborted = 0;
        await serve(harness, (incoming) => {
          incoming.on('aborted', () => aborted++);
          incoming.resume();
        });
        const declared = await call(`${harness.url}/hello`, { method: 'POST', body: Buffer.alloc(200_001) });
        expect(declared.status).toBe(413);
        expect(declared.json()).toMatchObject({ code: 'body-too-large' });
        expect(declared.headers.connection).toBe('close');
        expect(aborted).toBe(0);
        const client = new RawClient(harness.port).write('POST /hello HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n');
        for (let i = 0; i < 3; i++) client.write(`10000\r\n${'x'.repeat(65_536)}\r\n`);
        await waitFor('the upload to run', () => !client.socket.writableNeedDrain, { everyMs: 2 });
        client.write(`10000\r\n${'x'.repeat(65_536)}\r\n`);
        expect(await client.until('body-too-large')).toMatch(/^HTTP\/1\.1 413 /);
        await waitFor('the abort', () => aborted === 1, { everyMs: 2 });
        client.write('0\r\n\r\n');
        await client.untilClosed();
      },
      { config: { maxBodyBytes: 200_000 } },
    );
  });

  it('is asked for (100-continue) only when it is sent on', async () => {
    await withGateway(async (harness) => {
      const instance = await startInstance(harness.socket('hello'), (incoming, outgoing) => incoming.pipe(outgoing));
      harness.defer(() => instance.stop());
      const revision = harness.controller.route('hello');
      await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
      const client = new RawClient(harness.port).write(
        'POST /hello HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n',
      );
      await harness.controller.hear('want', (message) => message.waiting === 1);
      expect(client.text).toBe('');
      harness.controller.grant(revision, instance.address);
      await client.until('HTTP/1.1 100 Continue\r\n\r\n');
      client.write('data');
      expect(await client.until('\r\n4\r\ndata\r\n0\r\n\r\n')).toMatch(/100 Continue\r\n\r\nHTTP\/1\.1 200 OK/);
      client.close();
    });
  });

  it('is not asked for where the answer is an error', async () => {
    await withGateway(async (harness) => {
      const client = new RawClient(harness.port).write(
        'POST /nobody HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n',
      );
      expect(await client.untilClosed()).toMatch(/^HTTP\/1\.1 404 /);
    });
  });
});

describe('a client that goes', () => {
  it('mid-stream: the function sees it within a second, and the slot is free', async () => {
    await withGateway(async (harness) => {
      let closed = 0;
      await serve(
        harness,
        (incoming, outgoing) => {
          if (incoming.url === '/quick') {
            outgoing.end('quick');
            return;
          }
          outgoing.on('close', () => closed++);
          outgoing.write('begin');
        },
        { slots: 1 },
      );
      const client = new RawClient(harness.port).write('GET /hello/slow HTTP/1.1\r\nhost: a\r\n\r\n');
      await client.until('begin');
      client.close();
      await waitFor('the function to see it', () => closed === 1, { timeoutMs: 1_000, everyMs: 2 });
      expect((await call(`${harness.url}/hello/quick`)).text).toBe('quick');
    });
  });

  it('while it waits: its place is given up, and the controller told', async () => {
    await withGateway(async (harness) => {
      harness.controller.route('hello');
      await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
      const client = new RawClient(harness.port).write('GET /hello HTTP/1.1\r\nhost: a\r\n\r\n');
      await harness.controller.hear('want', (message) => message.waiting === 1);
      client.close();
      await waitFor('want 0', () => harness.controller.all('want').at(-1)?.waiting === 0, { everyMs: 2 });
      await waitFor('no deadline left', () => harness.gateway.state.deadlines === 0, { everyMs: 2 });
      expect(harness.gateway.state.waiting).toBe(0);
    });
  });

  it('answers early and reads on a little, so that an uploading client gets the answer', async () => {
    await withGateway(async (harness) => {
      await serve(harness, (_incoming, outgoing) => {
        outgoing.writeHead(401, { 'content-length': '2' });
        outgoing.end('no');
      });
      const answer = await call(`${harness.url}/hello`, {
        method: 'POST',
        body: Readable.from([Buffer.alloc(300_000), Buffer.alloc(300_000)]),
      });
      expect([answer.status, answer.text]).toEqual([401, 'no']);
      await sleep(1);
    });
  });
});
