import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { OomJudge, judge, type Ending } from './verdict.ts';
import { parseEvent } from './watch.ts';

const ending = (fields: Partial<Ending>): Ending => ({
  exitCode: 0,
  oomKilled: false,
  whileAway: false,
  stderrTail: () => Promise.resolve(''),
  ...fields,
});
const HEAP = 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory';

let dir: string;
let now = 0;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fn-verdict-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const v1 = async (failcnt: number, peakMib = 10) => {
  await writeFile(join(dir, 'memory.failcnt'), `${failcnt}\n`);
  await writeFile(join(dir, 'memory.limit_in_bytes'), String(100 * 1024 * 1024));
  await writeFile(join(dir, 'memory.max_usage_in_bytes'), String(peakMib * 1024 * 1024));
};
const v2 = async (local: number, tree: number) => {
  await writeFile(join(dir, 'memory.events.local'), `oom ${local}\n`);
  await writeFile(join(dir, 'memory.events'), `oom ${tree}\n`);
};

describe('judge', () => {
  const oom = new OomJudge(null);
  it('tells exits, signals, heap and engine apart', async () => {
    expect(await judge(ending({ exitCode: 3 }), oom)).toEqual({ cause: 'exit', detail: 'exit code 3' });
    expect(await judge(ending({ exitCode: 137 }), oom)).toEqual({ cause: 'exit', detail: 'signal SIGKILL' });
    expect((await judge(ending({ exitCode: 137, oomKilled: true }), oom)).cause).toBe('oom');
    expect((await judge(ending({ exitCode: 134, stderrTail: () => Promise.resolve(HEAP) }), oom)).cause).toBe('oom');
    expect((await judge(ending({ exitCode: 134 }), oom)).cause).toBe('exit');
    expect((await judge(ending({ exitCode: 137, whileAway: true }), oom)).cause).toBe('lost');
  });

  it('does not take an OOM of a child process for the end of the instance', async () => {
    expect((await judge(ending({ exitCode: 1, oomKilled: true }), oom)).cause).toBe('exit');
  });
});

describe('OomJudge', () => {
  const killed = ending({ exitCode: 137, oomKilled: true });

  it('version 1: the parent at its limit is not the fault of an instance', async () => {
    const oom = new OomJudge({ version: 1, memory: dir }, () => now);
    await v1(0);
    await oom.look();
    expect((await judge(killed, oom)).cause).toBe('oom');
    await v1(7);
    expect((await judge(killed, oom)).cause).toBe('lost');
    now += 100;
    expect((await judge(killed, oom)).cause).toBe('lost');
    now += 5_000;
    expect((await judge(killed, oom)).cause).toBe('oom');
  });

  it('version 1 of newer kernels, which do not count: its peak tells, and is forgotten', async () => {
    const oom = new OomJudge({ version: 1, memory: dir }, () => now);
    await v1(0);
    await oom.look();
    expect((await judge(killed, oom)).cause).toBe('oom');
    await v1(0, 100);
    expect((await judge(killed, oom)).cause).toBe('lost');
    now += 5_000;
    expect((await judge(killed, oom)).cause).toBe('oom');
  });

  it('version 2: nor is a machine that is out of memory', async () => {
    const oom = new OomJudge({ version: 2, memory: dir }, () => now);
    await v2(0, 0);
    await oom.look();
    expect((await judge(killed, oom)).cause).toBe('lost');
    await v2(0, 2);
    expect((await judge(killed, oom)).cause).toBe('oom');
    expect((await judge(killed, oom)).cause).toBe('oom');
    now += 5_000;
    await v2(1, 3);
    expect((await judge(killed, oom)).cause).toBe('lost');
  });
});

describe('parseEvent', () => {
  it('reads what Docker sends, and nothing else', () => {
    const line = (action: string, attributes: object) =>
      JSON.stringify({ Type: 'container', Action: action, Actor: { ID: 'c1', Attributes: attributes } });
    expect(parseEvent(line('die', { exitCode: '137', 'fn.instance': 'i-1' }))).toEqual({
      action: 'die',
      container: 'c1',
      id: 'i-1',
      exitCode: 137,
    });
    expect(parseEvent(line('oom', { 'fn.instance': 'i-1' }))).toEqual({ action: 'oom', container: 'c1', id: 'i-1', exitCode: null });
    expect(parseEvent(line('start', { 'fn.instance': 'i-1' }))).toBeNull();
    expect(parseEvent(line('die', {}))).toBeNull();
  });
});
