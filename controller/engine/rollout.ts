/**
 * Instances that a change asks for before it takes effect [15]: a first one, or the reason why there
 * is none; then as many as the load that is to come needs.
 */
import { FnError } from '#contract/errors.ts';
import type { Instance, RevisionState } from '../core/world.ts';
import type { EngineContext, StartFailure } from './context.ts';
import type { Planner } from './planner.ts';

/** Longest wait for the first instance of a revision: a full start and its init, on a busy host. */
const FIRST_INSTANCE_TIMEOUT_MS = 60_000;
/** Longest wait for the rest of the instances that the present load asks for; after it, traffic moves all the same. */
const LOAD_TIMEOUT_MS = 10_000;
/** How often it is looked whether they are there. */
const LOOK_EVERY_MS = 20;

/** What a revision is to be ready for. */
export interface Load {
  /** At a time. */
  requests: number;
  /** Of the function's traffic: so much of `min` it has to keep. */
  percent: number;
}

interface Waiting {
  resolve: (instance: Instance) => void;
  reject: (error: FnError) => void;
}

export class Rollout {
  readonly #context: EngineContext;
  readonly #planner: Planner;
  readonly #waiting = new Map<string, Waiting>();
  #closed = false;
  /** A start of the pool failed: whoever waits for a first instance should hear of it only if none comes; so the last reason is kept. */
  lastStartFailure: StartFailure | null = null;

  constructor(context: EngineContext, planner: Planner) {
    this.#context = context;
    this.#planner = planner;
  }

  /** The controller ends: what waits is refused, and what comes. */
  close(): void {
    this.#closed = true;
    for (const waiting of this.#waiting.values()) waiting.reject(ending());
  }

  /** Throws where the change is not to go on. */
  goOn(signal: AbortSignal): void {
    if (this.#closed) throw ending();
    if (signal.aborted) throw cancelled();
  }

  ready(instance: Instance): void {
    const key = 'revision' in instance.state ? instance.state.revision : null;
    // A secret has changed while it was loaded: the plan brings another up.
    if (key !== null && !instance.stale) this.#waiting.get(key)?.resolve(instance);
  }

  failed(revision: string, failure: StartFailure): void {
    this.#waiting.get(revision)?.reject(changeError(failure));
  }

  /** Instances that serve as soon as they are asked to; a frozen one thaws in less than a millisecond. */
  #ready(state: RevisionState): Instance[] {
    return [...this.#context.world.instancesOf(state.key)].filter(
      ({ state: { kind }, stale }) => !stale && (kind === 'ready' || kind === 'frozen'),
    );
  }

  /**
   * Floor 1 makes the plan bring one up; this waits for it, or for the reason why not. Whoever calls
   * takes the floor away again. Throws FnError deploy-refused, start-failed, no-capacity, conflict, shutting-down.
   */
  async firstInstance(state: RevisionState, signal: AbortSignal): Promise<Instance> {
    const { clock } = this.#context;
    this.goOn(signal);
    state.floor = Math.max(state.floor, 1);
    const { promise, resolve, reject } = Promise.withResolvers<Instance>();
    this.#waiting.set(state.key, { resolve, reject });
    this.lastStartFailure = null;
    const cancel = clock.after(FIRST_INSTANCE_TIMEOUT_MS, () => {
      const detail =
        this.lastStartFailure?.detail ??
        `No instance could be had within ${FIRST_INSTANCE_TIMEOUT_MS / 1_000} s: the budget is in use, or the host is too busy.`;
      reject(new FnError(this.lastStartFailure ? 'start-failed' : 'no-capacity', detail, { retryAfterSeconds: 5 }));
    });
    const onAbort = () => reject(cancelled());
    signal.addEventListener('abort', onAbort, { once: true });
    // One that is being frozen or thawed right now counts for the plan, and ends in a state that no start tells of.
    let cancelLook = () => {};
    const look = () => {
      const serving = this.#ready(state)[0];
      if (serving) resolve(serving);
      else cancelLook = clock.after(LOOK_EVERY_MS, look);
    };
    look();
    this.#planner.kick();
    try {
      return await promise;
    } finally {
      cancel();
      cancelLook();
      signal.removeEventListener('abort', onAbort);
      this.#waiting.delete(state.key);
    }
  }

  /** At least ceil(requests ÷ slots) ready, and its share of `min`; as far as budget and time allow. */
  async readyForLoad(state: RevisionState, { requests, percent }: Load, signal: AbortSignal): Promise<void> {
    const { clock } = this.#context;
    const { min, max } = state.revision.settings;
    const wanted = Math.min(max, Math.max(1, Math.ceil((min * percent) / 100), Math.ceil(requests / (state.slots ?? 1))));
    if (wanted <= 1) return;
    state.floor = wanted;
    this.#planner.kick();
    const end = clock.now() + LOAD_TIMEOUT_MS;
    while (this.#ready(state).length < wanted && clock.now() < end && !signal.aborted && !this.#closed && state.failures === 0) {
      await new Promise<void>((resolve) => {
        clock.after(LOOK_EVERY_MS, resolve);
      });
    }
    this.goOn(signal);
  }

  /** What was asked for is not needed any more. */
  done(state: RevisionState): void {
    state.floor = 0;
    this.#planner.kick();
  }
}

/** A start that failed, as whoever changes the function is told. */
function changeError({ code, detail, functionError }: StartFailure): FnError {
  if (code === 'start-failed' || code === 'quota-exceeded' || code === 'no-capacity')
    return new FnError(code, detail, { retryAfterSeconds: 5 });
  return new FnError('deploy-refused', detail, { functionError });
}

const ending = () => new FnError('shutting-down', 'The platform is shutting down.', { retryAfterSeconds: 5 });
const cancelled = () => new FnError('conflict', 'The change was cancelled.');
