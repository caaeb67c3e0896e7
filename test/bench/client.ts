/**
 * A client that costs next to nothing itself: raw sockets that are open already. What a cold start takes is some ten milliseconds, and a
 * process's own HTTP client that runs once a second takes one of them.
 */
import { connect, type Socket } from 'node:net';
import { answerEnd } from './answers.ts';

export interface Told {
  status: number;
  /** Status line and headers. */
  head: string;
  text: string;
  /** From the write of the request until the end of its answer was read. */
  ms: number;
}

const ANSWER_TIMEOUT_MS = 60_000;

export class Client {
  readonly #port: number;
  readonly #idle: Socket[] = [];

  constructor(port: number) {
    this.#port = port;
  }

  /** A connection that nobody uses is taken, or else made before the clock runs. */
  async ask(path: string): Promise<Told> {
    const socket = this.#idle.pop() ?? (await this.#connect());
    const told = await exchange(socket, `GET ${path} HTTP/1.1\r\nhost: bench\r\n\r\n`);
    if (/\r\nconnection: close/i.test(told.head)) socket.destroy();
    else this.#idle.push(socket);
    return told;
  }

  #connect(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true });
      socket.once('error', reject);
      socket.once('close', () => {
        const at = this.#idle.indexOf(socket);
        if (at >= 0) this.#idle.splice(at, 1);
      });
      socket.once('connect', () => resolve(socket));
    });
  }

  close(): void {
    for (const socket of this.#idle.splice(0)) socket.destroy();
  }
}

function exchange(socket: Socket, request: string): Promise<Told> {
  return new Promise((resolve, reject) => {
    let text = '';
    const failed = (why: string) => () => {
      socket.destroy();
      reject(new Error(`${request.slice(0, request.indexOf('\r'))}: ${why}`));
    };
    const onClose = failed('the connection was closed before its answer was complete');
    const timer = setTimeout(failed(`no answer within ${ANSWER_TIMEOUT_MS} ms`), ANSWER_TIMEOUT_MS);
    const onData = (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const end = answerEnd(text);
      if (end < 0) return;
      const ms = performance.now() - sentAt;
      clearTimeout(timer);
      socket.off('data', onData).off('close', onClose);
      const body = text.indexOf('\r\n\r\n') + 4;
      resolve({ status: Number(text.slice(9, 12)), head: text.slice(0, body), text: text.slice(body, end), ms });
    };
    socket.on('data', onData).on('close', onClose);
    const sentAt = performance.now();
    socket.write(request);
  });
}
