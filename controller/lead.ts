/** What the controller that leads is made of: the composition root. Loaded when it is needed, for one that stands by needs little. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { InstanceView } from '#contract/api.ts';
import { tcpListen } from '#kit/link-endpoint.ts';
import type { Log } from '#kit/log.ts';
import { systemClock } from '#kit/clock.ts';
import { planTelemetry } from '#kit/telemetry.ts';
import type { HomePaths } from '#kit/paths.ts';
import { onShutdown } from '#kit/shutdown.ts';
import metadata from '../package.json' with { type: 'json' };
import { Accounting } from './accounting/accounting.ts';
import { createApi } from './api/app.ts';
import { startApiServer, type ApiServer } from './api/server.ts';
import { Calls } from './calls/calls.ts';
import { coreSettings, engineSocket, hostAndPort, retention, settingsNotes, type ControllerConfig } from './config.ts';
import type { DeclaredOptions } from './declared/ports.ts';
import type { Declared } from './declared/start.ts';
import type { Driver } from './driver/types.ts';
import { Engine } from './engine/engine.ts';
import { dispatcherEnv } from './events/environment.ts';
import { networksOf } from './events/function-events.ts';
import { EventsService } from './events/service.ts';
import { httpRuntimeClient } from './engine/runtime-client.ts';
import { SealedSecrets } from './secrets/secrets.ts';
import { LeaderLabel } from './kube/leader-label.ts';
import type { KubernetesSettings } from './kube/settings.ts';
import type { KubeApi } from './kube/types.ts';
import type { BundleStore, InstanceRecords, LogFiles, Store } from './store/types.ts';
import { type ControllerState, startControllerTelemetry } from './telemetry.ts';
import { AuditLog } from './tenants/audit.ts';
import { ensureToken, readToken } from './tenants/home-token.ts';
import { Tenants } from './tenants/tenants.ts';

/** How long SIGTERM may take; instances live on and the next controller adopts them. */
const CLOSE_DEADLINE_MS = 10_000;

/** Events that run may take so long to end when the controller ends; what does not is tried again by the next one, ms. */
const EVENTS_GRACE_MS = 3_000;

/** Bundles start bundles, sources start sources. */
function dispatcherFile(): string {
  return join(import.meta.dirname, import.meta.filename.endsWith('.ts') ? 'dispatcher-main.ts' : 'dispatcher.mjs');
}

/** The cluster that instances are pods of, or that functions are declared in. */
export interface Cluster {
  api: KubeApi;
  settings: KubernetesSettings;
}

/** What is kept in the store where controllers share no disk. */
export interface Shared {
  records: InstanceRecords;
  logFiles: LogFiles;
}

interface DriverSurroundings {
  config: ControllerConfig;
  paths: HomePaths;
  /** null: nothing is in one. */
  cluster: Cluster | null;
  log: Log;
}

/** Only the driver that is used is loaded: the other's libraries would cost memory for nothing. */
async function createDriver({ config, paths, cluster, log }: DriverSurroundings): Promise<Driver> {
  const { version } = metadata;
  if (cluster !== null && config.FN_DRIVER === 'kubernetes') {
    const { createKubernetesDriver } = await import('./driver/kubernetes/driver.ts');
    return createKubernetesDriver({ ...cluster, images: config.FN_RUNTIME_IMAGES, version, log });
  }
  if (config.FN_DRIVER === 'process') {
    const { createProcessDriver } = await import('./driver/process/driver.ts');
    return createProcessDriver({ paths, shims: config.FN_RUNTIME_SHIMS, nodeFlags: config.FN_NODE_FLAGS, version, log });
  }
  const { createDockerDriver } = await import('./driver/docker/driver.ts');
  return createDockerDriver({
    paths,
    images: config.FN_RUNTIME_IMAGES,
    version,
    memoryBudgetMib: config.FN_MEMORY_BUDGET_MIB,
    cpuBudget: config.FN_CPU_BUDGET,
    egressPolicy: config.FN_ALLOW_UNFILTERED_EGRESS === '1' ? 'allow-unfiltered' : 'require-filter',
    log,
    socketPath: engineSocket(config),
  });
}

/** Follows the objects of a cluster that declare functions; null where there is none to follow. */
async function declare(cluster: Cluster | null, parts: Omit<DeclaredOptions, 'api' | 'settings'>): Promise<Declared | null> {
  if (cluster === null || cluster.settings.declared.length === 0) return null;
  const { startDeclared } = await import('./declared/start.ts');
  return startDeclared({ ...parts, ...cluster });
}

/** MiB that the instances of each namespace may take; generic ones are the platform's. */
function memoryByNamespace(instances: readonly InstanceView[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { namespace, memoryMib } of instances)
    if (namespace !== undefined) sums.set(namespace, (sums.get(namespace) ?? 0) + memoryMib);
  return sums;
}

/** Ends every instance of the home, and removes what the driver made. */
export async function cleanUp(around: DriverSurroundings): Promise<void> {
  const driver = await createDriver(around);
  await driver.start();
  await driver.destroyAll();
  await driver.close();
  await around.cluster?.api.close();
  await rm(around.paths.records, { recursive: true, force: true });
}

export interface LeadOptions extends DriverSurroundings {
  env: NodeJS.ProcessEnv;
  store: Store;
  bundles: BundleStore;
  /** null: records and logs are in the home. */
  shared: Shared | null;
  /** The store as people may see it: without a password. */
  storeAddress: string;
  /** That it leads under; null: it is alone, and raises it itself. */
  term: number | null;
  /** Whether this process certainly leads, at this moment. */
  leads: () => boolean;
  /** Gives up what says that this process leads; called when it ends in order and nothing is written any more. */
  resign: () => Promise<void>;
}

/** Label of the pod of who leads, where it is one. */
function leaderLabel({ cluster, store, log }: LeadOptions): LeaderLabel | null {
  const self = cluster?.settings.self ?? null;
  if (cluster === null || self === null) return null;
  return new LeaderLabel({ api: cluster.api, self, leads: () => store.holdsTerm(), clock: systemClock, log });
}

/** The token for the control API over TCP; null: it is not served there. */
async function homeTokenOf({ config, paths }: LeadOptions): Promise<string | null> {
  if (config.FN_API_LISTEN === undefined) return null;
  return config.FN_API_TOKEN_FILE === undefined ? ensureToken(paths.tokenFile) : readToken(config.FN_API_TOKEN_FILE);
}

/** Takes over what runs, and serves: resolves when it does. Ends the process when that is told to end. */
export async function lead(options: LeadOptions): Promise<void> {
  const { env, config, paths, cluster, log, store, bundles, shared, storeAddress } = options;
  const label = leaderLabel(options);
  label?.start();
  const resign = async () => {
    await label?.close();
    await options.resign();
  };
  const driver = await createDriver(options);
  await driver.start();
  const clock = systemClock;
  const homeToken = await homeTokenOf(options);
  const tenants = await Tenants.open({ store, clock, homeToken });
  const secrets = new SealedSecrets({
    store,
    keyFile: config.FN_SECRET_KEY_FILE ?? paths.secretKey,
    clock,
    onChanged: (namespace, name) => {
      engine.secretChanged(namespace, name);
      events.secretChanged(namespace, name);
    },
  });
  const keyFault = await secrets.fault();
  if (keyFault !== null) log.error({ fault: keyFault }, 'secrets cannot be opened: functions that need them do not start');
  const plan = planTelemetry(env, config.FN_METRICS_LISTEN === undefined ? null : hostAndPort(config.FN_METRICS_LISTEN));
  const calls = new Calls({
    path: paths.callsDatabase,
    clock,
    log,
    maxRecords: config.FN_CALLS_KEPT,
    maxAgeMs: config.FN_CALLS_MAX_AGE_SECONDS * 1_000,
    slowMs: config.FN_SLOW_MS,
    traces: plan?.logs ?? false,
  });
  const accounting = new Accounting({ store, driver, clock, log });
  const events: EventsService = new EventsService({
    functions: () => engine,
    reveal: (namespace, names) => secrets.reveal(namespace, names),
    namespace: (name) => tenants.settings(name),
    installation: () => store.installationId(),
    dispatcher: { file: dispatcherFile(), env: dispatcherEnv(env) },
    // What is in a Redis, nobody knows who has not asked: the dispatcher does.
    mayHaveEvents: () => config.FN_STORE !== 'sqlite' || existsSync(paths.eventsDatabase),
    publicUrl: config.FN_PUBLIC_URL,
    clock,
    log,
  });
  const servers: ApiServer[] = [];
  const closeServers = () => Promise.all(servers.map((server) => server.close()));
  const state: ControllerState = {
    status: () => engine.status(),
    logLinesDropped: () => engine.logLinesDropped,
    events: () => ({ dispatcher: events.dispatcherPid !== null, functions: events.stats }),
    calls: () => ({ kept: calls.told.records - calls.lost, skipped: calls.told.skipped, lost: calls.lost }),
    usage: () => accounting.metrics(),
    traceOf: (request) => calls.traceOf(request),
  };
  const telemetry = plan === null ? null : await startControllerTelemetry({ plan, version: metadata.version, state, clock, log });
  let declared: Declared | null = null;
  const engine: Engine = new Engine({
    paths,
    settings: coreSettings(config, driver.features),
    driver,
    store,
    bundles,
    records: shared?.records,
    logFiles: shared?.logFiles,
    runtime: httpRuntimeClient,
    clock,
    log,
    version: metadata.version,
    storeAddress,
    publicUrl: config.FN_PUBLIC_URL,
    tlsUrl: config.FN_TLS_URL,
    publicHosts: config.FN_PUBLIC_HOSTS,
    secrets,
    tenancy: tenants,
    retention: retention(config),
    imageKeepMs: config.FN_IMAGE_KEEP_SECONDS * 1_000,
    certificates: config.FN_TLS_CERTS ?? null,
    calls,
    accounting,
    onStart: telemetry?.onStart,
    onStartFailure: telemetry?.onStartFailure,
    onLogEntries: telemetry?.onLogEntries,
    gatewayGid: config.FN_GATEWAY_GID ?? null,
    linkListen: tcpListen({ listen: config.FN_LINK_LISTEN, tokenFile: config.FN_LINK_TOKEN_FILE, tlsDir: config.FN_LINK_TLS_DIR }),
    events,
    term: options.term,
    leads: options.leads,
    notes: [...settingsNotes(config, env), ...(keyFault === null ? [] : [keyFault])],
    resign,
    onFunctionChange: (namespace, name) => declared?.functionChanged(namespace, name),
    onShutdown: () => {
      void Promise.all([declared?.close(), events.close(0)])
        .then(() => closeServers())
        .then(() => resign())
        .then(() => Promise.all([store.close(), cluster?.api.close(), telemetry?.close()]))
        .finally(() => process.exit(0));
    },
  });
  await engine.start();
  events.start();
  tenants.onChange(() => events.namespacesChanged());
  tenants.measureWith(async () => memoryByNamespace((await engine.status()).instances));
  const audit = new AuditLog({ store, clock, log, keep: config.FN_AUDIT_KEEP });
  const { images } = driver;
  const registries = config.FN_REGISTRIES;
  const networks = (namespace: string) => networksOf(namespace, tenants.settings(namespace));
  declared = await declare(cluster, { platform: engine, tenants, audit, bundles, store, networks, clock, log });
  const api = { platform: engine, events, secrets, tenants, audit, bundles, artifacts: store, images, registries, log };
  const app = createApi({ ...api, version: metadata.version });
  servers.push(await startApiServer({ app, listen: { path: paths.controlSocket }, log }));
  if (config.FN_API_LISTEN !== undefined) servers.push(await startApiServer({ app, listen: hostAndPort(config.FN_API_LISTEN), log }));
  label?.listens();
  onShutdown(
    async () => {
      await closeServers();
      await declared?.close();
      await events.close(EVENTS_GRACE_MS);
      await engine.close();
      await cluster?.api.close();
      await telemetry?.close();
    },
    { deadlineMs: CLOSE_DEADLINE_MS },
  );
}
