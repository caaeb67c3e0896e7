/**
 * What a control group has used, by the kernel's own counters. Version 1: cpuacct.usage (ns), memory.usage_in_bytes less
 * total_inactive_file of memory.stat, memory.max_usage_in_bytes. Version 2: usage_usec of cpu.stat, memory.current less inactive_file,
 * memory.peak (Linux 5.19). Usage less inactive file cache is what `docker stats` and the kubelet call used, too.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Usage } from '../types.ts';
import { codeOf, isGone, type CgroupDirs } from './cgroup.ts';

/** `counter`: what makes this start of the group another one than those before; see Usage. Null where the group is gone, or its files are not there. */
export async function readUsage(dirs: CgroupDirs, counter: string): Promise<Usage | null> {
  const { memory, cpuacct } = dirs;
  if (memory === undefined || cpuacct === undefined) return null;
  try {
    const version = dirs.version === 1 ? VERSION_1 : VERSION_2;
    const [cpu, current, stat, peak] = await Promise.all([
      readFile(join(cpuacct, version.cpu), 'utf8'),
      readFile(join(memory, version.current), 'utf8'),
      readFile(join(memory, 'memory.stat'), 'utf8'),
      readFile(join(memory, version.peak), 'utf8').catch((error: unknown) => {
        // Kernels before 5.19 have none in version 2.
        if (codeOf(error) === 'ENOENT') return null;
        throw error;
      }),
    ]);
    const cpuUs = version.cpuUs(cpu);
    const bytes = Number(current);
    const cache = field(stat, version.inactive);
    if (cpuUs === null || !Number.isFinite(bytes)) return null;
    return { counter, cpuUs, memoryBytes: Math.max(0, bytes - (cache ?? 0)), peakBytes: peak === null ? null : Number(peak) };
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

interface Version {
  cpu: string;
  cpuUs: (text: string) => number | null;
  current: string;
  peak: string;
  inactive: string;
}

const VERSION_1: Version = {
  cpu: 'cpuacct.usage',
  cpuUs: (text) => Math.floor(Number(text) / 1_000),
  current: 'memory.usage_in_bytes',
  peak: 'memory.max_usage_in_bytes',
  inactive: 'total_inactive_file',
};
const VERSION_2: Version = {
  cpu: 'cpu.stat',
  cpuUs: (text) => field(text, 'usage_usec'),
  current: 'memory.current',
  peak: 'memory.peak',
  inactive: 'inactive_file',
};

/** A line `NAME NUMBER` of a flat-keyed file; null where there is none. */
function field(text: string, name: string): number | null {
  for (const line of text.split('\n')) if (line.startsWith(`${name} `)) return Number(line.slice(name.length + 1));
  return null;
}
