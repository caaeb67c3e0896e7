/**
 * Images that functions of the runtime `image` are made of, in the engine: found, loaded from an archive,
 * pulled from a registry. What is uploaded gets a tag of ours and no other; see image-archive.ts.
 */
import { posix } from 'node:path';
import { Readable } from 'node:stream';
import type Dockerode from 'dockerode';
import { FnError } from '#contract/errors.ts';
import type { EngineImage, ImageStore } from '../types.ts';
import { engineStatus, type Engine } from './engine.ts';
import { passArchive } from './image-archive.ts';

/** Where images are that somebody has brought, so that they are not taken for what nobody needs. */
const REPOSITORY = 'fn-uploads';
/** Of our own runtimes' images: nobody else may give such a name to anything. */
const RESERVED = /^(?:(?:index\.)?docker\.io\/)?(?:library\/)?(?:fn\/|fn-uploads(?:[:@]|$))/;
const REFERENCE = /^[a-z0-9][a-zA-Z0-9._:/@-]{0,499}$/;
const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm',
  ppc64: 'ppc64le',
  s390x: 's390x',
};
const ARCHITECTURE = ARCHITECTURES[process.arch] ?? process.arch;

/** How long what was taken up is not let go of, ms: whoever brought it has yet to say whose it is. */
const FRESH_MS = 10_000;

export class DockerImages implements ImageStore {
  readonly #engine: () => Promise<Engine>;
  readonly #homeId: string;
  /** When each was taken up, by the monotonic clock; swept by release(). */
  readonly #fresh = new Map<string, number>();
  /** Pulls under way, by name: what one of them cleans up is what the next would look for. */
  readonly #pulls = new Map<string, Promise<unknown>>();

  constructor(engine: () => Promise<Engine>, homeId: string) {
    this.#engine = engine;
    this.#homeId = homeId;
  }

  async find(reference: string): Promise<EngineImage | null> {
    const engine = await this.#engine();
    const info = await engine.image(reference).catch((error: unknown) => {
      // What is no reference names no image; pull() says what is wrong with it.
      if (engineStatus(error) === 400) return null;
      throw error;
    });
    return info === null ? null : describe(info, reference);
  }

  async load(archive: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<EngineImage> {
    const engine = await this.#engine();
    const passed = passArchive(archive, ARCHITECTURE);
    const [id, loaded] = await Promise.allSettled([passed.id, engine.loadImage(Readable.from(passed.stream), signal)]);
    // What is wrong with the archive also ends the engine's reading, with words that say less.
    if (id.status === 'rejected') throw id.reason;
    if (loaded.status === 'rejected') throw loadError(loaded.reason);
    const info = await engine.image(id.value);
    if (info === null) throw new FnError('invalid', 'The engine did not take the image: its layers are not what its configuration says.');
    return await this.#take(engine, info, null);
  }

  async pull(reference: string, signal: AbortSignal): Promise<EngineImage> {
    if (reference.startsWith('sha256:')) throw notFound(reference, 'it is not here, and a registry does not know images by their id');
    if (!REFERENCE.test(reference))
      throw new FnError(
        'invalid',
        `${JSON.stringify(reference.slice(0, 100))} is no reference of an image, such as registry.example/team/app:1.2.`,
      );
    if (RESERVED.test(reference))
      throw new FnError('invalid', `Images named ${reference.split(/[:@]/)[0]} are fn's own; name yours differently.`);
    const name = withTag(reference);
    const before = this.#pulls.get(name) ?? Promise.resolve();
    const mine = before.then(
      () => this.#pull(name, reference, signal),
      () => this.#pull(name, reference, signal),
    );
    this.#pulls.set(name, mine);
    try {
      return await mine;
    } finally {
      if (this.#pulls.get(name) === mine) this.#pulls.delete(name);
    }
  }

  async #pull(name: string, reference: string, signal: AbortSignal): Promise<EngineImage> {
    signal.throwIfAborted();
    const engine = await this.#engine();
    const known = (await engine.image(name)) !== null;
    try {
      await engine.pullImage(name, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof Error)) throw error;
      throw notFound(reference, error.message);
    }
    const info = await engine.image(name);
    if (info === null) throw notFound(reference, 'the engine pulled it and does not have it');
    try {
      return await this.#take(engine, info, reference);
    } finally {
      // The name came with our pull: only ours is left, so that the image goes with it.
      if (!known) await engine.untagImage(name);
    }
  }

  async hold(id: string): Promise<void> {
    await this.#tag(await this.#engine(), id);
  }

  async release(id: string): Promise<boolean> {
    const now = performance.now();
    for (const [image, at] of this.#fresh) if (now - at > FRESH_MS) this.#fresh.delete(image);
    if (this.#fresh.has(id)) return false;
    const engine = await this.#engine();
    return (await engine.untagImage(`${REPOSITORY}:${this.#tagOf(id)}`)) ?? true;
  }

  /** Names it before it looks at it: without a name, one that is refused could not be told from somebody's, and would stay. */
  async #take(engine: Engine, info: Dockerode.ImageInspectInfo, reference: string | null): Promise<EngineImage> {
    await this.#tag(engine, info.Id);
    try {
      return describe(info, reference);
    } catch (error) {
      this.#fresh.delete(info.Id);
      await this.release(info.Id);
      throw error;
    }
  }

  async #tag(engine: Engine, id: string): Promise<void> {
    this.#fresh.set(id, performance.now());
    await engine.tagImage(id, REPOSITORY, this.#tagOf(id));
  }

  /** With the home in it: another one of this engine holds its images for itself. */
  #tagOf(id: string): string {
    return `${this.#homeId}-${id.slice('sha256:'.length)}`;
  }
}

/** Without a tag the engine would pull all of them. */
function withTag(reference: string): string {
  const name = reference.slice(reference.lastIndexOf('/') + 1);
  return /[:@]/.test(name) ? reference : `${reference}:latest`;
}

const notFound = (reference: string, why: string): FnError =>
  new FnError('image-not-found', `The image ${reference} cannot be had: ${why.slice(0, 1_000)}.`);

function loadError(error: unknown): unknown {
  const status = engineStatus(error);
  if (!(error instanceof Error) || (status === undefined && !('loading' in error))) return error;
  return new FnError('invalid', `The engine refused the image: ${error.message.slice(0, 1_000)}.`, { cause: error });
}

/** Throws FnError invalid for an image that cannot run here. */
export function describe(info: Dockerode.ImageInspectInfo, reference: string | null): EngineImage {
  volumesOf(info); // refused before anything is deployed
  if (info.Os !== 'linux' || info.Architecture !== ARCHITECTURE)
    throw new FnError('invalid', `The image is for ${info.Os}/${info.Architecture}; this platform runs linux/${ARCHITECTURE}.`);
  if (programOf(info).length === 0) throw new FnError('invalid', 'The image names no program: it has neither ENTRYPOINT nor CMD.');
  return { id: info.Id, reference: reference?.startsWith('sha256:') ? null : reference, bytes: info.Size, port: portOf(info) };
}

/** Each becomes a tmpfs of every instance. */
const MAX_VOLUMES = 16;

/**
 * Folders that the image declares as volumes. Each must get a mount of ours: the engine would put one that
 * has none on the host's disk, without limit. Throws FnError invalid where that cannot be.
 */
export function volumesOf({ Config }: Pick<Dockerode.ImageInspectInfo, 'Config'>): string[] {
  const declared: unknown = Config.Volumes ?? {};
  const paths = Object.keys(typeof declared === 'object' && declared !== null ? declared : {}).map((path) => posix.resolve('/', path));
  const taken = paths.find((path) => /^\/(?:(?:fn|proc|sys|dev)(?:\/|$)|$)/.test(path));
  if (taken !== undefined) throw new FnError('invalid', `The image declares ${taken} as a volume, and that belongs to the platform.`);
  const volumes = [...new Set(paths)].filter((path) => path !== '/tmp');
  if (volumes.length > MAX_VOLUMES)
    throw new FnError('invalid', `The image declares ${volumes.length} volumes; it may have ${MAX_VOLUMES}.`);
  return volumes;
}

/** What the image runs. */
export function programOf({ Config }: Pick<Dockerode.ImageInspectInfo, 'Config'>): string[] {
  const words = (value: string | string[] | undefined | null): string[] => (typeof value === 'string' ? [value] : (value ?? []));
  return [...words(Config.Entrypoint), ...words(Config.Cmd)];
}

/** Where its program starts. */
export const folderOf = ({ Config }: Pick<Dockerode.ImageInspectInfo, 'Config'>): string => posix.resolve('/', Config.WorkingDir ?? '');

/** The TCP port that it exposes, where that is one. */
export function portOf({ Config }: Pick<Dockerode.ImageInspectInfo, 'Config'>): number | null {
  const exposed: unknown = Config.ExposedPorts ?? {};
  const ports = Object.keys(typeof exposed === 'object' && exposed !== null ? exposed : {})
    .map((port) => /^(\d+)(?:\/tcp)?$/.exec(port)?.[1])
    .filter((port) => port !== undefined);
  return ports.length === 1 ? Number(ports[0]) : null;
}
