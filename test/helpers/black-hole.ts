/** An address that takes no connection and does not refuse one either, as that of a host that has lost its power. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { waitFor } from './wait.ts';

/**
 * A process that answers requests to /first with `first` and then, at any other, stops for ever: its kernel takes
 * a few connections more, and lets every other SYN go unanswered.
 */
const PROGRAM = `
const server = require('node:http').createServer((request, response) => {
  if (request.url === '/first') return response.end('first');
  process.stdout.write('stopped\\n', () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => process.stdout.write(server.address().port + '\\n'));
`;
/** More than the few. */
const FILLERS = 16;

export class BlackHole {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #fillers: Socket[] = [];
  #output: () => string;

  private constructor(child: ChildProcess, output: () => string) {
    this.#child = child;
    this.#output = output;
    this.port = Number.parseInt(output(), 10);
  }

  /** One that still answers. */
  static async start(): Promise<BlackHole> {
    const child = spawn(process.execPath, ['-e', PROGRAM], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await waitFor('its port', () => output.includes('\n'), { everyMs: 5 });
    return new BlackHole(child, () => output);
  }

  /** Resolves when it has stopped, at a request of somebody, and takes no connection any more. */
  async stopped(): Promise<void> {
    await waitFor('it to stop', () => this.#output().includes('stopped'), { everyMs: 5 });
    for (let n = 0; n < FILLERS; n++) this.#fillers.push(connect(this.port, '127.0.0.1').on('error', () => {}));
    await Promise.race(this.#fillers.map((socket) => once(socket, 'connect')));
  }

  /** The same, at a request of its own. */
  async stop(): Promise<void> {
    const socket = connect(this.port, '127.0.0.1').on('error', () => {});
    this.#fillers.push(socket);
    socket.write('GET /stop HTTP/1.1\r\nHost: a\r\n\r\n');
    await this.stopped();
  }

  async close(): Promise<void> {
    for (const socket of this.#fillers) socket.destroy();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
