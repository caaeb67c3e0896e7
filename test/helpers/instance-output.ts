/** What an instance writes, as a driver gives it to who reads its logs. */
import type { LogChunk } from '../../controller/driver/types.ts';

/** What it wrote so far; readers wait for more until it ends. */
export class Output {
  readonly chunks: LogChunk[] = [];
  ended = false;
  failures = 0;
  #wake = new Set<() => void>();

  write(text: string, stream: 'stdout' | 'stderr' = 'stdout'): void {
    this.chunks.push({ stream, data: Buffer.from(text), position: String(this.chunks.length + 1) });
    this.wake();
  }

  end(): void {
    this.ended = true;
    this.wake();
  }

  wake(): void {
    for (const wake of this.#wake) wake();
  }

  read = async function* (this: Output, after: string | null, signal: AbortSignal): AsyncGenerator<LogChunk> {
    for (let next = Number(after ?? 0); !signal.aborted;) {
      if (this.failures > 0) {
        this.failures -= 1;
        throw new Error('the engine went away');
      }
      const chunk = this.chunks[next];
      if (chunk) {
        next += 1;
        yield chunk;
      } else if (this.ended) return;
      else
        await new Promise<void>((resolve) => {
          const wake = () => {
            this.#wake.delete(wake);
            resolve();
          };
          this.#wake.add(wake);
          signal.addEventListener('abort', wake, { once: true });
        });
    }
  }.bind(this);
}
