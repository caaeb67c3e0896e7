import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { parseStat, SessionUsage } from './usage.ts';

/** As proc(5) has it: pid, name, state, ppid, pgrp, session, …, utime, stime, cutime, cstime. */
const stat = (pid: number, session: number, [utime, stime, cutime, cstime]: number[], name = 'node') =>
  `${pid} (${name}) S 1 ${session} ${session} 0 -1 4194304 9000 0 12 0 ${utime} ${stime} ${cutime} ${cstime} 20 0 11 0 812345 1073741824 9800 18446744073709551615 1 1 0`;
const status = (rss: number, peak: number) => `Name:\tnode\nVmPeak:\t 9999 kB\nVmHWM:\t   ${peak} kB\nVmRSS:\t   ${rss} kB\nThreads:\t11\n`;

describe('what the processes of a session have used', () => {
  let proc: string;
  const clock = new VirtualClock();
  const put = async (pid: number, files: { stat: string; status: string }) => {
    await mkdir(join(proc, String(pid)), { recursive: true });
    for (const [name, text] of Object.entries(files)) await writeFile(join(proc, String(pid), name), text);
  };

  beforeEach(async () => {
    proc = await mkdtemp(join(tmpdir(), 'fn-proc-'));
    await mkdir(join(proc, 'sys'));
  });
  afterEach(() => rm(proc, { recursive: true, force: true }));

  it('is that of all of them, and of children that have ended', async () => {
    await put(100, { stat: stat(100, 100, [10, 5, 20, 5]), status: status(4_000, 5_000) });
    await put(101, { stat: stat(101, 100, [30, 0, 0, 0], 'sh) R 9 (9'), status: status(1_000, 1_500) });
    await put(200, { stat: stat(200, 200, [900, 0, 0, 0]), status: status(1, 1) });
    const usage = new SessionUsage({ clock, proc });
    expect(await usage.read(100)).toEqual({ cpuUs: 700_000, memoryBytes: 5_000 * 1_024, peakBytes: 6_500 * 1_024 });
    expect(await usage.read(300)).toBeNull();
  });

  it('is read anew each time, though who belongs to a session is looked up once a second', async () => {
    await put(100, { stat: stat(100, 100, [10, 0, 0, 0]), status: status(1, 1) });
    const usage = new SessionUsage({ clock, proc });
    expect((await usage.read(100))?.cpuUs).toBe(100_000);
    await put(100, { stat: stat(100, 100, [25, 0, 0, 0]), status: status(1, 1) });
    await put(101, { stat: stat(101, 100, [50, 0, 0, 0]), status: status(1, 1) });
    expect((await usage.read(100))?.cpuUs).toBe(250_000);
    clock.advance(1_000);
    expect((await usage.read(100))?.cpuUs).toBe(750_000);
    await rm(join(proc, '101'), { recursive: true });
    expect((await usage.read(100))?.cpuUs).toBe(250_000);
    await rm(join(proc, '100'), { recursive: true });
    expect(await usage.read(100)).toBeNull();
  });

  it('a line that is none is no process', () => {
    for (const text of ['', 'nonsense', '12 (x', '12 (x) S 1 2']) expect(parseStat(text)).toBeNull();
  });
});
