/** Logs of functions in a folder of this host: one folder per function. */
import { appendFile, mkdir, readdir, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogFile, LogFiles } from '../store/types.ts';

/** The disk is the limit; each function has its own. */
export class LogFolder implements LogFiles {
  readonly overfull = false;
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Logs as they were kept before there were segments: two files beside the folder. A line that was cut off in them is nobody's. */
  async prepare(log: string): Promise<void> {
    const folder = this.#path(log);
    for (const [index, old] of [`${folder}.jsonl.1`, `${folder}.jsonl`].entries()) {
      if ((await stat(old).catch(ignoreMissing)) === null) continue;
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await appendFile(old, '\n{"c":{"d":0}}\n');
      await rename(old, join(folder, `${String(index + 1).padStart(10, '0')}.jsonl`));
    }
  }

  async logs(): Promise<string[]> {
    const found: string[] = [];
    for (const namespace of await foldersIn(this.#folder))
      for (const name of await foldersIn(join(this.#folder, namespace))) found.push(`${namespace}/${name}`);
    return found;
  }

  async list(log: string): Promise<LogFile[]> {
    const names = (await readdir(this.#path(log)).catch(ignoreMissing)) ?? [];
    const files: LogFile[] = [];
    for (const name of names.toSorted()) {
      const found = await stat(this.#path(log, name)).catch(ignoreMissing);
      if (found !== null) files.push({ name, bytes: found.size, changedAt: found.mtimeMs });
    }
    return files;
  }

  read(log: string, name: string): Promise<Buffer | null> {
    return readFile(this.#path(log, name)).catch(ignoreMissing);
  }

  async append(log: string, name: string, data: Buffer): Promise<void> {
    const path = this.#path(log, name);
    try {
      await appendFile(path, data, { mode: 0o600 });
    } catch (error) {
      if (!isMissing(error)) throw error;
      await mkdir(this.#path(log), { recursive: true, mode: 0o700 });
      await appendFile(path, data, { mode: 0o600 });
    }
  }

  async truncate(log: string, name: string, bytes: number): Promise<void> {
    await truncate(this.#path(log, name), bytes).catch(ignoreMissing);
  }

  async rename(log: string, from: string, to: string): Promise<void> {
    await rename(this.#path(log, from), this.#path(log, to)).catch(ignoreMissing);
  }

  async remove(log: string, name: string): Promise<void> {
    await rm(this.#path(log, name), { force: true });
  }

  async removeLog(log: string): Promise<void> {
    await rm(this.#path(log), { recursive: true, force: true });
  }

  /** Nobody asks where there is never too much. */
  async oldest(): Promise<null> {
    return null;
  }

  #path(log: string, ...name: string[]): string {
    return join(this.#folder, log, ...name);
  }
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT';

function ignoreMissing(error: unknown): null {
  if (isMissing(error)) return null;
  throw error;
}

async function foldersIn(folder: string): Promise<string[]> {
  const found = (await readdir(folder, { withFileTypes: true }).catch(ignoreMissing)) ?? [];
  return found.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
