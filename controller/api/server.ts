/** A listener for the control API: on a unix socket, or on TCP. Limits, framing, and errors that Node would answer with nothing. */
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { createServer, IncomingMessage, ServerResponse, STATUS_CODES, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import { type ErrorCode, FnError } from '#contract/errors.ts';
import { requestIds } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import type { Api } from './app.ts';
import type { Transport } from './env.ts';
import { preflight, REQUEST_LIMITS, type RequestLimits } from './preflight.ts';
import { problemAnswer } from './problems.ts';
import { prepareSocketPath } from './socket.ts';

export interface ServerLimits extends RequestLimits {
  /** From the first byte of a request to the last of its headers, ms. */
  headersTimeoutMs: number;
  /** How often that is looked at, ms. */
  checkIntervalMs: number;
  /** From the first byte of a request to the last of its body, ms; bodies have tighter limits of their own. */
  requestTimeoutMs: number;
  keepAliveTimeoutMs: number;
  maxConnections: number;
  /** How long close() waits for requests in flight, ms. */
  closeDeadlineMs: number;
}

export const SERVER_LIMITS: ServerLimits = {
  ...REQUEST_LIMITS,
  headersTimeoutMs: 10_000,
  checkIntervalMs: 1_000,
  requestTimeoutMs: 30 * 60_000,
  keepAliveTimeoutMs: 5_000,
  maxConnections: 256,
  closeDeadlineMs: 5_000,
};

/** More than our own limits, so that it is we who answer, with the status that fits. Bytes. */
const PARSER_HEADER_BYTES = 32 * 1024;

export type Listen = { path: string } | { host: string; port: number };

export interface ApiServerOptions {
  app: Api;
  /** Port 0 takes a free one. */
  listen: Listen;
  log: Log;
  limits?: ServerLimits;
}

export interface ApiServer {
  /** `http://HOST:PORT`, or `unix:PATH`. */
  readonly url: string;
  /** Takes no more, ends streams, waits for what is in flight up to the deadline. Idempotent. */
  close(): Promise<void>;
}

/** Listens. Throws where the socket or port is in use. Over TCP a token is asked for: see createApi. */
export async function startApiServer({ app, listen, log, limits = SERVER_LIMITS }: ApiServerOptions): Promise<ApiServer> {
  const nextId = requestIds();
  const closing = new AbortController();
  const server = buildServer(app, 'path' in listen ? 'unix' : 'tcp', { closing: closing.signal, nextId, limits, log });
  if ('path' in listen) await prepareSocketPath(listen.path);
  server.listen(listen);
  await once(server, 'listening');
  if ('path' in listen) await chmod(listen.path, 0o600);
  server.on('error', (error) => log.error({ err: error.stack }, 'the control API failed'));
  const url = serverUrl(server, listen);
  log.info({ url }, 'control API listens');

  let closed: Promise<void> | undefined;
  return {
    url,
    close() {
      closed ??= closeServer(server, closing, limits.closeDeadlineMs);
      return closed;
    },
  };
}

interface ServerParts {
  closing: AbortSignal;
  nextId: () => string;
  limits: ServerLimits;
  log: Log;
}

function buildServer(app: Api, transport: Transport, { closing, nextId, limits, log }: ServerParts): Server {
  const listener = getRequestListener(
    (request, { incoming, outgoing }) => {
      if (!(incoming instanceof IncomingMessage) || !(outgoing instanceof ServerResponse)) throw new TypeError('only HTTP/1.1 is served');
      return app.fetch(request, { incoming, outgoing, transport, requestId: String(outgoing.getHeader('x-request-id')), closing });
    },
    {
      // Not this process's Request and Response: what else runs here expects Node's own.
      overrideGlobalObjects: false,
      // Where HTTP/1.0 comes without Host.
      hostname: 'localhost',
      errorHandler: (error) => {
        log.error({ err: error instanceof Error ? error.stack : error }, 'a request could not be handled');
        const { status, headers, body } = problemAnswer(new FnError('internal', 'The request could not be handled.'), nextId());
        return new Response(JSON.stringify(body), { status, headers });
      },
    },
  );
  const handle = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    // Behind an answer that closes the connection nothing is done: nobody would hear of it.
    if (settled.has(incoming.socket) || !incoming.socket.writable) return;
    // Node loses what came in one packet with a request whose upgrade is not taken: half of the next one, perhaps.
    if (incoming.headers.upgrade !== undefined) {
      outgoing.shouldKeepAlive = false;
      settled.add(incoming.socket);
    }
    inFlight.set(incoming.socket, outgoing);
    const requestId = nextId();
    outgoing.setHeader('x-request-id', requestId);
    outgoing.setHeader('cache-control', 'no-store');
    const refusal = preflight(incoming, limits);
    if (refusal !== null) {
      settled.add(incoming.socket);
      return sendRefusal(refusal, incoming, outgoing, requestId, app);
    }
    // Its errors are handled inside: errorHandler above, and the app's own.
    void listener(incoming, outgoing);
  };
  /** Connections whose last answer is settled, be it written yet or not. */
  const settled = new WeakSet<Duplex>();
  /** The latest response of each connection, to know whether a broken request may still be answered. */
  const inFlight = new WeakMap<Duplex, ServerResponse>();
  const server = createServer(
    {
      maxHeaderSize: PARSER_HEADER_BYTES,
      requireHostHeader: false,
      headersTimeout: limits.headersTimeoutMs,
      requestTimeout: limits.requestTimeoutMs,
      connectionsCheckingInterval: limits.checkIntervalMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      keepAlive: true,
      noDelay: true,
    },
    handle,
  );
  // Node would drop headers beyond it without a word; preflight counts them.
  server.maxHeadersCount = 0;
  server.maxConnections = limits.maxConnections;
  // The handler writes 100 Continue when it wants the body, so it can refuse before it is sent.
  server.on('checkContinue', handle);
  server.on('checkExpectation', (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const requestId = nextId();
    settled.add(incoming.socket);
    outgoing.setHeader('x-request-id', requestId);
    sendRefusal(new FnError('expectation-failed', 'The only expectation is 100-continue.'), incoming, outgoing, requestId, app);
  });
  server.on('connect', (_incoming: IncomingMessage, socket: Duplex) => {
    // Node's server has let go of the connection: a reset of it is an error that nobody else listens for.
    socket.on('error', () => socket.destroy());
    socket.resume();
    if (settled.has(socket)) return;
    inTurn(inFlight.get(socket), () =>
      writeProblem(socket, new FnError('method-not-allowed', 'This is no proxy.'), nextId(), 'GET, HEAD, POST, PUT, DELETE'),
    );
  });
  server.on('clientError', (error: ParserError, socket: Duplex) => onClientError(error, socket, inFlight.get(socket), nextId()));
  return server;
}

function sendRefusal(refusal: FnError, incoming: IncomingMessage, outgoing: ServerResponse, requestId: string, app: Api): void {
  const { status, headers, body } = problemAnswer(refusal, requestId);
  if (refusal.code === 'method-not-allowed')
    headers.allow = app.allowedMethods((incoming.url ?? '').split('?', 1)[0]!).join(', ') || 'GET, HEAD';
  const text = JSON.stringify(body);
  // Closed: whether a body follows, and where it ends, is not to be believed now.
  outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(text), connection: 'close' });
  outgoing.end(text);
}

interface ParserError extends Error {
  code?: string;
  rawPacket?: Buffer;
}

function onClientError(error: ParserError, socket: Duplex, response: ServerResponse | undefined, requestId: string): void {
  // Half an answer is out already, or nobody is there to read one.
  const answering = response !== undefined && response.headersSent && !response.writableFinished && !response.req.complete;
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE' || !socket.writable || answering) {
    socket.destroy();
    return;
  }
  const [code, detail] = parserProblem(error);
  inTurn(response, () => writeProblem(socket, new FnError(code, detail), requestId));
}

/** The whole request before it on the connection is answered first; one that is broken within its body never will be. */
function inTurn(before: ServerResponse | undefined, answer: () => void): void {
  if (before === undefined || before.writableFinished || !before.req.complete) answer();
  else before.once('close', answer);
}

function parserProblem(error: ParserError): [ErrorCode, string] {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW': {
      // The parser does not say what was too long. A packet that begins a request and has no line end holds its URL alone.
      const packet = error.rawPacket?.toString('latin1') ?? '';
      const line = packet.indexOf('\n');
      return /^[A-Z]+ \S/.test(packet) && (line < 0 || line > REQUEST_LIMITS.maxUrlBytes)
        ? ['uri-too-long', `A URL has at most ${REQUEST_LIMITS.maxUrlBytes} bytes.`]
        : ['headers-too-large', `Headers have at most ${REQUEST_LIMITS.maxHeaderBytes} bytes.`];
    }
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['request-timeout', 'The request took too long to arrive.'];
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return ['body-too-large', 'The chunk extensions are too long.'];
    default:
      return ['bad-request', 'The request is not HTTP/1.1 as RFC 9112 has it.'];
  }
}

/** Answers on the bare socket, and closes it. */
function writeProblem(socket: Duplex, error: FnError, requestId: string, allow?: string): void {
  // The answer before it has closed the connection.
  if (!socket.writable) return;
  const { status, headers, body } = problemAnswer(error, requestId);
  const text = JSON.stringify(body);
  const all = {
    ...headers,
    ...(allow === undefined ? {} : { allow }),
    'x-request-id': requestId,
    'content-length': String(Buffer.byteLength(text)),
    connection: 'close',
  };
  const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${head.join('')}\r\n${text}`, () => socket.destroy());
}

function serverUrl(server: Server, listen: Listen): string {
  if ('path' in listen) return `unix:${listen.path}`;
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : listen.port;
  return `http://${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${port}`;
}

async function closeServer(server: Server, closing: AbortController, deadlineMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  closing.abort(new Error('the server is closing'));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), deadlineMs);
  try {
    await closed;
  } finally {
    clearTimeout(timer);
  }
}
