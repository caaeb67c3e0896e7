/**
 * Instances as Docker containers: created from an allow-list (container.ts), limited and frozen by
 * their cgroup's files where those can be written (cgroup.ts), their egress held by rules of ours
 * (egress.ts), their ends told apart (verdict.ts).
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type Dockerode from 'dockerode';
import type { UsageSource } from '#contract/stats.ts';
import type { Log } from '#kit/log.ts';
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
  type LogChunk,
  type SpecialiseSpec,
  type Usage,
} from '../types.ts';
import { inParallel } from '../parallel.ts';
import { Workspace } from '../workspace.ts';
import { freeze, processCgroup, thaw } from './cgroup.ts';
import { INSIDE, LABELS, containerName, containerOptions } from './container.ts';
import { Exits } from './exits.ts';
import { Care } from './care.ts';
import { Egress, type EgressOptions } from './instance-egress.ts';
import { DEFAULT_DOCKER_SOCKET, connectEngine, engineStatus, type Engine } from './engine.ts';
import { messageOf, prepareHost, removeHost, type Host } from './host.ts';
import { newKnown, readInstance, type Known } from './instance.ts';
import { applyLimits } from './limits.ts';
import { followLogs } from './logs.ts';
import { imageProgram, shimOf, type ImageProgram } from './image-program.ts';
import { DockerImages } from './images.ts';
import { networkName } from './network.ts';
import { RuntimeImages } from './runtimes.ts';
import { readUsage } from './usage.ts';
import { Watch, type ContainerEvent } from './watch.ts';

/** Containers looked at, or killed, at a time. */
const PARALLEL = 8;
/** Ids of killed instances that are remembered, so that an answer of the engine that was under way does not bring one back. */
const MAX_REMEMBERED = 10_000;

export interface DockerDriverOptions extends Pick<EgressOptions, 'nameservers' | 'hostNames'> {
  paths: HomePaths;
  /** Image of each runtime, whether it is built yet or not, e.g. `{ node: 'fn/node:0a1b2c3d4e5f' }`. */
  images: Record<string, string>;
  /** The platform's, for the label fn.version. */
  version: string;
  /** What all instances together may use. */
  memoryBudgetMib: number;
  cpuBudget: number;
  /** What to do where egress cannot be filtered: refuse it, or let everything through. */
  egressPolicy: 'require-filter' | 'allow-unfiltered';
  log: Log;
  /** The engine's socket on this host. Default: /var/run/docker.sock. */
  socketPath?: string | undefined;
}

/** Makes the driver; nothing happens before start(). */
export function createDockerDriver(options: DockerDriverOptions): Driver {
  return new DockerDriver(options);
}

const NOT_STARTED: DriverFeatures = { freeze: false, limits: false, parentCgroup: false, egress: 'none', sandboxes: [], notes: [] };

class DockerDriver implements Driver {
  readonly name = 'docker';
  readonly images: ImageStore;
  readonly #options: DockerDriverOptions;
  readonly #homeId: string;
  readonly #log: Log;
  readonly #workspace: Workspace;
  readonly #known = new Map<string, Known>();
  readonly #kills = new Map<string, Promise<void>>();
  readonly #care: Care;
  readonly #egress: Egress;
  readonly #killed = new Set<string>();
  readonly #exits: Exits;
  readonly #runtimes: RuntimeImages;
  #engine: Engine | null = null;
  #host: Host | null = null;
  #watch: Watch | null = null;

  constructor(options: DockerDriverOptions) {
    this.#options = options;
    this.#homeId = options.paths.homeId;
    this.images = new DockerImages(() => this.#connect(), this.#homeId);
    this.#log = options.log;
    this.#workspace = new Workspace(options.paths);
    this.#exits = new Exits(this.#log);
    this.#runtimes = new RuntimeImages(options.images);
    this.#egress = new Egress({ ...options, workspace: this.#workspace });
    this.#care = new Care({ log: this.#log, firewall: () => this.#host?.firewall ?? null, kill: (id) => this.kill(id) });
  }

  get features(): DriverFeatures {
    return this.#host?.features ?? NOT_STARTED;
  }

  async start(): Promise<void> {
    const engine = await this.#connect();
    const { memoryBudgetMib, cpuBudget, egressPolicy, nameservers } = this.#options;
    this.#host = await prepareHost(engine, { homeId: this.#homeId, memoryBudgetMib, cpuBudget, egressPolicy, nameservers, log: this.#log });
    await this.#exits.start(engine, this.#host.parent?.dirs ?? null);
    await this.#workspace.start();
    // What was known before a close() may have ended under another controller.
    this.#known.clear();
    // Rules for what runs already, too.
    const running = (await this.list()).filter((instance) => instance.running).map(({ id }) => this.#known.get(id));
    await this.#egress.start(
      this.#host.firewall,
      running.filter((known) => known !== undefined),
    );
    this.#watch = new Watch({
      engine,
      homeId: this.#homeId,
      log: this.#log,
      onEvent: (event) => this.#onEvent(event),
      onConnect: () => this.#resync(),
    });
    await this.#watch.start();
    await this.#sweepFolders();
    this.#care.start();
  }

  async close(): Promise<void> {
    this.#care.close();
    this.#egress.close();
    await this.#watch?.close();
    this.#watch = null;
  }

  async destroyAll(): Promise<void> {
    const engine = await this.#connect();
    const instances = await this.list();
    await inParallel(instances, PARALLEL, (instance) => this.kill(instance.id));
    await this.close();
    await rm(join(this.#options.paths.runDir, 'shims'), { recursive: true, force: true });
    await this.#egress.destroy();
    await this.#workspace.destroy();
    await removeHost(engine, this.#homeId, this.#log);
  }

  async runtimes(): ReturnType<Driver['runtimes']> {
    const found = await this.#runtimes.list(await this.#connect());
    // What runs a program also runs an image: the shim is the same.
    const binary = found.find(({ name }) => name === 'binary');
    return binary ? [...found, { name: 'image', version: binary.version, image: binary.image }] : found;
  }

  async list(): Promise<DriverInstance[]> {
    const engine = await this.#connect();
    const containers = await engine.list(`${LABELS.home}=${this.#homeId}`);
    const instances = await inParallel(containers, PARALLEL, async ({ Id }) => {
      const inspected = await engine.inspect(Id);
      return inspected && this.#adopt(inspected);
    });
    return instances.filter((instance) => instance !== null);
  }

  async create(spec: CreateSpec, signal: AbortSignal): Promise<DriverInstance> {
    signal.throwIfAborted();
    if (this.#known.has(spec.id)) throw new Error(`the instance ${spec.id} is there already`);
    if (spec.network === 'egress' && this.features.egress === 'none') {
      throw new DriverUnavailable('Functions cannot dial out on this host: see the notes of `fn status`, or deploy with --egress none.');
    }
    const known = newKnown(spec.id, spec.memoryClassMib, spec.network);
    this.#known.set(spec.id, known);
    try {
      return await this.#create(known, spec, signal);
    } catch (error) {
      await this.#undo(known, error);
      throw error;
    }
  }

  /**
   * The engine is not told of an abort: it would go on all the same, and what it then makes would be
   * nobody's. Each step is waited for, and undone.
   */
  async #create(known: Known, spec: CreateSpec, signal: AbortSignal): Promise<DriverInstance> {
    const { engine, host } = this.#started();
    const goOn = () => {
      signal.throwIfAborted();
      if (known.phase !== 'creating') throw new Error(`the instance ${spec.id} was killed while it was created`);
    };
    const { image, program } = await this.#imageOf(engine, spec);
    await this.#workspace.prepare(spec.id);
    goOn();
    const container = containerOptions({
      ...spec,
      homeId: this.#homeId,
      image,
      program,
      version: this.#options.version,
      networkName: networkName(this.#homeId),
      sockDir: this.#workspace.sockDir(spec.id),
      codeDir: this.#workspace.codeDir(spec.id),
      cgroupParent: host.parent?.name ?? '',
      cgroupVersion: host.info.cgroupVersion,
      nameservers: this.#options.nameservers ?? [],
    });
    known.container = await engine.create(container).catch((error: unknown) => {
      if (engineStatus(error) !== 404) throw error;
      throw spec.image === null ? this.#runtimes.missing(spec.runtime, error) : imageGone(spec.image, error);
    });
    goOn();
    await engine.startContainer(known.container);
    goOn();
    const inspected = await engine.inspect(known.container);
    if (!inspected?.State.Running) throw new Error(await this.#exits.whyNotRunning(inspected));
    const instance = await this.#adopt(inspected);
    if (instance === null) throw new Error(`the engine changed the labels of ${container.name}`);
    if (known.ip !== null) await host.firewall?.release(known.ip);
    goOn();
    known.phase = 'running';
    if (known.endedEarly) void this.#exits.ended(known, known.endedEarly.exitCode, false);
    return instance;
  }

  /** What the container is made of: the runtime's image; or somebody's, with the shim of `binary` in it. */
  async #imageOf(engine: Engine, { runtime, image }: CreateSpec): Promise<{ image: string; program: ImageProgram | null }> {
    if (image === null) return { image: await this.#runtimes.image(engine, runtime), program: null };
    const info = await engine.image(image);
    if (info === null) throw imageGone(image);
    const shim = await shimOf(engine, await this.#runtimes.image(engine, 'binary'), join(this.#options.paths.runDir, 'shims'));
    return { image, program: imageProgram(info, shim) };
  }

  checkHosts(hosts: readonly string[], networks: readonly string[]): Promise<HostsCheck> {
    return this.#egress.check(hosts, networks, this.features);
  }

  async seal(id: string): Promise<void> {
    this.#running(id);
    await this.#workspace.seal(id);
  }

  async specialise(id: string, spec: SpecialiseSpec): Promise<{ code: string }> {
    const known = this.#running(id);
    const { engine, host } = this.#started();
    this.#egress.assert(known, spec, this.features);
    const steps = await Promise.allSettled([
      applyLimits({ engine, known, spec, cpuBudget: this.#options.cpuBudget, machineCpus: host.info.cpus }),
      this.#workspace.place(id, spec.bundleDir),
      this.#egress.set(known, spec),
    ]);
    // All have come to their end: whoever now kills the instance races with none of them.
    for (const step of steps) if (step.status === 'rejected') throw step.reason;
    return { code: INSIDE.code };
  }

  async freeze(id: string): Promise<void> {
    const known = this.#running(id);
    if (!this.features.freeze || !known.cgroup?.freezer) throw new Error('instances cannot be frozen on this host');
    await freeze(known.cgroup);
  }

  async thaw(id: string): Promise<void> {
    const known = this.#running(id);
    if (known.cgroup) await thaw(known.cgroup);
  }

  /** Where the engine makes no groups, or this machine does not show them, nobody can read them. */
  get usageSource(): UsageSource {
    const { info, mounts } = this.#host ?? {};
    if (info === undefined || mounts === undefined || info.cgroupDriver === 'none') return 'none';
    const needed = mounts.version === 2 ? ['unified'] : ['memory', 'cpuacct'];
    return needed.every((tree) => mounts.mounts.has(tree)) ? 'cgroup' : 'none';
  }

  async usage(id: string): Promise<Usage | null> {
    const known = this.#known.get(id);
    return known?.cgroup ? readUsage(known.cgroup, known.container) : null;
  }

  kill(id: string): Promise<void> {
    const running = this.#kills.get(id);
    if (running) return running;
    const killing = this.#kill(id).finally(() => this.#kills.delete(id));
    this.#kills.set(id, killing);
    return killing;
  }

  async *logs(id: string, after: string | null, signal: AbortSignal): AsyncIterable<LogChunk> {
    yield* followLogs(await this.#connect(), containerName(this.#homeId, id), after, signal);
  }

  onExit(listener: (exit: Exit) => void): void {
    this.#exits.onExit(listener);
  }

  /** Nobody takes a container away but by killing it. */
  onLeaving(): void {}

  async #connect(): Promise<Engine> {
    this.#engine ??= await connectEngine(this.#options.socketPath ?? DEFAULT_DOCKER_SOCKET);
    return this.#engine;
  }

  #started(): { engine: Engine; host: Host } {
    if (!this.#engine || !this.#host) throw new Error('the driver is not started');
    return { engine: this.#engine, host: this.#host };
  }

  #running(id: string): Known {
    const known = this.#known.get(id);
    if (known?.phase !== 'running') throw new Error(`the instance ${id} is not running`);
    return known;
  }

  /** Takes up what the engine says of a container; null where it is not ours. */
  async #adopt(inspected: Dockerode.ContainerInspectInfo): Promise<DriverInstance | null> {
    const found = readInstance(inspected, this.#homeId, networkName(this.#homeId), (id) => this.#workspace.socket(id));
    if (!found || this.#killed.has(found.instance.id)) return null;
    const { instance, ip, files } = found;
    let known = this.#known.get(instance.id);
    if (!known) {
      known = newKnown(instance.id, instance.memoryClassMib, instance.network);
      // One that is dead already is told by list(), not as an end that happened now.
      known.phase = instance.running ? 'running' : 'ended';
      this.#known.set(instance.id, known);
    }
    known.container = inspected.Id;
    if (known.cgroup === null && instance.pid !== undefined && this.#host) {
      known.ip = ip;
      known.files = files;
      known.cgroup = await processCgroup(instance.pid, this.#host.mounts);
    }
    return instance;
  }

  #onEvent({ action, container, id, exitCode }: ContainerEvent): void {
    const known = this.#known.get(id);
    if (action === 'oom') {
      this.#exits.sawOom();
      return;
    }
    if (!known || (known.container !== '' && known.container !== container)) return;
    if (known.phase === 'creating' && action === 'die') known.endedEarly = { exitCode };
    if (known.phase === 'running') void this.#exits.ended(known, exitCode, false);
  }

  /** After each connection: what happened while the engine could not be followed. */
  async #resync(): Promise<void> {
    const before = [...this.#known.values()].filter((known) => known.phase === 'running');
    const running = new Set((await this.list()).filter((instance) => instance.running).map((instance) => instance.id));
    for (const known of before) {
      if (known.phase === 'running' && !running.has(known.id)) void this.#exits.ended(known, null, true);
    }
    // The engine may have been restarted by whoever also reloaded the firewall.
    void this.#care.look();
  }

  async #kill(id: string): Promise<void> {
    const engine = await this.#connect();
    const known = this.#known.get(id);
    if (known) known.phase = 'killing';
    // A frozen process does not die before it is thawed (version 1), and an earlier controller may have
    // frozen it. Where it is gone there is nothing to thaw; any other failure shows in the removal.
    if (known?.cgroup && this.features.freeze) await thaw(known.cgroup).catch(() => {});
    await engine.removeUntilGone(containerName(this.#homeId, id));
    await this.#egress.forget(id);
    await this.#workspace.remove(id);
    this.#known.delete(id);
    for (const oldest of this.#killed) {
      if (this.#killed.size < MAX_REMEMBERED) break;
      this.#killed.delete(oldest);
    }
    this.#killed.add(id);
  }

  /** After a failed creation. What cannot be removed now, or is only made later, is removed later. */
  async #undo(known: Known, reason: unknown): Promise<void> {
    if (reason instanceof DriverUnavailable) this.#care.doom(known.id);
    try {
      await this.kill(known.id);
    } catch (error) {
      this.#care.doom(known.id);
      this.#log.warn({ instance: known.id, error: messageOf(error) }, 'a failed creation cannot be cleaned up yet; it is tried again');
    }
  }

  /** Folders of instances that have no container: a controller died in between. */
  async #sweepFolders(): Promise<void> {
    for (const id of await this.#workspace.ids()) if (!this.#known.has(id)) await this.#workspace.remove(id);
  }
}

const imageGone = (image: string, cause?: unknown): DriverUnavailable =>
  new DriverUnavailable(`The image ${image} is not in the engine any more. Deploy the function again.`, { cause });
