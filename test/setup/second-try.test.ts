/** What becomes of a run of which a file failed and ran once more. */
import { expect, it } from 'vitest';
import { afterSecondTry, countTests, filesToTryAgain, MAX_FILES, readReport } from './second-try.mjs';

const ROOT = '/fn';
const test = (fullName: string, failure?: string) => ({
  fullName,
  status: failure === undefined ? 'passed' : 'failed',
  failureMessages: failure === undefined ? [] : [failure],
});

function report(files: Record<string, ReturnType<typeof test>[]>, broken: Record<string, string> = {}) {
  const all = Object.values(files).flat();
  return {
    passed: all.filter(({ status }) => status === 'passed').length,
    failed: all.filter(({ status }) => status === 'failed').length,
    skipped: 0,
    files: Object.entries(files).map(([name, assertionResults]) => {
      const failed = name in broken || assertionResults.some(({ status }) => status === 'failed');
      return { name: `${ROOT}/${name}`, status: failed ? 'failed' : 'passed', message: broken[name] ?? '', assertionResults };
    }),
  };
}

const LATE = 'AssertionError: expected 61 to be 60\n    at somewhere';
const FIRST = report({ 'a.test.ts': [test('a'), test('b', LATE)], 'c.test.ts': [test('c')] });

it('runs a file once more that failed, also one that failed outside of its tests, and none where all is well', () => {
  expect(filesToTryAgain(FIRST)).toEqual(['/fn/a.test.ts']);
  expect(filesToTryAgain(report({ 'a.test.ts': [test('a')] }, { 'a.test.ts': 'Error: left behind' }))).toEqual(['/fn/a.test.ts']);
  expect(filesToTryAgain(report({ 'a.test.ts': [test('a')] }))).toEqual([]);
  expect(filesToTryAgain(null)).toEqual([]);
});

it('runs none again where many failed', () => {
  const failing = (count: number) =>
    report(Object.fromEntries(Array.from({ length: count }, (_, at) => [`${at}.test.ts`, [test('a', LATE)]])));
  expect(filesToTryAgain(failing(MAX_FILES))).toHaveLength(MAX_FILES);
  expect(filesToTryAgain(failing(MAX_FILES + 1))).toEqual([]);
});

it('tells what passed only then, with what it said at first', () => {
  const second = report({ 'a.test.ts': [test('a'), test('b')] });
  expect(afterSecondTry(FIRST, second, ROOT)).toEqual({
    passed: 3,
    failed: 0,
    skipped: 0,
    secondTry: ['a.test.ts > b: AssertionError: expected 61 to be 60'],
  });
  const outside = report({ 'a.test.ts': [test('a')] }, { 'a.test.ts': 'Error: left behind\nmore' });
  expect(afterSecondTry(outside, report({ 'a.test.ts': [test('a')] }), ROOT)).toEqual({
    passed: 1,
    failed: 0,
    skipped: 0,
    secondTry: ['a.test.ts: Error: left behind'],
  });
});

it('has failed where it fails again, in that test or in another one', () => {
  const again = report({ 'a.test.ts': [test('a', LATE), test('b')] });
  expect(afterSecondTry(FIRST, again, ROOT)).toEqual({ passed: 2, failed: 1, skipped: 0, secondTry: [] });
});

it('has failed where the second try was ended, or ran nothing', () => {
  const failed = { passed: 2, failed: 1, skipped: 0, secondTry: [] };
  expect(afterSecondTry(FIRST, null, ROOT)).toEqual(failed);
  expect(afterSecondTry(FIRST, report({}), ROOT)).toEqual(failed);
  expect(countTests(null)).toEqual({ passed: 0, failed: 0, skipped: 0 });
  expect(readReport('/nowhere/report.json')).toBeNull();
});
