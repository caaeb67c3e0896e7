/** The platform as `fn status` shows it. */
import type { InstanceView, PlatformStatus } from '#contract/api.ts';
import type { FunctionView } from '#contract/function.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { isLive, revisionOf, type Instance, type RevisionState } from '../core/world.ts';
import type { EngineContext } from './context.ts';
import type { Gateways } from './gateways.ts';

export interface StatusOptions {
  version: string;
  home: string;
  publicUrl: string;
  functionUrl: (namespace: string, name: string) => string;
  controlUrl: string;
  term: number;
  /** Monotonic ms. */
  startedAt: number;
}

function stateOf(instance: Instance): InstanceView['state'] {
  switch (instance.state.kind) {
    case 'generic':
      return 'generic';
    case 'creating':
    case 'specialising':
      return 'starting';
    case 'ready':
    case 'settling':
    case 'thawing':
      return instance.leases.size > 0 ? 'busy' : 'idle';
    case 'frozen':
      return 'frozen';
    case 'draining':
      return 'draining';
  }
}

function viewOf(instance: Instance, now: number): InstanceView {
  const revision = revisionOf(instance);
  const of = revision === null ? null : parseRevisionKey(revision);
  return {
    id: instance.id,
    state: stateOf(instance),
    runtime: instance.runtime,
    ...(of === null || revision === null ? {} : { namespace: of.namespace, function: of.name, revision }),
    memoryMib: instance.memoryMib,
    cpu: instance.cpu,
    network: instance.network,
    ...(instance.pid === null ? {} : { pid: instance.pid }),
    ...(instance.handle === '' ? {} : { handle: instance.handle }),
    ageSeconds: Math.round((now - instance.createdAt) / 100) / 10,
  };
}

const liveInstances = (context: EngineContext, revision: RevisionState): number =>
  [...context.world.instancesOf(revision.key)].filter(isLive).length;

export async function platformStatus(context: EngineContext, gateways: Gateways, options: StatusOptions): Promise<PlatformStatus> {
  const { world, driver, settings, clock } = context;
  const now = clock.now();
  const { freeze, limits, parentCgroup, egress, notes } = driver.features;
  const routed = [...world.revisions.values()].filter((state) => state.routed).sort((a, b) => a.key.localeCompare(b.key));
  const connected = gateways.connected;
  return {
    version: options.version,
    home: options.home,
    gateway: { pid: connected.at(-1)?.pid ?? null, url: options.publicUrl, connected: connected.length },
    controller: {
      pid: process.pid,
      url: options.controlUrl,
      term: options.term,
      uptimeSeconds: Math.round((now - options.startedAt) / 1_000),
    },
    driver: driver.name,
    features: { freeze, exactLimits: limits, parentCgroup, egress, notes: [...notes] },
    budget: {
      memoryMib: settings.memoryBudgetMib,
      memoryUsedMib: world.memoryUsedMib(),
      cpu: settings.cpuBudget,
      cpuUsed: world.cpuUsed(),
    },
    runtimes: await driver.runtimes(),
    functions: routed.map((state) => ({
      namespace: state.revision.namespace,
      name: state.revision.name,
      revision: state.key,
      url: options.functionUrl(state.revision.namespace, state.revision.name),
      instances: liveInstances(context, state),
    })),
    instances: [...world.instances.values()].map((instance) => viewOf(instance, now)),
  };
}

export function functionView(context: EngineContext, state: RevisionState, revisions: number[], options: StatusOptions): FunctionView {
  const { namespace, name } = state.revision;
  return {
    namespace,
    name,
    url: options.functionUrl(namespace, name),
    revision: state.revision,
    revisions,
    instances: liveInstances(context, state),
  };
}
