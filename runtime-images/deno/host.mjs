/** What Deno does in its own way, for node's shim. */
import { host } from '../node/shim/host.mjs';
import { serve, upgradeWebSocket } from './serve.mjs';

/** @type {any} Its types are in no package that is installed here. */
const engine = globalThis;

/** Deno does not tell what a module still has open: it is given longer to call listen, ms. */
const IDLE_BEFORE_NO_HANDLER_MS = 1_000;

host.replaceConsole = true;
host.idleBeforeNoHandlerMs = IDLE_BEFORE_NO_HANDLER_MS;
host.captureServe = () => {
  for (const [name, value] of Object.entries({ serve, upgradeWebSocket })) {
    Object.defineProperty(engine.Deno, name, { value, writable: true, configurable: true, enumerable: true });
  }
};
host.deferSignals = (listeners) => {
  const { addSignalListener, removeSignalListener } = engine.Deno;
  engine.Deno.addSignalListener = (/** @type {string} */ name, /** @type {() => void} */ listener) =>
    name === 'SIGTERM' ? void listeners.add(listener) : addSignalListener(name, listener);
  engine.Deno.removeSignalListener = (/** @type {string} */ name, /** @type {() => void} */ listener) =>
    name === 'SIGTERM' ? void listeners.delete(listener) : removeSignalListener(name, listener);
};
host.normalise = (error) => {
  if (!(error instanceof TypeError) || !error.message.startsWith('SyntaxError: ')) return error;
  const [title = '', ...rest] = error.message.slice('SyntaxError: '.length).split('\n');
  const described = new SyntaxError(title);
  described.stack = `SyntaxError: ${title}\n${rest.join('\n')}`;
  return described;
};
