import { spawn } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { Child } from './child.ts';

/** A child whose deaths and starts can be waited for. */
function observed(script: string, clock = new VirtualClock()) {
  const starts: number[] = [];
  const deaths: string[] = [];
  let changed = Promise.withResolvers<void>();
  const notify = () => {
    changed.resolve();
    changed = Promise.withResolvers<void>();
  };
  const child = new Child({
    name: 'test',
    spawn: () => spawn(process.execPath, ['-e', script], { stdio: 'ignore' }),
    log: silentLog,
    clock,
    onStart: (identity) => {
      starts.push(identity?.pid ?? 0);
      notify();
    },
    onDeath: (detail) => {
      deaths.push(detail);
      notify();
      return true;
    },
  });
  onTestFinished(() => child.stop(0));
  const until = async (reached: () => boolean) => {
    while (!reached()) await changed.promise;
  };
  return { child, clock, starts, deaths, until };
}

const FOREVER = 'setInterval(() => {}, 1000)';

describe('a child', () => {
  it('is started again at once the first time, then after a pause', async () => {
    const { child, clock, starts, deaths, until } = observed('process.exit(3)');
    child.start();
    await until(() => deaths.length === 2);
    expect(starts).toHaveLength(2);
    expect(deaths).toEqual(['exit code 3', 'exit code 3']);
    clock.advance(50);
    expect(starts).toHaveLength(2);
    clock.advance(60);
    expect(starts).toHaveLength(3);
  });

  it('that is killed comes back, with another pid', async () => {
    const { child, starts, deaths, until } = observed(FOREVER);
    child.start();
    process.kill(starts[0]!, 'SIGKILL');
    await until(() => starts.length === 2);
    expect(deaths).toEqual(['signal SIGKILL']);
    expect(starts[1]).not.toBe(starts[0]);
    expect(child.running).toBe(true);
  });

  it('that is stopped stays so, also twice', async () => {
    const { child, starts, deaths } = observed(FOREVER);
    child.start();
    await Promise.all([child.stop(5_000), child.stop(5_000)]);
    expect(child.running).toBe(false);
    expect(starts).toHaveLength(1);
    expect(deaths).toEqual([]);
  });

  it('whose program is not there is told, not thrown', async () => {
    const deaths: string[] = [];
    const died = Promise.withResolvers<void>();
    const child = new Child({
      name: 'missing',
      spawn: () => spawn('/nonexistent/program'),
      log: silentLog,
      clock: new VirtualClock(),
      onStart: (identity) => expect(identity).toBeNull(),
      onDeath: (detail) => {
        deaths.push(detail);
        died.resolve();
        return false;
      },
    });
    child.start();
    await died.promise;
    expect(deaths[0]).toMatch(/ENOENT/);
  });
});
