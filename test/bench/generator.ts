/**
 * A load generator in a process of its own: keep-alive connections over TCP or a unix socket, one
 * request at a time on each, raw sockets, so that it costs little and the same on both sides.
 * Takes a GeneratorJob as its argument, prints a GeneratorResult as JSON.
 */
import { type Socket, connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type Summary, summarise } from './stats.ts';

export interface GeneratorJob {
  target: { port: number; host?: string } | { socketPath: string };
  /** Beside Host. */
  headers?: Record<string, string>;
  path: string;
  connections: number;
  durationMs: number;
  /** Sent before the clock runs, on the same connections. */
  warmUpMs: number;
}

export interface GeneratorResult {
  requests: number;
  errors: number;
  seconds: number;
  /** Latency, ms. */
  latency: Summary;
}

/** Longest wait for one answer: a stuck connection must end the run, not hang it. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Where the answer that begins the text ends, or -1 while it is incomplete. Content-Length or chunked. */
function answerEnd(text: string): number {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return -1;
  const headers = text.slice(0, head).toLowerCase();
  const length = /\r\ncontent-length: *(\d+)/.exec(headers)?.[1];
  if (length !== undefined) {
    const end = head + 4 + Number(length);
    return text.length >= end ? end : -1;
  }
  if (!headers.includes('transfer-encoding: chunked')) return head + 4;
  const last = text.indexOf('0\r\n\r\n', head + 2);
  return last < 0 ? -1 : last + 5;
}

class Connection {
  readonly #socket: Socket;
  readonly #request: string;
  readonly #onAnswer: (ok: boolean, ms: number) => boolean;
  #sentAt = 0;
  #pending = '';
  readonly done: Promise<void>;

  /** `onAnswer` says whether to go on. */
  constructor(job: GeneratorJob, onAnswer: (ok: boolean, ms: number) => boolean) {
    const headers = Object.entries({ host: 'bench', ...job.headers }).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#request = `GET ${job.path} HTTP/1.1\r\n${headers.join('')}\r\n`;
    this.#onAnswer = onAnswer;
    this.#socket = 'port' in job.target ? connect(job.target.port, job.target.host ?? '127.0.0.1') : connect(job.target.socketPath);
    this.#socket.setNoDelay(true);
    this.#socket.setTimeout(ANSWER_TIMEOUT_MS, () => this.#socket.destroy(new Error('no answer')));
    this.#socket.on('connect', () => this.#send());
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.done = new Promise((resolve) => {
      this.#socket.on('error', () => this.#onAnswer(false, 0));
      this.#socket.on('close', () => resolve());
    });
  }

  #send(): void {
    this.#sentAt = performance.now();
    this.#socket.write(this.#request);
  }

  #receive(chunk: Buffer): void {
    this.#pending += chunk.toString('latin1');
    const end = answerEnd(this.#pending);
    if (end < 0) return;
    const ok = this.#pending.startsWith('HTTP/1.1 200');
    this.#pending = this.#pending.slice(end);
    if (this.#onAnswer(ok, performance.now() - this.#sentAt)) this.#send();
    else this.#socket.destroy();
  }
}

async function generate(job: GeneratorJob): Promise<GeneratorResult> {
  const latencies: number[] = [];
  let errors = 0;
  const from = performance.now() + job.warmUpMs;
  const until = from + job.durationMs;
  const connections = Array.from(
    { length: job.connections },
    () =>
      new Connection(job, (ok, ms) => {
        const now = performance.now();
        if (!ok) errors++;
        else if (now >= from && now < until) latencies.push(ms);
        return now < until;
      }),
  );
  await Promise.all(connections.map((connection) => connection.done));
  return { requests: latencies.length, errors, seconds: job.durationMs / 1000, latency: summarise(latencies) };
}

/** Runs a job in a process of its own. Throws when any request failed: figures of failures are worth nothing. */
export async function runGenerator(job: GeneratorJob): Promise<GeneratorResult> {
  const run = await execa(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(job)], {
    timeout: job.warmUpMs + job.durationMs + ANSWER_TIMEOUT_MS + 10_000,
  });
  const result = JSON.parse(run.stdout) as GeneratorResult;
  if (result.errors > 0 || result.requests === 0)
    throw new Error(`${result.errors} errors in ${result.requests} requests to ${JSON.stringify(job.target)}`);
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(JSON.stringify(await generate(JSON.parse(process.argv[2] ?? '{}') as GeneratorJob)));
}
