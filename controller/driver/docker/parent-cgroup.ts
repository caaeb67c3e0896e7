/**
 * One control group above all instances of a home: the kernel holds them to the budget, whatever the
 * controller believes. Making it needs root (or `fn host-setup`).
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chown, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { sleep } from '#kit/clock.ts';
import { codeOf, cpuQuotaUs, isGone, writable, type CgroupDirs, type CgroupMounts } from './cgroup.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;

/** Above the budget, for what the kernel books on the parent alone, MiB. */
const RESERVE_MIB = 64;
const SYSTEMCTL_TIMEOUT_MS = 10_000;
/** A group that was just emptied is busy for a moment, and the engine takes seconds on a busy machine to remove what was in it, ms. */
const REMOVE_TIMEOUT_MS = 10_000;
const REMOVE_DELAY_MS = 25;

export interface ParentCgroupOptions {
  homeId: string;
  /** How the engine makes groups. */
  driver: 'cgroupfs' | 'systemd' | 'none';
  mounts: CgroupMounts;
}

/** The parent as the engine is told about it, and where its files are. */
export interface ParentCgroup {
  /** For HostConfig.CgroupParent. */
  name: string;
  dirs: CgroupDirs;
}

/** Names the parent; does not make it. Null where the engine makes no groups. */
export function parentCgroup({ homeId, driver, mounts }: ParentCgroupOptions): ParentCgroup | null {
  if (driver === 'none') return null;
  // systemd nests slices by the dashes in their names: fn-ID.slice lies in fn.slice.
  const path = driver === 'systemd' ? join('fn.slice', `fn-${homeId}.slice`) : `fn-${homeId}`;
  const at = (controller: string): string | undefined => {
    const mount = mounts.mounts.get(mounts.version === 2 ? 'unified' : controller);
    return mount && join(mount.mountPoint, path);
  };
  const dirs: CgroupDirs = { version: mounts.version, memory: at('memory'), cpu: at('cpu'), freezer: at('freezer') };
  return { name: driver === 'systemd' ? `fn-${homeId}.slice` : `/fn-${homeId}`, dirs };
}

/** Whether the parent is there with a limit that this process may adjust (root made it, `fn host-setup` handed it over). */
export async function parentUsable(parent: ParentCgroup): Promise<boolean> {
  return parent.dirs.memory !== undefined && (await writable(join(parent.dirs.memory, limitFile(parent))));
}

/** Makes the parent where it is not there, as root, and gives its limits to `owner` where one is named. */
export async function makeParent(parent: ParentCgroup, owner?: { uid: number; gid: number }): Promise<void> {
  const { dirs, name } = parent;
  if (name.endsWith('.slice')) {
    // systemd would tidy away a folder that it did not make.
    await run('systemctl', ['start', name], { timeout: SYSTEMCTL_TIMEOUT_MS });
  } else if (dirs.version === 2) {
    await enableControllers(join(dirs.memory!, '..'));
    await mkdir(dirs.memory!, { recursive: true });
  } else {
    for (const dir of [dirs.memory, dirs.cpu, dirs.freezer]) if (dir !== undefined) await mkdir(dir, { recursive: true });
  }
  if (!owner) return;
  for (const file of limitFiles(parent)) if (existsSync(file)) await chown(file, owner.uid, owner.gid);
}

/** Sets what all instances together may use. `cpu` is left to the machine where it is not less than that. */
export async function limitParent(parent: ParentCgroup, budget: { memoryMib: number; cpu: number }, machineCpus: number): Promise<void> {
  const { dirs, name } = parent;
  const bytes = String((budget.memoryMib + RESERVE_MIB) * MIB);
  const limited = budget.cpu < machineCpus;
  if (name.endsWith('.slice') && process.getuid?.() === 0) {
    // systemd owns the files of its slices, and would write them anew.
    const cpu = `CPUQuota=${limited ? `${Math.round(budget.cpu * 100)}%` : ''}`;
    await run('systemctl', ['set-property', '--runtime', name, `MemoryMax=${bytes}`, 'MemorySwapMax=0', cpu], {
      timeout: SYSTEMCTL_TIMEOUT_MS,
    });
    return;
  }
  if (dirs.version === 1) {
    const memory = join(dirs.memory!, 'memory.limit_in_bytes');
    const swap = join(dirs.memory!, 'memory.memsw.limit_in_bytes');
    const order = Number(bytes) > Number(await readFile(memory, 'utf8')) ? [swap, memory] : [memory, swap];
    for (const file of order) if (existsSync(file)) await writeFile(file, bytes);
  } else {
    await writeFile(join(dirs.memory!, 'memory.max'), bytes);
    const swap = join(dirs.memory!, 'memory.swap.max');
    if (await writable(swap)) await writeFile(swap, '0');
  }
  if (dirs.cpu === undefined) return;
  const file = join(dirs.cpu, dirs.version === 1 ? 'cpu.cfs_quota_us' : 'cpu.max');
  if (!(await writable(file))) return;
  if (dirs.version === 1) await writeFile(file, limited ? String(cpuQuotaUs(budget.cpu)) : '-1');
  else await writeFile(file, limited ? `${cpuQuotaUs(budget.cpu)} 100000` : 'max 100000');
}

/** Removes the parent, with the twins that the engine made of it in every tree. It must be empty. */
export async function removeParent(parent: ParentCgroup, mounts: string): Promise<void> {
  if (parent.name.endsWith('.slice')) {
    await run('systemctl', ['stop', parent.name], { timeout: SYSTEMCTL_TIMEOUT_MS });
    return;
  }
  for (const line of mounts.split('\n')) {
    const [left, right] = line.split(' - ');
    if (!right?.startsWith('cgroup')) continue;
    const mountPoint = left?.split(' ')[4];
    if (mountPoint !== undefined) await removeGroup(join(mountPoint, parent.name));
  }
}

async function removeGroup(dir: string): Promise<void> {
  for (const start = performance.now(); ; await sleep(REMOVE_DELAY_MS)) {
    try {
      await removeChildren(dir);
      await rmdir(dir);
      return;
    } catch (error) {
      if (isGone(error)) return;
      const busy = ['EBUSY', 'ENOTEMPTY'].includes(codeOf(error) ?? '');
      if (!busy) throw error;
      if (performance.now() - start > REMOVE_TIMEOUT_MS)
        throw new Error(`the control group ${dir} is still in use after ${REMOVE_TIMEOUT_MS / 1_000} s`, { cause: error });
    }
  }
}

/** Of containers that are gone: an engine that was killed leaves their groups. One with a process in it cannot be removed. */
async function removeChildren(dir: string): Promise<void> {
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const child = join(dir, entry.name);
    await removeChildren(child);
    await rmdir(child);
  }
}

async function enableControllers(dir: string): Promise<void> {
  const wanted = ['memory', 'cpu', 'pids'];
  const enabled = (await readFile(join(dir, 'cgroup.subtree_control'), 'utf8')).split(/\s+/);
  const missing = wanted.filter((controller) => !enabled.includes(controller));
  if (missing.length > 0) await writeFile(join(dir, 'cgroup.subtree_control'), missing.map((controller) => `+${controller}`).join(' '));
}

function limitFile(parent: ParentCgroup): string {
  return parent.dirs.version === 1 ? 'memory.limit_in_bytes' : 'memory.max';
}

function limitFiles({ dirs }: ParentCgroup): string[] {
  const names =
    dirs.version === 1
      ? ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes', 'memory.max_usage_in_bytes']
      : ['memory.max', 'memory.swap.max'];
  const files = names.map((name) => join(dirs.memory!, name));
  if (dirs.cpu !== undefined) files.push(join(dirs.cpu, dirs.version === 1 ? 'cpu.cfs_quota_us' : 'cpu.max'));
  return files;
}
