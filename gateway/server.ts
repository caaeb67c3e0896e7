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
import { answerBrokenInput, answerInTurn, cutLater } from './broken-input.ts';
import { plainAddress } from './client-address.ts';
import { type ClientConnection, newConnection, Outgoing } from './context.ts';
import { FastPath, type FastPathOptions } from './fast-connection.ts';
import { HEAD_LIMITS, refusal } from './headers.ts';
import { Intake, type IntakeOptions } from './intake.ts';
import { sendRawProblem } from './problems.ts';
import type { Certificates } from './tls.ts';
import { asksForWebSocket, Upgrade } from './upgrade.ts';

/**
 * Node's own limit for URL and headers together, bytes: above both of ours, so that 414 and 431 can
 * be told apart, and all that a client can make the parser keep before it is refused.
 */
const PARSER_HEADER_BYTES = HEAD_LIMITS.maxHeaderBytes + HEAD_LIMITS.maxUrlBytes + 8 * 1_024;
/** How often slow headers are looked for; adds to headersTimeoutMs, so a dribble ends within 12 s. */
export const CONNECTIONS_CHECK_MS = 1_000;

const FUNCTION_METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS';

export interface ServerOptions extends IntakeOptions {
  trustedProxies: BlockList;
  maxConnections: number;
  keepAliveTimeoutMs: number;
  headersTimeoutMs: number;
  /** TLS with these; without: plain HTTP. */
  certificates?: Certificates | undefined;
}

/** Listens, and knows its connections: those of Node's server, and those of the fast path. */
export interface PublicListener {
  readonly server: PublicServer;
  /** Ends connections on which nothing is being answered. */
  closeIdle(): void;
  closeAll(): void;
}

export type PublicServer = Server<typeof IncomingMessage, typeof Outgoing> | TlsServer<typeof IncomingMessage, typeof Outgoing>;

/** What is known of connections that clients have. */
class Connections {
  readonly #trustedProxies: BlockList;
  readonly #known = new WeakMap<Duplex, ClientConnection>();

  constructor(trustedProxies: BlockList) {
    this.#trustedProxies = trustedProxies;
  }

  /** Null where nothing was asked on it yet. */
  get(socket: Duplex): ClientConnection | null {
    return this.#known.get(socket) ?? null;
  }

  readonly of = (socket: Socket): ClientConnection => {
    let connection = this.#known.get(socket);
    if (connection === undefined) {
      const remote = plainAddress(socket.remoteAddress);
      const trusted = remote !== '' && this.#trustedProxies.check(remote, isIPv6(remote) ? 'ipv6' : 'ipv4');
      connection = newConnection(socket, { remote, trusted, secure: socket instanceof TLSSocket });
      this.#known.set(socket, connection);
    }
    return connection;
  };
}

export function createPublicServer(options: ServerOptions): PublicListener {
  const { certificates, keepAliveTimeoutMs, headersTimeoutMs } = options;
  const connections = new Connections(options.trustedProxies);
  const intake = new Intake(options, connections.of);
  const httpOptions = strictOptions(options, connections);
  const server = certificates === undefined ? createServer(httpOptions) : createTlsServer({ ...httpOptions, ...certificates.options });
  if (certificates !== undefined && 'setSecureContext' in server) certificates.serve(server);
  // Node would drop headers beyond its limit in silence, and a check would miss what it dropped.
  server.maxHeadersCount = 0;
  server.maxConnections = options.maxConnections;
  listen(server, intake, connections, options.newRequestId);
  const fast = takeFirst(server, certificates === undefined ? 'connection' : 'secureConnection', {
    connectionOf: connections.of,
    serve: (connection, incoming, outgoing, head) => intake.takeFast(connection, incoming, outgoing, head),
    keepAliveTimeoutMs,
    headersTimeoutMs,
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

function strictOptions(
  { headersTimeoutMs, keepAliveTimeoutMs }: ServerOptions,
  connections: Connections,
): HttpOptions<typeof IncomingMessage, typeof Outgoing> {
  return {
    IncomingMessage,
    ServerResponse: Outgoing,
    maxHeaderSize: PARSER_HEADER_BYTES,
    headersTimeout: headersTimeoutMs,
    // Bodies have a pace to keep (body.ts), and no time to be over by.
    requestTimeout: 0,
    keepAliveTimeout: keepAliveTimeoutMs,
    connectionsCheckingInterval: CONNECTIONS_CHECK_MS,
    // Checked by hand: Node would answer without a word.
    requireHostHeader: false,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
    shouldUpgradeCallback: (incoming) => {
      const connection = connections.of(incoming.socket);
      const taken = asksForWebSocket(incoming) && connection.open.size === 0;
      if (!taken) connection.notUpgraded = incoming;
      return taken;
    },
  };
}

/** To all that Node's server tells of. */
function listen(server: PublicServer, intake: Intake, connections: Connections, newRequestId: () => string): void {
  server.on('request', (incoming, outgoing) => intake.take(incoming, outgoing, false));
  server.on('upgrade', (incoming, socket, head) => intake.take(incoming, new Upgrade(incoming, socket, head).outgoing, false));
  server.on('checkContinue', (incoming, outgoing) => intake.take(incoming, outgoing, true));
  server.on('checkExpectation', (incoming, outgoing) =>
    intake.refuse(
      incoming,
      outgoing,
      refusal('expectation-failed', 'the only expectation known here is 100-continue', true),
      newRequestId(),
    ),
  );
  server.on('connect', (_incoming, socket: Socket) => {
    // Node's server has let go of the connection: a reset of it is an error that nobody else listens for.
    socket.on('error', () => socket.destroy());
    socket.resume();
    const connection = connections.get(socket);
    if (connection?.closing === true) return;
    answerInTurn(connection, () => {
      sendRawProblem(socket, 'method-not-allowed', 'this is no proxy for CONNECT', newRequestId(), FUNCTION_METHODS);
      cutLater(socket);
    });
  });
  server.on('clientError', (error: NodeJS.ErrnoException & { rawPacket?: Buffer }, socket: Socket) => {
    answerBrokenInput(error, socket, connections.get(socket), newRequestId());
  });
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
