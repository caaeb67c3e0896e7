/** What SQLite says, in words that tell what to do. */
import { FnError } from '#contract/errors.ts';

/** Primary result codes (https://sqlite.org/rescode.html) and the advice for each. */
const ADVICE: Readonly<Record<number, string>> = {
  5: 'another process holds it locked: stop the other controller',
  8: 'it cannot be written: check the owner and mode of the file and its folder',
  10: 'the disk reports an error: check the disk and its mount',
  11: 'it is damaged: stop fn, keep a copy, and restore it from a backup or move it away to begin anew',
  13: 'the disk is full: free some space',
  14: 'it cannot be opened: check that its folder is there and that this user owns it',
  26: 'it is not a database: restore it from a backup or move it away to begin anew',
};

const CONSTRAINT = 19;

/** The primary result code of an error of node:sqlite; null for any other error. */
export function sqliteCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null;
  return error.errcode & 0xff;
}

/** Also where storeError() has put it in words. */
export const isConstraint = (error: unknown): boolean => sqliteCode(error instanceof FnError ? error.options.cause : error) === CONSTRAINT;

/** FnError store-unavailable for SQLite's and the file system's errors; others come back as they are. */
export function storeError(error: unknown, path: string): unknown {
  if (error instanceof FnError) return error;
  const code = sqliteCode(error);
  const system = error instanceof Error && 'syscall' in error;
  if (code === null && !system) return error;
  const message = error instanceof Error ? error.message : String(error);
  const advice = code === null ? 'check the owner and mode of the file and its folder' : ADVICE[code];
  return new FnError('store-unavailable', `The store ${path} failed (${message})${advice === undefined ? '.' : `; ${advice}.`}`, {
    cause: error,
    retryAfterSeconds: 5,
  });
}
