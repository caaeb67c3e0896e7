/**
 * The controller's end of the link: a unix socket (or later a TCP one) that gateways connect to. It
 * frames, checks and counts; what messages mean is decided in gateways.ts.
 */
import { chmodSync, chownSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { GatewayMessage, MAX_GATEWAY_LINE_BYTES, MAX_LINK_LINE_BYTES, type ControllerMessage } from '#contract/link.ts';
import { encodeLine, LineSplitter } from '#kit/ndjson.ts';
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
/** Of what is wrong with a message, so much is logged, characters. */
const MAX_LOGGED_ERROR = 500;

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
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: LinkServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Listens. Whoever listened there before is fenced by the term, and its socket file replaced. */
  async start(): Promise<void> {
    const { path, gid } = this.#options;
    const folder = dirname(path);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (gid !== null) chownSync(folder, -1, gid);
    chmodSync(folder, gid === null ? 0o700 : 0o710);
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    if (gid !== null) chownSync(path, -1, gid);
    chmodSync(path, gid === null ? 0o600 : 0o660);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #accept(socket: Socket): void {
    const { events, log, term, limits = { maxUnsentBytes: MAX_UNSENT_BYTES, helloTimeoutMs: HELLO_TIMEOUT_MS } } = this.#options;
    this.#sockets.add(socket);
    const lines = new LineSplitter(MAX_GATEWAY_LINE_BYTES);
    let link: Link | null = null;
    const helloTimer = setTimeout(() => socket.destroy(), limits.helloTimeoutMs);
    helloTimer.unref();
    const send = (message: Outgoing) => {
      if (socket.destroyed) return;
      socket.write(encodeLine({ ...message, term }));
      if (socket.writableLength > limits.maxUnsentBytes) {
        log.error({ gateway: link?.key, bytes: socket.writableLength }, 'a gateway does not read its link; cutting it off');
        socket.destroy();
      }
    };
    const receive = (line: string) => {
      const message = GatewayMessage.parse(JSON.parse(line));
      if (link === null) {
        if (message.type !== 'hello') throw new Error(`the first message is ${message.type}, not hello`);
        clearTimeout(helloTimer);
        // [1] A controller of a higher term has taken over: this one must not speak for it.
        if (message.term > term) throw new Error(`it has seen term ${message.term}, this controller's is ${term}`);
        link = { key: `${message.gateway}/${message.boot}`, pid: message.pid, send };
        events.onHello(link, message);
      } else if (message.type === 'hello') throw new Error('a second hello');
      else events.onMessage(link, message);
    };
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const line of lines.push(chunk)) receive(line);
      } catch (error) {
        const text = String(error).slice(0, MAX_LOGGED_ERROR);
        log.error({ gateway: link?.key, error: text }, 'a gateway says what the link does not allow; cutting it off');
        socket.destroy();
      }
    });
    socket.on('error', (error) => log.warn({ gateway: link?.key, error: error.message }, 'link error'));
    socket.on('close', () => {
      clearTimeout(helloTimer);
      this.#sockets.delete(socket);
      if (link) events.onClose(link);
    });
  }
}
