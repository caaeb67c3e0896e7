/**
 * The imaginary machine below the fake driver. It outlives drivers as an engine outlives controllers,
 * and is where a test makes things happen: ends, output, delays, failures.
 */
import type { Clock } from '#kit/clock.ts';
import type { Address } from '#contract/runtime.ts';
import type { CreateSpec, Exit, Leaving, LogChunk, SpecialiseSpec } from '../types.ts';
import { serveFakeInstance, type FakeServer } from './server.ts';

export type FakeOperation = 'start' | 'create' | 'seal' | 'specialise' | 'freeze' | 'thaw' | 'kill' | 'list';

/** Output kept per instance, pieces; the oldest go, as a driver's own limit makes them. */
const MAX_OUTPUT = 10_000;

export interface FakeInstance {
  spec: CreateSpec;
  address: Address;
  startedAt: string;
  running: boolean;
  sealed: boolean;
  frozen: boolean;
  specialised: SpecialiseSpec | null;
  output: LogChunk[];
  /** Pieces that were dropped from the front of `output`. */
  dropped: number;
  server: FakeServer | null;
  /** What it has used; a test moves it. */
  used: { cpuUs: number; memoryBytes: number; peakBytes: number | null };
}

/** What a user request to a fake instance is answered with. */
export type FakeHandler = (
  request: { method: string; url: string },
  instance: FakeInstance,
  host: FakeHost,
) => { status: number; body: string };

export interface FakeHostOptions {
  clock: Clock;
  /** How long each operation takes, ms of the clock; 0 where it is not named. */
  latencyMs?: Partial<Record<FakeOperation, number>>;
  /** With it, instances really listen: on the unix socket that it names. */
  socketOf?: (id: string) => string;
  handler?: FakeHandler;
}

export class FakeHost {
  readonly clock: Clock;
  readonly latencyMs: Partial<Record<FakeOperation, number>>;
  readonly instances = new Map<string, FakeInstance>();
  /** All that drivers did, in its order. */
  readonly calls: { operation: FakeOperation; id: string | null; at: number }[] = [];
  readonly #options: FakeHostOptions;
  readonly #failures: { operation: FakeOperation; error: Error }[] = [];
  readonly #watchers = new Set<(exit: Exit) => void>();
  readonly #leavers = new Set<(leaving: Leaving) => void>();
  readonly #writers = new Set<() => void>();
  #started = 0;

  constructor(options: FakeHostOptions) {
    this.clock = options.clock;
    this.latencyMs = { ...options.latencyMs };
    this.#options = options;
  }

  /** The next call of an operation fails so; several are used up in their order. */
  failNext(operation: FakeOperation, error: Error): void {
    this.#failures.push({ operation, error });
  }

  /** An instance ends by itself. No effect on one that is gone or has ended. */
  end(id: string, cause: Exit['cause'] = 'exit', detail = 'exit code 1'): void {
    const instance = this.instances.get(id);
    if (!instance?.running) return;
    instance.running = false;
    void instance.server?.close();
    for (const watcher of this.#watchers) watcher({ id, cause, detail });
    this.#wakeReaders();
  }

  /** An instance is about to be taken away by others. */
  leave(leaving: Leaving): void {
    for (const leaver of this.#leavers) leaver(leaving);
  }

  /** For drivers. */
  watchLeaving(leaver: (leaving: Leaving) => void): void {
    this.#leavers.add(leaver);
  }

  /** An instance writes. */
  write(id: string, stream: 'stdout' | 'stderr', text: string): void {
    const instance = this.instances.get(id);
    if (!instance?.running) return;
    const position = String(instance.dropped + instance.output.length + 1);
    instance.output.push({ stream, data: Buffer.from(text), position });
    if (instance.output.length > MAX_OUTPUT) {
      instance.output.shift();
      instance.dropped += 1;
    }
    this.#wakeReaders();
  }

  /** For drivers: takes its time, and fails where it was told to. */
  async perform(operation: FakeOperation, id: string | null): Promise<void> {
    this.calls.push({ operation, id, at: this.clock.now() });
    const latency = this.latencyMs[operation] ?? 0;
    if (latency > 0) await new Promise<void>((resolve) => void this.clock.after(latency, resolve));
    const index = this.#failures.findIndex((failure) => failure.operation === operation);
    if (index >= 0) throw this.#failures.splice(index, 1)[0]!.error;
  }

  /** For drivers. */
  async add(spec: CreateSpec): Promise<FakeInstance> {
    const path = this.#options.socketOf?.(spec.id) ?? `/fake/${spec.id}/s`;
    const instance: FakeInstance = {
      spec,
      address: { kind: 'unix', path },
      startedAt: `${new Date(this.clock.wall()).toISOString()}#${++this.#started}`,
      running: true,
      sealed: false,
      frozen: false,
      specialised: null,
      output: [],
      dropped: 0,
      server: null,
      used: { cpuUs: 0, memoryBytes: 0, peakBytes: null },
    };
    if (this.#options.socketOf) instance.server = await serveFakeInstance(path, instance, this, this.#options.handler);
    this.instances.set(spec.id, instance);
    return instance;
  }

  /** For drivers: nothing is told to watchers. */
  async remove(id: string): Promise<void> {
    const instance = this.instances.get(id);
    if (!instance) return;
    instance.running = false;
    this.instances.delete(id);
    this.#wakeReaders();
    await instance.server?.close();
  }

  /** For drivers; the returned function ends it. */
  watch(watcher: (exit: Exit) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** For drivers: resolves at the next output or end, or when aborted. */
  change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#writers.delete(wake);
        signal.removeEventListener('abort', wake);
        resolve();
      };
      if (signal.aborted) return resolve();
      this.#writers.add(wake);
      signal.addEventListener('abort', wake, { once: true });
    });
  }

  #wakeReaders(): void {
    for (const wake of [...this.#writers]) wake();
  }
}
