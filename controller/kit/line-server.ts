/**
 * A unix socket that processes of this host connect to and speak newline-delimited JSON on. It frames,
 * counts and cuts off who does not read or says nothing; what lines mean is its user's.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, lstatSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Log } from './log.ts';
import { encodeLine, LineSplitter } from './ndjson.ts';

/** Of what is wrong with a message, so much is logged, characters. */
const MAX_LOGGED_ERROR = 500;

export interface LineConnection {
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
  path: string;
  /** Group that may connect beside the owner; null: only the owner. */
  gid: number | null;
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
}

export class LineServer {
  readonly #options: LineServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Of our socket file. */
  #inode: number | null = null;

  constructor(options: LineServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = options.maxConnections;
  }

  /**
   * Listens, in a folder of its own. The socket file of whoever listened there before is replaced; his end does not
   * take away ours: Node removes the file by the name that it was bound with, so each has a name of his own first.
   */
  async start(): Promise<void> {
    const { path, gid } = this.#options;
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

  /** Idempotent. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const { path } = this.#options;
    if (this.#inode !== null && lstatSync(path, { throwIfNoEntry: false })?.ino === this.#inode) rmSync(path, { force: true });
    this.#inode = null;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #accept(socket: Socket): void {
    const { maxLineBytes, helloTimeoutMs, onConnection, peer, log } = this.#options;
    this.#sockets.add(socket);
    const lines = new LineSplitter(maxLineBytes);
    let name: string | undefined;
    const helloTimer = setTimeout(() => socket.destroy(), helloTimeoutMs);
    helloTimer.unref();
    const handler = onConnection({
      send: this.#sender(socket, () => name),
      greeted(who) {
        name = who;
        clearTimeout(helloTimer);
      },
      close: () => socket.destroy(),
    });
    socket.on('data', (chunk: Buffer) => {
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
    });
    socket.on('error', (error) => log.warn({ peer: name, error: error.message }, 'link error'));
    socket.on('close', () => {
      clearTimeout(helloTimer);
      this.#sockets.delete(socket);
      handler.onClose();
    });
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
