import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { LogPace } from './log-pace.ts';

describe('LogPace', () => {
  it('lets a burst pass, then holds what comes to the rate', () => {
    const clock = new VirtualClock();
    const pace = new LogPace(clock, { bytesPerSecond: 1_000, burstBytes: 500 });
    expect(pace.take(500)).toBe(0);
    expect(pace.take(100)).toBe(100);
    clock.advance(100);
    expect(pace.take(0)).toBe(0);
    let read = 0;
    for (const end = clock.now() + 10_000; clock.now() < end;) {
      read += 300;
      clock.advance(pace.take(300));
    }
    expect(read).toBeLessThanOrEqual(10_000 + 300);
    expect(read).toBeGreaterThan(9_000);
  });

  it('saves no more than a burst', () => {
    const clock = new VirtualClock();
    const pace = new LogPace(clock, { bytesPerSecond: 1_000, burstBytes: 500 });
    clock.advance(3_600_000);
    expect(pace.take(1_500)).toBe(1_000);
  });
});
