/**
 * Events: the handlers that a module has for them, and how a request that is one becomes a call of one. What
 * a request is, its header `fn-event` says, which nobody but the platform can send; `ce-*` headers say nothing by themselves.
 */
import { readBody, sendJson, sendProblem } from './answer.mjs';
import { asJson, MalformedEvent, parseEvents, timeOf } from './cloudevents.mjs';
import { errorText } from './errors.mjs';
import { serverHandle, unwrap } from './forms.mjs';
import { host } from './host.mjs';
import { BadBatchResponse, batchItemFailures, scheduledEvent, sqsEvent } from './lambda-events.mjs';
import { MAX_EVENT_BODY_BYTES } from './limits.mjs';
import { log } from './logs.mjs';
import { listeningServer, serverListens } from './node-server.mjs';
import { MessageBatch } from './queue.mjs';
import { isResponse, sendResponse } from './send.mjs';

/** @typedef {import('node:http').IncomingMessage} IncomingMessage */
/** @typedef {import('node:http').ServerResponse} ServerResponse */
/** @typedef {import('./forms.mjs').Handler} Handler */
/** @typedef {import('./forms.mjs').Handle} Handle */
/** @typedef {import('./invocation.mjs').Invocation} Invocation */
/** @typedef {import('./cloudevents.mjs').CloudEvent} CloudEvent */
/** @typedef {import('./cloudevents.mjs').Received} Received */
/** @typedef {{ batch: boolean, events: Received[] }} Delivery */
/** @typedef {(given: unknown, context: object) => unknown} EventCall */
/** @typedef {'queue' | 'scheduled' | 'event'} EventName */
/** @typedef {Partial<Record<EventName, EventCall>>} EventHandlers */
/** @typedef {(delivery: Delivery, res: ServerResponse, invocation: Invocation) => Promise<void>} Take */
/** @typedef {{ cron: string, scheduledTime: number, timezone: string, id: string, data?: unknown, event: CloudEvent }} ScheduledEvent */

/** @type {readonly EventName[]} */
const NAMES = ['queue', 'scheduled', 'event'];

/**
 * The default export's, else those exported by name.
 * @param {Record<string, any>} module
 * @param {Record<string, string>} env
 * @returns {EventHandlers}
 */
function eventHandlers(module, env) {
  const exported = unwrap(module);
  /** @type {EventHandlers} */
  const found = {};
  for (const name of NAMES) {
    const owner = [exported.default, exported].find((one) => has(one, name));
    if (owner !== undefined) found[name] = (given, context) => begun(name, owner[name](given, env, context));
  }
  return found;
}

/**
 * A generator that nobody asks for its next value has run no line: taken for done, its messages would be lost.
 * @param {string} name
 * @param {any} returned
 */
function begun(name, returned) {
  if (typeof returned?.next === 'function' && (Symbol.iterator in returned || Symbol.asyncIterator in returned))
    throw new TypeError(`${name} is a generator, of which nothing has run; it must be a function`);
  return returned;
}

/** Asked by `in` first: some routers are proxies that have a function for every name. @param {any} owner @param {string} name */
function has(owner, name) {
  return (
    ((typeof owner === 'object' && owner !== null) || typeof owner === 'function') && name in owner && typeof owner[name] === 'function'
  );
}

/**
 * The handler with those for events put before it, where the module has any. null for neither.
 * @param {Record<string, any>} module
 * @param {Record<string, string>} env
 * @param {Handler | null} http
 * @returns {Handler | null}
 */
export function withEvents(module, env, http) {
  const handlers = eventHandlers(module, env);
  const names = Object.keys(handlers);
  if (http === null && names.length === 0) return null;
  const takes = takesOf(handlers, http?.lambda);
  if (takes.size === 0) return http;
  const otherwise = http?.handle ?? withoutHttp(names);
  /** @type {Handle} */
  const handle = (req, res, invocation) => {
    const kind = req.headers['fn-event'];
    const take = kind === undefined ? undefined : takes.get(/** @type {string} */ (kind));
    return take === undefined ? otherwise(req, res, invocation) : deliver(take, req, res, invocation);
  };
  return http === null ? { form: 'events', handle } : { ...http, handle };
}

/**
 * By the value of `fn-event`: the handler made for it, else `event`, else Lambda's one for everything. What is missing,
 * and `invocation`, goes to the handler of HTTP requests.
 * @param {EventHandlers} handlers
 * @param {import('./lambda.mjs').LambdaCall | undefined} lambda
 * @returns {Map<string, Take>}
 */
function takesOf({ queue, scheduled, event }, lambda) {
  /** @type {Map<string, Take>} */
  const takes = new Map();
  if (queue) takes.set('queue', takeQueue(queue));
  else if (event) takes.set('queue', takeEach(event));
  else if (lambda) takes.set('queue', takeRecords(lambda));
  if (scheduled)
    takes.set(
      'schedule',
      takeOne((received, { context }) => scheduled(scheduledOf(received), context)),
    );
  else if (event)
    takes.set(
      'schedule',
      takeOne((received, { context }) => event(received.event, context)),
    );
  else if (lambda)
    takes.set(
      'schedule',
      takeOne((received, invocation) => lambda(scheduledEvent(scheduledOf(received)), invocation)),
    );
  if (event)
    takes.set(
      'event',
      takeOne((received, { context }) => event(received.event, context)),
    );
  else if (lambda)
    takes.set(
      'event',
      takeOne((received, invocation) => lambda(asJson(received), invocation)),
    );
  return takes;
}

/**
 * @param {Take} take
 * @param {IncomingMessage} req
 * @param {ServerResponse} res
 * @param {Invocation} invocation
 */
async function deliver(take, req, res, invocation) {
  const { id } = invocation;
  const body = await readBody(req, MAX_EVENT_BODY_BYTES);
  if (body === null)
    return sendProblem(res, 413, 'body-too-large', 'Body too large', `Events of at most ${MAX_EVENT_BODY_BYTES} bytes are taken.`, { id });
  try {
    await take(parseEvents(req, body), res, invocation);
  } catch (error) {
    if (!(error instanceof MalformedEvent)) throw error;
    sendProblem(res, 400, 'bad-request', 'Bad request', `The event is malformed: ${error.message}.`, { id });
  }
}

/** @param {EventCall} call @returns {Take} */
function takeQueue(call) {
  return async ({ events }, res, invocation) => {
    if (events.length === 0) return sendFailures(res, []);
    const batch = new MessageBatch(events.map(({ event }) => event));
    try {
      await call(batch, invocation.context);
    } catch (error) {
      const failures = MessageBatch.failures(batch, true);
      if (failures === null) throw error;
      // What it acknowledged before it threw is done, and must not come again.
      log('error', 'err', errorText(error), invocation.id);
      return sendFailures(res, failures);
    }
    sendFailures(res, MessageBatch.failures(batch, false) ?? []);
  };
}

/** One after the other, in the order of the batch; one that fails does not hold up the others. @param {EventCall} call @returns {Take} */
function takeEach(call) {
  return async ({ batch, events }, res, invocation) => {
    /** @type {import('./queue.mjs').Failure[]} */
    const failures = [];
    for (const { event } of events) {
      // Nobody would hear of it: all of them come again.
      if (invocation.signal.aborted) return;
      try {
        await call(event, invocation.context);
      } catch (error) {
        if (!batch) throw error;
        log('error', 'err', `event ${event.id}: ${errorText(error)}`, invocation.id);
        failures.push({ itemIdentifier: event.id });
      }
    }
    sendFailures(res, failures);
  };
}

/** @param {import('./lambda.mjs').LambdaCall} lambda @returns {Take} */
function takeRecords(lambda) {
  return async ({ events }, res, invocation) => {
    if (events.length === 0) return sendFailures(res, []);
    const result = await lambda(sqsEvent(events), invocation);
    try {
      sendFailures(res, batchItemFailures(result, events));
    } catch (error) {
      if (!(error instanceof BadBatchResponse)) throw error;
      const detail = `The handler returned what cannot be understood, so that all of the batch counts as failed: ${error.message}.`;
      sendProblem(res, 502, 'function-bad-response', 'The function sent an invalid response', detail, { id: invocation.id });
    }
  };
}

/**
 * What the handler returns is the answer, as JSON; nothing is 204.
 * @param {(received: Received, invocation: Invocation) => unknown} call
 * @returns {Take}
 */
function takeOne(call) {
  return async ({ events }, res, invocation) => {
    const [received] = events;
    if (received === undefined || events.length > 1) throw new MalformedEvent(`one event was expected, and ${events.length} came`);
    const value = await call(received, invocation);
    if (isResponse(value)) return await sendResponse(res, value);
    const text = /** @type {string | undefined} */ (JSON.stringify(value));
    if (text === undefined) return void res.writeHead(204).end();
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
    res.end(text);
  };
}

/** @param {ServerResponse} res @param {import('./queue.mjs').Failure[]} failures */
const sendFailures = (res, failures) => sendJson(res, 200, { batchItemFailures: failures });

/** @param {Received} received @returns {ScheduledEvent} */
function scheduledOf({ event }) {
  const due = Date.parse(String(event.scheduledtime ?? ''));
  return {
    cron: String(event.cron ?? ''),
    scheduledTime: Number.isNaN(due) ? timeOf(event) : due,
    timezone: String(event.timezone ?? 'UTC'),
    id: event.id,
    ...(event.data === undefined ? {} : { data: event.data }),
    event,
  };
}

/**
 * Of a module that exports handlers for events only. A server that it starts somewhat later is used all the same.
 * @param {string[]} names
 * @returns {Handle}
 */
function withoutHttp(names) {
  const loaded = performance.now();
  return async (req, res, invocation) => {
    const left = loaded + host.idleBeforeNoHandlerMs - performance.now();
    if (listeningServer() === null && left > 0) {
      const { setTimeout: sleep } = process.getBuiltinModule('node:timers/promises');
      await Promise.race([serverListens(), sleep(left)]);
    }
    if (listeningServer() !== null) return serverHandle(req, res, invocation);
    const kind = req.headers['fn-event'];
    const what = kind === undefined || kind === 'invocation' ? 'HTTP requests' : `an event of the kind ${String(kind).slice(0, 50)}`;
    const detail = `The function handles events only: it exports ${names.join(', ')}, and nothing that takes ${what}.`;
    sendProblem(res, 404, 'not-found', 'Not found', detail, { id: invocation.id });
    return undefined;
  };
}
