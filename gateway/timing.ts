/** Where the time of a request went, as the Server-Timing header says it. Milliseconds. */
import type { StartInfo } from '#contract/link.ts';

export interface Timing {
  /** When its head had been read (monotonic, as the others). */
  arrivedAt: number;
  /** When it asked for a slot first; null where it has not. */
  askedAt: number | null;
  /** When it was sent to an instance last. */
  sentAt: number | null;
  /** How the instance came to be that it waited for; null for one that was there. */
  start: StartInfo | null;
}

/** Those that fit into a whole number of 31 bits. */
const MAX_HUNDREDTHS = 2 ** 31 - 1;

/** Milliseconds with two decimals at most, as a number is written: by whole numbers, which costs a fraction of writing a fraction. */
export function ms(value: number): string {
  const hundredths = Math.round(value * 100);
  if (!(hundredths >= 0 && hundredths <= MAX_HUNDREDTHS)) return String(hundredths / 100);
  const whole = (hundredths / 100) | 0;
  const rest = hundredths - whole * 100;
  if (rest === 0) return `${whole}`;
  if (rest % 10 === 0) return `${whole}.${rest / 10}`;
  return rest < 10 ? `${whole}.0${rest}` : `${whole}.${rest}`;
}

/**
 * `fn`: until the response began, with how warm it was. `queue`: waiting for a slot, beside what the
 * start of the instance took (`start`, `init`; of `init`, `place` for limits and code, and `load` for the module). `handler`:
 * from sending it to the first of the response.
 */
export function serverTiming({ arrivedAt, askedAt, sentAt, start }: Timing, now: number): string {
  const waited = askedAt === null ? 0 : (sentAt ?? now) - askedAt;
  const handler = sentAt === null ? 0 : now - sentAt;
  const total = ms(now - arrivedAt);
  if (start === null) return `fn;desc="warm";dur=${total}, queue;dur=${ms(waited)}, start;dur=0, init;dur=0, handler;dur=${ms(handler)}`;
  const queued = Math.max(0, waited - start.startMs - start.initMs);
  const { kind, startMs, initMs, placeMs, loadMs } = start;
  const steps = placeMs === undefined || loadMs === undefined ? '' : `, place;dur=${ms(placeMs)}, load;dur=${ms(loadMs)}`;
  return `fn;desc="${kind}";dur=${total}, queue;dur=${ms(queued)}, start;dur=${ms(startMs)}, init;dur=${ms(initMs)}${steps}, handler;dur=${ms(handler)}`;
}
