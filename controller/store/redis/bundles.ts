/**
 * Bundles in Redis, for controllers that share no folder; unpacked into a folder of this host where they are needed:
 *
 *     bundles              hash HEX → { bytes, files, chunks }
 *     bundle-times         sorted set of HEX, by when each was asked for last (ms since 1970)
 *     bundle:HEX:N         the archive as it was uploaded, in pieces
 *     upload:RANDOM:N      pieces of an upload in progress; they go by themselves
 *
 * What comes out is checked against its digest again, by the folder that it is unpacked into.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { FnError } from '#contract/errors.ts';
import { BundleDigest } from '#contract/names.ts';
import { parseJson, readable } from '../stored.ts';
import type { BundleStore } from '../types.ts';
import { asBytes, asTexts } from './replies.ts';
import { defineWrite, type RedisTerm } from './term.ts';

/** Bytes of a piece. Redis does nothing else while it takes one: at 1 GB/s, 1 ms. */
const CHUNK_BYTES = 1024 * 1024;
/** An upload may take so long; longer than the API lets one take. */
const UPLOAD_SECONDS = 3_600;

const Info = z.object({ bytes: z.number().int(), files: z.number().int(), chunks: z.number().int().nonnegative() });
type Info = z.infer<typeof Info>;

/** KEYS: bundles, bundle-times. ARGV: HEX, info, now, chunks, what the upload's pieces begin with, what the bundle's do. Returns 1 where it was made. */
const PUBLISH = defineWrite(`
local chunks = tonumber(ARGV[6])
redis.call('ZADD', KEYS[3], ARGV[5], ARGV[3])
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then return 0 end
for i = 0, chunks - 1 do
  if redis.call('EXISTS', ARGV[7] .. i) == 0 then
    return redis.error_reply('FN store-unavailable A piece of the upload is no longer there: send it again.')
  end
end
for i = 0, chunks - 1 do
  redis.call('RENAME', ARGV[7] .. i, ARGV[8] .. i)
  redis.call('PERSIST', ARGV[8] .. i)
end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 1
`);

/** KEYS: bundles, bundle-times. ARGV: HEX, now. */
const TOUCH = defineWrite(`
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 0 then return 0 end
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[3])
return 1
`);

/** KEYS: bundles, bundle-times. ARGV: HEX, before, what its pieces begin with, their number. Returns 1 where it was removed. */
const REMOVE = defineWrite(`
local asked = redis.call('ZSCORE', KEYS[3], ARGV[3])
if asked and tonumber(asked) >= tonumber(ARGV[4]) then return 0 end
redis.call('ZREM', KEYS[3], ARGV[3])
for i = 0, tonumber(ARGV[6]) - 1 do redis.call('UNLINK', ARGV[5] .. i) end
return redis.call('HDEL', KEYS[2], ARGV[3])
`);

export interface RedisBundleStoreOptions {
  /** Of the store: bundles are written under the same term. */
  term: RedisTerm;
  /** The folder of this host, which checks and unpacks. */
  cache: BundleStore;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export function openRedisBundleStore({ term, cache, now = Date.now }: RedisBundleStoreOptions): BundleStore {
  return new RedisBundleStore(term, cache, now);
}

/** `sha256:HEX` → HEX. The digest becomes a key, so it is checked here too, whoever calls. */
const hexOf = (digest: string): string => BundleDigest.parse(digest).slice('sha256:'.length);

class RedisBundleStore implements BundleStore {
  readonly #term: RedisTerm;
  readonly #cache: BundleStore;
  readonly #now: () => number;
  /** One fetch for all that wait for the same bundle. */
  readonly #fetching = new Map<string, Promise<string>>();

  constructor(term: RedisTerm, cache: BundleStore, now: () => number) {
    this.#term = term;
    this.#cache = cache;
    this.#now = now;
  }

  /** Who asks is about to deploy it, so asking makes a bundle young again for prune(). */
  async has(digest: string): Promise<boolean> {
    return (await this.#term.write(TOUCH, this.#index(), [hexOf(digest), this.#now()])) === 1;
  }

  async info(digest: string): Promise<{ bytes: number; files: number } | null> {
    const info = await this.#info(hexOf(digest));
    return info === null ? null : { bytes: info.bytes, files: info.files };
  }

  /** Unpacked before: there, also while Redis is away. */
  async dir(digest: string): Promise<string> {
    if ((await this.#cache.info(digest)) !== null) return this.#cache.dir(digest);
    let fetching = this.#fetching.get(digest);
    if (fetching === undefined) {
      fetching = this.#fetch(digest).finally(() => this.#fetching.delete(digest));
      this.#fetching.set(digest, fetching);
    }
    return fetching;
  }

  async put(digest: string, data: AsyncIterable<Uint8Array>): Promise<{ created: boolean; bytes: number; files: number }> {
    const hex = hexOf(digest);
    if (await this.has(digest)) {
      const { bytes, files } = await this.#cache.put(digest, data);
      return { created: false, bytes, files };
    }
    const upload = this.#key(`upload:${randomBytes(8).toString('hex')}:`);
    const progress = { chunks: 0 };
    try {
      const { bytes, files } = await this.#cache.put(digest, this.#kept(upload, data, progress));
      const info: Info = { bytes, files, chunks: progress.chunks };
      const args = [hex, JSON.stringify(info), this.#now(), info.chunks, upload, this.#key(`bundle:${hex}:`)];
      const created = (await this.#term.write(PUBLISH, this.#index(), args)) === 1;
      if (!created) await this.#forget(upload, progress.chunks);
      return { created, bytes, files };
    } catch (error) {
      await this.#forget(upload, progress.chunks);
      throw error;
    }
  }

  async prune(keep: Set<string>, olderThanMs: number): Promise<number> {
    const before = this.#now() - olderThanMs;
    const [bundles, times] = this.#index();
    const old = asTexts(await this.#term.connection.call('ZRANGEBYSCORE', times!, '-inf', `(${before}`));
    let removed = 0;
    for (const hex of old) {
      if (keep.has(`sha256:${hex}`)) continue;
      const info = await this.#info(hex);
      const args = [hex, before, this.#key(`bundle:${hex}:`), info?.chunks ?? 0];
      if ((await this.#term.write(REMOVE, [bundles!, times!], args)) === 1) removed++;
    }
    // What is gone here is fetched again when it is needed.
    await this.#cache.prune(keep, olderThanMs);
    return removed;
  }

  #key(name: string): string {
    return this.#term.connection.key(name);
  }

  #index(): string[] {
    return [this.#key('bundles'), this.#key('bundle-times')];
  }

  async #info(hex: string): Promise<Info | null> {
    const text = await this.#term.connection.call('HGET', this.#key('bundles'), hex);
    return text === null ? null : readable(Info.safeParse(parseJson(String(text))), `bundle sha256:${hex}`);
  }

  async #fetch(digest: string): Promise<string> {
    const hex = hexOf(digest);
    const info = await this.#info(hex);
    if (info === null) throw new FnError('not-found', `The bundle ${digest} is not in the store.`);
    try {
      await this.#cache.put(digest, this.#chunks(hex, info.chunks));
    } catch (error) {
      if (!(error instanceof FnError) || error.code === 'store-unavailable') throw error;
      // What the sender of an upload would have done wrong is damage here.
      throw new FnError('store-unavailable', `The stored bundle ${digest} is damaged: deploy it again. ${error.message}`, { cause: error });
    }
    return this.#cache.dir(digest);
  }

  async *#chunks(hex: string, chunks: number): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < chunks; index++) {
      const chunk = await this.#term.connection.callBuffer('GET', this.#key(`bundle:${hex}:${index}`));
      if (chunk === null) throw new FnError('store-unavailable', `A piece of the stored bundle sha256:${hex} is gone: deploy it again.`);
      yield asBytes(chunk);
    }
  }

  /** Passes the upload on and keeps it in pieces on the way, no faster than Redis takes them. */
  async *#kept(upload: string, data: AsyncIterable<Uint8Array>, progress: { chunks: number }): AsyncGenerator<Uint8Array> {
    let waiting: Uint8Array[] = [];
    let bytes = 0;
    const flush = async () => {
      const piece = Buffer.concat(waiting);
      waiting = [];
      bytes = 0;
      await this.#term.connection.call('SET', `${upload}${progress.chunks++}`, piece, 'EX', UPLOAD_SECONDS);
    };
    for await (const chunk of data) {
      // It may be a view of memory that the sender uses again once it is asked for more.
      waiting.push(Buffer.from(chunk));
      bytes += chunk.byteLength;
      yield chunk;
      if (bytes >= CHUNK_BYTES) await flush();
    }
    if (bytes > 0) await flush();
  }

  /** Where Redis cannot be told, the pieces go by themselves, and what went wrong before is what is worth telling. */
  async #forget(upload: string, chunks: number): Promise<void> {
    const keys = Array.from({ length: chunks }, (_, index) => `${upload}${index}`);
    if (keys.length > 0) await this.#term.connection.call('UNLINK', ...keys).catch(() => {});
  }
}
