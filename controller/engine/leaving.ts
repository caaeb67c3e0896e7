/**
 * Instances that others take away soon: a node is drained, a pod evicted. Those that serve do so until as many fresh
 * ones are ready, as where a secret changed; where none can be had in time, what they hold is drained. Those that are idle
 * are asked first whether anything is in flight, as any that is stopped: a gateway may not have come back yet, or the
 * function may go on after its answer.
 */
import { revisionOf, type Instance } from '../core/world.ts';
import type { Leaving } from '../driver/types.ts';
import type { EngineContext, GoneCause } from './context.ts';
import type { Lifecycle } from './lifecycle.ts';

/** Of the time that is left, so much is for fresh instances to come up; the rest is for what is in flight. */
const REPLACING_SHARE = 0.5;

export interface LeavingParts {
  context: EngineContext;
  lifecycle: Lifecycle;
  /** Has stale instances of all functions of a namespace replaced. */
  replaceStale: (namespace: string) => void;
  drainThenKill: (id: string, cause: GoneCause, detail: string) => void;
}

/** It serves, or is on its way between serving and idleness. */
const serves = ({ state: { kind } }: Instance): boolean => kind === 'ready' || kind === 'settling';

export class LeavingInstances {
  readonly #parts: LeavingParts;
  /** Told of before the inventory was done: they may concern what it is about to adopt. */
  #untold: Leaving[] | null = [];
  readonly #ends = new Map<string, () => void>();

  constructor(parts: LeavingParts) {
    this.#parts = parts;
    parts.context.driver.onLeaving((leaving) => this.#leaving(leaving));
  }

  inventoryDone(): void {
    const untold = this.#untold ?? [];
    this.#untold = null;
    for (const leaving of untold) this.#leaving(leaving);
  }

  /** The controller ends: what is about to be taken away is the next one's. */
  close(): void {
    for (const cancel of this.#ends.values()) cancel();
    this.#ends.clear();
  }

  #leaving(leaving: Leaving): void {
    const { context, lifecycle, replaceStale, drainThenKill } = this.#parts;
    const { world, clock, log } = context;
    const { id, why, graceMs } = leaving;
    if (this.#untold !== null) {
      this.#untold.push(leaving);
      return;
    }
    const instance = world.instances.get(id);
    if (instance === undefined || instance.state.kind === 'draining') return;
    log.info({ instance: id, why, graceMs }, 'an instance is about to be taken away');
    const key = revisionOf(instance);
    const revision = key === null ? undefined : world.revisions.get(key);
    if (revision === undefined || !serves(instance)) {
      lifecycle.kill(instance, 'stopped', why);
      return;
    }
    instance.stale = true;
    replaceStale(revision.revision.namespace);
    this.#ends.get(id)?.();
    const cancel = clock.after(graceMs * REPLACING_SHARE, () => {
      this.#ends.delete(id);
      // What goes on in it without a lease has until whoever takes it away ends it; it is asked again and again.
      if (instance.leases.size === 0) return;
      drainThenKill(id, 'stopped', why);
    });
    this.#ends.set(id, cancel);
  }
}
