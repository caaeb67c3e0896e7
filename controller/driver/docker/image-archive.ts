/**
 * Archives of images as they are uploaded: written by whoever may deploy, so nothing in them is believed.
 * They are passed on to the engine entry by entry, without the names that they would give to images: an
 * archive that named a runtime's image would take its place.
 */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { extract, pack, type Pack } from 'tar-stream';
import { z } from 'zod';
import { FnError } from '#contract/errors.ts';
import { type Allowance, drained, type Layer, FREE_BYTES, LayerReader, MAX_RATIO, UNPACKED_LIMITS } from './image-layer.ts';

/** Bytes of an archive, all entries together. */
export const MAX_IMAGE_BYTES = 2 * 1024 * 1024 * 1024;
const MAX_ENTRIES = 2_000;
/** Configurations and manifests are kept while the archive passes, since which of them counts is said last. */
const MAX_JSON_BYTES = 1024 * 1024;
const MAX_KEPT_BYTES = 16 * 1024 * 1024;

const DockerManifest = z.array(z.object({ Config: z.string(), Layers: z.array(z.string()) }));
const Config = z.object({ rootfs: z.object({ diff_ids: z.array(z.string()) }) });
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
export function passArchive(archive: AsyncIterable<Uint8Array>, arch: string, limits = UNPACKED_LIMITS): PassedArchive {
  const stream = pack();
  // Whoever reads it is told all the same; an engine that has read enough must not bring us down.
  stream.on('error', () => {});
  const id = copy(archive, stream, arch, limits);
  // The engine is not to take a half for a whole.
  id.catch((error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))));
  return { stream, id };
}

async function copy(archive: AsyncIterable<Uint8Array>, stream: Pack, arch: string, limits: Readonly<Allowance>): Promise<string> {
  const reader = extract();
  const feeding = feed(archive, reader);
  feeding.catch((error: unknown) => reader.destroy(error instanceof Error ? error : new Error(String(error))));
  const kept = new Map<string, Buffer>();
  const passed = new Layers(limits);
  let entries = 0;
  let keptBytes = 0;
  try {
    for await (const entry of reader) {
      if (++entries > MAX_ENTRIES) throw refuse(`it has more than ${MAX_ENTRIES} entries`);
      const { name, type, size = 0, linkname } = entry.header;
      const path = name.replace(/^\.\//, '').replace(/\/$/, '');
      if (path.split('/').includes('..') || path.startsWith('/')) throw refuse(`${JSON.stringify(name)} leads out of it`);
      if (path === '' || path === '.') continue;
      // Else what is read here and what the engine reads could be two files.
      if (posix.normalize(path) !== path) throw refuse(`${JSON.stringify(name)} is another way to write a path`);
      if (type !== 'directory' && (kept.has(path) || passed.has(path))) throw refuse(`${JSON.stringify(name)} is there twice`);
      if (passed.throughLink(path)) throw refuse(`${JSON.stringify(name)} is behind a link`);
      const header = { name: path, mode: 0o644, mtime: new Date(0) };
      if (type === 'directory') stream.entry({ ...header, name: `${path}/`, type: 'directory', mode: 0o755 });
      // docker save writes a layer that two images share once, and a link in the place of the other.
      else if (type === 'symlink' && linkname && /^(?:\.\.\/)?[0-9a-f]{64}\/layer\.tar$/.test(linkname)) {
        passed.link(path, linkname);
        stream.entry({ ...header, type: 'symlink', linkname });
      } else if (type !== 'file') throw refuse(`${JSON.stringify(name)} is a ${type ?? 'thing of unknown type'}`);
      else if (size <= MAX_JSON_BYTES) {
        const content = await whole(entry);
        if ((keptBytes += content.length) > MAX_KEPT_BYTES) throw refuse('it holds too many small files');
        kept.set(path, content);
        if (!SAID_BY_US.has(path)) stream.entry(header, content);
      } else await passed.through(path, entry, stream.entry({ ...header, size }));
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
  await passed.check(parse(Config, content, 'its configuration').rootfs.diff_ids, layers, kept);
  const id = createHash('sha256').update(content).digest('hex');
  stream.entry({ name: 'manifest.json', mtime: new Date(0) }, JSON.stringify([{ Config: config, RepoTags: null, Layers: layers }]));
  stream.finalize();
  return `sha256:${id}`;
}

/** The larger files of an archive: what they are as layers is found out while they pass. */
class Layers {
  readonly #files = new Map<string, Layer>();
  readonly #links = new Map<string, string>();
  readonly #limits: Readonly<Allowance>;
  readonly #allowance: Allowance;

  constructor(limits: Readonly<Allowance>) {
    this.#limits = limits;
    this.#allowance = { ...limits };
  }

  has(path: string): boolean {
    return this.#files.has(path) || this.#links.has(path);
  }

  link(path: string, linkname: string): void {
    this.#links.set(path, posix.join(posix.dirname(path), linkname));
  }

  throughLink(path: string): boolean {
    return [...this.#links.keys()].some((link) => path.startsWith(`${link}/`));
  }

  async through(path: string, entry: AsyncIterable<unknown>, sink: ReturnType<Pack['entry']>): Promise<void> {
    const layer = new LayerReader(this.#allowance);
    for await (const chunk of entry as AsyncIterable<Buffer>) {
      if (sink.destroyed) throw new Error('the engine takes no more');
      if (!sink.write(chunk)) await drained(sink);
      await layer.write(chunk);
    }
    this.#files.set(path, await layer.end());
    await new Promise<void>((resolve, reject) => {
      sink.once('error', reject);
      sink.end(() => resolve());
    });
  }

  /**
   * The engine takes a layer that it has already by its digest alone, whatever the archive holds: so the
   * archive must hold it, or a digest would be all that it takes to have a layer of somebody else's image.
   * Throws FnError invalid.
   */
  async check(diffIds: readonly string[], layers: readonly string[], kept: ReadonlyMap<string, Buffer>): Promise<void> {
    if (diffIds.length !== layers.length) throw refuse(`it has ${layers.length} layers, and its configuration ${diffIds.length}`);
    let [bytes, entries] = [0, 0];
    const distinct = new Set<Layer>();
    for (const [index, path] of layers.entries()) {
      const layer = await this.#find(path, kept);
      if (layer === null) throw refuse(`its layer ${JSON.stringify(path.slice(0, 200))} is missing`);
      distinct.add(layer);
      bytes += layer.bytes;
      entries += layer.entries;
      if (layer.fault !== null) throw refuse(`its layer ${index + 1} ${layer.fault}`);
      if (bytes > this.#limits.bytes) throw refuse(`it has more than ${this.#limits.bytes} bytes when it is unpacked`);
      if (entries > this.#limits.entries) throw refuse(`it has more than ${this.#limits.entries} files`);
      if (layer.diffId !== diffIds[index]) throw refuse(`its layer ${index + 1} is ${layer.diffId}, and not what its configuration says`);
    }
    const packed = [...distinct].reduce((sum, layer) => sum + layer.packedBytes, 0);
    if (bytes > Math.max(FREE_BYTES, packed * MAX_RATIO)) throw refuse(`it grows more than ${MAX_RATIO} times when it is unpacked`);
  }

  async #find(path: string, kept: ReadonlyMap<string, Buffer>): Promise<Layer | null> {
    const at = this.#links.get(path) ?? path;
    const known = this.#files.get(at);
    const content = kept.get(at);
    if (known !== undefined || content === undefined) return known ?? null;
    const reader = new LayerReader(this.#allowance);
    await reader.write(content);
    const layer = await reader.end();
    this.#files.set(at, layer);
    return layer;
  }
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
    if (!reader.write(chunk)) await drained(reader);
  }
  reader.end(null);
}

async function whole(entry: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function archiveError(error: unknown): unknown {
  if (error instanceof FnError || !(error instanceof Error) || 'syscall' in error) return error;
  return new FnError('invalid', `The image is refused: it is not a whole tar (${error.message}).`, { cause: error });
}
