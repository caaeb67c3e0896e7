/** How long and how often: the short form is part of `npm test`, `npm run chaos` runs the long one. */
const full = process.env.FN_CHAOS === 'full';

export const SCALE = {
  full,
  /** An engine, a Redis, a network is away for so long, ms. */
  awayMs: full ? 30_000 : 5_000,
  /** Load before and after a fault, ms. */
  calmMs: full ? 15_000 : 1_000,
  /** How often each fault strikes. */
  strikes: full ? 20 : 2,
  /** Instances made and ended before leaks are looked for. */
  lifecycles: full ? 1_000 : 200,
  /** Events sent in all while parts die, and how often each part does. */
  events: full ? 100_000 : 4_500,
  eventRounds: full ? 3 : 1,
  /** Of each of the senders. */
  eventsPerSecond: full ? 150 : 40,
  /** Sent while a controller is taken over from. */
  takeoverEvents: full ? 5_000 : 800,
  betweenFaultsMs: full ? 5_000 : 1_500,
  /** Longer than a dispatcher that does not beat is believed in. */
  frozenMs: 12_000,
  /** For all that is left to be done, ms. */
  settleMs: full ? 300_000 : 60_000,
  /** For a single test, ms. */
  timeoutMs: full ? 15 * 60_000 : 300_000,
};
