/** The `lambda` form: API Gateway's HTTP payload, version 2.0, and what a handler may answer to it. */
import { isUtf8 } from 'node:buffer';
import { readBody, sendProblem } from './answer.mjs';
import { MAX_LAMBDA_BODY_BYTES } from './limits.mjs';
import { isHiddenHeader, isPlatformHeader, requestUrl } from './web-request.mjs';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */
/** @typedef {import('./invocation.mjs').Invocation} Invocation */

const TEXT_TYPE =
  /^(?:text\/|application\/(?:json|xml|javascript|ecmascript|x-www-form-urlencoded|graphql|x-ndjson)\b|[^;]+\+(?:json|xml)\b)/i;
const NOT_SENT = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'upgrade']);

/** @typedef {(payload: object, invocation: Invocation) => Promise<unknown>} LambdaCall */

/**
 * @param {Function} handler
 * @param {object} owner `this` of the handler
 * @returns {LambdaCall}
 */
export function lambdaCall(handler, owner) {
  return (payload, invocation) => call(handler, owner, payload, invocation);
}

/**
 * @param {LambdaCall} lambda
 * @returns {(req: IncomingMessage, res: ServerResponse, invocation: Invocation) => Promise<void>}
 */
export function lambdaHandler(lambda) {
  return async (req, res, invocation) => {
    const body = await readBody(req, MAX_LAMBDA_BODY_BYTES);
    if (body === null) {
      // What still comes is read and thrown away: were the connection closed, the answer could be lost.
      return sendProblem(res, 413, 'body-too-large', 'Body too large', `The Lambda form takes at most ${MAX_LAMBDA_BODY_BYTES} bytes.`, {
        id: invocation.id,
      });
    }
    const result = await lambda(event(req, body, invocation), invocation);
    sendResult(res, result, invocation);
  };
}

/**
 * @param {Function} handler
 * @param {object} owner
 * @param {object} payload
 * @param {Invocation} invocation
 * @returns {Promise<unknown>}
 */
function call(handler, owner, payload, invocation) {
  return new Promise((resolve, reject) => {
    /** @param {unknown} error @param {unknown} [result] */
    const done = (error, result) => (error === null || error === undefined ? resolve(result) : reject(error));
    const returned = handler.call(owner, payload, context(invocation, done), done);
    if (typeof returned?.then === 'function') resolve(returned);
    else if (returned !== undefined || !answersLater(handler)) resolve(returned);
  });
}

/** Whether a handler that returned nothing has a callback to answer by. @param {Function} handler */
function answersLater(handler) {
  return handler.length >= 3 || /\.\s*(?:succeed|fail|done)\s*\(/.test(Function.prototype.toString.call(handler));
}

/**
 * @param {IncomingMessage} req
 * @param {Buffer} body
 * @param {Invocation} invocation
 */
function event(req, body, invocation) {
  const target = req.url ?? '/';
  const mark = target.indexOf('?');
  const rawPath = mark < 0 ? target : target.slice(0, mark);
  const rawQueryString = mark < 0 ? '' : target.slice(mark + 1);
  const headers = eventHeaders(req);
  const cookies = req.headers.cookie?.split(/;\s*/).filter(Boolean);
  const query = queryParameters(rawQueryString);
  const domainName = new URL(requestUrl(req)).host;
  const now = new Date();
  const binary = body.length > 0 && !(TEXT_TYPE.test(req.headers['content-type'] ?? 'text/plain') && isUtf8(body));
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath,
    rawQueryString,
    ...(cookies && cookies.length > 0 ? { cookies } : {}),
    headers,
    ...(query ? { queryStringParameters: query } : {}),
    requestContext: {
      accountId: 'anonymous',
      apiId: invocation.info.name,
      domainName,
      domainPrefix: domainName.split('.')[0],
      http: {
        method: req.method,
        path: rawPath,
        protocol: `HTTP/${req.httpVersion}`,
        sourceIp: req.socket.remoteAddress ?? '127.0.0.1',
        userAgent: req.headers['user-agent'] ?? '',
      },
      requestId: invocation.id,
      routeKey: '$default',
      stage: '$default',
      time: accessTime(now),
      timeEpoch: now.getTime(),
    },
    ...(body.length > 0 ? { body: body.toString(binary ? 'base64' : 'utf8') } : {}),
    isBase64Encoded: binary,
  };
}

/** Lower case, repeated ones joined by commas. @param {IncomingMessage} req */
function eventHeaders(req) {
  /** @type {Record<string, string>} */
  const headers = {};
  const raw = req.rawHeaders;
  for (let i = 0; i < raw.length; i += 2) {
    const name = /** @type {string} */ (raw[i]).toLowerCase();
    const value = /** @type {string} */ (raw[i + 1]);
    if (!isHiddenHeader(name)) put(headers, name, Object.hasOwn(headers, name) ? `${headers[name]},${value}` : value);
  }
  return headers;
}

/** @param {string} query */
function queryParameters(query) {
  if (query === '') return undefined;
  /** @type {Record<string, string>} */
  const parameters = {};
  for (const [name, value] of new URLSearchParams(query)) {
    put(parameters, name, Object.hasOwn(parameters, name) ? `${parameters[name]},${value}` : value);
  }
  return parameters;
}

/** Also `__proto__` is but a name here. @param {Record<string, string>} object @param {string} name @param {string} value */
function put(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** `12/Mar/2020:19:03:58 +0000` @param {Date} date */
function accessTime(date) {
  const day = String(date.getUTCDate()).padStart(2, '0');
  return `${day}/${MONTHS[date.getUTCMonth()]}/${date.getUTCFullYear()}:${date.toISOString().slice(11, 19)} +0000`;
}

/**
 * @param {Invocation} invocation
 * @param {(error: unknown, result?: unknown) => void} done
 */
function context(invocation, done) {
  const { id, info } = invocation;
  return {
    callbackWaitsForEmptyEventLoop: true,
    awsRequestId: id,
    functionName: info.name,
    functionVersion: String(info.number),
    invokedFunctionArn: `arn:aws:lambda:local:000000000000:function:${info.namespace}-${info.name}:${info.number}`,
    memoryLimitInMB: String(info.memoryMib),
    logGroupName: `/aws/lambda/${info.name}`,
    logStreamName: info.instance,
    identity: undefined,
    clientContext: undefined,
    getRemainingTimeInMillis: () => Math.max(0, invocation.deadline - Date.now()),
    done,
    fail: (/** @type {unknown} */ error) => done(error ?? new Error('context.fail() was called without an error')),
    succeed: (/** @type {unknown} */ result) => done(null, result),
    // Of this platform, beside what AWS has.
    waitUntil: invocation.context.waitUntil,
  };
}

/**
 * @param {ServerResponse} res
 * @param {any} result
 * @param {Invocation} invocation
 */
function sendResult(res, result, invocation) {
  if (typeof result !== 'object' || result === null || result.statusCode === undefined) {
    // Anything without a status is the body of a 200, as API Gateway has it.
    const text = typeof result === 'string' ? result : (JSON.stringify(result) ?? 'null');
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
    res.end(text);
    return;
  }
  const status = Number(result.statusCode);
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    const detail = `The handler returned statusCode ${JSON.stringify(result.statusCode)}; it must be a number from 200 to 599.`;
    return sendProblem(res, 502, 'function-bad-response', 'The function sent an invalid response', detail, { id: invocation.id });
  }
  const given = result.body ?? '';
  const text = typeof given === 'string' ? given : JSON.stringify(given);
  const body = result.isBase64Encoded === true ? Buffer.from(text, 'base64') : Buffer.from(text);
  const headers = resultHeaders(result);
  if (body.length > 0 && !headers.some((value, index) => index % 2 === 0 && value === 'content-type'))
    headers.push('content-type', 'text/plain; charset=utf-8');
  const bodiless = status === 204 || status === 304;
  if (!bodiless) headers.push('content-length', String(body.length));
  res.writeHead(status, headers);
  res.end(bodiless ? undefined : body);
}

/** @param {any} result */
function resultHeaders(result) {
  /** @type {string[]} */
  const flat = [];
  const multi = result.multiValueHeaders ?? {};
  const multiNames = new Set(Object.keys(multi).map((name) => name.toLowerCase()));
  for (const [key, value] of Object.entries(result.headers ?? {})) {
    const name = key.toLowerCase();
    if (!NOT_SENT.has(name) && !isPlatformHeader(name) && !multiNames.has(name) && value !== undefined && value !== null)
      flat.push(name, String(value));
  }
  for (const [key, values] of Object.entries(multi)) {
    const name = key.toLowerCase();
    if (NOT_SENT.has(name) || isPlatformHeader(name)) continue;
    for (const value of Array.isArray(values) ? values : [values]) flat.push(name, String(value));
  }
  for (const cookie of result.cookies ?? []) flat.push('set-cookie', String(cookie));
  return flat;
}
