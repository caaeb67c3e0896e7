/**
 * What a module exports, and how its requests are handled. The order of detection is the platform's:
 * fetch, methods, lambda, function, server.
 */
import { sendProblem } from './answer.mjs';
import { lambdaCall, lambdaHandler } from './lambda.mjs';
import { listeningServer } from './node-server.mjs';
import { isResponse, NotAResponse, sendResponse } from './send.mjs';
import { LightRequest, makeWebGlobals } from './web.mjs';

// Not imported: that would have Node make all that it exports, undici among it, which takes 25 ms of CPU.
const HttpServer = process.getBuiltinModule('node:http').Server;

/** @typedef {import('node:http').Server} HttpServer */
/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */
/** @typedef {import('./invocation.mjs').Invocation} Invocation */
/** @typedef {'fetch' | 'methods' | 'lambda' | 'function' | 'server' | 'events'} Form */
/** @typedef {(req: IncomingMessage, res: ServerResponse, invocation: Invocation) => Promise<unknown> | undefined} Handle returns until when it works, or nothing */
/** @typedef {(request: any, context: object) => unknown} WebCall */
/** @typedef {{ form: Form, handle: Handle, web?: WebCall, lambda?: import('./lambda.mjs').LambdaCall }} Handler `web`, `lambda`: how a handler of that kind is called */

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Slots where the deployment says nothing (DEFAULT_CONCURRENCY of the contract). */
export const DEFAULT_SLOTS = { fetch: 50, methods: 50, lambda: 1, function: 50, server: 50, events: 50 };

/**
 * Forms 1 to 4, or null. `module` is the namespace that import() gave.
 * @param {Record<string, any>} module
 * @param {Record<string, string>} env
 * @returns {Handler | null}
 */
export function detect(module, env) {
  const exported = unwrap(module);
  const main = exported.default;
  if (main !== null && (typeof main === 'object' || typeof main === 'function') && typeof main.fetch === 'function') {
    return webForm('fetch', (request, context) => main.fetch(request, env, context), false);
  }
  const methods = METHODS.filter((name) => typeof exported[name] === 'function');
  if (methods.length > 0) return { form: 'methods', handle: methodsHandler(exported, methods), ...webGet(exported) };
  if (typeof exported.handler === 'function') {
    const lambda = lambdaCall(exported.handler, exported);
    return { form: 'lambda', handle: lambdaHandler(lambda), lambda };
  }
  if (typeof main === 'function' && !isClass(main)) return functionForm(main);
  return null;
}

/**
 * The exports, through what bundlers and CommonJS put around them: `module.exports` arrives as the
 * default export, and a TypeScript module in CommonJS as the default of that default.
 * @param {Record<string, any>} module
 * @returns {Record<string, any>}
 */
export function unwrap(module) {
  const inner = module.default;
  if (typeof inner !== 'object' || inner === null || typeof inner.fetch === 'function') return module;
  const named = Object.keys(module).some(
    (name) => name !== 'default' && name !== 'module.exports' && name !== '__esModule' && !Object.hasOwn(inner, name),
  );
  return named ? module : inner;
}

/** Whether calling it throws without `new`. @param {unknown} value @returns {value is Function} */
export function isClass(value) {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}

/** A server that is exported but not told to listen. @param {Record<string, any>} module @returns {HttpServer | null} */
export function exportedServer(module) {
  const main = unwrap(module).default ?? module.default;
  return main instanceof HttpServer ? main : null;
}

/** @type {Handle} */
export const serverHandle = (req, res, invocation) => {
  const server = listeningServer();
  if (server?.listening && 'handle' in server) return server.handle(req, res, invocation);
  if (server?.listening && 'emit' in server) server.emit('request', req, res);
  else
    sendProblem(res, 502, 'function-bad-response', 'The function sent an invalid response', 'The function has closed its server.', {
      id: invocation.id,
    });
  return undefined;
};

/**
 * @param {Form} form
 * @param {WebCall} call
 * @param {boolean} lenient
 * @returns {Handler}
 */
function webForm(form, call, lenient) {
  return { form, handle: webHandler(call, lenient), web: call };
}

/** Upgrades come by GET. @param {Record<string, any>} exported */
function webGet(exported) {
  return typeof exported.GET === 'function' ? { web: /** @type {WebCall} */ ((request, context) => exported.GET(request, context)) } : {};
}

/**
 * @param {WebCall} call
 * @param {boolean} lenient whether what is no Response becomes one
 * @returns {Handle}
 */
export function webHandler(call, lenient) {
  makeWebGlobals();
  return (req, res, invocation) => {
    const returned = call(new LightRequest(req, invocation), invocation.context);
    if (returned instanceof Promise || typeof (/** @type {any} */ (returned)?.then) === 'function') {
      return /** @type {Promise<unknown>} */ (returned).then((value) => sendResponse(res, toResponse(value, lenient)));
    }
    return sendResponse(res, toResponse(returned, lenient));
  };
}

/**
 * @param {any} value
 * @param {boolean} lenient
 */
function toResponse(value, lenient) {
  if (isResponse(value)) return value;
  if (!lenient) throw new NotAResponse(`fetch returned ${value === null ? 'null' : typeof value}, not a Response`);
  if (value === undefined || value === null) return new Response(null, { status: 204 });
  if (typeof value === 'string') return new Response(value);
  if (value instanceof Blob || value instanceof ReadableStream) return new Response(value);
  if (value instanceof Uint8Array || value instanceof ArrayBuffer) {
    return new Response(/** @type {ArrayBuffer} */ (value), { headers: { 'content-type': 'application/octet-stream' } });
  }
  return Response.json(value);
}

/**
 * @param {Record<string, any>} exported
 * @param {string[]} methods
 * @returns {Handle}
 */
function methodsHandler(exported, methods) {
  const allowed = new Set(methods);
  if (allowed.has('GET')) allowed.add('HEAD');
  allowed.add('OPTIONS');
  const allow = METHODS.filter((name) => allowed.has(name)).join(', ');
  const handlers = new Map(methods.map((name) => [name, webHandler((request, context) => exported[name](request, context), true)]));
  const get = handlers.get('GET');
  if (get && !handlers.has('HEAD')) handlers.set('HEAD', get);
  return (req, res, invocation) => {
    const handle = handlers.get(req.method ?? '');
    if (handle) return handle(req, res, invocation);
    if (req.method === 'OPTIONS') res.writeHead(204, { allow }).end();
    else
      sendProblem(res, 405, 'method-not-allowed', 'Method not allowed', `The function exports no ${req.method}.`, {
        id: invocation.id,
        headers: { allow },
      });
    return undefined;
  };
}

/**
 * One parameter or none: a Request. Two or more: Node's own pair.
 * @param {Function} main
 * @returns {Handler}
 */
function functionForm(main) {
  if (main.length < 2) return webForm('function', (request, context) => main(request, context), true);
  /** @type {Handle} */
  const handle = (req, res) => {
    const returned = main(req, res);
    return typeof returned?.then === 'function' ? returned : undefined;
  };
  return { form: 'function', handle };
}
