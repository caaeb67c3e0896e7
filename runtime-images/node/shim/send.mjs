/** Sends a web Response on Node's ServerResponse. */
import { isLightResponse } from './web-response.mjs';
import { isPlatformHeader } from './web-request.mjs';
import { acceptUpgrade } from './websocket-upgrade.mjs';

/** @typedef {import('node:http').ServerResponse} ServerResponse */

/** About the connection, which is ours and not the function's; and what only the shim says. */
const CONNECTION_HEADERS = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade', 'te', 'trailer']);
/** Codings that Node's fetch has already undone in the body of what it returns. */
const DECODED = /^(?:gzip|x-gzip|deflate|br|zstd)(?:\s*,|$)/i;

/** What a handler returned that is no response. */
export class NotAResponse extends TypeError {}

/**
 * Whether it is a response, be it of another realm or library.
 * @param {any} value
 */
export function isResponse(value) {
  if (isLightResponse(value)) return true;
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof value.status === 'number' &&
    typeof value.headers?.forEach === 'function' &&
    'body' in value
  );
}

/**
 * Returns when all was handed to the socket, or nothing where that was at once. Rejects when the
 * body's stream fails; the response is then cut off, so that the client can see it.
 * @param {ServerResponse} res
 * @param {any} response
 * @returns {Promise<void> | undefined}
 */
export function sendResponse(res, response) {
  if (isLightResponse(response)) {
    const { status, statusText, pairs, headers, body, stream, used } = response.parts;
    if (used) throw new NotAResponse('the body of the returned response was read already');
    const flat = headers === null ? pairsToSend(pairs) : headersToSend(headers, false);
    if (status === 101) {
      if (acceptUpgrade(res, flat)) return undefined;
      throw new NotAResponse('the returned response is the one of ctx.upgradeWebSocket for another request, or was returned before');
    }
    if (stream !== null) return sendStream(res, status, statusText, flat, stream);
    return sendWhole(res, status, statusText, flat, body);
  }
  if (response.bodyUsed) throw new NotAResponse('the body of the returned response was read already');
  if (response.type === 'error') throw new NotAResponse('the returned response is Response.error()');
  // What fetch returned goes out as it is, but decoded: its length and coding are of what came in.
  const decoded = typeof response.url === 'string' && response.url !== '' && DECODED.test(response.headers.get?.('content-encoding') ?? '');
  const flat = headersToSend(response.headers, decoded);
  if (response.body === null || response.body === undefined) return sendWhole(res, response.status, response.statusText ?? '', flat, null);
  return sendStream(res, response.status, response.statusText ?? '', flat, response.body);
}

/** @param {string[] | null} pairs */
function pairsToSend(pairs) {
  if (pairs === null) return [];
  for (let i = 0; i < pairs.length; i += 2)
    if (isDropped(/** @type {string} */ (pairs[i])))
      return pairs.filter((_, index) => !isDropped(/** @type {string} */ (pairs[index & ~1])));
  return pairs;
}

/**
 * @param {Headers} headers
 * @param {boolean} decoded
 */
function headersToSend(headers, decoded) {
  /** @type {string[]} */
  const flat = [];
  headers.forEach((value, key) => {
    const name = key.toLowerCase();
    if (isDropped(name) || (decoded && (name === 'content-encoding' || name === 'content-length'))) return;
    if (name !== 'set-cookie' || typeof headers.getSetCookie !== 'function') flat.push(name, value);
  });
  // forEach of Node's Headers gives each cookie; that of other libraries joins them: take them apart here.
  if (typeof headers.getSetCookie === 'function') for (const cookie of headers.getSetCookie()) flat.push('set-cookie', cookie);
  return flat;
}

/** @param {string} name lower case */
function isDropped(name) {
  return CONNECTION_HEADERS.has(name) || isPlatformHeader(name);
}

/**
 * @param {ServerResponse} res
 * @param {number} status
 * @param {string} statusText
 * @param {string[]} headers
 * @param {string | Uint8Array | null} body
 */
function sendWhole(res, status, statusText, headers, body) {
  const bodiless = status === 204 || status === 304;
  if (!bodiless && !hasHeader(headers, 'content-length')) {
    headers.push('content-length', String(body === null ? 0 : typeof body === 'string' ? Buffer.byteLength(body) : body.byteLength));
  }
  writeHead(res, status, statusText, headers);
  if (body === null || bodiless) res.end();
  else res.end(body);
  return undefined;
}

/**
 * @param {ServerResponse} res
 * @param {number} status
 * @param {string} statusText
 * @param {string[]} headers
 */
function writeHead(res, status, statusText, headers) {
  if (statusText === '') res.writeHead(status, headers);
  else res.writeHead(status, statusText, headers);
}

/**
 * @param {string[]} headers
 * @param {string} name
 */
function hasHeader(headers, name) {
  for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return true;
  return false;
}

/**
 * @param {ServerResponse} res
 * @param {number} status
 * @param {string} statusText
 * @param {string[]} headers
 * @param {ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>} stream
 */
async function sendStream(res, status, statusText, headers, stream) {
  if ('locked' in stream && stream.locked) throw new NotAResponse('the body of the returned response is being read by somebody else');
  writeHead(res, status, statusText, headers);
  const bodiless = status === 204 || status === 304 || res.req.method === 'HEAD';
  if (bodiless) {
    res.end();
    if (stream instanceof ReadableStream) await stream.cancel();
    return;
  }
  // A promised length is kept: were more written, it would be taken for the next response.
  res.strictContentLength = true;
  // The head does not wait for a body that takes its time; a body that is there goes with it.
  const head = setImmediate(() => res.flushHeaders());
  const chunks = stream instanceof ReadableStream ? readerOf(res, stream) : stream;
  try {
    for await (const chunk of chunks) {
      clearImmediate(head);
      if (res.destroyed) return;
      if (!(chunk instanceof Uint8Array)) throw new NotAResponse('a chunk of the returned body is not a Uint8Array');
      if (chunk.byteLength > 0 && !res.write(chunk)) await drained(res);
    }
    if (!res.destroyed) res.end();
  } catch (error) {
    const clientGone = res.destroyed;
    // Without the last chunk, or short of its length: truncated looks truncated.
    res.destroy();
    if (!clientGone) throw error;
  } finally {
    clearImmediate(head);
  }
}

/**
 * The chunks of a stream until its end or the client's.
 * @param {ServerResponse} res
 * @param {ReadableStream<Uint8Array>} stream
 */
async function* readerOf(res, stream) {
  const reader = stream.getReader();
  const gone = () => void reader.cancel(new DOMException('The client closed the connection', 'AbortError')).catch(() => {}); // nobody is left to tell
  res.once('close', gone);
  let done = false;
  try {
    for (;;) {
      const result = await reader.read();
      done = result.done;
      if (result.done) return;
      yield result.value;
    }
  } finally {
    res.off('close', gone);
    if (!done) gone();
  }
}

/** @param {ServerResponse} res @returns {Promise<void>} */
function drained(res) {
  return new Promise((resolve) => {
    const done = () => {
      res.off('drain', done);
      res.off('close', done);
      resolve();
    };
    res.on('drain', done);
    res.on('close', done);
    if (res.destroyed) done();
  });
}
