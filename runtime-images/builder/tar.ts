/** Tar files written so that the same content gives the same bytes: sorted, time and owner fixed, no extended attributes. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { finished, pipeline } from 'node:stream/promises';
import { pack, type Pack } from 'tar-stream';

/** A file of a layer: its bytes, or the path of a file that has them; or a folder; or a link. */
export type LayerEntry =
  | { type: 'file'; mode: number; content: Buffer | { path: string; size: number } }
  | { type: 'directory'; mode: number; /** uid and gid; default 0. */ owner?: number }
  | { type: 'symlink'; target: string };

/** By path, without a leading or trailing slash. */
export type Layer = Map<string, LayerEntry>;

const EPOCH = new Date(0);

/** Adds the folders that the paths of a layer pass through, mode 0755, where they are not there. */
export function addParents(layer: Layer): void {
  for (const path of layer.keys()) {
    for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1)) {
      const parent = path.slice(0, slash);
      if (!layer.has(parent)) layer.set(parent, { type: 'directory', mode: 0o755 });
    }
  }
}

/** Writes a layer by write-then-rename, and returns the hex SHA-256 of the file. */
export async function writeLayer(layer: Layer, path: string): Promise<{ sha256: string; bytes: number }> {
  addParents(layer);
  const temporary = `${path}.${process.pid}.tmp`;
  const tar = pack();
  const hash = createHash('sha256');
  let bytes = 0;
  async function* measured(): AsyncGenerator<Buffer> {
    for await (const chunk of tar as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  }
  const written = pipeline(measured, createWriteStream(temporary, { mode: 0o600 }));
  written.catch(() => {}); // awaited below; until then it must not count as unhandled
  try {
    // Code unit order: the same on every machine, whatever its locale.
    for (const name of [...layer.keys()].sort()) await addEntry(tar, name, layer.get(name)!);
    tar.finalize();
    await written;
    await rename(temporary, path);
  } catch (error) {
    tar.destroy();
    await written.catch(() => {}); // the first error is the one that tells
    await rm(temporary, { force: true });
    throw error;
  }
  return { sha256: hash.digest('hex'), bytes };
}

async function addEntry(tar: Pack, name: string, entry: LayerEntry): Promise<void> {
  const header = { name, mtime: EPOCH, uid: 0, gid: 0, uname: '', gname: '' };
  if (entry.type === 'directory') {
    const owner = entry.owner ?? 0;
    tar.entry({ ...header, name: `${name}/`, type: 'directory', mode: entry.mode, uid: owner, gid: owner });
  } else if (entry.type === 'symlink') {
    tar.entry({ ...header, type: 'symlink', linkname: entry.target, mode: 0o777 });
  } else if (Buffer.isBuffer(entry.content)) {
    tar.entry({ ...header, type: 'file', mode: entry.mode }, entry.content);
  } else {
    await addFile(tar, { ...header, mode: entry.mode }, entry.content);
  }
}

/** Streams a file of the disk into a tar. */
export async function addFile(
  tar: Pack,
  header: { name: string; mtime: Date; mode: number },
  file: { path: string; size: number },
): Promise<void> {
  const sink = tar.entry({ ...header, type: 'file', size: file.size });
  const source = createReadStream(file.path);
  source.on('error', (error) => sink.destroy(error));
  source.pipe(sink);
  await finished(sink);
}
