/** What the figures were taken on, and what processes used of it. Linux: /proc. */
import { existsSync, readFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import { execa } from 'execa';

/** Kernel clock ticks per second in /proc/PID/stat: 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

export interface Machine {
  date: string;
  cpu: string;
  cores: number;
  memoryMib: number;
  kernel: string;
  arch: string;
  node: string;
  engine: string;
  runc: string;
  cgroup: 'v1' | 'v2';
  /** Load average of the last minute before the run. */
  loadBefore: number;
}

export async function machine(): Promise<Machine> {
  const version = async (field: string) => (await execa('docker', ['version', '--format', field], { reject: false })).stdout || 'none';
  const runc = '{{range .Server.Components}}{{if eq .Name "runc"}}{{.Version}}{{end}}{{end}}';
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryMib: Math.round(totalmem() / 1024 / 1024),
    kernel: release(),
    arch: arch(),
    node: process.version,
    engine: await version('{{.Server.Version}}'),
    runc: await version(runc),
    cgroup: existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'v2' : 'v1',
    loadBefore: Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]),
  };
}

/** CPU that a process (all its threads) has used so far, µs, to a hundredth of a second. */
export function cpuMicros(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / TICKS_PER_SECOND;
}

/** Proportional set size: its own memory and its share of what it shares, MiB. */
export function pssMib(pid: number): number {
  return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]) / 1024;
}

export function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
