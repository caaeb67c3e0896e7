/** What Bun does in its own way, for node's shim. */
import { host } from '../node/shim/host.mjs';
import { serve } from './serve.mjs';

/** @type {any} Its types are in no package that is installed here. */
const engine = globalThis;

/** Bun does not tell what a module still has open: it is given longer to call listen, ms. */
const IDLE_BEFORE_NO_HANDLER_MS = 1_000;

host.replaceConsole = true;
host.idleBeforeNoHandlerMs = IDLE_BEFORE_NO_HANDLER_MS;
// JavaScriptCore sizes its heap by what the container has.
host.growSlowly = () => engine.Bun.gc(true);
// It has no space for the old alone.
host.fillDensely = () => {};
host.captureServe = () => {
  engine.Bun.serve = serve;
};
// What `bun FILE` does with such a default export; without `websocket` it is the form `fetch`, as in every runtime.
host.startsServer = (module) => {
  const main = module.default;
  if (typeof main !== 'object' || main === null || typeof main.websocket !== 'object' || typeof main.fetch !== 'function') return false;
  serve(main);
  return true;
};
host.normalise = (error) => {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  if (!isBuildMessage(first)) return error;
  const { position } = first;
  const place = position === null ? '' : `\n    at ${position.file}:${position.line}:${position.column}`;
  const line = position === null || position.lineText === '' ? '' : `\n    ${position.lineText}`;
  const described = new SyntaxError(first.message);
  described.stack = `SyntaxError: ${first.message}${line}${place}`;
  return described;
};

/**
 * @typedef {{ name: string, message: string, position: { file: string, line: number, column: number, lineText: string } | null }} BuildMessage
 */

/** What Bun's parser says; a module that is not found has a message of its own, and is an ordinary error. @param {any} error @returns {error is BuildMessage} */
function isBuildMessage(error) {
  return typeof error === 'object' && error !== null && error.name === 'BuildMessage' && typeof error.message === 'string';
}
