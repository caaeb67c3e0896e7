/** Instances as accounting sees them. */
import type { MeteredInstance } from '../accounting/types.ts';
import { revisionOf, type Instance } from '../core/world.ts';
import type { EngineContext } from './context.ts';

/** One that nobody has asked anything for so long is read less often, ms. */
const ACTIVE_MS = 15_000;

/** Those that may go on. What is being created has nothing to be read yet, and of one that ends the last reading is taken at its end. */
export function* meteredInstances({ world, clock }: EngineContext): Iterable<MeteredInstance> {
  for (const instance of world.instances.values()) {
    const { state, id, memoryMib } = instance;
    if (state.kind === 'creating') continue;
    const frozen = state.kind === 'frozen';
    const active = !frozen && isActive(instance, clock.now());
    yield { id, revision: revisionOf(instance), memoryMib, active, frozen, leaving: state.kind === 'draining' };
  }
}

function isActive({ state, leases }: Instance, now: number): boolean {
  if (state.kind === 'generic' || state.kind === 'draining') return false;
  if (leases.size > 0 || !('idleSince' in state)) return true;
  return state.idleSince === null || now - state.idleSince < ACTIVE_MS;
}
