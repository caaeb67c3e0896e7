/**
 * When the process ends. On one host SIGTERM comes after the platform has drained: it is a drain itself. In a cluster it
 * comes first, to a pod that gateways still hold leases of: there the instance serves on until it is told to drain, or
 * nobody has used it for a while.
 */
import { host } from './host.mjs';
import { counters, storage, whenIdle } from './invocation.mjs';
import { IDLE_AFTER_SIGTERM_MS, REFUSE_AFTER_SIGTERM_MS } from './limits.mjs';

/** Name under which the function's own listeners of SIGTERM wait, where it is not to hear of it at once. */
const DEFERRED = 'fn: SIGTERM';
/** As it was before any code of a function could put its own in its place. */
const exit = process.exit.bind(process);
const OF_LISTENERS = [
  ...['on', 'once', 'addListener', 'prependListener', 'prependOnceListener', 'off', 'removeListener', 'removeAllListeners'],
  ...['emit', 'listeners', 'rawListeners', 'listenerCount'],
];

/**
 * @typedef {object} Served
 * @property {() => boolean} servesOn whether the instance goes on serving after SIGTERM
 * @property {() => boolean} loading whether it becomes a function just now
 * @property {() => boolean} refuses whether it takes no requests any more
 * @property {() => void} refuse takes none from now on
 */

/**
 * Listens to SIGTERM. Returns what to call when the instance was told to drain.
 * @param {Served} served
 * @param {boolean} deferred whether the function's own listeners are called at the end, not at once
 */
export function endOnSigterm(served, deferred) {
  let signals = 0;
  let ending = false;
  /** @type {NodeJS.Timeout | undefined} */
  let idle;
  const isIdle = () => counters.inFlight === 0 && counters.waitUntil === 0;

  const end = () => {
    if (ending) return;
    ending = true;
    setImmediate(() => {
      // As from nowhere: the request that happened to be the last one has nothing to do with it.
      if (deferred) storage.run(/** @type {any} */ (undefined), tellFunction);
      // What its listeners did not wait for does not hold up the end.
      setImmediate(exit, 0);
    });
  };
  const drain = () => {
    served.refuse();
    look();
  };
  // Called at SIGTERM, at a drain, and whenever nothing is in flight any more.
  const look = () => {
    clearTimeout(idle);
    if (!isIdle()) return;
    if (served.refuses()) return end();
    idle = setTimeout(() => {
      if (served.loading()) look();
      else if (isIdle()) drain();
    }, IDLE_AFTER_SIGTERM_MS);
  };

  process.on('SIGTERM', () => {
    whenIdle.add(look);
    if (signals++ > 0 || !served.servesOn()) return drain();
    setTimeout(drain, REFUSE_AFTER_SIGTERM_MS).unref();
    look();
  });
  if (deferred) deferListeners();
  return () => {
    if (signals > 0) look();
  };
}

/** From now on whoever listens to SIGTERM listens to DEFERRED: a server that closes itself would lose what gateways still send. */
function deferListeners() {
  const target = /** @type {Record<string, any>} */ (/** @type {unknown} */ (process));
  for (const method of OF_LISTENERS) {
    const original = target[method];
    target[method] = (/** @type {unknown[]} */ ...args) =>
      original.apply(process, args[0] === 'SIGTERM' ? [DEFERRED, ...args.slice(1)] : args);
  }
  host.deferSignals(deferredByHost);
}

/** @type {Set<() => void>} Listeners that the function gave to the engine's own functions. */
const deferredByHost = new Set();

function tellFunction() {
  for (const listener of deferredByHost) listener();
  process.emit(/** @type {any} */ (DEFERRED), 'SIGTERM', 15);
}
