/**
 * The shim of the node runtime: a generic instance that becomes one function, once and for ever.
 * The protocol is runtime-images/PROTOCOL.md.
 */
import fs from 'node:fs';
import { readJson, sendJson, sendProblem } from './answer.mjs';
import { settleCodeCache, takeCodeCache } from './code-cache.mjs';
import { errorText, mapPositions } from './errors.mjs';
import { DEFAULT_SLOTS } from './forms.mjs';
import { host } from './host.mjs';
import { isInit, sameNonce } from './init-request.mjs';
import { counters, Invocation, storage } from './invocation.mjs';
import { MAX_DRAIN_BODY_BYTES, MAX_HEADER_BYTES, MAX_INIT_BODY_BYTES } from './limits.mjs';
import { captureFatal, load } from './load.mjs';
import { captureOutput, flushLog, log, logLast, openLog, setRewrite } from './logs.mjs';
import { listeningServer, showClientAddress } from './node-server.mjs';
import { BadCode, CodeFolder } from './receive-code.mjs';
import { refuse, ShimResponse } from './shim-response.mjs';
import { endOnSigterm } from './termination.mjs';
import { PRACTICE, practiceHandle, warmUpLater } from './warm-up.mjs';
import { offerUpgrade, tagEvents } from './websocket-upgrade.mjs';

// Not imported: that would have Node make all that it exports, undici among it, which takes 25 ms of CPU.
const http = process.getBuiltinModule('node:http');

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */
/** @typedef {import('./invocation.mjs').FunctionInfo} FunctionInfo */

const instance = process.env.FN_INSTANCE ?? '';
const nonce = process.env.FN_NONCE ?? '';
const { FN_SOCKET: socketPath, FN_PORT: port, FN_CODE: codeFolder } = process.env;
for (const name of ['FN_INSTANCE', 'FN_NONCE', 'FN_SOCKET', 'FN_PORT', 'FN_CODE']) delete process.env[name];
/** A socket is in a folder of its instance alone; an address on a network is used again. */
const overTcp = socketPath === undefined;

/** `loading` and `failed` are told as draining: neither takes requests, and neither is generic any more. */
/** @type {'generic' | 'loading' | 'failed' | 'ready' | 'draining'} */
let state = 'generic';
let slots = 0;
/** @type {FunctionInfo | null} */
let info = null;
/** @type {import('./forms.mjs').Handle} */
let handle = () => undefined;
let requests = 0;
const code = new CodeFolder(codeFolder);

let takesUpgrades = false;

const server = http.createServer({
  ServerResponse: /** @type {any} */ (ShimResponse),
  maxHeaderSize: MAX_HEADER_BYTES,
  // The other end is the gateway, which has limits of its own; ours would cut long streams and idle connections.
  keepAliveTimeout: 0,
  headersTimeout: 0,
  requestTimeout: 0,
  // By GET only: the body of another one would not arrive any more.
  shouldUpgradeCallback: ({ method }) => takesUpgrades && method === 'GET',
});
server.on('request', onRequest);
server.on('checkContinue', (req, res) => {
  const refused = isControl(req) && !misdirected(req) ? null : refusal(req);
  if (refused !== null) return refuse(res, refused);
  res.writeContinue();
  onRequest(req, res);
});
server.on('connection', (socket) => showClientAddress(socket, () => /** @type {any} */ (socket).fnRequest ?? null));

/**
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 */
function onRequest(req, res) {
  if (isControl(req)) return void control(req, res);
  const refused = refusal(req);
  if (refused !== null) return refuse(res, refused);
  const invocation = accept(req, res);
  storage.run(invocation, run, req, res, invocation, handle);
}

/**
 * Takes a slot for it.
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 * @param {FunctionInfo} [known]
 */
function accept(req, res, known = /** @type {FunctionInfo} */ (info)) {
  /** @type {any} */ (req.socket).fnRequest = req;
  const id = header(req, 'x-request-id') || `${instance}-${++requests}`;
  const deadline = Number(header(req, 'fn-deadline')) || Date.now() + known.timeoutMs;
  const invocation = new Invocation(id, deadline, known, onRejected);
  res.on('close', () => invocation.close(res.writableFinished));
  return invocation;
}

/**
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 * @param {Invocation} invocation
 * @param {import('./forms.mjs').Handle} by
 */
function run(req, res, invocation, by) {
  let working;
  try {
    working = by(req, res, invocation);
  } catch (error) {
    onThrown(error, res, invocation);
  }
  if (working === undefined) return invocation.settle();
  working.then(
    () => invocation.settle(),
    (error) => {
      onThrown(error, res, invocation);
      invocation.settle();
    },
  );
}

/**
 * The handler threw: the stack goes to the log, and never to the caller.
 * @param {unknown} error
 * @param {ServerResponse} res
 * @param {Invocation} invocation
 */
function onThrown(error, res, invocation) {
  // The client went away and the handler's reads failed: that is no error of the function.
  const expected = res.destroyed && error instanceof DOMException && error.name === 'AbortError';
  if (!expected) log('error', 'err', errorText(error), invocation.id);
  if (res.headersSent) return void res.destroy();
  for (const name of res.getHeaderNames()) res.removeHeader(name);
  const name = error instanceof Error ? error.name : 'a value that is no Error';
  const detail = `The function threw: ${String(name).slice(0, 100)}. Its log has the rest, under this request's id.`;
  sendProblem(res, 500, 'function-error', 'The function threw an error', detail, { id: invocation.id });
}

/**
 * @param {unknown} error
 * @param {Invocation} invocation
 */
function onRejected(error, invocation) {
  log('error', 'err', `A promise given to waitUntil was rejected: ${errorText(error)}`, invocation.id);
}

/** @param {IncomingMessage} req @param {string} name */
function header(req, name) {
  const value = req.headers[name];
  return typeof value === 'string' ? value : '';
}

/** @param {IncomingMessage} req */
function isControl(req) {
  return req.url?.startsWith('/.fn/') === true;
}

/**
 * Whether another instance is meant. Over TCP each request must say which: it may be for one that had our address before.
 * @param {IncomingMessage} req
 */
function misdirected(req) {
  const meant = req.headers['fn-instance'];
  return meant === undefined ? overTcp : meant !== instance;
}

/**
 * Why this request is not taken, before any user code runs; null where it is.
 * @param {IncomingMessage} req
 */
function refusal(req) {
  if (misdirected(req) || state === 'generic') return 'not-me';
  if (state !== 'ready') return 'draining';
  return counters.inFlight >= slots ? 'full' : null;
}

/**
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 */
async function control(req, res) {
  if (overTcp && misdirected(req)) return refuse(res, 'not-me');
  const route = `${req.method} ${req.url}`;
  try {
    if (route === 'GET /.fn/health') sendJson(res, 200, health());
    else if (route === 'POST /.fn/init') await init(req, res);
    else if (route === 'POST /.fn/code' && code.expected) await receiveCode(req, res);
    else if (route === 'POST /.fn/drain') await drain(req, res);
    else if (route === 'GET /.fn/code-cache') giveCodeCache(req, res);
    else if (!practise(req, res))
      sendProblem(res, 404, 'not-found', 'Not found', 'The shim has health, init and drain, and code where it comes over the network.');
  } catch (error) {
    const status = error instanceof Error && 'status' in error ? Number(error.status) : 500;
    // An init whose code could not be put in place: the platform has changed its mind, and ends the instance.
    if (error instanceof DOMException && error.name === 'AbortError') return void res.destroy();
    if (status === 500) log('error', 'sys', `the shim failed on ${route}: ${errorText(error)}`);
    if (res.headersSent) res.destroy();
    else
      sendProblem(
        res,
        status,
        status === 500 ? 'internal' : 'bad-request',
        'Bad request',
        error instanceof Error ? error.message : 'failed',
      );
  }
}

/**
 * A request of the instance to itself, while it is generic. False where it is none.
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 */
function practise(req, res) {
  const by = state === 'generic' ? practiceHandle(req.url) : null;
  if (by === null) return false;
  const invocation = accept(req, res, PRACTICE);
  storage.run(invocation, run, req, res, invocation, by);
  return true;
}

function health() {
  const status = state === 'generic' || state === 'ready' ? state : 'draining';
  return { status, instance, revision: info?.revision ?? null, inFlight: counters.inFlight, waitUntil: counters.waitUntil };
}

/**
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 */
async function receiveCode(req, res) {
  const forbid = () => sendProblem(res, 403, 'forbidden', 'Not allowed', 'This instance takes no code, or not from you.');
  if (state !== 'generic' || code.phase !== 'none' || !sameNonce(req.headers['fn-nonce'], nonce)) {
    req.resume(); // read and thrown away: were the connection closed, the answer could be lost
    return forbid();
  }
  try {
    // A drain may come in between.
    const received = await code.receive(req, () => state === 'generic');
    if (received === null) return forbid();
    sendJson(res, 200, received);
  } catch (error) {
    if (!(error instanceof BadCode)) throw error;
    if (error.status === 413) sendProblem(res, 413, 'body-too-large', 'Body too large', error.message);
    else sendProblem(res, 422, 'invalid', 'Invalid input', error.message);
  }
}

/**
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 */
async function init(req, res) {
  const forbid = () => sendProblem(res, 403, 'forbidden', 'Not allowed', 'This instance cannot be initialised, or not by you.');
  if (state !== 'generic' || code.phase === 'receiving') return forbid();
  const body = /** @type {Partial<import('./load.mjs').InitRequest> | null} */ (await readJson(req, MAX_INIT_BODY_BYTES));
  // Read again after the await: another init, or code, may have come in between.
  const taken = /** @type {string} */ (state) !== 'generic' || /** @type {string} */ (code.phase) === 'receiving';
  if (taken || !sameNonce(body?.nonce, nonce)) return forbid();
  if (!isInit(body)) return sendProblem(res, 422, 'invalid', 'Invalid input', 'init lacks a field, or one is of the wrong type.');
  state = 'loading';
  const { name, namespace, number, revision, memoryMib, timeoutMs, env } = body;
  info = { name, namespace, number, revision, memoryMib, timeoutMs, instance, env };
  if (memoryMib < body.memoryClassMib) host.growSlowly();
  const started = performance.now();
  const result = await load(body);
  const loadMs = performance.now() - started;
  if ('error' in result) {
    state = 'failed';
    return sendJson(res, 422, { error: result.error });
  }
  handle = result.handler.handle;
  slots = body.slots ?? DEFAULT_SLOTS[result.handler.form];
  passUpgrades(result.handler);
  // A drain, or SIGTERM, may have come while it loaded.
  if (/** @type {string} */ (state) === 'loading') state = 'ready';
  const codeCache = settleCodeCache();
  host.fillDensely();
  sendJson(res, 200, { form: result.handler.form, slots, loadMs, ...(codeCache === null ? {} : { codeCache }) });
}

/**
 * To the platform alone, and once.
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 */
function giveCodeCache(req, res) {
  if (!sameNonce(req.headers['fn-nonce'], nonce))
    return sendProblem(res, 403, 'forbidden', 'Not allowed', 'The code cache is not for you.');
  const body = takeCodeCache();
  if (body === null) return sendProblem(res, 404, 'not-found', 'Not found', 'There is no code cache, or it was fetched.');
  res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': body.length }).end(body);
}

/**
 * Upgrades go to the function where it wants them; they take a slot until the socket closes. Where it
 * wants none the server emits no event, and they are requests like any other.
 * @param {import('./forms.mjs').Handler} handler
 */
function passUpgrades(handler) {
  if (handler.form !== 'server' && handler.web === undefined) return;
  takesUpgrades = true;
  server.on('upgrade', (req, socket, head) => upgrade(handler, req, /** @type {import('node:net').Socket} */ (socket), head));
}

/**
 * @param {import('./forms.mjs').Handler} handler
 * @param {IncomingMessage} req
 * @param {import('node:net').Socket} socket
 * @param {Buffer} head
 */
function upgrade(handler, req, socket, head) {
  // Node's server has let go of it. A client that breaks it is seen by its close.
  socket.on('error', () => socket.destroy());
  const res = responseOn(req, socket);
  if (isControl(req)) return void control(req, res);
  const refused = refusal(req);
  if (refused !== null) return refuse(res, refused);
  const take = takerOf(handler);
  const invocation = accept(req, res);
  tagEvents(socket, invocation);
  socket.on('close', () => invocation.close(true));
  if (take !== null) {
    res.detachSocket(socket);
    invocation.settle();
    storage.run(invocation, take, req, socket, head, invocation);
    return;
  }
  if (isWeb(handler)) offerUpgrade(req, res, socket, head, invocation);
  storage.run(invocation, run, req, res, invocation, handle);
}

/**
 * Whether its requests are the web's, which ctx.upgradeWebSocket can make WebSockets.
 * @param {import('./forms.mjs').Handler} handler
 */
function isWeb({ web }) {
  const chosen = listeningServer();
  return web !== undefined || (chosen !== null && 'web' in chosen);
}

/**
 * A response on a connection that Node's server gave up at an upgrade: the last one on it.
 * @param {IncomingMessage} req
 * @param {import('node:net').Socket} socket
 */
function responseOn(req, socket) {
  const res = new ShimResponse(req);
  res.shouldKeepAlive = false;
  res.assignSocket(socket);
  // What the server does for a response on a connection of its own.
  socket.on('drain', () => res.emit('drain'));
  res.on('finish', () => {
    res.detachSocket(socket);
    socket.destroySoon();
  });
  return res;
}

/**
 * Who takes the connection as it is, with the request unanswered; null: the handler is to answer it.
 * @param {import('./forms.mjs').Handler} handler
 * @returns {((req: IncomingMessage, socket: import('node:net').Socket, head: Buffer, invocation: Invocation) => unknown) | null}
 */
function takerOf({ web }) {
  const chosen = web === undefined ? listeningServer() : null;
  if (chosen === null || !chosen.listening || 'handle' in chosen) return null;
  return chosen.listenerCount('upgrade') > 0 ? (req, socket, head) => chosen.emit('upgrade', req, socket, head) : null;
}

/**
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 */
async function drain(req, res) {
  const body = await readJson(req, MAX_DRAIN_BODY_BYTES);
  if (typeof body !== 'object' || body === null)
    return sendProblem(res, 422, 'invalid', 'Invalid input', 'drain takes {"deadlineMs": number}.');
  state = 'draining';
  res.on('close', onDrained);
  sendJson(res, 200, health());
}

const onDrained = endOnSigterm(
  {
    servesOn: () => overTcp && (state === 'ready' || state === 'loading' || (state === 'generic' && code.phase !== 'none')),
    loading: () => state === 'loading' || code.phase === 'receiving',
    refuses: () => state === 'draining' || state === 'failed',
    refuse: () => {
      state = 'draining';
    },
  },
  overTcp,
);

/** The end by a way that the shim did not choose is told: the platform sees only that the process is gone. @param {number} code */
function onExit(code) {
  if (state === 'ready' || state === 'loading') logLast('warn', 'sys', `the process ends with exit code ${code}`);
  flushLog();
}

function listen() {
  if (socketPath === undefined && port === undefined) {
    fs.writeSync(2, 'fn shim: neither FN_SOCKET nor FN_PORT is set\n');
    process.exit(2);
  }
  server.on('error', (error) => {
    fs.writeSync(2, `fn shim: cannot listen: ${error.message}\n`);
    process.exit(2);
  });
  const address = socketPath === undefined ? { port: Number(port), host: '0.0.0.0' } : { path: socketPath };
  // Whoever connects to it is told apart by the folder it is in. The mode comes with the socket: in a sandbox
  // (gVisor) it can only be made so, not changed.
  const mask = process.umask(0o111);
  server.listen(address, () => warmUpLater({ id: instance, generic: () => state === 'generic', address }));
  process.umask(mask);
}

openLog();
captureOutput();
captureFatal();
setRewrite(mapPositions);
process.on('exit', onExit);
listen();
