/**
 * The engine: what its parts (parts.ts) do together, and the Platform that the API speaks to. Order at start:
 * term, link socket, inventory, then the first answer to a gateway and the first decision [1, 3].
 */
import type { AddressInfo } from 'node:net';
import type { FunctionAccess } from '#contract/access.ts';
import type { DeployRequest, DeployResponse, LogEntry, PlatformStatus, RevisionView } from '#contract/api.ts';
import type { CallList, CallQuery, Why } from '#contract/call.ts';
import type { Declaration, DeclaredBy, FunctionView, Traffic } from '#contract/function.ts';
import type { LogStats } from '#contract/log.ts';
import type { FunctionStats, StatsList } from '#contract/stats.ts';
import type { LogSelection, Platform } from '../api/platform.ts';
import { revisionOf, type Instance, type RevisionState } from '../core/world.ts';
import type { FunctionRecord } from '../store/types.ts';
import { takeInventory } from './adopt.ts';
import type { Certificates } from './certificates.ts';
import type { Changes } from './changes.ts';
import { messageOf, type EngineContext, type GoneCause, type InstanceEvents, type InstanceStart, type StartFailure } from './context.ts';
import { deployedLabel, type Deployer } from './deploy.ts';
import { notFound, routeOf, type Functions } from './functions.ts';
import type { Gateways } from './gateways.ts';
import type { Housekeeping } from './housekeeping.ts';
import type { IdleTimes } from './idle-times.ts';
import type { LeavingInstances } from './leaving.ts';
import type { Lifecycle } from './lifecycle.ts';
import { LinkServer } from './link-server.ts';
import { meteredInstances } from './metered.ts';
import { droppedLines } from './log-lines.ts';
import type { FunctionLogs } from './logs.ts';
import type { EngineOptions } from './options.ts';
import { engineParts } from './parts.ts';
import type { Planner } from './planner.ts';
import type { Rollout } from './rollout.ts';
import type { Rotation } from './rotation.ts';
import type { StartFailures } from './start-failures.ts';
import { functionView, platformStatus, revisionViews, type StatusOptions } from './status.ts';
import type { Strays } from './strays.ts';

/**
 * How long what was begun may take to end when the controller does, ms: less than the process is given, so that the lease is given up
 * and another leads at once. In a cluster an instance whose node is gone takes minutes to go.
 */
const CLOSE_DEADLINE_MS = 4_000;
/** How long instances may take to go at shutdown, ms, before what is left is left to the driver. */
const SHUTDOWN_DEADLINE_MS = 20_000;

export class Engine implements Platform, InstanceEvents {
  readonly #options: EngineOptions;
  readonly #context: EngineContext;
  readonly #lifecycle: Lifecycle;
  readonly #gateways: Gateways;
  readonly #planner: Planner;
  readonly #rollout: Rollout;
  readonly #failures: StartFailures;
  readonly #changes: Changes;
  readonly #rotation: Rotation;
  readonly #deployer: Deployer;
  readonly #certificates: Certificates;
  readonly #functions: Functions;
  readonly #housekeeping: Housekeeping;
  readonly #leaving: LeavingInstances;
  readonly #strays: Strays;
  readonly #idleTimes: IdleTimes;
  readonly #logs: FunctionLogs;
  #link: LinkServer | null = null;
  #status: StatusOptions;
  #shutdown: Promise<void> | null = null;

  constructor(options: EngineOptions) {
    this.#options = options;
    const parts = engineParts(options, this, (...line) => this.#note(...line));
    this.#context = parts.context;
    this.#lifecycle = parts.lifecycle;
    this.#gateways = parts.gateways;
    this.#planner = parts.planner;
    this.#rollout = parts.rollout;
    this.#failures = parts.failures;
    this.#changes = parts.changes;
    this.#rotation = parts.rotation;
    this.#deployer = parts.deployer;
    this.#certificates = parts.certificates;
    this.#functions = parts.functions;
    this.#housekeeping = parts.housekeeping;
    this.#leaving = parts.leaving;
    this.#strays = parts.strays;
    this.#idleTimes = parts.idleTimes;
    this.#logs = parts.logs;
    const { version, paths, publicUrl, tlsUrl, clock } = options;
    const controlUrl = `unix:${paths.controlSocket}`;
    this.#status = { version, home: paths.home, publicUrl, tlsUrl, urls: parts.urls, controlUrl, term: 0, startedAt: clock.now() };
  }

  /** The driver has been started: the settings depend on what it can do. */
  async start(): Promise<void> {
    const { driver, store, log, clock, paths, gatewayGid, linkListen } = this.#options;
    const term = this.#options.term ?? (await store.raiseTerm());
    this.#status = { ...this.#status, term };
    await this.#certificates.start();
    this.#link = new LinkServer({ path: paths.linkSocket, gid: gatewayGid, tcp: linkListen, term, events: this.#gateways, log });
    await this.#link.start();
    const records = await store.listFunctions();
    await this.#idleTimes.start(new Set(records.map(({ namespace, name }) => `${namespace}/${name}`)));
    for (const record of records) this.#functions.apply(record, clock.now());
    const { adopted, destroyed } = await takeInventory(this.#context, {
      follow: (instance, revision) => this.follow(instance, revision),
      discard: (instance, why) => this.#lifecycle.discard(instance, why),
      verify: (instance) => this.#lifecycle.verify(instance),
      wake: (revision) => this.#functions.wake(revision),
    });
    await this.#options.accounting.start({
      instances: () => meteredInstances(this.#context),
      revisions: (namespace, name) => this.#functions.get(namespace, name)?.revisions.map(({ number }) => number) ?? null,
      acknowledge: (gateway, seq) => this.#gateways.acknowledgeCounts(gateway, seq),
    });
    this.#lifecycle.inventoryDone();
    const routes = this.#functions.list().map(routeOf);
    this.#gateways.inventoryDone(routes);
    this.#setQuotas();
    this.#options.tenancy.onChange(() => {
      this.#setQuotas();
      return this.#gateways.settingsChanged();
    });
    this.#planner.start();
    this.#leaving.inventoryDone();
    this.#rotation.replaceStale();
    this.#housekeeping.start();
    this.#strays.start();
    log.info(
      { term, driver: driver.name, functions: routes.length, adopted, destroyed, ms: Math.round(clock.now() - this.#status.startedAt) },
      'controller is up',
    );
  }

  /** Where gateways of other hosts dial the link; null: nowhere. */
  get linkAddress(): AddressInfo | null {
    return this.#link?.tcpAddress ?? null;
  }

  /** Ends the controller and leaves the instances running, to be adopted by the next one. */
  async close(): Promise<void> {
    await this.#stop();
    await this.#rotation.settled();
    await this.#lifecycle.settledWithin(CLOSE_DEADLINE_MS);
    await this.#context.codeCaches.settled();
    await this.#logs.close();
    await this.#idleTimes.close();
    await this.#options.accounting.close();
    this.#options.calls.close();
    await this.#options.driver.close();
    await this.#options.resign?.();
    await this.#options.store.close();
  }

  /** Nothing is decided any more, and nobody heard. */
  async #stop(): Promise<void> {
    this.#housekeeping.close();
    this.#leaving.close();
    this.#strays.close();
    this.#planner.stop();
    this.#rollout.close();
    this.#rotation.close();
    await this.#certificates.close();
    this.#lifecycle.end();
    await this.#link?.close();
  }

  /** One that failed, because the engine below is away, can be asked for again. */
  shutdown(): Promise<void> {
    this.#shutdown ??= this.#end().catch((error: unknown) => {
      this.#shutdown = null;
      throw error;
    });
    return this.#shutdown;
  }

  async #end(): Promise<void> {
    const { driver, log, clock, onShutdown } = this.#options;
    await this.#stop();
    for (const instance of this.#context.world.instances.values()) this.#lifecycle.kill(instance, 'stopped', 'the platform shuts down');
    let cancel = () => {};
    const deadline = new Promise<void>((resolve) => {
      cancel = clock.after(SHUTDOWN_DEADLINE_MS, () => {
        log.warn({ instances: this.#context.world.instances.size }, 'not every instance has gone in time');
        resolve();
      });
    });
    await Promise.race([this.#lifecycle.settled().then(() => this.#logs.close()), deadline]);
    cancel();
    await this.#idleTimes.close();
    await this.#options.accounting.close();
    await driver.destroyAll();
    await driver.close();
    onShutdown();
  }

  #setQuotas(): void {
    const quotas = new Map<string, number>();
    for (const { name, settings } of this.#options.tenancy.namespaces())
      if (settings.quota.memoryMib !== null) quotas.set(name, settings.quota.memoryMib);
    this.#planner.setQuotas(quotas);
  }

  /** Memory that instances of each namespace may take now, MiB. */
  async memoryUsage(): Promise<ReadonlyMap<string, number>> {
    return this.#context.world.memoryByNamespace();
  }

  /** A secret has a new value, durably. Instances with the old one are replaced, without losing a request. */
  secretChanged(namespace: string, name: string): void {
    this.#rotation.changed(namespace, name);
  }

  // InstanceEvents

  changed(): void {
    this.#planner.touched();
  }

  created(): void {
    this.#failures.created();
  }

  failed(revision: string | null, failure: StartFailure): void {
    this.#failures.failed(revision, failure);
  }

  claimed(instance: Instance, { key, revision }: RevisionState): void {
    this.#options.accounting.claimed(instance.id, key, revision.settings.memoryMib);
    this.#planner.claimed();
  }

  started(start: InstanceStart): void {
    const { instance, revision, initMs } = start;
    this.#note(revision, `instance ${instance.id} is ready: its code was loaded in ${Math.round(initMs)} ms`, instance.id, 'debug');
    this.#options.accounting.started(revision);
    this.#options.onStart?.(start);
  }

  ready(instance: Instance): void {
    this.#rollout.ready(instance);
    this.#planner.touched();
  }

  gone(instance: Instance, holders: Set<string>, cause: GoneCause, detail: string): void {
    this.#gateways.gone(instance, holders, cause, detail);
    const key = revisionOf(instance);
    if (key !== null) this.#failures.gone(instance, key, cause, detail);
  }

  #note(revision: string, text: string, instance: string, level: LogEntry['level'] = 'error'): void {
    this.#logs.note(revision, instance, level, text, this.#context.clock.wall()).catch((error: unknown) => {
      this.#context.log.warn({ revision, error: messageOf(error) }, 'a line could not be added to the logs of a function');
    });
  }

  follow(instance: Instance, revision: string): void {
    this.#logs.follow(instance.id, revision, (after, signal) => this.#options.driver.logs(instance.id, after, signal));
  }

  async unfollow(instance: Instance, cause: GoneCause): Promise<void> {
    await Promise.all([this.#logs.end(instance.id, cause !== 'stopped'), this.#options.accounting.ended(instance.id)]);
  }

  /** Lines of functions that were never kept, as far as their logs are open. */
  get logLinesDropped(): number {
    return this.#logs.dropped;
  }

  // Platform

  async status(): Promise<PlatformStatus> {
    const parts = { functions: this.#functions, gateways: this.#gateways, events: this.#options.events };
    const status = await platformStatus(this.#context, parts, this.#status);
    status.store = this.#options.storeAddress;
    status.features.notes.push(...(this.#options.notes ?? []), ...this.#certificates.notes());
    return status;
  }

  async deploy(
    namespace: string,
    name: string,
    request: DeployRequest,
    signal: AbortSignal,
    declaration?: Declaration,
  ): Promise<DeployResponse> {
    if (request.access) await this.#checkEvents(namespace, name, request.access);
    const response = await this.#deployer.deploy(namespace, name, request, signal, declaration);
    this.#options.log.info({ revision: response.revision.key, what: deployedLabel(response.revision), ...response.timing }, 'deployed');
    this.#retire(namespace, name);
    return response;
  }

  /** Nobody waits for it: what the deployment was asked for is done. */
  #retire(namespace: string, name: string): void {
    this.#changes.retire(namespace, name).catch((error: unknown) => {
      this.#options.log.warn({ function: `${namespace}/${name}`, error: messageOf(error) }, 'old revisions could not be removed');
    });
  }

  #view(record: FunctionRecord): FunctionView {
    return functionView(this.#context, record, this.#status.urls);
  }

  async describe(namespace: string, name: string): Promise<FunctionView> {
    return this.#view(this.#functions.require(namespace, name));
  }

  async list(namespace?: string): Promise<FunctionView[]> {
    return this.#functions.list(namespace).map((record) => this.#view(record));
  }

  async revisions(namespace: string, name: string): Promise<RevisionView[]> {
    return revisionViews(this.#context, this.#functions.require(namespace, name), this.#status.urls);
  }

  async setTraffic(namespace: string, name: string, traffic: Traffic, ifMatch: string | null, signal: AbortSignal): Promise<FunctionView> {
    const record = await this.#changes.setTraffic(namespace, name, traffic, ifMatch, signal);
    this.#options.log.info({ function: `${namespace}/${name}`, traffic }, 'traffic shifted');
    return this.#view(record);
  }

  async setAccess(
    namespace: string,
    name: string,
    access: FunctionAccess,
    ifMatch: string | null,
    declaredBy?: DeclaredBy,
  ): Promise<FunctionView> {
    await this.#checkEvents(namespace, name, access);
    return this.#view(await this.#changes.setAccess(namespace, name, access, ifMatch, declaredBy));
  }

  #checkEvents(namespace: string, name: string, access: FunctionAccess): Promise<void> | undefined {
    return this.#options.events?.check(namespace, access, this.#functions.get(namespace, name)?.access ?? null);
  }

  /** Throws FnError function-not-found. */
  function(namespace: string, name: string): FunctionRecord {
    return this.#functions.require(namespace, name);
  }

  /** By namespace, then name. */
  functions(namespace?: string): FunctionRecord[] {
    return this.#functions.list(namespace);
  }

  async delete(namespace: string, name: string): Promise<void> {
    const through = await this.#changes.delete(namespace, name);
    if (through === null) throw notFound(namespace, name);
    await this.#logs.remove(namespace, name, through);
  }

  async *logs(namespace: string, name: string, selection: LogSelection, signal: AbortSignal): AsyncGenerator<LogEntry> {
    this.#functions.require(namespace, name);
    yield* this.#logs.read(namespace, name, selection, signal);
  }

  async logStats(namespace: string, name: string): Promise<LogStats> {
    this.#functions.require(namespace, name);
    return this.#logs.stats(namespace, name);
  }

  /** What is told is as of now: gateways are asked for what they have counted. */
  async #counted(): Promise<void> {
    await this.#options.accounting.refresh();
    await this.#gateways.flushCalls();
    await this.#options.accounting.keep();
  }

  async stats(namespaces?: readonly string[]): Promise<StatsList> {
    await this.#counted();
    return this.#options.accounting.list(namespaces);
  }

  async functionStats(namespace: string, name: string): Promise<FunctionStats> {
    await this.#counted();
    const stats = this.#options.accounting.function(namespace, name);
    if (stats === null) throw notFound(namespace, name);
    return stats;
  }

  async listCalls(namespace: string, name: string, query: CallQuery): Promise<CallList> {
    this.#functions.require(namespace, name);
    // Gateways tell in batches: who lists right after a request wants to see that one.
    await this.#gateways.flushCalls();
    return this.#options.calls.list(namespace, name, query);
  }

  why(namespace: string, requestId: string): Promise<Why> {
    return this.#options.calls.why(namespace, requestId, {
      logs: (of, name, query) => this.#logs.read(of, name, { follow: false, ...query }, new AbortController().signal),
      recall: (id) => this.#gateways.recall(id),
      revision: (key) => this.#functions.revision(key),
      dropped: droppedLines,
    });
  }
}
