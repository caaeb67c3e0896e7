/**
 * The engine: puts the parts together and is the Platform that the API speaks to. Order at start:
 * term, link socket, inventory, then the first answer to a gateway and the first decision [1, 3].
 */
import type { DeployRequest, DeployResponse, LogEntry, PlatformStatus } from '#contract/api.ts';
import type { FunctionView, Revision } from '#contract/function.ts';
import { functionPath, parseRevisionKey } from '#contract/names.ts';
import { backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import type { Platform } from '../api/platform.ts';
import type { CoreSettings } from '../core/settings.ts';
import { revisionOf, World, type Instance, type RevisionState } from '../core/world.ts';
import type { Driver } from '../driver/types.ts';
import type { BundleStore, Store } from '../store/types.ts';
import { takeInventory } from './adopt.ts';
import { messageOf, type EngineContext, type GoneCause, type InstanceEvents, type StartFailure } from './context.ts';
import { Deployer, deployedLabel, routeOf } from './deploy.ts';
import { Gateways, notFound } from './gateways.ts';
import { Lifecycle } from './lifecycle.ts';
import { LinkServer } from './link-server.ts';
import { FunctionLogs } from './logs.ts';
import { Planner } from './planner.ts';
import { Records } from './records.ts';
import type { RuntimeClient } from './runtime-client.ts';
import { functionView, platformStatus, type StatusOptions } from './status.ts';

/** Starts that fail in a row are tried again after 1, 2, 4 … 60 s: creates per minute stay bounded. */
const START_BACKOFF = { baseMs: 1_000, maxMs: 60_000, jitter: 0.25 };
/** A first start that fails by no fault of the function's is tried once more after this, ms, before anybody hears of it. */
const SECOND_TRY_MS = 100;
/** A host that cannot create anything is tried again after 0.1, 0.2 … 30 s. */
const CREATE_BACKOFF = { baseMs: 100, maxMs: 30_000, jitter: 0.25 };
/** So many failed creates in a row and whoever waits is told, rather than at the deadline. */
const MAX_CREATE_FAILURES = 3;
/** So many instances in a row may end before they served anything; one may have been somebody's kill. */
const MAX_EARLY_DEATHS = 2;
/** How often bundles that no revision refers to are looked for, ms, and how old they must be. */
const PRUNE_EVERY_MS = 3_600_000;
/** How long instances may take to go at shutdown, ms, before what is left is left to the driver. */
const SHUTDOWN_DEADLINE_MS = 20_000;

export interface EngineOptions {
  paths: HomePaths;
  settings: CoreSettings;
  driver: Driver;
  store: Store;
  bundles: BundleStore;
  runtime: RuntimeClient;
  clock: Clock;
  log: Log;
  version: string;
  /** http://HOST:PORT of the gateways, without a slash at the end. */
  publicUrl: string;
  /** Group of the gateway's process, where it has a uid of its own. */
  gatewayGid: number | null;
  /** Ends the process after shutdown(). */
  onShutdown: () => void;
}

export class Engine implements Platform, InstanceEvents {
  readonly #options: EngineOptions;
  readonly #context: EngineContext;
  readonly #lifecycle: Lifecycle;
  readonly #gateways: Gateways;
  readonly #planner: Planner;
  readonly #deployer: Deployer;
  readonly #logs: FunctionLogs;
  #link: LinkServer | null = null;
  #status: StatusOptions;
  #createFailures = 0;
  #cancelPrune: () => void = () => {};
  #closed = false;
  #shutdown: Promise<void> | null = null;

  constructor(options: EngineOptions) {
    const { settings, driver, store, bundles, runtime, clock, log, paths } = options;
    this.#options = options;
    const records = new Records(paths.records);
    this.#context = {
      world: new World(),
      settings,
      driver,
      store,
      bundles,
      runtime,
      records,
      clock,
      log,
    };
    this.#logs = new FunctionLogs({ folder: paths.logs, records, clock, log });
    this.#lifecycle = new Lifecycle(this.#context, this);
    this.#gateways = new Gateways(this.#context, () => this.changed());
    this.#gateways.attach(this.#lifecycle);
    this.#planner = new Planner(this.#context, this.#lifecycle, this.#gateways);
    const functionUrl = (namespace: string, name: string) => `${options.publicUrl}${functionPath(namespace, name)}`;
    this.#deployer = new Deployer({
      context: this.#context,
      lifecycle: this.#lifecycle,
      gateways: this.#gateways,
      planner: this.#planner,
      publicUrl: functionUrl,
    });
    this.#status = {
      version: options.version,
      home: paths.home,
      publicUrl: options.publicUrl,
      functionUrl,
      controlUrl: `unix:${paths.controlSocket}`,
      term: 0,
      startedAt: clock.now(),
    };
  }

  /** The driver has been started: the settings depend on what it can do. */
  async start(): Promise<void> {
    const { driver, store, log, clock, paths, gatewayGid } = this.#options;
    const term = await store.raiseTerm();
    this.#status = { ...this.#status, term };
    this.#link = new LinkServer({ path: paths.linkSocket, gid: gatewayGid, term, events: this.#gateways, log });
    await this.#link.start();
    const { adopted, destroyed } = await takeInventory(this.#context, {
      follow: (instance, revision) => this.follow(instance, revision),
      discard: (instance, why) => this.#lifecycle.discard(instance, why),
      verify: (instance) => this.#lifecycle.verify(instance),
    });
    this.#lifecycle.inventoryDone();
    const routes = [...this.#context.world.revisions.values()].filter((state) => state.routed).map((state) => routeOf(state.revision));
    this.#gateways.inventoryDone(routes);
    this.#planner.start();
    this.#prune();
    log.info(
      { term, driver: driver.name, functions: routes.length, adopted, destroyed, ms: Math.round(clock.now() - this.#status.startedAt) },
      'controller is up',
    );
  }

  /** Ends the controller and leaves the instances running, to be adopted by the next one. */
  async close(): Promise<void> {
    await this.#stop();
    await this.#lifecycle.settled();
    await this.#logs.close();
    await this.#options.driver.close();
    await this.#options.store.close();
  }

  /** Nothing is decided any more, and nobody heard. */
  async #stop(): Promise<void> {
    this.#closed = true;
    this.#cancelPrune();
    this.#planner.stop();
    this.#deployer.close();
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
    await driver.destroyAll();
    await driver.close();
    onShutdown();
  }

  #prune(): void {
    const { store, bundles, clock, log } = this.#options;
    const run = async () => {
      try {
        const removed = await bundles.prune(await store.bundlesInUse(), PRUNE_EVERY_MS);
        if (removed > 0) log.info({ removed }, 'removed bundles that no revision refers to');
      } catch (error) {
        log.warn({ error: messageOf(error) }, 'bundles could not be pruned');
      }
      if (!this.#closed) this.#cancelPrune = clock.after(PRUNE_EVERY_MS, () => void run());
    };
    void run();
  }

  // InstanceEvents

  changed(): void {
    this.#planner.kick();
  }

  /** Instances can be created: what failed for want of them is not to wait on. */
  created(): void {
    if (this.#createFailures === 0) return;
    this.#createFailures = 0;
    for (const state of this.#context.world.revisions.values()) {
      if (state.problem?.code !== 'start-failed') continue;
      state.failures = 0;
      state.notBefore = 0;
      state.problem = null;
    }
  }

  claimed(): void {
    this.#planner.claimed();
  }

  ready(instance: Instance): void {
    this.#deployer.ready(instance);
    this.#planner.kick();
  }

  /** The function's failures are its own; those of the platform concern all who wait for an instance. */
  failed(revision: string | null, failure: StartFailure): void {
    const { world } = this.#context;
    if (revision === null) {
      this.#createFailures += 1;
      this.#deployer.lastStartFailure = failure;
      this.#planner.pauseCreates(backoffMs(this.#createFailures, CREATE_BACKOFF));
      if (this.#createFailures < MAX_CREATE_FAILURES) return;
      for (const state of world.revisions.values()) if (state.demand.size > 0 || state.floor > 0) this.#startFailed(state, failure);
      return;
    }
    this.#note(revision, failure.detail);
    const state = world.revisions.get(revision);
    if (!state) return;
    if (failure.code === 'start-failed' && this.#isFirst(state)) return;
    this.#startFailed(state, failure);
  }

  /** A hiccup of the platform's: tried once more before anybody hears of it. What failed along with it is the same hiccup. */
  #isFirst(state: RevisionState): boolean {
    const now = this.#context.clock.now();
    if (state.failures > 0) return state.failures === 1 && state.problem === null && now < state.notBefore;
    state.failures = 1;
    state.notBefore = now + SECOND_TRY_MS;
    return true;
  }

  #startFailed(state: RevisionState, failure: StartFailure): void {
    const now = this.#context.clock.now();
    // Starts that were under way together fail together: that is one failure, or twenty would mean a minute's pause.
    if (now >= state.notBefore || state.failures === 0) {
      state.failures += 1;
      state.notBefore = now + backoffMs(Math.max(state.failures, state.deaths - MAX_EARLY_DEATHS), START_BACKOFF);
    }
    this.#gateways.failWaiters(state, failure);
    this.#deployer.failed(state.key, failure);
  }

  #note(revision: string, text: string, instance = 'i-000000000000'): void {
    this.#logs.note(revision, instance, 'error', text, this.#context.clock.wall()).catch((error: unknown) => {
      this.#context.log.warn({ revision, error: messageOf(error) }, 'a line could not be added to the logs of a function');
    });
  }

  gone(instance: Instance, holders: Set<string>, cause: GoneCause, detail: string): void {
    this.#gateways.gone(instance, holders, cause, detail);
    const key = revisionOf(instance);
    const state = key === null ? undefined : this.#context.world.revisions.get(key);
    // One that was adopted has served; when it was specialised is not known any more.
    const loaded = instance.specialisedAt !== null || instance.served;
    if (!state || key === null || cause === 'stopped' || !loaded) return;
    this.#note(key, `instance ${instance.id} ended: ${detail}${cause === 'oom' ? ' (out of memory)' : ''}`, instance.id);
    // One that has served is replaced when it is needed. Where one after the other dies before it has
    // served anything, that is a start which fails, only later than most.
    if (instance.served || (cause !== 'exit' && cause !== 'oom')) return;
    state.deaths += 1;
    if (state.deaths <= MAX_EARLY_DEATHS) return;
    this.failed(key, {
      code: cause === 'oom' ? 'function-oom' : 'function-crashed',
      detail: `It ended soon after it was loaded: ${detail}`,
    });
  }

  follow(instance: Instance, revision: string): void {
    this.#logs.follow(instance.id, revision, (after, signal) => this.#options.driver.logs(instance.id, after, signal));
  }

  unfollow(instance: Instance, cause: GoneCause): Promise<void> {
    return this.#logs.end(instance.id, cause !== 'stopped');
  }

  // Platform

  status(): Promise<PlatformStatus> {
    return platformStatus(this.#context, this.#gateways, this.#status);
  }

  async deploy(namespace: string, name: string, request: DeployRequest, signal: AbortSignal): Promise<DeployResponse> {
    const response = await this.#deployer.deploy(namespace, name, request, signal);
    this.#options.log.info({ revision: response.revision.key, what: deployedLabel(response.revision), ...response.timing }, 'deployed');
    return response;
  }

  async describe(namespace: string, name: string): Promise<FunctionView> {
    const state = this.#routed(namespace, name);
    const revisions = await this.#options.store.listRevisions(namespace, name);
    return functionView(
      this.#context,
      state,
      revisions.map((revision) => revision.number),
      this.#status,
    );
  }

  async list(namespace?: string): Promise<FunctionView[]> {
    const routed = [...this.#context.world.revisions.values()]
      .filter((state) => state.routed && (namespace === undefined || state.revision.namespace === namespace))
      .sort((a, b) => a.key.localeCompare(b.key));
    return Promise.all(
      routed.map(async (state) => {
        const revisions = await this.#options.store.listRevisions(state.revision.namespace, state.revision.name);
        return functionView(
          this.#context,
          state,
          revisions.map((revision) => revision.number),
          this.#status,
        );
      }),
    );
  }

  async revisions(namespace: string, name: string): Promise<Revision[]> {
    this.#routed(namespace, name);
    return this.#options.store.listRevisions(namespace, name);
  }

  async delete(namespace: string, name: string): Promise<void> {
    const through = await this.#deployer.delete(namespace, name);
    if (through === null) throw notFound(namespace, name);
    await this.#logs.remove(namespace, name, through);
  }

  async *logs(
    namespace: string,
    name: string,
    options: { follow: boolean; since?: number; limit?: number },
    signal: AbortSignal,
  ): AsyncGenerator<LogEntry> {
    this.#routed(namespace, name);
    yield* this.#logs.read(namespace, name, options, signal);
  }

  #routed(namespace: string, name: string) {
    for (const state of this.#context.world.revisions.values()) {
      if (!state.routed) continue;
      const of = parseRevisionKey(state.key);
      if (of.namespace === namespace && of.name === name) return state;
    }
    throw notFound(namespace, name);
  }
}
