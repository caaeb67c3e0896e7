/** A clock that tells processes the wrong time, and can be set while they run: Debian's libfaketime. Only the time of day: the monotonic clock goes on. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

function library(): string {
  for (const triplet of readdirSync('/usr/lib')) {
    const path = join('/usr/lib', triplet, 'faketime', 'libfaketime.so.1');
    if (triplet.endsWith('-linux-gnu') && readdirSync(join('/usr/lib', triplet)).includes('faketime')) return path;
  }
  throw new Error('libfaketime is not installed: sudo apt-get install libfaketime');
}

/** The same for Node's programs that are given no library: the dispatcher's environment is made anew. */
const preload = (file: string): string => `
import { readFileSync } from 'node:fs';
if (!process.env.LD_PRELOAD?.includes('faketime')) {
  const real = Date;
  const now = () => real.now() + Number(readFileSync(${JSON.stringify(file)}, 'utf8')) * 1000;
  globalThis.Date = class extends real {
    constructor(...given) {
      super(...(given.length === 0 ? [now()] : given));
    }
    static now() {
      return now();
    }
  };
}
`;

export class FalseTime {
  readonly #folder = mkdtempSync(join(tmpdir(), 'fn-time-'));
  readonly #file = join(this.#folder, 'offset');

  readonly #preload = join(this.#folder, 'preload.mjs');

  constructor() {
    this.set(0);
    writeFileSync(this.#preload, preload(this.#file));
  }

  /** For whoever is to believe it. */
  get env(): Record<string, string> {
    return {
      LD_PRELOAD: library(),
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      FAKETIME_NO_CACHE: '1',
      NODE_OPTIONS: `--import=${this.#preload}`,
    };
  }

  /** Jumps, seconds beside the real time. */
  set(seconds: number): void {
    writeFileSync(this.#file, `${seconds < 0 ? '' : '+'}${seconds}\n`, { mode: 0o644 });
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
