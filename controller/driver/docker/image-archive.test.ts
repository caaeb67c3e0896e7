import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { extract, pack, type Header } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { passArchive } from './image-archive.ts';
import type { Allowance } from './image-layer.ts';

type Entry = [header: Partial<Header> & { name: string }, content?: string | Buffer];

const hex = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

/** A tar with one file; `patch` changes its header. */
async function layerOf(content: string, patch: (tar: Buffer) => void = () => {}): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: 'file', mtime: new Date(0) }, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  const whole = Buffer.concat(chunks);
  patch(whole);
  return whole;
}

/** With the sum that a changed header needs. */
function typed(tar: Buffer, type: string): void {
  tar.write(type, 156, 'latin1');
  tar.fill(' ', 148, 156);
  const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  tar.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

const LAYER = await layerOf('what is in it');
const configOf = (...layers: Buffer[]): string =>
  JSON.stringify({ os: 'linux', rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${hex(layer)}`) } });
const CONFIG = configOf(LAYER);
/** As docker save would write it. */
const saved = (config: string, layers: Record<string, Buffer>, more: Entry[] = []): Entry[] => [
  ...Object.entries(layers).map(([name, content]): Entry => [{ name }, content]),
  [{ name: 'c.json' }, config],
  ...more,
  [{ name: 'manifest.json' }, JSON.stringify([{ Config: 'c.json', RepoTags: null, Layers: Object.keys(layers) }])],
];
const SAVED: Entry[] = [
  [{ name: 'config.json' }, CONFIG],
  [{ name: 'layer/layer.tar' }, LAYER],
  [{ name: 'manifest.json' }, JSON.stringify([{ Config: 'config.json', RepoTags: ['fn/node:evil'], Layers: ['layer/layer.tar'] }])],
  [{ name: 'repositories' }, '{"fn/node":{"evil":"x"}}'],
];

/** Passes an archive of these entries; resolves to the id, and to what the engine gets. */
async function pass(entries: Entry[], arch = 'amd64', limits?: Allowance): Promise<{ id: string; files: Record<string, string> }> {
  const tar = pack();
  for (const [header, content] of entries) tar.entry(header, content ?? '');
  tar.finalize();
  const { stream, id } = passArchive(Readable.from(tar), arch, limits);
  const files: Record<string, string> = {};
  const reader = extract();
  stream.on('error', (error: Error) => reader.destroy(error));
  stream.pipe(reader);
  const reading = (async () => {
    for await (const entry of reader) {
      const chunks: Buffer[] = [];
      for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
      files[entry.header.name] = Buffer.concat(chunks).toString();
    }
  })();
  reading.catch(() => {}); // the id's failure is the reason
  const known = await id;
  await reading;
  return { id: known, files };
}

describe('an archive of an image', () => {
  it('passes without the names that it gives itself; its id is that of its configuration', async () => {
    const { id, files } = await pass(SAVED);
    expect(id).toBe(`sha256:${hex(CONFIG)}`);
    expect(Object.keys(files)).toEqual(['config.json', 'layer/layer.tar', 'manifest.json']);
    expect(JSON.parse(files['manifest.json']!)).toEqual([{ Config: 'config.json', RepoTags: null, Layers: ['layer/layer.tar'] }]);
  });

  it('as an OCI layout is read by its index, for this machine’s CPU', async () => {
    const manifest = JSON.stringify({ config: { digest: `sha256:${hex(CONFIG)}` }, layers: [{ digest: `sha256:${hex(LAYER)}` }] });
    const index = {
      manifests: ['arm64', 'amd64'].map((architecture) => ({
        digest: `sha256:${hex(architecture === 'amd64' ? manifest : 'other')}`,
        platform: { os: 'linux', architecture },
      })),
    };
    const entries: Entry[] = [
      [{ name: `blobs/sha256/${hex(CONFIG)}` }, CONFIG],
      [{ name: `blobs/sha256/${hex(manifest)}` }, manifest],
      [{ name: `blobs/sha256/${hex(LAYER)}` }, LAYER],
      [{ name: 'index.json' }, JSON.stringify(index)],
    ];
    const { id, files } = await pass(entries);
    expect(id).toBe(`sha256:${hex(CONFIG)}`);
    expect(JSON.parse(files['manifest.json']!)).toMatchObject([{ RepoTags: null, Layers: [`blobs/sha256/${hex(LAYER)}`] }]);
    await expect(pass(entries, 's390x')).rejects.toThrow('it has no image for linux/s390x');
  });

  it.each<{ what: string; entries: Entry[]; said: RegExp }>([
    { what: 'a path that leads out', entries: [[{ name: '../x' }, 'x']], said: /leads out of it/ },
    { what: 'a link to somewhere else', entries: [[{ name: 'x', type: 'symlink', linkname: '/etc/passwd' }]], said: /is a symlink/ },
    { what: 'a device', entries: [[{ name: 'x', type: 'character-device' }]], said: /is a character-device/ },
    {
      what: 'two images',
      entries: [
        [
          { name: 'manifest.json' },
          JSON.stringify([
            { Config: 'a', Layers: [] },
            { Config: 'b', Layers: [] },
          ]),
        ],
      ],
      said: /holds 2 images/,
    },
    { what: 'no image', entries: [[{ name: 'notes.txt' }, 'x']], said: /neither an archive of docker save nor an OCI layout/ },
    { what: 'a manifest that is none', entries: [[{ name: 'manifest.json' }, '{']], said: /manifest\.json is not what it should be/ },
    {
      what: 'a configuration that is missing',
      entries: [[{ name: 'manifest.json' }, JSON.stringify([{ Config: 'a', Layers: [] }])]],
      said: /configuration is missing/,
    },
  ])('with $what is refused', async ({ entries, said }) => {
    const error: unknown = await pass(entries).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(FnError);
    expect(error).toMatchObject({ code: 'invalid', message: expect.stringMatching(said) as string });
  });

  it('may have layers that are compressed by gzip, and of any size', async () => {
    const large = await layerOf('x'.repeat(3_000_000));
    const { files } = await pass(saved(configOf(LAYER, large, large), { a: gzipSync(LAYER), b: gzipSync(large), c: large }));
    expect(Object.keys(files)).toEqual(['a', 'b', 'c', 'c.json', 'manifest.json']);
  });

  it('must hold its layers: the engine would take one that it has by its digest', async () => {
    const other = await layerOf('of another tenant');
    const refused = (entries: Entry[]) => pass(entries).then(() => 'taken', String);
    expect(await refused(saved(configOf(other), { a: LAYER }))).toMatch(/its layer 1 is sha256:\w+, and not what its configuration says/);
    expect(await refused(saved(configOf(other), {}))).toMatch(/has 0 layers, and its configuration 1/);
    expect(await refused(saved(configOf(LAYER), { a: LAYER }).slice(1))).toMatch('its layer "a" is missing');
    expect(await refused(saved('{"os":"linux"}', { a: LAYER }))).toMatch(/configuration is not what it should be/);
  });

  it('that would fill the disk when it is unpacked is refused', async () => {
    const large = await layerOf('0'.repeat(3_000_000));
    const once = saved(configOf(large), { a: gzipSync(large) });
    expect((await pass(once)).id).toMatch(/^sha256:/);
    const limited = (entries: Entry[], bytes: number, files = 10) => pass(entries, 'amd64', { bytes, entries: files }).catch(String);
    expect(await limited(once, 2_000_000)).toMatch(/its layer 1 makes the image larger than it may be/);
    // The same file as several layers is unpacked for each.
    const thrice = saved(configOf(large, large, large), { a: gzipSync(large) }).slice(0, 2);
    thrice.push([{ name: 'manifest.json' }, JSON.stringify([{ Config: 'c.json', Layers: ['a', 'a', 'a'] }])]);
    expect(await limited(thrice, 8_000_000)).toMatch(/more than 8000000 bytes when it is unpacked/);
    expect(await limited(thrice, 20_000_000, 2)).toMatch(/more than 2 files/);
    // Little that was sent, and much that it comes to.
    const growing = await layerOf('0'.repeat(70_000_000));
    expect(await limited(saved(configOf(growing), { a: gzipSync(growing) }), 100_000_000)).toMatch(/grows more than 50 times/);
    expect((await pass(saved(configOf(growing), { a: growing }))).id).toMatch(/^sha256:/);
    expect(await limited(thrice, 20_000_000)).toMatchObject({ id: expect.stringMatching(/^sha256:/) as string });
  });

  it.each([
    ['sparse, so that the engine would write out its holes', 'S', /is a sparse file or of no known type/],
    ['of no type', 'Y', /is a sparse file or of no known type/],
  ])('with a file in a layer that is %s is refused', async (_what, type, said) => {
    const layer = await layerOf('x', (tar) => typed(tar, type));
    await expect(pass(saved(configOf(layer), { a: layer }))).rejects.toThrow(said);
  });

  it.each([
    ['no tar', Buffer.alloc(2_000, 'x'), /is no tar/],
    ['no whole tar', LAYER.subarray(0, 600), /is no tar/],
    ['no whole gzip', gzipSync(LAYER).subarray(0, 60), /cannot be unpacked/],
    ['xz', Buffer.from('fd377a585a0000', 'hex'), /is compressed by xz/],
    ['zstd', Buffer.from('28b52ffd00', 'hex'), /is compressed by zstd/],
  ])('with a layer that is %s is refused', async (_what, content, said) => {
    await expect(pass(saved(configOf(content), { a: content }))).rejects.toThrow(said);
  });

  it('with two ways to read its paths is refused', async () => {
    const refused = (...more: Entry[]) => pass(saved(CONFIG, { 'd/a': LAYER }, more)).then(() => 'taken', String);
    expect(await refused([{ name: 'c.json' }, '{}'])).toMatch(/is there twice/);
    expect(await refused([{ name: 'd/./a' }, 'x'])).toMatch(/another way to write a path/);
    expect(await refused([{ name: 'd//a' }, 'x'])).toMatch(/another way to write a path/);
    const target = `${'0'.repeat(64)}/layer.tar`;
    expect(await refused([{ name: 'e', type: 'symlink', linkname: target }], [{ name: 'e/x' }, 'x'])).toMatch(/behind a link/);
  });

  it('that is no tar, or cut off, is refused', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(Buffer.alloc(1_000, 'x'));
    }
    await expect(passArchive(broken(), 'amd64').id).rejects.toMatchObject({ code: 'invalid' });
  });
});
