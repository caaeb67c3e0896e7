/** An instance as it begins, and the state of its start. */
import type { Instance, PoolKey, RevisionState } from '../core/world.ts';
import type { Exit } from '../driver/types.ts';

/** Without code, and not there yet. */
export function newInstance(
  id: string,
  { runtime, memoryClassMib, network, image, sandbox }: PoolKey,
  nonce: string,
  now: number,
): Instance {
  return {
    id,
    runtime,
    memoryClassMib,
    network,
    image,
    sandbox,
    memoryMib: memoryClassMib,
    cpu: 0,
    state: { kind: 'creating' },
    address: null,
    nonce,
    createdAt: now,
    genericAt: null,
    specialisedAt: null,
    initMs: 0,
    notBefore: 0,
    busySince: null,
    leases: new Map(),
    secrets: null,
    stale: false,
    served: false,
    prewarmed: false,
    suspicions: 0,
    suspect: false,
    handle: '',
    pid: null,
    startedAt: '',
  };
}

/** W3C context of whoever has waited longest for an instance of the revision. */
export function oldestTrace(revision: RevisionState): string | null {
  const waiting = [...revision.demand.values()].filter((demand) => demand.waiting > 0);
  return waiting.sort((a, b) => (a.since ?? 0) - (b.since ?? 0))[0]?.traceparent ?? null;
}

/** A start under way. */
export interface Start {
  abort: AbortController;
  /** The driver's word, once the instance has ended. */
  exit: Exit | null;
  onExit: (exit: Exit) => void;
  exited: Promise<Exit>;
  done: Promise<void>;
  end: () => void;
}

export function newStart(): Start {
  const exited = Promise.withResolvers<Exit>();
  const done = Promise.withResolvers<void>();
  const start: Start = {
    abort: new AbortController(),
    exit: null,
    onExit: (exit) => {
      start.exit = exit;
      exited.resolve(exit);
    },
    exited: exited.promise,
    done: done.promise,
    end: done.resolve,
  };
  return start;
}
