/** The shim's WebSockets without a process around them: every way to cut the bytes, and the interface of the standard. */
import { Duplex } from 'node:stream';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closing, frame, OPCODE } from '../../test/helpers/websocket.ts';
import type { ServerWebSocket } from './types.d.ts';

/** What the shim's modules are, as far as they are used here: they are checked as JavaScript, by a configuration of their own. */
interface Events {
  message: (data: string | Buffer) => void;
  ping: (payload: Buffer) => void;
  close: (code: number, reason: string) => void;
}
interface ShimSocket extends ServerWebSocket {
  attach(socket: Duplex, head: Buffer): void;
  abandon(why: string): void;
}
interface Shim {
  FrameReader: new (events: Events, maxMessageBytes: number) => { push(chunk: Buffer): void };
  ServerWebSocket: new (url: string, protocol: string, maxMessageBytes: number) => ShimSocket;
}
const load = (file: string): Promise<Shim> => import(new URL(`./shim/${file}`, import.meta.url).href) as Promise<Shim>;
const { FrameReader } = await load('websocket-frames.mjs');
const { ServerWebSocket: Socket } = await load('websocket.mjs');

describe('the reader of frames', () => {
  it('property: gives the same messages however the bytes are cut and the messages fragmented', () => {
    const message = fc.record({ text: fc.boolean(), data: fc.string({ unit: 'binary', maxLength: 300 }), cuts: fc.array(fc.nat(600), { maxLength: 4 }), pings: fc.boolean() }); // prettier-ignore
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), fc.array(fc.nat(4_000), { maxLength: 10 }), (messages, cuts) => {
        const bytes: Buffer[] = [];
        for (const { text, data, cuts: places, pings } of messages) {
          const payload = Buffer.from(data);
          const ends = [...places.map((place) => place % (payload.length + 1)).sort((a, b) => a - b), payload.length];
          ends.forEach((end, i) => {
            const opcode = i > 0 ? OPCODE.continuation : text ? OPCODE.text : OPCODE.binary;
            bytes.push(frame(opcode, payload.subarray(i === 0 ? 0 : ends[i - 1], end), { fin: i === ends.length - 1 }));
            if (pings) bytes.push(frame(OPCODE.ping, 'p'));
          });
        }
        const all = Buffer.concat(bytes);
        const heard: string[] = [];
        const reader = new FrameReader(
          { message: (data) => heard.push(typeof data === 'string' ? `t${data}` : `b${data.toString()}`), ping: () => {}, close: () => {} },
          10_000,
        );
        const ends = [...cuts.map((place) => place % (all.length + 1)).sort((a, b) => a - b), all.length];
        ends.forEach((end, i) => reader.push(Buffer.from(all.subarray(i === 0 ? 0 : ends[i - 1], end))));
        expect(heard).toEqual(messages.map(({ text, data }) => (text ? 't' : 'b') + Buffer.from(data).toString()));
      }),
    );
  });

  it('property: bytes that mean nothing end it with a code, or wait for more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const reader = new FrameReader({ message: () => {}, ping: () => {}, close: () => {} }, 1_000);
        let code = 1002;
        try {
          reader.push(Buffer.from(bytes));
        } catch (error) {
          code = (error as { code: number }).code;
        }
        expect([1002, 1007, 1009]).toContain(code);
      }),
    );
  });

  it('keeps nothing for what is only announced', () => {
    const reader = new FrameReader({ message: () => {}, ping: () => {}, close: () => {} }, 256 * 1_024 * 1_024);
    const before = process.memoryUsage().arrayBuffers;
    reader.push(frame(OPCODE.binary, '', { announced: 255 * 1_024 * 1_024 }));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_024 * 1_024);
  });
});

/** A socket that keeps what is written to it. */
class Wire extends Duplex {
  written = Buffer.alloc(0);
  held: (() => void) | null = null;
  hold = false;

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.written = Buffer.concat([this.written, chunk]);
    if (this.hold) this.held = done;
    else done();
  }
}

function opened() {
  const wire = new Wire({ allowHalfOpen: true, autoDestroy: true });
  const socket = new Socket('ws://fn.example/', '', 1_000_000);
  const events: string[] = [];
  for (const type of ['open', 'message', 'close', 'error'] as const) {
    const target: EventTarget = socket;
    target.addEventListener(type, () => events.push(type));
  }
  return { wire, socket, events, open: () => socket.attach(wire, Buffer.alloc(0)) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('the socket of ctx.upgradeWebSocket', () => {
  it('cannot send before it is open, and says nothing once it closes', () => {
    const { wire, socket, events, open } = opened();
    expect(() => socket.send('early')).toThrow(expect.objectContaining({ name: 'InvalidStateError' }) as Error);
    open();
    expect([socket.readyState, events]).toEqual([1, ['open']]);
    socket.close(1000, 'bye');
    const { length } = wire.written;
    socket.send('late');
    socket.close();
    expect([socket.readyState, wire.written.length]).toEqual([2, length]);
  });

  it.each([0, 999, 1004, 1005, 1006, 1015, 2000, 5000, 1.5, Number.NaN])('close(%s) throws', (code) => {
    const { socket, open } = opened();
    open();
    expect(() => socket.close(code)).toThrow(expect.objectContaining({ name: 'InvalidAccessError' }) as Error);
    expect(() => socket.close(1000, 'x'.repeat(124))).toThrow(expect.objectContaining({ name: 'SyntaxError' }) as Error);
    expect(socket.readyState).toBe(1);
  });

  it('sends in the order of its calls, a Blob too, and the close behind them', async () => {
    const { wire, socket, open } = opened();
    open();
    socket.send('1');
    socket.send(new Blob(['22']));
    socket.send(new Uint8Array([0x33]));
    socket.close(1000);
    expect(socket.bufferedAmount).toBe(3);
    for (let i = 0; i < 20 && socket.bufferedAmount > 0; i++) await turn();
    expect([...wire.written]).toEqual([0x81, 1, 0x31, 0x82, 2, 0x32, 0x32, 0x82, 1, 0x33, 0x88, 2, 0x03, 0xe8]);
  });

  it('tells by bufferedAmount what has not left', () => {
    const { wire, socket, open } = opened();
    open();
    wire.hold = true;
    socket.send('x'.repeat(1_000));
    socket.send('y'.repeat(1_000));
    expect(socket.bufferedAmount).toBeGreaterThan(2_000);
    wire.hold = false;
    wire.held?.();
    expect(socket.bufferedAmount).toBe(0);
  });

  it('gives bytes as asked for, and never the buffer that they came in', async () => {
    const { wire, socket, open } = opened();
    const data: unknown[] = [];
    Object.assign(socket, { onmessage: (event: MessageEvent) => data.push(event.data) });
    open();
    const bytes = frame(OPCODE.binary, 'abc');
    wire.push(Buffer.from(bytes));
    await turn();
    socket.binaryType = 'arraybuffer';
    wire.push(Buffer.from(bytes));
    await turn();
    expect(await (data[0] as Blob).text()).toBe('abc');
    expect(data[1]).toBeInstanceOf(ArrayBuffer);
    expect((data[1] as ArrayBuffer).byteLength).toBe(3);
    Object.assign(socket, { onmessage: null });
    wire.push(Buffer.from(bytes));
    await turn();
    expect(data).toHaveLength(2);
  });

  it('who does not read gets no pongs without end', async () => {
    const { wire, open } = opened();
    open();
    wire.hold = true;
    const ping = frame(OPCODE.ping, 'p'.repeat(125));
    for (let i = 0; i < 200; i++) wire.push(Buffer.concat(Array.from({ length: 50 }, () => ping)));
    await turn();
    expect(wire.writableLength).toBeLessThan(128 * 1_024);
  });

  it('that never opened says so', async () => {
    const { socket, events } = opened();
    socket.abandon('nobody returned it');
    await turn();
    expect([socket.readyState, events]).toEqual([3, ['error', 'close']]);
  });

  it('a clean close is told with the code of the peer, a broken one as 1006', async () => {
    for (const [bytes, code, clean] of [
      [frame(OPCODE.close, closing(4001, 'x')), 4001, true],
      [Buffer.alloc(0), 1006, false],
    ] as const) {
      // prettier-ignore
      const { wire, socket, open } = opened();
      const closed = new Promise<CloseEvent>((resolve) => socket.addEventListener('close', resolve));
      open();
      if (bytes.length > 0) wire.push(Buffer.from(bytes));
      wire.push(null);
      expect(await closed).toMatchObject({ code, wasClean: clean });
    }
  });
});
