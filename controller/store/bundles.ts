/**
 * Bundles on a folder, by digest:
 *
 *     bundles/.tmp/RANDOM/    an upload in progress, or a leftover of a crash
 *     bundles/HEX/info.json   { bytes, files }
 *     bundles/HEX/files/…     what was in it: files 0644, or 0755 where they may be executed; folders 0755
 *
 * A bundle appears by one rename after all of it has reached the disk, so what is there is whole.
 * Modes are for uid 65532: an instance sees links or copies of these files; the folder itself is in
 * a home of mode 0700.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BUNDLE_LIMITS } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import { BundleDigest } from '#contract/names.ts';
import type { BundleStore } from './types.ts';
import { type BundleLimits, syncFolder, unpack } from './unpack.ts';

/** Bundles unpacked at a time; others wait. Each writes up to 256 MiB and takes a core. */
const MAX_CONCURRENT_UNPACKS = 2;

const Info = z.object({ bytes: z.number().int(), files: z.number().int() });
type Info = z.infer<typeof Info>;

export interface BundleStoreOptions {
  /** Made if it is not there. */
  folder: string;
  limits?: BundleLimits;
}

/** Opens the store and removes what a crash left. One process at a time may have a folder open. */
export async function openBundleStore({ folder, limits = BUNDLE_LIMITS }: BundleStoreOptions): Promise<BundleStore> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o755 });
    await rm(join(folder, '.tmp'), { recursive: true, force: true });
    await mkdir(join(folder, '.tmp'), { mode: 0o700 });
  } catch (error) {
    throw diskError(error);
  }
  return new FolderBundleStore(folder, limits);
}

class FolderBundleStore implements BundleStore {
  readonly #folder: string;
  readonly #limits: BundleLimits;
  #unpacking = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(folder: string, limits: BundleLimits) {
    this.#folder = folder;
    this.#limits = limits;
  }

  /** Who asks is about to deploy it, so asking makes a bundle young again for prune(). */
  async has(digest: string): Promise<boolean> {
    return (await this.info(digest)) !== null && (await this.#touch(digest));
  }

  async info(digest: string): Promise<Info | null> {
    try {
      return Info.parse(JSON.parse(await readFile(join(this.#path(digest), 'info.json'), 'utf8')));
    } catch (error) {
      if (isCode(error, 'ENOENT')) return null;
      throw diskError(error);
    }
  }

  /** At once: an instance waits for it. The note is the last of a bundle to be written. */
  async dir(digest: string): Promise<string> {
    const note = join(this.#path(digest), 'info.json');
    try {
      if (statSync(note, { throwIfNoEntry: false })) return join(this.#path(digest), 'files');
    } catch (error) {
      throw diskError(error);
    }
    throw new FnError('not-found', `The bundle ${digest} is not in the store.`);
  }

  async put(digest: string, data: AsyncIterable<Uint8Array>): Promise<Info & { created: boolean }> {
    const there = (await this.has(digest)) ? await this.info(digest) : null;
    if (there !== null) {
      // Read all the same: the sender gets the same answer to the same bytes, and its connection stays usable.
      await this.#receive(digest, data, async () => {});
      return { created: false, ...there };
    }
    const temporary = join(this.#folder, '.tmp', randomBytes(8).toString('hex'));
    try {
      await mkdir(temporary, { mode: 0o700 });
      const archive = join(temporary, 'archive');
      const bytes = await this.#save(digest, data, archive);
      const files = await this.#limited(() =>
        unpack(() => createReadStream(archive), { into: join(temporary, 'new', 'files'), uploadedBytes: bytes, limits: this.#limits }),
      );
      const info: Info = { bytes, files };
      await this.#publish(digest, join(temporary, 'new'), info);
      return { created: true, ...info };
    } catch (error) {
      if (error instanceof AlreadyThere) return { created: false, ...error.info };
      throw diskError(error);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }

  async prune(keep: Set<string>, olderThanMs: number): Promise<number> {
    const before = Date.now() - olderThanMs;
    let removed = 0;
    for (const hex of await readdir(this.#folder)) {
      const digest = `sha256:${hex}`;
      if (keep.has(digest) || !BundleDigest.safeParse(digest).success) continue;
      const path = join(this.#folder, hex);
      if ((await stat(path)).mtimeMs >= before) continue;
      // By rename first: a half-removed bundle must not look like one.
      const grave = join(this.#folder, '.tmp', randomBytes(8).toString('hex'));
      await rename(path, grave);
      // Somebody may have asked for it between the two steps.
      if ((await stat(grave)).mtimeMs >= before) {
        await rename(grave, path);
        continue;
      }
      await rm(grave, { recursive: true, force: true });
      removed++;
    }
    return removed;
  }

  #path(digest: string): string {
    // The digest becomes a path, so it is checked here too, whoever calls.
    return join(this.#folder, BundleDigest.parse(digest).slice('sha256:'.length));
  }

  async #touch(digest: string): Promise<boolean> {
    const now = new Date();
    try {
      await utimes(this.#path(digest), now, now);
      return true;
    } catch (error) {
      if (isCode(error, 'ENOENT')) return false;
      throw diskError(error);
    }
  }

  /** Passes the upload on piece by piece while hashing it. Returns its size. Throws FnError 413, 422. */
  async #receive(digest: string, data: AsyncIterable<Uint8Array>, write: (chunk: Uint8Array) => Promise<void>): Promise<number> {
    const { maxUploadBytes } = this.#limits;
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const chunk of data) {
      bytes += chunk.byteLength;
      if (bytes > maxUploadBytes) throw new FnError('body-too-large', `A bundle has at most ${maxUploadBytes} bytes.`);
      hash.update(chunk);
      await write(chunk);
    }
    const actual = hash.digest();
    if (!timingSafeEqual(actual, Buffer.from(digest.slice('sha256:'.length), 'hex'))) {
      throw new FnError(
        'invalid',
        `The ${bytes} bytes that arrived have another digest, sha256:${actual.toString('hex')}: the upload is truncated or altered.`,
        {
          errors: [{ pointer: 'path/digest', detail: 'does not match the body' }],
        },
      );
    }
    return bytes;
  }

  async #save(digest: string, data: AsyncIterable<Uint8Array>, path: string): Promise<number> {
    const file = await open(path, 'wx', 0o600);
    try {
      return await this.#receive(digest, data, async (chunk) => {
        await file.writeFile(chunk);
      });
    } finally {
      await file.close();
    }
  }

  async #publish(digest: string, folder: string, info: Info): Promise<void> {
    const file = await open(join(folder, 'info.json'), 'wx', 0o644);
    try {
      await file.writeFile(JSON.stringify(info));
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(folder, 0o755);
    await syncFolder(folder);
    try {
      await rename(folder, this.#path(digest));
    } catch (error) {
      // Another upload of the same bytes was first, which is as good.
      if (isCode(error, 'ENOTEMPTY', 'EEXIST')) throw new AlreadyThere(info);
      throw error;
    }
    await syncFolder(this.#folder);
  }

  async #limited<T>(run: () => Promise<T>): Promise<T> {
    if (this.#unpacking >= MAX_CONCURRENT_UNPACKS) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#unpacking++;
    try {
      return await run();
    } finally {
      // The place is handed over, so that none can slip in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#unpacking--;
      else next();
    }
  }
}

class AlreadyThere extends Error {
  readonly info: Info;
  constructor(info: Info) {
    super('the bundle is there already');
    this.info = info;
  }
}

function isCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.some((code) => error.code === code);
}

/** FnError store-unavailable for errors of the disk; what the upload's sender did wrong stays as it is. */
function diskError(error: unknown): unknown {
  if (!isCode(error, 'ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE')) return error;
  return new FnError('store-unavailable', `The bundle store cannot be used (${(error as Error).message}).`, {
    cause: error,
    retryAfterSeconds: 5,
  });
}
