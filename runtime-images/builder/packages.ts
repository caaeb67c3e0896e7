/** Layers made of Debian's packages, the base and those of runtimes: from the cache, or made and put there. */
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, statSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { debianArch, debianCodename, fetchPackages, fetchTool, VersionGone, type DebFile } from './debian.ts';
import { lockDrift, lockFor, readLock, writeLock, type LockedPackage } from './lock.ts';
import { writeLayer, type Layer } from './tar.ts';

const CacheEntry = z.object({
  sha256: z.string(),
  bytes: z.number(),
  drifted: z.boolean(),
  drift: z.array(z.string()),
  versions: z.record(z.string(), z.string()),
});

export interface PackageLayer {
  path: string;
  /** Hex, of the tar: the layer's diff id. */
  sha256: string;
  bytes: number;
  /** The packages are not the locked ones, because those are not to be had any more. */
  drifted: boolean;
  drift: string[];
  /** By package. */
  versions: Record<string, string>;
}

export interface PackageLayerOptions {
  /** `base`, or the runtime's name: what it is called in messages and in the cache. */
  name: string;
  packages: readonly string[];
  lockPath: string;
  /** Makes the layer of the packages; `work` is a folder of its own. */
  make: (debs: DebFile[], work: string) => Promise<Layer>;
  /** Digest of the inputs as they are now: the rest of the name in the cache. */
  inputsDigest: () => string;
  cacheDir: string;
  /** Fetch again, whatever the cache has. */
  force: boolean;
  /** Fail rather than take other versions than the lock's. */
  locked: boolean;
  /** Write down the versions that there are, and use them. */
  updateLock: boolean;
  say: (line: string) => void;
  /** For tests: which tool fetches. */
  tool?: 'mmdebstrap' | 'apt';
}

/** $XDG_CACHE_HOME/fn or ~/.cache/fn. */
export function defaultCacheDir(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'fn');
}

/** Throws NoDebian, VersionGone (with `locked`) or an Error that says what failed. */
export async function packageLayer(options: PackageLayerOptions): Promise<PackageLayer> {
  const { name, packages } = options;
  const cachePath = () => join(options.cacheDir, `${name}-${options.inputsDigest().slice(0, 32)}.tar`);
  if (!options.force && !options.updateLock) {
    const cached = await readCache(cachePath());
    if (cached && !(options.locked && cached.drifted)) return cached;
  }
  const started = performance.now();
  const arch = debianArch();
  mkdirSync(options.cacheDir, { recursive: true });
  const work = await mkdtemp(join(options.cacheDir, 'debs-'));
  try {
    const before = readLock(options.lockPath);
    const locked = lockFor(before, arch, packages);
    const debs = await fetchLocked(locked, work, options);
    if (options.updateLock) writeLock(options.lockPath, before, debs, arch);
    const drift = options.updateLock ? [] : lockDrift(locked, debs);
    if (drift.length > 0 && options.locked) throw new VersionGone(`the locked packages are not to be had: ${drift.join('; ')}`);
    const path = cachePath();
    const { sha256, bytes } = await writeLayer(await options.make(debs, work), path);
    const versions = Object.fromEntries(debs.map((deb) => [deb.name, deb.version]));
    const entry = { sha256, bytes, drifted: drift.length > 0, drift, versions };
    await writeAtomically(`${path}.json`, JSON.stringify(entry));
    const seconds = ((performance.now() - started) / 1_000).toFixed(1);
    options.say(`${name}: ${debs.length} packages of Debian ${debianCodename()}, ${(bytes / 1e6).toFixed(0)} MB, ${seconds} s`);
    return { path, ...entry };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function fetchLocked(locked: LockedPackage[], work: string, options: PackageLayerOptions): Promise<DebFile[]> {
  const tool = options.tool ?? fetchTool();
  if (options.updateLock) return await fetchPackages(options.packages, null, join(work, 'any'), tool);
  try {
    return await fetchPackages(options.packages, locked, join(work, 'locked'), tool);
  } catch (error) {
    if (!(error instanceof VersionGone)) throw error;
    if (options.locked) throw new VersionGone(`${error.message}; run again without --locked, or with --update-lock`);
    return await fetchPackages(options.packages, null, join(work, 'any'), tool);
  }
}

/** null where it is not there or was damaged: it is made again then. */
async function readCache(path: string): Promise<PackageLayer | null> {
  let entry: z.infer<typeof CacheEntry>;
  try {
    entry = CacheEntry.parse(JSON.parse(readFileSync(`${path}.json`, 'utf8')));
    if (statSync(path).size !== entry.bytes) return null;
  } catch {
    return null; // not there, or not ours: both are made again
  }
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex') === entry.sha256 ? { path, ...entry } : null;
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}
