import { expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { WorkQueue } from './queue.ts';

const turns = async () => {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
};

it('works on a key one at a time, and once more for all that came meanwhile', async () => {
  const running: string[] = [];
  let release = () => {};
  const gate = new Promise<void>((resolve) => (release = resolve));
  const queue = new WorkQueue(new VirtualClock(), async (key) => {
    running.push(key);
    await gate;
  });
  for (const key of ['a', 'a', 'b', 'a']) queue.add(key);
  await turns();
  expect(running).toEqual(['a', 'b']);
  release();
  await turns();
  expect(running).toEqual(['a', 'b', 'a']);
  await queue.close();
});

it('waits longer each time after a failure, up to five minutes, and no longer than the first time for news', async () => {
  const clock = new VirtualClock();
  const attempts: number[] = [];
  const queue = new WorkQueue(clock, async (_key, failures) => {
    attempts.push(failures);
    throw new Error('no');
  });
  queue.add('a');
  await turns();
  clock.advance(900);
  await turns();
  expect(attempts).toEqual([0]);
  for (let step = 0; step < 12; step += 1) {
    clock.advance(300_000);
    await turns();
  }
  expect(attempts).toHaveLength(13);
  for (let change = 0; change < 100; change += 1) {
    queue.addNew('a');
    await turns();
  }
  expect(attempts).toHaveLength(13);
  clock.advance(2_000);
  await turns();
  expect(attempts).toHaveLength(14);
  expect(attempts.at(-1)).toBe(0);
  await queue.close();
  clock.advance(600_000);
  await turns();
  expect(attempts).toHaveLength(14);
});

it('keeps a place for others when all that one namespace has takes long', async () => {
  const running: string[] = [];
  const releases: (() => void)[] = [];
  const queue = new WorkQueue(new VirtualClock(), async (key) => {
    running.push(key);
    await new Promise<void>((resolve) => releases.push(resolve));
  });
  for (const key of ['slow/a', 'slow/b', 'slow/c', 'slow/d', 'slow/e', 'other/a']) queue.add(key);
  await turns();
  expect(running).toEqual(['slow/a', 'slow/b', 'slow/c', 'other/a']);
  releases[0]!();
  await turns();
  expect(running.slice(4)).toEqual(['slow/d']);
  const closed = queue.close();
  for (const release of releases) release();
  await closed;
});
