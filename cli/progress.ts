/** Tells that something goes on, where it takes longer than a second and a person watches. */
import type { Output } from './context.ts';
import { formatMs } from './output.ts';

const SHOWN_AFTER_MS = 1_000;
const FRAME_MS = 100;
const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'] as const;
const CLEAR_LINE = '\r\u001b[K';

/** One line at the bottom of a terminal; nothing where the output is none, since there the lines of talk must do. */
export class Progress {
  readonly #output: Output;
  readonly #live: boolean;
  #label = '';
  #since = 0;
  #frame = 0;
  #shown = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(output: Output, env: NodeJS.ProcessEnv) {
    this.#output = output;
    this.#live = output.isTTY === true && env.TERM !== 'dumb';
  }

  /** What goes on from now on. */
  doing(label: string): void {
    if (this.#label !== label) this.#since = performance.now();
    this.#label = label;
    if (!this.#live || this.#timer) return;
    this.#timer = setInterval(() => this.#draw(), FRAME_MS);
    this.#timer.unref();
  }

  /** A line of talk, above it. */
  line(text: string): void {
    this.#clear();
    this.#output.write(`${text}\n`);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#label = '';
    this.#clear();
  }

  #draw(): void {
    const elapsedMs = performance.now() - this.#since;
    if (this.#label === '' || elapsedMs < SHOWN_AFTER_MS) return;
    this.#frame = (this.#frame + 1) % FRAMES.length;
    this.#output.write(`${CLEAR_LINE}${FRAMES[this.#frame]} ${this.#label} ${formatMs(elapsedMs)}`);
    this.#shown = true;
  }

  #clear(): void {
    if (this.#shown) this.#output.write(CLEAR_LINE);
    this.#shown = false;
  }
}
