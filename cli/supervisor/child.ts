/** A process that is started again when it dies: at once the first time, then with growing pauses. */
import type { ChildProcess } from 'node:child_process';
import { backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { ProcessIdentity } from '../process-identity.ts';
import { identify } from '../process-identity.ts';

export interface ChildOptions {
  name: string;
  spawn: () => ChildProcess;
  log: Log;
  clock: Clock;
  /** Called after each start, also the first. */
  onStart: (identity: ProcessIdentity | null) => void;
  /** Called when it died by itself; a false answer means: do not start it again. */
  onDeath: (detail: string) => boolean;
}

const RESTART_BACKOFF = { baseMs: 100, maxMs: 10_000, jitter: 0.2 } as const;
/** A process that lived so long has recovered: the next death is a first one again. */
const STABLE_MS = 60_000;

type State =
  | { kind: 'idle' }
  | { kind: 'running'; process: ChildProcess; startedAt: number; exited: Promise<void> }
  | { kind: 'waiting'; cancel: () => void }
  | { kind: 'stopped' };

export class Child {
  readonly #options: ChildOptions;
  #state: State = { kind: 'idle' };
  /** Deaths since it was last stable. */
  #deaths = 0;

  constructor(options: ChildOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /** null while it does not run. */
  get pid(): number | null {
    return this.#state.kind === 'running' ? (this.#state.process.pid ?? null) : null;
  }

  get running(): boolean {
    return this.#state.kind === 'running';
  }

  start(): void {
    const { spawn, clock, onStart } = this.#options;
    const child = spawn();
    const exited = Promise.withResolvers<void>();
    this.#state = { kind: 'running', process: child, startedAt: clock.now(), exited: exited.promise };
    let settled = false;
    const ended = (detail: string) => {
      if (settled) return;
      settled = true;
      exited.resolve();
      this.#ended(child, detail);
    };
    child.once('exit', (code, signal) => ended(signal === null ? `exit code ${code}` : `signal ${signal}`));
    child.once('error', (error) => {
      // Where the process never began there is no exit to wait for.
      if (child.pid === undefined) ended(error.message);
    });
    onStart(child.pid === undefined ? null : identify(child.pid));
  }

  /** Sends SIGTERM, and SIGKILL after `graceMs`; resolves when it is gone. It is not started again. Idempotent. */
  async stop(graceMs: number): Promise<void> {
    const state = this.#state;
    this.#state = { kind: 'stopped' };
    if (state.kind === 'waiting') state.cancel();
    if (state.kind !== 'running') return;
    state.process.kill('SIGTERM');
    const cancel = this.#options.clock.after(graceMs, () => {
      this.#options.log.warn({ child: this.#options.name, graceMs }, 'did not end in time: killed');
      state.process.kill('SIGKILL');
    });
    await state.exited;
    cancel();
  }

  /** Lets it end by itself, without a new start; resolves false where it still runs after `timeoutMs`. */
  async awaitEnd(timeoutMs: number): Promise<boolean> {
    const state = this.#state;
    if (state.kind === 'waiting') state.cancel();
    if (state.kind !== 'running') {
      this.#state = { kind: 'stopped' };
      return true;
    }
    this.#ending = true;
    const timeout = Promise.withResolvers<false>();
    const cancel = this.#options.clock.after(timeoutMs, () => timeout.resolve(false));
    const ended = await Promise.race([state.exited.then(() => true), timeout.promise]);
    cancel();
    return ended;
  }

  /** It was asked to end: its exit is no death. */
  #ending = false;

  #ended(child: ChildProcess, detail: string): void {
    const { name, log, clock, onDeath } = this.#options;
    const state = this.#state;
    if (state.kind !== 'running' || state.process !== child) return;
    if (this.#ending) {
      this.#state = { kind: 'stopped' };
      return;
    }
    const livedMs = clock.now() - state.startedAt;
    this.#deaths = livedMs >= STABLE_MS ? 1 : this.#deaths + 1;
    this.#state = { kind: 'idle' };
    log.error({ child: name, detail, livedMs: Math.round(livedMs), deaths: this.#deaths }, `${name} died`);
    if (!onDeath(detail)) return;
    if (this.#deaths === 1) {
      this.start();
      return;
    }
    const delayMs = backoffMs(this.#deaths - 1, RESTART_BACKOFF);
    log.warn({ child: name, delayMs: Math.round(delayMs) }, `${name} is started again after a pause`);
    this.#state = { kind: 'waiting', cancel: clock.after(delayMs, () => this.start()) };
  }
}
