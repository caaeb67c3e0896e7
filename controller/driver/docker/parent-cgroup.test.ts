/** The end of the group above all instances, with folders in place of the kernel's. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type ParentCgroup, removeParent } from './parent-cgroup.ts';

const NAME = 'fn-0a1b2c3d';

function trees(...names: string[]): { folders: string[]; mounts: string } {
  const root = mkdtempSync(join(tmpdir(), 'fn-cgroup-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  const points = names.map((name) => join(root, name));
  for (const point of points) mkdirSync(join(point, NAME), { recursive: true });
  const mounts = points.map((point, at) => `${30 + at} 25 0:${at} / ${point} rw - cgroup cgroup rw`).join('\n');
  return { folders: points.map((point) => join(point, NAME)), mounts };
}

const PARENT: ParentCgroup = { name: NAME, dirs: { version: 1 } };

it('is removed from every tree, with groups of containers that an engine which was killed has left', async () => {
  const { folders, mounts } = trees('memory', 'cpu');
  mkdirSync(join(folders[0]!, 'c0ffee', 'below'), { recursive: true });
  await removeParent(PARENT, mounts);
  expect(folders.filter((folder) => existsSync(folder))).toEqual([]);
});

it('waits for an engine that takes a second to remove what was in it', async () => {
  const { folders, mounts } = trees('memory');
  // A file stands for a process: with one in it, a group cannot be removed.
  const process = join(folders[0]!, 'process');
  writeFileSync(process, '');
  setTimeout(() => rmSync(process), 1_000);
  await removeParent(PARENT, mounts);
  expect(existsSync(folders[0]!)).toBe(false);
});
