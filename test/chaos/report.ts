/**
 * What a chaos run saw: a line on stderr for each test, and a line of JSON in the file that FN_CHAOS_JSON names, which
 * test/setup/run.mjs makes one table and one file of.
 */
import { appendFileSync } from 'node:fs';
import { type LedgerEntry, misdirected, tally, type Verdict } from '../helpers/load.ts';

export function report(seen: Record<string, unknown>): void {
  process.stderr.write(`${JSON.stringify(seen)}\n`);
  const file = process.env.FN_CHAOS_JSON;
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ at: new Date().toISOString(), ...seen })}\n`);
}

/** One line of the table. `null`: there is nothing of the kind in this test. */
export interface FaultRow {
  /** Its number in docs/faults.md. */
  fault: number;
  what: string;
  driver: string;
  /** Requests answered with success, or events that were accepted. */
  acknowledged: number;
  /** What was refused or failed, by what the client was told: `{"503 no-capacity": 3}`. */
  failed: Record<string, number>;
  /** Acknowledged, and seen by no function. */
  lost: number | null;
  /** Seen by functions once more than they were sent. */
  duplicated: number | null;
  /** Requests whose connection broke, so that the client cannot know. */
  unknown: number;
  /** From the blow until all was well, ms. */
  recoveredMs: number | null;
  /** What was looked for and not found grown: `containers, fds`; or what was found. */
  leaks: string;
  /** Anything else that is worth a look later. */
  figures?: Record<string, unknown>;
}

export function reportFault(row: FaultRow): void {
  report({ ...row });
}

/** Leaks as `usePlatform` looks for them after every suite: one that is there fails it. */
export const LOOKED_AFTER = 'none (suite)';

/** The row of a load with its verdict. */
export function rowOf(
  row: Pick<FaultRow, 'fault' | 'what' | 'driver'> & Partial<FaultRow>,
  entries: readonly LedgerEntry[],
  verdict: Verdict,
): FaultRow {
  const answered = entries.filter(({ status }) => status !== 0);
  return {
    acknowledged: verdict.ok,
    failed: tally(answered),
    // An answer with the request's own id is from a function that saw it.
    lost: verdict.seen ? verdict.lost.length : misdirected(entries).length,
    duplicated: verdict.seen ? verdict.duplicated.length : null,
    unknown: entries.length - answered.length,
    recoveredMs: verdict.recoveryMs,
    leaks: LOOKED_AFTER,
    ...row,
  };
}
