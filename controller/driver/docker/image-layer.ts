/**
 * What a layer of an image comes to when the engine unpacks it. An archive of a megabyte can be one of
 * many gigabytes on the host's disk: so each layer is unpacked here on its way, to nowhere, and counted.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createGunzip, type Gunzip } from 'node:zlib';
import { extract, type Extract, type Pack } from 'tar-stream';

/** A layer as it would be unpacked. `fault`: why it is none that the engine should see, else null. */
export interface Layer {
  /** Of the tar, as a configuration names it among `diff_ids`. */
  diffId: string;
  bytes: number;
  /** As it came, compressed or not. */
  packedBytes: number;
  entries: number;
  fault: string | null;
}

/** What the files of an archive may come to; of a LayerReader, what is left of it. */
export interface Allowance {
  bytes: number;
  /** Files, folders and links: each takes an inode. */
  entries: number;
}

/** Programs and libraries are packed to a third; nobody needs more, but to fill a disk by sending little. */
export const MAX_RATIO = 50;
/** What an image may come to whatever its ratio, bytes. */
export const FREE_BYTES = 64 * 1024 * 1024;

/** Of all layers of an image. */
export const UNPACKED_LIMITS: Readonly<Allowance> = { bytes: 6 * 1024 * 1024 * 1024, entries: 500_000 };

/** Compressions beside gzip: their first bytes. No engine's archive has them, and here they are not unpacked. */
const FOREIGN: readonly [name: string, magic: Buffer][] = [
  ['bzip2', Buffer.from('BZh')],
  ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
  ['zstd', Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
];

/** Resolves when a stream takes more, or never will. */
export function drained(stream: Extract | ReturnType<Pack['entry']>): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      stream.off('drain', go);
      stream.off('close', go);
      resolve();
    };
    stream.on('drain', go);
    stream.on('close', go);
  });
}

/** Takes the bytes of a file of an archive, chunk by chunk, and says in the end what they are as a layer. */
export class LayerReader {
  readonly #allowance: Allowance;
  readonly #hash = createHash('sha256');
  readonly #tar: Extract = extract();
  readonly #done: Promise<void>;
  #gunzip: Gunzip | null = null;
  #unpacking: Promise<void> = Promise.resolve();
  #begun = false;
  #bytes = 0;
  #packedBytes = 0;
  #entries = 0;
  #fault: string | null = null;

  /** `allowance` is taken from as it reads. */
  constructor(allowance: Allowance) {
    this.#allowance = allowance;
    this.#done = this.#count();
    this.#done.catch((error: unknown) => this.#refuse(`is no tar (${messageOf(error)})`));
    this.#tar.on('error', told);
  }

  #refuse(why: string): void {
    this.#fault ??= why;
  }

  async write(chunk: Buffer): Promise<void> {
    this.#packedBytes += chunk.length;
    if (!this.#begun) this.#begin(chunk);
    if (this.#fault !== null) return;
    if (this.#gunzip === null) return this.#unpacked(chunk);
    if (!this.#gunzip.write(chunk)) await Promise.race([once(this.#gunzip, 'drain'), this.#unpacking]).catch(() => {}); // its end is told by end()
  }

  async end(): Promise<Layer> {
    if (this.#gunzip !== null) {
      if (this.#fault !== null) this.#gunzip.destroy();
      else this.#gunzip.end();
      await this.#unpacking;
    }
    if (this.#fault === null) this.#tar.end(null);
    else this.#tar.destroy();
    await this.#done.catch(() => {}); // it is the fault by now
    return {
      diffId: `sha256:${this.#hash.digest('hex')}`,
      bytes: this.#bytes,
      packedBytes: this.#packedBytes,
      entries: this.#entries,
      fault: this.#fault,
    };
  }

  #begin(chunk: Buffer): void {
    this.#begun = true;
    const foreign = FOREIGN.find(([, magic]) => chunk.subarray(0, magic.length).equals(magic));
    if (foreign) this.#refuse(`is compressed by ${foreign[0]}; gzip is taken, and none`);
    if (chunk[0] !== 0x1f || chunk[1] !== 0x8b) return;
    const gunzip = createGunzip();
    gunzip.on('error', told);
    this.#gunzip = gunzip;
    this.#unpacking = (async () => {
      try {
        for await (const part of gunzip as AsyncIterable<Buffer>) await this.#unpacked(part);
      } catch (error) {
        this.#refuse(`cannot be unpacked (${messageOf(error)})`);
      }
    })();
  }

  async #unpacked(chunk: Buffer): Promise<void> {
    this.#bytes += chunk.length;
    this.#allowance.bytes -= chunk.length;
    if (this.#allowance.bytes < 0) {
      this.#refuse(`makes the image larger than it may be when it is unpacked`);
      this.#gunzip?.destroy();
      return;
    }
    this.#hash.update(chunk);
    if (this.#fault !== null || this.#tar.destroying) return;
    if (!this.#tar.write(chunk)) await drained(this.#tar);
  }

  async #count(): Promise<void> {
    for await (const entry of this.#tar) {
      this.#entries++;
      const { type, pax } = entry.header;
      if (--this.#allowance.entries < 0) this.#refuse(`makes the image more files than it may have`);
      // The engine would write out the holes of a sparse file, and they can be of any size.
      if (type === null || type === undefined || Object.keys(pax ?? {}).some((key) => key.startsWith('GNU.sparse.')))
        this.#refuse(`holds ${JSON.stringify(entry.header.name.slice(0, 200))}, which is a sparse file or of no known type`);
      if (this.#fault !== null) return;
      entry.resume();
    }
  }
}

/** Who iterates hears of it; one that comes after that must not end the process. */
function told(): void {}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
