/**
 * What becomes of a request that has come in: it is refused, answered by the platform itself, or passed on for a function. The same
 * for what Node's server has read and for what the fast path has, which leaves everything but functions to the former.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { problem } from '#contract/errors.ts';
import { INVOCATIONS_PATH, WEBHOOKS_PATH } from '#contract/events.ts';
import type { Log } from '#kit/log.ts';
import { type BodyOwner, RequestBody } from './body.ts';
import {
  type ClientConnection,
  closeRequest,
  type ForwardContext,
  isOver,
  MAX_PIPELINED,
  type OpenRequest,
  type Outgoing,
} from './context.ts';
import { isPreflight } from './cors.ts';
import { Acceptance, WebhookCall } from './event-call.ts';
import type { FastRequest } from './fast-request.ts';
import type { FastResponse } from './fast-response.ts';
import { valueOf } from './flat-headers.ts';
import { Exchange } from './forward.ts';
import { HEAD_LIMITS, HOST_PATTERN, type HeadRefusal, readRequestHead, refusal, type RequestHead } from './headers.ts';
import { InvocationRequest } from './invocations.ts';
import { isPlatformPath, isRoot } from './platform.ts';
import { prefersAsync } from './prefer.ts';
import { sendProblem } from './problems.ts';
import { isReserved, type RouteMatch, type RouteMiss, type RouteTable } from './routes.ts';
import { findWebhook } from './webhooks.ts';

export interface IntakeOptions {
  context: ForwardContext;
  /** Pages of the platform itself. */
  platform: (incoming: IncomingMessage, outgoing: Outgoing) => Promise<void>;
  newRequestId: () => string;
  log: Log;
}

const NOBODY: BodyOwner = { answering: true, onCollected: () => {}, onTooLarge: () => {}, onTooSlow: () => {} };

export class Intake {
  readonly #options: IntakeOptions;
  readonly #connectionOf: (socket: Socket) => ClientConnection;

  constructor(options: IntakeOptions, connectionOf: (socket: Socket) => ClientConnection) {
    this.#options = options;
    this.#connectionOf = connectionOf;
  }

  /** Of Node's server. */
  take(incoming: IncomingMessage, outgoing: Outgoing, expectsContinue: boolean): void {
    try {
      this.#handle(incoming, outgoing, expectsContinue);
    } catch (error) {
      this.#tell(error);
      if (outgoing.headersSent) incoming.socket.destroy();
      else this.refuse(incoming, outgoing, refusal('internal', 'the gateway failed on this request', true), this.#options.newRequestId());
    }
  }

  /** Of the fast path: for requests that nothing but a function can answer. Where there is anything to say of one, that is left to `take`. */
  takeFast(connection: ClientConnection, incoming: FastRequest, outgoing: FastResponse, head: RequestHead): boolean {
    const { context, newRequestId } = this.#options;
    const { url } = incoming;
    if (head.prefer !== null || context.draining || !context.routes.ready || isPlatformPath(url)) return false;
    try {
      const match = findFunction(context.routes, url, incoming.method, head);
      if ('code' in match || isReserved(match.rest)) return false;
      const id = head.requestId ?? newRequestId();
      new Exchange({ context, connection, incoming, outgoing, match, head, id, expectsContinue: false }).begin();
    } catch (error) {
      this.#tell(error);
      incoming.socket.destroy();
    }
    return true;
  }

  /** Answers without a function. What is left of the body is read and thrown away, or the connection ends with the answer. */
  refuse(incoming: IncomingMessage, outgoing: Outgoing, { code, detail, close, allow }: HeadRefusal, id: string): void {
    const { context } = this.#options;
    this.#track(incoming, outgoing);
    const unread = hasBody(incoming);
    // Not for one that waits for our 100, nor where the end of the request is in doubt.
    const hold = unread && !close && incoming.headers.expect === undefined;
    const closes = close || unread || context.draining;
    if (closes) this.#connectionOf(incoming.socket).closing = true;
    sendProblem(outgoing, { problem: problem(code, detail), close: closes, allow }, id, hold);
    if (!hold) return;
    incoming.once('end', () => outgoing.end());
    new RequestBody(incoming, NOBODY, context.wheel, { maxBodyBytes: 0, keepBytes: 0 }).discard(context.clock.now());
  }

  #handle(incoming: IncomingMessage, outgoing: Outgoing, expectsContinue: boolean): void {
    const { context, newRequestId } = this.#options;
    const connection = this.#connectionOf(incoming.socket);
    // Its end is settled: what still comes is read by nobody.
    if (connection.closing || isOver(connection)) return;
    if (connection.notUpgraded === incoming) {
      // Half of a request may be lost, and its other half would look like one.
      connection.closing = true;
      outgoing.shouldKeepAlive = false;
    }
    if (connection.open.size >= MAX_PIPELINED) {
      incoming.socket.destroy();
      return;
    }
    const url = incoming.url ?? '';
    const head = checkLine(incoming, url) ?? readRequestHead(incoming.rawHeaders, connection.trusted);
    if ('code' in head) return this.refuse(incoming, outgoing, head, newRequestId());
    const id = head.requestId ?? newRequestId();
    const fault = outgoing.upgrade === null ? null : outgoing.upgrade.fault();
    if (fault !== null) return this.refuse(incoming, outgoing, fault, id);
    const target = checkTarget(incoming, url, head);
    if (typeof target !== 'string') return this.refuse(incoming, outgoing, target, id);
    const asked = { context, connection, incoming, outgoing, head, id };
    if (isPlatformPath(target)) return this.#servePath({ ...asked, target, expectsContinue });
    if (!context.routes.ready) return this.refuse(incoming, outgoing, refusal('not-ready', 'the routes are not known yet'), id);
    const match = findFunction(context.routes, target, incoming.method!, head);
    if ('code' in match) {
      if (isRoot(target) && match.allow === undefined) return this.#servePage(incoming, outgoing, target);
      return this.refuse(incoming, outgoing, { ...refusal(match.code, match.detail), allow: match.allow }, id);
    }
    if (isReserved(match.rest)) return this.refuse(incoming, outgoing, refusal('not-found', 'paths under /.fn/ belong to the runtime'), id);
    const deferred = head.prefer !== null && outgoing.upgrade === null && isDeferred(match, incoming.method!, head);
    if (deferred) new Acceptance({ ...asked, match, expectsContinue }).begin();
    else new Exchange({ ...asked, match, expectsContinue }).begin();
  }

  /** What is under /.fn/: results of invocations, webhooks, and the platform's pages. */
  #servePath({ target, expectsContinue, ...asked }: PlatformRequest): void {
    const { context, incoming, outgoing, head, id } = asked;
    if (target.startsWith(INVOCATIONS_PATH)) {
      new InvocationRequest({ ...asked, target }).begin();
      return;
    }
    const found = target.startsWith(WEBHOOKS_PATH) ? findWebhook(context.routes, target, incoming.method!, head.host) : null;
    if (found === null) return this.#servePage(incoming, outgoing, target);
    if ('code' in found) return this.refuse(incoming, outgoing, { ...refusal(found.code, found.detail), allow: found.allow }, id);
    new WebhookCall({ ...asked, match: found.match, expectsContinue }, found.trigger).begin();
  }

  #servePage(incoming: IncomingMessage, outgoing: Outgoing, target: string): void {
    const { context, platform, log } = this.#options;
    if (context.draining) outgoing.shouldKeepAlive = false;
    this.#track(incoming, outgoing);
    incoming.url = target;
    platform(incoming, outgoing).catch((error: unknown) => {
      log.error({ error: String(error) }, 'a platform page failed');
      incoming.socket.destroy();
    });
  }

  #track(incoming: IncomingMessage, outgoing: Outgoing): void {
    outgoing.watchedBy(new PlainRequest(this.#connectionOf(incoming.socket)));
  }

  #tell(error: unknown): void {
    this.#options.log.error({ error: error instanceof Error ? error.stack : String(error) }, 'a request failed');
  }
}

/** A request for a path of the platform's own. */
interface PlatformRequest {
  context: ForwardContext;
  connection: ClientConnection;
  incoming: IncomingMessage;
  outgoing: Outgoing;
  head: RequestHead;
  id: string;
  /** The path and query that were asked for. */
  target: string;
  expectsContinue: boolean;
}

/** A request that is answered here, without a function: counted as open so that answers stay in order. */
class PlainRequest implements OpenRequest {
  readonly received = true;
  readonly #connection: ClientConnection;

  constructor(connection: ClientConnection) {
    this.#connection = connection;
    connection.open.add(this);
    connection.last = this;
  }

  get answered(): boolean {
    return !this.#connection.open.has(this);
  }

  breakOff(): void {}

  onClose(): void {
    closeRequest(this.#connection, this);
  }
}

/** What is wrong with the request line, if anything. */
function checkLine(incoming: IncomingMessage, url: string): HeadRefusal | null {
  if (incoming.httpVersionMajor !== 1) return refusal('bad-request', `HTTP/${incoming.httpVersion} is not spoken here`, true);
  if (url.length > HEAD_LIMITS.maxUrlBytes) return refusal('uri-too-long', `the URL is over ${HEAD_LIMITS.maxUrlBytes} bytes`, true);
  return null;
}

/** The origin-form of what is asked for: begins with `/`. */
function checkTarget(incoming: IncomingMessage, url: string, head: RequestHead): string | HeadRefusal {
  const { host, chunked } = head;
  const http10 = incoming.httpVersionMinor === 0;
  if (http10 && chunked) return refusal('bad-request', 'Transfer-Encoding in an HTTP/1.0 request', true);
  if (host === null && !http10) return refusal('bad-request', 'no Host header', true);
  if (url.includes('#')) return refusal('bad-request', 'a fragment (#) in the URL');
  if (url.charCodeAt(0) === 47) return url;
  const absolute = /^https?:\/\/([^/?]+)(.*)$/is.exec(url);
  if (absolute === null) return refusal('bad-request', 'the URL is neither a path nor a URL of http');
  if (!HOST_PATTERN.test(absolute[1]!)) return refusal('bad-request', 'the authority of the URL is not HOST or HOST:PORT', true);
  if (host !== null && absolute[1]!.toLowerCase() !== host.toLowerCase())
    return refusal('bad-request', 'the authority of the URL is not the one of Host', true);
  // HTTP/1.0 without Host: the URL names it.
  head.host ??= absolute[1]!;
  const rest = absolute[2]!;
  return rest.startsWith('/') ? rest : `/${rest}`;
}

/** Is it to be answered later? A preflight asks for nothing but itself. */
function isDeferred({ entry }: RouteMatch, method: string, head: RequestHead): boolean {
  if (!entry.route.async || !prefersAsync(head.prefer!)) return false;
  return entry.cors === null || !isPreflight(method, head.forward);
}

/** Whom a request is for. A preflight is for the function that would get the request that it asks about. */
function findFunction(routes: RouteTable, target: string, method: string, head: RequestHead): RouteMatch | RouteMiss {
  if (method === 'OPTIONS' && isPreflight(method, head.forward)) {
    const asked = routes.match(target, valueOf(head.forward, 'access-control-request-method')!, head);
    if ('entry' in asked && asked.entry.cors !== null) return asked;
  }
  return routes.match(target, method, head);
}

function hasBody(incoming: IncomingMessage): boolean {
  const { headers } = incoming;
  return !incoming.complete && (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0);
}
