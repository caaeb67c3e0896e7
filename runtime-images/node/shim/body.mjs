/** Request bodies: whole, or as a web stream with back-pressure. */
import { BODY_HIGH_WATER_BYTES } from './limits.mjs';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */

function aborted() {
  return new DOMException('The client closed the connection before the body was complete', 'AbortError');
}

/**
 * Rejects when the client goes away. Has no limit of its own: the gateway's holds, and the memory is the function's.
 * @param {IncomingMessage} req
 * @returns {Promise<Buffer>}
 */
export function readWhole(req) {
  return new Promise((resolve, reject) => {
    if (req.destroyed && !req.complete) return reject(aborted());
    /** @type {Buffer[]} */
    const chunks = [];
    req.on('data', (/** @type {Buffer} */ chunk) => void chunks.push(chunk));
    req.on('end', () => resolve(chunks.length === 1 ? /** @type {Buffer} */ (chunks[0]) : Buffer.concat(chunks)));
    req.on('error', () => reject(aborted()));
    req.on('close', () => reject(aborted())); // after end it comes too late to matter
  });
}

/**
 * @param {IncomingMessage} req
 * @returns {ReadableStream<Uint8Array>}
 */
export function requestStream(req) {
  let open = true;
  return new ReadableStream(
    {
      start(controller) {
        req.pause();
        req.on('data', (/** @type {Buffer} */ chunk) => {
          if (!open) return;
          controller.enqueue(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
          if ((controller.desiredSize ?? 0) <= 0) req.pause();
        });
        req.on('end', () => {
          if (open) controller.close();
          open = false;
        });
        const fail = () => {
          if (open) controller.error(aborted());
          open = false;
        };
        req.on('error', fail);
        req.on('close', fail);
        req.pause();
        if (req.destroyed && !req.complete) fail();
      },
      pull: () => void req.resume(),
      cancel() {
        open = false;
        req.resume(); // the rest is read and thrown away: the connection is used again
      },
    },
    { highWaterMark: BODY_HIGH_WATER_BYTES, size: (chunk) => chunk.byteLength },
  );
}
