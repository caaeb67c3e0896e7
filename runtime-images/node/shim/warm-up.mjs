/**
 * What the first init and the first requests would pay is paid while the instance waits in the pool: undici is loaded for
 * Request and Response, the loader of modules has loaded one, and the whole way of a request has been gone, over the
 * instance's own socket. In steps, so that an init that comes meanwhile waits for one of them only.
 */
import net from 'node:net';
import { webHandler } from './forms.mjs';
import { rehearse } from './load.mjs';
import { PRACTICE_CONVERSATIONS, PRACTICE_REQUESTS, WARM_UP_AFTER_MS } from './limits.mjs';
import { lambdaCall, lambdaHandler } from './lambda.mjs';
import { makeWebGlobals } from './web.mjs';

/** @typedef {import('./forms.mjs').Handle} Handle */
/** @typedef {import('./invocation.mjs').FunctionInfo} FunctionInfo */

/** Built-in modules that functions import most: each costs a millisecond to make importable, http 25 with undici. */
const IMPORTED = [
  'http',
  'https',
  'fs',
  'path',
  'crypto',
  'stream',
  'url',
  'util',
  'events',
  'buffer',
  'os',
  'zlib',
  'async_hooks',
  'module',
];
/** Longest that the instance talks to itself, ms. */
const CONVERSATION_TIMEOUT_MS = 2_000;

/** What the practice requests are told to belong to: nobody. @type {FunctionInfo} */
export const PRACTICE = { name: '', namespace: '', number: 0, revision: '', memoryMib: 0, timeoutMs: 1_000, instance: '', env: {} };

/** What only the instance itself knows: a request below it is practice. */
const path = `/.fn/practice/${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}/`;

/** @type {Record<string, () => Handle>} */
const MAKE = {
  text: () => webHandler((request) => new Response(`${request.method} ${new URL(request.url).pathname}`), true),
  json: () => webHandler(async (request) => Response.json({ got: await request.json(), type: request.headers.get('content-type') }), true),
  node: () => (_req, res) => void res.setHeader('content-type', 'text/plain').end('practice'),
  lambda: () => lambdaHandler(lambdaCall(async () => ({ statusCode: 200, headers: { 'x-practice': '1' }, body: 'practice' }), {})),
};

/** @type {Map<string, Handle>} */
const handles = new Map();

/**
 * The handler of a practice request; null where it is none.
 * @param {string | undefined} url
 * @returns {Handle | null}
 */
export function practiceHandle(url) {
  return url?.startsWith(path) === true ? (handles.get(url.slice(path.length)) ?? null) : null;
}

/**
 * @param {object} instance
 * @param {string} instance.id
 * @param {() => boolean} instance.generic whether it is still: then it goes on
 * @param {{ path: string } | { port: number, host: string }} instance.address
 */
export function warmUpLater(instance) {
  setTimeout(() => {
    // Nobody waits for it, and what it does not reach the first request pays.
    void warmUp(instance);
  }, WARM_UP_AFTER_MS).unref();
}

/** @param {Parameters<typeof warmUpLater>[0]} instance */
async function warmUp(instance) {
  for (const step of steps(instance)) {
    if (!instance.generic()) break;
    try {
      await step();
    } catch {
      // Under --permission some of it is not allowed; the function will meet that by itself, if at all.
    }
    // Whoever has something to say is heard between two steps.
    await new Promise((resolve) => setImmediate(resolve));
  }
  handles.clear();
}

/**
 * @param {Parameters<typeof warmUpLater>[0]} instance
 * @returns {Generator<() => unknown>}
 */
function* steps({ id, address }) {
  yield makeWebGlobals;
  for (const name of IMPORTED) yield () => import(`node:${name}`);
  yield rehearse;
  // What init does when the code is there.
  yield () => process.getBuiltinModule('node:v8');
  yield () => {
    for (const [name, make] of Object.entries(MAKE)) handles.set(name, make());
  };
  for (let round = 0; round < PRACTICE_CONVERSATIONS; round++) yield () => converse(address, conversation(id));
  // As an init comes: refused for its nonce, at the end of all that is read of it.
  yield () => converse(address, [request(id, 'POST', '/.fn/init', JSON.stringify({ nonce: '' }), true)]);
}

/** @param {string} id */
function conversation(id) {
  const all = [];
  for (let i = 0; i < PRACTICE_REQUESTS; i++) {
    const last = i === PRACTICE_REQUESTS - 1;
    all.push(request(id, 'GET', `${path}lambda`, ''), request(id, 'POST', `${path}json`, '{"practice":true}'));
    all.push(request(id, 'GET', `${path}node`, ''), request(id, 'GET', `${path}text`, '', last));
  }
  return all;
}

/**
 * As the gateway sends them.
 * @param {string} id
 * @param {string} method
 * @param {string} target
 * @param {string} body
 * @param {boolean} [last] on its connection
 */
function request(id, method, target, body, last = false) {
  const length = method === 'POST' ? `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` : '';
  const headers =
    `host: practice\r\nuser-agent: practice\r\naccept: */*\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: practice\r\n` +
    `x-request-id: practice\r\nfn-instance: ${id}\r\nfn-deadline: ${Date.now() + CONVERSATION_TIMEOUT_MS}\r\n${length}`;
  return `${method} ${target} HTTP/1.1\r\n${headers}connection: ${last ? 'close' : 'keep-alive'}\r\n\r\n${body}`;
}

/**
 * One after the other on one connection; resolves when it is closed.
 * @param {{ path: string } | { port: number, host: string }} address
 * @param {string[]} requests
 */
function converse(address, requests) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(/** @type {any} */ (address));
    socket.setTimeout(CONVERSATION_TIMEOUT_MS, () => socket.destroy());
    socket.on('error', reject);
    socket.on('close', resolve);
    let sent = 0;
    const next = () => {
      if (sent < requests.length) socket.write(/** @type {string} */ (requests[sent++]));
    };
    // Answers are short: each comes in one piece, as a rule. One that does not has the next request sent early, which does no harm.
    socket.on('data', next);
    socket.on('connect', next);
  });
}
