/**
 * The folders of instances on this host, below `paths.instances`:
 *
 *     ID/            the controller's, 0700 until sealed, then 0711: the gateway passes through to the socket
 *     ID/sock/       0777 until sealed, then 0711: the instance makes its socket `s` here while it boots
 *     ID/private/    0700: code is nobody's business on this host
 *     ID/private/code/  0755, the bundle; the instance sees it read-only
 *
 * Any user of the host can read these paths in /proc/PID/mountinfo, so their names protect nothing: while
 * an instance boots, ID/ keeps everybody out but the engine, which mounts what is in it. Instances that
 * are processes of a user of their own need no mount, but a way: for them the folders belong to that user's group.
 *
 * Code is hard-linked, so that it takes no time and no memory per instance. Where the bundle lies on
 * another file system (as root, /run is a tmpfs) or other users cannot read it, one copy is made
 * beside the instances and linked from there.
 */
import { chmod, chown, copyFile, link, mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { chmodSync, linkSync, mkdirSync, renameSync, statSync, writeFileSync, type Stats } from 'node:fs';
import { newSecret, shortHash } from '#kit/ids.ts';
import type { HomePaths } from '#kit/paths.ts';

/** Bytes of copied bundles kept to be linked again; beyond it the one used longest ago is dropped (instances keep their links). */
export const CODE_CACHE_BYTES = 128 * 1024 * 1024;

/** Entries and depth that a bundle may have; the bundle store is stricter, this only keeps a loop from being endless. */
const MAX_BUNDLE_ENTRIES = 100_000;

const PASS_THROUGH = 0o711;
const OWNER_ONLY = 0o700;
const WORLD_WRITABLE = 0o777;
const WORLD_READABLE = 0o444;

/** A bundle of at most so many entries is linked at once, some 10 µs each; a larger one by and by. */
const MAX_LINKED_AT_ONCE = 64;

/** What is in a bundle, folders before what is in them. */
type Entries = { path: string; folder: boolean }[];

/** Where files are linked from, and what is there; `entries` is null for a bundle that is too large to be linked at once. */
interface CodeSource {
  dir: string;
  entries: Entries | null;
}

interface CachedCode extends CodeSource {
  bytes: number;
}

export class Workspace {
  readonly #paths: Pick<HomePaths, 'runDir' | 'instances'>;
  readonly #cacheDir: string;
  readonly #cacheBytes: number;
  readonly #processUid: number | null;
  /** Copies by bundle, the one used last at the end. */
  readonly #cache = new Map<string, Promise<CachedCode>>();
  /** Bundles that can be linked as they are; null: they must be copied first. */
  readonly #linkable = new Map<string, CodeSource | null>();

  /** `processUid`: uid and gid of instances that are processes on this host, where it is not ours. */
  constructor(
    paths: Pick<HomePaths, 'runDir' | 'instances'>,
    { cacheBytes = CODE_CACHE_BYTES, processUid = null }: { cacheBytes?: number; processUid?: number | null } = {},
  ) {
    this.#paths = paths;
    this.#processUid = processUid;
    this.#cacheDir = join(paths.runDir, 'code');
    this.#cacheBytes = cacheBytes;
  }

  dir(id: string): string {
    return join(this.#paths.instances, id);
  }

  /** The folder that holds the socket, which is all of the host that an instance may write to. */
  sockDir(id: string): string {
    return join(this.dir(id), 'sock');
  }

  socket(id: string): string {
    return join(this.sockDir(id), 's');
  }

  codeDir(id: string): string {
    return join(this.dir(id), 'private', 'code');
  }

  /** Makes the folder of all instances and forgets copies that an earlier controller left. */
  async start(): Promise<void> {
    await mkdir(this.#paths.runDir, { recursive: true });
    await mkdir(this.#paths.instances, { recursive: true });
    for (const dir of [this.#paths.runDir, this.#paths.instances]) {
      // The run folder may lie in /tmp, where anybody could have made it first.
      if ((await stat(dir)).uid !== process.getuid?.()) throw new Error(`${dir} belongs to another user; remove it`);
    }
    // Explicit, because the mode of mkdir is subject to the umask.
    await chmod(this.#paths.runDir, PASS_THROUGH);
    await chmod(this.#paths.instances, PASS_THROUGH);
    await rm(this.#cacheDir, { recursive: true, force: true });
  }

  /** Makes the folders of a new instance. Throws where they are there already: ids are never used twice. */
  async prepare(id: string): Promise<void> {
    const hidden = [this.dir(id), dirname(this.codeDir(id))];
    for (const dir of hidden) await mkdir(dir, { mode: OWNER_ONLY });
    await mkdir(this.sockDir(id), { mode: OWNER_ONLY });
    await mkdir(this.codeDir(id));
    await chmod(this.codeDir(id), 0o755);
    if (this.#processUid === null) {
      await chmod(this.sockDir(id), WORLD_WRITABLE);
      return;
    }
    for (const dir of hidden) {
      await chown(dir, -1, this.#processUid);
      await chmod(dir, 0o710);
    }
    await chown(this.sockDir(id), this.#processUid, this.#processUid);
  }

  /**
   * From here on the instance cannot replace its socket: not by a link to the engine's socket, which
   * the gateway would then talk to, nor by anything else.
   */
  async seal(id: string): Promise<void> {
    const own = process.getuid?.();
    if (this.#processUid !== null && own !== undefined) await chown(this.sockDir(id), own, -1);
    await chmod(this.sockDir(id), PASS_THROUGH);
    // Only now, so that nobody else is ever where the socket can be replaced.
    await chmod(this.dir(id), PASS_THROUGH);
  }

  /** Puts a bundle where the instance sees it. Throws where it holds anything but files and folders. */
  async place(id: string, bundleDir: string): Promise<void> {
    const target = this.codeDir(id);
    try {
      await linkCode(await this.#linkSource(bundleDir), target);
    } catch (error) {
      // The copy was dropped for room between finding it and linking it, or another controller began anew: once more, from a new copy.
      if (!isMissing(error)) throw error;
      await this.#forgetLost();
      await Promise.all((await readdir(target)).map((name) => rm(join(target, name), { recursive: true })));
      await linkCode(await this.#linkSource(bundleDir), target);
    }
  }

  /** Notes beside an instance, out of its sight; they go with it. */
  async writeNote(id: string, name: string, value: object): Promise<void> {
    const path = join(this.dir(id), `${name}.json`);
    await writeFile(`${path}.new`, JSON.stringify(value), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  /** The same at once, for where nothing may come between. */
  writeNoteSync(id: string, name: string, value: object): void {
    const path = join(this.dir(id), `${name}.json`);
    writeFileSync(`${path}.new`, JSON.stringify(value), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** The note, or null where there is none. */
  async readNote(id: string, name: string): Promise<unknown> {
    try {
      return JSON.parse(await readFile(join(this.dir(id), `${name}.json`), 'utf8'));
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }

  async remove(id: string): Promise<void> {
    await rm(this.dir(id), { recursive: true, force: true, maxRetries: 3 });
  }

  /** Ids that have a folder. */
  async ids(): Promise<string[]> {
    try {
      return await readdir(this.#paths.instances);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }

  /** Removes all that this class made. */
  async destroy(): Promise<void> {
    this.#cache.clear();
    this.#linkable.clear();
    await rm(this.#cacheDir, { recursive: true, force: true });
    await rm(this.#paths.instances, { recursive: true, force: true, maxRetries: 3 });
    // The run folder is shared with the rest of the platform: whoever empties it removes it.
    await rmdir(this.#paths.runDir).catch((error: unknown) => {
      if (!isMissing(error) && !(error instanceof Error && 'code' in error && error.code === 'ENOTEMPTY')) throw error;
    });
  }

  /** Copies that are there no more. */
  async #forgetLost(): Promise<void> {
    for (const [key, copying] of this.#cache) {
      const copy = await copying.catch(() => null); // Whoever waits for it is told, and it is forgotten by then.
      if (copy !== null && statSync(copy.dir, { throwIfNoEntry: false }) === undefined && this.#cache.get(key) === copying)
        this.#cache.delete(key);
    }
  }

  async #linkSource(bundleDir: string): Promise<CodeSource> {
    const info = statSync(bundleDir);
    // The folder's identity is in the key, so that another bundle under the same path is not taken for it.
    const key = `${bundleDir}\n${info.dev}:${info.ino}:${info.mtimeMs}`;
    let linkable = this.#linkable.get(key);
    if (linkable === undefined) {
      linkable = (await canLink(bundleDir, (await stat(this.#paths.instances)).dev))
        ? { dir: bundleDir, entries: await entriesOf(bundleDir) }
        : null;
      if (this.#linkable.size >= 1_000) this.#linkable.clear();
      this.#linkable.set(key, linkable);
    }
    if (linkable !== null) return linkable;
    const cached = this.#cache.get(key) ?? this.#copy(key, bundleDir);
    this.#cache.delete(key);
    this.#cache.set(key, cached);
    return cached;
  }

  #copy(key: string, bundleDir: string): Promise<CachedCode> {
    const copying = this.#copyNow(bundleDir);
    copying.then(
      () => void this.#trim(),
      () => this.#cache.delete(key),
    );
    return copying;
  }

  async #copyNow(bundleDir: string): Promise<CachedCode> {
    const dir = join(this.#cacheDir, `${shortHash(bundleDir, 16)}-${shortHash(newSecret())}`);
    // Owner only: links are what instances see, this folder is nobody else's business.
    await mkdir(this.#cacheDir, { recursive: true, mode: 0o700 });
    const partial = `${dir}.part`;
    await mkdir(partial);
    const bytes = await copyTree(bundleDir, partial);
    await rename(partial, dir);
    return { dir, bytes, entries: await entriesOf(dir) };
  }

  async #trim(): Promise<void> {
    const entries = await Promise.all(
      [...this.#cache].map(async ([key, copying]) => ({ key, ...(await copying.catch(() => ({ dir: '', bytes: 0 }))) })),
    );
    let total = entries.reduce((sum, entry) => sum + entry.bytes, 0);
    for (const entry of entries.slice(0, -1)) {
      if (total <= this.#cacheBytes) return;
      total -= entry.bytes;
      this.#cache.delete(entry.key);
      await rm(entry.dir, { recursive: true, force: true });
    }
  }
}

/** Everything in a folder, folders before what is in them, as paths relative to it. */
async function* walk(dir: string): AsyncGenerator<{ path: string; folder: boolean; info: Stats }> {
  const pending = [''];
  let entries = 0;
  for (let under = pending.pop(); under !== undefined; under = pending.pop()) {
    for (const entry of await readdir(join(dir, under), { withFileTypes: true })) {
      if (++entries > MAX_BUNDLE_ENTRIES) throw new Error(`the bundle ${basename(dir)} has more than ${MAX_BUNDLE_ENTRIES} entries`);
      const path = join(under, entry.name);
      if (!entry.isDirectory() && !entry.isFile())
        throw new Error(`the bundle ${basename(dir)} holds ${path}, which is neither a file nor a folder`);
      yield { path, folder: entry.isDirectory(), info: await stat(join(dir, path)) };
      if (entry.isDirectory()) pending.push(path);
    }
  }
}

async function canLink(dir: string, device: number): Promise<boolean> {
  const uid = process.getuid?.();
  for await (const { folder, info } of walk(dir)) {
    // The kernel lets nobody but root link what belongs to others (fs.protected_hardlinks).
    if (uid !== 0 && info.uid !== uid) return false;
    if (info.dev !== device) return false;
    if (!folder && (info.mode & WORLD_READABLE) !== WORLD_READABLE) return false;
  }
  return true;
}

async function entriesOf(dir: string): Promise<Entries | null> {
  const entries: Entries = [];
  for await (const { path, folder } of walk(dir)) {
    if (entries.length === MAX_LINKED_AT_ONCE) return null;
    entries.push({ path, folder });
  }
  return entries;
}

/**
 * Small bundles in one go: somebody waits for it, and each turn of the thread pool would take many times what the calls do,
 * most of all where the machine is busy.
 */
async function linkCode({ dir, entries }: CodeSource, target: string): Promise<void> {
  if (entries === null) return linkTree(dir, target);
  for (const { path, folder } of entries) {
    if (folder) {
      mkdirSync(join(target, path));
      chmodSync(join(target, path), 0o755);
    } else linkSync(join(dir, path), join(target, path));
  }
}

async function linkTree(source: string, target: string): Promise<void> {
  for await (const { path, folder } of walk(source)) {
    if (folder) {
      await mkdir(join(target, path));
      await chmod(join(target, path), 0o755);
    } else await link(join(source, path), join(target, path));
  }
}

async function copyTree(source: string, target: string): Promise<number> {
  let bytes = 0;
  for await (const { path, folder, info } of walk(source)) {
    const to = join(target, path);
    if (folder) {
      await mkdir(to, { recursive: true });
      continue;
    }
    await mkdir(dirname(to), { recursive: true });
    await copyFile(join(source, path), to);
    await chmod(to, (info.mode & 0o111) === 0 ? 0o644 : 0o755);
    bytes += info.size;
  }
  return bytes;
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
