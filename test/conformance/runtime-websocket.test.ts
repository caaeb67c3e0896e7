/**
 * WebSockets of every runtime that has them: the handshake, frames that are right and frames that are
 * not (in the manner of the Autobahn suite), slots, logs, drain. A runtime joins by a row in TARGETS
 * whose entry serves the paths of fixtures/runtime/websocket.mjs.
 */
import { describe, expect, it } from 'vitest';
import { HEADERS } from '#contract/runtime.ts';
import { acceptOf, closing, frame, handshake, newKey, OPCODE, openWebSocket, RawConnection } from '../helpers/websocket.ts';
import { waitFor } from '../helpers/wait.ts';
import { gatewayHeaders, INSTANCE, lineWith, type Shim, startShim } from './runtime-harness.ts';
import { BUN, DENO, NODE, PYTHON, type RuntimeUnderTest } from './runtime-table.ts';

interface Target {
  name: string;
  shim: RuntimeUnderTest;
  entry: string;
  form: string;
  /** Is the framing ours? Then it is held to every rule; else to what its library does. */
  strict: boolean;
}

const TARGETS: Target[] = [
  { name: 'node, ctx.upgradeWebSocket', shim: NODE, entry: 'websocket.mjs', form: 'fetch', strict: true },
  { name: 'node, server with ws', shim: NODE, entry: 'websocket-server.mjs', form: 'server', strict: false },
  { name: 'bun, ctx.upgradeWebSocket', shim: BUN, entry: 'websocket.mjs', form: 'fetch', strict: true },
  { name: 'deno, ctx.upgradeWebSocket', shim: DENO, entry: 'websocket.mjs', form: 'fetch', strict: true },
  { name: 'python, ASGI', shim: PYTHON, entry: 'websocket.py', form: 'asgi', strict: true },
];

const { text, binary, continuation, close, ping, pong } = OPCODE;
const MIB = 1_024 * 1_024;
const big = Buffer.alloc(200_000, 'x');

/** Sent as it is; `back` are the frames of the answer (opcode, payload), `code` is the close that ends it. */
interface Case {
  what: string;
  send: Buffer[];
  back?: [number, string | Buffer][];
  code?: number;
  /** Only of framing of our own: libraries differ. */
  strictOnly?: boolean;
}

const euro = Buffer.from('€');

const CASES: Case[] = [
  { what: 'an empty text', send: [frame(text)], back: [[text, '']] },
  { what: '125 bytes', send: [frame(text, 'a'.repeat(125))], back: [[text, 'a'.repeat(125)]] },
  { what: '126 bytes', send: [frame(text, 'a'.repeat(126))], back: [[text, 'a'.repeat(126)]] },
  { what: '65,535 bytes', send: [frame(binary, Buffer.alloc(65_535, 1))], back: [[binary, Buffer.alloc(65_535, 1)]] },
  { what: '65,536 bytes', send: [frame(binary, Buffer.alloc(65_536, 2))], back: [[binary, Buffer.alloc(65_536, 2)]] },
  { what: 'a megabyte', send: [frame(binary, Buffer.alloc(MIB, 3))], back: [[binary, Buffer.alloc(MIB, 3)]] },
  { what: 'a byte at a time', send: [...frame(text, 'slowly')].map((byte) => Buffer.from([byte])), back: [[text, 'slowly']] },
  { what: 'two in one packet', send: [Buffer.concat([frame(text, 'a'), frame(text, 'b')])], back: [[text, 'a'], [text, 'b']] }, // prettier-ignore
  {
    what: 'fragments',
    send: [frame(text, 'one ', { fin: false }), frame(continuation, 'two ', { fin: false }), frame(continuation, 'three')],
    back: [[text, 'one two three']],
  },
  { what: 'empty fragments', send: [frame(text, '', { fin: false }), frame(continuation, '', { fin: false }), frame(continuation)], back: [[text, '']] }, // prettier-ignore
  {
    what: 'a ping between fragments',
    send: [frame(text, 'a', { fin: false }), frame(ping, 'hi'), frame(continuation, 'b')],
    back: [[pong, 'hi'], [text, 'ab']], // prettier-ignore
  },
  {
    what: 'a character in two fragments',
    send: [frame(text, euro.subarray(0, 1), { fin: false }), frame(continuation, euro.subarray(1))],
    back: [[text, '€']],
  },
  { what: 'a ping of 125 bytes', send: [frame(ping, 'p'.repeat(125))], back: [[pong, 'p'.repeat(125)]] },
  { what: 'a pong that nobody asked for', send: [frame(pong, 'x'), frame(text, 'on')], back: [[text, 'on']] },
  {
    what: 'large fragments',
    send: [frame(binary, big, { fin: false }), frame(continuation, big)],
    back: [[binary, Buffer.concat([big, big])]],
  },
  { what: 'the longest code points', send: [frame(text, '\u{10ffff}\u{fffe}\u0000')], back: [[text, '\u{10ffff}\u{fffe}\u0000']] },
  { what: 'close without a code', send: [frame(close)], code: 1005 },
  { what: 'close 1000', send: [frame(close, closing(1000, 'bye'))], code: 1000 },
  { what: 'close 4999 with the longest reason', send: [frame(close, closing(4999, 'r'.repeat(123)))], code: 4999 },
  { what: 'frames behind a close', send: [frame(close, closing(1000)), frame(text, 'late')], code: 1000 },
  { what: 'no mask', send: [frame(text, 'plain', { masked: false })], code: 1002 },
  { what: 'a reserved bit', send: [frame(text, 'x', { rsv: 4 })], code: 1002 },
  { what: 'reserved opcode 3', send: [frame(3, 'x')], code: 1002 },
  { what: 'reserved opcode 11', send: [frame(11, 'x')], code: 1002 },
  { what: 'a ping of 126 bytes', send: [frame(ping, 'p'.repeat(126))], code: 1002 },
  { what: 'a ping in fragments', send: [frame(ping, 'p', { fin: false })], code: 1002 },
  { what: 'a continuation of nothing', send: [frame(continuation, 'x')], code: 1002 },
  { what: 'a message within a message', send: [frame(text, 'a', { fin: false }), frame(text, 'b')], code: 1002 },
  { what: 'a length of 2^63', send: [frame(binary, '', { announced: 2n ** 63n })], code: 1002, strictOnly: true },
  { what: 'a length of 2^40', send: [frame(binary, '', { announced: 2n ** 40n })], code: 1009 },
  { what: 'a message over the limit', send: [frame(binary, '', { announced: 17 * MIB })], code: 1009 },
  {
    what: 'fragments over the limit',
    send: [frame(binary, big, { fin: false }), frame(continuation, '', { announced: 16 * MIB })],
    code: 1009,
  },
  { what: 'text that is not UTF-8', send: [frame(text, Buffer.from([0xc3, 0x28]))], code: 1007 },
  { what: 'a surrogate in UTF-8', send: [frame(text, Buffer.from([0xed, 0xa0, 0x80]))], code: 1007 },
  { what: 'half a character', send: [frame(text, euro.subarray(0, 2))], code: 1007 },
  { what: 'a close of one byte', send: [frame(close, 'x')], code: 1002 },
  ...[0, 999, 1004, 1005, 1006, 1015, 2999, 5000].map((code) => ({
    what: `close ${code}`,
    send: [frame(close, closing(code))],
    code: 1002,
  })),
  { what: 'a reason that is not UTF-8', send: [frame(close, closing(1000, Buffer.from([0xff])))], code: 1007 },
];

describe.each(TARGETS)('$name', ({ shim: command, entry, form, strict }) => {
  const start = async (slots: number | null = null): Promise<Shim> => {
    const shim = await startShim(command);
    expect((await shim.become(entry, { slots })).form).toBe(form);
    return shim;
  };
  const headersOf = (id: string) => Object.fromEntries(Object.entries(gatewayHeaders(id)).map(([name, value]) => [name, String(value)]));
  const inFlight = (shim: Shim, count: number) =>
    waitFor(`${count} in flight`, async () => (await shim.health()).inFlight === count || undefined);

  it('answers the handshake, with what the function adds to it', async () => {
    const shim = await start();
    const key = newKey();
    const connection = new RawConnection(shim.address);
    connection.send(handshake('/echo', { 'sec-websocket-key': key }));
    const head = await connection.head();
    expect(head).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/);
    expect(head).toMatch(new RegExp(`\r\nsec-websocket-accept: ${acceptOf(key).replaceAll('+', '\\+')}(\r\n|$)`, 'i'));
    expect(head).toMatch(/\r\nx-upgraded: \/echo(\r\n|$)/i);
    expect(head).not.toMatch(/sec-websocket-(protocol|extensions)/i);
    connection.destroy();
  });

  it('may choose a protocol, or refuse', async () => {
    const shim = await start();
    const chosen = new RawConnection(shim.address);
    chosen.send(handshake('/protocol', { 'sec-websocket-protocol': 'chat.1, chat.2' }));
    expect(await chosen.head()).toMatch(/\r\nsec-websocket-protocol: chat\.2(\r\n|$)/i);
    chosen.destroy();
    const refused = new RawConnection(shim.address);
    refused.send(handshake('/refuse'));
    expect(await refused.head()).toMatch(/^HTTP\/1\.1 403 .*\r\nx-why: because/is);
    expect((await refused.end()).toString()).toContain('not you');
    refused.destroy();
    await inFlight(shim, 0);
    expect((await shim.call('GET', '/')).text).toBe('plain');
  });

  it('reads what came with the handshake', async () => {
    const shim = await start();
    const connection = new RawConnection(shim.address);
    connection.send(Buffer.concat([Buffer.from(handshake('/late')), frame(text, 'early')]));
    await connection.head();
    expect((await connection.frame()).payload.toString()).toBe('early');
    connection.destroy();
  });

  it('holds a slot until it is closed, and refuses what is over its slots', async () => {
    const shim = await start(2);
    const first = await openWebSocket(shim.address, '/echo');
    const second = await openWebSocket(shim.address, '/echo');
    expect((await shim.health()).inFlight).toBe(2);
    const third = new RawConnection(shim.address);
    third.send(handshake('/echo'));
    expect(await third.head()).toMatch(/^HTTP\/1\.1 503 .*\r\nfn-refused: full(\r\n|$)/is);
    expect((await shim.call('GET', '/')).headers[HEADERS.refused]).toBe('full');
    first.send(frame(close, closing(1000)));
    expect((await first.closeFrame()).code).toBe(1000);
    await first.end();
    first.destroy();
    await inFlight(shim, 1);
    second.destroy();
    await inFlight(shim, 0);
    expect((await shim.call('GET', '/')).text).toBe('plain');
  });

  it('refuses what is meant for another instance', async () => {
    const shim = await start();
    const connection = new RawConnection(shim.address);
    connection.send(handshake('/echo', { [HEADERS.instance]: `${INSTANCE.slice(0, -1)}z` }));
    expect(await connection.head()).toMatch(/^HTTP\/1\.1 503 .*\r\nfn-refused: not-me(\r\n|$)/is);
  });

  it('a drain refuses new ones and lets those go on that are open; then the process ends', async () => {
    const shim = await start();
    const open = await openWebSocket(shim.address, '/echo');
    shim.signal('SIGTERM');
    await waitFor('draining', async () => (await shim.health()).status === 'draining' || undefined);
    const late = new RawConnection(shim.address);
    late.send(handshake('/echo'));
    expect(await late.head()).toMatch(/fn-refused: draining/i);
    open.send(frame(text, 'still here'));
    expect((await open.frame()).payload.toString()).toBe('still here');
    open.send(frame(close, closing(1001)));
    expect((await open.closeFrame()).code).toBe(1001);
    open.destroy();
    expect(await shim.exited).toEqual({ code: 0, signal: null });
  });

  it('tags the lines of its listeners with the id of the request', async () => {
    const shim = await start();
    const one = await openWebSocket(shim.address, '/log', headersOf('ws-1'));
    const two = await openWebSocket(shim.address, '/log', headersOf('ws-2'));
    two.send(frame(text, 'second'));
    one.send(frame(text, 'first'));
    await Promise.all([one.frame(), two.frame()]);
    one.send(frame(close, closing(4000, 'done')));
    await one.closeFrame();
    one.destroy();
    expect((await lineWith(shim, 'heard first')).req).toBe('ws-1');
    expect((await lineWith(shim, 'heard second')).req).toBe('ws-2');
    expect(await lineWith(shim, 'closed')).toMatchObject({ req: 'ws-1', msg: 'closed 4000 done true' });
    two.destroy();
  });

  it('the function may close it', async () => {
    const shim = await start();
    const connection = await openWebSocket(shim.address, '/close');
    connection.send(frame(text, 'go'));
    expect(await connection.closeFrame()).toMatchObject({ code: 4001, reason: 'enough' });
    connection.send(frame(close, closing(4001)));
    await connection.end();
    connection.destroy();
    await inFlight(shim, 0);
  });

  it('a close frame is answered however much comes behind it', async () => {
    const shim = await start();
    const connection = await openWebSocket(shim.address, '/echo');
    connection.send(frame(close, closing(1000)), ...Array.from({ length: 32 }, () => frame(binary, Buffer.alloc(65_536))));
    expect((await connection.closeFrame()).code).toBe(1000);
    await connection.end();
    connection.destroy();
    await inFlight(shim, 0);
  });

  it('frames, right and wrong', async () => {
    const shim = await start();
    for (const { what, send, back = [], code } of CASES.filter(({ strictOnly }) => strict || !strictOnly)) {
      const connection = await openWebSocket(shim.address, '/echo');
      connection.send(...send);
      for (const [opcode, payload] of back) {
        const received = await connection.frame();
        expect([what, received.opcode, received.fin, received.masked]).toEqual([what, opcode, true, false]);
        expect([what, received.payload.equals(Buffer.from(payload as string))]).toEqual([what, true]);
      }
      if (code === undefined) connection.send(frame(close, closing(1000)));
      expect([what, (await connection.closeFrame()).code]).toEqual([what, code ?? 1000]);
      await connection.end();
      connection.destroy();
    }
    await inFlight(shim, 0);
  });
});

describe('ctx.upgradeWebSocket', () => {
  const start = async (): Promise<Shim> => {
    const shim = await startShim(NODE);
    await shim.become('websocket.mjs');
    return shim;
  };

  it('may answer with a long body in place of an upgrade, or not return the response that it asked for', async () => {
    const shim = await start();
    const long = new RawConnection(shim.address);
    long.send(handshake('/long'));
    expect(await long.head()).toMatch(/^HTTP\/1\.1 418 /);
    expect((await long.end()).length).toBeGreaterThan(100 * 65_536);
    long.destroy();
    const unused = new RawConnection(shim.address);
    unused.send(handshake('/unused'));
    expect(await unused.status()).toBe(418);
    unused.destroy();
    expect(await lineWith(shim, 'never opened')).toMatchObject({ msg: 'never opened 1006' });
    await waitFor('the slot to be free', async () => (await shim.health()).inFlight === 0);
  });

  it('closes with 1009 at the length that the function has set', async () => {
    const shim = await start();
    const connection = await openWebSocket(shim.address, '/small');
    connection.send(frame(text, '0123456789'), frame(text, '01234567890'));
    expect(await connection.closeFrame()).toMatchObject({ code: 1009, before: [{ payload: Buffer.from('0123456789') }] });
    connection.destroy();
  });

  it('an error that a listener throws is told, and ends the process as any uncaught one', async () => {
    const shim = await start();
    const connection = await openWebSocket(shim.address, '/throw', { 'x-request-id': 'ws-throws' });
    connection.send(frame(text, 'go'));
    expect((await shim.exited).code).toBe(1);
    expect(await lineWith(shim, 'the listener failed')).toMatchObject({ level: 'error', req: 'ws-throws' });
    connection.destroy();
  });

  it('works in a Hono app, whose middleware adds its headers', async () => {
    const shim = await startShim(NODE);
    expect((await shim.become('websocket-hono.mjs')).form).toBe('fetch');
    const connection = new RawConnection(shim.address);
    connection.send(handshake('/chat'), frame(text, 'hi'));
    expect(await connection.head()).toMatch(/^HTTP\/1\.1 101 [^]*\r\nx-frame-options: SAMEORIGIN/i);
    expect((await connection.frame()).payload.toString()).toBe('hono hi');
    connection.destroy();
    expect((await shim.call('GET', '/')).text).toBe('plain');
  });
});
