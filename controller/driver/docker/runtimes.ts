/**
 * Which image a runtime's instances are made of: the one that this build of fn would make, or, where
 * that was not built yet, the newest that some fn has made. Looked up when it is needed, so that a
 * runtime that is built while the platform runs is there at once.
 */
import { DriverUnavailable } from '../types.ts';
import { LABELS } from './container.ts';
import type { Engine } from './engine.ts';

export class RuntimeImages {
  readonly #expected: Readonly<Record<string, string>>;
  readonly #found = new Map<string, string>();

  /** `expected`: tag by runtime, whether it is there or not. */
  constructor(expected: Readonly<Record<string, string>>) {
    this.#expected = expected;
  }

  /** Those that the engine has. */
  async list(engine: Engine): Promise<{ name: string; version: string; image: string }[]> {
    const found = await Promise.all(
      Object.keys(this.#expected).map(async (name) => {
        const image = await this.#find(engine, name);
        if (image === null) return null;
        const info = await engine.image(image);
        return info && { name, version: info.Config.Labels?.[LABELS.version] ?? '', image };
      }),
    );
    return found.filter((runtime) => runtime !== null);
  }

  /** Throws DriverUnavailable where there is none; it names the command that builds it. */
  async image(engine: Engine, runtime: string): Promise<string> {
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

  async #find(engine: Engine, runtime: string): Promise<string | null> {
    const expected = Object.hasOwn(this.#expected, runtime) ? this.#expected[runtime] : undefined;
    if (expected === undefined) return null;
    const image = (await engine.image(expected)) ? expected : await this.#newest(engine, runtime);
    if (image === null) this.#found.delete(runtime);
    else this.#found.set(runtime, image);
    return image;
  }

  async #newest(engine: Engine, runtime: string): Promise<string | null> {
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

/** 0 where the engine does not say, or the image is gone. */
function taggedAt(image: object | null): number {
  const metadata: unknown = image === null ? undefined : Reflect.get(image, 'Metadata');
  const time: unknown = typeof metadata === 'object' && metadata !== null ? Reflect.get(metadata, 'LastTagTime') : undefined;
  return (typeof time === 'string' && Date.parse(time)) || 0;
}
