/** Which requests stay on the fast path, what is handed over to Node's server, and how long a connection is kept. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { waitFor } from '../test/helpers/wait.ts';
import { type ClientConnection, closeRequest, newConnection, type OpenRequest } from './context.ts';
import { FastPath } from './fast-connection.ts';
import type { FastResponse } from './fast-response.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const connectionOf = (socket: Socket): ClientConnection => newConnection(socket, { remote: '127.0.0.1', trusted: false, secure: false });

interface Served {
  url: string;
  answer: (text: string) => void;
  outgoing: FastResponse;
  /** Has its end been told, or its connection's? */
  closed: boolean;
}

/** A server whose requests are answered by hand; those for /node are for nobody here. */
class Fast {
  readonly served: Served[] = [];
  /** What was handed over, with what came behind it. */
  readonly handed: { text: string; socket: Socket }[] = [];
  readonly path: FastPath;
  readonly #server = createServer({ allowHalfOpen: true }, (socket) => this.path.take(socket));

  constructor(times: { keepAliveTimeoutMs?: number; headersTimeoutMs?: number } = {}) {
    this.path = new FastPath({
      connectionOf,
      keepAliveTimeoutMs: 65_000,
      headersTimeoutMs: 65_000,
      ...times,
      serve: (connection, incoming, outgoing) => {
        if (incoming.url === '/node') return false;
        this.#begin(connection, incoming.url, outgoing);
        return true;
      },
      handOver: (socket) => {
        const handed = { text: '', socket };
        this.handed.push(handed);
        socket.on('error', () => {});
        socket.on('data', (chunk: Buffer) => (handed.text += chunk.toString('latin1')));
      },
    });
  }

  #begin(connection: ClientConnection, url: string, outgoing: FastResponse): void {
    const onClose = (): void => {
      one.closed = true;
      closeRequest(connection, request);
    };
    const request: OpenRequest = { received: true, answered: false, breakOff: () => {}, onClose };
    const answer = (text: string): void => {
      outgoing.writeHead(200, 'OK', ['content-length', String(text.length)]);
      outgoing.end(text, 'latin1');
    };
    const one: Served = { url, outgoing, answer, closed: false };
    connection.open.add(request);
    outgoing.watchedBy(request);
    this.served.push(one);
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    closers.push(() => {
      this.path.closeAll();
      for (const { socket } of this.handed) socket.destroy();
      return new Promise((resolve) => this.#server.close(resolve));
    });
    return this;
  }

  async dial(): Promise<Client> {
    const socket = connect({ port: (this.#server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return new Client(socket);
  }

  async nth(n: number): Promise<Served> {
    return waitFor(`request ${n}`, () => this.served[n], { everyMs: 2 });
  }
}

class Client {
  said = '';
  readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
    closers.push(() => socket.destroy());
    socket.on('error', () => {});
    socket.on('end', () => socket.end());
    socket.on('data', (chunk: Buffer) => (this.said += chunk.toString('latin1')));
  }

  get bodies(): string[] {
    return this.said.split(/HTTP\/1\.1 200 OK\r\n(?:.+\r\n)+\r\n/).slice(1);
  }
}

const get = (url: string): string => `GET ${url} HTTP/1.1\r\nHost: a\r\n\r\n`;

describe('the fast path', () => {
  it('answers one request after the other on a connection', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    for (const n of [0, 1, 2]) {
      client.socket.write(get(`/${n}`));
      const { url, answer } = await fast.nth(n);
      answer(`at ${url}`);
      await waitFor('its answer', () => client.bodies.length === n + 1, { everyMs: 2 });
    }
    expect(client.bodies).toEqual(['at /0', 'at /1', 'at /2']);
    expect(fast.served.every(({ closed }) => closed)).toBe(true);
    expect(client.said).toContain('\r\nConnection: keep-alive\r\nKeep-Alive: timeout=65\r\n');
    expect(fast.handed).toEqual([]);
    expect(fast.path.connections.size).toBe(1);
  });

  it('hands a connection over at the first packet that is not as plain, with every byte of it and what follows', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/a'));
    (await fast.nth(0)).answer('a');
    await waitFor('its answer', () => client.bodies.length === 1, { everyMs: 2 });
    client.socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo');
    await waitFor('the rest', () => fast.handed[0]?.text.endsWith('bo'), { everyMs: 2 });
    client.socket.write('dy');
    client.socket.write(get('/b'));
    await waitFor('what follows', () => fast.handed[0]!.text.endsWith(get('/b')), { everyMs: 2 });
    expect(fast.handed[0]!.text).toBe(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody${get('/b')}`);
    expect(fast.served).toHaveLength(1);
    expect(fast.path.connections.size).toBe(0);
  });

  it('hands over what is for somebody else than a function', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/node'));
    await waitFor('it', () => fast.handed[0]?.text === get('/node'), { everyMs: 2 });
    expect(client.said).toBe('');
  });

  it('lets what comes ahead of an answer wait for it, and hands it over then', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/a'));
    const { answer } = await fast.nth(0);
    client.socket.write(get('/b'));
    client.socket.write('GET /c HT');
    const other = await fast.dial();
    other.socket.write(get('/other'));
    (await fast.nth(1)).answer('other');
    await waitFor('the other', () => other.bodies.length === 1, { everyMs: 2 });
    expect({ handed: fast.handed, served: fast.served.length }).toEqual({ handed: [], served: 2 });
    answer('a');
    await waitFor('the rest', () => fast.handed[0]?.text === `${get('/b')}GET /c HT`, { everyMs: 2 });
    expect(client.bodies).toEqual(['a']);
  });

  it('reads no more ahead than it may', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/a'));
    const { answer } = await fast.nth(0);
    const ahead = 'x'.repeat(40_000_000);
    client.socket.write(ahead);
    const other = await fast.dial();
    other.socket.write(get('/other'));
    (await fast.nth(1)).answer('other');
    await waitFor('the other', () => other.bodies.length === 1, { everyMs: 2 });
    // All that fits into the buffers between the two is out; what is more waits with the client.
    expect(client.socket.writableLength).toBeGreaterThan(20_000_000);
    answer('a');
    await waitFor('all of it', () => fast.handed[0]?.text.length === ahead.length, { everyMs: 5 });
  });

  it('looks at nothing behind an answer that ends the connection', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/a'));
    const { outgoing } = await fast.nth(0);
    client.socket.write(get('/b'));
    outgoing.shouldKeepAlive = false;
    outgoing.writeHead(200, 'OK', ['content-length', '1']);
    outgoing.end('a', 'latin1');
    await waitFor('the end', () => client.socket.readableEnded || client.socket.destroyed, { everyMs: 2 });
    expect(client.said).toContain('\r\nConnection: close\r\n');
    expect({ handed: fast.handed, served: fast.served.length }).toEqual({ handed: [], served: 1 });
    await waitFor('nothing to be left', () => fast.path.connections.size === 0, { everyMs: 2 });
  });

  it('tells a request that its client is gone', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/a'));
    const one = await fast.nth(0);
    client.socket.resetAndDestroy();
    await waitFor('it to be told', () => one.closed, { everyMs: 2 });
    one.answer('nobody');
    expect(one.outgoing.writableFinished).toBe(false);
    expect(fast.path.connections.size).toBe(0);
  });

  it('ends with a client that ends', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/a'));
    const one = await fast.nth(0);
    client.socket.end();
    await waitFor('it to be told', () => one.closed, { everyMs: 2 });
    expect(one.outgoing.writableFinished).toBe(false);
    expect(client.said).toBe('');
    await waitFor('nothing to be left', () => fast.path.connections.size === 0, { everyMs: 2 });
  });

  it('looks at nothing that comes in the turn in which the end of the connection is settled', async () => {
    const fast = await new Fast().start();
    const client = await fast.dial();
    client.socket.write(get('/a'));
    const { outgoing } = await fast.nth(0);
    outgoing.shouldKeepAlive = false;
    let told = '';
    const bell = createServer((socket) => {
      socket.on('data', (chunk: Buffer) => {
        told += chunk.toString();
        if (told !== 'ready, now') return;
        outgoing.writeHead(200, 'OK', ['content-length', '1']);
        outgoing.end('a', 'latin1');
      });
    });
    bell.listen(0, '127.0.0.1');
    closers.push(() => new Promise((resolve) => bell.close(resolve)));
    await once(bell, 'listening');
    const rope = connect((bell.address() as AddressInfo).port, '127.0.0.1');
    closers.push(() => rope.destroy());
    rope.write('ready');
    await waitFor('the bell', () => told === 'ready', { everyMs: 2 });
    // Both have come when the loop looks next: first what has the answer given, then the request.
    rope.write(', now');
    client.socket.write(get('/b'));
    await waitFor('the end', () => client.socket.readableEnded || client.socket.destroyed, { everyMs: 2 });
    expect({ handed: fast.handed, served: fast.served.length }).toEqual({ handed: [], served: 1 });
  });

  it('ends connections that have been idle for too long, and none on which a request is being answered', async () => {
    const fast = await new Fast({ keepAliveTimeoutMs: 1, headersTimeoutMs: 1 }).start();
    const [silent, kept, busy] = [await fast.dial(), await fast.dial(), await fast.dial()];
    busy.socket.write(get('/busy'));
    const { answer } = await fast.nth(0);
    kept.socket.write(get('/kept'));
    (await fast.nth(1)).answer('kept');
    await waitFor('the idle to end', () => silent.socket.destroyed && kept.socket.destroyed, { everyMs: 5 });
    expect(kept.bodies).toEqual(['kept']);
    expect(busy.socket.destroyed).toBe(false);
    answer('busy');
    await waitFor('the answer', () => busy.bodies.length === 1, { everyMs: 2 });
    await waitFor('its end', () => busy.socket.destroyed, { everyMs: 5 });
  });

  it('keeps one that has not been idle for so long', async () => {
    const fast = await new Fast({ keepAliveTimeoutMs: 600_000, headersTimeoutMs: 1 }).start();
    const [silent, kept] = [await fast.dial(), await fast.dial()];
    kept.socket.write(get('/kept'));
    (await fast.nth(0)).answer('kept');
    await waitFor('the silent to end', () => silent.socket.destroyed, { everyMs: 5 });
    expect(kept.socket.destroyed).toBe(false);
  });

  it('ends those that are idle when it is told to, and all when it is told to', async () => {
    const fast = await new Fast().start();
    const [idle, busy] = [await fast.dial(), await fast.dial()];
    busy.socket.write(get('/busy'));
    const one = await fast.nth(0);
    fast.path.closeIdle();
    await waitFor('the idle to end', () => idle.socket.destroyed, { everyMs: 2 });
    expect(busy.socket.destroyed).toBe(false);
    fast.path.closeAll();
    await waitFor('all to end', () => busy.socket.destroyed && one.closed, { everyMs: 2 });
  });
});
