/** The audit log: every change, and every attempt at one by somebody known. Bounded, whoever attempts how often. */
import { type AuditEntry, covers, type Principal } from '#contract/tenancy.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { TenancyStore } from '../store/types.ts';

/** Failed attempts of one principal that are written down in a window; more are counted in the entry after. */
const MAX_FAILURES_PER_WINDOW = 60;
const WINDOW_MS = 60_000;
/** The oldest are removed after so many were added: a delete for each would double what an entry costs. */
const PRUNE_EVERY = 500;

export interface AuditLogOptions {
  store: Pick<TenancyStore, 'addAudit' | 'listAudit' | 'pruneAudit'>;
  clock: Clock;
  log: Log;
  /** Entries that are kept. */
  keep: number;
}

export interface AuditPage {
  namespace?: string;
  since?: number;
  before?: number;
  limit: number;
}

export class AuditLog {
  readonly #options: AuditLogOptions;
  /** By principal: attempts in the window that began then, and those that were left out. */
  readonly #failures = new Map<string, { since: number; count: number; skipped: number }>();
  #added = 0;

  constructor(options: AuditLogOptions) {
    this.#options = options;
  }

  /** Principals of which attempts are counted just now. */
  get counted(): number {
    return this.#failures.size;
  }

  /** Resolves when it is on the disk. Throws FnError store-unavailable. */
  async record(entry: Omit<AuditEntry, 'id' | 't'>): Promise<void> {
    const { store, clock } = this.#options;
    const skipped = this.#pace(entry);
    if (skipped === null) return;
    const detail = skipped === 0 ? entry.detail : { ...entry.detail, attemptsNotWritten: skipped };
    await store.addAudit({ ...entry, detail, t: clock.wall() });
    this.#added += 1;
    if (this.#added % PRUNE_EVERY === 1) await this.#prune();
  }

  /** null: leave it out; else how many were left out before it. Changes that were made are never left out. */
  #pace({ by, outcome }: Omit<AuditEntry, 'id' | 't'>): number | null {
    const now = this.#options.clock.now();
    let state = this.#failures.get(by.id);
    if (state === undefined || now - state.since >= WINDOW_MS) {
      state = { since: now, count: 0, skipped: state?.skipped ?? 0 };
      this.#failures.set(by.id, state);
    }
    if (outcome !== 'ok') {
      state.count += 1;
      if (state.count > MAX_FAILURES_PER_WINDOW) {
        state.skipped += 1;
        return null;
      }
    }
    const { skipped } = state;
    state.skipped = 0;
    return skipped;
  }

  /** Not the affair of whoever made the change. */
  async #prune(): Promise<void> {
    const { store, keep, log, clock } = this.#options;
    // Who makes a token for each job leaves none of them behind here.
    for (const [id, { since, skipped }] of this.#failures) if (skipped === 0 && clock.now() - since >= WINDOW_MS) this.#failures.delete(id);
    try {
      await store.pruneAudit(keep);
    } catch (error) {
      log.warn({ error: error instanceof Error ? error.message : String(error) }, 'old audit entries could not be removed');
    }
  }

  /** Newest first; entries of no namespace are for those who have all of them. */
  async list({ namespaces }: Principal, { namespace, ...page }: AuditPage): Promise<AuditEntry[]> {
    if (namespace === undefined) return this.#options.store.listAudit({ ...page, namespaces });
    // Of another tenant's namespace as of one in which nothing ever happened.
    return covers(namespaces, namespace) ? this.#options.store.listAudit({ ...page, namespaces: [namespace] }) : [];
  }
}
