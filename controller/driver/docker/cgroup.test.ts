import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LimitBusy } from '../types.ts';
import { cpuQuotaUs, memoryCounters, parseMounts, parseProcCgroup, setCpuLimit, setMemoryLimit } from './cgroup.ts';

const V1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`;
const V2 = '30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n';

describe('where control groups are', () => {
  it('version 1, hybrid', () => {
    const mounts = parseMounts(V1);
    expect(mounts.version).toBe(1);
    expect(parseProcCgroup('8:pids:/x\n4:memory:/fn-1/abc\n1:cpu,cpuacct:/fn-1/abc\n6:freezer:/fn-1/abc\n0::/fn-1/abc\n', mounts)).toEqual({
      version: 1,
      memory: '/sys/fs/cgroup/memory/fn-1/abc',
      cpu: '/sys/fs/cgroup/cpu,cpuacct/fn-1/abc',
      cpuacct: '/sys/fs/cgroup/cpu,cpuacct/fn-1/abc',
      freezer: '/sys/fs/cgroup/freezer/fn-1/abc',
    });
  });

  it('version 2, under systemd', () => {
    const mounts = parseMounts(V2);
    expect(mounts.version).toBe(2);
    const dir = '/sys/fs/cgroup/fn.slice/fn-1.slice/docker-abc.scope';
    expect(parseProcCgroup('0::/fn.slice/fn-1.slice/docker-abc.scope\n', mounts)).toEqual({
      version: 2,
      memory: dir,
      cpu: dir,
      cpuacct: dir,
      freezer: dir,
    });
  });

  it('a tree mounted from below its root: what lies outside is out of reach', () => {
    const mounts = parseMounts('30 23 0:26 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n');
    expect(parseProcCgroup('0::/outer/in\n', mounts).memory).toBe('/sys/fs/cgroup/in');
    expect(parseProcCgroup('0::/elsewhere\n', mounts).memory).toBeUndefined();
  });
});

describe('limits of version 2', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'fn-cgroup-'));
    await Promise.all([
      writeFile(join(dir, 'memory.max'), '134217728'),
      writeFile(join(dir, 'memory.swap.max'), 'max'),
      writeFile(join(dir, 'memory.current'), String(70 * 1024 * 1024)),
      writeFile(join(dir, 'memory.stat'), `anon 41943040\nactive_file 10485760\ninactive_file 20971520\n`),
      writeFile(join(dir, 'cpu.max'), 'max 100000'),
      writeFile(join(dir, 'memory.events'), 'low 0\noom 3\noom_kill 2\n'),
      writeFile(join(dir, 'memory.events.local'), 'low 0\noom 1\noom_kill 0\n'),
    ]);
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  it('lowers memory where all but the file cache fits, and turns swap off', async () => {
    await setMemoryLimit({ version: 2, memory: dir }, 64);
    expect(await readFile(join(dir, 'memory.max'), 'utf8')).toBe('67108864');
    expect(await readFile(join(dir, 'memory.swap.max'), 'utf8')).toMatch(/^0/);
  });

  it('says busy instead of letting the kernel kill', async () => {
    await expect(setMemoryLimit({ version: 2, memory: dir }, 40)).rejects.toBeInstanceOf(LimitBusy);
    expect(await readFile(join(dir, 'memory.max'), 'utf8')).toBe('134217728');
  });

  it('writes a quota per period', async () => {
    setCpuLimit({ version: 2, cpu: dir }, 0.5);
    expect(await readFile(join(dir, 'cpu.max'), 'utf8')).toBe('50000 100000');
    expect(cpuQuotaUs(0.001)).toBe(1_000);
  });

  it('reads what reached which limit', async () => {
    expect(await memoryCounters({ version: 2, memory: dir })).toEqual({ atOwnLimit: 1, peakAtLimit: false, limitOom: 3 });
    expect(await memoryCounters({ version: 2, memory: join(dir, 'gone') })).toBeNull();
  });
});
