/** How long and how often: the short form is part of `npm test`, `npm run chaos` runs the long one. */
const full = process.env.FN_CHAOS === 'full';

export const SCALE = {
  /** Load before and after a fault, ms. */
  calmMs: full ? 15_000 : 1_000,
  /** How often each fault strikes. */
  strikes: full ? 20 : 2,
  /** Instances made and ended before leaks are looked for. */
  lifecycles: full ? 1_000 : 200,
  /** For a single test, ms. */
  timeoutMs: full ? 15 * 60_000 : 170_000,
};
