/**
 * The dispatcher as the controller has it: a child process that is started when there is something for it, started
 * again when it dies, told what functions are like, and asked questions. See docs/events.md.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { ErrorCode, FnError } from '#contract/errors.ts';
import { type BackoffOptions, backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import { newSecret } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import {
  BEAT_MS,
  type ControllerToDispatcher,
  type DispatcherToController,
  type EventQuestions,
  type FunctionEvents,
  type FunctionEventStats,
  type SecretTexts,
} from '../dispatcher/types.ts';

/** Between the death of one and the start of the next. The first is at once: whoever waits for it waits 150 ms. */
const RESTART: BackoffOptions = { baseMs: 50, maxMs: 5_000, jitter: 0.3 };
/** One that ran so long died of something new, ms. */
const STABLE_MS = 30_000;
/** From its start until it listens, ms: its store is opened, which Redis may take its time for. */
const READY_TIMEOUT_MS = 10_000;
/** A question that is not answered by then, ms. Redriving thousands of dead letters takes a while. */
const ASK_TIMEOUT_MS = 15_000;
/** One that is told to end, and goes on for so long beyond its grace, is killed, ms. */
const END_GRACE_MS = 2_000;
/**
 * On SIGUSR1 Node opens its debugger, which runs whatever who connects to it says: a function that is a process of the same user may
 * send that signal. V8's young generation is kept small, as the controller's is (cli/supervisor/programs.ts).
 */
const NODE_FLAGS = ['--disable-sigusr1', '--max-semi-space-size=4'];
/** One that has nothing to do for so long is ended: it takes some 45 MB, ms. */
const IDLE_END_MS = 600_000;

/** One that has not been heard for so long hangs, or was stopped: it is killed, and what it had is tried again, ms. */
export const HUNG_MS = 5 * BEAT_MS;
/** The end of that time. Whoever stood still himself (SIGSTOP, a laptop that slept) wakes with all timers due, before he reads what was said meanwhile. */
const LAST_LOOK_MS = BEAT_MS / 2;

/** What a dispatcher is told first, but for its own name and those of the dead. */
export interface DispatcherConfig {
  installation: string;
  functions: FunctionEvents[];
  secrets: SecretTexts;
}

export type DispatcherChange = Omit<Extract<ControllerToDispatcher, { type: 'change' }>, 'type'>;

export interface DispatcherOptions {
  /** The program, and its environment. */
  file: string;
  env: NodeJS.ProcessEnv;
  /** What it is told first, as it is when it starts. */
  config: () => Promise<DispatcherConfig>;
  /** Whether one must run: then it is not ended for being idle. */
  needed: () => boolean;
  clock: Clock;
  log: Log;
}

interface Pending {
  resolve: (value: unknown) => void;
  reject: (error: FnError) => void;
  cancel: () => void;
}

export class DispatcherProcess {
  readonly #options: DispatcherOptions;
  #child: ChildProcess | null = null;
  #owner = '';
  #startedAt = 0;
  #deaths = 0;
  /** Owners of ours that died; told to the next one, which says so to the store. */
  #retired: string[] = [];
  #ready = Promise.withResolvers<void>();
  #isReady = false;
  /** The first message has been sent: changes may follow it. */
  #configured = false;
  /** Changes that came before it. Where it dies meanwhile they are for the next one: what is deleted is in no first message. */
  readonly #untold: DispatcherChange[] = [];
  #cancelRestart: () => void = () => {};
  #closed = false;
  #ending = false;
  #seq = 0;
  readonly #pending = new Map<number, Pending>();
  #stats: FunctionEventStats[] = [];
  #cancelHung: () => void = () => {};

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** What each function's events are like now; empty while none runs. */
  get stats(): readonly FunctionEventStats[] {
    return this.#stats;
  }

  /** Has one run from now on. Idempotent. */
  start(): void {
    if (this.#closed || this.#child !== null) return;
    this.#cancelRestart();
    this.#spawn();
  }

  /** Tells one that runs. One that starts is told all as it was when it began to: then of the change, too. */
  change(change: DispatcherChange): void {
    if (this.#configured) this.#send({ type: 'change', ...change });
    else if (this.#child !== null) this.#untold.push(change);
  }

  /** Starts one where none runs. Throws FnError: what the dispatcher threw, or events-unavailable. */
  async ask<Name extends keyof EventQuestions>(
    question: Name,
    ...args: Parameters<EventQuestions[Name]>
  ): Promise<Awaited<ReturnType<EventQuestions[Name]>>> {
    if (this.#closed) throw unavailable('the controller is about to end');
    this.start();
    await this.#untilReady();
    const seq = (this.#seq += 1);
    const answer = new Promise<unknown>((resolve, reject) => {
      const cancel = this.#options.clock.after(ASK_TIMEOUT_MS, () => {
        this.#pending.delete(seq);
        reject(unavailable(`the dispatcher did not answer within ${ASK_TIMEOUT_MS / 1_000} s`));
      });
      this.#pending.set(seq, { resolve, reject, cancel });
    });
    this.#send({ type: 'ask', seq, question, args } as ControllerToDispatcher);
    // The channel copies values between two programs of one build: what comes back is what the question's type says.
    return (await answer) as Awaited<ReturnType<EventQuestions[Name]>>;
  }

  async #untilReady(): Promise<void> {
    if (this.#isReady) return;
    let cancel = () => {};
    const late = new Promise<never>((_resolve, reject) => {
      cancel = this.#options.clock.after(READY_TIMEOUT_MS, () => reject(unavailable('the dispatcher has not started yet')));
    });
    try {
      await Promise.race([this.#ready.promise, late]);
    } finally {
      cancel();
    }
  }

  #spawn(): void {
    const { file, env, clock, log } = this.#options;
    const owner = `d-${newSecret().slice(0, 16)}`;
    const child = fork(file, [], { env, serialization: 'advanced', execArgv: NODE_FLAGS, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child = child;
    this.#owner = owner;
    this.#startedAt = clock.now();
    this.#ending = false;
    // Both are told of by 'exit', or there never was a process.
    child.on('error', (error) => {
      log.error({ error: error.message }, 'the dispatcher cannot be started, or reached');
      if (child.pid === undefined) this.#gone(child, 'it could not be started');
    });
    child.on('message', (message: DispatcherToController) => this.#receive(message));
    child.on('exit', (code, signal) => this.#gone(child, signal === null ? `exit code ${code}` : `signal ${signal}`));
    this.#listen(child);
    void this.#configure(child, owner);
  }

  async #configure(child: ChildProcess, owner: string): Promise<void> {
    const { config, log } = this.#options;
    try {
      const { installation, functions, secrets } = await config();
      if (this.#child !== child) return;
      this.#configured = true;
      this.#send({ type: 'config', installation, owner, retired: this.#retired, functions, secrets });
      for (const change of this.#untold.splice(0)) this.#send({ type: 'change', ...change });
    } catch (error) {
      log.error({ error: error instanceof Error ? error.message : String(error) }, 'the dispatcher could not be told of the functions');
      child.kill('SIGKILL');
    }
  }

  /** Begins anew with each word of it. */
  #listen(child: ChildProcess): void {
    const { clock, log } = this.#options;
    this.#cancelHung();
    this.#cancelHung = clock.after(HUNG_MS - LAST_LOOK_MS, () => {
      this.#cancelHung = clock.after(LAST_LOOK_MS, () => {
        if (this.#child !== child) return;
        log.error({ pid: child.pid, silentMs: HUNG_MS }, 'the dispatcher is not heard any more: it is ended');
        child.kill('SIGKILL');
      });
    });
  }

  #receive(message: DispatcherToController): void {
    if (this.#child !== null) this.#listen(this.#child);
    switch (message.type) {
      case 'ready':
        this.#isReady = true;
        this.#ready.resolve();
        this.#options.log.info({ pid: this.pid, ms: Math.round(this.#options.clock.now() - this.#startedAt) }, 'the dispatcher is up');
        // They are known to the store as dead.
        this.#retired = [];
        break;
      case 'beat':
        break;
      case 'answer':
        this.#settle(message.seq)?.resolve(message.value);
        break;
      case 'problem': {
        const { problem, retryAfterSeconds } = message;
        const code = ErrorCode.safeParse(problem.code).data ?? 'internal';
        this.#settle(message.seq)?.reject(
          new FnError(code, problem.detail, { errors: problem.errors, retryAfterSeconds: retryAfterSeconds ?? undefined }),
        );
        break;
      }
      case 'stats':
        this.#stats = message.functions;
        break;
      case 'idle':
        if (!this.#options.needed() && this.#options.clock.wall() - message.since > IDLE_END_MS) this.#end(0);
        break;
    }
  }

  #settle(seq: number): Pending | undefined {
    const pending = this.#pending.get(seq);
    this.#pending.delete(seq);
    pending?.cancel();
    return pending;
  }

  #gone(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    const { clock, log, needed } = this.#options;
    this.#child = null;
    this.#cancelHung();
    this.#configured = false;
    if (this.#isReady) this.#ready = Promise.withResolvers<void>();
    this.#isReady = false;
    this.#stats = [];
    this.#retired.push(this.#owner);
    for (const seq of this.#pending.keys()) this.#settle(seq)?.reject(unavailable('the dispatcher ended before it answered'));
    if (this.#closed || (this.#ending && !needed())) return;
    this.#deaths = clock.now() - this.#startedAt > STABLE_MS ? 1 : this.#deaths + 1;
    const delayMs = this.#deaths === 1 ? 0 : backoffMs(this.#deaths - 1, RESTART);
    log.warn({ how, restartInMs: Math.round(delayMs) }, 'the dispatcher has ended; it is started again');
    this.#cancelRestart = clock.after(delayMs, () => this.start());
  }

  #send(message: ControllerToDispatcher): void {
    const child = this.#child;
    if (child === null || !child.connected) return;
    child.send(message, (error) => {
      if (error) this.#options.log.warn({ error: error.message }, 'the dispatcher cannot be told something; its end is heard of next');
    });
  }

  #end(graceMs: number): void {
    const child = this.#child;
    if (child === null) return;
    this.#ending = true;
    this.#send({ type: 'drain', graceMs });
    this.#options.clock.after(graceMs + END_GRACE_MS, () => {
      if (this.#child === child) child.kill('SIGKILL');
    });
  }

  /** Ends it: what runs may end within `graceMs`; what does not is tried again by the next one. Idempotent. */
  async close(graceMs: number): Promise<void> {
    this.#closed = true;
    this.#cancelRestart();
    const child = this.#child;
    if (child === null) return;
    const gone = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
    });
    this.#end(graceMs);
    await gone;
  }
}

const unavailable = (why: string) =>
  new FnError('events-unavailable', `Events cannot be looked at or changed now: ${why}.`, { retryAfterSeconds: 1 });
