/** An instance: its states, the ways between them, what makes it one of a pool, and the shares that gateways have of it. */
import type { NetworkClass } from '#contract/function.ts';
import type { Address } from '#contract/runtime.ts';

/** One gateway process: `ID/BOOT`. Two boots of one gateway hold leases of their own. */
export type GatewayKey = string;

export interface LeaseState {
  id: string;
  gateway: GatewayKey;
  slots: number;
  /** `revoking`: no new use; the share counts until it is released or the deadline passed. */
  state: 'granted' | 'revoking';
  /** Monotonic ms; when a revoking lease's share is freed whatever the gateway says. */
  freeAt: number | null;
  /** Slots that stay when a partial revoke is done. */
  keeps: number;
}

/** Instances of one pool can be exchanged for each other until they are specialised. */
export interface PoolKey {
  runtime: string;
  memoryClassMib: number;
  network: NetworkClass;
  /** null for all runtimes but `image`, whose instances are made of one. */
  image: string | null;
  /** What isolates it beyond the usual (a RuntimeClass); null: nothing. */
  sandbox: string | null;
}

export const poolKeyText = (key: PoolKey): string =>
  `${key.runtime}/${key.memoryClassMib}/${key.network}${key.image ? `/${key.image}` : ''}${key.sandbox ? `/in ${key.sandbox}` : ''}`;

export type InstanceState =
  | { kind: 'creating' }
  | { kind: 'generic'; since: number }
  | { kind: 'specialising'; revision: string; since: number }
  /** `idleSince` is null while a gateway has a lease. */
  | { kind: 'ready'; revision: string; idleSince: number | null }
  /** On its way to be frozen or stopped: it is asked whether anything is in flight, and goes back to ready if so. */
  | { kind: 'settling'; revision: string; idleSince: number; goal: 'freeze' | 'stop' }
  | { kind: 'frozen'; revision: string; idleSince: number }
  | { kind: 'thawing'; revision: string; idleSince: number }
  | { kind: 'draining'; revision: string | null; since: number };

export interface Instance {
  id: string;
  runtime: string;
  memoryClassMib: number;
  network: NetworkClass;
  /** OCI image that it runs; null for all runtimes but `image`. */
  image: string | null;
  /** What isolates it beyond the usual; null: nothing. */
  sandbox: string | null;
  /** What it takes of the budget now. */
  memoryMib: number;
  cpu: number;
  state: InstanceState;
  address: Address | null;
  nonce: string;
  /** Monotonic ms. */
  createdAt: number;
  /** When it answered health for the first time. */
  genericAt: number | null;
  /** When its code was loaded; null before, and for one that was adopted. */
  specialisedAt: number | null;
  /** How long it took to be specialised, ms. */
  initMs: number;
  /** Of that, until limits and code were in place, and loading the module, as its shim says. */
  initSteps?: { placeMs: number; loadMs: number };
  /** Whether its code came with a code cache of V8 that was used, or it made one; absent where there was no question of it. */
  codeCache?: 'hit' | 'made';
  /** Neither frozen nor stopped before this: something is still in flight in it. */
  notBefore: number;
  /** When it was first found busy without a lease; bounds the postponing by the function's timeout. */
  busySince: number | null;
  leases: Map<string, LeaseState>;
  /** Versions of the secrets that it was given, by name; null before it was given any. */
  secrets: Readonly<Record<string, number>> | null;
  /** It has the old value of a secret: what it serves it may end, nothing more is granted of it. */
  stale: boolean;
  /** A gateway has had a lease of it: it worked, at least for a while. */
  served: boolean;
  /** It was brought up before anybody asked: by what is known of when the function is used. */
  prewarmed: boolean;
  suspicions: number;
  /** No grants while it is under suspicion. */
  suspect: boolean;
  handle: string;
  pid: number | null;
  startedAt: string;
}

/** Revision that an instance runs or is about to; null for generic ones. */
export function revisionOf(instance: Instance): string | null {
  return 'revision' in instance.state ? instance.state.revision : null;
}

/** States in which an instance serves, or soon will. */
export function isLive(instance: Instance): boolean {
  switch (instance.state.kind) {
    case 'specialising':
    case 'ready':
    case 'settling':
    case 'frozen':
    case 'thawing':
      return true;
    case 'creating':
    case 'generic':
    case 'draining':
      return false;
  }
}

/** Whether an instance serves, or soon will, with what it should have: one that is stale is on its way out. */
export const isFresh = (instance: Instance): boolean => isLive(instance) && !instance.stale;

/** Slots that leases take, revoking ones too: Σ(granted + revoking) ≤ capacity. */
export function leasedSlots(instance: Instance): number {
  let total = 0;
  for (const lease of instance.leases.values()) total += lease.slots;
  return total;
}

/** Since when no gateway has had a lease of it, monotonic ms; 0 where that is not known, or one has. */
export const idleSince = (instance: Instance): number => ('idleSince' in instance.state ? (instance.state.idleSince ?? 0) : 0);

/** creating → generic → specialising → ready ⇄ frozen; any → draining. Settling and thawing take time, so they are states. */
export const TRANSITIONS: Record<InstanceState['kind'], readonly InstanceState['kind'][]> = {
  creating: ['generic', 'draining'],
  generic: ['specialising', 'draining'],
  specialising: ['ready', 'draining'],
  ready: ['settling', 'draining'],
  settling: ['frozen', 'ready', 'draining'],
  frozen: ['thawing', 'draining'],
  thawing: ['ready', 'draining'],
  draining: [],
};
