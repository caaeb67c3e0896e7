/** Deno.serve without a port: its handler gets its requests from the shim's socket. */
import { webHandler } from '../node/shim/forms.mjs';
import { storage } from '../node/shim/invocation.mjs';
import { chooseServer } from '../node/shim/node-server.mjs';

/** Said where a module asks for any free port. */
const ANY_PORT = 8000;

/** @typedef {(request: any, info: object) => unknown} DenoHandler */

/** Deno.serve(handler), (options, handler), ({ handler }). @param {any} first @param {any} [second] */
export function serve(first, second) {
  const options = (typeof first === 'function' ? second : first) ?? {};
  /** @type {DenoHandler} */
  const handler = typeof first === 'function' ? first : (second ?? options.handler);
  if (typeof handler !== 'function') throw new TypeError('A handler function must be provided.');
  const call = handlerCall(handler, options.onError);
  const addr = { transport: 'tcp', hostname: options.hostname ?? '0.0.0.0', port: Number(options.port) || ANY_PORT };
  /** @type {() => void} */
  let finish = () => {};
  const finished = new Promise((resolve) => (finish = () => resolve(undefined)));
  const state = { listening: true };
  const shutdown = () => {
    state.listening = false;
    finish();
    return finished;
  };
  options.signal?.addEventListener('abort', shutdown, { once: true });
  chooseServer({
    get listening() {
      return state.listening;
    },
    handle: webHandler(call, false),
    web: true,
  });
  // Deno says where it listens; here only who asked for it is told.
  if (typeof options.onListen === 'function') queueMicrotask(() => options.onListen({ ...addr }));
  return { addr, finished, shutdown, ref() {}, unref() {}, [Symbol.asyncDispose]: shutdown };
}

/**
 * @param {DenoHandler} handler
 * @param {unknown} onError
 * @returns {(request: any) => Promise<unknown>}
 */
function handlerCall(handler, onError) {
  return async (request) => {
    const client = request.headers.get('x-forwarded-for')?.split(',')[0]?.trim();
    const info = { remoteAddr: { transport: 'tcp', hostname: client || '127.0.0.1', port: 0 }, completed: Promise.resolve() };
    try {
      return await handler(request, info);
    } catch (error) {
      if (typeof onError !== 'function') throw error;
      return await onError(error);
    }
  };
}

/**
 * Deno.upgradeWebSocket: the shim's own, whose shape is Deno's. Throws TypeError where the request asks for none.
 * @param {any} request
 * @param {{ protocol?: string }} [options] `idleTimeout` is the platform's
 */
export function upgradeWebSocket(request, { protocol } = {}) {
  const take = storage.getStore()?.takeUpgrade;
  if (!take) throw new TypeError("Invalid Header: 'upgrade' header must contain 'websocket'");
  return take(protocol === undefined || protocol === '' ? {} : { protocol });
}
