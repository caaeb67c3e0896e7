/**
 * How many connections of clients this process can have: each is a file that it has open, and the kernel says how many those may
 * be. A gateway that runs out of them can reach no instance and would take it for dead, so it accepts fewer before.
 */
import { readFileSync } from 'node:fs';

/** For links to controller and dispatcher, listeners, logs, probes, certificates' keys and what Node itself has open. */
export const RESERVED_FILES = 256;
/** A connection, and another one to the instance that its request is at. */
export const FILES_PER_CONNECTION = 2;

/** What `/proc/PID/limits` says in `text`; null where it says nothing, Infinity where there is no limit. */
export function mostOpenFiles(text: string): number | null {
  const soft = /^Max open files\s+(\S+)/m.exec(text)?.[1];
  if (soft === undefined) return null;
  return soft === 'unlimited' ? Infinity : Number(soft);
}

/** Of this process. Node has raised it to the hard limit when it started. Null where the kernel has no such file. */
export function ownMostOpenFiles(): number | null {
  try {
    return mostOpenFiles(readFileSync('/proc/self/limits', 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Connections that each of so many listeners may have open, `wanted` at most. At least one, whatever the limit. */
export function connectionsWithin(files: number | null, { wanted, listeners }: { wanted: number; listeners: number }): number {
  if (files === null) return wanted;
  return Math.min(wanted, Math.max(1, Math.floor((files - RESERVED_FILES) / FILES_PER_CONNECTION / listeners)));
}
