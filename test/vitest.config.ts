/**
 * Which tests there are and how they share the machine. Units run beside each other, and so do the
 * suites of stores and brokers, which mostly wait for those; suites that start containers or a whole
 * platform run one file after the other, since they measure, fill budgets and kill things.
 * `vitest run --project unit` picks one.
 */
import { join } from 'node:path';
import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const root = join(import.meta.dirname, '..');

/** Suites of stores, brokers and runtimes: no container, no platform. */
const BROKERS = 'test/conformance/{bundles,event-store*,logs,records,runtime*,store*,trigger*}.test.ts';

/** Suites that need a Kubernetes cluster, which they wait for. */
const ON_KUBERNETES = ['test/cluster/**/*.test.ts', 'test/conformance/driver.kubernetes.test.ts'];

/** What runs on containers runs on pods, too: the very same suites, by driver parameter (test/helpers/suite.ts). */
const SAME_ON_PODS = ['test/e2e/{adoption,backlog,deploy,http,limits,logs,scale,streams,traffic,why}.test.ts', 'test/chaos/faults.test.ts'];

/** Of units, and of suites of brokers: one more than the smallest machine has cores, since some of them only wait. */
const PARALLEL_WORKERS = 3;

/** Brokers before units: Kafka's suite waits for its group most of a minute, and nobody is to wait for it at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const order = ['test/conformance/trigger.kafka', 'test/conformance/'];
    const rank = ({ moduleId, project }: TestSpecification) =>
      project.name === 'brokers' ? order.findIndex((path) => moduleId.includes(path)) : order.length;
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

/** Suites that own the machine while they run, in their order. */
function serial(name: string, groupOrder: number, include: string[], timeoutMs: number, exclude: string[] = []) {
  return {
    extends: true as const,
    test: {
      name,
      include,
      exclude: [...configDefaults.exclude, BROKERS, ...exclude],
      fileParallelism: false,
      testTimeout: timeoutMs,
      hookTimeout: 120_000,
      sequence: { groupOrder },
    },
  };
}

/** The same suites, with instances that are pods. */
function onPods(project: ReturnType<typeof serial>) {
  return { ...project, test: { ...project.test, env: { FN_TEST_DRIVERS: 'kubernetes' } } };
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
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true as const,
        test: {
          name: 'unit',
          include: ['{controller,gateway,cli,runtime-images}/**/*.test.ts', 'test/*.test.ts', 'test/{helpers,setup,bench,sim}/**/*.test.ts'],
          maxWorkers: PARALLEL_WORKERS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true as const,
        test: { name: 'brokers', include: [BROKERS], hookTimeout: 120_000, maxWorkers: PARALLEL_WORKERS, sequence: { groupOrder: 0 } },
      },
      serial('conformance', 1, ['test/conformance/**/*.test.ts'], 60_000, ON_KUBERNETES),
      serial('e2e', 2, ['test/e2e/**/*.test.ts'], 90_000),
      serial('cluster', 3, ON_KUBERNETES, 120_000),
      onPods(serial('pods', 3, SAME_ON_PODS, 150_000)),
      serial('chaos', 4, ['test/chaos/**/*.test.ts'], 180_000),
    ],
  },
});
