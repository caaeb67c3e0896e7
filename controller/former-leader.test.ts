import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { endFormerLeader, isDead, newCandidate } from './former-leader.ts';

/** A process that tells its candidate and then waits. */
async function another(): Promise<{ candidate: string; pid: number; ended: Promise<unknown[]> }> {
  const module = new URL('former-leader.ts', import.meta.url).href;
  const child = spawn(
    process.execPath,
    ['-e', `import('${module}').then((m) => { console.log(m.newCandidate()); setInterval(() => {}, 1e6); })`],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  onTestFinished(() => void child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { candidate: line.toString().trim(), pid: child.pid!, ended: once(child, 'exit') };
}

describe('the leader before', () => {
  it('that is frozen is ended', async () => {
    const { candidate, pid, ended } = await another();
    process.kill(pid, 'SIGSTOP');
    expect(isDead(candidate)).toBe(false);
    expect(await endFormerLeader(candidate)).toBe(true);
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(isDead(candidate)).toBe(true);
    expect(await endFormerLeader(candidate)).toBe(false);
  });

  it('is nobody who merely has its pid, nor this process, nor what is no candidate', async () => {
    const { candidate, pid } = await another();
    const [, where, since, random] = candidate.split('-') as [string, string, string, string];
    const elsewhere = `${pid}-${where.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))}-${since}-${random}`;
    // Its pid now, and another process when it was written.
    const earlier = `${pid}-${where}-1-${random}`;
    for (const one of [elsewhere, earlier, `${pid}-unknown-0-abc`, `${pid}`, 'x', '', newCandidate()])
      expect(await endFormerLeader(one)).toBe(false);
    expect([elsewhere, earlier, newCandidate(), 'x'].map(isDead)).toEqual([false, true, false, false]);
    expect(process.kill(pid, 0)).toBe(true);
  });
});
