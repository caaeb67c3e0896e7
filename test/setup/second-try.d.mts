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

export declare const MAX_FILES: number;
export declare function readReport(path: string): TestReport | null;
export declare function countTests(report: TestReport | null): Counts;
export declare function filesToTryAgain(report: TestReport | null): string[];
export declare function afterSecondTry(first: TestReport, second: TestReport | null, root: string): Counts & { secondTry: string[] };
