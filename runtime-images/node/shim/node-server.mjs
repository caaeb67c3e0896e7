/**
 * The `server` form: a module that calls listen, as Express, Fastify and plain node:http do. Its HTTP
 * servers get no port; their events are emitted for requests that came to the shim's own socket: no
 * extra hop, and a function without network can serve.
 */
import net from 'node:net';

// Not imported: that would have Node make all that it exports, undici among it, which takes 25 ms of CPU.
const HttpServer = process.getBuiltinModule('node:http').Server;

/** @typedef {import('node:http').Server} HttpServer */
/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */

/** Said where a module asks for any free port. */
const ANY_PORT = 8080;

/** @typedef {import('./host.mjs').WebServer} WebServer */

/** @type {HttpServer | WebServer | null} The first that listened: requests go to it. */
let chosen = null;
/** @type {() => void} */
let onChosen = () => {};

export function listeningServer() {
  return chosen;
}

/**
 * The server becomes the one that requests go to, as if it had listened.
 * @param {HttpServer | WebServer} server
 */
export function chooseServer(server) {
  chosen ??= server;
  onChosen();
}

/** Resolves when a server listens. @returns {Promise<HttpServer | WebServer>} */
export function serverListens() {
  return new Promise((resolve) => {
    onChosen = () => chosen && resolve(chosen);
    onChosen();
  });
}

/** From now on HTTP servers that listen are ours. Others (a socket between the function's own processes) listen as ever. */
export function captureListen() {
  capture(net.Server.prototype);
  // Not in Node: there it is inherited.
  if (Object.hasOwn(HttpServer.prototype, 'listen')) capture(HttpServer.prototype);
}

/** @param {net.Server} prototype */
function capture(prototype) {
  const { listen } = prototype;
  prototype.listen =
    /** @type {any} */ (
      /**
       * @this {net.Server}
       * @param {any[]} args
       */
      function (...args) {
        if (!isHttpServer(this)) return Reflect.apply(listen, this, args);
        listenVirtually(this, args);
        return this;
      }
    );
}

/**
 * node:https is loaded only by modules that use it: its servers are told by what they inherit.
 * @param {net.Server} server
 * @returns {server is HttpServer}
 */
function isHttpServer(server) {
  return server instanceof HttpServer || ('requestTimeout' in server && 'headersTimeout' in server);
}

/**
 * @param {HttpServer} server
 * @param {any[]} args of listen: (options | port | path, host?, backlog?, callback?)
 */
function listenVirtually(server, args) {
  const callback = args.at(-1);
  if (server.listening)
    throw Object.assign(new Error('Listen method has been called more than once without closing.'), { code: 'ERR_SERVER_ALREADY_LISTEN' });
  const [first] = args;
  const options =
    typeof first === 'object' && first !== null
      ? first
      : typeof first === 'string' && Number.isNaN(Number(first))
        ? { path: first }
        : { port: first };
  const host = options.host ?? (typeof args[1] === 'string' ? args[1] : '0.0.0.0');
  const family = net.isIPv6(host) ? 'IPv6' : 'IPv4';
  const address = options.path ?? { address: net.isIP(host) ? host : '127.0.0.1', family, port: Number(options.port) || ANY_PORT };
  if (typeof callback === 'function') server.once('listening', callback);
  let open = true;
  /** @param {(error?: Error) => void} [done] */
  const close = (done) => {
    if (typeof done === 'function') server.once('close', () => done());
    if (!open) return server;
    open = false;
    for (const name of ['listening', 'address', 'close', 'ref', 'unref', 'getConnections']) Reflect.deleteProperty(server, name);
    process.nextTick(() => server.emit('close'));
    return server;
  };
  define(server, 'listening', { get: () => open });
  define(server, 'address', { value: () => address });
  define(server, 'close', { value: close });
  define(server, 'ref', { value: () => server });
  define(server, 'unref', { value: () => server });
  define(server, 'getConnections', { value: (/** @type {Function} */ done) => process.nextTick(done, null, 0) });
  options.signal?.addEventListener('abort', () => close(), { once: true });
  process.nextTick(() => {
    if (!open) return;
    server.emit('listening');
    chooseServer(server);
  });
}

/**
 * @param {object} object
 * @param {string} name
 * @param {PropertyDescriptor} descriptor
 */
function define(object, name, descriptor) {
  // Writable: frameworks wrap these (Fastify's listen replaces `unref`).
  Object.defineProperty(object, name, { configurable: true, ...('value' in descriptor ? { writable: true } : {}), ...descriptor });
}

/**
 * Sockets of the shim's own have no remote address; code that asks for one means the client's.
 * @param {import('node:net').Socket} socket
 * @param {() => IncomingMessage | null} current the request that is being read from it
 */
export function showClientAddress(socket, current) {
  const client = () => {
    const forwarded = current()?.headers['x-forwarded-for'];
    const first = (Array.isArray(forwarded) ? forwarded[0] : forwarded)?.split(',')[0]?.trim();
    return first !== undefined && net.isIP(first) !== 0 ? first : '127.0.0.1';
  };
  define(socket, 'remoteAddress', { get: client });
  define(socket, 'remoteFamily', { get: () => (net.isIPv6(client()) ? 'IPv6' : 'IPv4') });
}
