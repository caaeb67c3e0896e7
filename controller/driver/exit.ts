/** Words and signs of an instance's end, the same for every driver. */
import { constants } from 'node:os';

/** How much of the end of stderr is looked at for the reason of a crash, bytes. V8's text with its stack is some 3 KiB. */
export const TAIL_BYTES = 16_384;

/** Signals that a process of V8's ends with when its heap is full; as PID 1 of a namespace, abort() ends in another of them. */
const CRASH_SIGNALS = new Set(['SIGABRT', 'SIGTRAP', 'SIGILL', 'SIGSEGV', 'SIGBUS']);

// Some numbers have two names (SIGABRT, SIGIOT): the first is the usual one.
const signalNames = new Map(
  Object.entries(constants.signals)
    .toReversed()
    .map(([name, number]) => [number, name]),
);

/** `signal SIGKILL` where a signal ended it, else `exit code 1`. Codes above 128 are signals, as shells and engines tell them. */
export function describeExit(code: number | null, signal: string | null = null): string {
  const name = signal ?? exitSignal(code);
  return name === null ? `exit code ${code ?? 'unknown'}` : `signal ${name}`;
}

/** The signal in an exit code such as 137, or null. */
export function exitSignal(code: number | null): string | null {
  if (code === null || code <= 128) return null;
  return signalNames.get(code - 128) ?? null;
}

/** Whether V8 gave up because its heap was full: its own words at the end of stderr, and an end by a crash. */
export function isHeapExhausted(stderrTail: string, code: number | null, signal: string | null = null): boolean {
  const name = signal ?? exitSignal(code);
  if (name === null || !CRASH_SIGNALS.has(name)) return false;
  return /FATAL ERROR: [^\n]*(?:heap out of memory|Allocation failed|invalid table size|invalid array length)/i.test(stderrTail);
}
