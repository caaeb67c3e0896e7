/** Declared functions over an API server and a platform in memory; store, bundles and audit log are the real ones. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { FUNCTION_API_VERSION, FUNCTION_KIND, FunctionStatus } from '#contract/function-resource.ts';
import { NO_QUOTA, type Quota } from '#contract/tenancy.ts';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { NOTED_EVENTS, WHOLE_FUNCTIONS } from '../../controller/declared/resource.ts';
import { type Declared, startDeclared } from '../../controller/declared/start.ts';
import { FakeKube } from '../../controller/kube/fake.ts';
import type { KubernetesSettings } from '../../controller/kube/settings.ts';
import { openBundleStore } from '../../controller/store/bundles.ts';
import { IN_MEMORY, openSqliteStore } from '../../controller/store/sqlite/store.ts';
import type { BundleStore, Store } from '../../controller/store/types.ts';
import { AuditLog } from '../../controller/tenants/audit.ts';
import { FakePlatform } from './fake-platform.ts';

export const HELLO = { inline: { files: { 'handler.mjs': 'export default { fetch: () => new Response("hello") };' } } };

/** Longest that a test waits for something, ms. */
const UNTIL_MS = 30_000;
const QUIET_ROUNDS = 60;

export interface HarnessOptions {
  declared?: KubernetesSettings['declared'];
  quota?: Partial<Quota>;
}

const Event = z.object({ reason: z.string(), message: z.string(), type: z.string(), count: z.number() });
type Event = z.infer<typeof Event>;

export class DeclaredHarness {
  readonly kube = new FakeKube();
  readonly platform = new FakePlatform();
  readonly clock = new VirtualClock();
  readonly store: Store;
  readonly bundles: BundleStore;
  readonly audit: AuditLog;
  readonly #folder: string;
  readonly #options: HarnessOptions;
  #declared: Declared | null = null;

  private constructor(folder: string, bundles: BundleStore, store: Store, options: HarnessOptions) {
    this.#folder = folder;
    this.bundles = bundles;
    this.store = store;
    this.#options = options;
    this.audit = new AuditLog({ store, clock: this.clock, log: silentLog, keep: 1_000 });
  }

  static async open(options: HarnessOptions = {}): Promise<DeclaredHarness> {
    const folder = await mkdtemp(join(tmpdir(), 'fn-declared-'));
    const store = openSqliteStore({ path: IN_MEMORY, log: silentLog });
    return new DeclaredHarness(folder, await openBundleStore({ folder }), store, options);
  }

  /** A controller begins to lead. */
  start(): void {
    const { kube: api, platform, store, bundles, audit, clock } = this;
    const { declared = [{ kubeNamespace: 'shop', namespace: 'default' }], quota = {} } = this.#options;
    const tenants = { quota: () => ({ ...NO_QUOTA, ...quota }) };
    const networks = () => [];
    this.#declared = startDeclared({
      api,
      settings: { declared },
      platform,
      tenants,
      audit,
      bundles,
      store,
      networks,
      clock,
      log: silentLog,
    });
  }

  /** It leads no more. */
  async stop(): Promise<void> {
    await this.#declared?.close();
    this.#declared = null;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.store.close();
    await rm(this.#folder, { recursive: true });
  }

  /** `kubectl apply` of a new object; `age`: the lower, the older. */
  async create(name: string, spec: object = { source: HELLO }, { namespace = 'shop', annotations = {}, age = 5 } = {}): Promise<void> {
    const metadata = { name, namespace, generation: 1, annotations };
    await this.kube.create(WHOLE_FUNCTIONS, namespace, { apiVersion: FUNCTION_API_VERSION, kind: FUNCTION_KIND, metadata, spec });
    this.kube.change(WHOLE_FUNCTIONS, namespace, name, { metadata: { creationTimestamp: `2026-01-01T00:00:0${age}Z` } });
  }

  /** `kubectl apply` over one that is there. */
  async change(name: string, spec: object, namespace = 'shop'): Promise<void> {
    const { metadata } = await this.kube.get(WHOLE_FUNCTIONS, namespace, name);
    this.kube.change(WHOLE_FUNCTIONS, namespace, name, { spec, metadata: { generation: (metadata.generation ?? 0) + 1 } });
  }

  annotate(name: string, annotations: Record<string, string>, namespace = 'shop'): void {
    this.kube.change(WHOLE_FUNCTIONS, namespace, name, { metadata: { annotations } });
  }

  status(name: string, namespace = 'shop'): FunctionStatus {
    return FunctionStatus.parse(this.kube.raw(WHOLE_FUNCTIONS, namespace, name)?.status ?? {});
  }

  /** `Ready=True Serving, Synced=True Applied`, of the newest generation; '' where nothing was said of it. */
  said(name: string, namespace = 'shop'): string {
    return this.status(name, namespace)
      .conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`)
      .join(', ');
  }

  message(name: string, namespace = 'shop'): string {
    return this.status(name, namespace).conditions.find(({ type }) => type === 'Synced')?.message ?? '';
  }

  async events(namespace = 'shop'): Promise<Event[]> {
    const { items } = await this.kube.list(NOTED_EVENTS, namespace);
    return items.map(({ metadata }) => Event.parse(this.kube.raw(NOTED_EVENTS, namespace, metadata.name)));
  }

  /** Somebody with a token, past all objects. */
  async elsewhere(action: string, name: string, change: () => Promise<unknown>): Promise<void> {
    await change();
    this.changed('default', name);
    const by = { id: 't-123456789012', name: 'anna' };
    await this.audit.record({ by, action, namespace: 'default', subject: name, request: 'r-1', outcome: 'ok', detail: {} });
  }

  changed(namespace: string, name: string): void {
    this.#declared?.functionChanged(namespace, name);
  }

  /** Lets time pass until it is so. Throws after a while. */
  async until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + UNTIL_MS;
    while (performance.now() < deadline) {
      if (await isSo()) return;
      await this.#pass();
    }
    throw new Error(`it never came to this: ${what}`);
  }

  /** Lets so much time pass that whatever was to happen has happened. */
  async quiet(): Promise<void> {
    for (let round = 0; round < QUIET_ROUNDS; round += 1) await this.#pass();
  }

  /** Some of our time, for disks; more of theirs. */
  async #pass(): Promise<void> {
    this.clock.advance(100);
    await setTimeout(2);
  }

  untilSaid(name: string, said: string, namespace = 'shop'): Promise<void> {
    return this.until(`${namespace}/${name} says ${said}`, () => this.said(name, namespace) === said).catch((error: Error) => {
      throw new Error(`${error.message}; it says ${this.said(name, namespace)}: ${this.message(name, namespace)}`);
    });
  }
}
