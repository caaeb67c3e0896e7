import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { extract, pack, type Header } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { passArchive } from './image-archive.ts';

type Entry = [header: Partial<Header> & { name: string }, content?: string];

const hex = (text: string): string => createHash('sha256').update(text).digest('hex');
const CONFIG = '{"os":"linux"}';
const SAVED: Entry[] = [
  [{ name: 'config.json' }, CONFIG],
  [{ name: 'layer/layer.tar' }, 'bytes of a layer'],
  [{ name: 'manifest.json' }, JSON.stringify([{ Config: 'config.json', RepoTags: ['fn/node:evil'], Layers: ['layer/layer.tar'] }])],
  [{ name: 'repositories' }, '{"fn/node":{"evil":"x"}}'],
];

/** Passes an archive of these entries; resolves to the id, and to what the engine gets. */
async function pass(entries: Entry[], arch = 'amd64'): Promise<{ id: string; files: Record<string, string> }> {
  const tar = pack();
  for (const [header, content] of entries) tar.entry(header, content ?? '');
  tar.finalize();
  const { stream, id } = passArchive(Readable.from(tar), arch);
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
    const manifest = JSON.stringify({ config: { digest: `sha256:${hex(CONFIG)}` }, layers: [{ digest: `sha256:${hex('layer')}` }] });
    const index = {
      manifests: ['arm64', 'amd64'].map((architecture) => ({
        digest: `sha256:${hex(architecture === 'amd64' ? manifest : 'other')}`,
        platform: { os: 'linux', architecture },
      })),
    };
    const entries: Entry[] = [
      [{ name: `blobs/sha256/${hex(CONFIG)}` }, CONFIG],
      [{ name: `blobs/sha256/${hex(manifest)}` }, manifest],
      [{ name: `blobs/sha256/${hex('layer')}` }, 'layer'],
      [{ name: 'index.json' }, JSON.stringify(index)],
    ];
    const { id, files } = await pass(entries);
    expect(id).toBe(`sha256:${hex(CONFIG)}`);
    expect(JSON.parse(files['manifest.json']!)).toMatchObject([{ RepoTags: null, Layers: [`blobs/sha256/${hex('layer')}`] }]);
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

  it('that is no tar, or cut off, is refused', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(Buffer.alloc(1_000, 'x'));
    }
    await expect(passArchive(broken(), 'amd64').id).rejects.toMatchObject({ code: 'invalid' });
  });
});
