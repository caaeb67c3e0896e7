/**
 * An engine over an imaginary machine in virtual time: fake driver, simulated shims, a real store and
 * a real link socket. The machine outlives engines, as a host outlives controllers.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate, setTimeout as realSleep } from 'node:timers/promises';
import type { DeployRequest } from '#contract/api.ts';
import { FunctionSettings } from '#contract/function.ts';
import type { Health, InitRequest } from '#contract/runtime.ts';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog, type Log } from '#kit/log.ts';
import { homePaths, type HomePaths } from '#kit/paths.ts';
import { Accounting } from '../../controller/accounting/accounting.ts';
import { Calls } from '../../controller/calls/calls.ts';
import type { CoreSettings } from '../../controller/core/settings.ts';
import { testSettings } from '../../controller/core/testing.ts';
import { createFakeDriver } from '../../controller/driver/fake/driver.ts';
import { FakeHost, type FakeInstance } from '../../controller/driver/fake/host.ts';
import type { Driver, DriverFeatures, ImageStore } from '../../controller/driver/types.ts';
import type { Retention } from '../../controller/engine/changes.ts';
import { NO_SECRETS, ONE_TENANT, type InstanceStart, type SecretValues, type Tenancy } from '../../controller/engine/context.ts';
import { Engine } from '../../controller/engine/engine.ts';
import { RuntimeGone, RuntimeUnreachable, type InitResult, type RuntimeClient } from '../../controller/engine/runtime-client.ts';
import { openSqliteStore } from '../../controller/store/sqlite/store.ts';
import type { BundleStore } from '../../controller/store/types.ts';
import type { LinkFiles } from './link-files.ts';
import { TestGateway } from './test-gateway.ts';

/** Virtual time that passes per look of `until`, ms. */
const STEP_MS = 5;
/** Real time after which a wait has failed, ms. */
const DEADLINE_MS = 30_000;

/** The shims of the machine, as far as the runtime protocol shows them. */
export class FakeShims implements RuntimeClient {
  readonly #host: FakeHost;
  readonly revisions = new Map<string, string>();
  readonly inFlight = new Map<string, number>();
  /** Instances that do not answer. */
  readonly hung = new Set<string>();
  /** Instances whose process has ended, though the driver has not said so yet. */
  readonly ended = new Set<string>();
  /** Instances that drained themselves: they answer, and take nothing more. */
  readonly unwilling = new Set<string>();
  readonly drained: string[] = [];
  /** What instances made of their code. */
  readonly codeCaches = new Map<string, Buffer>();
  readonly inits: InitRequest[] = [];
  /** What init answers; a test puts its own here. */
  onInit: (request: InitRequest, id: string) => InitResult | Promise<InitResult> = (request) => loaded(request);

  constructor(host: FakeHost) {
    this.#host = host;
  }

  #instance(path: string): FakeInstance {
    const id = path.split('/')[2]!;
    const instance = this.#host.instances.get(id);
    if (this.ended.has(id)) throw new RuntimeGone(`${id}: nobody listens`);
    if (!instance?.running || instance.frozen || this.hung.has(id)) throw new RuntimeUnreachable(`${id} does not answer`);
    return instance;
  }

  async health(address: { kind: string; path?: string }): Promise<Health> {
    await setImmediate();
    const { spec } = this.#instance(address.path ?? '');
    const revision = this.revisions.get(spec.id) ?? null;
    return {
      status: this.unwilling.has(spec.id) ? 'draining' : revision === null ? 'generic' : 'ready',
      instance: spec.id,
      revision,
      inFlight: this.inFlight.get(spec.id) ?? 0,
      waitUntil: 0,
    };
  }

  async init(address: { kind: string; path?: string }, coming: Promise<InitRequest>, signal: AbortSignal): Promise<InitResult> {
    const request = await coming;
    await setImmediate();
    signal.throwIfAborted();
    const { spec } = this.#instance(address.path ?? '');
    if (request.nonce !== spec.nonce || this.revisions.has(spec.id)) throw new RuntimeUnreachable('init: status 403');
    this.inits.push(request);
    const result = await this.onInit(request, spec.id);
    if (result.ok) this.revisions.set(spec.id, request.revision);
    return result;
  }

  async codeCache(address: { kind: string; path?: string }): Promise<Buffer | null> {
    await setImmediate();
    return this.codeCaches.get(this.#instance(address.path ?? '').spec.id) ?? null;
  }

  async drain(address: { kind: string; path?: string }): Promise<void> {
    await setImmediate();
    this.drained.push(this.#instance(address.path ?? '').spec.id);
  }
}

export const loaded = (request: InitRequest): InitResult => ({
  ok: true,
  response: { form: 'fetch', slots: request.slots ?? 50, loadMs: 1 },
});

const bundles: BundleStore = {
  has: () => Promise.resolve(true),
  put: () => Promise.reject(new Error('nothing is uploaded here')),
  info: () => Promise.resolve({ bytes: 1, files: 1 }),
  dir: (digest) => Promise.resolve(`/bundles/${digest}`),
  prune: () => Promise.resolve(0),
};

export interface EngineOverrides {
  settings?: Partial<CoreSettings>;
  features?: Partial<DriverFeatures>;
  driver?: (driver: Driver) => Driver;
  /** With it there is the runtime `image`. */
  images?: ImageStore;
  log?: Log;
  secrets?: SecretValues;
  tenancy?: Tenancy;
  retention?: Retention;
  certificates?: string | null;
  leads?: () => boolean;
  resign?: () => Promise<void>;
  term?: number;
}

export class Machine {
  readonly clock = new VirtualClock();
  readonly host = new FakeHost({ clock: this.clock });
  readonly shims = new FakeShims(this.host);
  readonly paths: HomePaths;
  readonly starts: InstanceStart[] = [];
  readonly #closers: (() => Promise<void> | void)[] = [];
  /** With it gateways dial the link over TCP; without, its socket. */
  network: LinkFiles | null = null;
  #engine: Engine | null = null;
  #stopped = 0;

  private constructor(home: string) {
    const run = join(home, 'run');
    this.paths = {
      ...homePaths(home),
      runDir: run,
      linkSocket: join(run, 'link', 's'),
      instances: join(run, 'instances'),
      records: join(run, 'records'),
    };
  }

  static async create(): Promise<Machine> {
    return new Machine(await mkdtemp(join(tmpdir(), 'fn-engine-')));
  }

  /** Engines that ended themselves after shutdown(). */
  get stopped(): number {
    return this.#stopped;
  }

  /** A controller starts. Without pools, unless the test says so. */
  async start({
    settings,
    features,
    driver: wrap,
    images,
    log = silentLog,
    secrets = NO_SECRETS,
    tenancy = ONE_TENANT,
    retention = { count: 10, maxAgeMs: Infinity },
    certificates = null,
    leads,
    resign,
    term,
  }: EngineOverrides = {}): Promise<Engine> {
    const ofImages = images === undefined ? {} : { images, runtimes: ['node', 'image'].map((name) => ({ name, version: '0' })) };
    const fake = createFakeDriver({ host: this.host, ...(features ? { features } : {}), ...ofImages });
    const driver = wrap ? wrap(fake) : fake;
    await driver.start();
    const store = openSqliteStore({ path: this.paths.database, log: silentLog });
    const engine = new Engine({
      paths: this.paths,
      settings: testSettings({ poolSize: 0, refillDelayMs: 0, previewKeepAliveMs: 0, rollbackGraceMs: 0, ...settings }),
      driver,
      store,
      accounting: new Accounting({ store, driver, clock: this.clock, log }),
      bundles,
      runtime: this.shims,
      clock: this.clock,
      log,
      version: '0',
      publicUrl: 'http://fn.test',
      secrets,
      tenancy,
      retention,
      imageKeepMs: 3_600_000,
      certificates,
      leads,
      resign,
      term,
      onStart: (start) => this.starts.push(start),
      calls: new Calls({
        path: this.paths.callsDatabase,
        clock: this.clock,
        log,
        maxRecords: 1_000,
        maxAgeMs: 3_600_000,
        slowMs: 1_000,
        traces: false,
      }),
      gatewayGid: null,
      linkListen: this.network?.listen('tcp'),
      onShutdown: () => (this.#stopped += 1),
    });
    this.#closers.push(() => engine.close());
    await engine.start();
    this.#engine = engine;
    return engine;
  }

  async gateway(options: Parameters<typeof TestGateway.connect>[1] = {}): Promise<TestGateway> {
    const at = this.network === null ? this.paths.linkSocket : { port: this.#engine!.linkAddress!.port, token: this.network.token };
    const gateway = await TestGateway.connect(at, options);
    this.#closers.push(() => gateway.close());
    await gateway.next('welcome');
    return gateway;
  }

  /** Lets virtual time pass until `probe` gives something; fails after thirty real seconds. */
  async until<T>(what: string, probe: () => T | Promise<T>, stepMs = STEP_MS): Promise<NonNullable<T>> {
    const end = performance.now() + DEADLINE_MS;
    for (;;) {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) return value;
      if (performance.now() > end) throw new Error(`waited for ${what}`);
      this.clock.advance(stepMs);
      await realSleep(1);
    }
  }

  /** Virtual time passes, in steps, and what it causes has the time to happen. */
  async pass(ms: number, stepMs = 50): Promise<void> {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.clock.advance(Math.min(stepMs, ms - passed));
      await realSleep(1);
    }
    await this.quiet();
  }

  /** Real I/O of a moment is done; no virtual time passes. */
  async quiet(): Promise<void> {
    for (let turn = 0; turn < 10; turn += 1) await realSleep(1);
  }

  /** How often the driver was asked. */
  count(operation: FakeHost['calls'][number]['operation']): number {
    return this.host.calls.filter((call) => call.operation === operation).length;
  }

  async close(): Promise<void> {
    for (const close of this.#closers.toReversed()) await close();
    await rm(this.paths.home, { recursive: true, force: true });
  }
}

export const request = (settings: Partial<FunctionSettings> = {}): DeployRequest => ({
  bundle: `sha256:${'0'.repeat(64)}`,
  entry: 'index.mjs',
  image: null,
  traffic: true,
  settings: { ...FunctionSettings.parse({}), egress: 'none', concurrency: 10, ...settings },
});

/** Deploys while virtual time passes. Returns the revision's key. */
export async function deploy(machine: Machine, engine: Engine, name: string, settings: Partial<FunctionSettings> = {}): Promise<string> {
  const deploying = engine.deploy('default', name, request(settings), new AbortController().signal);
  return (await driven(machine, deploying)).revision.key;
}

/** Waits for a promise while virtual time passes. */
export async function driven<T>(machine: Machine, promise: Promise<T>): Promise<T> {
  let ended = false;
  const mark = () => (ended = true);
  promise.then(mark, mark);
  await machine.until('a promise', () => ended);
  return promise;
}
