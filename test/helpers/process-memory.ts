/** Memory and descriptors of a process, as the kernel counts them. */
import { readFileSync, readdirSync } from 'node:fs';
import { sleep } from './wait.ts';

/** Pages of its own, and its share of those that others have too, MiB (PSS). */
export function pssMib(pid: number): number {
  const kib = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1];
  if (kib === undefined) throw new Error(`the kernel does not say what memory ${pid} has`);
  return Math.round(Number(kib) / 102.4) / 10;
}

/** The least of some seconds: what a collection of garbage has left, without asking for one. */
export async function settledPssMib(pid: number, looks = 6): Promise<number> {
  let least = Infinity;
  for (let look = 0; look < looks; look++) {
    least = Math.min(least, pssMib(pid));
    await sleep(500);
  }
  return least;
}

export const openFiles = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

/** That a process may have at most, as this one and all that it starts. Node takes what it can get. */
export function mostOpenFiles(): number {
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return hard === 'unlimited' ? Infinity : Number(hard);
}
