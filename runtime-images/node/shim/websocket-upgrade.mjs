/** Requests that ask for a WebSocket: the handshake (RFC 6455, section 4), for servers and for web-style handlers. */
import { MAX_WEBSOCKET_MESSAGE_BYTES, WEBSOCKET_MESSAGE_BYTES } from './limits.mjs';
import { storage } from './invocation.mjs';
import { requestUrl } from './web-request.mjs';
import { LightResponse } from './web-response.mjs';
import { ServerWebSocket } from './websocket.mjs';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */
/** @typedef {import('node:net').Socket} Socket */
/** @typedef {import('./invocation.mjs').Invocation} Invocation */
/** @typedef {{ protocol?: string, maxMessageBytes?: number }} UpgradeOptions */

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** 16 bytes in base64. */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/** @type {WeakMap<ServerResponse, Upgrade>} Those that a handler may still accept. */
const pending = new WeakMap();

/** @param {string} key */
function acceptOf(key) {
  // Loaded with the first WebSocket: at boot it would cost everybody.
  const { createHash } = process.getBuiltinModule('node:crypto');
  return createHash('sha1').update(`${key}${GUID}`).digest('base64');
}

/**
 * What is wrong with the handshake, or null.
 * @param {IncomingMessage} req
 */
function fault(req) {
  const { headers } = req;
  if (req.method !== 'GET' || headers.upgrade?.toLowerCase() !== 'websocket') return 'the request does not ask for a WebSocket';
  if (headers['sec-websocket-version'] !== '13') return 'the request asks for another version of WebSocket than 13';
  if (!KEY.test(headers['sec-websocket-key'] ?? '')) return 'the request has no valid Sec-WebSocket-Key';
  return null;
}

/** A connection that asks to become a WebSocket, while its request is being handled. */
class Upgrade {
  #req;
  #socket;
  #head;
  /** @type {ServerWebSocket | null} */
  #webSocket = null;

  /**
   * @param {IncomingMessage} req
   * @param {Socket} socket
   * @param {Buffer} head
   */
  constructor(req, socket, head) {
    this.#req = req;
    this.#socket = socket;
    this.#head = head;
  }

  /**
   * `ctx.upgradeWebSocket`.
   * @param {UpgradeOptions} [options]
   */
  take({ protocol, maxMessageBytes = WEBSOCKET_MESSAGE_BYTES } = {}) {
    const wrong = fault(this.#req);
    if (wrong !== null) throw new TypeError(`ctx.upgradeWebSocket: ${wrong}`);
    if (this.#webSocket !== null) throw new TypeError('ctx.upgradeWebSocket: it was called for this request before');
    const offered = (this.#req.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    if (protocol !== undefined && !offered.includes(protocol))
      throw new TypeError(`ctx.upgradeWebSocket: the client does not offer the protocol ${JSON.stringify(protocol)}`);
    if (!(Number.isInteger(maxMessageBytes) && maxMessageBytes > 0 && maxMessageBytes <= MAX_WEBSOCKET_MESSAGE_BYTES))
      throw new RangeError(`ctx.upgradeWebSocket: maxMessageBytes is a whole number from 1 to ${MAX_WEBSOCKET_MESSAGE_BYTES}`);
    const socket = new ServerWebSocket(requestUrl(this.#req).replace(/^http/, 'ws'), protocol ?? '', maxMessageBytes);
    this.#webSocket = socket;
    const headers = ['sec-websocket-accept', acceptOf(String(this.#req.headers['sec-websocket-key']))];
    if (protocol !== undefined) headers.push('sec-websocket-protocol', protocol);
    // Response itself takes no status of 101.
    return { response: new LightResponse(null, 101, 'Switching Protocols', headers, null), socket };
  }

  /**
   * The handler returned its response.
   * @param {ServerResponse} res
   * @param {string[]} headers name, value, name, value
   */
  accept(res, headers) {
    const webSocket = this.#webSocket;
    if (webSocket === null) return false;
    res.detachSocket(this.#socket);
    let head = `HTTP/1.1 101 Switching Protocols\r\ndate: ${new Date().toUTCString()}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n`;
    for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
    this.#socket.write(`${head}\r\n`, 'latin1');
    webSocket.attach(this.#socket, this.#head);
    return true;
  }

  /** Answered otherwise, or gone. */
  drop() {
    this.#webSocket?.abandon('the response of ctx.upgradeWebSocket was not returned, or the client has gone');
  }
}

/**
 * Sends a response of status 101. False where nobody asked for one.
 * @param {ServerResponse} res
 * @param {string[]} headers
 */
export function acceptUpgrade(res, headers) {
  const upgrade = pending.get(res);
  pending.delete(res);
  return upgrade?.accept(res, headers) ?? false;
}

/**
 * Lets the handler of this request take its connection over; until then it is answered on it as any
 * other, and the connection closed after that.
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 * @param {Socket} socket
 * @param {Buffer} head
 * @param {Invocation} invocation
 */
export function offerUpgrade(req, res, socket, head, invocation) {
  const upgrade = new Upgrade(req, socket, head);
  pending.set(res, upgrade);
  invocation.takeUpgrade = (options) => upgrade.take(options);
  const drop = () => {
    if (pending.delete(res)) upgrade.drop();
  };
  res.once('finish', drop);
  socket.once('close', drop);
}

/**
 * What happens on the socket belongs to its request: the log lines of its listeners are tagged with the id.
 * @param {Socket} socket
 * @param {Invocation} invocation
 */
export function tagEvents(socket, invocation) {
  const { emit } = socket;
  socket.emit = /** @type {typeof emit} */ (
    (/** @type {[string]} */ ...args) => storage.run(invocation, () => Reflect.apply(emit, socket, args))
  );
}
