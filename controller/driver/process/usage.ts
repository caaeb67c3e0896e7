/**
 * What the processes of an instance have used, by /proc (proc(5)): each instance is a session of its own, so its processes are those
 * of /proc/PID/stat that have its session. CPU is utime + stime, and cutime + cstime of children that were waited for. One that ends
 * and is waited for by nobody of the session takes its time with it; the driver never says less than it said before.
 */
import { readdir, readFile } from 'node:fs/promises';
import { systemClock, type Clock } from '#kit/clock.ts';

/** Ticks of these counters per second: USER_HZ, 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;
/** For so long one look at all processes serves all instances, ms. */
const LOOK_MS = 1_000;
const KIB = 1_024;

interface ProcessTimes {
  pid: number;
  session: number;
  cpuUs: number;
}

/** Null where it is no line of /proc/PID/stat. The name of a process may hold anything, also `) `. */
export function parseStat(text: string): ProcessTimes | null {
  const end = text.lastIndexOf(')');
  const pid = Number.parseInt(text, 10);
  // From the state, which is field 3 of proc(5).
  const fields = text.slice(end + 2).split(' ');
  const at = (field: number): number => Number(fields[field - 3]);
  const ticks = at(14) + at(15) + at(16) + at(17);
  if (end < 0 || !Number.isInteger(pid) || !Number.isFinite(ticks) || !Number.isInteger(at(6))) return null;
  return { pid, session: at(6), cpuUs: (ticks * 1_000_000) / TICKS_PER_SECOND };
}

/** VmRSS and VmHWM of /proc/PID/status, bytes; a process that is a zombie has neither. */
export function parseMemory(text: string): { bytes: number; peakBytes: number } {
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0);
  return { bytes: kib('VmRSS') * KIB, peakBytes: kib('VmHWM') * KIB };
}

export class SessionUsage {
  readonly #clock: Clock;
  readonly #proc: string;
  #seen: Promise<Map<number, ProcessTimes[]>> | null = null;
  #seenAt = -Infinity;

  constructor({ clock = systemClock, proc = '/proc' }: { clock?: Clock; proc?: string } = {}) {
    this.#clock = clock;
    this.#proc = proc;
  }

  /** Of all processes of a session; null where there is none. */
  async read(session: number): Promise<{ cpuUs: number; memoryBytes: number; peakBytes: number } | null> {
    const members = (await this.#look()).get(session) ?? [];
    if (members.length === 0) return null;
    // What it has used since the look counts as well: its end may be next.
    const times = await Promise.all(members.map(({ pid }) => this.#times(pid)));
    const memory = await Promise.all(members.map(({ pid }) => this.#read(pid, 'status')));
    const sums = memory.flatMap((text) => (text === null ? [] : [parseMemory(text)]));
    const alive = times.filter((one) => one?.session === session);
    if (alive.length === 0) return null;
    return {
      cpuUs: alive.reduce((total, one) => total + (one?.cpuUs ?? 0), 0),
      memoryBytes: sums.reduce((total, { bytes }) => total + bytes, 0),
      peakBytes: sums.reduce((total, { peakBytes }) => total + peakBytes, 0),
    };
  }

  #look(): Promise<Map<number, ProcessTimes[]>> {
    if (this.#seen === null || this.#clock.now() - this.#seenAt >= LOOK_MS) {
      this.#seenAt = this.#clock.now();
      this.#seen = this.#lookAtAll();
    }
    return this.#seen;
  }

  async #lookAtAll(): Promise<Map<number, ProcessTimes[]>> {
    const pids = (await readdir(this.#proc)).filter((name) => /^\d+$/.test(name));
    const found: ProcessTimes[] = [];
    for (const pid of pids) {
      const times = await this.#times(Number(pid));
      if (times !== null) found.push(times);
    }
    return Map.groupBy(found, ({ session }) => session);
  }

  async #times(pid: number): Promise<ProcessTimes | null> {
    const text = await this.#read(pid, 'stat');
    return text === null ? null : parseStat(text);
  }

  async #read(pid: number, file: string): Promise<string | null> {
    try {
      return await readFile(`${this.#proc}/${pid}/${file}`, 'utf8');
    } catch (error) {
      // It has ended between two looks.
      if (error instanceof Error && 'code' in error && ['ENOENT', 'ESRCH'].includes(String(error.code))) return null;
      throw error;
    }
  }
}
