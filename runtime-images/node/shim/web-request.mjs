/** The light Request: method, url and headers at once, the rest on demand. */
import { readWhole, requestStream } from './body.mjs';
import { MAX_CACHED_HOSTS } from './limits.mjs';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */

/** A path that the URL parser would leave as it is. */
const PLAIN_PATH = /^\/(?!\/)(?:[A-Za-z0-9\-_~!$&()*+,;=:@%./?|[\]])*$/;
const DOT_SEGMENT = /\/(?:\.|%2e)/i;

/** @type {Map<string, string>} Host header → host of a URL. */
const hosts = new Map();

/** @param {string | undefined} host */
function urlHost(host) {
  if (host === undefined) return 'localhost';
  let known = hosts.get(host);
  if (known === undefined) {
    const parsed = URL.canParse(`http://${host}`) ? new URL(`http://${host}`) : null;
    known = parsed && parsed.pathname === '/' && !parsed.username && !parsed.search && parsed.hash === '' ? parsed.host : 'localhost';
    if (hosts.size >= MAX_CACHED_HOSTS) hosts.clear();
    hosts.set(host, known);
  }
  return known;
}

/**
 * The URL that the client called, as far as the function is concerned: without the function's own prefix.
 * @param {IncomingMessage} req
 */
export function requestUrl(req) {
  const proto = req.headers['x-forwarded-proto'];
  const scheme = typeof proto === 'string' && proto.startsWith('https') ? 'https' : 'http';
  const target = req.url ?? '/';
  const path = target.startsWith('/') ? target : target === '*' ? '/*' : absolutePath(target);
  const url = `${scheme}://${urlHost(req.headers.host)}${path}`;
  if (PLAIN_PATH.test(path) && !DOT_SEGMENT.test(path)) return url;
  return URL.canParse(url) ? new URL(url).href : `${scheme}://${urlHost(req.headers.host)}/`;
}

/** @param {string} target in absolute form */
function absolutePath(target) {
  const url = URL.canParse(target) ? new URL(target) : null;
  return url ? url.pathname + url.search : '/';
}

/**
 * The request's headers, those between gateway and shim left out.
 * @param {IncomingMessage} req
 */
export function requestHeaders(req) {
  const headers = new Headers();
  const raw = req.rawHeaders;
  for (let i = 0; i < raw.length; i += 2) {
    const name = /** @type {string} */ (raw[i]);
    if (!isHiddenHeader(name)) headers.append(name, /** @type {string} */ (raw[i + 1]));
  }
  return headers;
}

/**
 * Of a request: all of the platform's but `fn-event`, by which a handler of plain HTTP can tell an event from what a client sends.
 * @param {string} name in any case
 */
export function isHiddenHeader(name) {
  return isPlatformHeader(name) && name.toLowerCase() !== 'fn-event';
}

/** @param {string} name in any case: `fn-…` */
export function isPlatformHeader(name) {
  return name.charCodeAt(2) === 45 && (name.charCodeAt(0) | 32) === 102 && (name.charCodeAt(1) | 32) === 110;
}

/** @param {IncomingMessage} req */
function hasBody(req) {
  if (req.method === 'GET' || req.method === 'HEAD') return false; // a Request of these has none, by the standard
  const { headers } = req;
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] !== undefined && headers['content-length'] !== '0');
}

const USED = 'Body is unusable: Body has already been read';

export class LightRequest {
  /** @type {typeof globalThis.Request} Node's own; set before the first request. */
  static Native;

  /** @param {LightRequest} light */
  static toNative(light) {
    return light.#whole();
  }

  /** @param {unknown} value */
  static is(value) {
    return typeof value === 'object' && value !== null && #req in value;
  }

  #req;
  #invocation;
  /** @type {string | null} */
  #url = null;
  /** @type {Headers | null} */
  #headers = null;
  /** @type {Request | null} */
  #native = null;
  #used = false;

  /**
   * @param {IncomingMessage} req
   * @param {import('./invocation.mjs').Invocation} invocation
   */
  constructor(req, invocation) {
    this.#req = req;
    this.#invocation = invocation;
  }

  get method() {
    return this.#req.method ?? 'GET';
  }

  get url() {
    return (this.#url ??= requestUrl(this.#req));
  }

  get headers() {
    return (this.#headers ??= this.#native?.headers ?? requestHeaders(this.#req));
  }

  get signal() {
    return this.#invocation.signal;
  }

  get bodyUsed() {
    return this.#used || (this.#native?.bodyUsed ?? false);
  }

  #whole() {
    if (this.#native !== null) return this.#native;
    const body = !hasBody(this.#req) ? null : this.#used ? usedStream() : requestStream(this.#req);
    /** @type {RequestInit & { duplex?: 'half' }} */
    const init = { method: this.method, headers: this.headers, body, signal: this.signal };
    if (body !== null) init.duplex = 'half';
    this.#native = new LightRequest.Native(this.url, init);
    this.#headers = this.#native.headers;
    return this.#native;
  }

  /** The whole body without a stream in between. @returns {Promise<Buffer> | null} null: ask the native one */
  #take() {
    if (this.#native !== null) return null;
    if (this.#used) return Promise.reject(new TypeError(USED));
    if (!hasBody(this.#req)) return Promise.resolve(Buffer.alloc(0));
    this.#used = true;
    return readWhole(this.#req);
  }

  async text() {
    const taken = this.#take();
    return taken === null ? this.#whole().text() : decode(await taken);
  }

  async json() {
    const taken = this.#take();
    return taken === null ? this.#whole().json() : JSON.parse(decode(await taken));
  }

  async bytes() {
    const taken = this.#take();
    return taken === null ? this.#whole().bytes() : new Uint8Array(await taken);
  }

  async arrayBuffer() {
    const taken = this.#take();
    return taken === null ? this.#whole().arrayBuffer() : new Uint8Array(await taken).buffer;
  }

  clone() {
    if (this.bodyUsed) throw new TypeError('Response body object should not be disturbed or locked'.replace('Response', 'Request'));
    return this.#whole().clone();
  }
}

/**
 * What Node's own functions accept in the place of a light request.
 * @param {any} input
 */
export function nativeRequest(input) {
  if (!LightRequest.is(input)) return input;
  return LightRequest.toNative(input);
}

/** @param {Buffer} bytes */
function decode(bytes) {
  const text = bytes.toString('utf8');
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

/** The body of a request that was read already: closed and locked. */
function usedStream() {
  const stream = new ReadableStream({ start: (controller) => controller.close() });
  stream.getReader();
  return stream;
}
