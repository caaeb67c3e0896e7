/**
 * Rotation: instances that have the old value of a secret are replaced. Those in use serve on until as
 * many fresh ones are ready, as in a deployment; then their leases are taken back, what is in flight
 * ends, and they are stopped. Where no fresh one can be had, they serve what they hold, and it is tried again.
 */
import { isLive, type Instance, type RevisionState } from '../core/world.ts';
import type { FunctionRecord } from '../store/types.ts';
import type { Changes } from './changes.ts';
import { messageOf, type EngineContext } from './context.ts';
import type { Functions } from './functions.ts';
import type { Gateways } from './gateways.ts';
import type { Planner } from './planner.ts';
import type { Rollout } from './rollout.ts';

/** Where no fresh instance could be had, it is tried again after this, ms: what the value is for may have been away. */
const AGAIN_MS = 30_000;

export interface RotationParts {
  context: EngineContext;
  functions: Functions;
  changes: Changes;
  gateways: Gateways;
  planner: Planner;
  rollout: Rollout;
}

export class Rotation {
  readonly #parts: RotationParts;
  readonly #abort = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** Cancels the next attempt of a function. */
  readonly #again = new Map<string, () => void>();

  constructor(parts: RotationParts) {
    this.#parts = parts;
  }

  close(): void {
    this.#abort.abort();
    for (const cancel of this.#again.values()) cancel();
  }

  /** Resolves when no rotation is under way. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  /** A value has changed, durably: every instance that was given one before is stale, those of a deployment that is under way too. */
  changed(namespace: string, name: string): void {
    const { context } = this.#parts;
    context.secrets.changed();
    for (const state of context.world.revisions.values())
      if (state.revision.namespace === namespace && state.revision.settings.secrets.includes(name)) this.#outdate(state);
    this.replaceStale(namespace);
  }

  #outdate(state: RevisionState): void {
    // It may have failed for want of this secret.
    Object.assign(state, { failures: 0, notBefore: 0, problem: null });
    for (const instance of this.#parts.context.world.instancesOf(state.key)) if (instance.secrets !== null) instance.stale = true;
  }

  /** Replaces what is stale, also where a controller before this one could not finish it. */
  replaceStale(namespace?: string): void {
    for (const record of this.#parts.functions.list(namespace)) this.#start(record);
    this.#parts.planner.kick();
  }

  #start({ namespace, name, revisions }: FunctionRecord): void {
    const { changes, context } = this.#parts;
    const key = `${namespace}/${name}`;
    this.#again.get(key)?.();
    this.#again.delete(key);
    if (!revisions.some((revision) => this.#stale(revision.key).length > 0)) return;
    const running: Promise<void> = changes
      .serialise(namespace, name, () => this.#replace(namespace, name))
      .catch((error: unknown) => {
        // The controller ends; the next one sees by the records what is left to do.
        if (this.#abort.signal.aborted) return;
        const what = 'instances with the old value of a secret could not be replaced; they serve on';
        context.log.error({ function: key, error: messageOf(error) }, what);
        this.#startAgain(namespace, name);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** One later attempt for each function, however many have failed. */
  #startAgain(namespace: string, name: string): void {
    const { functions, context } = this.#parts;
    const key = `${namespace}/${name}`;
    this.#again.get(key)?.();
    const cancel = context.clock.after(AGAIN_MS, () => {
      const record = functions.get(namespace, name);
      if (record && !this.#abort.signal.aborted) this.#start(record);
    });
    this.#again.set(key, cancel);
  }

  #stale(key: string): Instance[] {
    return [...this.#parts.context.world.instancesOf(key)].filter((instance) => instance.stale && isLive(instance));
  }

  async #replace(namespace: string, name: string): Promise<void> {
    const { functions, context } = this.#parts;
    for (const revision of functions.get(namespace, name)?.revisions ?? []) {
      const inUse = this.#stale(revision.key).filter((instance) => instance.leases.size > 0);
      if (inUse.length === 0) continue;
      await this.#bringUp(functions.stateOf(revision));
      for (const instance of this.#stale(revision.key)) this.#parts.gateways.revokeInstance(instance);
      context.log.info({ revision: revision.key, instances: inUse.length }, 'instances with the old value of a secret were replaced');
    }
  }

  async #bringUp(state: RevisionState): Promise<void> {
    const { rollout, changes } = this.#parts;
    const { signal } = this.#abort;
    try {
      await rollout.firstInstance(state, signal);
      await rollout.readyForLoad(state, changes.loadOf(state), signal);
    } finally {
      rollout.done(state);
    }
  }
}
