/**
 * Small files that are read again when they change. They are looked at every few seconds rather than watched: where
 * they lie in a Kubernetes Secret, what changes is a link in a folder beside, and no event names them.
 */
import { readFileSync } from 'node:fs';
import type { Log } from './log.ts';

/** How often they are looked at, ms. */
export const FOLLOW_EVERY_MS = 2_000;

export interface FollowedFilesOptions {
  paths: readonly string[];
  /** With the content of each, at first and at each change. Throws where they cannot be used: those before them stay in use. */
  use: (texts: readonly string[]) => void;
  log: Log;
  everyMs?: number | undefined;
}

export class FollowedFiles {
  readonly #options: FollowedFilesOptions;
  #used: string | null = null;
  #complaint: string | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: FollowedFilesOptions) {
    this.#options = options;
  }

  /** Reads them, and follows them from then on. Throws where they cannot be read or used. */
  start(): void {
    this.#read();
    this.#timer = setInterval(() => this.#look(), this.#options.everyMs ?? FOLLOW_EVERY_MS).unref();
  }

  /** Idempotent. */
  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    const { log, paths } = this.#options;
    try {
      if (this.#read()) log.info({ paths }, 'files were read again: they have changed');
      this.#complaint = null;
    } catch (error) {
      // Of two that belong together one may be there before the other: it is looked at again.
      const complaint = error instanceof Error ? error.message : String(error);
      if (complaint !== this.#complaint)
        log.error({ paths, error: complaint }, 'files have changed and cannot be used; those before stay in use');
      this.#complaint = complaint;
    }
  }

  /** Whether they were new. */
  #read(): boolean {
    const { paths, use } = this.#options;
    const texts = paths.map((path) => readFileSync(path, 'utf8'));
    const all = JSON.stringify(texts);
    if (all === this.#used) return false;
    use(texts);
    this.#used = all;
    return true;
  }
}
