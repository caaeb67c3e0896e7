/**
 * The controller's end of the link: a unix socket (or later a TCP one) that gateways connect to. It
 * frames, checks and counts; what messages mean is decided in gateways.ts.
 */
import { GatewayMessage, MAX_GATEWAY_LINE_BYTES, MAX_LINK_LINE_BYTES, type ControllerMessage } from '#contract/link.ts';
import { LineServer, type LineConnection, type LineHandler } from '#kit/line-server.ts';
import type { Log } from '#kit/log.ts';

/** A gateway that does not read is cut off when so much waits for it, bytes. */
const MAX_UNSENT_BYTES = 2 * MAX_LINK_LINE_BYTES;
/** A connection that does not say hello is closed after this, ms. */
const HELLO_TIMEOUT_MS = 5_000;
/**
 * Connections at a time; there are as many gateways as processes, and a few that are just being
 * replaced. Each may have a line of MAX_GATEWAY_LINE_BYTES pending.
 */
const MAX_CONNECTIONS = 32;

export type Hello = Extract<GatewayMessage, { type: 'hello' }>;
type WithoutTerm<T> = T extends { term: number } ? Omit<T, 'term'> : never;
export type Outgoing = WithoutTerm<ControllerMessage>;

/** One connected gateway process. */
export interface Link {
  readonly key: string;
  readonly pid: number;
  send(message: Outgoing): void;
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
  term: number;
  events: LinkEvents;
  log: Log;
  limits?: { maxUnsentBytes: number; helloTimeoutMs: number };
}

export class LinkServer {
  readonly #options: LinkServerOptions;
  readonly #server: LineServer;

  constructor(options: LinkServerOptions) {
    this.#options = options;
    const { path, gid, log, limits = { maxUnsentBytes: MAX_UNSENT_BYTES, helloTimeoutMs: HELLO_TIMEOUT_MS } } = options;
    this.#server = new LineServer({
      path,
      gid,
      peer: 'a gateway',
      maxConnections: MAX_CONNECTIONS,
      maxLineBytes: MAX_GATEWAY_LINE_BYTES,
      ...limits,
      onConnection: (connection) => this.#accept(connection),
      log,
    });
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
          link = { key, pid: message.pid, send: (outgoing) => connection.send({ ...outgoing, term }) };
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
