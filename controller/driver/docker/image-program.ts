/**
 * How an instance runs somebody's image: the shim of the runtime `binary`, mounted into it, is what the
 * container starts; the image's own program is the shim's to start, at init.
 */
import { chmod, mkdir, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type Dockerode from 'dockerode';
import { extract } from 'tar-stream';
import { newSecret, shortHash } from '#kit/ids.ts';
import type { Engine } from './engine.ts';
import { folderOf, portOf, programOf, volumesOf } from './images.ts';

/** Path of the shim in the image of `binary`, and in every image that it is mounted into. */
export const SHIM = '/fn/shim';
/** Far above what the shim is, bytes. */
const MAX_SHIM_BYTES = 64 * 1024 * 1024;

export interface ImageProgram {
  /** File on this host. */
  shimFile: string;
  /** Arguments of the shim. */
  args: string[];
  /** Folders that the image declares as volumes: without a mount of ours the engine would give them disk without limit. */
  volumes: string[];
}

/** What the container of an image is told beside what every container is. */
export function imageProgram(info: Pick<Dockerode.ImageInspectInfo, 'Config'>, shimFile: string): ImageProgram {
  const port = portOf(info);
  const options = [...(port === null ? [] : ['-port', String(port)]), '-dir', folderOf(info)];
  return { shimFile, args: [...options, '--', ...programOf(info)], volumes: volumesOf(info) };
}

/** Takes the shim out of the image of the runtime `binary`, once per image. Returns its path on this host. */
export async function shimOf(engine: Engine, image: string, folder: string): Promise<string> {
  const info = await engine.image(image);
  const file = join(folder, `binary-${shortHash(info?.Id ?? image, 16)}`);
  // Not there, or not to be seen: then it is written, and a failure of that says why.
  if ((await stat(file).catch(() => null)) !== null) return file;
  const container = await engine.create({
    Image: image,
    name: `fn-shim-${shortHash(newSecret(), 12)}`,
    HostConfig: { NetworkMode: 'none' },
  });
  try {
    const bytes = await onlyFile(await engine.archiveOf(container, SHIM));
    await mkdir(folder, { recursive: true, mode: 0o755 });
    const temporary = `${file}.${shortHash(newSecret(), 8)}`;
    await writeFile(temporary, bytes, { mode: 0o755 });
    // writeFile was subject to the umask.
    await chmod(temporary, 0o755);
    await rename(temporary, file);
    return file;
  } finally {
    await engine.remove(container);
  }
}

async function onlyFile(archive: NodeJS.ReadableStream): Promise<Buffer> {
  const reader = extract();
  archive.on('error', (error) => reader.destroy(error));
  archive.pipe(reader);
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of entry as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      if ((bytes += chunk.length) > MAX_SHIM_BYTES) throw new Error(`the shim has more than ${MAX_SHIM_BYTES} bytes`);
    }
    return Buffer.concat(chunks);
  }
  throw new Error(`the image of the runtime binary has no ${SHIM}`);
}
