/**
 * The Docker engine as the driver needs it: a few calls over dockerode, each with a deadline, their
 * errors sorted into "no engine", "no such thing" and "what it said".
 */
import { createInterface } from 'node:readline';
import type Dockerode from 'dockerode';
import { sleep } from '#kit/clock.ts';
import { DriverUnavailable } from '../types.ts';

/** Longest wait for an answer to a question, ms. A busy two-core machine needs seconds. */
const ASK_TIMEOUT_MS = 30_000;
/** Longest wait for something to be made or removed, ms. */
const ACT_TIMEOUT_MS = 60_000;
/** Longest time for the engine to remove a container, and the pause between attempts, ms. */
const REMOVE_TIMEOUT_MS = 60_000;
const REMOVE_RETRY_MS = 50;
/** Longest time for an image to be loaded or pulled, ms: gigabytes over a slow line. */
const TRANSFER_TIMEOUT_MS = 1_800_000;
/** Oldest API that has all that is used here: Docker 20.10. */
const MIN_API_VERSION = 41;

export const DEFAULT_DOCKER_SOCKET = '/var/run/docker.sock';

/** What is used of GET /info. */
export interface EngineInfo {
  serverVersion: string;
  cgroupVersion: 1 | 2;
  cgroupDriver: 'cgroupfs' | 'systemd' | 'none';
  cpus: number;
  memoryBytes: number;
  securityOptions: string[];
  /** OCI runtimes that it was told of (`runtimes` of daemon.json), by name, each with its arguments. */
  ociRuntimes: Map<string, string[]>;
}

/** Connects to the engine on this host. Throws DriverUnavailable, saying what to do. */
export async function connectEngine(socketPath: string): Promise<Engine> {
  if (process.platform !== 'linux') {
    throw new DriverUnavailable(
      'Docker runs in a virtual machine here, and the sockets of its containers cannot be reached: use Linux, or --driver process for a first look.',
    );
  }
  // Loaded when it is needed: it takes 100 ms and 33 MB, which other drivers do not have to pay.
  const { default: Docker } = await import('dockerode');
  // `host` is there to keep DOCKER_HOST out: containers must be able to mount folders of this host.
  const engine = new Engine(new Docker({ socketPath, host: undefined, version: `v1.${MIN_API_VERSION}` }), socketPath);
  await engine.ping();
  return engine;
}

export class Engine {
  readonly #docker: Dockerode;
  readonly #socketPath: string;

  constructor(docker: Dockerode, socketPath: string) {
    this.#docker = docker;
    this.#socketPath = socketPath;
  }

  async ping(): Promise<void> {
    await this.#call(() => this.#docker.ping());
  }

  async info(): Promise<EngineInfo> {
    const info: unknown = await this.#call(() => this.#docker.info());
    const read = (name: string): unknown => (typeof info === 'object' && info !== null ? Reflect.get(info, name) : undefined);
    const driver = read('CgroupDriver');
    const options = read('SecurityOptions');
    return {
      serverVersion: String(read('ServerVersion')),
      cgroupVersion: String(read('CgroupVersion')) === '2' ? 2 : 1,
      cgroupDriver: driver === 'systemd' || driver === 'none' ? driver : 'cgroupfs',
      cpus: Number(read('NCPU')),
      memoryBytes: Number(read('MemTotal')),
      securityOptions: Array.isArray(options) ? options.map(String) : [],
      ociRuntimes: ociRuntimesOf(read('Runtimes')),
    };
  }

  /** Null where there is no such image. */
  image(name: string): Promise<Dockerode.ImageInspectInfo | null> {
    return this.#orNull(() => this.#docker.getImage(name).inspect());
  }

  /** Reads an archive of images. Throws an Error with `loading` where the engine refuses what is in it. */
  async loadImage(archive: NodeJS.ReadableStream, signal: AbortSignal): Promise<void> {
    const output = await this.#call(
      (abortSignal) => this.#docker.loadImage(archive, { quiet: true, abortSignal: AbortSignal.any([abortSignal, signal]) }),
      TRANSFER_TIMEOUT_MS,
    );
    const failure = await lastError(output);
    if (failure !== null) throw Object.assign(new Error(failure), { loading: true });
  }

  /** Throws an Error with the registry's words. */
  async pullImage(reference: string, signal: AbortSignal): Promise<void> {
    const output = await this.#call(
      (abortSignal) => this.#docker.pull(reference, { abortSignal: AbortSignal.any([abortSignal, signal]) }),
      TRANSFER_TIMEOUT_MS,
    );
    const failure = await lastError(output);
    if (failure !== null) throw new Error(failure);
  }

  async tagImage(image: string, repo: string, tag: string): Promise<void> {
    await this.#call((abortSignal) => this.#docker.getImage(image).tag({ repo, tag, abortSignal }));
  }

  /**
   * Removes a name of an image, and the image with its last one; null where there is no such name. False where a
   * container is made of it. What it was built from stays: it may be somebody's.
   */
  async untagImage(name: string): Promise<boolean | null> {
    try {
      await this.#call((abortSignal) => this.#docker.getImage(name).remove({ noprune: true, abortSignal }), ACT_TIMEOUT_MS);
      return true;
    } catch (error) {
      const status = engineStatus(error);
      if (status === 404) return null;
      if (status === 409) return false;
      throw error;
    }
  }

  /** A file of a container, as a tar. */
  async archiveOf(container: string, path: string): Promise<NodeJS.ReadableStream> {
    return await this.#call((abortSignal) => this.#docker.getContainer(container).getArchive({ path, abortSignal }), ACT_TIMEOUT_MS);
  }

  /** All tags of the images with this label. */
  async imageTags(label: string): Promise<string[]> {
    const images = await this.#call((abortSignal) => this.#docker.listImages({ filters: { label: [label] }, abortSignal }));
    return images.flatMap((image) => image.RepoTags ?? []);
  }

  /** Ids of the container made. */
  async create(options: Dockerode.ContainerCreateOptions): Promise<string> {
    const container = await this.#call((abortSignal) => this.#docker.createContainer({ ...options, abortSignal }), ACT_TIMEOUT_MS);
    return container.id;
  }

  async startContainer(container: string): Promise<void> {
    await this.#call((abortSignal) => this.#docker.getContainer(container).start({ abortSignal }), ACT_TIMEOUT_MS);
  }

  /** Null where there is no such container. */
  inspect(container: string): Promise<Dockerode.ContainerInspectInfo | null> {
    return this.#orNull((abortSignal) => this.#docker.getContainer(container).inspect({ abortSignal }));
  }

  /** Containers with this label, dead ones too. */
  list(label: string): Promise<Dockerode.ContainerInfo[]> {
    return this.#call((abortSignal) => this.#docker.listContainers({ all: true, filters: { label: [label] }, abortSignal }));
  }

  /** SIGKILL and removal. No such container: nothing done. Throws where another removal is under way. */
  async remove(container: string): Promise<void> {
    await this.#orNull((abortSignal) => this.#docker.getContainer(container).remove({ force: true, v: true, abortSignal }), ACT_TIMEOUT_MS);
  }

  /** SIGKILL and removal, until it is gone. Throws when that takes longer than REMOVE_TIMEOUT_MS. */
  async removeUntilGone(name: string): Promise<void> {
    for (const start = performance.now(); ; await sleep(REMOVE_RETRY_MS)) {
      const late = performance.now() - start > REMOVE_TIMEOUT_MS;
      try {
        await this.remove(name);
        return;
      } catch (error) {
        // 409: somebody else is removing it. 500: a mount or process that is only just ending.
        const status = engineStatus(error);
        if ((status !== 409 && status !== 500) || late) throw error;
      }
    }
  }

  async update(container: string, limits: { Memory?: number; MemorySwap?: number; CpuPeriod?: number; CpuQuota?: number }): Promise<void> {
    await this.#call((abortSignal) => this.#docker.getContainer(container).update({ ...limits, abortSignal }));
  }

  /** The end of what a container wrote to stderr, as Docker frames it. */
  async stderrTail(container: string, lines: number): Promise<Buffer> {
    return this.#call((abortSignal) =>
      this.#docker.getContainer(container).logs({ stderr: true, stdout: false, follow: false, tail: lines, abortSignal }),
    );
  }

  /** Output since a time (`seconds.nanoseconds`), and what comes, until it ends or is aborted. Null where there is no such container. */
  follow(container: string, since: string, signal: AbortSignal): Promise<NodeJS.ReadableStream | null> {
    const options = { stdout: true, stderr: true, follow: true as const, timestamps: true, since, abortSignal: signal };
    return this.#orNull(() => this.#docker.getContainer(container).logs(options));
  }

  /** What happens to containers with this label, one JSON object a line, until aborted. */
  events(label: string, signal: AbortSignal): Promise<NodeJS.ReadableStream> {
    const filters = { type: ['container' as const], label: [label], event: ['die', 'oom', 'destroy'] };
    return this.#call(() => this.#docker.getEvents({ filters, abortSignal: signal }));
  }

  /** Null where there is no such network. */
  network(name: string): Promise<Dockerode.NetworkInspectInfo | null> {
    return this.#orNull(() => this.#docker.getNetwork(name).inspect());
  }

  async createNetwork(options: Dockerode.NetworkCreateOptions): Promise<void> {
    await this.#call((abortSignal) => this.#docker.createNetwork({ ...options, abortSignal }), ACT_TIMEOUT_MS);
  }

  async removeNetwork(name: string): Promise<void> {
    await this.#orNull((abortSignal) => this.#docker.getNetwork(name).remove({ abortSignal }), ACT_TIMEOUT_MS);
  }

  async #orNull<T>(call: (signal: AbortSignal) => Promise<T>, timeoutMs = ASK_TIMEOUT_MS): Promise<T | null> {
    try {
      return await this.#call(call, timeoutMs);
    } catch (error) {
      if (engineStatus(error) === 404) return null;
      throw error;
    }
  }

  async #call<T>(call: (signal: AbortSignal) => Promise<T>, timeoutMs = ASK_TIMEOUT_MS): Promise<T> {
    const deadline = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        const error = new DriverUnavailable(
          `The Docker engine at ${this.#socketPath} did not answer within ${timeoutMs / 1_000} s. Is the machine overloaded?`,
        );
        reject(error);
        deadline.abort(error);
      }, timeoutMs);
    });
    try {
      return await Promise.race([call(deadline.signal), late]);
    } catch (error) {
      throw explain(error, this.#socketPath);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** `{"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--host-uds=create"]}}`, as GET /info has it. */
function ociRuntimesOf(runtimes: unknown): Map<string, string[]> {
  if (typeof runtimes !== 'object' || runtimes === null) return new Map();
  return new Map(
    Object.entries(runtimes).map(([name, runtime]: [string, unknown]) => {
      const args: unknown = typeof runtime === 'object' && runtime !== null ? Reflect.get(runtime, 'runtimeArgs') : undefined;
      return [name, Array.isArray(args) ? args.map(String) : []];
    }),
  );
}

/** load and pull answer 200 and tell of errors in a line of the body; null where all went well. */
async function lastError(output: NodeJS.ReadableStream): Promise<string | null> {
  let failure: string | null = null;
  for await (const line of createInterface({ input: output })) {
    if (!line.includes('"error"')) continue;
    const parsed: { error?: string } = JSON.parse(line);
    failure = parsed.error ?? failure;
  }
  return failure;
}

/** The HTTP status that the engine answered an error with, where it did. */
export function engineStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('statusCode' in error)) return undefined;
  return typeof error.statusCode === 'number' ? error.statusCode : undefined;
}

/** Turns "cannot talk to it" into words that say what to do; leaves what the engine said as it is. */
function explain(error: unknown, socketPath: string): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  const because = { cause: error };
  switch (error.code) {
    case 'ENOENT':
      return new DriverUnavailable(
        `There is no Docker engine at ${socketPath}. Install one (Debian, Ubuntu: sudo apt-get install docker.io) or start it (sudo systemctl start docker); or use --driver process for a first look.`,
        because,
      );
    case 'ECONNREFUSED':
      return new DriverUnavailable(`The Docker engine at ${socketPath} is not running. Start it: sudo systemctl start docker.`, because);
    case 'EACCES':
    case 'EPERM':
      return new DriverUnavailable(
        `This user may not use the Docker engine at ${socketPath}. Add it to the group (sudo usermod -aG docker "$USER", then log in again), or run as root.`,
        because,
      );
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ETIMEDOUT':
      return new DriverUnavailable(
        `The Docker engine at ${socketPath} broke off the conversation (${error.code}). See its log: sudo journalctl -u docker.`,
        because,
      );
    default:
      return error;
  }
}
