/** Open WebSockets through a whole gateway: what passes, and every way in which they end. */
import { once } from 'node:events';
import { connect as connectSocket, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { withGateway } from '../test/helpers/gateway-harness.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { allReleased, connect, ended, raw, route, said, serve } from '../test/helpers/gateway-websocket.ts';
import { runningClock } from '../test/helpers/running-clock.ts';
import { sleep, waitFor } from '../test/helpers/wait.ts';
import { acceptOf, closing, frame, handshake, OPCODE } from '../test/helpers/websocket.ts';

const { text, binary, close, ping, pong } = OPCODE;

describe('the ends', () => {
  it('a client that breaks off is seen by the function at once, and its slot is free', async () => {
    await withGateway(async (harness) => {
      const { sockets } = await serve(harness, { slots: 1 });
      const connection = await raw(harness);
      const seen = once(sockets[0]!, 'close');
      connection.socket.resetAndDestroy();
      expect(((await seen) as [number])[0]).toBe(1006);
      const next = await raw(harness);
      next.send(frame(text, 'again'));
      expect((await next.frame()).payload.toString()).toBe('again');
    });
  });

  it('a client that closes its half hears what the function still has to say', async () => {
    await withGateway(async (harness) => {
      const instance = await startInstance(
        harness.socket('hello'),
        () => {},
        (server) =>
          server.on('upgrade', (request, socket: Socket) => {
            socket.write(
              `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ${acceptOf(request.headers['sec-websocket-key']!)}\r\n\r\n`,
            );
            socket.on('end', () => socket.end(Buffer.from([0x81, 3, ...Buffer.from('bye')])));
            socket.resume();
          }),
      );
      await route(harness, instance);
      const connection = await raw(harness);
      connection.socket.end();
      expect((await connection.frame()).payload.toString()).toBe('bye');
      await connection.end();
    });
  });

  it('a function that goes away in silence leaves 1011, or, within a frame, a connection that is cut', async () => {
    await withGateway(async (harness) => {
      const { sockets, instance } = await serve(harness);
      const whole = await raw(harness);
      sockets[0]!.terminate();
      expect(await whole.closeFrame()).toMatchObject({ code: 1011, reason: 'the function went away' });
      const half = await raw(harness);
      [...instance.connections].at(-1)!.write(Buffer.concat([Buffer.from([0x82, 126, 0x10, 0]), Buffer.alloc(100)]));
      await waitFor('half a frame', () => half.socket.bytesRead > 300 || undefined);
      sockets[1]!.terminate();
      expect(await half.closeFrame()).toMatchObject({ code: 1006 });
    });
  });

  it('one that the controller says is gone ends, and its slots are void', async () => {
    await withGateway(async (harness) => {
      const { instance } = await serve(harness);
      const connection = await raw(harness);
      // The connection itself stays open, as it does when a machine is lost.
      for (const socket of instance.connections) socket.removeAllListeners('end');
      harness.controller.send({ type: 'gone', instance: harness.controller.granted.at(-1)!.instance, cause: 'lost', detail: 'lost' });
      expect((await connection.closeFrame()).code).toBe(1011);
    });
  });

  it('garbage after 101 hurts nobody else', async () => {
    await withGateway(async (harness) => {
      const { sockets } = await serve(harness);
      const good = await raw(harness);
      const hostile = await raw(harness);
      hostile.send(Buffer.alloc(100_000, 0xff));
      expect((await hostile.closeFrame()).code).toBe(1002);
      good.send(frame(ping, 'p'));
      expect(await good.frame()).toMatchObject({ opcode: pong });
      expect(sockets).toHaveLength(2);
    });
  });

  it('a client that does not read holds no more than the buffers of two sockets', async () => {
    await withGateway(async (harness) => {
      const message = Buffer.alloc(1_024 * 1_024, 1);
      const count = 64;
      let written = 0;
      await serve(harness, {
        onSocket(socket) {
          const more = () =>
            socket.send(message, () => {
              if (++written < count && socket.readyState === WebSocket.OPEN) more();
            });
          more();
        },
      });
      const socket = connectSocket(harness.port, '127.0.0.1');
      harness.defer(() => socket.destroy());
      socket.write(handshake('/hello'));
      await once(socket, 'connect');
      let before = -1;
      await waitFor('the function to be held back', async () => {
        const still = written === before && written > 0;
        before = written;
        await sleep(200);
        return still;
      });
      // Kernel buffers of two connections, some MiB on this path; without back-pressure it would be all 64.
      expect(written).toBeLessThan(32);
      socket.resume();
      await waitFor('the rest', () => written === count);
    });
  });
});

describe('an orderly end', () => {
  it('at its greatest age: 1001 to both, between two frames', async () => {
    await withGateway(async (harness) => {
      const { sockets } = await serve(harness, { maxStreamMs: 3_000 });
      const socket = await connect(harness);
      const seen = ended(sockets[0]!);
      socket.send('alive');
      expect(await said(socket)).toBe('alive');
      expect(await ended(socket)).toEqual({ code: 1001, reason: 'maximum age' });
      expect(await seen).toEqual({ code: 1001, reason: 'maximum age' });
      await allReleased(harness);
      await waitFor('no deadline is left', () => harness.gateway.state.deadlines === 0);
    });
  });

  it('at the deadline of a revoke, and not before; the frame that is under way comes whole', async () => {
    await withGateway(async (harness) => {
      const { sockets, instance } = await serve(harness);
      const connection = await raw(harness);
      const second = await connect(harness);
      connection.send(frame(text, 'x'));
      await connection.frame();
      const function_ = [...instance.connections][0]!;
      const { lease } = harness.controller.granted.at(-1)!;
      harness.controller.send({ type: 'revoke', lease, slots: 0, deadlineMs: 2_000 });
      const revokedAt = runningClock.now();
      const seen = ended(sockets[0]!);
      // Half a frame now, and the other half when the deadline has passed.
      function_.write(Buffer.concat([Buffer.from([0x82, 126, 0x00, 0xc8]), Buffer.alloc(100, 1)]));
      expect((await ended(second)).code).toBe(1001);
      // A timer may be early by the fraction of a millisecond that clocks are rounded to.
      expect(runningClock.now() - revokedAt).toBeGreaterThan(1_995);
      function_.write(Buffer.concat([Buffer.alloc(100, 2), Buffer.from([0x81, 4, ...Buffer.from('late')])]));
      const last = await connection.frame();
      expect([last.opcode, last.payload.length]).toEqual([binary, 200]);
      expect(await connection.closeFrame()).toEqual({ code: 1001, reason: 'going away', before: [] });
      // What the client says until it answers still reaches the function.
      const heard = once(sockets[0]!, 'message');
      connection.send(frame(text, 'last words'), frame(close, closing(1001)));
      expect(String(((await heard) as [Buffer])[0])).toBe('last words');
      expect((await seen).code).toBe(1001);
      await connection.end();
      await harness.controller.hear('release', (message) => message.lease === lease);
    });
  });

  it('a partial revoke ends as many as are too many, those that came first', async () => {
    await withGateway(async (harness) => {
      await serve(harness, { slots: 3 });
      const sockets = [await connect(harness), await connect(harness), await connect(harness)];
      const { lease } = harness.controller.granted.at(-1)!;
      harness.controller.send({ type: 'revoke', lease, slots: 1, deadlineMs: 50 });
      await Promise.all([ended(sockets[0]!), ended(sockets[1]!)]);
      await harness.controller.hear('release', (message) => message.lease === lease && message.slots === 1);
      sockets[2]!.send('still');
      expect(await said(sockets[2]!)).toBe('still');
    });
  });

  it('a client that does not answer is spoken for, and cut', async () => {
    await withGateway(async (harness) => {
      const { sockets } = await serve(harness, { maxStreamMs: 2_000 });
      const connection = await raw(harness);
      const seen = ended(sockets[0]!);
      expect((await connection.closeFrame()).code).toBe(1001);
      expect(await seen).toEqual({ code: 1001, reason: 'maximum age' });
      await connection.end();
      await waitFor('the connection to be cut', () => harness.gateway.state.deadlines === 0);
    });
  });

  it('at the end of the gateway, within its deadline', async () => {
    await withGateway(
      async (harness) => {
        const { sockets } = await serve(harness);
        const socket = await connect(harness);
        const silent = await raw(harness);
        const seen = sockets.map(ended);
        const closed = harness.gateway.close();
        expect(await ended(socket)).toEqual({ code: 1001, reason: 'going away' });
        expect((await silent.closeFrame()).code).toBe(1001);
        await closed;
        expect((await Promise.all(seen)).map(({ code }) => code)).toEqual([1001, 1001]);
      },
      { config: { drainDeadlineMs: 3_000 } },
    );
  });
});
