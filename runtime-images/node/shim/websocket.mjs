/**
 * The server's end of a WebSocket as `ctx.upgradeWebSocket` gives it: the interface of the standard's
 * WebSocket over a socket that was upgraded. What the standard leaves open to a server is as Deno has it.
 */
import { WEBSOCKET_CLOSE_TIMEOUT_MS, WEBSOCKET_LINGER_MS, WEBSOCKET_MAX_PONGS_BYTES } from './limits.mjs';
import { closePayload, FrameError, frameHead, FrameReader, isCloseCode, MAX_CONTROL_BYTES, OPCODE } from './websocket-frames.mjs';

/** @typedef {import('node:stream').Duplex} Duplex */

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;
const MAX_REASON_BYTES = MAX_CONTROL_BYTES - 2;

export class ServerWebSocket extends EventTarget {
  static CONNECTING = CONNECTING;
  static OPEN = OPEN;
  static CLOSING = CLOSING;
  static CLOSED = CLOSED;

  CONNECTING = CONNECTING;
  OPEN = OPEN;
  CLOSING = CLOSING;
  CLOSED = CLOSED;
  /** Extensions are not negotiated. */
  extensions = '';

  #state = CONNECTING;
  #url;
  #protocol;
  #reader;
  /** @type {'blob' | 'arraybuffer'} */
  #binaryType = 'blob';
  /** @type {Duplex | null} */
  #socket = null;
  /** What will be said in the event `close`: of the peer's close frame, or 1006. */
  #closed = { code: 1006, reason: '', wasClean: false };
  #sentClose = false;
  /** The close frame that goes behind what waits. @type {{ code: number, reason: string } | null} */
  #closeAfterWaiting = null;
  /** Messages that wait for the bytes of a Blob before them. @type {{ parts: (string | Buffer | Blob)[], bytes: number }} */
  #waiting = { parts: [], bytes: 0 };
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  /** @type {Map<string, { handler: Function, listener: (event: Event) => void }>} */
  #handlers = new Map();

  /**
   * @param {string} url
   * @param {string} protocol
   * @param {number} maxMessageBytes
   */
  constructor(url, protocol, maxMessageBytes) {
    super();
    this.#url = url;
    this.#protocol = protocol;
    this.#reader = new FrameReader(
      {
        message: (data) => this.#message(data),
        ping: (payload) => this.#ping(payload),
        close: (code, reason) => this.#peerCloses(code, reason),
      },
      maxMessageBytes,
    );
  }

  get url() {
    return this.#url;
  }

  get protocol() {
    return this.#protocol;
  }

  get readyState() {
    return this.#state;
  }

  /** Bytes that were given to `send` and have not left: a sender that minds slow readers waits while this is high. */
  get bufferedAmount() {
    return this.#waiting.bytes + (this.#socket?.writableLength ?? 0);
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(type) {
    if (type === 'blob' || type === 'arraybuffer') this.#binaryType = type;
  }

  /**
   * As of the standard: throws before it is open, and does nothing once it closes.
   * @param {string | ArrayBufferLike | ArrayBufferView | Blob} data
   */
  send(data) {
    if (this.#state === CONNECTING) throw new DOMException('The WebSocket is not open yet', 'InvalidStateError');
    const part = data instanceof Blob ? data : (bytesOf(data) ?? String(data));
    if (this.#state !== OPEN) return;
    if (this.#waiting.parts.length === 0 && !(part instanceof Blob)) return this.#write(part);
    // Not in place of what was sent before it: in turn. A copy, since its owner may go on to use it.
    this.#waiting.parts.push(Buffer.isBuffer(part) ? Buffer.from(part) : part);
    this.#waiting.bytes += sizeOf(part);
    if (this.#waiting.parts.length === 1) void this.#sendWaiting();
    return;
  }

  /**
   * @param {number} [code] one that may stand in a close frame
   * @param {string} [reason] at most 123 bytes
   */
  close(code, reason = '') {
    if (code !== undefined && !(Number.isInteger(code) && isCloseCode(code)))
      throw new DOMException(`A close code is 1000 to 1014, as far as it may be sent, or 3000 to 4999; not ${code}`, 'InvalidAccessError');
    if (Buffer.byteLength(reason) > MAX_REASON_BYTES)
      throw new DOMException(`The reason is over ${MAX_REASON_BYTES} bytes of UTF-8`, 'SyntaxError');
    if (this.#state === CONNECTING) return this.abandon('it was closed before it was open');
    if (this.#state !== OPEN) return;
    this.#state = CLOSING;
    if (this.#waiting.parts.length > 0) this.#closeAfterWaiting = { code: code ?? 1005, reason };
    else this.#sayClose(code ?? 1005, reason);
  }

  /**
   * The answer 101 has been written: frames from now on.
   * @param {Duplex} socket
   * @param {Buffer} head what came with the request already
   */
  attach(socket, head) {
    if (this.#state === CLOSED) return void socket.destroy();
    this.#socket = socket;
    this.#state = OPEN;
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('end', () => this.#ended());
    socket.on('close', () => this.#gone());
    this.dispatchEvent(new Event('open'));
    if (head.length > 0) this.#receive(Buffer.from(head));
  }

  /**
   * It never opens: its response was not returned, or the client has gone.
   * @param {string} why
   */
  abandon(why) {
    if (this.#state !== CONNECTING) return;
    this.#state = CLOSED;
    queueMicrotask(() => {
      this.#error(why);
      this.dispatchEvent(new CloseEvent('close', this.#closed));
    });
  }

  /** @param {Buffer} chunk */
  #receive(chunk) {
    try {
      this.#reader.push(chunk);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#reader.stop();
      this.#fail(error.code, error.message);
    }
  }

  /** @param {string | Buffer} data */
  #message(data) {
    // What comes after our close frame is of no interest any more.
    if (this.#state !== OPEN) return;
    const value = typeof data === 'string' ? data : this.#binary(data);
    this.dispatchEvent(new MessageEvent('message', { data: value }));
  }

  /** A copy: the bytes are only lent. @param {Buffer} data */
  #binary(data) {
    const copy = new Uint8Array(data);
    return this.#binaryType === 'blob' ? new Blob([copy]) : copy.buffer;
  }

  /** @param {Buffer} payload */
  #ping(payload) {
    const socket = this.#socket;
    // Of many pings only the last needs an answer (RFC 6455, 5.5.2): one that reads nothing gets no more of them.
    if (socket === null || this.#sentClose || socket.writableLength > WEBSOCKET_MAX_PONGS_BYTES) return;
    socket.write(Buffer.concat([frameHead(OPCODE.pong, payload.length), payload]));
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #peerCloses(code, reason) {
    this.#closed = { code, reason, wasClean: true };
    if (this.#state === OPEN) this.#state = CLOSING;
    this.#dropWaiting();
    this.#sayClose(code, '');
    this.#linger();
  }

  /**
   * The peer broke a rule.
   * @param {number} code
   * @param {string} message
   */
  #fail(code, message) {
    this.#state = CLOSING;
    this.#closed = { code, reason: message, wasClean: false };
    this.#dropWaiting();
    this.#sayClose(code, message);
    this.#linger();
    this.#error(`The WebSocket failed: ${message}`);
  }

  /** The end of input. Without a close frame before it the connection is broken. */
  #ended() {
    this.#state = CLOSING;
    this.#socket?.end();
    this.#linger();
  }

  #gone() {
    clearTimeout(this.#timer);
    this.#state = CLOSED;
    this.#reader.stop();
    this.#dropWaiting();
    this.dispatchEvent(new CloseEvent('close', this.#closed));
  }

  /** The server closes the connection first (RFC 6455, 7.1.1); a peer that keeps its end is cut. */
  #linger() {
    const socket = this.#socket;
    if (socket === null) return;
    socket.end();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => socket.destroy(), WEBSOCKET_LINGER_MS).unref();
    // What still comes is read away, so that its end is seen.
    socket.resume();
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #sayClose(code, reason) {
    const socket = this.#socket;
    if (socket === null || this.#sentClose) return;
    this.#sentClose = true;
    const payload = closePayload(code, reason);
    socket.write(Buffer.concat([frameHead(OPCODE.close, payload.length), payload]));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => socket.destroy(), WEBSOCKET_CLOSE_TIMEOUT_MS).unref();
  }

  async #sendWaiting() {
    const { parts } = this.#waiting;
    while (parts.length > 0) {
      const part = /** @type {string | Buffer | Blob} */ (parts[0]);
      const data = part instanceof Blob ? await part.bytes().then((bytes) => Buffer.from(bytes), () => null) : part; // prettier-ignore
      if (parts[0] !== part) return;
      parts.shift();
      this.#waiting.bytes -= sizeOf(part);
      if (data === null) this.#error('a Blob could not be read');
      else this.#write(data);
    }
    if (this.#closeAfterWaiting !== null) this.#sayClose(this.#closeAfterWaiting.code, this.#closeAfterWaiting.reason);
  }

  #dropWaiting() {
    this.#waiting.parts.length = 0;
    this.#waiting.bytes = 0;
  }

  /** @param {string | Buffer} data */
  #write(data) {
    const socket = this.#socket;
    if (socket === null || this.#sentClose || !socket.writable) return;
    const text = typeof data === 'string';
    // A copy: the sender may go on to use its buffer, and head and payload go out as one.
    const payload = Buffer.from(/** @type {string} */ (data));
    const head = frameHead(text ? OPCODE.text : OPCODE.binary, payload.length);
    socket.cork();
    socket.write(head);
    socket.write(payload);
    socket.uncork();
  }

  /** @param {string} message */
  #error(message) {
    const event = new Event('error');
    Object.defineProperty(event, 'message', { value: message, enumerable: true });
    this.dispatchEvent(event);
  }

  get onopen() {
    return this.#handlerOf('open');
  }

  set onopen(handler) {
    this.#handle('open', handler);
  }

  get onmessage() {
    return this.#handlerOf('message');
  }

  set onmessage(handler) {
    this.#handle('message', handler);
  }

  get onclose() {
    return this.#handlerOf('close');
  }

  set onclose(handler) {
    this.#handle('close', handler);
  }

  get onerror() {
    return this.#handlerOf('error');
  }

  set onerror(handler) {
    this.#handle('error', handler);
  }

  /** @param {string} type @returns {Function | null} */
  #handlerOf(type) {
    return this.#handlers.get(type)?.handler ?? null;
  }

  /**
   * @param {string} type
   * @param {unknown} handler
   */
  #handle(type, handler) {
    const before = this.#handlers.get(type);
    if (before) this.removeEventListener(type, before.listener);
    this.#handlers.delete(type);
    if (typeof handler !== 'function') return;
    const listener = (/** @type {Event} */ event) => handler.call(this, event);
    this.#handlers.set(type, { handler, listener });
    this.addEventListener(type, listener);
  }
}

/** Not copied. @param {unknown} data @returns {Buffer | null} null: it is text, or becomes it */
function bytesOf(data) {
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return data instanceof ArrayBuffer || data instanceof SharedArrayBuffer ? Buffer.from(data) : null;
}

/** @param {string | Buffer | Blob} part */
function sizeOf(part) {
  return typeof part === 'string' ? Buffer.byteLength(part) : part instanceof Blob ? part.size : part.length;
}
