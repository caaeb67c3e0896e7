/** vitest's JSON report, as far as it is read. */
export interface TestReport {
  passed: number;
  failed: number;
  skipped: number;
  files: {
    /** Absolute path. */
    name: string;
    status: string;
    message?: string;
    assertionResults: { fullName: string; status: string; failureMessages?: readonly string[] | null }[];
  }[];
}

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export const MAX_FILES: number;
export function readReport(path: string): TestReport | null;
export function countTests(report: TestReport | null): Counts;
export function filesToTryAgain(report: TestReport | null): string[];
export function afterSecondTry(first: TestReport, second: TestReport | null, root: string): Counts & { secondTry: string[] };
