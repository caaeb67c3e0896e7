/**
 * Requests that ask for a WebSocket (RFC 6455, section 4.2). They go the way of any other request (route,
 * access, limits, slot, retries) on the response object that is put on their connection here; only where
 * the function answers 101 does the connection become a tunnel.
 *
 * Another protocol than WebSocket, and an upgrade by another method than GET or behind a request that is
 * not answered yet, is not refused: the Upgrade header is ignored, as RFC 9110 (7.8) has it, and the
 * request passed on without it. So `curl --http2` gets its answer by HTTP/1.1.
 */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { Outgoing } from './context.ts';
import { type HeadRefusal, readResponseHead, refusal, type ResponseHead } from './headers.ts';

/** What a client may send ahead of the answer, bytes; more is left in its socket. */
export const MAX_EARLY_BYTES = 64 * 1_024;
/** Until a connection that was answered without an upgrade is cut, where the client keeps it, ms. */
const LINGER_MS = 1_000;
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** 16 bytes in base64. */
const KEY_PATTERN = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/** Is it to be treated as an upgrade? What is wrong with it is told later, by `fault`. */
export function asksForWebSocket({ method, httpVersion, headers }: IncomingMessage): boolean {
  if (method !== 'GET' || httpVersion !== '1.1') return false;
  return (headers.upgrade ?? '').split(',').some((token) => token.trim().toLowerCase() === 'websocket');
}

/** All values of a header, as they came. */
function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  return rawHeaders.filter((_, i) => i % 2 === 1 && rawHeaders[i - 1]!.toLowerCase() === name);
}

/** The value of a header that is there once. */
function soleValue(flat: readonly string[], name: string): string | undefined {
  const [value, ...more] = valuesOf(flat, name);
  return more.length === 0 ? value : undefined;
}

/** What is wrong with the handshake, or null. */
function handshakeFault({ rawHeaders, headers }: IncomingMessage): HeadRefusal | null {
  const [upgrade, ...more] = valuesOf(rawHeaders, 'upgrade');
  if (more.length > 0 || upgrade!.trim().toLowerCase() !== 'websocket')
    return refusal('bad-request', 'the Upgrade header must be websocket and nothing else', true);
  const versions = valuesOf(rawHeaders, 'sec-websocket-version');
  if (versions.length !== 1 || versions[0]!.trim() !== '13') return refusal('upgrade-required', 'Sec-WebSocket-Version must be 13', true);
  const keys = valuesOf(rawHeaders, 'sec-websocket-key');
  if (keys.length !== 1 || !KEY_PATTERN.test(keys[0]!.trim()))
    return refusal('bad-request', 'there must be one Sec-WebSocket-Key: 16 bytes in base64', true);
  if (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0)
    return refusal('bad-request', 'a request for a WebSocket has no body', true);
  return null;
}

/** A connection that may become a WebSocket, until it is answered. */
export class Upgrade {
  readonly #incoming: IncomingMessage;
  readonly #socket: Duplex;
  readonly #outgoing: Outgoing;
  #early: Buffer[] = [];
  #earlyBytes = 0;
  #taken = false;
  #linger: NodeJS.Timeout | null = null;

  constructor(incoming: IncomingMessage, socket: Duplex, head: Buffer) {
    this.#incoming = incoming;
    this.#socket = socket;
    this.#outgoing = new Outgoing(incoming);
    this.#outgoing.shouldKeepAlive = false;
    this.#outgoing.upgrade = this;
    // Node's server has let go of the connection: what it would do for a response is done here.
    this.#outgoing.assignSocket(incoming.socket);
    this.#outgoing.once('finish', this.#onFinish);
    socket.on('error', ignore);
    socket.on('drain', this.#onDrain);
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.once('close', () => this.#linger !== null && clearTimeout(this.#linger));
    if (head.length > 0) this.#onData(head);
  }

  /** On which it is answered. */
  get outgoing(): Outgoing {
    return this.#outgoing;
  }

  readonly #onDrain = (): void => void this.#outgoing.emit('drain');

  readonly #onData = (chunk: Buffer): void => {
    if (this.#outgoing.headersSent) return;
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length;
    if (this.#earlyBytes >= MAX_EARLY_BYTES) this.#socket.pause();
  };

  /** A client that ends before it is answered has no use for a WebSocket. */
  readonly #onEnd = (): void => {
    if (this.#outgoing.headersSent) this.#socket.end();
    else this.#socket.destroy();
  };

  /** Answered without an upgrade. Nobody parses the connection any more, so it ends here. */
  readonly #onFinish = (): void => {
    if (this.#taken) return;
    this.#early = [];
    this.#socket.resume();
    this.#socket.end();
    this.#linger = setTimeout(() => this.#socket.destroy(), LINGER_MS);
    this.#linger.unref();
  };

  /** What is wrong with the handshake, or null. */
  fault(): HeadRefusal | null {
    const fault = handshakeFault(this.#incoming);
    if (fault?.code === 'upgrade-required') {
      this.#outgoing.setHeader('upgrade', 'websocket');
      this.#outgoing.setHeader('sec-websocket-version', '13');
    }
    return fault;
  }

  /** What the function's answer of 101 says, on a host that is `shared` or not. A string says what makes it invalid. */
  readAnswer(headers: string[], shared: boolean): ResponseHead | string {
    const head = readResponseHead(headers, shared);
    if (typeof head === 'string') return head;
    if (String(soleValue(headers, 'upgrade')).toLowerCase() !== 'websocket') return 'an answer of 101 that does not upgrade to websocket';
    const key = String(this.#incoming.headers['sec-websocket-key']).trim();
    const expected = createHash('sha1').update(key + GUID).digest('base64'); // prettier-ignore
    if (soleValue(headers, 'sec-websocket-accept') !== expected) return 'a Sec-WebSocket-Accept that does not answer the key';
    return head;
  }

  /** Answers 101. The connection is the caller's from now on, with what the client sent ahead. */
  accept({ flat }: ResponseHead): { client: Duplex; early: readonly Buffer[] } {
    const socket = this.#socket;
    this.#taken = true;
    this.#outgoing.detachSocket(this.#incoming.socket);
    socket.off('error', ignore);
    socket.off('drain', this.#onDrain);
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    let head = 'HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n';
    for (let i = 0; i < flat.length; i += 2) head += `${flat[i]}: ${flat[i + 1]}\r\n`;
    socket.write(`${head}\r\n`, 'latin1');
    const early = this.#early;
    this.#early = [];
    return { client: socket, early };
  }
}

function ignore(): void {}
