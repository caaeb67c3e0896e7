import { describe, expect, it } from 'vitest';
import { describeTiming, parseServerTiming } from './server-timing.ts';

describe('Server-Timing', () => {
  it('gives the phases and how the instance was started', () => {
    const timing = parseServerTiming('fn;desc="pooled";dur=9.1, queue;dur=0.1, start;dur=0, init;dur=3.5, handler;dur=5');
    expect(timing).toEqual({ start: 'pooled', phases: { fn: 9.1, queue: 0.1, start: 0, init: 3.5, handler: 5 } });
    expect(describeTiming(timing)).toBe('pooled; queue 0.1 ms, init 3.5 ms, handler 5.0 ms');
  });

  it('of a function or a proxy may say anything', () => {
    expect(parseServerTiming('cache;desc="a, b;c", x;dur=oops,,;')).toEqual({ start: null, phases: {} });
    expect(describeTiming(parseServerTiming(undefined))).toBe('');
  });
});
