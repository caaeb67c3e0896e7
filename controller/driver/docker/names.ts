/**
 * What host names stand for, kept fresh by one task for all that are in use. The addresses that a function gets for a name are
 * written into its own /etc/hosts from here, and the same ones are let through: what a CDN answers to others, or to the next who
 * asks, does not matter. What an answer no longer has stays reachable for a while, for connections that are still open to it.
 */
import { Resolver } from 'node:dns/promises';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { inParallel } from '../parallel.ts';

export interface Answer {
  address: string;
  /** Seconds. */
  ttl: number;
}

/** Asks for the IPv4 addresses of a name. Rejects with an error whose code is one of node:dns. */
export type Lookup = (name: string) => Promise<Answer[]>;

export interface NameLimits {
  /** An answer is asked for again no sooner and no later than that, whatever its TTL says, ms. */
  minTtlMs: number;
  maxTtlMs: number;
  /** How long an address that is no longer in the answer can still be reached, ms; also all of a name that exists no more. */
  graceMs: number;
  /** How long the last addresses are kept where no name server answers, ms (as RFC 8767 advises: hours, not minutes). */
  staleMs: number;
  /** Until the next attempt after one that failed, ms. */
  retryMs: number;
  /** The longest that a start waits for names that were never looked up, ms. */
  firstWaitMs: number;
}

const LIMITS: NameLimits = {
  minTtlMs: 10_000,
  maxTtlMs: 300_000,
  graceMs: 600_000,
  staleMs: 3_600_000,
  retryMs: 15_000,
  firstWaitMs: 3_000,
};

/** Addresses taken of one answer, and kept of one name with those before. */
export const MAX_ADDRESSES = 32;
const MAX_KEPT = 64;
/** Names asked for at a time. */
const PARALLEL = 16;
/** What is due so soon is asked for with the rest, ms. */
const TOGETHER_MS = 500;
/** One attempt of the resolver, ms; a second follows at the next server, and all together have so long. */
const ATTEMPT_MS = 2_000;
const LOOKUP_MS = 5_000;

/** What is known of a name. */
export interface NameState {
  /** Of the last answer. */
  current: readonly string[];
  /** Those, and what was current a while ago. */
  reachable: readonly string[];
  /** Why there is no answer: the name does not exist or has no IPv4 address; or nobody could tell. */
  failure: { kind: 'missing' | 'failed'; code: string } | null;
}

interface Entry {
  current: string[];
  /** Addresses that were current, with when they go. */
  old: Map<string, number>;
  dueAt: number;
  /** When what is kept of it without an answer goes. */
  keptUntil: number | null;
  failure: NameState['failure'];
  asking: Promise<void> | null;
  /** It was looked up at least once, or its addresses were handed over. */
  known: boolean;
}

/** By name, the addresses that could be reached: for the next controller. */
export type SavedNames = Record<string, { current: string[]; old: string[] }>;

export interface NamesOptions {
  lookup: Lookup;
  clock: Clock;
  log: Log;
  /** Names that instances have now. */
  inUse: () => ReadonlySet<string>;
  /** Puts in force what some names stand for now. Where it rejects it is called again. */
  onChange: (changed: ReadonlySet<string>) => Promise<void>;
  limits?: Partial<NameLimits> | undefined;
}

/** The machine's own resolver (/etc/resolv.conf as it is at that moment), or these servers: `192.0.2.1`, `192.0.2.1:5353`. */
export function systemLookup(servers?: readonly string[]): Lookup {
  return async (name) => {
    const resolver = new Resolver({ timeout: ATTEMPT_MS, tries: 2 });
    if (servers !== undefined && servers.length > 0) resolver.setServers(servers);
    const deadline = setTimeout(() => resolver.cancel(), LOOKUP_MS);
    try {
      return await resolver.resolve4(name, { ttl: true });
    } finally {
      clearTimeout(deadline);
    }
  };
}

export class Names {
  readonly #options: NamesOptions;
  readonly #limits: NameLimits;
  readonly #entries = new Map<string, Entry>();
  /** Changed, and not in force yet. */
  readonly #changed = new Set<string>();
  /** When that is tried again; 0: as soon as may be. */
  #applyAt = 0;
  #cancel: (() => void) | null = null;
  #looking: Promise<void> | null = null;
  #closed = false;

  constructor(options: NamesOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
  }

  /** Begins with the names that instances have, and what an earlier controller knew of them; all are asked for at once. */
  start(saved: SavedNames): void {
    this.#closed = false;
    const now = this.#options.clock.now();
    for (const name of this.#options.inUse()) {
      const entry = this.#entry(name);
      if (!Object.hasOwn(saved, name)) continue;
      const { current, old } = saved[name]!;
      entry.known = true;
      entry.current = current.slice(0, MAX_ADDRESSES);
      for (const address of old.slice(0, MAX_KEPT)) entry.old.set(address, now + this.#limits.graceMs);
    }
    this.#arm();
  }

  close(): void {
    this.#closed = true;
    this.#cancel?.();
    this.#cancel = null;
  }

  save(): SavedNames {
    return Object.fromEntries([...this.#entries].map(([name, { current, old }]) => [name, { current, old: [...old.keys()] }]));
  }

  /** Resolves when each of them was looked up, or nobody waits any longer: never rejects. */
  async ready(names: readonly string[]): Promise<void> {
    const asked = names.filter((name) => !this.#entry(name).known);
    if (asked.length === 0) return;
    let cancel = () => {};
    const late = new Promise<void>((resolve) => (cancel = this.#options.clock.after(this.#limits.firstWaitMs, resolve)));
    await Promise.race([inParallel(asked, PARALLEL, (name) => this.#ask(name)), late]);
    cancel();
    this.#arm();
  }

  /** Looks them up now, unless they have an answer. */
  async ask(names: readonly string[]): Promise<void> {
    for (const name of names) if (this.#entry(name).failure !== null) this.#entry(name).known = false;
    await this.ready(names);
  }

  of(name: string): NameState {
    const entry = this.#entries.get(name);
    if (entry === undefined) return { current: [], reachable: [], failure: { kind: 'failed', code: 'ETIMEOUT' } };
    const { current, old, known } = entry;
    const failure = entry.failure ?? (known ? null : { kind: 'failed' as const, code: 'ETIMEOUT' });
    return { current, reachable: [...new Set([...current, ...old.keys()])], failure };
  }

  /** One round: asks for what is due, lets go of what is over, and has what changed put in force. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null;
      this.#arm();
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { clock, inUse } = this.#options;
    const used = inUse();
    const now = clock.now();
    // What nobody uses is not asked for again; whoever needs it next asks anew.
    for (const [name, { dueAt, asking }] of this.#entries)
      if (!used.has(name) && dueAt <= now && asking === null) this.#entries.delete(name);
    const due = [...this.#entries].filter(([, { dueAt }]) => dueAt <= now + TOGETHER_MS).map(([name]) => name);
    await inParallel(due, PARALLEL, (name) => this.#ask(name));
    for (const [name, entry] of this.#entries) this.#expire(name, entry);
    await this.#apply();
  }

  /** Never throws. */
  async #apply(): Promise<void> {
    const { clock, log, onChange } = this.#options;
    if (this.#closed || this.#changed.size === 0) return;
    const changed = new Set(this.#changed);
    this.#changed.clear();
    try {
      await onChange(changed);
      this.#applyAt = 0;
    } catch (error) {
      for (const name of changed) this.#changed.add(name);
      this.#applyAt = clock.now() + this.#limits.retryMs;
      log.warn({ error: messageOf(error), hosts: [...changed] }, 'new addresses of hosts could not be let through; it is tried again');
    }
  }

  #entry(name: string): Entry {
    let entry = this.#entries.get(name);
    if (entry === undefined) {
      const now = this.#options.clock.now();
      entry = { current: [], old: new Map(), dueAt: now, keptUntil: null, failure: null, asking: null, known: false };
      this.#entries.set(name, entry);
    }
    return entry;
  }

  #ask(name: string): Promise<void> {
    const entry = this.#entry(name);
    entry.asking ??= this.#askNow(name, entry).finally(() => (entry.asking = null));
    return entry.asking;
  }

  async #askNow(name: string, entry: Entry): Promise<void> {
    const { lookup, clock } = this.#options;
    try {
      const answers = await lookup(name);
      if (answers.length === 0) throw Object.assign(new Error('an empty answer'), { code: 'ENODATA' });
      this.#answered(name, entry, answers.slice(0, MAX_ADDRESSES), clock.now());
    } catch (error) {
      this.#failed(name, entry, error, clock.now());
    }
    entry.known = true;
  }

  #answered(name: string, entry: Entry, answers: Answer[], now: number): void {
    const { minTtlMs, maxTtlMs, graceMs } = this.#limits;
    if (entry.failure !== null) this.#options.log.info({ host: name }, 'the host is found again');
    entry.failure = null;
    entry.keptUntil = null;
    const ttlMs = Math.min(...answers.map(({ ttl }) => ttl)) * 1_000;
    entry.dueAt = now + Math.min(maxTtlMs, Math.max(minTtlMs, ttlMs));
    const next = [...new Set(answers.map(({ address }) => address))];
    // The order is the name server's: many answer with the same addresses in turn, which is no news.
    if (next.length === entry.current.length && next.every((address) => entry.current.includes(address))) return;
    this.#retire(entry, now + graceMs);
    entry.current = next;
    for (const address of next) entry.old.delete(address);
    this.#changed.add(name);
  }

  #failed(name: string, entry: Entry, error: unknown, now: number): void {
    const { retryMs, staleMs, graceMs } = this.#limits;
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'ESERVFAIL';
    const kind = code === 'ENOTFOUND' || code === 'ENODATA' ? 'missing' : 'failed';
    entry.dueAt = now + retryMs;
    if (entry.failure?.kind === kind) return;
    // A name that is gone by its own name server's word, or of which nobody can tell: the latter is no reason to cut functions off.
    if (entry.current.length > 0) entry.keptUntil = now + (kind === 'missing' ? graceMs : staleMs);
    const keptSeconds = entry.current.length > 0 ? (kind === 'missing' ? graceMs : staleMs) / 1_000 : 0;
    entry.failure = { kind, code };
    this.#options.log.warn({ host: name, code, keptSeconds }, 'a host of an egress list is not found');
  }

  #expire(name: string, entry: Entry): void {
    const now = this.#options.clock.now();
    for (const [address, until] of entry.old) {
      if (until > now) continue;
      entry.old.delete(address);
      this.#changed.add(name);
    }
    if (entry.keptUntil === null || entry.keptUntil > now) return;
    this.#options.log.warn({ host: name, addresses: entry.current }, 'a host was not found for too long: it cannot be dialled any more');
    entry.current = [];
    entry.keptUntil = null;
    this.#changed.add(name);
  }

  /** What is current becomes old; where there is too much of that, the oldest goes at once. */
  #retire(entry: Entry, until: number): void {
    for (const address of entry.current) {
      entry.old.delete(address);
      entry.old.set(address, until);
    }
    for (const oldest of entry.old.keys()) {
      if (entry.old.size <= MAX_KEPT - MAX_ADDRESSES) break;
      entry.old.delete(oldest);
    }
  }

  #arm(): void {
    this.#cancel?.();
    this.#cancel = null;
    if (this.#closed || this.#looking !== null) return;
    const now = this.#options.clock.now();
    let next = this.#changed.size > 0 ? this.#applyAt : Number.POSITIVE_INFINITY;
    for (const { dueAt, old, keptUntil } of this.#entries.values())
      next = Math.min(next, dueAt, keptUntil ?? Number.POSITIVE_INFINITY, ...old.values());
    if (next === Number.POSITIVE_INFINITY) return;
    this.#cancel = this.#options.clock.after(Math.max(0, next - now), () => void this.look());
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
