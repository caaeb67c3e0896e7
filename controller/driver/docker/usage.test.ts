/** Files as kernels wrote them: Linux 5.10 with version 1, Linux 6.1 with version 2. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readUsage } from './usage.ts';

const V1_MEMORY_STAT = `cache 3518464
rss 27840512
rss_huge 0
shmem 0
mapped_file 2027520
inactive_anon 0
active_anon 27705344
inactive_file 1216512
active_file 2162688
unevictable 0
hierarchical_memory_limit 134217728
hierarchical_memsw_limit 134217728
total_cache 3518464
total_rss 27840512
total_inactive_anon 0
total_active_anon 27705344
total_inactive_file 1351680
total_active_file 2162688
total_unevictable 0
`;
const V2_CPU_STAT = `usage_usec 1043817
user_usec 871034
system_usec 172783
nr_periods 84
nr_throttled 11
throttled_usec 402113
`;
const V2_MEMORY_STAT = `anon 28123136
file 4194304
kernel 1708032
inactive_anon 28110848
active_anon 12288
inactive_file 3145728
active_file 1048576
unevictable 0
`;

describe('what a control group has used', () => {
  let dir: string;
  const write = (folder: string, files: Record<string, string>) =>
    Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(dir, folder, name), text)));

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'fn-usage-'));
    await mkdir(join(dir, 'cpu'));
    await mkdir(join(dir, 'memory'));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  it('version 1: nanoseconds, each controller in its own folder, the whole tree’s cache', async () => {
    await write('cpu', { 'cpuacct.usage': '1043817999\n' });
    await write('memory', {
      'memory.usage_in_bytes': '33554432\n',
      'memory.max_usage_in_bytes': '41943040\n',
      'memory.stat': V1_MEMORY_STAT,
    });
    expect(await readUsage({ version: 1, cpuacct: join(dir, 'cpu'), memory: join(dir, 'memory') }, 'c')).toEqual({
      counter: 'c',
      cpuUs: 1_043_817,
      memoryBytes: 33_554_432 - 1_351_680,
      peakBytes: 41_943_040,
    });
  });

  it('version 2: microseconds; a peak only where the kernel has one', async () => {
    const dirs = { version: 2, cpuacct: join(dir, 'memory'), memory: join(dir, 'memory') } as const;
    await write('memory', { 'cpu.stat': V2_CPU_STAT, 'memory.current': '34025472\n', 'memory.stat': V2_MEMORY_STAT });
    const expected = { counter: 'c', cpuUs: 1_043_817, memoryBytes: 34_025_472 - 3_145_728, peakBytes: null };
    expect(await readUsage(dirs, 'c')).toEqual(expected);
    await write('memory', { 'memory.peak': '45088768\n' });
    expect(await readUsage(dirs, 'c')).toEqual({ ...expected, peakBytes: 45_088_768 });
  });

  it('of a group that is gone, or whose files are not there, nothing is known', async () => {
    expect(await readUsage({ version: 2, cpuacct: join(dir, 'gone'), memory: join(dir, 'gone') }, 'c')).toBeNull();
    expect(await readUsage({ version: 1, memory: join(dir, 'memory') }, 'c')).toBeNull();
  });
});
