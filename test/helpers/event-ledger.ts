/** What functions say that they have done, by id, written down by the test: it outlives every part of the platform. */
import { type AddressInfo, type Server, type Socket, createServer } from 'node:net';

export class EventLedger {
  /** Id → how often it was done. */
  readonly done = new Map<string, number>();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      let pending = '';
      socket.on('data', (chunk) => {
        pending += chunk.toString('latin1');
        const lines = pending.split('\n');
        pending = lines.pop()!;
        for (const id of lines) this.done.set(id, (this.done.get(id) ?? 0) + 1);
        socket.write('\n'.repeat(lines.length));
      });
      // Instances are killed: that is what the test is about.
      socket.on('error', () => socket.destroy());
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  /** `host`: this machine as functions reach it, where that is not the loopback. Returns the port. */
  async start(host = '127.0.0.1'): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, host, resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Every id, as often as it was done. */
  *all(): Iterable<string> {
    for (const [id, times] of this.done) for (let time = 0; time < times; time++) yield id;
  }

  /** Of these, those that were never done. */
  lost(ids: Iterable<string>): string[] {
    return [...ids].filter((id) => !this.done.has(id));
  }

  /** Times that something was done again. */
  get duplicates(): number {
    return this.duplicatesOf(() => true);
  }

  duplicatesOf(which: (id: string) => boolean): number {
    let count = 0;
    for (const [id, times] of this.done) if (which(id)) count += times - 1;
    return count;
  }
}
