/**
 * Bun.serve without a port: its handlers get their requests from the shim's socket. `fetch`, `routes`,
 * `error` and `websocket` are Bun's; what is about the port, TLS or the connection is the platform's.
 */
import { webHandler } from '../node/shim/forms.mjs';
import { storage } from '../node/shim/invocation.mjs';
import { chooseServer } from '../node/shim/node-server.mjs';
import { matchRoute, withCookies } from './routes.mjs';
import { attachSocket, Topics } from './socket.mjs';

/** Said where a module asks for any free port. */
const ANY_PORT = 3000;

/** @param {any} options of Bun.serve */
export function serve(options) {
  const server = new VirtualServer(options);
  chooseServer({
    get listening() {
      return server.listening;
    },
    handle: webHandler((request) => server.fetch(request), false),
    web: true,
  });
  return server;
}

/** @param {unknown} bytes */
function maxBytes(bytes) {
  return typeof bytes === 'number' ? { maxMessageBytes: bytes } : {};
}

class VirtualServer {
  #options;
  #topics = new Topics();
  /** @type {WeakMap<object, object>} Responses that make a WebSocket, by invocation. */
  #upgrades = new WeakMap();
  listening = true;
  development = false;
  pendingRequests = 0;

  /** @param {any} options */
  constructor(options) {
    if (typeof options?.fetch !== 'function' && typeof options?.routes !== 'object') {
      throw new TypeError('Bun.serve() needs either a fetch handler or routes');
    }
    this.#options = options;
    this.id = options.id ?? '';
    this.hostname = options.hostname ?? 'localhost';
    this.port = Number(options.port) || ANY_PORT;
    this.protocol = 'http';
    this.url = new URL(`http://localhost:${this.port}/`);
  }

  get address() {
    return { address: '127.0.0.1', family: 'IPv4', port: this.port };
  }

  get pendingWebSockets() {
    return this.#topics.sockets.size;
  }

  /**
   * Also what a function calls to ask itself.
   * @param {any} given a Request, a URL or a path
   */
  async fetch(given) {
    const request = typeof given === 'string' || given instanceof URL ? new Request(new URL(given, this.url)) : given;
    this.pendingRequests++;
    try {
      const answer = await this.#answer(request);
      // A handler that upgraded returns nothing; the response that does it is ours.
      return this.#upgrades.get(storage.getStore() ?? this) ?? answer;
    } catch (error) {
      if (typeof this.#options.error !== 'function') throw error;
      return await this.#options.error.call(this, error);
    } finally {
      this.pendingRequests--;
    }
  }

  /** @param {Request} request */
  async #answer(request) {
    const { routes, fetch } = this.#options;
    const match = routes ? matchRoute(routes, request) : null;
    if (match !== null) {
      if (typeof match.handler !== 'function') return match.handler.clone();
      return await withCookies(request, match.params, (routed) => match.handler.call(this, routed, this));
    }
    if (typeof fetch !== 'function') return new Response('Not Found', { status: 404 });
    return await fetch.call(this, request, this);
  }

  /**
   * @param {any} request
   * @param {{ headers?: HeadersInit, data?: unknown }} [options]
   */
  upgrade(request, { headers, data } = {}) {
    const take = storage.getStore()?.takeUpgrade;
    if (!take || request.headers.get('upgrade')?.toLowerCase() !== 'websocket') return false;
    const handlers = this.#options.websocket;
    if (typeof handlers !== 'object' || handlers === null) throw new TypeError('to upgrade, Bun.serve() needs a websocket object');
    const added = new Headers(headers);
    const wanted = added.get('sec-websocket-protocol') ?? request.headers.get('sec-websocket-protocol')?.split(',')[0]?.trim();
    added.delete('sec-websocket-protocol');
    const { response, socket } = take({ ...(wanted ? { protocol: wanted } : {}), ...maxBytes(handlers.maxPayloadLength) });
    for (const [name, value] of added) response.headers.append(name, value);
    this.#upgrades.set(/** @type {object} */ (storage.getStore()), response);
    attachSocket(socket, handlers, this.#topics, data, this.requestIP(request)?.address ?? '127.0.0.1');
    return true;
  }

  /** @param {string} topic @param {string | Uint8Array | ArrayBuffer} data */
  publish(topic, data) {
    return this.#topics.publish(topic, data, null);
  }

  /** @param {string} topic */
  subscriberCount(topic) {
    return this.#topics.count(topic);
  }

  /** @param {any} request */
  requestIP(request) {
    const first = request.headers.get('x-forwarded-for')?.split(',')[0]?.trim();
    return first ? { address: first, family: first.includes(':') ? 'IPv6' : 'IPv4', port: 0 } : null;
  }

  /** @param {any} options */
  reload(options) {
    this.#options = { ...this.#options, ...options };
    return this;
  }

  /** @param {boolean} [closeActive] */
  stop(closeActive) {
    this.listening = false;
    if (closeActive) for (const ws of this.#topics.sockets) ws.terminate();
    return Promise.resolve();
  }

  // The platform has its own limits on time, and ends the process itself.
  timeout() {}
  closeIdleConnections() {}
  ref() {
    return this;
  }
  unref() {
    return this;
  }
  [Symbol.dispose]() {
    void this.stop(true);
  }
}
