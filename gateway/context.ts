/** What every request needs of the gateway, and what is known of the connection that it came by. */
import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '#kit/clock.ts';
import type { ByteBudget } from './byte-budget.ts';
import type { EventsLink } from './events-link.ts';
import type { FastRequest } from './fast-request.ts';
import type { CallObserver } from './journal.ts';
import type { Gatekeeper } from './gatekeeper.ts';
import type { LeaseTable } from './leases.ts';
import type { RouteTable } from './routes.ts';
import type { Tracer } from './trace.ts';
import type { Upgrade } from './upgrade.ts';
import type { Upstream } from './upstream.ts';
import type { DeadlineWheel } from './wheel.ts';

export interface ForwardContext {
  readonly clock: Clock;
  readonly wheel: DeadlineWheel;
  readonly routes: RouteTable;
  readonly leases: LeaseTable<Upstream>;
  readonly gatekeeper: Gatekeeper;
  readonly events: EventsLink;
  /** For the bodies of calls that are answered later, until they are accepted. */
  readonly collecting: ByteBudget;
  readonly tracer: Tracer;
  /** Whether the controller is told the trace of who waits for a start. */
  readonly traced: boolean;
  /** Hears of every request to a function that is over. */
  readonly calls: CallObserver;
  /** Longest that a request waits for a slot, ms. */
  readonly queueTimeoutMs: number;
  readonly maxBodyBytes: number;
  /** Host for clients that named none (HTTP/1.0). */
  readonly publicHost: string;
  /** The process is about to end: connections are not kept. */
  draining: boolean;
}

/** A request that is being worked on, as its connection sees it. */
export interface OpenRequest {
  /** Has all of it arrived (be it read or not)? */
  readonly received: boolean;
  readonly answered: boolean;
  /** The client sent what is not HTTP within its body. */
  breakOff(code: 'bad-request' | 'request-timeout' | 'headers-too-large' | 'uri-too-long' | 'body-too-large', detail: string): void;
  /** The response is complete, or its connection is gone. */
  onClose(): void;
}

/** Requests of a connection that are not answered yet: mostly one, for which no set is made. */
export class OpenRequests {
  #first: OpenRequest | null = null;
  readonly #others: OpenRequest[] = [];

  get size(): number {
    return this.#first === null ? 0 : 1 + this.#others.length;
  }

  add(request: OpenRequest): void {
    if (this.#first === null) this.#first = request;
    else this.#others.push(request);
  }

  has(request: OpenRequest): boolean {
    return this.#first === request || this.#others.includes(request);
  }

  /** Nothing happens where it is not there. */
  delete(request: OpenRequest): void {
    if (this.#first === request) {
      this.#first = this.#others.shift() ?? null;
      return;
    }
    const at = this.#others.indexOf(request);
    if (at >= 0) this.#others.splice(at, 1);
  }

  clear(): void {
    this.#first = null;
    this.#others.length = 0;
  }
}

/** Requests that one connection may send before the first of them is answered; past it, it is cut. */
export const MAX_PIPELINED = 64;

export interface ClientConnection {
  readonly socket: Socket;
  /** Address of the peer; empty on a unix socket. */
  readonly remote: string;
  /** Are its X-Forwarded-* headers believed? */
  readonly trusted: boolean;
  /** TLS? */
  readonly secure: boolean;
  /** Requests on it that have not been answered. */
  readonly open: OpenRequests;
  /** Those that are yet to begin: one after the other, as a client that pipelines must be able to expect. */
  readonly pipelined: (() => void)[];
  /** The newest request on it, answered or not. */
  last: OpenRequest | null;
  /** To be done when all of them are answered. */
  onAnswered: (() => void) | null;
  /** Its last answer is settled, be that written yet or not: what comes behind that request is not looked at. */
  closing: boolean;
  /** A request whose upgrade is not taken: Node loses what came behind it in the same packet. */
  notUpgraded: IncomingMessage | null;
}

/** One that has just come. */
export const newConnection = (socket: Socket, facts: Pick<ClientConnection, 'remote' | 'trusted' | 'secure'>): ClientConnection => ({
  socket,
  ...facts,
  open: new OpenRequests(),
  pipelined: [],
  last: null,
  onAnswered: null,
  closing: false,
  notUpgraded: null,
});

/**
 * Is it gone, or was its last answer given? What came behind a request whose answer closes the connection is answered by
 * nobody: no function may see it, least of all where it is not certain that it is a request at all.
 */
export const isOver = ({ socket }: ClientConnection): boolean => socket.destroyed || socket.writableEnded;

/** The request is answered, or never will be: the next one's turn. */
export function closeRequest(connection: ClientConnection, request: OpenRequest): void {
  connection.open.delete(request);
  if (isOver(connection)) {
    // Node tells only the request whose answer was due; the others have not begun and never will.
    connection.pipelined.length = 0;
    connection.open.clear();
    return;
  }
  const next = connection.pipelined.shift();
  if (next !== undefined) next();
  else if (connection.open.size === 0) connection.onAnswered?.();
}

/** Read by Node's HTTP server, or on the fast path. */
export type ClientRequest = IncomingMessage | FastRequest;

/** The answer to it, as far as it is asked for: Node's, or the fast path's. */
export interface ClientResponse {
  readonly upgrade: Upgrade | null;
  readonly headersSent: boolean;
  readonly chunkedEncoding: boolean;
  readonly writableFinished: boolean;
  readonly destroyed: boolean;
  shouldKeepAlive: boolean;
  /** `flat`: lower-case name, value, … Throws where a header has bytes that have no place in one. */
  writeHead(status: number, reason: string, flat: string[]): unknown;
  flushHeaders(): void;
  /** False where the client does not take what there is. */
  write(chunk: Buffer | string): boolean;
  end(): unknown;
  end(chunk: Buffer | string): unknown;
  end(text: string, encoding: 'latin1'): unknown;
  writeContinue(): void;
  /** Tells `request` of its end, or of the end of its connection. */
  watchedBy(request: OpenRequest): void;
  /** Calls back, once, when the client takes more. */
  onDrain(then: () => void): void;
}

function onOutgoingClose(this: Outgoing): void {
  this.request?.onClose();
}

/** The response object of the public server: it leads back to its request. */
export class Outgoing extends ServerResponse implements ClientResponse {
  request: OpenRequest | null = null;
  /** Where the request asks for a WebSocket. */
  upgrade: Upgrade | null = null;

  watchedBy(request: OpenRequest): void {
    this.request = request;
    this.on('close', onOutgoingClose);
  }

  onDrain(then: () => void): void {
    this.once('drain', then);
  }
}
