/**
 * When a function is used, and what follows from it for its instances: how long they stay, and when one is brought up before the next
 * use. A function is in use while somebody waits for it or a gateway has a lease of any of its instances; its revisions share all this.
 */
import type { RevisionState, World } from '../world.ts';
import { adaptive } from './adaptive.ts';
import { newHistory, observe, type IdleHistory } from './history.ts';
import { excessKeepMs, rarely, type KeepAlivePolicy, type Stay } from './policy.ts';

export interface FunctionUse {
  history: IdleHistory;
  readonly policy: KeepAlivePolicy;
  /** Revisions that are in use. */
  readonly busy: Set<string>;
  /** Monotonic ms; null: it is in use, or was never. */
  idleSince: number | null;
  /** It has changed since it was written down. */
  changed: boolean;
  /** How often it was used since an instance is there, and the clock of evictions at the last of them (eviction.ts). */
  uses: number;
  clock: number;
}

/** Share of the traffic, percent, from which on a revision is the one that is brought up. */
const MAIN_SHARE = 50;

const ADAPTIVE_POLICY = adaptive();

export const newFunctionUse = (history: IdleHistory = newHistory(), idleSince: number | null = null): FunctionUse => ({
  history,
  policy: rarely(ADAPTIVE_POLICY),
  busy: new Set(),
  idleSince,
  changed: false,
  uses: 0,
  clock: 0,
});

function inUse(world: World, key: string): boolean {
  const revision = world.revisions.get(key);
  if (revision === undefined) return false;
  if (revision.demand.size > 0) return true;
  for (const instance of world.instancesOf(key)) if (instance.leases.size > 0) return true;
  return false;
}

function hasInstance(world: World, key: string): boolean {
  for (const { state } of world.instancesOf(key)) if (state.kind !== 'specialising' && state.kind !== 'draining') return true;
  return false;
}

/** To be called whenever something has changed of a revision: takes down whether the function is in use, and for how long it was not. */
export function noteUse(world: World, { key, use }: RevisionState, now: number): void {
  const wasBusy = use.busy.size > 0;
  if (inUse(world, key)) use.busy.add(key);
  else for (const other of use.busy) if (!inUse(world, other)) use.busy.delete(other);
  const isBusy = use.busy.size > 0;
  if (isBusy && !wasBusy) use.uses = hasInstance(world, key) ? use.uses + 1 : 1;
  if (isBusy !== wasBusy) use.clock = world.evictionClock;
  if (isBusy && use.idleSince !== null) {
    observe(use.history, now - use.idleSince);
    use.idleSince = null;
    use.changed = true;
  } else if (wasBusy && !isBusy) {
    use.idleSince = now;
    use.changed = true;
  }
}

/** What the policy says of the function now. */
export const stayOf = ({ policy, history }: FunctionUse): Stay => policy(history);

/** When an instance is brought up and given up without anybody having asked, monotonic ms; null: not at all. */
export function prewarmOf(revision: RevisionState): { from: number; until: number } | null {
  const { use, percent, routed, failures } = revision;
  if (revision.revision.settings.keepAliveSeconds !== 'auto' || use.idleSince === null) return null;
  if (!routed || percent < MAIN_SHARE || failures > 0) return null;
  const { prewarm } = stayOf(use);
  return prewarm && { from: use.idleSince + prewarm.fromMs, until: use.idleSince + prewarm.untilMs };
}

export function isPrewarmTime(revision: RevisionState, now: number): boolean {
  const range = prewarmOf(revision);
  return range !== null && now >= range.from && now < range.until;
}

/** When the answer to isPrewarmTime() changes next; null: not while nobody comes. */
export function nextPrewarmAt(revision: RevisionState, now: number): number | null {
  const range = prewarmOf(revision);
  if (range === null || now >= range.until) return null;
  return now < range.from ? range.from : range.until;
}

export interface IdleInstance {
  /** Monotonic ms. */
  idleSince: number;
  /** Of its revision's idle instances that which was used last: the policy decides on it. */
  last: boolean;
  /** It was brought up before anybody came, and nobody has come yet. */
  unasked: boolean;
}

/** Until when an idle instance of a function with keep-alive `auto` stays, monotonic ms. */
export function staysUntil(revision: RevisionState, { idleSince, last, unasked }: IdleInstance, now: number): number {
  const { use } = revision;
  const stay = stayOf(use);
  // What was deployed while nobody used the function, and what is more than one while somebody does, has a time of its own.
  const beside = unasked ? idleSince : idleSince + excessKeepMs(stay);
  if (!last || use.idleSince === null) return beside;
  const range = prewarmOf(revision);
  if (range !== null && now >= range.from && now < range.until) return range.until;
  return Math.max(beside, use.idleSince + stay.stayMs);
}
