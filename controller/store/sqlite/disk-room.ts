/** What is free on the disk of the events: some of it stays free, for all else that lives there and to work off what waits. */
import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';

/** So much stays free, bytes; of a small disk this part. */
const KEPT_FREE_BYTES = 512 * 1024 * 1024;
const KEPT_FREE_PART = 0.1;

export interface DiskSpace {
  /** Bytes. */
  free: number;
  total: number;
}

/** Of the disk that this file is on. */
export function diskSpace(file: string): DiskSpace {
  const { bavail, blocks, bsize } = statfsSync(dirname(file));
  return { free: bavail * bsize, total: blocks * bsize };
}

/** How many bytes must come free before something new is taken; 0 or less: there is room. */
export const bytesMissing = ({ free, total }: DiskSpace): number => Math.min(KEPT_FREE_BYTES, total * KEPT_FREE_PART) - free;
