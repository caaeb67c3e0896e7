/** Everything that hostile code may answer ends in an error, and in time: nothing may wait for it for ever. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createRuntimeClient, httpRuntimeClient, RuntimeGone, RuntimeUnreachable } from './runtime-client.ts';

const TIMEOUT_MS = 200;
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
async function instance(answer: (socket: Socket) => void) {
  const path = join(folder, 's');
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', () => answer(socket));
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
    await expect(httpRuntimeClient.health(await instance(answer), TIMEOUT_MS)).rejects.toThrow(RuntimeUnreachable);
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
    await expect(httpRuntimeClient.health({ kind: 'unix', path: dead }, TIMEOUT_MS)).rejects.toThrow(RuntimeGone);
    await expect(httpRuntimeClient.health(address, TIMEOUT_MS)).rejects.not.toThrow(RuntimeGone);
  });
});

describe('init', () => {
  const request = {
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
  const client = createRuntimeClient({ initTimeoutMs: TIMEOUT_MS });

  it('that is never answered is the fault of the code that loads for ever', async () => {
    const result = await client.init(await instance(() => {}), request, new AbortController().signal);
    expect(result).toMatchObject({ ok: false, error: { name: 'LoadTimeout', message: expect.stringContaining('did not finish loading') } });
  });

  it('whose connection breaks is not', async () => {
    const init = client.init(await instance((socket) => socket.destroy()), request, new AbortController().signal);
    await expect(init).rejects.toThrow(RuntimeUnreachable);
  });
});

describe('over TCP', () => {
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
