/**
 * How often and from where properties are tried. The seed is fixed, so that a failure is found again by whoever
 * looks for it; fast-check prints it with the smallest case. For long searches:
 *
 *     FN_FUZZ_SEED=$RANDOM FN_FUZZ_TIMES=50 npx vitest run --config test/vitest.config.ts test/conformance/framing.test.ts
 */
import type { Parameters } from 'fast-check';

const SEED = Number(process.env.FN_FUZZ_SEED ?? 20_261_121);
const TIMES = Number(process.env.FN_FUZZ_TIMES ?? 1);

/** `runs`: as many as a property can afford in `npm test`. */
export const fuzzed = <T>(runs: number): Parameters<T> => ({ seed: SEED, numRuns: runs * TIMES, endOnFailure: TIMES > 1 });

/** How long a property that takes `ms` at one time may take, ms. */
export const fuzzTimeoutMs = (ms: number): number => ms * TIMES;
