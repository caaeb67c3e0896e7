/** Bundles from whoever may deploy: what is whole is kept, what is hostile is refused and leaves nothing. */
import { mkdir, mkdtemp, readFile, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BUNDLE_LIMITS } from '#contract/api.ts';
import { digestOf, header, pax, pieces, tar } from '../../test/helpers/tar.ts';
import { openBundleStore } from './bundles.ts';
import type { BundleStore } from './types.ts';
import type { BundleLimits } from './unpack.ts';

let folder: string;
let store: BundleStore;

beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'fn-bundles-')), 'bundles');
  store = await openBundleStore({ folder });
});
afterEach(() => rm(join(folder, '..'), { recursive: true, force: true }));

const put = (data: Buffer, from = store) => from.put(digestOf(data), pieces(data));

/** Nothing was written but the store's own empty folder. */
async function expectEmpty(): Promise<void> {
  expect(await readdir(folder)).toEqual(['.tmp']);
  expect(await readdir(join(folder, '.tmp'))).toEqual([]);
  expect(await readdir(join(folder, '..'))).toEqual(['bundles']);
}

/** What every store of bundles must do is in test/conformance/bundles.test.ts. */
describe('a folder', () => {
  const data = gzipSync(tar({ name: 'index.mjs', content: 'export default 1' }, { name: './empty' }));

  it('is found again when the store is opened again, and leftovers of a crash are not', async () => {
    await put(data);
    await mkdir(join(folder, '.tmp', 'crashed', 'files'), { recursive: true });
    await writeFile(join(folder, '.tmp', 'crashed', 'archive'), 'half');
    const again = await openBundleStore({ folder });
    expect(await readdir(join(folder, '.tmp'))).toEqual([]);
    expect(await again.has(digestOf(data))).toBe(true);
  });

  it.each(['sha256:../../etc', `sha256:${'A'.repeat(64)}`, `sha512:${'a'.repeat(64)}`, ''])('%j never becomes a path', async (digest) => {
    await expect(store.has(digest)).rejects.toThrow();
    await expect(store.put(digest, pieces(Buffer.from('x')))).rejects.toThrow();
    await expectEmpty();
  });

  it('that holds what is not ours keeps it', async () => {
    await put(data);
    const anHourAgo = new Date(Date.now() - 3_600_000);
    await utimes(join(folder, digestOf(data).slice(7)), anHourAgo, anHourAgo);
    await writeFile(join(folder, 'not-ours'), '');
    expect(await store.prune(new Set(), 60_000)).toBe(1);
    expect(await readdir(folder)).toEqual(['.tmp', 'not-ours']);
  });
});

describe('a hostile bundle is refused and leaves nothing', () => {
  const file = { name: 'index.mjs', content: 'x' };
  const cases: [string, Buffer][] = [
    ['symbolic link', tar(file, { name: 'l', type: '2', link: '/etc/passwd' })],
    ['hard link', tar(file, { name: 'l', type: '1', link: 'index.mjs' })],
    ['character device', tar(file, { name: 'd', type: '3' })],
    ['block device', tar(file, { name: 'd', type: '4' })],
    ['fifo', tar(file, { name: 'f', type: '6' })],
    ['contiguous file', tar(file, { name: 'f', type: '7' })],
    ['GNU sparse file', tar(file, { name: 'f', type: 'S' })],
    ['pax sparse file', tar(file, pax({ 'GNU.sparse.major': '1' }), { name: 'f' })],
    ['type unknown', tar(file, { name: 'f', type: 'V' })],
    ['setuid', tar({ ...file, mode: 0o4755 })],
    ['setgid', tar({ ...file, mode: 0o2755 })],
    ['sticky folder', tar(file, { name: 'd/', type: '5', mode: 0o1777 })],
    ['..', tar(file, { name: '../evil', content: 'x' })],
    ['.. inside', tar(file, { name: 'a/../../evil' })],
    ['.. at the end', tar(file, { name: 'a/..', type: '5' })],
    ['.. by pax', tar(file, pax({ path: '../../evil' }), { name: 'good' })],
    ['.. by a GNU long name', tar(file, { name: '././@LongLink', type: 'L', content: '../../evil\0' }, { name: 'good' })],
    ['. inside', tar(file, { name: 'a/./b' })],
    ['absolute', tar(file, { name: '/tmp/fn-evil' })],
    ['absolute folder', tar(file, { name: '/', type: '5' })],
    ['double slash', tar(file, { name: 'a//b' })],
    ['backslash', tar(file, { name: '..\\evil' })],
    ['NUL by pax', tar(file, pax({ path: 'a\0b' }), { name: 'good' })],
    ['newline', tar(file, { name: 'a\nb' })],
    ['escape sequence', tar(file, { name: 'a\u001b[2Jb' })],
    ['broken UTF-8', tar(file, { name: Buffer.from([0x61, 0xff, 0xfe]) })],
    ['no name', tar(file, { name: '' })],
    ['a name of 256 bytes', tar(file, pax({ path: 'n'.repeat(256) }), { name: 'good' })],
    ['a path over 1024 bytes', tar(file, pax({ path: `${'d'.repeat(200)}/`.repeat(6) + 'f' }), { name: 'good' })],
    ['33 folders deep', tar(file, { name: `${'d/'.repeat(33)}f` })],
    ['the same file twice', tar(file, file)],
    ['the same file by two spellings', tar(file, { ...file, name: './index.mjs' })],
    ['the same folder twice', tar(file, { name: 'd/', type: '5' }, { name: 'd', type: '5' })],
    ['case trick', tar(file, { name: 'INDEX.mjs' })],
    ['case trick in a folder', tar({ name: 'a/x' }, { name: 'A/y' })],
    ['composed and decomposed accents', tar({ name: 'caf\u00e9' }, { name: 'cafe\u0301' })],
    ['file, then folder of its name', tar(file, { name: 'index.mjs/', type: '5' })],
    ['file, then a file inside it', tar(file, { name: 'index.mjs/x' })],
    ['folder, then file of its name', tar({ name: 'a/x' }, { name: 'a' })],
    ['folder with contents', tar(file, { name: 'd/', type: '5', content: 'x'.repeat(512) })],
    ['no file at all', tar({ name: 'd/', type: '5' })],
    ['an empty tar', Buffer.alloc(1_024)],
    ['nothing', Buffer.alloc(0)],
    ['not a tar', Buffer.from('hello'.repeat(1_000))],
    [
      'a bad checksum',
      (() => {
        const bad = tar(file);
        bad[0] = 0x7a;
        return bad;
      })(),
    ],
    ['cut within a file', tar({ ...file, content: 'x'.repeat(5_000) }).subarray(0, 2_048)],
    ['more declared than is there', tar({ ...file, size: 0o77777777 })],
    ['a negative size', tar(file, pax({ size: '-1' }), { name: 'f' })],
  ];

  it.each(cases)('%s: 422', async (_name, raw) => {
    await expect(put(gzipSync(raw))).rejects.toMatchObject({ name: 'FnError', code: 'invalid', status: 422 });
    await expectEmpty();
  });

  it.each([
    ['not gzip', Buffer.from('hello')],
    ['empty', Buffer.alloc(0)],
    ['gzip cut short', gzipSync(tar(file)).subarray(0, 40)],
    [
      'gzip with a wrong checksum',
      (() => {
        const bad = gzipSync(tar(file));
        bad[bad.length - 6]! ^= 0xff;
        return bad;
      })(),
    ],
  ])('%s: 422', async (_name, data) => {
    await expect(put(data)).rejects.toMatchObject({ code: 'invalid' });
    await expectEmpty();
  });

  it('truncated or with another digest: 422 that names the digest', async () => {
    const data = gzipSync(tar(file));
    await expect(store.put(digestOf(data), pieces(data.subarray(0, -1)))).rejects.toMatchObject({
      code: 'invalid',
      options: { errors: [{ pointer: 'path/digest' }] },
    });
    await expect(store.put(`sha256:${'0'.repeat(64)}`, pieces(data))).rejects.toMatchObject({ code: 'invalid' });
    await expectEmpty();
  });

  it('an upload that breaks off: its own error, and nothing is left', async () => {
    const data = gzipSync(tar(file));
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield data.subarray(0, 10);
      throw new Error('connection lost');
    }
    await expect(store.put(digestOf(data), broken())).rejects.toThrow('connection lost');
    await expectEmpty();
  });
});

describe('limits: 413, and nothing is left', () => {
  const small: BundleLimits = { maxUploadBytes: 20_000, maxUnpackedBytes: 100_000, maxEntries: 10, maxRatio: 200 };
  const random = (bytes: number) =>
    Buffer.from(Array.from({ length: bytes }, (_, index) => (index * 7_919 + (index >> 8) * 104_729) & 0xff));

  it('an upload over its limit is not read to its end', async () => {
    const limited = await openBundleStore({ folder, limits: small });
    let sent = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        sent += 1_000;
        yield Buffer.alloc(1_000);
      }
    }
    await expect(limited.put(`sha256:${'0'.repeat(64)}`, endless())).rejects.toMatchObject({ code: 'body-too-large', status: 413 });
    expect(sent).toBe(21_000);
    await expectEmpty();
  });

  it.each([
    ['unpacked size', [{ name: 'a', content: random(100_001) }]],
    [
      'unpacked size over several files',
      [
        { name: 'a', content: random(60_000) },
        { name: 'b', content: random(60_000) },
      ],
    ],
    ['entries', Array.from({ length: 11 }, (_, index) => ({ name: `f${index}` }))],
    ['folders that no entry names', [{ name: 'a/b/c/d/e/f/g/h/i/j/k' }]],
  ])('%s', async (_name, entries) => {
    const limited = await openBundleStore({ folder, limits: small });
    await expect(put(gzipSync(tar(...entries), { level: 9 }), limited)).rejects.toMatchObject({ code: 'body-too-large' });
    await expectEmpty();
  });

  it('a decompression bomb is stopped long before it is unpacked', async () => {
    const bomb = gzipSync(tar({ name: 'a', content: Buffer.alloc(200 * 1024 * 1024) }));
    expect(bomb.length).toBeLessThan(BUNDLE_LIMITS.maxUploadBytes / 100);
    await expect(put(bomb)).rejects.toMatchObject({ code: 'body-too-large', message: expect.stringContaining('bomb') });
    await expectEmpty();
  });

  it('a bomb of empty headers is one too', async () => {
    const headers = gzipSync(Buffer.concat(Array.from({ length: 60_000 }, () => header(pax({ comment: 'x' })))));
    await expect(put(headers)).rejects.toMatchObject({ name: 'FnError' });
    await expectEmpty();
  });
});

describe('properties', () => {
  const name = fc.stringMatching(/^[a-z0-9_][a-z0-9_.-]{0,20}$/);
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));

  it('what is packed from plain names comes out byte for byte', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(path, fc.uint8Array({ maxLength: 2_000 }), { minKeys: 1, maxKeys: 8 }), async (files) => {
        const names = Object.keys(files);
        // A name that is a folder of another cannot be packed at all.
        fc.pre(!names.some((one) => names.some((other) => other.startsWith(`${one}/`))));
        const data = gzipSync(tar(...names.map((each) => ({ name: each, content: Buffer.from(files[each]!) }))));
        expect((await put(data)).files).toBe(names.length);
        const dir = await store.dir(digestOf(data));
        for (const each of names) expect((await readFile(join(dir, each))).equals(Buffer.from(files[each]!))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('whatever the names, nothing is written outside, and only FnErrors come out', async () => {
    const nasty = fc
      .array(fc.constantFrom('..', '.', '', 'a', 'A', '/', '\\', 'é', '\u0001', 'b'), { maxLength: 6 })
      .map((parts) => parts.join('/'));
    const entry = fc.record({
      name: nasty,
      type: fc.constantFrom('0', '5', '1', '2', 'L', 'x'),
      content: fc.constantFrom('', 'x', '../../x\0', '18 path=../../evil\n'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 5 }), async (entries) => {
        const data = gzipSync(tar(...entries.map((each) => (each.type === '5' ? { ...each, content: '' } : each))));
        await put(data).catch((error: unknown) => expect(error).toMatchObject({ name: 'FnError', status: 422 }));
        expect(await readdir(join(folder, '..'))).toEqual(['bundles']);
        expect(await readdir(join(folder, '.tmp'))).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  it('any cut or flipped byte is found by the digest', async () => {
    const data = gzipSync(tar({ name: 'index.mjs', content: 'x'.repeat(500) }));
    await fc.assert(
      fc.asyncProperty(fc.nat(data.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const bad = Buffer.from(data);
        bad[at]! ^= flip;
        await expect(store.put(digestOf(data), pieces(bad))).rejects.toMatchObject({ code: 'invalid' });
        await expect(store.put(digestOf(data), pieces(data.subarray(0, at)))).rejects.toMatchObject({ code: 'invalid' });
      }),
      { numRuns: 30 },
    );
    await expectEmpty();
  });
});
