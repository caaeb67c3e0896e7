/** A revision as the plan sees it: its share of the requests, who asks for it, and how its starts went. */
import type { Problem } from '#contract/errors.ts';
import type { Revision } from '#contract/function.ts';
import type { GatewayKey } from './instance.ts';
import { newFunctionUse, type FunctionUse } from './keep-alive/use.ts';

/** What a gateway asks for of a revision. */
export interface Demand {
  waiting: number;
  inFlight: number;
  oldestDeadline: number | null;
  serviceMs: number;
  /** W3C context of the oldest waiter. */
  traceparent?: string | undefined;
  /** Monotonic ms since when somebody waits; null while nobody does. */
  since: number | null;
}

export interface RevisionState {
  key: string;
  revision: Revision;
  /** As deployed, or, where the deployment left it to the handler form, known once the code was loaded for the first time. */
  slots: number | null;
  /** Gateways know it: by its share, or by its preview URL alone. */
  routed: boolean;
  /** Its share of the function's requests; 0: none but by its preview URL. */
  percent: number;
  /** When it lost its share, monotonic ms; null: it never had one, or has one. */
  lostShareAt: number | null;
  /** Instances that a deployment in progress asks for. */
  floor: number;
  demand: Map<GatewayKey, Demand>;
  /** Failed starts in a row, and when the next may be tried (monotonic ms). */
  failures: number;
  /** Instances in a row that ended before any gateway had a lease of them. */
  deaths: number;
  /** Instances that drained themselves one after the other, and when the last did (monotonic ms). */
  refusals: number;
  refusedAt: number;
  notBefore: number;
  problem: Problem | null;
  /** Whether a gateway ever had a lease of it. A revision from the store counts as granted: who knows. */
  granted: boolean;
  /** The instance that went last died rather than was stopped. */
  lastDied: boolean;
  /** When the function is used; that of all its revisions. */
  use: FunctionUse;
}

/** State of a revision that nothing is known of but what is stored: no demand, no failures, no share. */
export function newRevisionState(revision: Revision, slots: number | null, use: FunctionUse = newFunctionUse()): RevisionState {
  return {
    key: revision.key,
    revision,
    slots,
    routed: false,
    percent: 0,
    lostShareAt: null,
    floor: 0,
    demand: new Map(),
    failures: 0,
    deaths: 0,
    refusals: 0,
    refusedAt: -Infinity,
    notBefore: 0,
    problem: null,
    granted: false,
    lastDied: false,
    use,
  };
}

/** [16] Instances that are always ready: its share of `min`, rounded up. */
export const minOf = ({ percent, revision }: RevisionState): number => Math.ceil((revision.settings.min * percent) / 100);
