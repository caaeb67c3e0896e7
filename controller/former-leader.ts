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

/**
 * Tells a process from every other, also from one that gets its pid later, after another boot, or in another container; null where
 * there is none, or no /proc to ask.
 */
function fingerprint(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie runs no more.
    if (fields[0] === 'Z' || fields[0] === 'X') return null;
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return shortHash(`${boot} ${readlinkSync('/proc/self/ns/pid')} ${pid} ${fields[START_TIME_FIELD]}`, 16);
  } catch {
    // Gone, another user's, or a system without /proc: then it is not ended, and the term keeps it from writing.
    return null;
  }
}

/** How this process takes part: PID-FINGERPRINT-RANDOM. */
export const newCandidate = (): string => `${process.pid}-${fingerprint(process.pid) ?? 'unknown'}-${randomBytes(6).toString('hex')}`;

/** Ends the process behind a candidate, where it is of this machine and runs. Resolves true when it is gone by that. */
export async function endFormerLeader(candidate: string): Promise<boolean> {
  const [, digits, print] = /^(\d+)-([0-9a-f]{16})-/.exec(candidate) ?? [];
  const pid = Number(digits);
  if (print === undefined || pid === process.pid || fingerprint(pid) !== print) return false;
  process.kill(pid, 'SIGKILL');
  const until = performance.now() + GONE_TIMEOUT_MS;
  while (fingerprint(pid) === print && performance.now() < until) await sleep(POLL_MS);
  return fingerprint(pid) !== print;
}
