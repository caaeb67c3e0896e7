/** Makers of worlds for the core's tests. */
import type { Revision } from '#contract/function.ts';
import { FunctionSettings } from '#contract/function.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { CORE_DEFAULTS, type CoreSettings } from './settings.ts';
import { newRevisionState, World, type Instance, type InstanceState, type RevisionState } from './world.ts';

export const testSettings = (overrides: Partial<CoreSettings> = {}): CoreSettings => ({
  ...CORE_DEFAULTS,
  memoryBudgetMib: 4_096,
  cpuBudget: 64,
  defaultPool: { runtime: 'node', memoryClassMib: 128, network: 'none', image: null, sandbox: null },
  ...overrides,
});

export function testRevision(
  key: string,
  settings: Partial<FunctionSettings> = {},
  slots: number | null = 10,
  routed = true,
): RevisionState {
  const { namespace, name, number } = parseRevisionKey(key);
  const revision: Revision = {
    key,
    namespace,
    name,
    number,
    bundle: `sha256:${'0'.repeat(64)}`,
    entry: 'index.mjs',
    image: null,
    settings: { ...FunctionSettings.parse({}), egress: 'none', ...settings, concurrency: slots ?? 1 } as Revision['settings'],
    form: 'fetch',
    createdAt: 0,
  };
  return { ...newRevisionState(revision, slots), routed, percent: routed ? 100 : 0 };
}

/** A world in which there is nothing but a revision. */
export function worldOf(key: string, settings: Partial<FunctionSettings> = {}, slots = 10): { world: World; revision: RevisionState } {
  const world = new World();
  const revision = testRevision(key, settings, slots);
  world.revisions.set(key, revision);
  return { world, revision };
}

let counter = 0;

export function addInstance(world: World, state: InstanceState, overrides: Partial<Instance> = {}): Instance {
  counter += 1;
  const instance: Instance = {
    id: `i-${String(counter).padStart(12, '0')}`,
    runtime: 'node',
    memoryClassMib: 128,
    network: 'none',
    image: null,
    sandbox: null,
    memoryMib: 128,
    cpu: state.kind === 'generic' || state.kind === 'creating' ? 0 : 1,
    state,
    address: { kind: 'unix', path: '/nowhere' },
    nonce: 'nonce',
    createdAt: 0,
    genericAt: 0,
    specialisedAt: 0,
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
    ...overrides,
  };
  world.addInstance(instance);
  return instance;
}

/** A gateway says that so many wait and so many are in flight. */
export function want(world: World, revision: RevisionState, gateway: string, waiting: number, inFlight = 0, now = 0, serviceMs = 0): void {
  world.setDemand(revision, gateway, { waiting, inFlight, serviceMs, oldestDeadline: now + 30_000 }, now);
}
