/** A driver over an imaginary machine (host.ts), for tests of what uses drivers, in virtual time. */
import type { HomePaths } from '#kit/paths.ts';
import {
  DriverUnavailable,
  type CreateSpec,
  type Driver,
  type DriverFeatures,
  type DriverInstance,
  type Exit,
  type HostsCheck,
  type ImageStore,
  type Leaving,
  type LogChunk,
  type SpecialiseSpec,
  type Usage,
} from '../types.ts';
import { Workspace } from '../workspace.ts';
import type { FakeHost, FakeInstance } from './host.ts';

export interface FakeDriverOptions {
  host: FakeHost;
  features?: Partial<DriverFeatures>;
  runtimes?: { name: string; version: string; image?: string }[];
  images?: ImageStore;
  /** With it, folders of instances are really made, as conformance wants. */
  paths?: HomePaths;
}

const FEATURES: DriverFeatures = { freeze: true, limits: true, parentCgroup: true, egress: 'filtered', sandboxes: [], notes: [] };

/** Two drivers over one host are two controllers of one machine, one after the other. */
export function createFakeDriver(options: FakeDriverOptions): Driver {
  return new FakeDriver(options);
}

class FakeDriver implements Driver {
  readonly name = 'fake';
  readonly usageSource = 'cgroup';
  readonly images: ImageStore | null;
  readonly features: DriverFeatures;
  readonly #host: FakeHost;
  readonly #runtimes: { name: string; version: string; image?: string }[];
  readonly #workspace: Workspace | null;
  readonly #listeners: ((exit: Exit) => void)[] = [];
  /** Instances whose end is nobody's news. */
  readonly #killing = new Set<string>();
  #unwatch: (() => void) | null = null;

  constructor({ host, features, runtimes, images, paths }: FakeDriverOptions) {
    this.#host = host;
    this.images = images ?? null;
    this.features = { ...FEATURES, ...features };
    this.#runtimes = runtimes ?? [{ name: 'node', version: '0' }];
    this.#workspace = paths ? new Workspace(paths) : null;
  }

  async start(): Promise<void> {
    await this.#host.perform('start', null);
    await this.#workspace?.start();
    this.#unwatch ??= this.#host.watch((exit) => {
      if (this.#killing.has(exit.id)) return;
      for (const listener of this.#listeners) listener(exit);
    });
  }

  async close(): Promise<void> {
    this.#unwatch?.();
    this.#unwatch = null;
    await Promise.resolve();
  }

  async destroyAll(): Promise<void> {
    for (const id of [...this.#host.instances.keys()]) await this.kill(id);
    await this.close();
    await this.#workspace?.destroy();
  }

  runtimes(): Promise<{ name: string; version: string; image?: string }[]> {
    return Promise.resolve(this.#runtimes);
  }

  async list(): Promise<DriverInstance[]> {
    await this.#host.perform('list', null);
    return [...this.#host.instances.values()].map(view);
  }

  async create(spec: CreateSpec, signal: AbortSignal): Promise<DriverInstance> {
    signal.throwIfAborted();
    if (!this.#runtimes.some(({ name }) => name === spec.runtime)) throw new DriverUnavailable(`There is no runtime ${spec.runtime}.`);
    if (this.#host.instances.has(spec.id)) throw new Error(`the instance ${spec.id} is there already`);
    try {
      await this.#workspace?.prepare(spec.id);
      await this.#host.perform('create', spec.id);
      signal.throwIfAborted();
      const instance = await this.#host.add(spec);
      signal.throwIfAborted();
      return view(instance);
    } catch (error) {
      await this.#remove(spec.id);
      throw error;
    }
  }

  /** Whatever a test makes up. */
  checkHosts(): Promise<HostsCheck> {
    return Promise.resolve({ refused: [], notes: [] });
  }

  async seal(id: string): Promise<void> {
    await this.#host.perform('seal', id);
    this.#running(id).sealed = true;
    await this.#workspace?.seal(id);
  }

  async specialise(id: string, spec: SpecialiseSpec): Promise<{ code: string }> {
    await this.#host.perform('specialise', id);
    this.#running(id).specialised = spec;
    await this.#workspace?.place(id, spec.bundleDir);
    return { code: this.#workspace?.codeDir(id) ?? spec.bundleDir };
  }

  async freeze(id: string): Promise<void> {
    await this.#host.perform('freeze', id);
    this.#running(id).frozen = true;
  }

  async thaw(id: string): Promise<void> {
    await this.#host.perform('thaw', id);
    this.#running(id).frozen = false;
  }

  async usage(id: string): Promise<Usage | null> {
    const instance = this.#host.instances.get(id);
    return Promise.resolve(instance?.running ? { ...instance.used, counter: instance.startedAt } : null);
  }

  async kill(id: string): Promise<void> {
    this.#killing.add(id);
    try {
      await this.#host.perform('kill', id);
      await this.#remove(id);
    } finally {
      this.#killing.delete(id);
    }
  }

  async *logs(id: string, after: string | null, signal: AbortSignal): AsyncIterable<LogChunk> {
    const instance = this.#host.instances.get(id);
    if (!instance) return;
    for (let next = after === null ? 0 : Number(after); !signal.aborted;) {
      const chunk = instance.output[Math.max(0, next - instance.dropped)];
      if (chunk) {
        next = Number(chunk.position);
        yield chunk;
      } else if (instance.running) await this.#host.change(signal);
      else return;
    }
  }

  onLeaving(listener: (leaving: Leaving) => void): void {
    this.#host.watchLeaving(listener);
  }

  onExit(listener: (exit: Exit) => void): void {
    this.#listeners.push(listener);
  }

  async #remove(id: string): Promise<void> {
    await this.#host.remove(id);
    await this.#workspace?.remove(id);
  }

  #running(id: string): FakeInstance {
    const instance = this.#host.instances.get(id);
    if (!instance?.running) throw new Error(`the instance ${id} is not running`);
    return instance;
  }
}

function view({ spec, address, startedAt, running }: FakeInstance): DriverInstance {
  const { id, runtime, memoryClassMib, network, image, sandbox } = spec;
  return { id, runtime, memoryClassMib, network, image, sandbox, address, startedAt, running, handle: `fake ${id}` };
}
