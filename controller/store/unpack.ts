/**
 * Unpacks a bundle: a gzip-compressed tar of regular files and folders, written by whoever may
 * deploy, so nothing in it is believed. Links, devices, modes with setuid, paths that lead out or
 * that two file systems would read differently are refused; sizes are counted as they appear, before
 * they are written.
 */
import { chmod, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract, type Extract, type Header } from 'tar-stream';
import type { BUNDLE_LIMITS } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';

/** Longest path within a bundle, bytes. With the home's own path it stays well under PATH_MAX (4096). */
const MAX_PATH_BYTES = 1_024;
/** Longest name of a file or folder, bytes (NAME_MAX). */
const MAX_NAME_BYTES = 255;
const MAX_DEPTH = 32;
/** Below this many unpacked bytes a high ratio harms nobody: source code with long runs of spaces. */
const RATIO_FREE_BYTES = 16 * 1024 * 1024;
/** Files being synced at a time; the journal then commits them together. */
const SYNC_WIDTH = 16;

/** The contract's, or smaller ones in tests. */
export type BundleLimits = { readonly [K in keyof typeof BUNDLE_LIMITS]: number };

export interface UnpackOptions {
  /** Folder to make; the one above it is made too. */
  into: string;
  uploadedBytes: number;
  limits: BundleLimits;
}

/** Returns the number of files. Throws FnError 413 over a limit, 422 for anything else that is wrong; the folder is then to be removed. */
export async function unpack(archive: () => Readable, { into, uploadedBytes, limits }: UnpackOptions): Promise<number> {
  const names = new BundleNames(limits.maxEntries);
  const syncs = new Syncs();
  await mkdir(into, { recursive: true });
  const tar = extract();
  const feeding = pipeline(archive(), createGunzip(), bombGuard(uploadedBytes, limits), (source: AsyncIterable<Buffer>) =>
    feed(source, tar),
  );
  try {
    const results = await Promise.allSettled([
      writeEntries(tar, names, into, syncs),
      feeding.catch((error: unknown) => {
        tar.destroy(error instanceof Error ? error : new Error(String(error)));
        throw error;
      }),
    ]);
    const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    if (reasons.length > 0) throw rootCause(reasons);
  } catch (error) {
    throw archiveError(error);
  } finally {
    await syncs.settled();
  }
  if (names.files === 0) throw refuse('it holds no file');
  for (const folder of names.folders()) await finishFolder(join(into, folder));
  await finishFolder(into);
  await finishFolder(dirname(into));
  await syncs.done();
  return names.files;
}

/** Writes into the tar parser as fast as it takes it; stops early where the parser was closed, because an entry was refused. */
async function feed(source: AsyncIterable<Buffer>, tar: Extract): Promise<void> {
  for await (const chunk of source) {
    if (tar.destroying) return;
    if (!tar.write(chunk)) await drained(tar);
  }
  if (!tar.destroying) tar.end(null);
}

function drained(tar: Extract): Promise<void> {
  return new Promise((resolve) => {
    if (tar.destroyed) return resolve();
    const done = (): void => {
      tar.off('drain', done);
      tar.off('close', done);
      resolve();
    };
    tar.on('drain', done);
    tar.on('close', done);
  });
}

async function writeEntries(tar: Extract, names: BundleNames, into: string, syncs: Syncs): Promise<void> {
  for await (const entry of tar) {
    const { path, kind } = names.admit(entry.header);
    const target = join(into, path);
    if (kind === 'folder') {
      await mkdir(target, { recursive: true });
      entry.resume();
      continue;
    }
    await mkdir(dirname(target), { recursive: true });
    // wx: never through, or over, what is there.
    const mode = fileMode(entry.header.mode);
    const file = await open(target, 'wx', mode);
    try {
      for await (const chunk of entry) await file.writeFile(chunk as Uint8Array);
      // open() was subject to the umask.
      await file.chmod(mode);
    } catch (error) {
      await file.close();
      throw error;
    }
    await syncs.add(file);
  }
}

/** Syncs and closes files behind the writer's back, a limited number at a time. */
class Syncs {
  readonly #running = new Set<Promise<void>>();
  #failed: unknown;

  async add(file: { sync(): Promise<void>; close(): Promise<void> }): Promise<void> {
    if (this.#running.size >= SYNC_WIDTH) await Promise.race(this.#running);
    const task = file
      .sync()
      .finally(() => file.close())
      .catch((error: unknown) => {
        this.#failed ??= error;
      })
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Throws the first error of any. */
  async done(): Promise<void> {
    await this.settled();
    if (this.#failed !== undefined) throw this.#failed;
  }
}

async function finishFolder(path: string): Promise<void> {
  await chmod(path, 0o755);
  await syncFolder(path);
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Counts what comes out of gunzip: headers too, so that a million empty entries are a bomb as well. */
function bombGuard(uploadedBytes: number, { maxUnpackedBytes, maxRatio }: BundleLimits): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > maxUnpackedBytes) done(new FnError('body-too-large', `A bundle unpacks to at most ${maxUnpackedBytes} bytes.`));
      else if (bytes > RATIO_FREE_BYTES && bytes > uploadedBytes * maxRatio) {
        done(
          new FnError(
            'body-too-large',
            `The bundle unpacks to more than ${maxRatio} times its size: it is taken for a decompression bomb.`,
          ),
        );
      } else done(null, chunk);
    },
  });
}

/** What is looked at of a tar header. */
export type EntryHeader = Pick<Header, 'name' | 'mode' | 'size' | 'pax'> & { type: Header['type'] | null };

/** The names seen so far. Decides about each entry by its header alone. */
export class BundleNames {
  readonly #maxEntries: number;
  /** By folded name: as spelt first, what it is, and whether an entry of its own was there. */
  readonly #seen = new Map<string, { path: string; kind: 'file' | 'folder'; listed: boolean }>();
  #entries = 0;
  files = 0;

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  /** Folders within the bundle, deepest last. */
  folders(): string[] {
    return [...this.#seen.values()].filter(({ kind }) => kind === 'folder').map(({ path }) => path);
  }

  /** The safe relative path of an entry ('' is the root). Throws FnError 422, 413. */
  admit(header: EntryHeader): { path: string; kind: 'file' | 'folder' } {
    if (++this.#entries > this.#maxEntries) throw new FnError('body-too-large', `A bundle has at most ${this.#maxEntries} entries.`);
    const kind = entryKind(header);
    const path = safePath(header.name, kind);
    if (path === '') return { path, kind };
    this.#admitParents(path);
    const there = this.#seen.get(fold(path));
    if (there !== undefined && (there.listed || there.kind !== kind || there.path !== path)) {
      throw refuse(
        `${quote(path)} is there twice${there.path === path ? '' : ` (also as ${quote(there.path)}: names must differ by more than case)`}`,
      );
    }
    this.#seen.set(fold(path), { path, kind, listed: true });
    // Folders that no entry names count too: 10,000 paths of depth 32 are 320,000 folders.
    if (this.#seen.size > this.#maxEntries)
      throw new FnError('body-too-large', `A bundle has at most ${this.#maxEntries} files and folders.`);
    if (kind === 'file') this.files++;
    return { path, kind };
  }

  #admitParents(path: string): void {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      const parent = path.slice(0, slash);
      const there = this.#seen.get(fold(parent));
      if (there === undefined) this.#seen.set(fold(parent), { path: parent, kind: 'folder', listed: false });
      else if (there.kind === 'file') throw refuse(`${quote(path)} is inside a file`);
      else if (there.path !== parent) throw refuse(`${quote(parent)} and ${quote(there.path)} differ by no more than case`);
    }
  }
}

/** As a file system that ignores case or composes accents would compare names. */
const fold = (path: string): string => path.normalize('NFC').toLowerCase();

/** Of what a sender says about modes, whether a file may be executed is all that counts. */
const fileMode = (said: number): number => ((said & 0o111) === 0 ? 0o644 : 0o755);

function entryKind(header: EntryHeader): 'file' | 'folder' {
  const { type, name, mode, pax } = header;
  if (type !== 'file' && type !== 'directory')
    throw refuse(`${quote(name)} is a ${type ?? 'thing of unknown type'}; only files and folders are allowed`);
  if ((mode & 0o7000) !== 0) throw refuse(`${quote(name)} has a setuid, setgid or sticky bit`);
  if (type === 'directory' && header.size !== 0) throw refuse(`the folder ${quote(name)} has contents of its own`);
  if (typeof pax === 'object' && pax !== null && Object.keys(pax).some((key) => key.startsWith('GNU.sparse')))
    throw refuse(`${quote(name)} is a sparse file`);
  return type === 'file' ? 'file' : 'folder';
}

function safePath(name: string, kind: 'file' | 'folder'): string {
  if (name === '') throw refuse('an entry has no name');
  if (Buffer.byteLength(name) > MAX_PATH_BYTES) throw refuse(`${quote(name)} is longer than ${MAX_PATH_BYTES} bytes`);
  // U+FFFD: the name was not UTF-8, and would not be found under the name it was given.
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused here
  if (/[\u0000-\u001f\u007f\\\ufffd]/.test(name))
    throw refuse(`${quote(name)} holds NUL, a control character, a backslash or broken UTF-8`);
  if (name.startsWith('/')) throw refuse(`${quote(name)} is absolute`);
  let path = name;
  while (path.startsWith('./')) path = path.slice(2);
  if (kind === 'folder') path = path === '.' ? '' : path.replace(/\/$/, '');
  if (path === '' && kind === 'folder') return '';
  const segments = path.split('/');
  if (segments.length > MAX_DEPTH) throw refuse(`${quote(name)} is more than ${MAX_DEPTH} folders deep`);
  for (const segment of segments) {
    if (segment === '' || segment === '.' || segment === '..') throw refuse(`${quote(name)} is not a plain relative path`);
    if (Buffer.byteLength(segment) > MAX_NAME_BYTES) throw refuse(`a name in ${quote(name)} is longer than ${MAX_NAME_BYTES} bytes`);
  }
  return path;
}

/** Shortened, and with control characters escaped: it goes to terminals and logs. */
const quote = (name: string): string => JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}…` : name);

const refuse = (why: string): FnError => new FnError('invalid', `The bundle is refused: ${why}.`);

/** Either side's failure ends the other with an error that says only that; ours and the disk's are the ones that began it. */
function rootCause(reasons: unknown[]): unknown {
  return (
    reasons.find((reason) => reason instanceof FnError) ??
    reasons.find((reason) => reason instanceof Error && 'syscall' in reason) ??
    reasons.find((reason) => reason instanceof Error && 'code' in reason && String(reason.code).startsWith('Z_')) ??
    reasons[0]
  );
}

/** What gunzip and tar-stream throw is the sender's doing; what the disk throws is not. */
function archiveError(error: unknown): unknown {
  if (error instanceof FnError || !(error instanceof Error)) return error;
  if ('syscall' in error) return error;
  return new FnError('invalid', `The bundle is refused: it is not a whole gzip-compressed tar (${error.message}).`, { cause: error });
}
