/**
 * The system's clock without the time in which this process did not run. A machine that gives it no processor for a second, as
 * one does on which many share few, makes a gateway in the test's own process believe that a lease was unused for a second, or a
 * function slow, though nobody had a chance to do anything meanwhile.
 */
import { type Clock, systemClock } from '#kit/clock.ts';

/** How often it is looked at, and how much of the time between two looks counts at most, ms. */
const LOOK_EVERY_MS = 50;
const MAX_STEP_MS = 200;

let seenAt = systemClock.now();
let lostMs = 0;

function now(): number {
  const real = systemClock.now();
  lostMs += Math.max(0, real - seenAt - MAX_STEP_MS);
  seenAt = real;
  return real - lostMs;
}
setInterval(now, LOOK_EVERY_MS).unref();

export const runningClock: Clock = {
  now,
  wall: () => systemClock.wall(),
  after(ms, run) {
    const due = now() + ms;
    let cancel: () => void;
    const look = (): void => {
      const left = due - now();
      // As a timer of the system, which may be early by the fraction of a millisecond.
      if (left < 1) run();
      else cancel = systemClock.after(left, look);
    };
    cancel = systemClock.after(ms, look);
    return () => cancel();
  },
};
