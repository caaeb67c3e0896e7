/**
 * Which image a runtime's instances are made of: the one that this build of fn would make, or, where
 * that was not built yet, the newest that some fn has made. Looked up when it is needed, so that a
 * runtime that is built while the platform runs is there at once.
 */
import { DriverUnavailable } from '../types.ts';
import { LABELS } from './container.ts';

/** How the builder marks what it made upon an image of a registry (`--base`): no tag of that is ever the expected one. */
const BASE_LABEL = { name: 'fn.packages', upon: 'base-image' };

/** Of an Engine. */
interface Images {
  image(tag: string): Promise<{ Config: { Labels?: Record<string, string> | null } } | null>;
  imageTags(label: string): Promise<string[]>;
}

export class RuntimeImages {
  readonly #expected: Readonly<Record<string, string>>;
  readonly #found = new Map<string, string>();

  /** `expected`: tag by runtime, whether it is there or not. */
  constructor(expected: Readonly<Record<string, string>>) {
    this.#expected = expected;
  }

  /** Those that the engine has. `note`: of one that this build of fn would make anew. */
  async list(engine: Images): Promise<{ name: string; version: string; image: string; note?: string }[]> {
    const found = await Promise.all(
      Object.keys(this.#expected).map(async (name) => {
        const image = await this.#find(engine, name);
        if (image === null) return null;
        const info = await engine.image(image);
        if (info === null) return null;
        const labels = info.Config.Labels ?? {};
        const current = image === this.#expected[name] || labels[BASE_LABEL.name] === BASE_LABEL.upon;
        return { name, version: labels[LABELS.version] ?? '', image, ...(current ? {} : { note: staleNote(name, image) }) };
      }),
    );
    return found.filter((runtime) => runtime !== null);
  }

  /** Throws DriverUnavailable where there is none; it names the command that builds it. */
  async image(engine: Images, runtime: string): Promise<string> {
    const image = this.#found.get(runtime) ?? (await this.#find(engine, runtime));
    if (image === null) throw this.missing(runtime);
    return image;
  }

  /** The image went away since it was looked up: it is looked up again the next time. */
  missing(runtime: string, cause?: unknown): DriverUnavailable {
    const image = this.#found.get(runtime) ?? this.#expected[runtime];
    this.#found.delete(runtime);
    const what =
      image === undefined ? `There is no image of the runtime ${runtime}` : `The image ${image} of the runtime ${runtime} is not there`;
    return new DriverUnavailable(`${what}. Build it: fn runtimes build ${runtime}.`, { cause });
  }

  async #find(engine: Images, runtime: string): Promise<string | null> {
    const expected = Object.hasOwn(this.#expected, runtime) ? this.#expected[runtime] : undefined;
    if (expected === undefined) return null;
    const image = (await engine.image(expected)) ? expected : await this.#newest(engine, runtime);
    if (image === null) this.#found.delete(runtime);
    else this.#found.set(runtime, image);
    return image;
  }

  async #newest(engine: Images, runtime: string): Promise<string | null> {
    const tags = (await engine.imageTags(`${LABELS.runtime}=${runtime}`)).filter((tag) => tag.startsWith(`fn/${runtime}:`));
    let newest: { tag: string; at: number } | null = null;
    for (const tag of tags) {
      // The image's own date is fixed, so that its digest is; when it got its tag is the engine's to know.
      const at = taggedAt(await engine.image(tag));
      if (newest === null || at > newest.at) newest = { tag, at };
    }
    return newest?.tag ?? null;
  }
}

const staleNote = (runtime: string, image: string): string =>
  `The runtime ${runtime} still has the image of another version of fn (${image}): fn runtimes build ${runtime} makes that of this one.`;

/** 0 where the engine does not say, or the image is gone. */
function taggedAt(image: object | null): number {
  const metadata: unknown = image === null ? undefined : Reflect.get(image, 'Metadata');
  const time: unknown = typeof metadata === 'object' && metadata !== null ? Reflect.get(metadata, 'LastTagTime') : undefined;
  return (typeof time === 'string' && Date.parse(time)) || 0;
}
