/** The platform as `fn status` shows it. */
import type { RouteSpec } from '#contract/access.ts';
import type { InstanceView, PlatformStatus, RevisionView } from '#contract/api.ts';
import type { FunctionView } from '#contract/function.ts';
import { functionPath, parseRevisionKey, previewPath } from '#contract/names.ts';
import { idleStops } from '../core/plan-idle.ts';
import { isLive, revisionOf, type Instance } from '../core/world.ts';
import type { FunctionRecord } from '../store/types.ts';
import type { Driver } from '../driver/types.ts';
import { messageOf, type EngineContext } from './context.ts';
import { currentRevision, shareOf, type Functions } from './functions.ts';
import type { Gateways } from './gateways.ts';
import type { EngineEvents } from './options.ts';

/** URLs as people are shown them. */
export interface Urls {
  function: (namespace: string, name: string) => string;
  preview: (namespace: string, name: string, number: number) => string;
  /** Of a route; a pattern stays a pattern. */
  route: (route: RouteSpec) => string;
}

/** Where TLS is served, https://HOST:PORT, and for which hosts there is a certificate. */
export interface Secure {
  url: string;
  covers: (host: string) => boolean;
}

/** `publicUrl`: http://HOST:PORT without a slash at the end. Hosts of routes are reached at the same port, or by TLS where that is served for them. */
export function urlsAt(publicUrl: string, secure: Secure | null): Urls {
  const at = (base: string, host: string) => {
    const { protocol, port } = new URL(base);
    return `${protocol}//${host}${port === '' ? '' : `:${port}`}`;
  };
  return {
    function: (namespace, name) => `${publicUrl}${functionPath(namespace, name)}`,
    preview: (namespace, name, number) => `${publicUrl}${previewPath(namespace, name, number)}`,
    route: ({ host, path }) => {
      if (host === undefined) return `${publicUrl}${path}`;
      return `${at(secure?.covers(host) ? secure.url : publicUrl, host)}${path}`;
    },
  };
}

export interface StatusOptions {
  version: string;
  home: string;
  publicUrl: string;
  tlsUrl?: string | undefined;
  urls: Urls;
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

function viewOf(instance: Instance, now: number, stopsAt: number | null | undefined): InstanceView {
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
    ...(stopsAt === undefined ? {} : { goesInSeconds: stopsAt === null ? null : Math.max(0, Math.round((stopsAt - now) / 1_000)) }),
  };
}

const liveInstances = (context: EngineContext, key: string): number => [...context.world.instancesOf(key)].filter(isLive).length;

const instancesOf = (context: EngineContext, record: FunctionRecord): number =>
  record.revisions.reduce((sum, revision) => sum + liveInstances(context, revision.key), 0);

/** Longest wait for the driver's word on its runtimes, ms: a busy machine needs seconds, an engine that hangs for ever. */
const DRIVER_ANSWER_MS = 5_000;

type Runtimes = PlatformStatus['runtimes'];

/** What is amiss with a runtime is a note; so is a driver that is away, or hangs: only its own part of the status is not told then. */
export async function runtimesOf({ driver, clock }: Pick<EngineContext, 'clock'> & { driver: Pick<Driver, 'name' | 'runtimes'> }): Promise<{
  runtimes: Runtimes;
  notes: string[];
}> {
  let cancel = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(DRIVER_ANSWER_MS, () => reject(new Error(`no answer within ${DRIVER_ANSWER_MS / 1_000} s`)));
  });
  try {
    const found = await Promise.race([driver.runtimes(), late]);
    return {
      runtimes: found.map(({ name, version, image }) => ({ name, version, ...(image === undefined ? {} : { image }) })),
      notes: found.flatMap(({ note }) => note ?? []),
    };
  } catch (error) {
    return {
      runtimes: [],
      notes: [`Instances cannot be started or ended now, as the driver ${driver.name} does not answer: ${messageOf(error)}`],
    };
  } finally {
    cancel();
  }
}

type EventsTold = Pick<EngineEvents, 'dispatcherPid' | 'stats'>;

/** Its triggers, and its events that wait, run or are kept as dead; left out where there are none. */
function eventsOf(record: FunctionRecord, events: EventsTold | undefined): Pick<PlatformStatus['functions'][number], 'events'> {
  const triggers = record.access.triggers.length;
  const stats = events?.stats.find(({ namespace, name }) => namespace === record.namespace && name === record.name);
  const { waiting = 0, running = 0, dead = 0 } = stats ?? {};
  return triggers + waiting + running + dead > 0 ? { events: { triggers, waiting, running, dead } } : {};
}

export async function platformStatus(
  context: EngineContext,
  { functions, gateways, events }: { functions: Functions; gateways: Gateways; events: EventsTold | undefined },
  options: StatusOptions,
): Promise<PlatformStatus> {
  const { world, driver, settings, clock } = context;
  const now = clock.now();
  const { freeze, limits, parentCgroup, egress, notes } = driver.features;
  const { runtimes, notes: onRuntimes } = await runtimesOf(context);
  const connected = gateways.connected;
  const stops = new Map([...world.revisions.values()].flatMap((revision) => [...idleStops(world, revision, settings, now)]));
  return {
    version: options.version,
    home: options.home,
    gateway: { pid: connected.at(-1)?.pid ?? null, url: options.publicUrl, tlsUrl: options.tlsUrl, connected: connected.length },
    controller: {
      pid: process.pid,
      url: options.controlUrl,
      term: options.term,
      uptimeSeconds: Math.round((now - options.startedAt) / 1_000),
    },
    gateways: connected.map(({ key, pid }) => ({ id: key, pid })),
    dispatcher: { pid: events?.dispatcherPid ?? null },
    driver: driver.name,
    features: { freeze, exactLimits: limits, parentCgroup, egress, notes: [...onRuntimes, ...notes] },
    budget: {
      memoryMib: settings.memoryBudgetMib,
      memoryUsedMib: world.memoryUsedMib(),
      cpu: settings.cpuBudget,
      cpuUsed: world.cpuUsed(),
    },
    runtimes,
    functions: functions.list().map((record) => ({
      namespace: record.namespace,
      name: record.name,
      revision: currentRevision(record).key,
      url: options.urls.function(record.namespace, record.name),
      instances: instancesOf(context, record),
      ...eventsOf(record, events),
    })),
    instances: [...world.instances.values()].map((instance) => viewOf(instance, now, stops.get(instance.id))),
  };
}

export function functionView(context: EngineContext, record: FunctionRecord, urls: Urls): FunctionView {
  const { namespace, name, traffic, access, declaredBy, generation, revisions } = record;
  return {
    namespace,
    name,
    url: urls.function(namespace, name),
    urls: access.routes.map((route) => urls.route(route)),
    revision: currentRevision(record),
    traffic,
    access,
    ...(declaredBy === undefined ? {} : { declaredBy }),
    etag: String(generation),
    revisions: revisions.map((revision) => revision.number),
    instances: instancesOf(context, record),
  };
}

/** The newest first. */
export function revisionViews(context: EngineContext, record: FunctionRecord, urls: Urls): RevisionView[] {
  return record.revisions.map((revision) => ({
    ...revision,
    percent: shareOf(record, revision.number),
    previewUrl: urls.preview(record.namespace, record.name, revision.number),
    instances: liveInstances(context, revision.key),
  }));
}
