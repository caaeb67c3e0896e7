/** Platforms for suites: hooks that start and end them. */
import { afterAll, beforeAll, expect } from 'vitest';
import { relative } from 'node:path';
import { ROOT } from './root.ts';
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
    expect(left ?? [], `left by ${relative(ROOT, expect.getState().testPath ?? '')} on ${options.driver}`).toEqual([]);
  });
  return () => {
    if (!platform) throw new Error('the platform did not start');
    return platform;
  };
}

/**
 * The drivers that a suite runs on: `FN_TEST_DRIVERS=process` narrows it while one works on it. What runs on docker runs on
 * kubernetes just the same, which the project `cluster` chooses: the very same tests, by this parameter.
 */
export function drivers(...wanted: DriverName[]): DriverName[] {
  const chosen = process.env.FN_TEST_DRIVERS?.split(',');
  if (chosen?.includes('kubernetes')) return wanted.includes('docker') ? ['kubernetes'] : [];
  return chosen ? wanted.filter((driver) => chosen.includes(driver)) : wanted;
}

/** What is about one driver and has no meaning on others; in the project `cluster` it is not run again. */
export function onlyOn(driver: DriverName): DriverName[] {
  const chosen = process.env.FN_TEST_DRIVERS?.split(',');
  return chosen === undefined || chosen.includes(driver) ? [driver] : [];
}
