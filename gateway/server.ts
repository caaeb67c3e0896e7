/**
 * The public listener: Node's HTTP server, made strict. Whatever two programs could read in two ways
 * is refused here, before anything is routed; the connection is closed where its framing is in doubt.
 */
import { createServer, IncomingMessage, type Server, type ServerOptions as HttpOptions } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { BlockList, Socket } from 'node:net';
import { isIPv6 } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { problem } from '#contract/errors.ts';
import { INVOCATIONS_PATH, WEBHOOKS_PATH } from '#contract/events.ts';
import type { Log } from '#kit/log.ts';
import { type BodyOwner, RequestBody } from './body.ts';
import { answerBrokenInput, answerInTurn, cutLater } from './broken-input.ts';
import { plainAddress } from './client-address.ts';
import {
  type ClientConnection,
  closeRequest,
  type ForwardContext,
  isOver,
  MAX_PIPELINED,
  newConnection,
  type OpenRequest,
  Outgoing,
} from './context.ts';
import { Acceptance, WebhookCall } from './event-call.ts';
import { Exchange } from './forward.ts';
import { valueOf } from './flat-headers.ts';
import { FastPath, type FastPathOptions } from './fast-connection.ts';
import type { FastRequest } from './fast-request.ts';
import type { FastResponse } from './fast-response.ts';
import { HEAD_LIMITS, HOST_PATTERN, type HeadRefusal, readRequestHead, refusal, type RequestHead } from './headers.ts';
import { isPreflight } from './cors.ts';
import { InvocationRequest } from './invocations.ts';
import { isPlatformPath, isRoot } from './platform.ts';
import { prefersAsync } from './prefer.ts';
import { sendProblem, sendRawProblem } from './problems.ts';
import { isReserved, type RouteMatch, type RouteMiss, type RouteTable } from './routes.ts';
import type { Certificates } from './tls.ts';
import { findWebhook } from './webhooks.ts';
import { asksForWebSocket, Upgrade } from './upgrade.ts';

/**
 * Node's own limit for URL and headers together, bytes: above both of ours, so that 414 and 431 can
 * be told apart, and all that a client can make the parser keep before it is refused.
 */
const PARSER_HEADER_BYTES = HEAD_LIMITS.maxHeaderBytes + HEAD_LIMITS.maxUrlBytes + 8 * 1_024;
/** How often slow headers are looked for; adds to headersTimeoutMs, so a dribble ends within 12 s. */
export const CONNECTIONS_CHECK_MS = 1_000;

const FUNCTION_METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS';

export interface ServerOptions {
  context: ForwardContext;
  platform: (incoming: IncomingMessage, outgoing: Outgoing) => Promise<void>;
  newRequestId: () => string;
  trustedProxies: BlockList;
  maxConnections: number;
  keepAliveTimeoutMs: number;
  headersTimeoutMs: number;
  /** TLS with these; without: plain HTTP. */
  certificates?: Certificates | undefined;
  log: Log;
}

/** Listens, and knows its connections: those of Node's server, and those of the fast path. */
export interface PublicListener {
  readonly server: PublicServer;
  /** Ends connections on which nothing is being answered. */
  closeIdle(): void;
  closeAll(): void;
}

export type PublicServer = Server<typeof IncomingMessage, typeof Outgoing> | TlsServer<typeof IncomingMessage, typeof Outgoing>;

const NOBODY: BodyOwner = { answering: true, onCollected: () => {}, onTooLarge: () => {}, onTooSlow: () => {} };

export function createPublicServer(options: ServerOptions): PublicListener {
  const { context, log, newRequestId } = options;
  const connections = new WeakMap<Duplex, ClientConnection>();
  const connectionOf = (socket: Socket): ClientConnection => {
    let connection = connections.get(socket);
    if (connection === undefined) {
      const remote = plainAddress(socket.remoteAddress);
      const trusted = remote !== '' && options.trustedProxies.check(remote, isIPv6(remote) ? 'ipv6' : 'ipv4');
      connection = newConnection(socket, { remote, trusted, secure: socket instanceof TLSSocket });
      connections.set(socket, connection);
    }
    return connection;
  };

  const track = (incoming: IncomingMessage, outgoing: Outgoing): void => {
    const connection = connectionOf(incoming.socket);
    outgoing.watchedBy(new PlainRequest(connection));
  };

  const refuse = (incoming: IncomingMessage, outgoing: Outgoing, { code, detail, close, allow }: HeadRefusal, id: string): void => {
    track(incoming, outgoing);
    const unread = hasBody(incoming);
    // Not for one that waits for our 100, nor where the end of the request is in doubt.
    const hold = unread && !close && incoming.headers.expect === undefined;
    const closes = close || unread || context.draining;
    if (closes) connectionOf(incoming.socket).closing = true;
    sendProblem(outgoing, { problem: problem(code, detail), close: closes, allow }, id, hold);
    if (!hold) return;
    incoming.once('end', () => outgoing.end());
    new RequestBody(incoming, NOBODY, context.wheel, { maxBodyBytes: 0, keepBytes: 0 }).discard(context.clock.now());
  };

  const servePlatform = (incoming: IncomingMessage, outgoing: Outgoing, target: string): void => {
    if (context.draining) outgoing.shouldKeepAlive = false;
    track(incoming, outgoing);
    incoming.url = target;
    options.platform(incoming, outgoing).catch((error: unknown) => {
      log.error({ error: String(error) }, 'a platform page failed');
      incoming.socket.destroy();
    });
  };

  const handle = (incoming: IncomingMessage, outgoing: Outgoing, expectsContinue: boolean): void => {
    const connection = connectionOf(incoming.socket);
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
    if ('code' in head) return refuse(incoming, outgoing, head, newRequestId());
    const id = head.requestId ?? newRequestId();
    const fault = outgoing.upgrade === null ? null : outgoing.upgrade.fault();
    if (fault !== null) return refuse(incoming, outgoing, fault, id);
    const target = checkTarget(incoming, url, head);
    if (typeof target !== 'string') return refuse(incoming, outgoing, target, id);
    if (isPlatformPath(target)) {
      if (target.startsWith(INVOCATIONS_PATH)) {
        new InvocationRequest({ context, connection, incoming, outgoing, head, id, target }).begin();
        return;
      }
      const found = target.startsWith(WEBHOOKS_PATH) ? findWebhook(context.routes, target, incoming.method!, head.host) : null;
      if (found === null) return servePlatform(incoming, outgoing, target);
      if ('code' in found) return refuse(incoming, outgoing, { ...refusal(found.code, found.detail), allow: found.allow }, id);
      new WebhookCall({ context, connection, incoming, outgoing, match: found.match, head, id, expectsContinue }, found.trigger).begin();
      return;
    }
    if (!context.routes.ready) return refuse(incoming, outgoing, refusal('not-ready', 'the routes are not known yet'), id);
    const match = findFunction(context.routes, target, incoming.method!, head);
    if ('code' in match) {
      if (isRoot(target) && match.allow === undefined) return servePlatform(incoming, outgoing, target);
      return refuse(incoming, outgoing, { ...refusal(match.code, match.detail), allow: match.allow }, id);
    }
    if (isReserved(match.rest)) return refuse(incoming, outgoing, refusal('not-found', 'paths under /.fn/ belong to the runtime'), id);
    const asked = { context, connection, incoming, outgoing, match, head, id, expectsContinue };
    if (head.prefer !== null && outgoing.upgrade === null && isDeferred(match, incoming.method!, head)) new Acceptance(asked).begin();
    else new Exchange(asked).begin();
  };

  /** As `handle`, for requests that nothing but a function can answer; where there is anything to say of one, that is left to `handle`. */
  const serveFast = (connection: ClientConnection, incoming: FastRequest, outgoing: FastResponse, head: RequestHead): boolean => {
    const { url } = incoming;
    if (head.prefer !== null || context.draining || !context.routes.ready || isPlatformPath(url)) return false;
    try {
      const match = findFunction(context.routes, url, incoming.method, head);
      if ('code' in match || isReserved(match.rest)) return false;
      const id = head.requestId ?? newRequestId();
      new Exchange({ context, connection, incoming, outgoing, match, head, id, expectsContinue: false }).begin();
    } catch (error) {
      log.error({ error: error instanceof Error ? error.stack : String(error) }, 'a request failed');
      incoming.socket.destroy();
    }
    return true;
  };

  const safely = (incoming: IncomingMessage, outgoing: Outgoing, expectsContinue: boolean): void => {
    try {
      handle(incoming, outgoing, expectsContinue);
    } catch (error) {
      log.error({ error: error instanceof Error ? error.stack : String(error) }, 'a request failed');
      if (outgoing.headersSent) incoming.socket.destroy();
      else refuse(incoming, outgoing, refusal('internal', 'the gateway failed on this request', true), newRequestId());
    }
  };

  const httpOptions: HttpOptions<typeof IncomingMessage, typeof Outgoing> = {
    IncomingMessage,
    ServerResponse: Outgoing,
    maxHeaderSize: PARSER_HEADER_BYTES,
    headersTimeout: options.headersTimeoutMs,
    // Bodies have a pace to keep (body.ts), and no time to be over by.
    requestTimeout: 0,
    keepAliveTimeout: options.keepAliveTimeoutMs,
    connectionsCheckingInterval: CONNECTIONS_CHECK_MS,
    // Checked by hand: Node would answer without a word.
    requireHostHeader: false,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
    shouldUpgradeCallback: (incoming) => {
      const connection = connectionOf(incoming.socket);
      const taken = asksForWebSocket(incoming) && connection.open.size === 0;
      if (!taken) connection.notUpgraded = incoming;
      return taken;
    },
  };
  const { certificates } = options;
  const server = certificates === undefined ? createServer(httpOptions) : createTlsServer({ ...httpOptions, ...certificates.options });
  if (certificates !== undefined && 'setSecureContext' in server) certificates.serve(server);
  server.on('request', (incoming, outgoing) => safely(incoming, outgoing, false));
  server.on('upgrade', (incoming, socket, head) => safely(incoming, new Upgrade(incoming, socket, head).outgoing, false));
  // Node would drop headers beyond its limit in silence, and a check would miss what it dropped.
  server.maxHeadersCount = 0;
  server.maxConnections = options.maxConnections;
  server.on('checkContinue', (incoming, outgoing) => safely(incoming, outgoing, true));
  server.on('checkExpectation', (incoming, outgoing) =>
    refuse(incoming, outgoing, refusal('expectation-failed', 'the only expectation known here is 100-continue', true), newRequestId()),
  );
  server.on('connect', (_incoming, socket: Socket) => {
    // Node's server has let go of the connection: a reset of it is an error that nobody else listens for.
    socket.on('error', () => socket.destroy());
    socket.resume();
    const connection = connections.get(socket) ?? null;
    if (connection?.closing === true) return;
    answerInTurn(connection, () => {
      sendRawProblem(socket, 'method-not-allowed', 'this is no proxy for CONNECT', newRequestId(), FUNCTION_METHODS);
      cutLater(socket);
    });
  });
  server.on('clientError', (error: NodeJS.ErrnoException & { rawPacket?: Buffer }, socket: Socket) => {
    answerBrokenInput(error, socket, connections.get(socket) ?? null, newRequestId());
  });
  const fast = takeFirst(server, certificates === undefined ? 'connection' : 'secureConnection', {
    connectionOf,
    serve: serveFast,
    keepAliveTimeoutMs: options.keepAliveTimeoutMs,
    headersTimeoutMs: options.headersTimeoutMs,
  });
  return {
    server,
    closeIdle: () => {
      server.closeIdleConnections();
      fast.closeIdle();
    },
    closeAll: () => {
      server.closeAllConnections();
      fast.closeAll();
    },
  };
}

/** Puts the fast path before Node's own handling of connections. */
function takeFirst(server: PublicServer, event: 'connection' | 'secureConnection', options: Omit<FastPathOptions, 'handOver'>): FastPath {
  const own = server.listeners(event);
  server.removeAllListeners(event);
  const handOver = (socket: Socket): void => {
    for (const listener of own) listener.call(server, socket);
  };
  const fast = new FastPath({ ...options, handOver });
  server.on(event, (socket: Socket) => fast.take(socket));
  return fast;
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
