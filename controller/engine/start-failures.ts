/**
 * What becomes of starts that fail: who is told, when the next is tried, and which failures count as
 * one. Creates per minute stay bounded however many wait.
 */
import { backoffMs } from '#kit/backoff.ts';
import { revisionOf, type Instance, type RevisionState } from '../core/world.ts';
import { quotaOf, type EngineContext, type GoneCause, type StartFailure } from './context.ts';
import type { Gateways } from './gateways.ts';
import type { Planner } from './planner.ts';
import type { Rollout } from './rollout.ts';

/** Starts that fail in a row are tried again after 1, 2, 4 … 60 s: creates per minute stay bounded. */
const START_BACKOFF = { baseMs: 1_000, maxMs: 60_000, jitter: 0.25 };
/** A first start that fails by no fault of the function's is tried once more after this, ms, before anybody hears of it. */
const SECOND_TRY_MS = 100;
/** A host that cannot create anything is tried again after 0.1, 0.2 … 30 s. */
const CREATE_BACKOFF = { baseMs: 100, maxMs: 30_000, jitter: 0.25 };
/** So many failed creates in a row and whoever waits is told, rather than at the deadline. */
const MAX_CREATE_FAILURES = 3;
/** So many instances in a row may end before they served anything; one may have been somebody's kill. */
const MAX_EARLY_DEATHS = 2;
/** So many may drain themselves one after the other, which only a function's own code does; those of so long ago do not count, ms. */
const MAX_REFUSALS = 2;
const REFUSALS_KNOWN_MS = 600_000;
/** Whoever waits for memory of a namespace that has used its quota may try again after this, ms. */
const QUOTA_PAUSE_MS = 1_000;
/** In the logs, for what concerns no instance. */
const NO_INSTANCE = 'i-000000000000';

export interface StartFailureParts {
  context: EngineContext;
  gateways: Gateways;
  planner: Planner;
  rollout: Rollout;
  /** Hears of every start that fails. Must not throw. */
  onFailure: (code: StartFailure['code']) => void;
  /** Adds a line of the platform's to the logs of a function. */
  note: (revision: string, text: string, instance: string) => void;
}

export class StartFailures {
  readonly #parts: StartFailureParts;
  #createFailures = 0;

  constructor(parts: StartFailureParts) {
    this.#parts = parts;
  }

  /** Instances can be created: what failed for want of them is not to wait on. */
  created(): void {
    if (this.#createFailures === 0) return;
    this.#createFailures = 0;
    for (const state of this.#parts.context.world.revisions.values()) {
      if (state.problem?.code !== 'start-failed') continue;
      state.failures = 0;
      state.notBefore = 0;
      state.problem = null;
    }
    this.#parts.planner.kick();
  }

  /** The function's failures are its own; those of the platform concern all who wait for an instance. */
  failed(revision: string | null, failure: StartFailure): void {
    const { world } = this.#parts.context;
    this.#parts.onFailure(failure.code);
    this.#parts.planner.kick();
    if (revision === null) {
      this.#createFailures += 1;
      this.#parts.rollout.lastStartFailure = failure;
      this.#parts.planner.pauseCreates(backoffMs(this.#createFailures, CREATE_BACKOFF));
      if (this.#createFailures < MAX_CREATE_FAILURES) return;
      for (const state of world.revisions.values()) {
        if (state.demand.size === 0 && state.floor === 0) continue;
        this.#parts.note(state.key, failure.detail, NO_INSTANCE);
        this.#startFailed(state, failure);
      }
      return;
    }
    this.#parts.note(revision, failure.detail, NO_INSTANCE);
    const state = world.revisions.get(revision);
    if (!state) return;
    if (failure.code === 'start-failed' && this.#isFirst(state)) return;
    this.#startFailed(state, failure);
  }

  /** A hiccup of the platform's: tried once more before anybody hears of it. What failed along with it is the same hiccup. */
  #isFirst(state: RevisionState): boolean {
    const now = this.#parts.context.clock.now();
    if (state.failures > 0) return state.failures === 1 && state.problem === null && now < state.notBefore;
    state.failures = 1;
    state.notBefore = now + SECOND_TRY_MS;
    return true;
  }

  #startFailed(state: RevisionState, failure: StartFailure): void {
    const now = this.#parts.context.clock.now();
    // Starts that were under way together fail together: that is one failure, or twenty would mean a minute's pause.
    if (now >= state.notBefore || state.failures === 0) {
      state.failures += 1;
      const inARow = Math.max(state.failures, state.deaths - MAX_EARLY_DEATHS, state.refusals - MAX_REFUSALS);
      state.notBefore = now + backoffMs(inARow, START_BACKOFF);
    }
    this.#parts.gateways.failWaiters(state, failure);
    this.#parts.rollout.failed(state.key, failure);
  }

  /**
   * One that took no more requests by its own doing. The request that it refused goes to the next one, so where each does so
   * one request would have instances made and ended for as long as it waits.
   */
  drainedItself(instance: Instance): void {
    const { world, clock } = this.#parts.context;
    const state = world.revisions.get(revisionOf(instance) ?? '');
    // Whoever leads, or the host that it is on, may have told it to end meanwhile.
    if (!state || instance.state.kind === 'draining') return;
    const now = clock.now();
    state.refusals = now - state.refusedAt < REFUSALS_KNOWN_MS ? state.refusals + 1 : 1;
    state.refusedAt = now;
    if (state.refusals <= MAX_REFUSALS) return;
    this.failed(state.key, { code: 'function-crashed', detail: 'Its instances drain themselves: they load and then take no requests' });
  }

  /** One that has ended by itself, or is ended. */
  gone(instance: Instance, key: string, cause: GoneCause, detail: string): void {
    const state = this.#parts.context.world.revisions.get(key);
    if (!state) return;
    state.lastDied = cause !== 'stopped';
    // One that was adopted has served; when it was specialised is not known any more.
    const loaded = instance.specialisedAt !== null || instance.served;
    if (cause === 'stopped' || !loaded) return;
    this.#parts.note(key, `instance ${instance.id} ended: ${detail}${cause === 'oom' ? ' (out of memory)' : ''}`, instance.id);
    // One that has served is replaced when it is needed. Where one after the other dies before it has
    // served anything, that is a start which fails, only later than most.
    if (instance.served || (cause !== 'exit' && cause !== 'oom')) return;
    state.deaths += 1;
    if (state.deaths <= MAX_EARLY_DEATHS) return;
    this.failed(key, {
      code: cause === 'oom' ? 'function-oom' : 'function-crashed',
      detail: `It ended soon after it was loaded: ${detail}`,
    });
  }

  /** A namespace uses the memory that it may use, and nothing of it can be stopped. */
  overQuota(state: RevisionState): void {
    const { namespace } = state.revision;
    const { memoryMib } = quotaOf(this.#parts.context.tenancy, namespace);
    const detail = `The namespace ${namespace} uses its quota of ${memoryMib} MiB of memory.`;
    state.notBefore = this.#parts.context.clock.now() + QUOTA_PAUSE_MS;
    this.#parts.gateways.failWaiters(state, { code: 'no-capacity', detail });
    this.#parts.rollout.failed(state.key, { code: 'quota-exceeded', detail });
  }
}
