/** Everything that hostile code may answer ends in an error, and in time: nothing may wait for it for ever. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createRuntimeClient, httpRuntimeClient, RuntimeGone, RuntimeUnreachable } from './runtime-client.ts';

const TIMEOUT_MS = 1_000;
let folder: string;
let server: Server | null;
const sockets = new Set<Socket>();

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fn-runtime-'));
  server = null;
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  if (server) await once(server.close(), 'close');
  rmSync(folder, { recursive: true, force: true });
});

/** An instance that answers each request by `answer`. */
async function instance(answer: (socket: Socket) => void, onFirst: (data: Buffer) => void = () => {}) {
  const path = join(folder, 's');
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', (data) => {
      onFirst(data);
      answer(socket);
    });
  });
  await once(server.listen(path), 'listening');
  return { kind: 'unix', path } as const;
}

const repeat = (socket: Socket, text: string) => {
  const timer = setInterval(() => socket.write(text), 1);
  socket.once('close', () => clearInterval(timer));
};

describe('the answer of an instance', () => {
  it.each<[string, (socket: Socket) => void]>([
    ['nothing', () => {}],
    ['the end of the connection', (socket) => socket.end()],
    ['no HTTP', (socket) => socket.write('\0\0 hello\r\n\r\n')],
    ['a change of protocol', (socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n')],
    ['a redirect', (socket) => socket.write('HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n')],
    ['HTML', (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>')],
    ['deep JSON', (socket) => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n${'['.repeat(60_000)}`)],
    ['wrong types', (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"status":["x"]} ')],
    ['less than it said', (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{')],
    ['100 Continue for ever', (socket) => repeat(socket, 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(50))],
    ['one byte after the other', (socket) => void (socket.write('HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n'), repeat(socket, 'x'))],
    ['without end', (socket) => void (socket.write('HTTP/1.1 200 OK\r\n\r\n'), repeat(socket, 'x'.repeat(20_000)))],
  ])('may be %s', async (_what, answer) => {
    await expect(httpRuntimeClient.health(await instance(answer), { timeoutMs: TIMEOUT_MS })).rejects.toThrow(RuntimeUnreachable);
  });
});

describe('an instance whose process has ended', () => {
  it('is told apart from one that does not answer', async () => {
    const address = await instance(() => {});
    // As a process that dies leaves it: the socket's file is there, and nobody behind it.
    const dead = join(folder, 'dead');
    const child = spawn(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(dead)}, () => process.kill(process.pid, 9))`,
    ]);
    await once(child, 'exit');
    await expect(httpRuntimeClient.health({ kind: 'unix', path: dead }, { timeoutMs: TIMEOUT_MS })).rejects.toThrow(RuntimeGone);
    await expect(httpRuntimeClient.health(address, { timeoutMs: TIMEOUT_MS })).rejects.not.toThrow(RuntimeGone);
  });
});

const INIT = {
  nonce: 'n',
  revision: 'default/f@1',
  namespace: 'default',
  name: 'f',
  number: 1,
  code: '/fn/code',
  entry: 'index.mjs',
  env: {},
  slots: null,
  timeoutMs: 1_000,
  memoryMib: 128,
  memoryClassMib: 128,
};
const READY = JSON.stringify({ form: 'fetch', slots: 1, loadMs: 1 });

describe('init', () => {
  const client = createRuntimeClient({ initTimeoutMs: TIMEOUT_MS });

  it('that is never answered is the fault of the code that loads for ever', async () => {
    const result = await client.init(await instance(() => {}), Promise.resolve(INIT), new AbortController().signal);
    expect(result).toMatchObject({ ok: false, error: { name: 'LoadTimeout', message: expect.stringContaining('did not finish loading') } });
  });

  it('is heard of before it is known, and has all of its time from then on', async () => {
    const heard = Promise.withResolvers<string>();
    const path = await instance(
      (socket) => {
        let text = '';
        socket.on('data', (data) => {
          text += data.toString();
          if (text.endsWith('0\r\n\r\n')) socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${READY.length}\r\n\r\n${READY}`);
        });
      },
      (data) => heard.resolve(data.toString()),
    );
    const request = Promise.withResolvers<typeof INIT>();
    const init = client.init(path, request.promise, new AbortController().signal);
    expect(await heard.promise).toMatch(/^POST \/\.fn\/init HTTP\/1\.1\r\n[^]*\r\n\r\n$/);
    // Longer than init itself may take.
    await new Promise((resolve) => setTimeout(resolve, TIMEOUT_MS * 1.5));
    request.resolve(INIT);
    expect(await init).toMatchObject({ ok: true, response: { slots: 1 } });
  });

  it('that does not come about fails by its own error, and the instance sees it end', async () => {
    const closed = Promise.withResolvers<void>();
    const heard = Promise.withResolvers<void>();
    const address = await instance((socket) => {
      socket.on('close', () => closed.resolve());
      heard.resolve();
    });
    const placing = Promise.withResolvers<typeof INIT>();
    const init = client.init(address, placing.promise, new AbortController().signal);
    await heard.promise;
    placing.reject(new Error('no room for the code'));
    await expect(init).rejects.toThrow('no room for the code');
    await closed.promise;
  });

  it('whose connection breaks is not', async () => {
    const init = client.init(await instance((socket) => socket.destroy()), Promise.resolve(INIT), new AbortController().signal);
    await expect(init).rejects.toThrow(RuntimeUnreachable);
  });
});

describe('the connection by which an instance said that it is there', () => {
  const GENERIC = JSON.stringify({ status: 'generic', instance: 'i-aaaaaaaaaaaa', revision: null, inFlight: 0, waitUntil: 0 });
  const answered = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

  /** Counts connections, and answers each request on them. `after` is done when a connection's first is answered. */
  async function shim(after: (socket: Socket) => void = () => {}) {
    const path = join(folder, 's');
    const seen: { connection: number; line: string; closes: boolean }[] = [];
    let connections = 0;
    const listening = createServer((socket) => {
      sockets.add(socket);
      const connection = ++connections;
      socket.on('error', () => {});
      let text = '';
      socket.on('data', (data) => {
        text += data.toString();
        const line = text.slice(0, text.indexOf(' HTTP'));
        if (!line.startsWith('GET') && !text.endsWith('\r\n0\r\n\r\n')) return;
        seen.push({ connection, line, closes: /\r\nconnection: close\r\n/i.test(text) });
        text = '';
        socket.write(answered(line.startsWith('GET') ? GENERIC : READY), () => line.startsWith('GET') && after(socket));
      });
    });
    server = listening;
    await once(listening.listen(path), 'listening');
    return { address: { kind: 'unix', path } as const, seen };
  }

  it('is the one that init goes by, and is closed then', async () => {
    const { address, seen } = await shim();
    await httpRuntimeClient.health(address, { keep: true });
    await httpRuntimeClient.health(address);
    expect(await httpRuntimeClient.init(address, Promise.resolve(INIT), new AbortController().signal)).toMatchObject({ ok: true });
    await httpRuntimeClient.health(address);
    expect(seen).toMatchObject([
      { connection: 1, line: 'GET /.fn/health' },
      { connection: 2, line: 'GET /.fn/health' },
      { connection: 1, line: 'POST /.fn/init', closes: true },
      { connection: 3, line: 'GET /.fn/health' },
    ]);
  });

  it('may be gone: then init goes by another', async () => {
    const { address, seen } = await shim((socket) => socket.destroy());
    await httpRuntimeClient.health(address, { keep: true });
    expect(await httpRuntimeClient.init(address, Promise.resolve(INIT), new AbortController().signal)).toMatchObject({ ok: true });
    expect(seen.at(-1)).toMatchObject({ connection: 2, line: 'POST /.fn/init' });
  });
});

describe('over TCP', () => {
  it('nothing is heard of an init before it is known: its code comes by another connection, and is not to be overtaken', async () => {
    let heard = '';
    const listening = createServer((socket) => {
      sockets.add(socket);
      socket.on('data', (data) => {
        heard += data.toString();
        socket.end(`HTTP/1.1 200 OK\r\nContent-Length: ${READY.length}\r\n\r\n${READY}`);
      });
    });
    server = listening;
    await once(listening.listen(0, '127.0.0.1'), 'listening');
    const bound = listening.address();
    if (typeof bound !== 'object' || bound === null) throw new Error('it listens on no port');
    const request = Promise.withResolvers<typeof INIT>();
    const address = { kind: 'tcp', host: '127.0.0.1', port: bound.port, instance: 'i-abcdefghijkl' } as const;
    const init = httpRuntimeClient.init(address, request.promise, new AbortController().signal);
    const health = await httpRuntimeClient.health(address).catch((error: unknown) => error);
    expect(health).toBeInstanceOf(RuntimeUnreachable);
    expect(heard).toMatch(/^GET /);
    expect(heard).not.toContain('POST');
    request.resolve(INIT);
    expect(await init).toMatchObject({ ok: true });
  });

  it('every request names the instance that is meant: another one may have its address by now', async () => {
    const heads: string[] = [];
    const listening = createServer((socket) => {
      sockets.add(socket);
      socket.once('data', (data) => {
        heads.push(data.toString());
        socket.end('HTTP/1.1 503 Service Unavailable\r\nfn-refused: not-me\r\ncontent-length: 0\r\n\r\n');
      });
    });
    server = listening;
    await once(listening.listen(0, '127.0.0.1'), 'listening');
    const bound = listening.address();
    if (typeof bound !== 'object' || bound === null) throw new Error('it listens on no port');
    const address = { kind: 'tcp', host: '127.0.0.1', port: bound.port, instance: 'i-abcdefghijkl' } as const;
    await expect(httpRuntimeClient.health(address)).rejects.toThrow('status 503');
    await httpRuntimeClient.drain(address, 1_000);
    for (const head of heads) expect(head).toMatch(/\r\nfn-instance: i-abcdefghijkl\r\n/i);
    expect(heads).toHaveLength(2);
  });
});
