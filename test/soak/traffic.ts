/** Everything that uses the platform during a soak, each at its own pace, until it is told to stop. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { LogEntry } from '#contract/api.ts';
import { DeadLetterList, InvocationView } from '#contract/events.ts';
import { type Answer, call, open } from '../helpers/http.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { sleep } from '../helpers/wait.ts';
import { OPCODE, frame, openWebSocket } from '../helpers/websocket.ts';
import type { Book } from './book.ts';
import { manifest, STREAM, WORKER } from './manifest.ts';

/** One event in so many is poison, and one in so many wants a second attempt. */
const POISON_EVERY = 100;
const FLAKY_EVERY = 20;
/** Between two attempts of a sender that got no acknowledgement, ms. */
const SEND_AGAIN_MS = 300;
/** An invocation is asked for so long after it was accepted, and again so often, ms. */
const ASK_AFTER_MS = 6_000;
/** Length of the stream that brings messages: what is done is trimmed away. */
const STREAM_LENGTH = 1_500;
/** How long a new secret may take to be everywhere, ms. */
const SECRET_SETTLES_MS = 20_000;
const LARGE_BYTES = 3 * 1024 * 1024;
const REQUEST_TIMEOUT_MS = 35_000;
/** Logs are read so far back beyond the time of the last reading, s: lines may arrive late. */
const LOG_OVERLAP_SECONDS = 60;

const told = (answer: Answer): string => {
  if (!answer.headers['content-type']?.includes('problem+json')) return `${answer.status}`;
  const { code, detail } = answer.json<{ code: string; detail: string }>();
  return `${answer.status} ${code}: ${detail}`;
};

export class Traffic {
  readonly #platform: TestPlatform;
  readonly #book: Book;
  readonly #redis: Redis;
  readonly #folder: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 32 });
  readonly #large = randomBytes(LARGE_BYTES);
  readonly #entries = new Map<string, string>();
  readonly #loops: Promise<void>[] = [];
  #running = true;
  #next = 0;
  #version = 0;
  #rolledBackAt = 0;
  #secret = { value: '0', before: '0', since: 0 };
  #logsReadAt = 0;
  #briefs = 0;

  constructor(platform: TestPlatform, book: Book, redis: Redis, folder: string) {
    this.#platform = platform;
    this.#book = book;
    this.#redis = redis;
    this.#folder = folder;
  }

  /** Sets the secret and deploys all functions. */
  async prepare(files: Record<string, string>, redisUrl: string): Promise<void> {
    mkdirSync(this.#folder, { recursive: true });
    for (const [name, text] of Object.entries({ ...files, 'fn.yaml': manifest(redisUrl) })) writeFileSync(join(this.#folder, name), text);
    await this.#platform.fnOk(['secret', 'set', 'SOAK_SECRET'], { input: '0' });
    await this.#platform.fnOk(['deploy'], { cwd: this.#folder });
    this.#logsReadAt = Date.now();
  }

  /** All of it, some 40 requests a second. */
  start(): void {
    for (let worker = 0; worker < 4; worker++) this.#loop(200, () => this.#plain('warm', 'steady'));
    this.#loop(500, () => this.#plain('mortal', 'mortal'));
    this.#loop(400, () => this.#moving());
    this.#loop(5_000, () => this.#plain('cold', 'chilly'));
    this.#loop(1_000, () => this.#streamed());
    this.#loop(4_000, () => this.#large_());
    this.#loop(1_500, () => this.#abort());
    this.#loop(2_000, () => this.#webSocket(5, 50));
    this.#loop(1_000, () => this.#webSocket(20, 1_000));
    this.#loop(1_000, () => this.#secretIsThere());
    this.#loop(330, () => this.#send('async'));
    this.#loop(330, () => this.#send('queue'));
    this.#loop(2_000, () => this.#askForInvocations());
    this.#loop(20_000, () => this.#readLogs());
    this.#loop(30_000, () => this.#readDeadLetters());
    this.#loop(20_000, () => this.#deploy());
    this.#loop(70_000, () => this.#rollback());
    this.#loop(45_000, () => this.#brief());
    this.#loop(60_000, () => this.#rotateSecret());
  }

  /** Ends all of it; then waits until what was acknowledged is done, or the time is over. */
  async stop(settleMs: number): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
    const until = Date.now() + settleMs;
    do {
      await sleep(2_000);
      await this.#askForInvocations();
      await this.#readLogs();
      await this.#readDeadLetters();
    } while (Date.now() < until && this.#book.pending('async').length + this.#book.pending('queue').length > 0);
    this.#agent.destroy();
  }

  get stopped(): boolean {
    return !this.#running;
  }

  /** At its pace; one that takes longer is not made up for. */
  #loop(everyMs: number, run: () => Promise<void>): void {
    const work = async () => {
      await sleep(Math.random() * Math.min(everyMs, 5_000));
      while (this.#running) {
        const started = performance.now();
        await run();
        const end = started + everyMs;
        while (this.#running && performance.now() < end) await sleep(Math.min(500, Math.max(1, end - performance.now())));
      }
    };
    this.#loops.push(work());
  }

  #id(kind: string): string {
    return `${kind}-${this.#next++}`;
  }

  #call(path: string, options: Parameters<typeof call>[1] = {}): Promise<Answer> {
    return call(`${this.#platform.url}${path}`, { agent: this.#agent, timeoutMs: REQUEST_TIMEOUT_MS, ...options });
  }

  async #plain(kind: string, name: string): Promise<void> {
    await this.#book.try(kind, async () => {
      const id = this.#id(kind);
      const answer = await this.#call(`/${name}?id=${id}`);
      if (answer.status !== 200) return told(answer);
      if (answer.text.split(' ')[0] !== id) return `the answer of another: ${answer.text.slice(0, 60)}`;
    });
  }

  /** Answered by a version that is deployed, whichever has the traffic just now. */
  async #moving(): Promise<void> {
    await this.#book.try('moving', async () => {
      const answer = await this.#call(`/moving?id=m`);
      if (answer.status !== 200) return told(answer);
      if (!(Number(answer.text.split(' ')[1]) <= this.#version)) return `version ${answer.text.slice(0, 40)} of ${this.#version}`;
    });
  }

  async #streamed(): Promise<void> {
    await this.#book.try('stream', async () => {
      const answer = await this.#call('/steady/stream');
      if (answer.status !== 200) return told(answer);
      if (answer.text !== 'piece 0\npiece 1\npiece 2\npiece 3\npiece 4\n') return `cut short: ${answer.text.length} bytes`;
    });
  }

  async #large_(): Promise<void> {
    await this.#book.try('large', async () => {
      const answer = await this.#call('/steady/large', { method: 'POST', body: this.#large });
      if (answer.status !== 200) return told(answer);
      if (!answer.body.equals(this.#large)) return `other bytes came back: ${createHash('sha1').update(answer.body).digest('hex')}`;
    });
  }

  /** A client that goes: while it waits for the head, or in the middle of a stream. */
  async #abort(): Promise<void> {
    await this.#book.try('abort', async () => {
      const slow = Math.random() < 0.5;
      const { request, response } = open(`${this.#platform.url}/steady/${slow ? 'slow' : 'endless'}`, { timeoutMs: REQUEST_TIMEOUT_MS });
      request.end();
      if (slow) {
        await sleep(150);
        request.destroy();
        return;
      }
      const head = await response;
      if (head.statusCode !== 200) return `${head.statusCode}`;
      await new Promise((resolve, reject) =>
        head
          .once('data', resolve)
          .once('error', reject)
          .once('end', () => reject(new Error('it ended'))),
      );
      head.once('error', () => {});
      request.destroy();
    });
  }

  async #webSocket(messages: number, everyMs: number): Promise<void> {
    await this.#book.try('ws', async () => {
      const socket = await openWebSocket({ host: '127.0.0.1', port: this.#platform.port }, '/steady/ws');
      try {
        for (let number = 0; number < messages && this.#running; number++) {
          socket.send(frame(OPCODE.text, `word ${number}`));
          const { opcode, payload } = await socket.frame();
          if (opcode === OPCODE.close) return `closed with ${payload.length < 2 ? 1005 : payload.readUInt16BE(0)}`;
          if (payload.toString() !== `echo word ${number}`) return `echoed ${payload.toString().slice(0, 40)}`;
          await sleep(everyMs);
        }
        socket.send(frame(OPCODE.close, Buffer.from([0x03, 0xe8])));
        await socket.closeFrame();
      } finally {
        socket.destroy();
      }
    });
  }

  async #secretIsThere(): Promise<void> {
    await this.#book.try('secret', async () => {
      const sent = Date.now();
      const answer = await this.#call('/keeper/secret');
      if (answer.status !== 200) return told(answer);
      const { value, before, since } = this.#secret;
      const late = sent - since > SECRET_SETTLES_MS;
      if (answer.text !== value && (late || answer.text !== before))
        return `the secret is ${answer.text}, not ${value} (before: ${before})`;
    });
  }

  async #rotateSecret(): Promise<void> {
    const value = String(Number(this.#secret.value) + 1);
    // Either value, as long as the command has not said that it is done.
    this.#secret = { value, before: this.#secret.value, since: Infinity };
    await this.#manage('secret set', ['secret', 'set', 'SOAK_SECRET'], value);
    this.#secret.since = Date.now();
  }

  /** A command of the CLI; one that fails is tried again until it works, as a person would. */
  async #manage(kind: string, args: string[], input?: string): Promise<string> {
    let stdout = '';
    for (let attempt = 0; attempt < 20; attempt++) {
      const worked = await this.#book.try(kind, async () => {
        const result = await this.#platform.fn(args, { cwd: this.#folder, ...(input === undefined ? {} : { input }) });
        if (result.code !== 0) return `exit ${result.code}: ${result.stderr.trim().slice(-500)}`;
        stdout = result.stdout;
      });
      if (worked) break;
      await sleep(2_000);
    }
    return stdout;
  }

  async #deploy(): Promise<void> {
    this.#version += 1;
    await this.#manage('deploy', [
      'deploy',
      './traffic.ts',
      '--name',
      'moving',
      '--keep-alive',
      '1h',
      '--max',
      '2',
      '-e',
      `VERSION=${this.#version}`,
    ]);
  }

  async #rollback(): Promise<void> {
    // Each goes back by one: without a deployment since the last one there may be nothing left to go back to.
    if (this.#version < 2 || this.#version === this.#rolledBackAt) return;
    this.#rolledBackAt = this.#version;
    await this.#manage('rollback', ['rollback', 'moving']);
  }

  /** A function with a name of its own that comes, is called both ways, and goes. */
  async #brief(): Promise<void> {
    const name = `brief-${this.#briefs++}`;
    await this.#manage('deploy', ['deploy', './traffic.ts', '--name', name, '--keep-alive', '5s', '--route', `/route-of-${name}/*`]);
    await this.#plain('brief', name);
    await this.#book.try('brief', async () => {
      const answer = await this.#call(`/route-of-${name}/x?id=r`);
      if (answer.status !== 200) return told(answer);
    });
    await this.#manage('delete', ['delete', name, '--yes']);
    await this.#book.try('deleted', async () => {
      const answer = await this.#call(`/${name}?id=gone`);
      if (answer.status !== 404) return `${answer.status} of a function that was deleted`;
    });
  }

  async #send(by: 'async' | 'queue'): Promise<void> {
    const id = this.#id(by);
    const number = Number(id.split('-')[1]);
    const poison = number % POISON_EVERY === POISON_EVERY - 1;
    const event = { id, ...(poison ? { poison: 'true' } : {}), ...(number % FLAKY_EVERY === 0 ? { flaky: 'true' } : {}) };
    for (;;) {
      const handle = await (by === 'async' ? this.#invoke(event) : this.#add(event)).catch(() => null);
      if (handle !== null) {
        this.#entries.set(handle, id);
        this.#book.acknowledged(by, { id, poison, handle });
        return;
      }
      this.#book.refused[by] += 1;
      if (!this.#running) return;
      await sleep(SEND_AGAIN_MS);
    }
  }

  async #invoke(event: { id: string }): Promise<string | null> {
    const headers = { prefer: 'respond-async', 'content-type': 'application/json', 'idempotency-key': event.id };
    const answer = await this.#call(`/${WORKER}`, { method: 'POST', headers, body: JSON.stringify(event), timeoutMs: 15_000 });
    if (answer.status === 202) return answer.headers.location ?? null;
    await this.#book.try('async', async () => told(answer));
    return null;
  }

  async #add(event: Record<string, string>): Promise<string | null> {
    return this.#redis.xadd(STREAM, 'MAXLEN', '~', STREAM_LENGTH, '*', ...Object.entries(event).flat());
  }

  /** The function's own answer is the proof that it was done. */
  async #askForInvocations(): Promise<void> {
    for (const { id, handle } of this.#book.pending('async', ASK_AFTER_MS).slice(0, 100)) {
      const answer = await this.#call(handle, { timeoutMs: 10_000 }).catch(() => null);
      // Not to be had now: it is asked for again.
      if (answer === null || answer.status >= 500) continue;
      if (answer.status !== 200) {
        this.#book.wrong.push(`${id} (${handle}): ${told(answer)}`);
        this.#book.events.async.delete(id);
        continue;
      }
      const { state, error } = InvocationView.parse(answer.json());
      if (state === 'failed') this.#book.dead('async', id, error?.detail ?? '');
      if (state !== 'succeeded') continue;
      const result = await this.#call(`${handle}/result`, { timeoutMs: 10_000 }).catch(() => null);
      if (result === null || result.status >= 500) continue;
      if (result.text === `done ${id}`) this.#book.done('async', id);
      else this.#book.wrong.push(`the result of ${id} is ${result.status} ${result.text.slice(0, 100)}`);
    }
  }

  async #readLogs(): Promise<void> {
    const at = Date.now();
    const since = Math.ceil((at - this.#logsReadAt) / 1_000) + LOG_OVERLAP_SECONDS;
    await this.#book.try('logs', async () => {
      const { code, stdout, stderr } = await this.#platform.fn(['logs', WORKER, '--json', '--since', `${since}s`]);
      if (code !== 0) return `exit ${code}: ${stderr.trim().slice(-500)}`;
      this.#take(stdout);
      this.#logsReadAt = at;
    });
  }

  readonly #lines = new Map<string, number>();

  /** Each line once: what was read before is known by instance and number, as far as the overlap goes back. */
  #take(stdout: string): void {
    const now = Date.now();
    for (const line of stdout.split('\n')) {
      if (line === '') continue;
      const entry = LogEntry.parse(JSON.parse(line));
      if (this.#lines.has(line)) continue;
      this.#lines.set(line, now);
      const [word, what = ''] = entry.msg.trim().split(' ');
      if (word === 'done') this.#book.done('queue', what);
      else if (word === 'tick') this.#tick(Number(what));
    }
    for (const [line, at] of this.#lines) if (now - at > 15 * 60_000) this.#lines.delete(line);
  }

  #tick(time: number): void {
    const times = (this.#book.ticks.get(time) ?? 0) + 1;
    this.#book.ticks.set(time, times);
    if (times > 1) this.#book.repeated('cron');
  }

  async #readDeadLetters(): Promise<void> {
    await this.#book.try('dead letters', async () => {
      const answer = await call(`http://fn/v1/namespaces/default/functions/${WORKER}/dead-letters?limit=1000`, {
        socketPath: join(this.#platform.runDir, 'control', 's'),
        timeoutMs: 20_000,
      });
      if (answer.status !== 200) return told(answer);
      for (const letter of DeadLetterList.parse(answer.json()).deadLetters) {
        const id = letter.message === null ? undefined : this.#entries.get(letter.message);
        if (id !== undefined) this.#book.dead('queue', id, letter.error.detail);
      }
    });
  }
}
