import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../test/helpers/cli.ts';
import { CliError } from './errors.ts';
import { findSource, toLabel } from './source.ts';

function folderWith(...files: string[]): string {
  const folder = temporaryFolder(onTestFinished);
  for (const file of files) {
    mkdirSync(join(folder, file, '..'), { recursive: true });
    writeFileSync(join(folder, file), file.endsWith('.json') ? '{"main":"./lib/start"}' : '');
  }
  return folder;
}

describe('the name of a function', () => {
  it.each([
    ['resize.ts', 'resize'],
    ['MyThing v2.ts', 'my-thing-v2'],
    ['a/b/resize/index.ts', 'resize'],
    ['shop/src/handler.js', 'shop'],
    ['über_größe.mjs', 'uber-gro-e'],
  ])('%s is %s', (file, name) => {
    const folder = folderWith(file);
    expect(findSource(file, folder).name).toBe(name);
  });

  it('is null where nothing is left of the text, or what is left is reserved', () => {
    expect(toLabel('___')).toBeNull();
    expect(toLabel('constructor')).toBeNull();
    expect(toLabel('x'.repeat(80))).toBe('x'.repeat(63));
  });

  it('of a folder is the folder’s', () => {
    const folder = folderWith('api/index.ts');
    expect(findSource('api', folder)).toEqual({
      entry: join(folder, 'api/index.ts'),
      folder: join(folder, 'api'),
      name: 'api',
      runtime: 'node',
      whole: true,
    });
  });
});

describe('the entry of a folder', () => {
  it('is what package.json says, with an extension or an index added as Node does', () => {
    const folder = folderWith('package.json', 'lib/start/index.ts', 'index.ts');
    expect(findSource('.', folder).entry).toBe(join(folder, 'lib/start/index.ts'));
  });

  it('is the first usual name, the folder before its src/', () => {
    expect(findSource('.', folderWith('src/index.ts', 'server.js')).entry).toMatch(/\/server\.js$/);
    expect(findSource('.', folderWith('src/handler.ts')).entry).toMatch(/\/src\/handler\.ts$/);
  });

  it('that is declared and missing, or cannot be found, is told with what to do', () => {
    const missing = folderWith('package.json');
    expect(() => findSource('.', missing)).toThrow(/names \.\/lib\/start as its entry/);
    expect(() => findSource('.', folderWith('README.md'))).toThrow(/no function found/);
    expect(() => findSource('.', folderWith('fn.yaml'))).toThrow(
      expect.objectContaining({ hint: expect.stringMatching(/fn deploy --file .*\/fn\.yaml$/) }),
    );
    expect(() => findSource('nowhere.ts', missing)).toThrow(CliError);
    expect(() => findSource('x.rb', folderWith('x.rb'))).toThrow(/not a source file/);
  });
});

describe('the runtime of a source', () => {
  it('is python for a .py file, of which an object may be named', () => {
    const folder = folderWith('resize.py');
    const source = { entry: join(folder, 'resize.py'), folder, name: 'resize', runtime: 'python' };
    expect(findSource('resize.py', folder)).toEqual(source);
    expect(findSource('./resize.py:site.app', folder)).toEqual({ ...source, object: 'site.app' });
    expect(() => findSource('resize.py:no-name', folder)).toThrow(/no file or folder/);
  });

  it.each([
    { what: 'deno.json beside it', files: ['index.ts', 'deno.json'], runtime: 'deno' },
    { what: 'bun.lock above src/', files: ['src/index.ts', 'bun.lock'], runtime: 'bun' },
    { what: 'source code beside a Dockerfile', files: ['index.ts', 'Dockerfile'], runtime: 'node' },
    { what: 'Python beside a Dockerfile', files: ['app.py', 'Dockerfile'], runtime: 'python' },
    { what: 'a Dockerfile alone', files: ['Dockerfile'], runtime: 'image' },
  ])('$what: $runtime', ({ files, runtime }) => {
    expect(findSource('.', folderWith(...files)).runtime).toBe(runtime);
  });

  it('of a file: an archive is an image, an executable is a program, by its first bytes', () => {
    const folder = folderWith('shop.tar', 'run', 'notes');
    writeFileSync(join(folder, 'run'), '\x7fELF and more', 'latin1');
    expect(findSource('shop.tar', folder)).toMatchObject({ runtime: 'image', name: 'shop' });
    expect(findSource('run', folder)).toMatchObject({ runtime: 'binary', name: 'run' });
    expect(() => findSource('notes', folder)).toThrow(/is not a source file that fn can bundle/);
  });

  it('of a folder without code: the executable that is named as the folder is', () => {
    const folder = folderWith('api/api', 'api/notes.txt');
    writeFileSync(join(folder, 'api/api'), '\x7fELF', 'latin1');
    expect(findSource('api', folder)).toMatchObject({ entry: join(folder, 'api/api'), runtime: 'binary', name: 'api' });
  });
});
