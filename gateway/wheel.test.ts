import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { DeadlineWheel, type WheelEntry, type WheelSlot } from './wheel.ts';

class Entry implements WheelEntry {
  wheel: WheelSlot | null = null;
  readonly fired: number[] = [];
  onDeadline(now: number): void {
    this.fired.push(now);
  }
}

describe('DeadlineWheel', () => {
  it('fires once, at or after the deadline and within a tick of it', () => {
    const clock = new VirtualClock();
    const wheel = new DeadlineWheel(clock, { tickMs: 50 });
    const entry = new Entry();
    wheel.set(entry, 120);
    clock.advance(119);
    expect(entry.fired).toEqual([]);
    clock.advance(60);
    expect(entry.fired).toEqual([150]);
    clock.advance(100_000);
    expect(entry.fired).toHaveLength(1);
    expect(wheel.size).toBe(0);
  });

  it('keeps what is further away than one round', () => {
    const clock = new VirtualClock();
    const wheel = new DeadlineWheel(clock, { tickMs: 10, buckets: 8 });
    const entry = new Entry();
    wheel.set(entry, 1_000);
    clock.advance(990);
    expect(entry.fired).toEqual([]);
    clock.advance(10);
    expect(entry.fired).toEqual([1_000]);
  });

  it('forgets what was cancelled or moved, also by a callback of the same tick', () => {
    const clock = new VirtualClock();
    const wheel = new DeadlineWheel(clock, { tickMs: 10 });
    const victim = new Entry();
    const killer: WheelEntry = { wheel: null, onDeadline: () => wheel.cancel(victim) };
    wheel.set(killer, 14);
    wheel.set(victim, 15);
    const moved = new Entry();
    wheel.set(moved, 15);
    wheel.set(moved, 500);
    clock.advance(100);
    expect(victim.fired).toEqual([]);
    expect(moved.fired).toEqual([]);
    clock.advance(400);
    expect(moved.fired).toEqual([500]);
  });

  it('may be set again from its own callback, and after the timer went to sleep', () => {
    const clock = new VirtualClock();
    const wheel = new DeadlineWheel(clock, { tickMs: 10 });
    let count = 0;
    const entry: WheelEntry = {
      wheel: null,
      onDeadline(now) {
        if (++count < 3) wheel.set(entry, now + 20);
      },
    };
    wheel.set(entry, 5);
    clock.advance(1_000);
    expect(count).toBe(3);
    clock.advance(10_000);
    wheel.set(entry, clock.now() + 25);
    clock.advance(30);
    expect(count).toBe(4);
  });

  it('property: every entry fires exactly once, never early, at most a tick late', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 5_000 }), { maxLength: 50 }),
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 20 }),
        (delays, steps) => {
          const clock = new VirtualClock();
          const wheel = new DeadlineWheel(clock, { tickMs: 25, buckets: 16 });
          const entries = delays.map((delay) => {
            const entry = new Entry();
            wheel.set(entry, delay);
            return { entry, delay };
          });
          for (const step of steps) clock.advance(step);
          clock.advance(6_000);
          for (const { entry, delay } of entries) {
            expect(entry.fired).toHaveLength(1);
            expect(entry.fired[0]).toBeGreaterThanOrEqual(delay);
            expect(entry.fired[0]).toBeLessThanOrEqual(delay + 50);
          }
        },
      ),
    );
  });
});
