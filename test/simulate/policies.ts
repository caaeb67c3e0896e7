/** The policies that are compared, by name: `fixed:10`, `hybrid:240`, `adaptive`, `adaptive:110:0.25`. */
import { ADAPTIVE, adaptive } from '../../controller/core/keep-alive/adaptive.ts';
import { BIN_MS, BINS } from '../../controller/core/keep-alive/history.ts';
import { hybrid } from '../../controller/core/keep-alive/hybrid.ts';
import { fixed, rarely } from '../../controller/core/keep-alive/policy.ts';
import type { PolicyPerFunction } from './replay.ts';

/** What each waste is related to: this one's is 100. */
export const BASE = 'fixed:10';

export const COMPARED: readonly string[] = [
  'fixed:5',
  BASE,
  'fixed:20',
  'fixed:60',
  'fixed:120',
  'hybrid:60',
  'hybrid:240',
  'adaptive',
  'adaptive:110:0.25',
];

/** Throws for a name that says none. */
export function policyOf(name: string): PolicyPerFunction {
  const [kind, first, second, ...rest] = name.split(':');
  const [a, b] = [first, second].map((text) => (text === undefined ? undefined : Number(text)));
  const known = rest.length === 0 && [a, b].every((number) => number === undefined || number >= 0);
  if (known && kind === 'fixed' && a !== undefined && b === undefined) return () => fixed(a * BIN_MS);
  if (known && kind === 'hybrid' && b === undefined && Number.isInteger(a ?? BINS) && (a ?? BINS) >= 1 && (a ?? BINS) <= BINS)
    return () => hybrid(a);
  if (known && kind === 'adaptive' && a !== 0) {
    const policy = adaptive({ ...ADAPTIVE, worthMinutes: a ?? ADAPTIVE.worthMinutes, startMinutes: b ?? ADAPTIVE.startMinutes });
    return () => rarely(policy);
  }
  throw new Error(`${name} is no policy: fixed:MINUTES, hybrid[:RANGE up to ${BINS}], adaptive[:WORTH[:START]], in minutes`);
}
