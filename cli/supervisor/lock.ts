/** One supervisor per home: a lock file that names its owner, and that a dead owner does not hold. */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { ProcessIdentity } from '../process-identity.ts';
import { identify, isAlive, parseIdentity } from '../process-identity.ts';

/** How often another's stale lock is taken away before giving up: each round another process was faster. */
const MAX_ROUNDS = 10;

/**
 * Takes the lock; null where a living process holds it. The returned function gives it back.
 * The file comes by link(2), which fails where there is one already, so that two never both succeed.
 */
export function acquireLock(path: string): (() => void) | null {
  const own = JSON.stringify(identify(process.pid));
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, own, { mode: 0o600 });
  try {
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      if (tryLink(temporary, path)) return () => release(path, own);
      const text = readLock(path);
      if (text === null) continue;
      const owner = readOwner(text);
      if (owner !== null && isAlive(owner)) return null;
      takeAway(path, text);
    }
    return null;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Who holds the lock, if it is alive. */
export function lockOwner(path: string): ProcessIdentity | null {
  const text = readLock(path);
  const owner = text === null ? null : readOwner(text);
  return owner !== null && isAlive(owner) ? owner : null;
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

function readLock(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Between reading a stale lock and moving it away another may have taken it: then it is given back. */
function takeAway(path: string, expected: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
    throw error;
  }
  if (readLock(aside) !== expected) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function release(path: string, own: string): void {
  if (readLock(path) === own) rmSync(path, { force: true });
}

function readOwner(text: string): ProcessIdentity | null {
  try {
    return parseIdentity(JSON.parse(text));
  } catch {
    // Written by no version of fn: nobody holds it.
    return null;
  }
}
