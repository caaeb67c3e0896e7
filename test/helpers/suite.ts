/** Platforms for suites: hooks that start and end them. */
import { afterAll, beforeAll, expect } from 'vitest';
import { type DriverName, type StartOptions, type TestPlatform, startPlatform } from './platform.ts';

/**
 * A platform for the tests of a `describe`: started before them, ended after them, and whatever it
 * then leaves behind fails the suite.
 */
export function usePlatform(options: StartOptions): () => TestPlatform {
  let platform: TestPlatform | undefined;
  beforeAll(async () => {
    platform = await startPlatform(options);
  });
  afterAll(async () => {
    const left = await platform?.dispose();
    expect(left ?? []).toEqual([]);
  });
  return () => {
    if (!platform) throw new Error('the platform did not start');
    return platform;
  };
}

/** The drivers that a suite runs on: `FN_TEST_DRIVERS=process` narrows it while one works on it. */
export function drivers(...wanted: DriverName[]): DriverName[] {
  const chosen = process.env.FN_TEST_DRIVERS?.split(',');
  return chosen ? wanted.filter((driver) => chosen.includes(driver)) : wanted;
}
