import { describe, expect, it } from 'vitest';
import { type Backlog, wantedCalls } from './backlog.ts';

const base: Backlog = { lag: 0, perCall: 1, arrivalsPerSecond: 0, serviceMs: 100, current: 1, saturated: false, most: 100 };
const calls = (given: Partial<Backlog>) => wantedCalls({ ...base, ...given });

describe('calls at a time by backlog', () => {
  it('is as worked: 3,000 wait, 20 arrive per second, 10 a call, 200 ms a call', () => {
    expect(calls({ lag: 3_000, perCall: 10, arrivalsPerSecond: 20, serviceMs: 200, current: 2 })).toBe(3);
  });

  it('grows at most twofold from one decision to the next', () => {
    expect(calls({ lag: 1_000_000, current: 4, saturated: true })).toBe(8);
  });

  it('never asks for more than the most, and never for none', () => {
    expect(calls({ lag: 1_000_000, current: 80, saturated: true })).toBe(100);
    expect(calls({ lag: 1_000_000, current: 80, least: 500 })).toBe(100);
    expect(calls({ lag: 0, current: 50 })).toBe(1);
    expect(calls({ lag: 0, most: 0 })).toBe(1);
  });

  it('uses what the first instance can take anyway', () => {
    expect(calls({ lag: 0, least: 50 })).toBe(50);
    expect(calls({ lag: 100_000, least: 50, saturated: true, current: 50 })).toBe(100);
  });

  it('keeps its pace while something waits, and comes down when nothing does', () => {
    expect(calls({ lag: 300, current: 20, saturated: true })).toBe(20);
    expect(calls({ lag: 300, current: 20, saturated: false })).toBe(1);
    expect(calls({ lag: 0, current: 20, arrivalsPerSecond: 50 })).toBe(5);
  });

  it('feels its way where the source does not tell its lag', () => {
    expect(calls({ lag: null, current: 4, saturated: true })).toBe(8);
    expect(calls({ lag: null, current: 4 })).toBe(3);
  });

  it('without a service time, grows only while all are in use', () => {
    expect(calls({ lag: 10, serviceMs: 0, current: 3, saturated: true })).toBe(6);
    expect(calls({ lag: 10, serviceMs: 0, current: 3 })).toBe(3);
  });
});
