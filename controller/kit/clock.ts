/** Time, as an argument: what decides takes `now`, what acts takes a Clock. */
export interface Clock {
  /** Monotonic milliseconds; only differences mean anything. Never jumps with the wall clock. */
  now(): number;
  /** Milliseconds since 1970. May jump. */
  wall(): number;
  /** The time of day as the machine has it, where `wall` does not follow it back: see neverBack. */
  timeOfDay?(): number;
  /** Runs `run` after `ms`; the returned function cancels. Does not keep the process alive. */
  after(ms: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/**
 * A clock whose wall never goes back: while the time of day is behind it, it goes by the monotonic one. For what was written down
 * to be due: a time of day that is set back by an hour would let it wait an hour more. Jumps forward are followed.
 */
export function neverBack(clock: Clock): Clock {
  let wall = clock.wall();
  let seenAt = clock.now();
  return {
    now: () => clock.now(),
    after: (ms, run) => clock.after(ms, run),
    timeOfDay: () => clock.wall(),
    wall() {
      const now = clock.now();
      wall = Math.max(clock.wall(), wall + (now - seenAt));
      seenAt = now;
      return Math.floor(wall);
    },
  };
}

/** For schedules, and for what others compare with their own clocks: signatures. */
export const timeOfDay = (clock: Clock): number => clock.timeOfDay?.() ?? clock.wall();

/** Waits; rejects with the signal's reason when it is aborted first. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal!.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** A Clock that moves only when it is told to, for tests in virtual time. */
export class VirtualClock implements Clock {
  #now = 0;
  #wallOffset: number;
  #timers: { at: number; run: () => void }[] = [];

  constructor(wall = Date.UTC(2026, 0, 1)) {
    this.#wallOffset = wall;
  }

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#wallOffset + this.#now;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves forward, running what falls due in its order. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = end;
  }

  /** Lets the wall clock jump, as NTP or an operator does. */
  jumpWall(ms: number): void {
    this.#wallOffset += ms;
  }
}
