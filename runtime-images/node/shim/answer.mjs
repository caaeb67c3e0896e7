/** Answers that the shim itself gives. */

/**
 * RFC 9457, by the platform's registry of errors.
 * @param {import('node:http').ServerResponse} res
 * @param {number} status
 * @param {string} code
 * @param {string} title
 * @param {string} detail
 * @param {{ id?: string, headers?: Record<string, string> }} [options]
 */
export function sendProblem(res, status, code, title, detail, options = {}) {
  const body = JSON.stringify({ type: `urn:fn:error:${code}`, title, status, detail, code, instance: options.id });
  res.writeHead(status, { ...options.headers, 'content-type': 'application/problem+json', 'content-length': Buffer.byteLength(body) });
  res.end(body);
}

/**
 * @param {import('node:http').ServerResponse} res
 * @param {number} status
 * @param {unknown} value
 */
export function sendJson(res, status, value) {
  const body = JSON.stringify(value);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  res.end(body);
}

/**
 * The body as JSON. Throws with `status` 413 or 400.
 * @param {import('node:http').IncomingMessage} req
 * @param {number} maxBytes
 * @returns {Promise<unknown>}
 */
export async function readJson(req, maxBytes) {
  const body = await readBody(req, maxBytes);
  if (body === null) throw Object.assign(new Error(`the body is over ${maxBytes} bytes`), { status: 413 });
  try {
    return JSON.parse(body.toString());
  } catch {
    throw Object.assign(new Error('the body is not JSON'), { status: 400 });
  }
}

/**
 * The whole body, or null where it is over the limit. Rejects when the client goes away.
 * @param {import('node:http').IncomingMessage} req
 * @param {number} maxBytes
 * @returns {Promise<Buffer | null>}
 */
export function readBody(req, maxBytes) {
  return new Promise((resolve, reject) => {
    /** @type {Buffer[]} */
    const chunks = [];
    let bytes = 0;
    req.on('data', (/** @type {Buffer} */ chunk) => {
      bytes += chunk.length;
      if (bytes <= maxBytes) chunks.push(chunk);
      else resolve(null);
    });
    req.on('end', () => resolve(chunks.length === 1 ? /** @type {Buffer} */ (chunks[0]) : Buffer.concat(chunks)));
    req.on('error', reject);
    req.on('close', () => reject(new DOMException('the client closed the connection before the body was complete', 'AbortError')));
  });
}
