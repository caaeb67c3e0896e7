/**
 * Archives of images as they are uploaded: written by whoever may deploy, so nothing in them is believed.
 * They are passed on to the engine entry by entry, without the names that they would give to images: an
 * archive that named a runtime's image would take its place.
 */
import { createHash } from 'node:crypto';
import { extract, pack, type Pack } from 'tar-stream';
import { z } from 'zod';
import { FnError } from '#contract/errors.ts';

/** Bytes of an archive, all entries together. */
export const MAX_IMAGE_BYTES = 2 * 1024 * 1024 * 1024;
const MAX_ENTRIES = 2_000;
/** Configurations and manifests are kept while the archive passes, since which of them counts is said last. */
const MAX_JSON_BYTES = 1024 * 1024;
const MAX_KEPT_BYTES = 16 * 1024 * 1024;

const DockerManifest = z.array(z.object({ Config: z.string(), Layers: z.array(z.string()) }));
const Descriptor = z.object({
  mediaType: z.string().default(''),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  platform: z.object({ os: z.string(), architecture: z.string() }).optional(),
});
const OciIndex = z.object({ manifests: z.array(Descriptor).min(1) });
const OciManifest = z.object({ config: Descriptor, layers: z.array(Descriptor) });

const refuse = (why: string): FnError => new FnError('invalid', `The image is refused: ${why}.`);

export interface PassedArchive {
  /** For the engine. */
  stream: Pack;
  /** Id of its image, once all of it has passed. Throws FnError invalid, body-too-large. */
  id: Promise<string>;
}

/** `arch`: what Docker calls this machine's CPU. */
export function passArchive(archive: AsyncIterable<Uint8Array>, arch: string): PassedArchive {
  const stream = pack();
  // Whoever reads it is told all the same; an engine that has read enough must not bring us down.
  stream.on('error', () => {});
  const id = copy(archive, stream, arch);
  // The engine is not to take a half for a whole.
  id.catch((error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))));
  return { stream, id };
}

async function copy(archive: AsyncIterable<Uint8Array>, stream: Pack, arch: string): Promise<string> {
  const reader = extract();
  const feeding = feed(archive, reader);
  feeding.catch((error: unknown) => reader.destroy(error instanceof Error ? error : new Error(String(error))));
  const kept = new Map<string, Buffer>();
  let entries = 0;
  let keptBytes = 0;
  try {
    for await (const entry of reader) {
      if (++entries > MAX_ENTRIES) throw refuse(`it has more than ${MAX_ENTRIES} entries`);
      const { name, type, size = 0, linkname } = entry.header;
      const path = name.replace(/^\.\//, '').replace(/\/$/, '');
      if (path.split('/').includes('..') || path.startsWith('/')) throw refuse(`${JSON.stringify(name)} leads out of it`);
      const header = { name: path, mode: 0o644, mtime: new Date(0) };
      if (type === 'directory') stream.entry({ ...header, name: `${path}/`, type: 'directory', mode: 0o755 });
      // docker save writes a layer that two images share once, and a link in the place of the other.
      else if (type === 'symlink' && /^(?:\.\.\/)?[0-9a-f]{64}\/layer\.tar$/.test(linkname ?? ''))
        stream.entry({ ...header, type: 'symlink', linkname });
      else if (type !== 'file') throw refuse(`${JSON.stringify(name)} is a ${type ?? 'thing of unknown type'}`);
      else if (size <= MAX_JSON_BYTES) {
        const content = await whole(entry);
        if ((keptBytes += content.length) > MAX_KEPT_BYTES) throw refuse('it holds too many small files');
        kept.set(path, content);
        if (!SAID_BY_US.has(path)) stream.entry(header, content);
      } else await through(entry, stream.entry({ ...header, size }));
      entry.resume();
    }
    await feeding;
  } catch (error) {
    await feeding.catch(() => {}); // the reader's end is its reason, or the other way round; the first is told
    throw archiveError(error);
  }
  const { config, layers } = imageOf(kept, arch);
  const content = kept.get(config);
  if (content === undefined) throw refuse('its configuration is missing');
  const id = createHash('sha256').update(content).digest('hex');
  stream.entry({ name: 'manifest.json', mtime: new Date(0) }, JSON.stringify([{ Config: config, RepoTags: null, Layers: layers }]));
  stream.finalize();
  return `sha256:${id}`;
}

/** Files that name images; our own manifest takes their place. */
const SAID_BY_US: ReadonlySet<string> = new Set(['manifest.json', 'repositories', 'index.json', 'oci-layout']);

/** Of docker save, or of an OCI layout: the configuration and the layers, as paths in the archive. */
function imageOf(kept: ReadonlyMap<string, Buffer>, arch: string): { config: string; layers: string[] } {
  const manifest = kept.get('manifest.json');
  if (manifest !== undefined) {
    const images = parse(DockerManifest, manifest, 'manifest.json');
    if (images.length !== 1) throw refuse(`it holds ${images.length} images; one belongs into an archive`);
    return { config: images[0]!.Config, layers: images[0]!.Layers };
  }
  const index = kept.get('index.json');
  if (index === undefined) throw refuse('it is neither an archive of docker save nor an OCI layout');
  return ociImage(index, kept, arch, 0);
}

function ociImage(index: Buffer, kept: ReadonlyMap<string, Buffer>, arch: string, depth: number): { config: string; layers: string[] } {
  const { manifests } = parse(OciIndex, index, 'index.json');
  const chosen =
    manifests.find(({ platform }) => platform?.os === 'linux' && platform.architecture === arch) ??
    (manifests.length === 1 ? manifests[0] : undefined);
  if (chosen === undefined) throw refuse(`it has no image for linux/${arch}`);
  const content = kept.get(blob(chosen.digest));
  if (content === undefined) throw refuse(`${blob(chosen.digest)} is missing`);
  if (/index|manifest\.list/.test(chosen.mediaType) && depth < 2) return ociImage(content, kept, arch, depth + 1);
  const { config, layers } = parse(OciManifest, content, 'its manifest');
  return { config: blob(config.digest), layers: layers.map(({ digest }) => blob(digest)) };
}

const blob = (digest: string): string => `blobs/sha256/${digest.slice('sha256:'.length)}`;

function parse<T extends z.ZodType>(schema: T, content: Buffer, name: string): z.output<T> {
  try {
    return schema.parse(JSON.parse(content.toString()));
  } catch {
    throw refuse(`${name} is not what it should be`);
  }
}

async function feed(archive: AsyncIterable<Uint8Array>, reader: ReturnType<typeof extract>): Promise<void> {
  let bytes = 0;
  for await (const chunk of archive) {
    bytes += chunk.byteLength;
    if (bytes > MAX_IMAGE_BYTES) throw new FnError('body-too-large', `The archive of an image has at most ${MAX_IMAGE_BYTES} bytes.`);
    if (reader.destroying) return;
    if (!reader.write(chunk)) await new Promise<void>((resolve) => void reader.once('drain', resolve).once('close', resolve));
  }
  reader.end(null);
}

async function whole(entry: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function through(entry: AsyncIterable<unknown>, sink: ReturnType<Pack['entry']>): Promise<void> {
  for await (const chunk of entry as AsyncIterable<Buffer>) {
    if (sink.destroyed) throw new Error('the engine takes no more');
    if (!sink.write(chunk)) await new Promise<void>((resolve) => void sink.once('drain', resolve).once('close', resolve));
  }
  await new Promise<void>((resolve, reject) => {
    sink.once('error', reject);
    sink.end(() => resolve());
  });
}

function archiveError(error: unknown): unknown {
  if (error instanceof FnError || !(error instanceof Error) || 'syscall' in error) return error;
  return new FnError('invalid', `The image is refused: it is not a whole tar (${error.message}).`, { cause: error });
}
