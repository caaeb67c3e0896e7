/**
 * Who leads of several controllers of one host, and the term, in SQLite. A lease ends by the host's
 * monotonic clock, which all of its processes read alike: a change of the wall clock takes nobody's away, and
 * prolongs nobody's. A lease of an earlier boot is over.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { leaseLost, parseJson } from '../stored.ts';
import type { Connection } from './connection.ts';

const Lease = z.object({ candidate: z.string(), until: z.number(), boot: z.string() });
type Lease = z.infer<typeof Lease>;

/** Milliseconds of CLOCK_MONOTONIC. */
export const hostTime = (): number => Number(process.hrtime.bigint() / 1_000_000n);

/** Tells one boot of the host from the next; the same for all where the system does not say. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

export class SqliteLeadership {
  readonly #connection: Connection;
  readonly #now: () => number;
  readonly #boot: string;
  /** Whose lease this store has taken; null: it takes no part, and may raise the term as it likes. */
  #candidate: string | null = null;

  constructor(connection: Connection, now: () => number, boot: string) {
    this.#connection = connection;
    this.#now = now;
    this.#boot = boot;
  }

  campaign(candidate: string, ttlMs: number): boolean {
    return this.#connection.transaction(() => {
      const held = this.#lease();
      if (held !== null && held.candidate !== candidate) return false;
      const lease: Lease = { candidate, until: this.#now() + ttlMs, boot: this.#boot };
      const sql = `INSERT INTO meta (key, value) VALUES ('leader', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`;
      this.#connection.prepare(sql).run(JSON.stringify(lease));
      this.#candidate = candidate;
      return true;
    });
  }

  resign(candidate: string): void {
    this.#connection.transaction(() => {
      if (this.#lease()?.candidate === candidate) this.#connection.prepare(`DELETE FROM meta WHERE key = 'leader'`).run();
    });
  }

  leader(): string | null {
    return this.#connection.run(() => this.#lease()?.candidate ?? null);
  }

  raiseTerm(): number {
    const term = this.#connection.transaction(() => {
      if (this.#candidate !== null) {
        const leader = this.#lease()?.candidate ?? null;
        if (leader !== this.#candidate) throw leaseLost(leader);
      }
      const next = this.#connection.term() + 1;
      const sql = `INSERT INTO meta (key, value) VALUES ('term', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`;
      this.#connection.prepare(sql).run(String(next));
      return next;
    });
    this.#connection.writeUnder(term);
    return term;
  }

  /** The lease that is not over; one that cannot be read is nobody's. */
  #lease(): Lease | null {
    const row = this.#connection.prepare(`SELECT value FROM meta WHERE key = 'leader'`).get();
    const lease = Lease.safeParse(row === undefined ? undefined : parseJson(String(row.value)));
    return lease.success && lease.data.boot === this.#boot && lease.data.until > this.#now() ? lease.data : null;
  }
}
