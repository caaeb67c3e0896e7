/** Log files of the platform's processes, with a limit on their size. */
import { appendFileSync, closeSync, copyFileSync, openSync, readSync, fstatSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';

/** Above it a file is moved to NAME.log.1, whose older contents are lost. */
export const MAX_LOG_BYTES = 10 * 1024 * 1024;

/** Opens for appending: whoever writes, also after a rotation, writes at the end. */
export function openLog(folder: string, name: string): number {
  rotate(folder, name);
  return openSync(join(folder, `${name}.log`), 'a', 0o600);
}

/**
 * Copies and truncates, since the file is open in the process that writes it. Lines written between
 * the two are lost; a log without a limit would lose the disk.
 */
export function rotate(folder: string, name: string): void {
  const path = join(folder, `${name}.log`);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats || stats.size <= MAX_LOG_BYTES) return;
  copyFileSync(path, `${path}.1`);
  truncateSync(path);
}

/** Bytes of a log; 0 where there is none. What a process writes that is started now stands behind them. */
export const logSize = (folder: string, name: string): number =>
  statSync(join(folder, `${name}.log`), { throwIfNoEntry: false })?.size ?? 0;

/**
 * The last lines, for an error that says why a process did not start: of those behind `from`, which is the `logSize` when it
 * was started, so that none of an earlier start is taken for its own.
 */
export function lastLines(folder: string, name: string, count: number, from: number): string[] {
  const tailBytes = 8_192;
  const path = join(folder, `${name}.log`);
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    // A file that became shorter was rotated: all that is in it was written since.
    const own = size < from ? size : size - from;
    const buffer = Buffer.alloc(Math.min(own, tailBytes));
    readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    return buffer
      .toString('utf8')
      .split('\n')
      .filter((line) => line !== '')
      .slice(-count);
  } finally {
    closeSync(fd);
  }
}

/** Why nothing can be written to a log, in the system's words; null where it can: an empty line more, which nobody is shown. */
export function logTrouble(folder: string, name: string): string | null {
  try {
    appendFileSync(join(folder, `${name}.log`), '\n');
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** A line of a log for a person: of our own JSON what it says, with its stack where it has one; anything else as it is. */
export function lineInWords(line: string): string {
  try {
    const entry: unknown = JSON.parse(line);
    if (typeof entry !== 'object' || entry === null) return line;
    const [msg, stack]: unknown[] = [Reflect.get(entry, 'msg'), Reflect.get(entry, 'stack')];
    if (typeof stack === 'string') return stack;
    return typeof msg === 'string' ? msg : line;
  } catch {
    // Not JSON: Node's own words, or a stack.
    return line;
  }
}
