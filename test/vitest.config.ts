/**
 * Which tests there are and how they share the machine. Units run beside each other; suites that
 * start containers or a whole platform run one file after the other, since they measure, fill
 * budgets and kill things. `vitest run --project unit` picks one.
 */
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

const root = join(import.meta.dirname, '..');

/** Suites that own the machine while they run, in their order. */
function serial(name: string, groupOrder: number, include: string[], timeoutMs: number) {
  return {
    extends: true as const,
    test: {
      name,
      include,
      fileParallelism: false,
      testTimeout: timeoutMs,
      hookTimeout: 120_000,
      sequence: { groupOrder },
    },
  };
}

export default defineConfig({
  root,
  test: {
    environment: 'node',
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
    globalSetup: [join(root, 'test/setup/global.ts')],
    setupFiles: [join(root, 'test/setup/env.ts')],
    passWithNoTests: false,
    projects: [
      {
        extends: true as const,
        test: {
          name: 'unit',
          include: ['{controller,gateway,cli,runtime-images}/**/*.test.ts', 'test/*.test.ts', 'test/{helpers,setup,bench}/**/*.test.ts'],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      serial('conformance', 1, ['test/conformance/**/*.test.ts'], 60_000),
      serial('e2e', 2, ['test/e2e/**/*.test.ts'], 90_000),
      serial('chaos', 3, ['test/chaos/**/*.test.ts'], 180_000),
    ],
  },
});
