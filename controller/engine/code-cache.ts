/**
 * V8's code caches of large bundles. The first instance of a revision makes one as it loads, before it has had a request; it is kept
 * beside a copy (by links) of the bundle, which later instances of this revision get in its place. It is bytecode that a function's own
 * instance has made, and V8 runs it without looking: so it is never given to another revision, function or namespace, whatever the
 * digest, and nothing of the platform ever loads it.
 */
import { link, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Revision } from '#contract/function.ts';
import { CodeIndex, MAX_CODE_CACHE_BYTES, MAX_CODE_CACHE_FILES, type Address } from '#contract/runtime.ts';
import type { Log } from '#kit/log.ts';
import { messageOf } from './context.ts';
import type { RuntimeClient } from './runtime-client.ts';

/** Below this the cache saves less than it costs to look for it, bytes of the entry file. See docs/benchmarks.md. */
export const MIN_ENTRY_BYTES = 256 * 1024;
/** A bundle of more files than this is no one bundled file: what is compiled of it is little. */
const MAX_BUNDLE_FILES = 1_000;
/** All caches together, bytes. */
const MAX_TOTAL_BYTES = 512 * 1024 * 1024;
/** Those of one namespace, bytes: a tenant may make as many revisions as it likes, and what it deletes goes an hour later. */
export const MAX_NAMESPACE_BYTES = 128 * 1024 * 1024;
/** Fetched or being written at a time: each lies in the controller's memory meanwhile, some of them twice. */
export const MAX_FETCHED_AT_ONCE = 2;
/** Longest list of the files of one, bytes: JSON of a function's own may take a hundred times its length in memory. */
const MAX_LIST_BYTES = 32 * 1024;
/** Revisions of which is remembered whether they have one. */
const MAX_KNOWN = 10_000;
/** Runtimes whose engine keeps code so. */
const RUNTIMES = new Set(['node']);
/** Where it is below the code, as the shim expects it. */
const BESIDE_CODE = join('.fn', 'code-cache');

/** A revision's instances that may hand one over, the first included: one that never fits (a new runtime, a hostile function) is not fetched for ever. */
const MAX_TAKEN = 3;

/** `none`: not worth it, or not possible. `make`: the next instance makes it. `use`: it is in that folder, with the bundle. */
type State = { kind: 'none' | 'make' } | { kind: 'use'; dir: string };

const NONE: State = { kind: 'none' };

export interface CodeCachesOptions {
  folder: string;
  runtime: Pick<RuntimeClient, 'codeCache'>;
  log: Log;
}

export class CodeCaches {
  readonly #options: CodeCachesOptions;
  readonly #states = new Map<string, State>();
  readonly #taken = new Map<string, number>();
  readonly #keeping = new Set<Promise<void>>();
  #fetching = 0;
  /** Bytes of each that is there; null: nobody has looked yet. */
  #sizes: Map<string, number> | null = null;

  constructor(options: CodeCachesOptions) {
    this.#options = options;
  }

  /** Revisions of which something is remembered. */
  get known(): number {
    return new Set([...this.#states.keys(), ...this.#taken.keys()]).size;
  }

  /** The folder that an instance is to get, and whether it is to use, and make, a code cache. Never throws for the cache's sake. */
  async prepare(revision: Revision, bundleDir: string): Promise<{ dir: string; codeCache: boolean }> {
    const name = nameOf(revision);
    let state = this.#states.get(name);
    // Without it the code is compiled as ever; with a folder that is no more, no instance would start.
    if (state === undefined || (state.kind === 'use' && (await sizeOf(state.dir)) === null)) {
      state = await this.#look(revision, bundleDir);
      if (this.#states.size >= MAX_KNOWN) this.#states.clear();
      this.#states.set(name, state);
    }
    return { dir: state.kind === 'use' ? state.dir : bundleDir, codeCache: state.kind !== 'none' };
  }

  async #look(revision: Revision, bundleDir: string): Promise<State> {
    if (!RUNTIMES.has(revision.settings.runtime) || revision.image !== null) return NONE;
    try {
      const { size } = await stat(join(bundleDir, revision.entry));
      if (size < MIN_ENTRY_BYTES) return NONE;
      const newest = await this.#newest(nameOf(revision));
      return newest === 0 ? { kind: 'make' } : { kind: 'use', dir: this.#dir(nameOf(revision), newest) };
    } catch (error) {
      this.#options.log.debug({ revision: revision.key, error: messageOf(error) }, 'whether a code cache is worth it is not known');
      return NONE;
    }
  }

  /** Number of the last one of a revision; 0: there is none. Each has a folder of its own, so that nothing goes that an instance is just given. */
  async #newest(name: string): Promise<number> {
    const numbers = (await namesIn(join(this.#options.folder, name))).map(Number).filter(Number.isInteger);
    return Math.max(0, ...numbers);
  }

  /** Fetches what an instance has made, before it has had any request, and keeps it. Never throws: without it code is compiled as ever. */
  async take(revision: Revision, bundleDir: string, instance: { address: Address; nonce: string }): Promise<void> {
    const { runtime, log } = this.#options;
    const name = nameOf(revision);
    // Of several instances that start at once one is enough; where it fails, the revision has none until the controller starts anew.
    const taken = this.#taken.get(name) ?? 0;
    if (this.#states.get(name)?.kind === 'none' || taken >= MAX_TAKEN) return;
    // A later instance makes it again.
    if (this.#fetching + this.#keeping.size >= MAX_FETCHED_AT_ONCE) return;
    this.#states.set(name, NONE);
    if (this.#taken.size >= MAX_KNOWN) this.#taken.clear();
    this.#taken.set(name, taken + 1);
    this.#fetching += 1;
    try {
      const body = await runtime.codeCache(instance.address, instance.nonce);
      if (body === null) return;
      const files = readFiles(body);
      const keeping = this.#keep(name, bundleDir, files)
        .catch((error: unknown) =>
          log.warn({ revision: revision.key, error: messageOf(error) }, 'a code cache could not be kept: its function loads without'),
        )
        .finally(() => this.#keeping.delete(keeping));
      this.#keeping.add(keeping);
    } catch (error) {
      log.warn({ revision: revision.key, error: messageOf(error) }, 'a code cache could not be had: its function loads without');
    } finally {
      this.#fetching -= 1;
    }
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    await Promise.all(this.#keeping);
  }

  async #keep(name: string, bundleDir: string, files: readonly { path: string; data: Buffer }[]): Promise<void> {
    const bytes = files.reduce((total, { data }) => total + data.length, 0);
    const sizes = await this.#known();
    this.#checkRoom(sizes, name, bytes);
    // Counted before it is there, or two that are written at once would both find the room of one. An older one is there until it is pruned.
    const before = sizes.get(name) ?? 0;
    sizes.set(name, before + bytes);
    try {
      this.#states.set(name, { kind: 'use', dir: await this.#store(name, bundleDir, files) });
    } catch (error) {
      sizes.set(name, before);
      throw error;
    }
  }

  #checkRoom(sizes: ReadonlyMap<string, number>, name: string, bytes: number): void {
    const namespace = name.slice(0, name.indexOf('.') + 1);
    const sum = (among: string) => [...sizes].reduce((total, [other, size]) => (other.startsWith(among) ? total + size : total), 0);
    if (sum(namespace) + bytes > MAX_NAMESPACE_BYTES)
      throw new Error(`the code caches of its namespace have ${sum(namespace)} bytes: there is no room for ${bytes} more`);
    if (sum('') + bytes > MAX_TOTAL_BYTES)
      throw new Error(`all code caches together have ${sum('')} bytes: there is no room for ${bytes} more`);
  }

  async #store(name: string, bundleDir: string, files: readonly { path: string; data: Buffer }[]): Promise<string> {
    const dir = this.#dir(name, (await this.#newest(name)) + 1);
    const partial = `${dir}.part`;
    await rm(partial, { recursive: true, force: true });
    try {
      await linkFolder(bundleDir, partial);
      for (const { path, data } of files) {
        const file = join(partial, BESIDE_CODE, path);
        await mkdir(dirname(file), { recursive: true, mode: 0o755 });
        // The instance has a user of its own.
        await writeFile(file, data, { mode: 0o644 });
      }
      await rename(partial, dir);
    } catch (error) {
      await rm(partial, { recursive: true, force: true });
      throw error;
    }
    return dir;
  }

  async #known(): Promise<Map<string, number>> {
    if (this.#sizes !== null) return this.#sizes;
    const sizes = new Map<string, number>();
    for (const name of await namesIn(this.#options.folder)) {
      let bytes = 0;
      for (const number of await namesIn(join(this.#options.folder, name))) {
        const folder = join(this.#options.folder, name, number, BESIDE_CODE);
        for (const version of await namesIn(folder))
          for (const file of await namesIn(join(folder, version))) bytes += (await sizeOf(join(folder, version, file))) ?? 0;
      }
      sizes.set(name, bytes);
    }
    this.#sizes ??= sizes;
    return this.#sizes;
  }

  /** Removes those of revisions that are not kept any more, and what a crash left half made. Returns how many. */
  async prune(kept: readonly Revision[]): Promise<number> {
    const keep = new Set(kept.map(nameOf));
    const gone = (await namesIn(this.#options.folder)).filter((name) => !keep.has(name));
    // Also of those that never had one, as most.
    for (const states of [this.#states, this.#taken]) for (const name of states.keys()) if (!keep.has(name)) states.delete(name);
    for (const name of gone) await rm(join(this.#options.folder, name), { recursive: true, force: true });
    for (const name of keep) await this.#pruneOlder(name);
    // Looked at anew: what is there now.
    this.#sizes = null;
    return gone.length;
  }

  /** Those that another one has taken the place of. */
  async #pruneOlder(name: string): Promise<void> {
    const newest = String(await this.#newest(name));
    for (const number of await namesIn(join(this.#options.folder, name)))
      if (number !== newest && !number.startsWith(`${Number(newest) + 1}.`))
        await rm(join(this.#options.folder, name, number), { recursive: true, force: true });
  }

  #dir(name: string, number: number): string {
    return join(this.#options.folder, name, String(number));
  }
}

/**
 * Names have no dot, so none is another's. When it was made, and the digest: numbers begin anew where a function, or a namespace, is
 * deleted and somebody makes one of the same name, and where somebody removes the store and leaves this folder.
 */
const nameOf = ({ namespace, name, number, bundle, createdAt }: Revision): string =>
  `${namespace}.${name}.${number}.${createdAt}-${bundle.slice(-12)}`;

/** What the shim sent: it is user code, so every word of it is checked. Throws where it is not as the protocol has it. */
export function readFiles(body: Buffer): { path: string; data: Buffer }[] {
  const end = body.indexOf(0x0a);
  if (end < 0) throw new Error('the code cache has no list of its files');
  if (end > MAX_LIST_BYTES) throw new Error(`the list of the files of the code cache has ${end} bytes`);
  const { files } = CodeIndex.parse(JSON.parse(body.toString('utf8', 0, end)));
  if (files.length === 0 || files.length > MAX_CODE_CACHE_FILES) throw new Error(`the code cache has ${files.length} files`);
  if (body.length > MAX_CODE_CACHE_BYTES) throw new Error(`the code cache has ${body.length} bytes`);
  let at = end + 1;
  const found = files.map(({ path, size }) => {
    if (!/^[A-Za-z0-9][\w.-]{0,100}\/[A-Za-z0-9][\w-]{0,100}$/.test(path))
      throw new Error(`the code cache names the file ${JSON.stringify(path)}`);
    const data = body.subarray(at, at + size);
    at += size;
    return { path, data };
  });
  if (at !== body.length) throw new Error('the files of the code cache are longer or shorter than it says');
  if (new Set(found.map(({ path }) => path)).size < found.length) throw new Error('the code cache has a file twice');
  return found;
}

/** By links: it takes no room. Throws where it has `.fn`, or more files than a bundle of one file has. */
async function linkFolder(from: string, to: string): Promise<void> {
  const entries = await readdir(from, { withFileTypes: true, recursive: true });
  if (entries.length > MAX_BUNDLE_FILES) throw new Error(`the bundle has ${entries.length} files`);
  await mkdir(to, { recursive: true, mode: 0o755 });
  // A folder comes before what is in it.
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name).slice(from.length + 1);
    if (path === '.fn') throw new Error('the bundle has a folder .fn of its own');
    if (entry.isDirectory()) await mkdir(join(to, path), { mode: 0o755 });
    else await link(join(from, path), join(to, path));
  }
}

/** Bytes of a file; null where there is none. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
