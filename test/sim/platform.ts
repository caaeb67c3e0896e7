/**
 * The controller as it is, core, engine, link, store, logs and journal of calls, over the imaginary cluster, and what it costs.
 */
import { existsSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, type EventLoopUtilization, performance } from 'node:perf_hooks';
import { FunctionSettings, type Revision } from '#contract/function.ts';
import { revisionKey } from '#contract/names.ts';
import { systemClock } from '#kit/clock.ts';
import { createLog, silentLog } from '#kit/log.ts';
import { homePaths, type HomePaths } from '#kit/paths.ts';
import { Accounting } from '../../controller/accounting/accounting.ts';
import { Calls } from '../../controller/calls/calls.ts';
import { testSettings } from '../../controller/core/testing.ts';
import { NO_SECRETS, ONE_TENANT } from '../../controller/engine/context.ts';
import { Engine } from '../../controller/engine/engine.ts';
import type { PlannerPass } from '../../controller/engine/options.ts';
import { openSqliteStore } from '../../controller/store/sqlite/store.ts';
import type { BundleStore } from '../../controller/store/types.ts';
import { summarise, type Summary } from '../bench/stats.ts';
import { MemoryRecords, SimCluster, type ClusterOptions } from './cluster.ts';
import { seeded } from './random.ts';
import { clusterSettings, RELEASE_SECONDS, type Shape } from './shape.ts';

export const nameOf = (index: number): string => `f${index}`;
const bundle = `sha256:${'0'.repeat(64)}`;
/** Passes whose duration is remembered: of a long run the newest. */
const MAX_PASSES = 200_000;

const bundles: BundleStore = {
  has: () => Promise.resolve(true),
  put: () => Promise.reject(new Error('nothing is uploaded here')),
  info: () => Promise.resolve({ bytes: 1, files: 1 }),
  dir: () => Promise.resolve('/bundle'),
  prune: () => Promise.resolve(0),
};

/** What the controller did between two moments. */
export interface ControllerFigures {
  seconds: number;
  /** Share of one core. */
  cpu: number;
  utilisation: number;
  claims: number;
  creates: number;
  kills: number;
  deploys: number;
  deployMs: Summary;
  passes: { perSecond: number; ms: Summary; decisions: number; revisions: number; busy: number };
  cpuMicrosPerDecision: number;
  cpuMicrosPerColdStart: number;
  loopDelayMs: { p50: number; p99: number; max: number };
  memory: { rssMib: number; heapMib: number };
  instances: { generic: number; starting: number; serving: number; draining: number };
}

export interface Adoption {
  instances: number;
  /** From the beginning of the start to its end, and of that the CPU, ms. */
  startMs: number;
  cpuMs: number;
  adopted: number;
}

export class SimPlatform {
  readonly shape: Shape;
  readonly cluster: SimCluster;
  readonly records = new MemoryRecords();
  readonly paths: HomePaths;
  engine: Engine;
  readonly #home: string;
  readonly #lingerSeconds: number;
  readonly #loop = monitorEventLoopDelay({ resolution: 5 });
  #passes: PlannerPass[] = [];
  #deploys: number[] = [];
  #timer: NodeJS.Timeout | null = null;
  #from: { at: number; cpu: NodeJS.CpuUsage; loop: EventLoopUtilization; counts: SimCluster['counts'] } | null = null;

  private constructor(shape: Shape, lingerSeconds: number, of: Partial<ClusterOptions>) {
    this.shape = shape;
    this.#lingerSeconds = lingerSeconds;
    // What is committed waits for the disk: in memory, so that no disk is measured.
    this.#home = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'fn-sim-'));
    const run = join(this.#home, 'run');
    this.paths = { ...homePaths(this.#home), runDir: run, linkSocket: join(run, 'link', 's') };
    this.cluster = new SimCluster({ seed: shape.seed, slots: shape.concurrency, ...of });
    this.engine = this.#build();
  }

  /** `of`: how the cluster differs from the usual. */
  static async start(shape: Shape, lingerSeconds: number, of: Partial<ClusterOptions> = {}): Promise<SimPlatform> {
    const platform = new SimPlatform(shape, lingerSeconds, of);
    await platform.#fill();
    await platform.engine.start();
    return platform;
  }

  #build(): Engine {
    const { paths } = this;
    const log = process.env.FN_SIM_LOG === undefined ? silentLog : createLog('controller', 'info');
    const driver = this.cluster.driver();
    const store = openSqliteStore({ path: paths.database, log: silentLog });
    return new Engine({
      paths,
      settings: testSettings(clusterSettings(this.shape)),
      driver,
      store,
      accounting: new Accounting({ store, driver, clock: systemClock, log }),
      bundles,
      records: this.records,
      runtime: this.cluster.runtime(),
      clock: systemClock,
      log,
      version: '0',
      publicUrl: 'http://fn.test',
      secrets: NO_SECRETS,
      tenancy: ONE_TENANT,
      retention: { count: this.shape.revisions, maxAgeMs: Infinity },
      imageKeepMs: 3_600_000,
      certificates: null,
      calls: new Calls({
        path: paths.callsDatabase,
        clock: systemClock,
        log,
        maxRecords: 100_000,
        maxAgeMs: 86_400_000,
        slowMs: 1_000,
        traces: false,
      }),
      gatewayGid: null,
      onPass: (pass) => {
        if (this.#passes.length < MAX_PASSES) this.#passes.push(pass);
      },
      onShutdown: () => {},
    });
  }

  get #settings(): Revision['settings'] {
    return {
      ...FunctionSettings.parse({}),
      egress: 'none',
      concurrency: this.shape.concurrency,
      keepAliveSeconds: Math.max(0, this.#lingerSeconds - RELEASE_SECONDS),
    };
  }

  /** All functions are there from the start, with as many revisions as are kept. */
  async #fill(): Promise<void> {
    const store = openSqliteStore({ path: this.paths.database, log: silentLog });
    await store.raiseTerm();
    const settings = this.#settings;
    for (let index = 0; index < this.shape.functions; index += 1) {
      const [namespace, name] = ['default', nameOf(index)];
      for (let kept = 0; kept < this.shape.revisions; kept += 1) {
        const number = await store.reserveRevision(namespace, name);
        const key = revisionKey(namespace, name, number);
        const revision: Revision = {
          ...{ key, namespace, name, number, bundle, entry: 'index.mjs', image: null },
          ...{ settings, form: 'fetch', createdAt: Date.now() },
        };
        await store.commitRevision(revision, { traffic: [{ revision: number, percent: 100 }] });
      }
    }
    await store.close();
  }

  /** Deployments go on until the run is over, of any function. */
  deployOn(): void {
    const { deploysPerSecond, functions, seed } = this.shape;
    if (deploysPerSecond === 0) return;
    const random = seeded(seed + 1);
    this.#timer = setInterval(() => {
      const name = nameOf(Math.floor(random() * functions));
      const begun = performance.now();
      const request = { bundle, entry: 'index.mjs', image: null, traffic: true, settings: this.#settings };
      this.engine.deploy('default', name, request, new AbortController().signal).then(
        () => this.#deploys.push(performance.now() - begun),
        // One that the end of the controller cut off is none that failed.
        (error: unknown) =>
          this.#timer !== null && process.stderr.write(`a deployment failed: ${error instanceof Error ? error.message : String(error)}\n`),
      );
    }, 1_000 / deploysPerSecond);
  }

  begin(): void {
    this.#passes = [];
    this.#deploys = [];
    this.#loop.reset();
    this.#loop.enable();
    this.#from = {
      at: performance.now(),
      cpu: process.cpuUsage(),
      loop: performance.eventLoopUtilization(),
      counts: { ...this.cluster.counts },
    };
  }

  async end(): Promise<ControllerFigures> {
    const from = this.#from;
    if (from === null) throw new Error('it was not begun');
    const cpu = process.cpuUsage(from.cpu);
    const seconds = (performance.now() - from.at) / 1_000;
    const utilisation = performance.eventLoopUtilization(from.loop).utilization;
    this.#loop.disable();
    const micros = cpu.user + cpu.system;
    const { counts } = this.cluster;
    const claims = counts.claims - from.counts.claims;
    const passes = this.#passes;
    const decisions = passes.reduce((sum, pass) => sum + pass.decisions, 0);
    const passMs = passes.reduce((sum, pass) => sum + pass.ms, 0);
    const { rss, heapUsed } = process.memoryUsage();
    const ms = (percentile: number) => this.#loop.percentile(percentile) / 1e6;
    return {
      seconds,
      cpu: micros / 1e6 / seconds,
      utilisation,
      claims,
      creates: counts.creates - from.counts.creates,
      kills: counts.kills - from.counts.kills,
      deploys: this.#deploys.length,
      deployMs: summarise(this.#deploys),
      passes: {
        perSecond: passes.length / seconds,
        ms: summarise(passes.map((pass) => pass.ms)),
        decisions,
        revisions: passes.reduce((sum, pass) => sum + pass.revisions, 0) / Math.max(1, passes.length),
        busy: passMs / 1_000 / seconds,
      },
      cpuMicrosPerDecision: (passMs * 1_000) / Math.max(1, decisions),
      cpuMicrosPerColdStart: micros / Math.max(1, claims),
      loopDelayMs: { p50: ms(50), p99: ms(99), max: this.#loop.max / 1e6 },
      memory: { rssMib: rss / 1_048_576, heapMib: heapUsed / 1_048_576 },
      instances: await this.instances(),
    };
  }

  async instances(): Promise<ControllerFigures['instances']> {
    const { instances } = await this.engine.status();
    const of = (...states: string[]) => instances.filter(({ state }) => states.includes(state)).length;
    return { generic: of('generic'), starting: of('starting'), serving: of('busy', 'idle', 'frozen'), draining: of('draining') };
  }

  stopDeploys(): void {
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  /** The controller ends, and the next one takes over what runs. */
  async restart(): Promise<Adoption> {
    this.stopDeploys();
    await this.engine.close();
    const instances = this.cluster.pods.size;
    this.engine = this.#build();
    const [begun, cpu] = [performance.now(), process.cpuUsage()];
    await this.engine.start();
    const used = process.cpuUsage(cpu);
    const { instances: known } = await this.engine.status();
    const adopted = known.filter(({ state }) => state !== 'draining' && state !== 'starting').length;
    return { instances, startMs: performance.now() - begun, cpuMs: (used.user + used.system) / 1_000, adopted };
  }

  async close(): Promise<void> {
    this.stopDeploys();
    await this.engine.close();
    await rm(this.#home, { recursive: true, force: true });
  }
}
