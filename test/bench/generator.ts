/**
 * A load generator in a process of its own: keep-alive connections over TCP or a unix socket, one
 * request at a time on each, raw sockets, so that it costs little and the same on both sides.
 * Takes a GeneratorJob as its argument, prints a GeneratorResult as JSON.
 */
import { type Socket, connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { answerEnd } from './answers.ts';
import { cpuMicros } from './host.ts';
import { type Summary, summarise } from './stats.ts';

export interface GeneratorJob {
  target: { port: number; host?: string } | { socketPath: string };
  /** Beside Host. */
  headers?: Record<string, string>;
  path: string;
  /** Instead of the one path: asked for in turns, by whichever connection is next. */
  paths?: readonly string[];
  connections: number;
  durationMs: number;
  /** Requests are sent for so long before the clock runs, on the same connections, and until each of `paths` was asked for twice. */
  warmUpMs: number;
  /** Processes whose CPU is read when the clock begins to run, and when it ends. */
  cpuOf?: readonly number[];
}

export interface GeneratorResult {
  requests: number;
  errors: number;
  seconds: number;
  /** Latency, ms. */
  latency: Summary;
  /** CPU that `cpuOf` used meanwhile, µs. */
  cpuMicros: number;
}

/** Longest wait for one answer: a stuck connection must end the run, not hang it. */
const ANSWER_TIMEOUT_MS = 30_000;
/** How often each path is asked for before the clock runs. */
const WARM_UP_TURNS = 2;

/** What came last on any of the connections: it is looked at before anything else can come. */
const received = Buffer.allocUnsafeSlow(64 * 1024);

class Connection {
  readonly #socket: Socket;
  readonly #next: () => Buffer;
  readonly #onAnswer: (ok: boolean, ms: number) => boolean;
  #sentAt = 0;
  #pending = '';
  readonly done: Promise<void>;

  /** `next` is what to send, `onAnswer` says whether to go on. */
  constructor(job: GeneratorJob, next: () => Buffer, onAnswer: (ok: boolean, ms: number) => boolean) {
    this.#next = next;
    this.#onAnswer = onAnswer;
    const at = 'port' in job.target ? { host: '127.0.0.1', ...job.target } : { path: job.target.socketPath };
    const onread = { buffer: received, callback: (length: number) => this.#receive(received.toString('latin1', 0, length)) };
    this.#socket = connect({ ...at, noDelay: true, onread });
    this.#socket.setTimeout(ANSWER_TIMEOUT_MS, () => this.#socket.destroy(new Error('no answer')));
    this.#socket.on('connect', () => this.#send());
    this.done = new Promise((resolve) => {
      this.#socket.on('error', () => this.#onAnswer(false, 0));
      this.#socket.on('close', () => resolve());
    });
  }

  #send(): void {
    const request = this.#next();
    this.#sentAt = performance.now();
    this.#socket.write(request);
  }

  #receive(text: string): boolean {
    this.#pending = this.#pending === '' ? text : this.#pending + text;
    const end = answerEnd(this.#pending);
    if (end < 0) return true;
    const ok = this.#pending.startsWith('HTTP/1.1 200');
    this.#pending = this.#pending.slice(end);
    if (this.#onAnswer(ok, performance.now() - this.#sentAt)) this.#send();
    else this.#socket.destroy();
    return true;
  }
}

/** Requests are made once, not each time that one is sent. */
function requestsOf({ headers, path, paths }: GeneratorJob): Buffer[] {
  const lines = Object.entries({ host: 'bench', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return (paths ?? [path]).map((one) => Buffer.from(`GET ${one} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1'));
}

async function generate(job: GeneratorJob): Promise<GeneratorResult> {
  const { durationMs, cpuOf = [] } = job;
  const latencies: number[] = [];
  let errors = 0;
  const requests = requestsOf(job);
  let turn = 0;
  const next = () => requests[turn++ % requests.length]!;
  const cpu = () => cpuOf.reduce((sum, pid) => sum + cpuMicros(pid), 0);
  const warmAt = performance.now() + job.warmUpMs;
  const begun = { at: 0, cpu: 0 };
  const ended = { at: 0, cpu: 0 };
  /** Whether to go on. */
  const onAnswer = (ok: boolean, ms: number): boolean => {
    const now = performance.now();
    if (!ok) errors++;
    else if (begun.at > 0 && ended.at === 0) latencies.push(ms);
    if (begun.at === 0) {
      if (now >= warmAt && turn >= requests.length * WARM_UP_TURNS) Object.assign(begun, { at: now, cpu: cpu() });
      return true;
    }
    if (ended.at === 0 && now - begun.at >= durationMs) Object.assign(ended, { at: now, cpu: cpu() });
    return ended.at === 0;
  };
  const connections = Array.from({ length: job.connections }, () => new Connection(job, next, onAnswer));
  await Promise.all(connections.map((connection) => connection.done));
  return {
    requests: latencies.length,
    errors,
    seconds: (ended.at - begun.at) / 1_000,
    latency: summarise(latencies),
    cpuMicros: ended.cpu - begun.cpu,
  };
}

/** Runs a job in a process of its own. Throws when any request failed: figures of failures are worth nothing. */
export async function runGenerator(job: GeneratorJob): Promise<GeneratorResult> {
  const run = await execa(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(job)], {
    timeout: job.warmUpMs + job.durationMs + 2 * ANSWER_TIMEOUT_MS,
  });
  const result = JSON.parse(run.stdout) as GeneratorResult;
  if (result.errors > 0 || result.requests === 0)
    throw new Error(`${result.errors} errors in ${result.requests} requests to ${JSON.stringify(job.target)}`);
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(JSON.stringify(await generate(JSON.parse(process.argv[2] ?? '{}') as GeneratorJob)));
}
