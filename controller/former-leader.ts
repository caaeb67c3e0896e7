/**
 * The one that led before, where it is a process of this machine that still runs: frozen, as a rule. It would end itself as soon as it
 * woke; until then gateways hold on to it, and it holds the ports. So who takes over ends it.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { sleep } from '#kit/clock.ts';
import { shortHash } from '#kit/ids.ts';

/** From SIGKILL until it is gone, ms. */
const GONE_TIMEOUT_MS = 3_000;
const POLL_MS = 10;
/** Field 22 of /proc/PID/stat, counted after the command's name, which may hold anything. */
const START_TIME_FIELD = 19;

/** Tells this machine, in this boot and this container, from every other; null where there is no /proc to ask. */
function machine(): string | null {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return shortHash(`${boot} ${readlinkSync('/proc/self/ns/pid')}`, 16);
  } catch {
    return null;
  }
}

/** When a process of this machine was started, which tells it from one that gets its pid later; null: it runs no more. */
function startTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie runs no more.
    return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[START_TIME_FIELD] ?? null);
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return null;
    throw error;
  }
}

/** How this process takes part: PID-MACHINE-STARTTIME-RANDOM. Without /proc nobody can tell whether it runs, and its lease has to end by itself. */
export function newCandidate(): string {
  const here = machine();
  const random = randomBytes(6).toString('hex');
  return here === null ? `${process.pid}-unknown-0-${random}` : `${process.pid}-${here}-${startTime(process.pid)}-${random}`;
}

/** Pid of a candidate that is of this machine, and whether it runs; null: another machine's, or this very process. */
function find(candidate: string): { pid: number; runs: boolean } | null {
  const [, digits, where, since] = /^(\d+)-([0-9a-f]{16})-(\d+)-/.exec(candidate) ?? [];
  const pid = Number(digits);
  if (where === undefined || where !== machine() || pid === process.pid) return null;
  return { pid, runs: startTime(pid) === since };
}

/** Whether who has the lease is certainly dead: then nobody needs to wait for the lease to end. */
export const isDead = (candidate: string): boolean => find(candidate)?.runs === false;

/** Ends the process behind a candidate, where it is of this machine and runs. Resolves true when it is gone by that. */
export async function endFormerLeader(candidate: string): Promise<boolean> {
  const found = find(candidate);
  if (found === null || !found.runs) return false;
  process.kill(found.pid, 'SIGKILL');
  const until = performance.now() + GONE_TIMEOUT_MS;
  while (!isDead(candidate) && performance.now() < until) await sleep(POLL_MS);
  return isDead(candidate);
}
