/**
 * A whole run is seven thousand tests, hundreds of them on real engines, brokers and clusters beside each other on few cores. Where
 * very few of its files fail, those run once more, by themselves, from their beginning: what fails again has failed. What passes
 * then is told by name at the end of the run, with what it said at first, and is to be mended like any other failure
 * (docs/decisions/0044). Plain JavaScript for Node 18 and up.
 */
import { existsSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';

/** More files than that fail for a reason. */
export const MAX_FILES = 2;
/** Longest text of a failure, characters. */
const MAX_TEXT = 200;

/** What vitest's JSON report says; null where there is none, since the run was ended. */
export function readReport(path) {
  if (!existsSync(path)) return null;
  const { numPassedTests, numFailedTests, numPendingTests = 0, testResults } = JSON.parse(readFileSync(path, 'utf8'));
  return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests, files: testResults };
}

const failedTests = (file) => file.assertionResults.filter(({ status }) => status === 'failed');

/** Files that did not even load, or failed outside of their tests, count as one failure each. */
export function countTests(report) {
  if (report === null) return { passed: 0, failed: 0, skipped: 0 };
  const broken = report.files.filter((file) => file.status === 'failed' && failedTests(file).length === 0);
  return { passed: report.passed, failed: report.failed + broken.length, skipped: report.skipped };
}

/** Paths of the files that are to run once more: none where all is well, or where too many failed. */
export function filesToTryAgain(report) {
  if (report === null) return [];
  const paths = new Set(report.files.filter(({ status }) => status === 'failed').map(({ name }) => name));
  return paths.size <= MAX_FILES ? [...paths] : [];
}

const firstLine = (text) => (text ?? '').split('\n')[0].slice(0, MAX_TEXT);

/** What had failed, a line each: where, and what it said. */
function failuresOf(report, root) {
  return report.files
    .filter(({ status }) => status === 'failed')
    .flatMap((file) => {
      const path = relative(root, file.name);
      const tests = failedTests(file);
      if (tests.length === 0) return [`${path}: ${firstLine(file.message) || 'failed outside of its tests'}`];
      return tests.map(({ fullName, failureMessages }) => `${path} > ${fullName}: ${firstLine(failureMessages?.[0])}`);
    });
}

/**
 * The counts of both tries together, and what passed only at the second. Where the second has no report, or ran nothing, the first
 * one's counts are the run's.
 */
export function afterSecondTry(first, second, root) {
  const before = countTests(first);
  const again = countTests(second);
  if (second === null || again.passed + again.failed === 0) return { ...before, secondTry: [] };
  const { failed } = again;
  const passed = first.passed + first.failed - second.failed;
  return { passed, failed, skipped: before.skipped, secondTry: failed === 0 ? failuresOf(first, root) : [] };
}
