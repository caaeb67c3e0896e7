/** The parts of the engine, put together: what each is given of the others, and who hears of what. */
import { DEFAULT_ACCESS } from '#contract/access.ts';
import { World } from '../core/world.ts';
import { Certificates } from './certificates.ts';
import { Changes } from './changes.ts';
import { CodeCaches } from './code-cache.ts';
import type { EngineContext, InstanceEvents } from './context.ts';
import { Deployer } from './deploy.ts';
import { Functions } from './functions.ts';
import { Gateways } from './gateways.ts';
import { Housekeeping } from './housekeeping.ts';
import { IdleTimes } from './idle-times.ts';
import { LeavingInstances } from './leaving.ts';
import { Lifecycle } from './lifecycle.ts';
import { LogFolder } from './log-folder.ts';
import { FunctionLogs } from './logs.ts';
import type { EngineOptions } from './options.ts';
import { Planner } from './planner.ts';
import { FileRecords } from './records.ts';
import { Rollout } from './rollout.ts';
import { Rotation } from './rotation.ts';
import type { PlatformHosts } from './routes.ts';
import { SecretDelivery } from './secrets.ts';
import { StartFailures, type StartFailureParts } from './start-failures.ts';
import { urlsAt, type Urls } from './status.ts';
import { Strays } from './strays.ts';

export interface EngineParts {
  readonly context: EngineContext;
  readonly lifecycle: Lifecycle;
  readonly gateways: Gateways;
  readonly planner: Planner;
  readonly rollout: Rollout;
  readonly failures: StartFailures;
  readonly changes: Changes;
  readonly rotation: Rotation;
  readonly deployer: Deployer;
  readonly certificates: Certificates;
  readonly functions: Functions;
  readonly housekeeping: Housekeeping;
  readonly leaving: LeavingInstances;
  readonly strays: Strays;
  readonly idleTimes: IdleTimes;
  readonly logs: FunctionLogs;
  readonly urls: Urls;
}

/** Nothing is started by it. `events` hears of instances; `note` adds a line of the platform's to the logs of a function. */
export function engineParts(options: EngineOptions, events: InstanceEvents, note: StartFailureParts['note']): EngineParts {
  const context = contextOf(options);
  const { clock, log, records } = context;
  const functions = new Functions(context.world);
  const idleTimes = new IdleTimes(context);
  functions.onChange = (namespace, name, record) => {
    if (record === null) idleTimes.removed(namespace, name);
    options.events?.functionChanged(namespace, name, record);
    options.onFunctionChange?.(namespace, name);
  };
  const retention = (namespace: string, name: string) => (functions.get(namespace, name)?.access ?? DEFAULT_ACCESS).logs;
  const files = options.logFiles ?? new LogFolder(options.paths.logs);
  const logs = new FunctionLogs({ files, records, clock, log, retention, onEntries: options.onLogEntries });
  const lifecycle = new Lifecycle(context, events);
  const gateways = new Gateways(context, lifecycle, () => events.changed());
  const onCertificates = () => gateways.certificatesChanged();
  const certificates = new Certificates({ folder: options.certificates, clock, log, onChange: onCertificates });
  const planner = new Planner(context, lifecycle, gateways, (state) => failures.overQuota(state));
  if (options.onPass !== undefined) planner.onPass = options.onPass;
  const rollout = new Rollout(context, planner);
  const shared = { context, lifecycle, gateways, planner, functions, rollout };
  const failures: StartFailures = new StartFailures({ ...shared, onFailure: (code) => options.onStartFailure?.(code), note });
  const changes = new Changes(shared, options.retention, hostsOf(options));
  const rotation = new Rotation({ ...shared, changes });
  const housekeeping = new Housekeeping({ ...shared, changes, imageKeepMs: options.imageKeepMs });
  const strays = new Strays(context);
  const leaving = new LeavingInstances({
    ...shared,
    replaceStale: (namespace) => rotation.replaceStale(namespace),
    drainThenKill: (id, cause, detail) => gateways.drain(id, cause, detail),
  });
  const { publicUrl, tlsUrl } = options;
  const urls = urlsAt(publicUrl, tlsUrl === undefined ? null : { url: tlsUrl, covers: (host) => certificates.covers(host) });
  const deployer = new Deployer({ ...shared, changes, urls });
  const apart = { failures, changes, rotation, deployer, certificates, housekeeping, leaving, strays, idleTimes, logs, urls };
  const parts = { ...shared, ...apart };
  hearGateways(parts, options);
  return parts;
}

function contextOf({ paths, log, runtime, secrets, ...options }: EngineOptions): EngineContext {
  const { settings, driver, store, bundles, clock, tenancy } = options;
  return {
    world: new World(),
    settings,
    driver,
    store,
    bundles,
    runtime,
    records: options.records ?? new FileRecords(paths.records),
    clock,
    log,
    secrets: new SecretDelivery(secrets),
    codeCaches: new CodeCaches({ folder: paths.codeCaches, runtime, log }),
    tenancy,
    leads: options.leads ?? (() => true),
  };
}

function hostsOf({ publicUrl, tlsUrl, publicHosts = [] }: EngineOptions): PlatformHosts {
  const own = [publicUrl, tlsUrl].flatMap((url) => (url === undefined ? [] : new URL(url).hostname));
  return [...own, ...publicHosts];
}

/** What gateways say and ask that is another part's. */
function hearGateways({ gateways, functions, certificates, failures, rotation }: EngineParts, options: EngineOptions): void {
  gateways.wake = (revision) => functions.wake(revision);
  gateways.onEventsWanted = () => options.events?.wanted();
  gateways.certificates = () => certificates.current;
  gateways.onCalls = (calls, skipped) => options.calls.add(calls, skipped);
  gateways.onCounted = (gateway, batch) => options.accounting.counted(gateway, batch);
  gateways.onDrainedItself = (instance) => failures.drainedItself(instance);
  gateways.onStaleHeld = () => rotation.replaceStale();
}
