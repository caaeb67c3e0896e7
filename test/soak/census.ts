/** One look at everything that could grow: processes, what they made of the host, and files. */
import { type Dirent, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Redis } from 'ioredis';
import { pssMib } from '../bench/host.ts';
import { cgroupsOf, containersOf, mountsOf, networksOf, rulesOf } from '../helpers/leaks.ts';
import type { TestPlatform } from '../helpers/platform.ts';

export const PARTS = ['supervisor', 'controller', 'dispatcher', 'gateway'] as const;
export type Part = (typeof PARTS)[number];

export interface PartSample {
  pid: number;
  pssMib: number;
  rssMib: number;
  /** Of its own heap and stacks: neither files nor what it shares. */
  anonMib: number;
  fds: number;
  threads: number;
}

export interface Sample {
  /** ms since 1970. */
  at: number;
  parts: Partial<Record<Part, PartSample>>;
  /** Of the host, of this platform alone. */
  host: Record<string, number>;
  /** Files below the home and the run folder by the folder or file at the top, and their MiB. */
  files: Record<string, number>;
  mib: Record<string, number>;
  redis: Record<string, number>;
  /** Of events.db: keys by which a repetition is known, each kept for a day (docs/events.md). They fill it for longer than a soak lasts. */
  keysMib?: number;
  /** Warm requests of the time since the sample before: p50 and p99, ms. */
  warmMs: { p50: number; p99: number };
  load: number;
}

const gone = (error: unknown) => ['ENOENT', 'ESRCH', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if (gone(error)) return [];
    throw error;
  }
}

/** Files below a folder, and the bytes that they take on the disk. Those that go meanwhile do not count. */
function weigh(path: string): { files: number; bytes: number } {
  const sum = { files: 0, bytes: 0 };
  for (const entry of entriesOf(path)) {
    const below = join(path, entry.name);
    if (entry.isDirectory()) {
      const { files, bytes } = weigh(below);
      sum.files += files;
      sum.bytes += bytes;
      continue;
    }
    sum.files += 1;
    try {
      if (entry.isFile()) sum.bytes += statSync(below).blocks * 512;
    } catch (error) {
      if (!gone(error)) throw error;
    }
  }
  return sum;
}

function partOf(pid: number): PartSample | undefined {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const mib = (text: string, field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0) / 1_024;
    return {
      pid,
      pssMib: pssMib(pid),
      rssMib: mib(rollup, 'Rss'),
      anonMib: mib(rollup, 'Pss_Anon') || mib(status, 'RssAnon'),
      fds: readdirSync(`/proc/${pid}/fd`).length,
      threads: Number(/^Threads:\s+(\d+)/m.exec(status)?.[1]),
    };
  } catch (error) {
    // It was killed while it was looked at.
    if (gone(error) || (error instanceof Error && /ESRCH|EACCES/.test(error.message))) return undefined;
    throw error;
  }
}

/** Files by what they are, so that a growing kind has a name. */
function folders(platform: TestPlatform): Pick<Sample, 'files' | 'mib'> {
  const files: Record<string, number> = {};
  const mib: Record<string, number> = {};
  for (const [prefix, root] of [
    ['home', platform.home],
    ['run', platform.runDir],
  ] as const) {
    for (const entry of entriesOf(root)) {
      const path = join(root, entry.name);
      // A database, its write-ahead log and its shared memory are one thing.
      const kind = `${prefix}/${entry.name.replace(/-(?:wal|shm)$/, '')}`;
      const { files: count, bytes } = entry.isDirectory() ? weigh(path) : { files: 1, bytes: sizeOf(path) };
      files[kind] = (files[kind] ?? 0) + count;
      mib[kind] = (mib[kind] ?? 0) + bytes / 1_048_576;
    }
  }
  return { files, mib };
}

function sizeOf(path: string): number {
  try {
    return statSync(path).blocks * 512;
  } catch (error) {
    if (gone(error)) return 0;
    throw error;
  }
}

async function redisOf(redis: Redis, stream: string): Promise<Record<string, number>> {
  const info = await redis.info('memory');
  const clients = await redis.info('clients');
  return {
    usedMib: Number(/^used_memory:(\d+)/m.exec(info)?.[1]) / 1_048_576,
    keys: await redis.dbsize(),
    streamLength: await redis.xlen(stream),
    clients: Number(/^connected_clients:(\d+)/m.exec(clients)?.[1]),
  };
}

/** Undefined where the database cannot be read just now. */
function keysMib(home: string): number | undefined {
  try {
    const database = new DatabaseSync(join(home, 'events.db'), { readOnly: true });
    try {
      const row = database.prepare("SELECT sum(pgsize) AS bytes FROM dbstat WHERE name LIKE 'dedup%'").get();
      return Number(row?.bytes ?? 0) / 1_048_576;
    } finally {
      database.close();
    }
  } catch {
    // Not made yet, or locked: the sample goes without it.
    return undefined;
  }
}

export interface CensusOptions {
  platform: TestPlatform;
  redis: Redis;
  stream: string;
  supervisor: number;
  warmMs: Sample['warmMs'];
}

/** Takes a second of a core or so. What is away just now (a part that was killed) is left out of the sample. */
export async function census({ platform, redis, stream, supervisor, warmMs }: CensusOptions): Promise<Sample> {
  const at = Date.now();
  const status = await platform.status().catch(() => null);
  const pids: Record<Part, number | null> = {
    supervisor,
    controller: status?.controller.pid ?? null,
    dispatcher: status?.dispatcher.pid ?? null,
    gateway: status?.gateway.pid ?? null,
  };
  const parts: Sample['parts'] = {};
  for (const part of PARTS) {
    const sample = pids[part] === null ? undefined : partOf(pids[part]);
    if (sample !== undefined) parts[part] = sample;
  }
  const [containers, networks, rules] = await Promise.all([containersOf(platform), networksOf(platform), rulesOf(platform)]);
  const away = new Promise<Record<string, number>>((resolve) => setTimeout(resolve, 5_000, {}).unref());
  return {
    at,
    parts,
    host: {
      containers: containers.length,
      // Containers that no instance stands for: one that is being made or removed, or a leak.
      strayContainers: status === null ? 0 : Math.max(0, containers.length - status.instances.length),
      networks: networks.length,
      cgroups: cgroupsOf(platform).length,
      mounts: mountsOf(platform).length,
      rules: rules.length,
      ...(status === null ? {} : { instances: status.instances.length, functions: status.functions.length }),
    },
    ...folders(platform),
    keysMib: keysMib(platform.home),
    redis: await Promise.race([redisOf(redis, stream).catch(() => ({})), away]),
    warmMs,
    load: Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]),
  };
}
