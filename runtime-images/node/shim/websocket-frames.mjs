/** WebSocket frames (RFC 6455, section 5): read with every rule checked, and written. No I/O, no extensions. */
import { isUtf8 } from 'node:buffer';

export const OPCODE = /** @type {const} */ ({ continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 });

/** Longest payload of a control frame, bytes. */
export const MAX_CONTROL_BYTES = 125;
/** Two bytes, a length of 8, a mask of 4. */
const MAX_HEAD_BYTES = 14;
const EMPTY = Buffer.alloc(0);

/** What the peer did that ends the connection, with the code of the close frame that tells it so. */
export class FrameError extends Error {
  /**
   * @param {number} code of the close frame: 1002, 1007 or 1009
   * @param {string} message at most 123 bytes: it goes along as the reason
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Bytes that come in pieces. Grows with what is there, never with what is announced. */
class Gathered {
  #bytes = EMPTY;
  #length = 0;

  get length() {
    return this.#length;
  }

  /** @param {Buffer} piece */
  add(piece) {
    const needed = this.#length + piece.length;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2, 256));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    piece.copy(this.#bytes, this.#length);
    this.#length = needed;
  }

  take() {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#bytes = EMPTY;
    this.#length = 0;
    return taken;
  }
}

/**
 * What a reader tells. `message` gets text as a string and anything else as bytes that are only valid
 * during the call; so are those of `ping`. `close` is the last that is told: code 1005 where none came.
 * @typedef {{
 *   message: (data: string | Buffer) => void,
 *   ping: (payload: Buffer) => void,
 *   close: (code: number, reason: string) => void,
 * }} FrameEvents
 */

/** Reads what a client sends: masked frames, put together to messages. */
export class FrameReader {
  #events;
  #maxMessageBytes;
  #head = Buffer.alloc(MAX_HEAD_BYTES);
  #headBytes = 0;
  #headNeeded = 2;
  /** Bytes of the payload that are yet to come; -1 while a head is read. */
  #left = -1;
  #final = false;
  /** @type {number} */
  #opcode = 0;
  #payload = new Gathered();
  /** Opcode of the message that has begun; 0: none. @type {number} */
  #messageOpcode = 0;
  #message = new Gathered();
  #closed = false;

  /**
   * @param {FrameEvents} events
   * @param {number} maxMessageBytes
   */
  constructor(events, maxMessageBytes) {
    this.#events = events;
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** Nothing more is read: a close frame came, or `stop` was called. */
  get closed() {
    return this.#closed;
  }

  stop() {
    this.#closed = true;
  }

  /**
   * Throws FrameError where the bytes break a rule; nothing may be pushed after that.
   * @param {Buffer} chunk is written to: masks are taken off in place
   */
  push(chunk) {
    let at = 0;
    while (!this.#closed) {
      if (this.#left < 0) {
        at = this.#readHead(chunk, at);
        if (this.#left < 0) return;
      }
      const piece = chunk.subarray(at, at + this.#left);
      at += piece.length;
      this.#left -= piece.length;
      // A frame that lies whole in the chunk is not copied.
      const whole = this.#left === 0 && this.#payload.length === 0;
      if (!whole) this.#payload.add(piece);
      if (this.#left > 0) return;
      this.#left = -1;
      const payload = whole ? piece : this.#payload.take();
      unmask(payload, this.#head, this.#headNeeded - 4);
      this.#headNeeded = 2;
      this.#headBytes = 0;
      this.#frame(payload);
    }
  }

  /**
   * @param {Buffer} chunk
   * @param {number} at
   * @returns {number} where the payload begins, or the end of the chunk
   */
  #readHead(chunk, at) {
    const head = this.#head;
    for (;;) {
      while (this.#headBytes < this.#headNeeded) {
        if (at === chunk.length) return at;
        head[this.#headBytes++] = /** @type {number} */ (chunk[at++]);
      }
      if (this.#headNeeded > 2) break;
      const needed = this.#checkHead(head.readUInt8(0), head.readUInt8(1));
      this.#headNeeded = needed;
    }
    this.#left = this.#payloadLength();
    return at;
  }

  /**
   * The rules that the first two bytes must keep.
   * @param {number} first
   * @param {number} second
   * @returns {number} bytes of the whole head
   */
  #checkHead(first, second) {
    if ((first & 0x70) !== 0) throw new FrameError(1002, 'a reserved bit is set');
    if ((second & 0x80) === 0) throw new FrameError(1002, 'a frame of the client is not masked');
    this.#final = (first & 0x80) !== 0;
    this.#opcode = first & 0x0f;
    const length = second & 0x7f;
    if (this.#opcode >= 8) {
      if (this.#opcode > OPCODE.pong) throw new FrameError(1002, 'an opcode that is reserved');
      if (!this.#final) throw new FrameError(1002, 'a control frame in fragments');
      if (length > MAX_CONTROL_BYTES) throw new FrameError(1002, 'a control frame over 125 bytes');
    } else {
      if (this.#opcode > OPCODE.binary) throw new FrameError(1002, 'an opcode that is reserved');
      if (this.#opcode === OPCODE.continuation && this.#messageOpcode === 0) throw new FrameError(1002, 'a continuation of nothing');
      if (this.#opcode !== OPCODE.continuation && this.#messageOpcode !== 0)
        throw new FrameError(1002, 'a message begins within another one');
    }
    return 6 + (length === 126 ? 2 : length === 127 ? 8 : 0);
  }

  #payloadLength() {
    const short = this.#head.readUInt8(1) & 0x7f;
    if (short < 126) return this.#checkLength(short);
    if (short === 126) return this.#checkLength(this.#head.readUInt16BE(2));
    const high = this.#head.readUInt32BE(2);
    if (high >= 0x8000_0000) throw new FrameError(1002, 'a length over 63 bits');
    return this.#checkLength(high * 2 ** 32 + this.#head.readUInt32BE(6));
  }

  /** @param {number} length of this frame */
  #checkLength(length) {
    if (this.#opcode < 8 && this.#message.length + length > this.#maxMessageBytes)
      throw new FrameError(1009, `a message over ${this.#maxMessageBytes} bytes`);
    return length;
  }

  /** @param {Buffer} payload */
  #frame(payload) {
    switch (this.#opcode) {
      case OPCODE.ping:
        return this.#events.ping(payload);
      case OPCODE.pong:
        return undefined;
      case OPCODE.close:
        return this.#close(payload);
      default:
    }
    if (this.#opcode !== OPCODE.continuation) this.#messageOpcode = this.#opcode;
    const alone = this.#final && this.#message.length === 0;
    if (!alone) this.#message.add(payload);
    if (!this.#final) return undefined;
    const bytes = alone ? payload : this.#message.take();
    const text = this.#messageOpcode === OPCODE.text;
    this.#messageOpcode = 0;
    if (!text) return this.#events.message(bytes);
    if (!isUtf8(bytes)) throw new FrameError(1007, 'a text message that is not UTF-8');
    return this.#events.message(bytes.toString('utf8'));
  }

  /** @param {Buffer} payload */
  #close(payload) {
    if (payload.length === 1) throw new FrameError(1002, 'a close frame of one byte');
    const code = payload.length === 0 ? 1005 : payload.readUInt16BE(0);
    if (payload.length > 0 && !isCloseCode(code)) throw new FrameError(1002, 'a close code that may not be sent');
    const reason = payload.subarray(2);
    if (!isUtf8(reason)) throw new FrameError(1007, 'a reason that is not UTF-8');
    this.#closed = true;
    this.#events.close(code, reason.toString('utf8'));
  }
}

/**
 * May it stand in a close frame? 1005, 1006 and 1015 are what an API says where there was none.
 * @param {number} code
 */
export function isCloseCode(code) {
  return (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) || (code >= 3000 && code <= 4999);
}

/**
 * @param {Buffer} payload changed in place
 * @param {Buffer} head
 * @param {number} at where in it the mask is
 */
function unmask(payload, head, at) {
  const mask = [head.readUInt8(at), head.readUInt8(at + 1), head.readUInt8(at + 2), head.readUInt8(at + 3)];
  for (let i = 0; i < payload.length; i++) payload[i] = /** @type {number} */ (payload[i]) ^ /** @type {number} */ (mask[i & 3]);
}

/**
 * The head of a frame that a server sends: whole, without a mask.
 * @param {number} opcode
 * @param {number} length of the payload, bytes
 */
export function frameHead(opcode, length) {
  if (length < 126) return Buffer.from([0x80 | opcode, length]);
  if (length < 65_536) {
    const head = Buffer.from([0x80 | opcode, 126, 0, 0]);
    head.writeUInt16BE(length, 2);
    return head;
  }
  const head = Buffer.alloc(10);
  head[0] = 0x80 | opcode;
  head[1] = 127;
  head.writeUInt32BE(Math.floor(length / 2 ** 32), 2);
  head.writeUInt32BE(length >>> 0, 6);
  return head;
}

/**
 * The payload of a close frame.
 * @param {number} code 1005: none
 * @param {string} reason at most 123 bytes of UTF-8
 */
export function closePayload(code, reason) {
  if (code === 1005) return EMPTY;
  const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
  payload.writeUInt16BE(code, 0);
  payload.write(reason, 2, 'utf8');
  return payload;
}
