/**
 * A WebSocket client that does what it is told: frames are made by hand, whether or not the RFC allows
 * them, and what comes back is read frame by frame, with the end of the connection as it was.
 */
import { createHash, randomBytes } from 'node:crypto';
import { connect, type NetConnectOpts, type Socket } from 'node:net';

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

export interface FrameOptions {
  fin?: boolean;
  /** Reserved bits, 0 to 7. */
  rsv?: number;
  masked?: boolean;
  /** The length that is announced, where it is not the payload's own. */
  announced?: number | bigint;
}

/** A client's frame. */
export function frame(
  opcode: number,
  payload: string | Buffer = '',
  { fin = true, rsv = 0, masked = true, announced }: FrameOptions = {},
): Buffer {
  const data = Buffer.from(payload as string);
  const length = announced ?? data.length;
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const bit = masked ? 0x80 : 0;
  let head: Buffer;
  if (length < 126) head = Buffer.from([first, bit | Number(length)]);
  else if (length < 65_536) {
    head = Buffer.from([first, bit | 126, 0, 0]);
    head.writeUInt16BE(Number(length), 2);
  } else {
    head = Buffer.alloc(10);
    head[0] = first;
    head[1] = bit | 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  if (!masked) return Buffer.concat([head, data]);
  const mask = randomBytes(4);
  return Buffer.concat([head, mask, data.map((byte, i) => byte ^ mask[i & 3]!)]);
}

/** The payload of a close frame. */
export function closing(code: number, reason: string | Buffer = ''): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return Buffer.concat([head, Buffer.from(reason as string)]);
}

export interface ReceivedFrame {
  opcode: number;
  fin: boolean;
  masked: boolean;
  payload: Buffer;
}

export const newKey = (): string => randomBytes(16).toString('base64');
export const acceptOf = (key: string): string => createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');

/** The head of a correct handshake; headers replace those of the same name, null removes one. */
export function handshake(path: string, headers: Record<string, string | null> = {}, line = `GET ${path} HTTP/1.1`): string {
  const all: Record<string, string | null> = {
    host: 'fn.example',
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': newKey(),
    ...headers,
  };
  const lines = Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [`${name}: ${value}`]));
  return `${[line, ...lines].join('\r\n')}\r\n\r\n`;
}

export class RawConnection {
  readonly socket: Socket;
  #bytes = Buffer.alloc(0);
  #head: string | null = null;
  #ended = false;
  #closed = false;
  #error: Error | null = null;
  #wake: () => void = () => {};

  constructor(options: NetConnectOpts) {
    this.socket = connect({ ...options, allowHalfOpen: true });
    this.socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    this.socket.on('end', () => {
      this.#ended = true;
      this.#wake();
    });
    this.socket.on('error', (error) => (this.#error = error));
    this.socket.on('close', () => {
      this.#ended = true;
      this.#closed = true;
      this.#wake();
    });
  }

  /** The server has closed its end. */
  get ended(): boolean {
    return this.#ended;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Was it reset? */
  get reset(): boolean {
    return this.#error !== null;
  }

  send(...pieces: (string | Buffer)[]): void {
    for (const piece of pieces) this.socket.write(piece);
  }

  async #until<T>(what: string, look: () => T | undefined, timeoutMs: number): Promise<T> {
    const timeout = setTimeout(() => this.#wake(), timeoutMs);
    const end = performance.now() + timeoutMs;
    try {
      for (;;) {
        const found = look();
        if (found !== undefined) return found;
        if (performance.now() >= end - 1)
          throw new Error(`${what} did not come; there is ${JSON.stringify(this.#bytes.toString('latin1').slice(0, 500))}`);
        if (this.#ended)
          throw new Error(`${what} did not come before the end; there is ${JSON.stringify(this.#bytes.toString('latin1').slice(0, 500))}`);
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      clearTimeout(timeout);
    }
  }

  /** Status line and headers of the answer. */
  head(timeoutMs = 30_000): Promise<string> {
    return this.#until(
      'a response',
      () => {
        if (this.#head !== null) return this.#head;
        const end = this.#bytes.indexOf('\r\n\r\n');
        if (end < 0) return undefined;
        this.#head = this.#bytes.toString('latin1', 0, end);
        this.#bytes = this.#bytes.subarray(end + 4);
        return this.#head;
      },
      timeoutMs,
    );
  }

  async status(timeoutMs?: number): Promise<number> {
    return Number(/^HTTP\/1\.1 (\d{3})/.exec(await this.head(timeoutMs))?.[1]);
  }

  /** Leaves out what came: the body of an answer before. */
  skip(bytes: number): void {
    this.#bytes = this.#bytes.subarray(bytes);
    this.#head = null;
  }

  /** The next frame. Rejects when none comes. */
  frame(timeoutMs = 30_000): Promise<ReceivedFrame> {
    return this.#until('a frame', () => this.#take(), timeoutMs);
  }

  #take(): ReceivedFrame | undefined {
    const bytes = this.#bytes;
    if (bytes.length < 2) return undefined;
    const short = bytes[1]! & 0x7f;
    const masked = (bytes[1]! & 0x80) !== 0;
    let at = short === 126 ? 4 : short === 127 ? 10 : 2;
    if (bytes.length < at) return undefined;
    const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
    const mask = masked ? bytes.subarray(at, at + 4) : null;
    if (masked) at += 4;
    if (bytes.length < at + length) return undefined;
    const payload = Buffer.from(bytes.subarray(at, at + length));
    if (mask) for (let i = 0; i < payload.length; i++) payload[i] = payload[i]! ^ mask[i & 3]!;
    this.#bytes = bytes.subarray(at + length);
    return { opcode: bytes[0]! & 0x0f, fin: (bytes[0]! & 0x80) !== 0, masked, payload };
  }

  /** Reads frames up to the close frame and gives its code and reason; 1006 where the connection ends without one. */
  async closeFrame(timeoutMs = 30_000): Promise<{ code: number; reason: string; before: ReceivedFrame[] }> {
    const before: ReceivedFrame[] = [];
    for (;;) {
      let next;
      try {
        next = await this.frame(timeoutMs);
      } catch (error) {
        if (this.#ended) return { code: 1006, reason: '', before };
        throw error;
      }
      if (next.opcode !== OPCODE.close) before.push(next);
      else if (next.payload.length < 2) return { code: 1005, reason: '', before };
      else return { code: next.payload.readUInt16BE(0), reason: next.payload.toString('utf8', 2), before };
    }
  }

  /** Waits until the server has closed its end; gives what came before it unread. */
  async end(timeoutMs = 30_000): Promise<Buffer> {
    await this.#until('the end', () => (this.#ended ? true : undefined), timeoutMs);
    return this.#bytes;
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** Connects, upgrades, and gives the connection once the answer is 101. */
export async function openWebSocket(
  options: NetConnectOpts,
  path: string,
  headers: Record<string, string | null> = {},
): Promise<RawConnection> {
  const connection = new RawConnection(options);
  connection.send(handshake(path, headers));
  const head = await connection.head();
  if (!head.startsWith('HTTP/1.1 101 ')) {
    connection.destroy();
    throw new Error(`not upgraded: ${head}`);
  }
  return connection;
}
