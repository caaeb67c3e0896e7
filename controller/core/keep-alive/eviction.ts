/**
 * Whose idle instance goes when memory is short. GreedyDual-Size-Frequency, as in Fuerst & Sharma, "FaasCache" (ASPLOS 2021): a
 * function's priority is clock + uses × time of a start ÷ memory, as of its last use; the lowest goes, and the clock is then its
 * priority, so that what is not used any more is overtaken by what is. `idle`: whoever was used the longest time ago.
 */
export type EvictionOrder = 'gdsf' | 'idle';

export interface Candidate {
  /** Priority of who went last. */
  clock: number;
  /** Since it was there. */
  uses: number;
  startMs: number;
  memoryMib: number;
  usedAt: number;
}

/** The lowest goes first. */
export const priorityOf = (order: EvictionOrder, { clock, uses, startMs, memoryMib, usedAt }: Candidate): number =>
  order === 'idle' ? usedAt : clock + (uses * startMs) / memoryMib;
