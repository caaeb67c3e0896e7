/**
 * One port for a debugger, whichever instance runs now. Each instance of Node opens its inspector on
 * a port of its own and says so in its log; a debugger that is attached to our port is led to the
 * newest one, and connects anew after a reload.
 */
import { type Server, type Socket, connect, createServer } from 'node:net';
import { CliError } from '../errors.ts';

/** `Debugger listening on ws://127.0.0.1:37051/6f1c…` */
const LISTENING = /^Debugger listening on ws:\/\/127\.0\.0\.1:(\d+)\/[0-9a-f-]+$/;
const CHATTER =
  /^(?:\(node:\d+\) \[PERM0004\] SecurityWarning: The flag --allow-inspector|\(Use `node --trace-warnings|For help, see: https:\/\/nodejs\.org\/|Debugger attached\.|Debugger ending on ws:|Waiting for the debugger to disconnect)/;

/** The port that Node says its inspector listens on; `chatter` for its other words on it; null for a line of the function's own. */
export function inspectorLine(line: string): number | 'chatter' | null {
  const port = LISTENING.exec(line)?.[1];
  if (port !== undefined) return Number(port);
  return CHATTER.test(line) ? 'chatter' : null;
}

export class DebuggerPort {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: number | null = null;

  constructor() {
    this.#server = createServer((client) => this.#relay(client));
  }

  /** Throws CliError where the port is taken. */
  async listen(port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error: NodeJS.ErrnoException) => {
        reject(
          new CliError(`the port ${port} for the debugger cannot be had: ${error.message}`, {
            hint: 'Name another: fn dev --inspect PORT',
          }),
        );
      });
      this.#server.listen(port, '127.0.0.1', resolve);
    });
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : port;
  }

  /** From now on connections lead there; those to the one before end, so that a debugger notices. */
  lead(port: number): void {
    if (port === this.#target) return;
    this.#target = port;
    for (const socket of this.#sockets) socket.destroy();
  }

  get target(): number | null {
    return this.#target;
  }

  #relay(client: Socket): void {
    // No instance yet: the debugger tries again.
    if (this.#target === null) {
      client.destroy();
      return;
    }
    const instance = connect(this.#target, '127.0.0.1');
    for (const [one, other] of [
      [client, instance],
      [instance, client],
    ] as const) {
      this.#sockets.add(one);
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      // Its close follows, and says all there is to say: the other side goes with it.
      one.on('error', () => undefined);
      one.pipe(other);
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
