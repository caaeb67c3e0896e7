/** Requests for a WebSocket through a whole gateway: with `ws` at both ends, and with bytes that no library would send. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { type ClientOptions, WebSocket, WebSocketServer } from 'ws';
import { Problem } from '#contract/errors.ts';
import { testAuthority } from '../test/helpers/certificates.ts';
import { testRoute } from '../test/helpers/gateway-controller.ts';
import { RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { startInstance, startRawInstance } from '../test/helpers/gateway-instance.ts';
import { allReleased, connect, echo, ended, raw, route, said, serve } from '../test/helpers/gateway-websocket.ts';
import { call } from '../test/helpers/http.ts';
import { sleep, waitFor } from '../test/helpers/wait.ts';
import { acceptOf, closing, frame, handshake, newKey, OPCODE, RawConnection } from '../test/helpers/websocket.ts';

const { text, close } = OPCODE;

describe('a WebSocket', () => {
  it('is open from end to end, with what the platform says to both', async () => {
    await withGateway(async (harness) => {
      const { requests } = await serve(harness);
      const socket = new WebSocket(`${harness.url.replace('http', 'ws')}/hello/room?x=1`, ['chat'], {
        headers: { 'x-mine': 'yes', 'x-request-id': 'ws-1' },
      });
      harness.defer(() => socket.terminate());
      const opened = once(socket, 'open');
      const [answer] = (await once(socket, 'upgrade')) as [IncomingMessage];
      await opened;
      expect(socket.protocol).toBe('chat');
      expect(answer.headers).toMatchObject({ 'x-request-id': 'ws-1', 'server-timing': expect.stringMatching(/^fn;desc=/) as string });
      expect(requests[0]!.url).toBe('/room?x=1');
      expect(requests[0]!.headers).toMatchObject({
        'x-mine': 'yes',
        'x-request-id': 'ws-1',
        'x-forwarded-prefix': '/hello',
        'fn-instance': expect.stringMatching(/^i-/) as string,
        'fn-deadline': expect.stringMatching(/^\d+$/) as string,
        traceparent: expect.stringMatching(/^00-/) as string,
      });
      socket.send('one');
      expect(await said(socket)).toBe('one');
      socket.send(Buffer.alloc(300_000, 7));
      expect(((await once(socket, 'message')) as [Buffer])[0]).toHaveLength(300_000);
      socket.close(4002, 'done');
      expect(await ended(socket)).toEqual({ code: 4002, reason: 'done' });
    });
  });

  it('may compress: what the ends agree on is not looked at', async () => {
    await withGateway(async (harness) => {
      const instance = await startInstance(
        harness.socket('hello'),
        () => {},
        (server) => void new WebSocketServer({ server, perMessageDeflate: { threshold: 0 } }).on('connection', echo),
      );
      await route(harness, instance);
      const socket = await connect(harness);
      expect(socket.extensions).toContain('permessage-deflate');
      socket.send('x'.repeat(100_000));
      expect(await said(socket)).toBe('x'.repeat(100_000));
    });
  });

  it('holds one slot until it is over, and waits for one like a request', async () => {
    await withGateway(
      async (harness) => {
        const { sockets } = await serve(harness, { slots: 1 });
        const first = await connect(harness);
        const second = new RawConnection({ port: harness.port, host: '127.0.0.1' });
        harness.defer(() => second.destroy());
        second.send(handshake('/hello'));
        await waitFor('a waiter', () => harness.gateway.state.waiting === 1);
        first.close(1000);
        expect(await second.status()).toBe(101);
        const third = new RawConnection({ port: harness.port, host: '127.0.0.1' });
        harness.defer(() => third.destroy());
        third.send(handshake('/hello'));
        expect(await third.status()).toBe(503);
        expect(Problem.parse(JSON.parse(String(await third.end()))).code).toBe('queue-timeout');
        expect(sockets).toHaveLength(2);
      },
      { config: { queueTimeoutMs: 3_000 } },
    );
  });

  it('a client that goes while it waits leaves no trace', async () => {
    await withGateway(async (harness) => {
      const { sockets } = await serve(harness, { slots: 1 });
      const first = await connect(harness);
      const gone = [0, 1].map(() => new RawConnection({ port: harness.port, host: '127.0.0.1' }));
      for (const connection of gone) connection.send(handshake('/hello'));
      await waitFor('two waiters', () => harness.gateway.state.waiting === 2);
      gone[0]!.destroy();
      gone[1]!.socket.end();
      await waitFor('nobody waits', () => harness.gateway.state.waiting === 0);
      first.close();
      await ended(first);
      expect((await call(`${harness.url}/hello`)).text).toBe('plain');
      expect(sockets).toHaveLength(1);
    });
  });

  it('what a client sends ahead of the answer reaches the function', async () => {
    await withGateway(async (harness) => {
      await serve(harness);
      const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
      harness.defer(() => connection.destroy());
      connection.send(Buffer.concat([Buffer.from(handshake('/hello')), frame(text, 'early')]), frame(text, 'later'));
      expect(await connection.status()).toBe(101);
      expect((await connection.frame()).payload.toString()).toBe('early');
      expect((await connection.frame()).payload.toString()).toBe('later');
    });
  });

  it('is let in like any request, and gets the cookie that keeps it where it is', async () => {
    await withGateway(async (harness) => {
      const { sockets } = await serve(harness, { auth: { type: 'token' } });
      harness.controller.send({ type: 'settings', gateways: 1, limits: [], tokens: [] });
      await waitFor('the tokens to be known', async () => (await call(`${harness.url}/hello`)).status === 401);
      const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
      connection.send(handshake('/hello'));
      expect(await connection.head()).toMatch(/^HTTP\/1\.1 401 [^]*\r\nwww-authenticate: Bearer/i);
      await connection.end();
      connection.destroy();
      expect(sockets).toEqual([]);
    });
    await withGateway(async (harness) => {
      await serve(harness);
      harness.controller.put(
        testRoute('default', 'hello', { 1: 50, 2: 50 }, { sticky: { by: 'cookie', name: 'where', maxAgeSeconds: 60 } }),
      );
      await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
      const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
      connection.send(handshake('/hello'));
      expect(await connection.head()).toMatch(/^HTTP\/1\.1 101 [^]*\r\nset-cookie: where=\d+/i);
      connection.destroy();
    });
  });

  it('comes over TLS as well, and ends there in order too', async () => {
    const authority = testAuthority();
    await withGateway(
      async (harness) => {
        const { requests } = await serve(harness, { maxStreamMs: 3_000 });
        harness.controller.send({ type: 'certificates', certificates: [{ names: ['a.test'], ...authority.issue('a.test') }] });
        await harness.controller.settled();
        const address = harness.gateway.tlsAddress;
        if (address === null || typeof address === 'string') throw new Error('no TLS');
        const options: ClientOptions & ConnectionOptions = { ca: authority.cert, servername: 'a.test' };
        const socket = new WebSocket(`wss://127.0.0.1:${address.port}/hello`, options);
        harness.defer(() => socket.terminate());
        await once(socket, 'open');
        socket.send('secret');
        expect(await said(socket)).toBe('secret');
        expect(requests[0]!.headers['x-forwarded-proto']).toBe('https');
        expect(await ended(socket)).toEqual({ code: 1001, reason: 'maximum age' });
      },
      { config: { tlsListen: { host: '127.0.0.1', port: 0 } } },
    );
  });

  it('on a connection that served requests before is not cut as an idle one', async () => {
    await withGateway(
      async (harness) => {
        await serve(harness);
        const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
        harness.defer(() => connection.destroy());
        connection.send('GET /hello HTTP/1.1\r\nhost: x\r\n\r\n');
        expect(await connection.head()).toMatch(/^HTTP\/1\.1 200 /);
        await waitFor('the body', () => connection.socket.bytesRead > 150);
        connection.skip('plain'.length);
        connection.send(handshake('/hello'));
        expect(await connection.status()).toBe(101);
        await sleep(1_500);
        connection.send(frame(text, 'on'));
        expect((await connection.frame()).payload.toString()).toBe('on');
      },
      { config: { keepAliveTimeoutMs: 100 } },
    );
  });

  it('is told of to whoever asks why', async () => {
    await withGateway(async (harness) => {
      await serve(harness);
      const connection = await raw(harness, { 'x-request-id': 'ws-why' });
      connection.send(frame(close, closing(1000)));
      await connection.end();
      connection.destroy();
      await waitFor('its end', () => harness.gateway.state.deadlines === 0);
      harness.controller.send({ type: 'recall', id: 'ws-why' });
      const { calls } = await harness.controller.hear('recalled');
      expect(calls).toMatchObject([{ id: 'ws-why', status: 101, stream: 'websocket', streamMs: expect.any(Number) as number }]);
    });
  });

  it('another instance is tried when one refuses', async () => {
    await withGateway(async (harness) => {
      const full = await startRawInstance(harness.socket('full'), (socket) =>
        socket.write('HTTP/1.1 503 Service Unavailable\r\nfn-refused: draining\r\ncontent-length: 0\r\n\r\n'),
      );
      harness.defer(() => full.stop());
      await serve(harness, { slots: 1 });
      harness.controller.onMessage = () => {};
      const revision = harness.controller.routes[0]!.targets[0]!.revision;
      const waiting = connect(harness);
      await harness.controller.hear('want', ({ waiting: count }) => count === 1);
      harness.controller.grant(revision, full.address);
      await harness.controller.hear('release');
      harness.controller.grant(revision, { kind: 'unix', path: harness.socket('hello') });
      const socket = await waiting;
      socket.send('here');
      expect(await said(socket)).toBe('here');
    });
  });
});

describe('handshakes', () => {
  const bad: [string, string, number, string | null][] = [
    ['no key', handshake('/hello', { 'sec-websocket-key': null }), 400, 'bad-request'],
    ['a key of 15 bytes', handshake('/hello', { 'sec-websocket-key': Buffer.alloc(15).toString('base64') }), 400, 'bad-request'],
    ['a key that is no base64', handshake('/hello', { 'sec-websocket-key': '!'.repeat(24) }), 400, 'bad-request'],
    ['two keys', handshake('/hello', { 'Sec-WebSocket-Key': newKey() }), 400, 'bad-request'],
    ['no version', handshake('/hello', { 'sec-websocket-version': null }), 426, 'upgrade-required'],
    ['version 8', handshake('/hello', { 'sec-websocket-version': '8' }), 426, 'upgrade-required'],
    ['two versions', handshake('/hello', { 'sec-websocket-version': '13, 8' }), 426, 'upgrade-required'],
    ['two protocols', handshake('/hello', { upgrade: 'websocket, h2c' }), 400, 'bad-request'],
    ['two Upgrade headers', handshake('/hello', { Upgrade: 'websocket' }), 400, 'bad-request'],
    ['a body', handshake('/hello', { 'content-length': '5' }), 400, 'bad-request'],
    ['a chunked body', handshake('/hello', { 'transfer-encoding': 'chunked' }), 400, 'bad-request'],
    ['two Host headers', handshake('/hello', { Host: 'other.example' }), 400, 'bad-request'],
    ['no such function', handshake('/nobody'), 404, 'function-not-found'],
    ['a page of the platform', handshake('/.fn/health'), 200, null],
    ['the runtime’s own path', handshake('/hello/.fn/health'), 404, 'not-found'],
    // Without an upgrade: what was asked for is ignored.
    ['POST', handshake('/hello', { 'content-length': '0' }, 'POST /hello HTTP/1.1'), 200, null],
    ['HTTP/1.0', handshake('/hello', {}, 'GET /hello HTTP/1.0'), 200, null],
    [
      'h2c, as curl --http2 asks',
      handshake('/hello', { upgrade: 'h2c', connection: 'Upgrade, HTTP2-Settings', 'http2-settings': 'AAM' }),
      200,
      null,
    ],
    ['an Upgrade that Connection does not name', handshake('/hello', { connection: 'keep-alive' }), 200, null],
  ];

  it('that are none are told so, or served without an upgrade', async () => {
    await withGateway(async (harness) => {
      const { sockets } = await serve(harness);
      for (const [what, request, status, code] of bad) {
        const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
        connection.send(request);
        const head = await connection.head();
        expect([what, Number(head.slice(9, 12))]).toEqual([what, status]);
        if (status === 426) expect(head).toMatch(/\r\nsec-websocket-version: 13\r\n/i);
        if (code !== null) expect([what, Problem.parse(JSON.parse(String(await connection.end()))).code]).toEqual([what, code]);
        connection.destroy();
      }
      expect(sockets).toEqual([]);
      await allReleased(harness);
    });
  });

  it('behind a request that is not answered yet it is a request like any other', async () => {
    await withGateway(async (harness) => {
      await serve(harness);
      const client = new RawClient(harness.port).write(`GET /hello HTTP/1.1\r\nhost: x\r\n\r\n${handshake('/hello')}`);
      await client.until(/plain[^]*plain/);
      expect(client.text).not.toContain(' 101 ');
      client.close();
    });
  });

  it('a function’s own answer is passed on, whatever its length, and the connection closed', async () => {
    await withGateway(async (harness) => {
      const long = Buffer.alloc(3_000_000, 'z');
      const instance = await startInstance(
        harness.socket('hello'),
        () => {},
        (server) =>
          server.on('upgrade', (_request, socket: Socket) => {
            socket.on('error', () => {});
            socket.write(`HTTP/1.1 403 Forbidden\r\nx-why: because\r\ncontent-length: ${long.length}\r\nconnection: close\r\n\r\n`);
            socket.end(long);
          }),
      );
      await route(harness, instance);
      const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
      connection.send(handshake('/hello'));
      expect(await connection.head()).toMatch(/^HTTP\/1\.1 403 [^]*\r\nx-why: because\r\n[^]*connection: close/i);
      expect((await connection.end()).equals(long)).toBe(true);
    });
  });

  const wrong: [string, string | ((key: string) => string)][] = [
    [
      'the wrong key',
      `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ${acceptOf('x')}\r\n\r\n`,
    ],
    ['no key', 'HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n'],
    [
      'another protocol',
      (key) => `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: echo\r\nsec-websocket-accept: ${acceptOf(key)}\r\n\r\n`,
    ],
    ['no upgrade', (key) => `HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: ${acceptOf(key)}\r\n\r\n`],
    ['what is not HTTP', 'yes please\r\n\r\n'],
  ];
  it.each(wrong)('a function that answers 101 with %s gets nothing of the client’s', async (_what, answer) => {
    await withGateway(async (harness) => {
      const heard: string[] = [];
      const instance = await startRawInstance(harness.socket('hello'), (socket, data, chunk) => {
        heard.push(data);
        if (chunk === 0) socket.write(typeof answer === 'string' ? answer : answer(/sec-websocket-key: (\S+)/i.exec(data)![1]!));
      });
      await route(harness, instance);
      const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
      connection.send(handshake('/hello'), frame(text, 'secret'));
      expect(await connection.status()).toBe(502);
      expect(Problem.parse(JSON.parse(String(await connection.end()))).code).toBe('function-bad-response');
      expect(heard).toHaveLength(1);
      await allReleased(harness);
    });
  });

  it('a function that never answers is over at its timeout', async () => {
    await withGateway(async (harness) => {
      const instance = await startRawInstance(harness.socket('hello'), () => {});
      await route(harness, instance, { timeoutMs: 200 });
      const connection = new RawConnection({ port: harness.port, host: '127.0.0.1' });
      connection.send(handshake('/hello'));
      expect(await connection.status()).toBe(504);
      await harness.controller.hear('timeout');
    });
  });
});
