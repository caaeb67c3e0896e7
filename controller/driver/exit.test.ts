import { describe, expect, it } from 'vitest';
import { describeExit, exitSignal, isHeapExhausted } from './exit.ts';

const V8 =
  '\n<--- Last few GCs --->\n\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n----- Native stack trace -----\n';

describe('describeExit', () => {
  it('names codes and signals', () => {
    expect(describeExit(1)).toBe('exit code 1');
    expect(describeExit(0)).toBe('exit code 0');
    expect(describeExit(137)).toBe('signal SIGKILL');
    expect(describeExit(null, 'SIGTERM')).toBe('signal SIGTERM');
    expect(describeExit(null)).toBe('exit code unknown');
    expect(describeExit(255)).toBe('exit code 255');
  });
  it('knows which codes are signals', () => {
    expect(exitSignal(134)).toBe('SIGABRT');
    expect(exitSignal(128)).toBeNull();
    expect(exitSignal(null)).toBeNull();
  });
});

describe('isHeapExhausted', () => {
  it('needs both the words and the crash', () => {
    expect(isHeapExhausted(V8, 134)).toBe(true);
    expect(isHeapExhausted(V8, null, 'SIGABRT')).toBe(true);
    expect(isHeapExhausted(V8, 133)).toBe(true);
    expect(isHeapExhausted(V8, 1)).toBe(false);
    expect(isHeapExhausted(V8, 137)).toBe(false);
    expect(isHeapExhausted('assertion failed', 134)).toBe(false);
  });
});
