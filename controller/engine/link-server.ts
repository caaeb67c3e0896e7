/**
 * The controller's end of the link: a unix socket, and over TCP where there are gateways on other hosts. It
 * frames, checks and counts; what messages mean is decided in gateways.ts.
 */
import type { AddressInfo } from 'node:net';
import { GatewayMessage, MAX_GATEWAY_LINE_BYTES, MAX_LINK_LINE_BYTES, type ControllerMessage } from '#contract/link.ts';
import { LineServer, type LineConnection, type LineHandler } from '#kit/line-server.ts';
import type { TcpListen } from '#kit/link-endpoint.ts';
import type { GateTiming } from '#kit/link-gate.ts';
import type { Log } from '#kit/log.ts';
import { EncodedJson } from '#kit/ndjson.ts';

/** A gateway that does not read is cut off when so much waits for it, bytes. */
const MAX_UNSENT_BYTES = 2 * MAX_LINK_LINE_BYTES;
/** A connection that does not say hello is closed after this, ms. */
const HELLO_TIMEOUT_MS = 5_000;
/**
 * Connections at a time; there are as many gateways as processes, and a few that are just being
 * replaced. Each may have a line of MAX_GATEWAY_LINE_BYTES pending.
 */
const MAX_CONNECTIONS = 256;

export type Hello = Extract<GatewayMessage, { type: 'hello' }>;
type WithoutTerm<T> = T extends { term: number } ? Omit<T, 'term'> : never;
export type Outgoing = WithoutTerm<ControllerMessage>;

/** One connected gateway process. */
export interface Link {
  readonly key: string;
  /** Of its process; null where that is on another host, or in another pod, and the number means nothing here. */
  readonly pid: number | null;
  send(message: Outgoing): void;
  /** The same for a welcome, whose routes are as JSON: all of them, for every gateway that comes. */
  welcome(message: Omit<Extract<Outgoing, { type: 'welcome' }>, 'routes'>, routes: string): void;
}

export interface LinkEvents {
  onHello(link: Link, hello: Hello): void;
  onMessage(link: Link, message: Exclude<GatewayMessage, Hello>): void;
  onClose(link: Link): void;
}

export interface LinkServerOptions {
  path: string;
  /** Group that may connect beside the owner; null: only the owner. */
  gid: number | null;
  /** Where gateways of other hosts dial, beside the socket; null: nowhere. */
  tcp?: TcpListen | null | undefined;
  term: number;
  events: LinkEvents;
  log: Log;
  limits?: { maxUnsentBytes: number; helloTimeoutMs: number } | undefined;
  timing?: Partial<GateTiming> | undefined;
}

export class LinkServer {
  readonly #options: LinkServerOptions;
  readonly #server: LineServer;

  constructor(options: LinkServerOptions) {
    this.#options = options;
    const { path, gid, tcp = null, log, timing, limits = { maxUnsentBytes: MAX_UNSENT_BYTES, helloTimeoutMs: HELLO_TIMEOUT_MS } } = options;
    this.#server = new LineServer({
      listen: [{ kind: 'unix', path, gid }, ...(tcp === null ? [] : [tcp])],
      peer: 'a gateway',
      maxConnections: MAX_CONNECTIONS,
      maxLineBytes: MAX_GATEWAY_LINE_BYTES,
      ...limits,
      onConnection: (connection) => this.#accept(connection),
      log,
      timing,
    });
  }

  /** Where it listens over TCP; null: nowhere. */
  get tcpAddress(): AddressInfo | null {
    return this.#server.tcpAddress;
  }

  /** Listens. Whoever listened there before is fenced by the term, and its socket file replaced. */
  async start(): Promise<void> {
    await this.#server.start();
  }

  async close(): Promise<void> {
    await this.#server.close();
  }

  #accept(connection: LineConnection): LineHandler {
    const { events, term } = this.#options;
    let link: Link | null = null;
    return {
      onLine(line) {
        const message = GatewayMessage.parse(JSON.parse(line));
        if (link === null) {
          if (message.type !== 'hello') throw new Error(`the first message is ${message.type}, not hello`);
          // [1] A controller of a higher term has taken over: this one must not speak for it.
          if (message.term > term) throw new Error(`it has seen term ${message.term}, this controller's is ${term}`);
          const key = `${message.gateway}/${message.boot}`;
          connection.greeted(key);
          link = {
            key,
            pid: connection.local ? message.pid : null,
            send: (outgoing) => connection.send({ ...outgoing, term }),
            welcome: (rest, routes) =>
              connection.send(new EncodedJson(`${JSON.stringify({ ...rest, term }).slice(0, -1)},"routes":${routes}}`)),
          };
          events.onHello(link, message);
        } else if (message.type === 'hello') throw new Error('a second hello');
        else events.onMessage(link, message);
      },
      onClose() {
        if (link) events.onClose(link);
      },
    };
  }
}
