/** Loading the user's module: once, with every way in which it can go wrong told as the function's own error. */
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { openCodeCache } from './code-cache.mjs';
import { describeError, errorText, setCodeFolder } from './errors.mjs';
import { withEvents } from './events.mjs';
import { detect, exportedServer, isClass, serverHandle } from './forms.mjs';
import { host } from './host.mjs';
import { isInit } from './init-request.mjs';
import { onlyRequest } from './invocation.mjs';
import { LOAD_TIMEOUT_MS } from './limits.mjs';
import { logLast } from './logs.mjs';
import { captureListen, chooseServer, listeningServer, serverListens } from './node-server.mjs';
import { makeWebGlobals } from './web.mjs';

/** @typedef {import('./forms.mjs').Handler} Handler */
/** @typedef {import('../../../controller/contract/runtime.ts').InitRequest} InitRequest */

/** An error of the function, of the shim's own finding: it has no stack that would tell anything. */
class LoadError extends Error {
  /**
   * @param {string} name
   * @param {string} message
   */
  constructor(name, message) {
    super(message);
    this.name = name;
    this.stack = '';
  }
}

/** @type {((error: unknown) => void) | null} While a module loads: what it throws past everybody. */
let failLoad = null;

/** Errors that nothing caught. While the module loads they are its failure; later they end the process, as in Node. */
export function captureFatal() {
  /**
   * @param {unknown} error
   * @param {'uncaughtException' | 'unhandledRejection'} event
   */
  const fatal = (error, event) => {
    if (failLoad) return failLoad(error);
    // A listener of the function's own takes over, as it would without us.
    if (process.listenerCount(event) > 1) return;
    const what = event === 'uncaughtException' ? 'Uncaught exception' : 'Unhandled rejection';
    logLast('error', 'err', `${what}: ${errorText(error)}`, onlyRequest());
    process.exit(1);
  };
  process.on('uncaughtException', (error) => fatal(error, 'uncaughtException'));
  process.on('unhandledRejection', (error) => fatal(error, 'unhandledRejection'));
}

/**
 * The environment becomes the function's; nothing of the platform's is left in it.
 * @param {InitRequest} init
 */
function setEnvironment(init) {
  const { TZ, LANG, TMPDIR = '/tmp' } = process.env;
  for (const name of Object.keys(process.env)) delete process.env[name];
  const values = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    // /tmp in a container; a plain process has a folder of its own.
    HOME: TMPDIR,
    TMPDIR,
    NODE_ENV: 'production',
    // For `listen(process.env.PORT)`: any number does.
    PORT: '8080',
    ...(TZ === undefined ? {} : { TZ }),
    ...(LANG === undefined ? {} : { LANG }),
    ...init.env,
    FN_NAMESPACE: init.namespace,
    FN_FUNCTION: init.name,
    FN_REVISION: String(init.number),
    FN_MEMORY_MIB: String(init.memoryMib),
  };
  for (const [name, value] of Object.entries(values)) process.env[name] = value;
}

let prepared = false;

/** What is done once, before any code of a function runs. */
function prepare() {
  if (prepared) return;
  prepared = true;
  makeWebGlobals();
  captureListen();
  host.captureServe();
}

/** @type {Promise<unknown> | null} */
let rehearsal = null;

/**
 * Loads a module of the shim's own as if it were a function's: what runs for the first time costs the function's own loading several
 * times as much. Nothing is left of it: whatever it sets is set again.
 */
export async function rehearse() {
  const code = fileURLToPath(new URL('.', import.meta.url));
  const names = { revision: '', namespace: '', name: '', nonce: '' };
  const numbers = { number: 0, slots: null, timeoutMs: 0, memoryMib: 0, memoryClassMib: 0 };
  const init = { ...names, ...numbers, code, entry: 'practice.mjs', env: {} };
  if (!isInit(init)) throw new Error('the rehearsal is not what an init is');
  rehearsal = loadNow(init, { rehearsed: true });
  await rehearsal;
}

/**
 * Resolves to the handler, or to the function's error; never rejects for what the function did.
 * @param {InitRequest} init
 * @returns {Promise<{ handler: Handler } | { error: import('./errors.mjs').FunctionError }>}
 */
export async function load(init) {
  // A millisecond, where it is under way; an error of it is no concern of the function's.
  if (rehearsal !== null) await rehearsal;
  return loadNow(init);
}

/**
 * @param {InitRequest} init
 * @param {{ rehearsed?: boolean }} [options] rehearsed: an end of the process, or an error from elsewhere, has nothing to do with it
 * @returns {ReturnType<typeof load>}
 */
async function loadNow(init, { rehearsed = false } = {}) {
  setEnvironment(init);
  setCodeFolder(init.code);
  prepare();
  if (init.codeCache === true) openCodeCache(init.code);
  const path = join(init.code, init.entry);
  const { exit } = process;
  /** @type {NodeJS.Timeout | undefined} */
  let timeout;
  try {
    const failed = new Promise((_, reject) => {
      if (rehearsed) return;
      failLoad = reject;
      timeout = setTimeout(() => {
        const seconds = LOAD_TIMEOUT_MS / 1_000;
        reject(new LoadError('LoadTimeout', `the module did not finish loading within ${seconds} s: does a top-level await never settle?`));
      }, LOAD_TIMEOUT_MS);
      process.exit = (code) => {
        reject(new LoadError('ProcessExit', `process.exit(${code ?? ''}) was called while the module was loading`));
        // Must not return: the code behind it does not expect to run.
        throw new LoadError('ProcessExit', 'process.exit() was called while the module was loading');
      };
    });
    failed.catch(() => {}); // it loses the race where the module loads
    process.chdir(init.code);
    process.argv = [process.execPath, path];
    const handler = await Promise.race([loadHandler(path, init.env), failed]);
    // Node tells of a rejection that nobody handles only when all microtasks have run: one turn later it is known.
    await Promise.race([new Promise((resolve) => setImmediate(resolve)), failed]);
    return { handler };
  } catch (error) {
    return { error: describeError(error) };
  } finally {
    clearTimeout(timeout);
    failLoad = null;
    process.exit = exit;
  }
}

/**
 * @param {string} path
 * @param {Record<string, string>} env
 * @returns {Promise<Handler>}
 */
async function loadHandler(path, env) {
  const resources = process.getActiveResourcesInfo().length;
  const module = await import(pathToFileURL(path).href);
  const given = { ...env };
  const handler = host.startsServer(module) ? null : detect(module, given);
  if (handler) return withEvents(module, given, handler) ?? handler;
  const server = exportedServer(module);
  if (server && !server.listening) server.listen();
  else if (server) chooseServer(server);
  const events = withEvents(module, given, null);
  // A server that listens tells so in the next turn; for one that takes longer the handlers of events do not wait.
  if (events !== null) await new Promise((resolve) => setImmediate(resolve));
  if (events !== null && listeningServer() === null) return events;
  const quiet = new AbortController();
  const listened = await Promise.race([serverListens(), nothingLeftToDo(resources, quiet.signal)]);
  quiet.abort();
  if (listened === null) throw new LoadError('NoHandler', noHandler(module));
  /** @type {Handler} */
  const serving = { form: 'server', handle: serverHandle };
  return withEvents(module, given, serving) ?? serving;
}

/**
 * Resolves to null when the module has no timer, file, socket or child left for a while: it will not listen any more.
 * @param {number} before how many there were before it was loaded
 * @param {AbortSignal} signal
 * @returns {Promise<null>}
 */
async function nothingLeftToDo(before, signal) {
  const { setTimeout: sleep } = process.getBuiltinModule('node:timers/promises');
  let idleSince = performance.now();
  while (!signal.aborted) {
    await sleep(5, undefined, { ref: false });
    if (process.getActiveResourcesInfo().length > before) idleSince = performance.now();
    else if (performance.now() - idleSince > host.idleBeforeNoHandlerMs) return null;
  }
  return null;
}

/** @param {Record<string, any>} module */
function noHandler(module) {
  const main = module.default;
  if (isClass(main)) {
    const name = main.name === '' || main.name === 'default' ? 'Name' : main.name;
    return `the default export is a class, which cannot be called; export an instance of it: export default new ${name}()`;
  }
  const names = Object.keys(module).filter((name) => name !== 'module.exports');
  const no = names.length === 1 ? 'which is no handler,' : 'none of which is a handler,';
  const exported = names.length === 0 ? 'exports nothing' : `exports ${names.slice(0, 10).join(', ')}, ${no}`;
  return (
    `the module ${exported} and calls no listen(); expected one of: export default { fetch(request) {} }; ` +
    'export function GET(request) {}; export function handler(event, context) {}; export default function (request) {} or (req, res) {}; server.listen(); ' +
    'or, for events alone, export function queue(batch) {}, scheduled(event) {} or event(event) {}'
  );
}
