/** Connections to an instance over TCP: reused, refused, and into the void. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { newInstanceId } from '#kit/ids.ts';
import type { Address } from '#contract/runtime.ts';
import { systemClock, VirtualClock } from '#kit/clock.ts';
import { BlackHole } from '../test/helpers/black-hole.ts';
import { waitFor } from '../test/helpers/wait.ts';
import { ConnectError } from './instance-connection.ts';
import { instanceRequest, responseHandler } from './testing.ts';
import { CONNECT_TIMEOUT_MS, LOOK_EVERY_MS, Upstream } from './upstream.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const at = (port: number): Address => ({ kind: 'tcp', host: '127.0.0.1', port, instance: newInstanceId() });

/** An instance of this process, and how many connections came. */
async function instance(answer: Parameters<typeof createServer>[1]): Promise<{ server: Server; port: number; connections: () => number }> {
  const server = createServer({ keepAliveTimeout: 0 }, answer);
  let connections = 0;
  server.on('connection', () => (connections += 1));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port, connections: () => connections };
}

function upstream(port: number, clock = new VirtualClock()) {
  const unreachable: string[] = [];
  const one = new Upstream(at(port), clock, (reason) => unreachable.push(reason));
  closers.push(() => one.close());
  /** The body, or what went wrong. `paused`: whoever gets it takes no more after its first bytes. */
  const get = async (path = '/', paused = false): Promise<string> => {
    const connection = one.acquire();
    const text = await new Promise<string>((resolve) => {
      let body = '';
      const handler = responseHandler({
        onData: (chunk) => {
          body += chunk.toString();
          if (paused) connection.pause();
        },
        onEnd: () => resolve(body),
        onUpgrade: () => resolve('upgraded'),
        onError: (error) => resolve(error.message),
      });
      connection.send(instanceRequest({ path }), handler);
    });
    one.release(connection);
    return text;
  };
  return { one, unreachable, get, clock };
}

describe('connections over TCP', () => {
  it('are reused, one request at a time on each', async () => {
    const { port, connections } = await instance((_request, response) => response.end('ok'));
    const { get } = upstream(port);
    for (let n = 0; n < 5; n++) expect(await get()).toBe('ok');
    expect(connections()).toBe(1);
    expect(await Promise.all([get(), get()])).toEqual(['ok', 'ok']);
    expect(connections()).toBe(2);
  });

  it('are read for the next request where the last one had its reader pause at its end', async () => {
    const { port, connections } = await instance((_request, response) => response.end('ok'));
    const { get } = upstream(port);
    expect(await get('/', true)).toBe('ok');
    expect(await get()).toBe('ok');
    expect(connections()).toBe(1);
  });

  it('that are refused fail at once, and those that nobody answers after a second', async () => {
    const { server, port } = await instance(() => {});
    server.close();
    expect(await upstream(port).get()).toContain('ECONNREFUSED');
    const hole = await BlackHole.start();
    closers.push(() => hole.close());
    await hole.stop();
    const { get, clock } = upstream(hole.port);
    let ended = '';
    void get().then((text) => (ended = text));
    await waitFor('the end', () => {
      clock.advance(CONNECT_TIMEOUT_MS / 20);
      return ended !== '';
    });
    expect(ended).toBe(`no connection within ${CONNECT_TIMEOUT_MS} ms`);
  });

  it('that do not come about leave the body where it is', async () => {
    const { server, port } = await instance(() => {});
    server.close();
    const body = Readable.from(['never', 'sent']);
    const { one } = upstream(port);
    const connection = one.acquire();
    const error = await new Promise<Error>((onError) =>
      connection.send(instanceRequest({ method: 'POST', body }), responseHandler({ onError })),
    );
    expect(error).toBeInstanceOf(ConnectError);
    // Whoever sends it elsewhere opens another one: bytes that went on into this one would be missing there.
    expect([body.destroyed, body.readableDidRead]).toEqual([true, false]);
  });

  it('to an instance that has vanished with a request in flight: it is noticed, and said', async () => {
    const hole = await BlackHole.start();
    closers.push(() => hole.close());
    const { one, get, unreachable, clock } = upstream(hole.port);
    expect(await get('/first')).toBe('first');
    const lost = get('/lost');
    await hole.stopped();
    // A request has ended since: that was proof enough.
    clock.advance(LOOK_EVERY_MS);
    clock.advance(CONNECT_TIMEOUT_MS);
    expect(unreachable).toEqual([]);
    await waitFor('the look', () => {
      clock.advance(CONNECT_TIMEOUT_MS);
      return unreachable.length > 0;
    });
    expect(unreachable[0]).toBe(`requests are in flight, and it takes no connection: no connection within ${CONNECT_TIMEOUT_MS} ms`);
    // As it is when the controller has said that it is gone.
    one.close();
    expect(await lost).toBe('the instance is gone');
  });

  it('to one that is only slow are tried, and nobody is told', async () => {
    const held: (() => void)[] = [];
    const { port, connections } = await instance((_request, response) => held.push(() => response.end('late')));
    const { get, unreachable, clock } = upstream(port);
    const late = get();
    await waitFor('it to be held', () => held.length === 1, { everyMs: 2 });
    for (let looks = 1; looks <= 3; looks++) {
      clock.advance(LOOK_EVERY_MS);
      await waitFor('a try', () => connections() === 1 + looks, { everyMs: 2 });
    }
    held[0]!();
    expect(await late).toBe('late');
    // Nothing is in flight: nobody looks, however much time passes.
    for (let n = 0; n < 5; n++) clock.advance(LOOK_EVERY_MS);
    await systemClockTurn();
    expect(connections()).toBe(4);
    expect(unreachable).toEqual([]);
  });
});

/** I/O that is under way has come. */
const systemClockTurn = () => new Promise<void>((resolve) => void systemClock.after(20, resolve));
