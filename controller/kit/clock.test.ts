import { describe, expect, it } from 'vitest';
import { VirtualClock, neverBack, sleep, systemClock, timeOfDay } from './clock.ts';

describe('VirtualClock', () => {
  it('runs what falls due, in the order of time, at its time', () => {
    const clock = new VirtualClock();
    const ran: [string, number][] = [];
    clock.after(20, () => ran.push(['b', clock.now()]));
    clock.after(10, () => ran.push(['a', clock.now()]));
    clock.after(30, () => ran.push(['c', clock.now()]));
    clock.advance(25);
    expect(ran).toEqual([
      ['a', 10],
      ['b', 20],
    ]);
    expect(clock.now()).toBe(25);
    clock.advance(5);
    expect(ran).toHaveLength(3);
  });

  it('runs what a timer starts, if it falls due in the same step', () => {
    const clock = new VirtualClock();
    const ran: number[] = [];
    const again = (): void => {
      ran.push(clock.now());
      clock.after(10, again);
    };
    clock.after(10, again);
    clock.advance(35);
    expect(ran).toEqual([10, 20, 30]);
  });

  it('does not run what was cancelled, and cancelling twice is nothing', () => {
    const clock = new VirtualClock();
    let ran = false;
    const cancel = clock.after(10, () => {
      ran = true;
    });
    cancel();
    cancel();
    clock.advance(100);
    expect(ran).toBe(false);
  });

  it('a jump of the wall clock moves no timer', () => {
    const clock = new VirtualClock(1_000);
    let ran = false;
    clock.after(10, () => {
      ran = true;
    });
    clock.jumpWall(3_600_000);
    expect([clock.wall(), clock.now(), ran]).toEqual([3_601_000, 0, false]);
    clock.advance(10);
    expect([clock.wall(), ran]).toEqual([3_601_010, true]);
  });
});

describe('systemClock', () => {
  it('never goes back, and cancels', async () => {
    const before = systemClock.now();
    let ran = false;
    const cancel = systemClock.after(1, () => {
      ran = true;
    });
    cancel();
    await new Promise<void>((resolve) => {
      const keepAlive = setInterval(() => {}, 1_000);
      systemClock.after(5, () => {
        clearInterval(keepAlive);
        resolve();
      });
    });
    expect(ran).toBe(false);
    expect(systemClock.now()).toBeGreaterThan(before);
  });
});

describe('a clock that never goes back', () => {
  it('follows the time of day forth, goes on by itself while that is behind, and tells it when asked', () => {
    const time = new VirtualClock(1_000_000);
    const clock = neverBack(time);
    time.advance(500);
    expect(clock.wall()).toBe(1_000_500);
    time.jumpWall(-3_600_000);
    expect(clock.wall()).toBe(1_000_500);
    time.advance(2_000);
    expect([clock.wall(), timeOfDay(clock), timeOfDay(time)]).toEqual([1_002_500, time.wall(), time.wall()]);
    time.jumpWall(7_200_000);
    expect(clock.wall()).toBe(time.wall());
    expect(clock.now()).toBe(time.now());
  });
});

describe('sleep', () => {
  it('ends', () => expect(sleep(1)).resolves.toBeUndefined());

  it('is given up with the reason of its signal, before and while it waits', async () => {
    const reason = new Error('enough');
    await expect(sleep(60_000, AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const sleeping = sleep(60_000, controller.signal);
    controller.abort(reason);
    await expect(sleeping).rejects.toBe(reason);
  });

  it('an abort after its end changes nothing', async () => {
    const controller = new AbortController();
    await sleep(1, controller.signal);
    controller.abort();
    expect(controller.signal.aborted).toBe(true);
  });
});
