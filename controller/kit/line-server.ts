/**
 * What processes connect to and speak newline-delimited JSON on: a unix socket, for those of this host, and TCP for
 * those of others (link-gate.ts), or both. It frames, counts and cuts off who does not read or says nothing; what
 * lines mean is its user's.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, lstatSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { LinkListen, UnixListen } from './link-endpoint.ts';
import { type GateTiming, LinkGate } from './link-gate.ts';
import type { Log } from './log.ts';
import { encodeLine, LineSplitter } from './ndjson.ts';

/** Of what is wrong with a message, so much is logged, characters. */
const MAX_LOGGED_ERROR = 500;

export interface LineConnection {
  /** Whether its peer is a process of this host. */
  readonly local: boolean;
  /** Nothing happens where it is closed. What is sent in one turn of the event loop is written at once. */
  send(message: object): void;
  /** The peer has said who it is: until then it has helloTimeoutMs. `name` is for the log. */
  greeted(name: string): void;
  close(): void;
}

export interface LineHandler {
  /** May throw: the connection is cut off, and the log says why. */
  onLine(line: string): void;
  onClose(): void;
}

export interface LineServerOptions {
  listen: readonly LinkListen[];
  /** Who connects, for the log: `a gateway`. */
  peer: string;
  maxConnections: number;
  /** Longest line that is taken, bytes. */
  maxLineBytes: number;
  /** Who does not read is cut off when so much waits for it, bytes. */
  maxUnsentBytes: number;
  /** A connection that is not greeted by then is closed, ms. */
  helloTimeoutMs: number;
  onConnection: (connection: LineConnection) => LineHandler;
  log: Log;
  /** Over TCP. */
  timing?: Partial<GateTiming> | undefined;
}

/** One of the places that are listened on. */
interface Listener {
  start(): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
  readonly address: AddressInfo | null;
}

export class LineServer {
  readonly #options: LineServerOptions;
  readonly #listeners: Listener[];
  readonly #sockets = new Set<Socket>();

  constructor(options: LineServerOptions) {
    this.#options = options;
    const { peer, log, helloTimeoutMs, timing } = options;
    const onAdmitted = (socket: Socket, rest: Buffer) => this.#accept(socket, false, rest);
    this.#listeners = options.listen.map((listen) =>
      listen.kind === 'unix'
        ? new UnixListener(listen, (socket) => this.#accept(socket, true))
        : new LinkGate({ listen, peer, greetingTimeoutMs: helloTimeoutMs, onAdmitted, log, timing }),
    );
  }

  /** Where it listens over TCP, for whoever left it to the system which port; null: nowhere. */
  get tcpAddress(): AddressInfo | null {
    for (const { address } of this.#listeners) if (address !== null) return address;
    return null;
  }

  /** Listens everywhere, or throws. */
  async start(): Promise<void> {
    try {
      for (const listener of this.#listeners) await listener.start();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#listeners.map((listener) => listener.close()));
  }

  /** `rest`: what has been read of it already. */
  #accept(socket: Socket, local: boolean, rest: Buffer | null = null): void {
    const { maxConnections, maxLineBytes, helloTimeoutMs, onConnection, peer, log } = this.#options;
    if (this.#sockets.size >= maxConnections) {
      log.warn({ from: socket.remoteAddress, connections: this.#sockets.size }, `${peer} was not let in: there are too many`);
      socket.on('error', () => {});
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    const lines = new LineSplitter(maxLineBytes);
    let name: string | undefined;
    const helloTimer = setTimeout(() => socket.destroy(), helloTimeoutMs);
    helloTimer.unref();
    const handler = onConnection({
      local,
      send: this.#sender(socket, () => name),
      greeted(who) {
        name = who;
        clearTimeout(helloTimer);
      },
      close: () => socket.destroy(),
    });
    const receive = (chunk: Buffer) => {
      try {
        for (const line of lines.push(chunk)) {
          if (socket.destroyed) return;
          handler.onLine(line);
        }
      } catch (error) {
        log.error(
          { peer: name, error: String(error).slice(0, MAX_LOGGED_ERROR) },
          `${peer} says what the link does not allow; cutting it off`,
        );
        socket.destroy();
      }
    };
    socket.on('error', (error) => log.warn({ peer: name, error: error.message }, 'link error'));
    socket.on('close', () => {
      clearTimeout(helloTimer);
      this.#sockets.delete(socket);
      handler.onClose();
    });
    if (rest !== null) receive(rest);
    socket.on('data', receive);
    socket.resume();
  }

  #sender(socket: Socket, name: () => string | undefined): LineConnection['send'] {
    const { maxUnsentBytes, peer, log } = this.#options;
    let corked = false;
    const uncork = () => {
      corked = false;
      socket.uncork();
    };
    return (message) => {
      if (socket.destroyed) return;
      if (!corked) {
        corked = true;
        socket.cork();
        process.nextTick(uncork);
      }
      socket.write(encodeLine(message));
      if (socket.writableLength > maxUnsentBytes) {
        log.error({ peer: name(), bytes: socket.writableLength }, `${peer} does not read its link; cutting it off`);
        socket.destroy();
      }
    };
  }
}

/** A unix socket, in a folder of its own. */
class UnixListener implements Listener {
  readonly address = null;
  readonly #at: UnixListen;
  readonly #server: Server;
  /** Of our socket file. */
  #inode: number | null = null;

  constructor(at: UnixListen, onConnection: (socket: Socket) => void) {
    this.#at = at;
    this.#server = createServer(onConnection);
  }

  /**
   * The socket file of whoever listened there before is replaced; his end does not take away ours: Node removes the
   * file by the name that it was bound with, so each has a name of his own first.
   */
  async start(): Promise<void> {
    const { path, gid } = this.#at;
    const folder = dirname(path);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (gid !== null) chownSync(folder, -1, gid);
    chmodSync(folder, gid === null ? 0o700 : 0o710);
    const bound = `${path}.${randomBytes(4).toString('hex')}`;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(bound, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    if (gid !== null) chownSync(bound, -1, gid);
    chmodSync(bound, gid === null ? 0o600 : 0o660);
    this.#inode = lstatSync(bound).ino;
    renameSync(bound, path);
  }

  async close(): Promise<void> {
    const { path } = this.#at;
    if (this.#inode !== null && lstatSync(path, { throwIfNoEntry: false })?.ino === this.#inode) rmSync(path, { force: true });
    this.#inode = null;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}
