export interface BackoffOptions {
  baseMs: number;
  maxMs: number;
  /** 0: none. 1: anywhere between 0 and the full delay ("full jitter", Brooker 2015). */
  jitter?: number;
  random?: () => number;
}

/** Delay before attempt `attempt` (1 is the first retry): base × 2^(attempt − 1), capped, with jitter. */
export function backoffMs(attempt: number, { baseMs, maxMs, jitter = 0.5, random = Math.random }: BackoffOptions): number {
  const full = Math.min(maxMs, baseMs * 2 ** Math.min(30, Math.max(0, attempt - 1)));
  return full * (1 - jitter * random());
}
