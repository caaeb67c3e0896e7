import { closeSync, mkdirSync, mkdtempSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { isLeftOut, watchProject } from './watch.ts';

const folders: string[] = [];
function folder(name = 'project'): string {
  const made = join(mkdtempSync(join(tmpdir(), 'fn-watch-')), name);
  mkdirSync(made);
  folders.push(join(made, '..'));
  return made;
}
afterEach(() => {
  for (const made of folders.splice(0)) rmSync(made, { recursive: true, force: true });
});

/** The next change that is told. */
function listener() {
  let told = Promise.withResolvers<string[]>();
  return {
    onChange: (changed: string[]) => told.resolve(changed),
    next: async () => {
      const changed = await told.promise;
      told = Promise.withResolvers();
      return changed;
    },
  };
}

describe('watchProject', () => {
  it('tells a change, a new file and one that was replaced by a rename', async () => {
    const project = folder();
    const file = join(project, 'handler.ts');
    writeFileSync(file, '1');
    const { onChange, next } = listener();
    const watcher = await watchProject([project], onChange);
    try {
      writeFileSync(file, '2');
      expect(await next()).toEqual([file]);
      mkdirSync(join(project, 'lib'));
      writeFileSync(join(project, 'lib', 'a.ts'), '1');
      expect(await next()).toEqual([join(project, 'lib', 'a.ts')]);
      // As editors save: beside it, then over it.
      writeFileSync(join(project, 'handler.ts~'), '3');
      renameSync(join(project, 'handler.ts~'), file);
      expect(await next()).toContain(file);
    } finally {
      await watcher.close();
    }
  });

  it('tells nothing of the files that its own output goes to', async () => {
    const project = folder();
    const output = openSync(join(project, 'out'), 'a');
    const { onChange, next } = listener();
    const watcher = await watchProject([project], onChange, [output]);
    try {
      writeSync(output, 'a line of ours');
      writeFileSync(join(project, 'dev.log'), 'by tee');
      writeFileSync(join(project, 'handler.ts'), '1');
      expect(await next()).toEqual([join(project, 'handler.ts')]);
    } finally {
      await watcher.close();
      closeSync(output);
    }
  });

  it('tells nothing of packages and what fn made, also where the project itself has such a name', async () => {
    const project = folder('build');
    mkdirSync(join(project, 'node_modules'));
    mkdirSync(join(project, '.fn'));
    const { onChange, next } = listener();
    const watcher = await watchProject([project], onChange);
    try {
      writeFileSync(join(project, 'node_modules', 'x.js'), '1');
      writeFileSync(join(project, '.fn', 'fn.d.ts'), '1');
      writeFileSync(join(project, '.handler.ts.swp'), '1');
      writeFileSync(join(project, 'handler.ts'), '1');
      expect(await next()).toEqual([join(project, 'handler.ts')]);
    } finally {
      await watcher.close();
      await watcher.close();
    }
  });
});

it.each([
  ['handler.ts', false],
  ['src/dist.ts', false],
  ['.env', false],
  ['fn.yaml', false],
  ['node_modules/a/index.js', true],
  ['a/__pycache__/b.pyc', true],
  ['.git/index', true],
  ['a/.#b.ts', true],
])('%s left out: %s', (path, expected) => {
  expect(isLeftOut(path)).toBe(expected);
});
