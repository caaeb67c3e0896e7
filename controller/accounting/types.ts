/** The port of accounting: what the engine tells it, and what it asks of the engine. */
import type { CountsBatch, FunctionStats, StatsList, UsageStats } from '#contract/stats.ts';

/** An instance as accounting sees it. */
export interface MeteredInstance {
  id: string;
  /** Key of the revision that it is; null: nobody's yet. */
  revision: string | null;
  /** What it takes of the budget. */
  memoryMib: number;
  /** Whether it may have used CPU since a moment ago: a gateway has, or had just now, a lease of it. */
  active: boolean;
  /** It stands still: nothing of it changes. */
  frozen: boolean;
  /** It is about to end: whose it was it stays, whatever `revision` says. */
  leaving: boolean;
}

export interface AccountingSources {
  /** All that are there. */
  instances(): Iterable<MeteredInstance>;
  /** Revisions that are kept of a function; null: there is no such function. */
  revisions(namespace: string, name: string): readonly number[] | null;
  /** Tells a gateway that a batch is kept for good. */
  acknowledge(gateway: string, seq: number): void;
}

export interface AccountingPort {
  /** Reads what was counted before. Instances may be told of from then on. */
  start(sources: AccountingSources): Promise<void>;
  /** From now on it works for this revision: what it used before was the platform's. Never throws. */
  claimed(id: string, revision: string, memoryMib: number): void;
  /** An instance has loaded the code of a revision. */
  started(revision: string): void;
  /** It is about to be killed, or has ended: the last reading is taken. Never throws, and takes half a second at most. */
  ended(id: string): Promise<void>;
  /** From a gateway. */
  counted(gateway: string, batch: CountsBatch): void;
  /** Reads all instances now, as far as that is cheap. */
  refresh(): Promise<void>;
  /** Writes what is not written yet: what is shown after it is not less after a crash. */
  keep(): Promise<void>;
  /** null where nothing was ever counted of it. */
  function(namespace: string, name: string): FunctionStats | null;
  /** Of these namespaces, or of all. */
  list(namespaces?: readonly string[]): StatsList;
  /** By function, for as many functions as a metric may have series; what is beyond is `other`. As it is written: a counter must not fall, not even over a crash. */
  metrics(): readonly { namespace: string; function: string; stats: UsageStats }[];
  /** Writes what is not written yet, and stops. Idempotent. */
  close(): Promise<void>;
}
