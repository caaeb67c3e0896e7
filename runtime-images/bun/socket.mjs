/** Bun's ServerWebSocket, and topics that the sockets of one instance share. */
import { errorText } from '../node/shim/errors.mjs';
import { log } from '../node/shim/logs.mjs';

/** @typedef {import('../node/shim/websocket.mjs').ServerWebSocket} WebSocketOfShim */
/** @typedef {string | Uint8Array | ArrayBuffer} Data */

/** Who hears what; within this instance only. */
export class Topics {
  /** @type {Set<ServerSocket>} */
  sockets = new Set();
  /** @type {Map<string, Set<ServerSocket>>} */
  #topics = new Map();

  /** @param {string} topic @param {ServerSocket} ws */
  add(topic, ws) {
    const there = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, there.add(ws));
  }

  /** @param {string} topic @param {ServerSocket} ws */
  remove(topic, ws) {
    const there = this.#topics.get(topic);
    there?.delete(ws);
    if (there?.size === 0) this.#topics.delete(topic);
  }

  /** @param {string} topic */
  count(topic) {
    return this.#topics.get(topic)?.size ?? 0;
  }

  /** Bytes sent to each; 0 where nobody listens. @param {string} topic @param {Data} data @param {ServerSocket | null} except */
  publish(topic, data, except) {
    let sent = 0;
    for (const ws of this.#topics.get(topic) ?? []) if (ws !== except) sent = Math.max(sent, Math.abs(ws.send(data)));
    return sent;
  }
}

/**
 * Bun's face on a socket of the shim.
 * @param {WebSocketOfShim} socket
 * @param {Record<string, any>} handlers
 * @param {Topics} topics
 * @param {unknown} data
 * @param {string} remoteAddress
 */
export function attachSocket(socket, handlers, topics, data, remoteAddress) {
  new ServerSocket(socket, handlers, topics, data, remoteAddress).listen();
}

class ServerSocket {
  #handlers;
  #topics;
  #socket;
  /** @type {Set<string>} */
  #subscribed = new Set();
  /** @type {'nodebuffer' | 'arraybuffer' | 'uint8array'} */
  binaryType = 'nodebuffer';

  /**
   * @param {WebSocketOfShim} socket
   * @param {Record<string, any>} handlers the `websocket` of Bun.serve
   * @param {Topics} topics
   * @param {unknown} data
   * @param {string} remoteAddress
   */
  constructor(socket, handlers, topics, data, remoteAddress) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.#topics = topics;
    this.data = data;
    this.remoteAddress = remoteAddress;
  }

  /** The events of the shim's socket become calls of the handlers. */
  listen() {
    const socket = this.#socket;
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('open', () => {
      this.#topics.sockets.add(this);
      this.#call('open');
    });
    socket.addEventListener('message', (event) => {
      const { data } = /** @type {MessageEvent} */ (event);
      this.#call('message', typeof data === 'string' ? data : this.#binary(Buffer.from(data)));
    });
    socket.addEventListener('close', (event) => {
      const { code, reason } = /** @type {CloseEvent} */ (event);
      for (const topic of this.#subscribed) this.#topics.remove(topic, this);
      // One that never opened was never told of.
      if (this.#topics.sockets.delete(this)) this.#call('close', code, reason);
    });
  }

  /** A handler that throws is told in the log; the socket goes on, as with Bun. @param {string} name @param {unknown[]} args */
  #call(name, ...args) {
    const handler = this.#handlers[name];
    if (typeof handler !== 'function') return;
    const failed = (/** @type {unknown} */ error) => log('error', 'err', errorText(error));
    try {
      const returned = handler.call(this.#handlers, this, ...args);
      if (typeof returned?.then === 'function') returned.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  /** @param {Buffer} data */
  #binary(data) {
    if (this.binaryType === 'arraybuffer') return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
    return this.binaryType === 'uint8array' ? new Uint8Array(data) : data;
  }

  get readyState() {
    return this.#socket.readyState;
  }

  get subscriptions() {
    return [...this.#subscribed];
  }

  /** Bytes sent; -1 where they wait for the client; 0 where it is gone. @param {Data} data */
  send(data) {
    if (this.readyState !== 1) return 0;
    this.#socket.send(data);
    if (this.#socket.bufferedAmount > 0) return -1;
    return Math.max(typeof data === 'string' ? Buffer.byteLength(data) : data.byteLength, 1);
  }

  sendText(/** @type {string} */ data) {
    return this.send(data);
  }

  sendBinary(/** @type {Uint8Array | ArrayBuffer} */ data) {
    return this.send(data);
  }

  close(code = 1000, reason = '') {
    this.#socket.close(code, reason);
  }

  /** The shim has no other way to end a connection than in order. */
  terminate() {
    this.#socket.close();
  }

  getBufferedAmount() {
    return this.#socket.bufferedAmount;
  }

  /** @param {string} topic */
  subscribe(topic) {
    this.#subscribed.add(topic);
    this.#topics.add(topic, this);
    return true;
  }

  /** @param {string} topic */
  unsubscribe(topic) {
    this.#topics.remove(topic, this);
    return this.#subscribed.delete(topic);
  }

  /** @param {string} topic */
  isSubscribed(topic) {
    return this.#subscribed.has(topic);
  }

  /** To all others. @param {string} topic @param {Data} data */
  publish(topic, data) {
    return this.#topics.publish(topic, data, this.#handlers.publishToSelf === true ? null : this);
  }

  /** @param {string} topic @param {string} data */
  publishText(topic, data) {
    return this.publish(topic, data);
  }

  /** @param {string} topic @param {Uint8Array} data */
  publishBinary(topic, data) {
    return this.publish(topic, data);
  }

  /** @template T @param {(ws: ServerSocket) => T} run */
  cork(run) {
    return run(this);
  }
}
