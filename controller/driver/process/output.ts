/**
 * What a process writes to stdout or stderr: a file that it appends to, so that nothing is lost while
 * no controller runs. A file over its cap is copied aside and emptied ("copytruncate"): the process
 * keeps its file descriptor, and all that is kept is two caps.
 *
 * A position counts bytes from the beginning of all that was ever written: `STDOUT.STDERR`.
 */
import { closeSync, openSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { copyFile, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep } from '#kit/clock.ts';
import type { LogChunk } from '../types.ts';
import { isMissing } from '../workspace.ts';

/** Bytes of one stream before its file is put aside. */
export const OUTPUT_CAP_BYTES = 2 * 1024 * 1024;
/** Longest piece that is read at a time, bytes. */
const READ_BYTES = 64 * 1024;
/** How often a follower looks for more, ms. */
const FOLLOW_MS = 100;

const STREAMS = ['stdout', 'stderr'] as const;
type Stream = (typeof STREAMS)[number];

export class ProcessOutput {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Opens both files for a process to append to. The caller closes them. */
  openForProcess(): { stdout: number; stderr: number; close: () => void } {
    const stdout = openSync(this.#path('stdout'), 'a', 0o600);
    const stderr = openSync(this.#path('stderr'), 'a', 0o600);
    const close = () => {
      closeSync(stdout);
      closeSync(stderr);
    };
    return { stdout, stderr, close };
  }

  /** Puts aside what is over the cap. */
  async rotate(capBytes = OUTPUT_CAP_BYTES): Promise<void> {
    for (const stream of STREAMS) {
      const size = await sizeOf(this.#path(stream));
      if (size <= capBytes) continue;
      const base = await this.#base(stream);
      await copyFile(this.#path(stream), `${this.#path(stream)}.1`);
      const copied = await sizeOf(`${this.#path(stream)}.1`);
      // In one go, so that a reader that finds the same base before and after has read the right file.
      writeFileSync(`${this.#path(stream)}.base.new`, String(base + copied));
      renameSync(`${this.#path(stream)}.base.new`, `${this.#path(stream)}.base`);
      truncateSync(this.#path(stream), 0);
    }
  }

  /** The end of stderr, for the reason of a crash. */
  async stderrTail(bytes: number): Promise<string> {
    const size = await sizeOf(this.#path('stderr'));
    const data = await readAt(this.#path('stderr'), Math.max(0, size - bytes), bytes);
    return data.toString('utf8');
  }

  /** What was written after a position and what comes, until the process has ended (and all is read) or `signal` aborts. */
  async *follow(after: string | null, hasEnded: () => boolean, signal: AbortSignal): AsyncGenerator<LogChunk> {
    const at = after === null ? { stdout: 0, stderr: 0 } : parsePosition(after);
    while (!signal.aborted) {
      // Asked before reading: what was written before the end is then read for sure.
      const last = hasEnded();
      let found = false;
      for (const stream of STREAMS) {
        const piece = await this.#read(stream, at[stream]);
        if (piece.data.length === 0) continue;
        found = true;
        const lostBytes = piece.from - at[stream];
        at[stream] = piece.from + piece.data.length;
        yield { stream, data: piece.data, position: `${at.stdout}.${at.stderr}`, ...(lostBytes > 0 ? { lostBytes } : {}) };
      }
      if (found) continue;
      if (last) return;
      await sleep(FOLLOW_MS, signal).catch(() => {}); // Aborted: the loop ends.
    }
  }

  #path(stream: Stream): string {
    return join(this.#dir, stream);
  }

  /** How much was written before the first byte of the current file. */
  async #base(stream: Stream): Promise<number> {
    try {
      return Number(await readFile(`${this.#path(stream)}.base`, 'utf8'));
    } catch (error) {
      if (isMissing(error)) return 0;
      throw error;
    }
  }

  /** The next piece from a place on; from later where that was dropped already. */
  async #read(stream: Stream, place: number): Promise<{ from: number; data: Buffer }> {
    for (;;) {
      const base = await this.#base(stream);
      const piece = await this.#readAbove(stream, place, base);
      if ((await this.#base(stream)) === base) return piece;
    }
  }

  async #readAbove(stream: Stream, place: number, base: number): Promise<{ from: number; data: Buffer }> {
    if (place < base) {
      const aside = `${this.#path(stream)}.1`;
      const from = Math.max(place, base - (await sizeOf(aside)));
      const data = await readAt(aside, (await sizeOf(aside)) - (base - from), READ_BYTES);
      if (data.length > 0) return { from, data };
      return { from: base, data: await readAt(this.#path(stream), 0, READ_BYTES) };
    }
    return { from: place, data: await readAt(this.#path(stream), place - base, READ_BYTES) };
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (isMissing(error)) return 0;
    throw error;
  }
}

async function readAt(path: string, offset: number, length: number): Promise<Buffer> {
  let file;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (isMissing(error)) return Buffer.alloc(0);
    throw error;
  }
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

function parsePosition(text: string): Record<Stream, number> {
  const match = /^(\d+)\.(\d+)$/.exec(text);
  if (!match) throw new Error(`not a position in an output: ${JSON.stringify(text)}`);
  return { stdout: Number(match[1]), stderr: Number(match[2]) };
}
