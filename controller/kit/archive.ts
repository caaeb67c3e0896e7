/** A tar.gz whose bytes depend on nothing but the files: order, times, owners and modes are fixed. */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { pack } from 'tar-stream';

export interface Archive {
  bytes: Buffer;
  /** `sha256:` and 64 hex digits, over `bytes`. */
  digest: string;
  unpackedBytes: number;
}

/** Modes of files; there are no others in a bundle. */
export const FILE_MODE = 0o644;
export const EXECUTABLE_MODE = 0o755;

export interface ArchiveFile {
  name: string;
  contents: Buffer;
  /** Left out: FILE_MODE. */
  mode?: typeof FILE_MODE | typeof EXECUTABLE_MODE;
}

/** Any moment would do; this one is not before 1980, which some tools do not bear. */
const FIXED_TIME = new Date(Date.UTC(2000, 0, 1));

/** Byte 9 of a gzip header names the system that made it; 255 is "unknown" (RFC 1952). */
const GZIP_SYSTEM_BYTE = 9;

export async function archive(files: readonly ArchiveFile[]): Promise<Archive> {
  const stream = pack();
  const sorted = files.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, contents, mode = FILE_MODE } of sorted)
    stream.entry({ name, mtime: FIXED_TIME, mode, uid: 0, gid: 0, type: 'file' }, contents);
  stream.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  const bytes = await promisify(gzip)(Buffer.concat(chunks), { level: 6 });
  bytes[GZIP_SYSTEM_BYTE] = 255;
  return {
    bytes,
    digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
    unpackedBytes: files.reduce((sum, { contents }) => sum + contents.length, 0),
  };
}
