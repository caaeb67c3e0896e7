/** A process as (pid, start time): a pid alone is given to another process sooner or later. */
import { readFileSync } from 'node:fs';
import { sleep } from '#kit/clock.ts';

export interface ProcessIdentity {
  pid: number;
  /** Kernel's start time with the id of this boot; null where there is no /proc to ask (then the pid has to do). */
  startTime: string | null;
}

/** What was written as one earlier, or null. */
export function parseIdentity(value: unknown): ProcessIdentity | null {
  if (typeof value !== 'object' || value === null || !('pid' in value) || !('startTime' in value)) return null;
  const { pid, startTime } = value;
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return null;
  return typeof startTime === 'string' || startTime === null ? { pid, startTime } : null;
}

/** Field 22 of /proc/PID/stat, counted after the command's name, which may hold anything. */
const START_TIME_FIELD = 19;
const STATE_FIELD = 0;

/** What runs under this pid now, or null. A zombie runs no more. */
export function identify(pid: number): ProcessIdentity | null {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat !== null) {
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[STATE_FIELD] === 'Z' || fields[STATE_FIELD] === 'X') return null;
    const boot = readProc('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
    return { pid, startTime: `${boot}:${fields[START_TIME_FIELD]}` };
  }
  if (readProc('/proc/self/stat') !== null) return null;
  return signal(pid, 0) ? { pid, startTime: null } : null;
}

function readProc(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // Gone, or there is no /proc: both are an answer.
    return null;
  }
}

/** Whether the very same process still runs. */
export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  const now = identify(pid);
  return now !== null && now.startTime === startTime;
}

/** Sends a signal; false where there is no such process. Throws EPERM where it is another user's. */
export function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

const POLL_MS = 20;

/** Resolves true when the process is gone, false when it still runs after `timeoutMs`. */
export async function waitGone(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  while (isAlive(identity)) {
    if (performance.now() >= until) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Ends a process: SIGTERM, and SIGKILL after `graceMs`. */
export async function endProcess(identity: ProcessIdentity, graceMs: number): Promise<void> {
  if (!isAlive(identity)) return;
  signal(identity.pid, 'SIGTERM');
  if (await waitGone(identity, graceMs)) return;
  signal(identity.pid, 'SIGKILL');
  await waitGone(identity, 5_000);
}
