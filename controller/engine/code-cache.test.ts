import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Revision } from '#contract/function.ts';
import { silentLog } from '#kit/log.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { CodeCaches, MAX_FETCHED_AT_ONCE, MAX_NAMESPACE_BYTES, MIN_ENTRY_BYTES, readFiles } from './code-cache.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const revision = (key = 'default/big@1', runtime = 'node') => {
  const [, namespace = '', name = '', number = ''] = /^(.*)\/(.*)@(.*)$/.exec(key) ?? [];
  const settings = { concurrency: 1, egress: 'none', runtime };
  return Revision.parse({
    key,
    namespace,
    name,
    number: Number(number),
    bundle: DIGEST,
    entry: 'index.mjs',
    settings,
    form: 'fetch',
    createdAt: 1,
  });
};
const body = (files: { path: string; data: string }[], list = files.map(({ path, data }) => ({ path, size: data.length }))) =>
  Buffer.from(`${JSON.stringify({ files: list })}\n${files.map(({ data }) => data).join('')}`);
const ONE = [{ path: 'v24.1.0-x64-abc-65532/0123abcd', data: 'bytecode' }];
const instance = { address: { kind: 'unix', path: '/s' } as const, nonce: 'n' };

describe('code caches', () => {
  let home: string;
  let bundle: string;
  let answer: Buffer | null | Error;
  let asked: number;
  const make = () =>
    new CodeCaches({
      folder: join(home, 'code-caches'),
      runtime: {
        codeCache: () => {
          asked += 1;
          return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
        },
      },
      log: silentLog,
    });
  let caches: CodeCaches;
  const inUse = async (of = revision(), from = caches) => (await from.prepare(of, bundle)).dir !== bundle;
  const kept = (of = revision()) => waitFor('the code cache', () => inUse(of));

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'fn-code-'));
    bundle = join(home, 'bundle');
    await mkdir(join(bundle, 'lib'), { recursive: true });
    await writeFile(join(bundle, 'index.mjs'), '//'.padEnd(MIN_ENTRY_BYTES, ' '));
    await writeFile(join(bundle, 'lib', 'data.txt'), 'data');
    answer = body(ONE);
    asked = 0;
    caches = make();
  });
  afterEach(async () => {
    await caches.settled();
    await rm(home, { recursive: true, force: true });
  });

  it('the first instance makes one, later ones get it beside a linked copy of the bundle, also of the next controller', async () => {
    expect(await caches.prepare(revision(), bundle)).toEqual({ dir: bundle, codeCache: true });
    await caches.take(revision(), bundle, instance);
    await kept();
    for (const from of [caches, make()]) {
      const { dir, codeCache } = await from.prepare(revision(), bundle);
      expect(codeCache).toBe(true);
      expect(await readFile(join(dir, '.fn/code-cache', ONE[0]!.path), 'utf8')).toBe('bytecode');
      expect(await readFile(join(dir, 'lib/data.txt'), 'utf8')).toBe('data');
      expect((await stat(join(dir, 'index.mjs'))).ino).toBe((await stat(join(bundle, 'index.mjs'))).ino);
      expect((await stat(join(dir, '.fn/code-cache', ONE[0]!.path))).mode & 0o777).toBe(0o644);
    }
  });

  it('is of one revision of one function alone, though others have the very same bundle', async () => {
    await caches.prepare(revision(), bundle);
    await caches.take(revision(), bundle, instance);
    await kept();
    for (const key of ['default/big@2', 'default/other@1', 'shop/big@1']) expect(await inUse(revision(key))).toBe(false);
  });

  it('what is small, of another runtime or not there has none, and nobody is asked for one', async () => {
    await writeFile(join(bundle, 'index.mjs'), 'export {}');
    for (const each of [revision(), revision('default/py@1', 'python'), { ...revision('default/x@1'), entry: 'gone.mjs' }]) {
      expect(await caches.prepare(each, bundle)).toEqual({ dir: bundle, codeCache: false });
      await caches.take(each, bundle, instance);
    }
    expect(asked).toBe(0);
  });

  it('one that cannot be had leaves the function as it is', async () => {
    for (const [index, failure] of [null, new Error('reset'), Buffer.from('no list')].entries()) {
      const of = revision(`default/big@${index + 1}`);
      answer = failure;
      await caches.prepare(of, bundle);
      await caches.take(of, bundle, instance);
      expect(await caches.prepare(of, bundle)).toEqual({ dir: bundle, codeCache: false });
    }
  });

  it('one that does not fit any more is made anew, a few times; the folder that instances may be given just now stays until it is pruned', async () => {
    await caches.prepare(revision(), bundle);
    const dirs = new Set<string>();
    for (let n = 0; n < 5; n += 1) {
      await caches.take(revision(), bundle, instance);
      await kept();
      dirs.add((await caches.prepare(revision(), bundle)).dir);
    }
    expect([asked, dirs.size]).toEqual([3, 3]);
    for (const dir of dirs) await stat(dir);
    expect(await caches.prune([revision()])).toBe(0);
    const [folder] = await readdir(join(home, 'code-caches'));
    expect(await readdir(join(home, 'code-caches', folder!))).toEqual(['3']);
    expect(await inUse()).toBe(true);
    expect(await caches.prune([revision('default/other@1')])).toBe(1);
    expect(await inUse()).toBe(false);
  });

  it('nothing is remembered of revisions that are not kept any more, whether they had one or not', async () => {
    const small = revision('default/py@1', 'python');
    for (const each of [revision(), small]) {
      await caches.prepare(each, bundle);
      await caches.take(each, bundle, instance);
    }
    await kept();
    expect(caches.known).toBe(2);
    await caches.prune([revision()]);
    expect(caches.known).toBe(1);
    await caches.prune([]);
    expect(caches.known).toBe(0);
  });

  it('is not of a function that was deleted and made anew, though its number and its bundle are the same', async () => {
    await caches.prepare(revision(), bundle);
    await caches.take(revision(), bundle, instance);
    await kept();
    expect(await inUse({ ...revision(), createdAt: 2 })).toBe(false);
  });

  it('one that somebody removed is made anew: nothing fails for want of it', async () => {
    await caches.prepare(revision(), bundle);
    await caches.take(revision(), bundle, instance);
    await kept();
    await rm(join(home, 'code-caches'), { recursive: true });
    expect(await caches.prepare(revision(), bundle)).toEqual({ dir: bundle, codeCache: true });
    await caches.take(revision(), bundle, instance);
    await kept();
  });

  it('few are fetched at a time: many that start at once do not fill the memory of the controller; the others have their turn later', async () => {
    const held: ((body: Buffer) => void)[] = [];
    const slow = new CodeCaches({
      folder: join(home, 'code-caches'),
      runtime: { codeCache: () => new Promise((resolve) => held.push(resolve)) },
      log: silentLog,
    });
    const all = Array.from({ length: 20 }, (_, index) => revision(`default/big@${index + 1}`));
    for (const of of all) await slow.prepare(of, bundle);
    const taking = all.map((of) => slow.take(of, bundle, instance));
    expect(held.length).toBe(MAX_FETCHED_AT_ONCE);
    for (const give of held) give(body(ONE));
    await Promise.all(taking);
    await slow.settled();
    const last = all.at(-1)!;
    expect(await slow.prepare(last, bundle)).toEqual({ dir: bundle, codeCache: true });
    const again = slow.take(last, bundle, instance);
    held.at(-1)!(body(ONE));
    await again;
    await slow.settled();
    expect(await inUse(last, slow)).toBe(true);
  });

  it('a namespace has a part of the room: one tenant does not keep the others from having any, nor with revisions it has deleted', async () => {
    const size = 16_000_000;
    answer = body([{ path: 'v/big', data: 'x'.repeat(size) }]);
    for (let number = 1; number <= Math.floor(MAX_NAMESPACE_BYTES / size) + 1; number += 1) {
      const of = revision(`greedy/big@${number}`);
      await caches.prepare(of, bundle);
      await caches.take(of, bundle, instance);
      await caches.settled();
      expect(await inUse(of)).toBe(number <= Math.floor(MAX_NAMESPACE_BYTES / size));
    }
    await caches.prepare(revision(), bundle);
    await caches.take(revision(), bundle, instance);
    await kept();
  });

  it('a bundle with a folder .fn of its own keeps it, and has no cache', async () => {
    await mkdir(join(bundle, '.fn'));
    await caches.prepare(revision(), bundle);
    await caches.take(revision(), bundle, instance);
    await caches.settled();
    expect([asked, await inUse()]).toEqual([1, false]);
    const [folder] = await readdir(join(home, 'code-caches'));
    expect(await readdir(join(home, 'code-caches', folder!))).toEqual([]);
  });

  it.each([
    ['a path out of its folder', body([{ path: '../../x', data: 'y' }])],
    ['a path that is a folder up', body([{ path: '../x', data: 'y' }])],
    ['an absolute path', body([{ path: '/etc/x', data: 'y' }])],
    ['a path too deep', body([{ path: 'a/b/c', data: 'y' }])],
    ['the same file twice', body([ONE[0]!, ONE[0]!])],
    ['less than it says', body(ONE, [{ path: 'a/b', size: 99 }])],
    ['more than it says', body(ONE, [{ path: 'a/b', size: 1 }])],
    ['no files', body([])],
    ['too many files', body(Array.from({ length: 65 }, (_, index) => ({ path: `a/f${index}`, data: '' })))],
    ['no JSON', Buffer.from('{\n')],
    ['no line', Buffer.from('{}')],
    // As JSON it would take a hundred times its size in memory.
    ['a list longer than one of so many files is', Buffer.from(`{"files":[{"path":"a/b","size":0${' '.repeat(64 * 1_024)}}]}\n`)],
  ])('refuses %s', (_what, sent) => {
    expect(() => readFiles(sent)).toThrow();
  });
});
