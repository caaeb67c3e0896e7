/** One request as the function's code sees it: id, deadline, abort, waitUntil. */
import { AsyncLocalStorage } from 'node:async_hooks';

/** Longest delay that setTimeout takes, ms. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** @type {AsyncLocalStorage<Invocation>} The request that the running code belongs to. */
export const storage = new AsyncLocalStorage();

/**
 * What a function may know about itself.
 * @typedef {{ name: string, namespace: string, number: number, revision: string, memoryMib: number, timeoutMs: number, instance: string,
 *   env: Record<string, string> }} FunctionInfo
 */

/** What the shim counts; health reports it. */
export const counters = { inFlight: 0, waitUntil: 0 };

/** @type {Invocation | null} */
let newest = null;

/** Id of the request that is being worked on: of the running code, else of the only one there is, where that is sure. */
export function onlyRequest() {
  const known = storage.getStore() ?? (counters.inFlight === 1 && newest?.running ? newest : null);
  return known?.id;
}

/** @type {Set<() => void>} Called when one of the counters has fallen to zero. */
export const whenIdle = new Set();

function fellToZero() {
  if (counters.inFlight === 0 && counters.waitUntil === 0) for (const listener of whenIdle) listener();
}

/**
 * Its slot is taken at the start, and given back when the response is over *and* the handler has
 * settled: code that works on after its client went away is still work. The deadline bounds it.
 */
export class Invocation {
  #settled = false;
  #closed = false;
  #released = false;
  /** @type {AbortController | null} */
  #controller = null;
  /** @type {Context | null} */
  #context = null;
  /** @type {((options?: import('./websocket-upgrade.mjs').UpgradeOptions) => { response: import('./web-response.mjs').LightResponse, socket: import('./websocket.mjs').ServerWebSocket }) | null} */
  takeUpgrade = null;

  /**
   * @param {string} id
   * @param {number} deadline milliseconds since 1970
   * @param {FunctionInfo} info
   * @param {(error: unknown, invocation: Invocation) => void} onRejected what to do with a promise given to waitUntil that rejects
   */
  constructor(id, deadline, info, onRejected) {
    this.id = id;
    this.deadline = deadline;
    this.info = info;
    this.onRejected = onRejected;
    counters.inFlight++;
    newest = this;
  }

  get context() {
    return (this.#context ??= new Context(this));
  }

  /** Aborted when the client goes away before the response is complete. */
  get signal() {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#closed) this.#abort();
    }
    return this.#controller.signal;
  }

  /** It has its slot. */
  get running() {
    return !this.#released;
  }

  /** The handler has returned, resolved or thrown. */
  settle() {
    this.#settled = true;
    if (this.#closed) this.#release();
  }

  /**
   * The response is over.
   * @param {boolean} complete whether all of it was sent
   */
  close(complete) {
    if (this.#closed) return;
    this.#closed = true;
    if (!complete && this.#controller !== null) this.#abort();
    if (this.#settled) return this.#release();
    const left = Math.min(Math.max(this.deadline - Date.now(), 0), MAX_TIMER_MS);
    setTimeout(() => this.#release(), left).unref();
  }

  #abort() {
    this.#controller?.abort(new DOMException('The client closed the connection', 'AbortError'));
  }

  #release() {
    if (this.#released) return;
    this.#released = true;
    counters.inFlight--;
    fellToZero();
  }
}

/** The `ctx` of a handler. Its functions may be taken off it: `const { waitUntil } = ctx`. */
class Context {
  #invocation;

  /** @param {Invocation} invocation */
  constructor(invocation) {
    this.#invocation = invocation;
    const { id, deadline, info } = invocation;
    this.requestId = id;
    /** Milliseconds since 1970. */
    this.deadline = deadline;
    this.functionName = info.name;
    this.namespace = info.namespace;
    /** The number of the revision. */
    this.revision = info.number;
    /** Milliseconds until the deadline; 0 once it has passed. */
    this.remainingMs = () => Math.max(0, deadline - Date.now());
    /**
     * The instance is neither frozen nor stopped until this settles or the function's timeout has passed.
     * @param {unknown} promise
     */
    this.waitUntil = (promise) => waitUntil(promise, invocation);
    /**
     * Makes this request a WebSocket: return the response, and listen on the socket.
     * @param {unknown} _request as Deno has it; it is always the one that this context belongs to
     * @param {import('./websocket-upgrade.mjs').UpgradeOptions} [options]
     */
    this.upgradeWebSocket = (_request, options) => {
      if (invocation.takeUpgrade === null) throw new TypeError('ctx.upgradeWebSocket: the request does not ask for a WebSocket');
      return invocation.takeUpgrade(options);
    };
    /** Workers' code calls it; here there is no origin to pass through to. */
    this.passThroughOnException = () => {};
  }

  get signal() {
    return this.#invocation.signal;
  }
}

/**
 * @param {unknown} promise
 * @param {Invocation} invocation
 */
function waitUntil(promise, invocation) {
  counters.waitUntil++;
  Promise.resolve(promise)
    .catch((error) => invocation.onRejected(error, invocation))
    .finally(() => {
      counters.waitUntil--;
      fellToZero();
    });
}
