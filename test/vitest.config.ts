/**
 * Which tests there are and how they share the machine. Units run beside each other, and so do the
 * suites of stores and brokers, which mostly wait for those. Of suites that start a whole platform two run at a time, each with a home of
 * its own; those that fill the machine, make images or kill what others need run alone.
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
const SAME_ON_PODS = [
  'test/e2e/{adoption,backlog,deploy,http,limits,logs,scale,semantics,streams,traffic,why}.test.ts',
  'test/chaos/faults.test.ts',
];

/** Suites of a platform that no other may run beside: they fill the machine, or make and remove images that others use. */
const ALONE = ['test/e2e/{limits,runtimes,scale,security}.test.ts'];

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

/** Suites of which two run at a time, each with a platform of its own. */
function paired(project: ReturnType<typeof serial>) {
  return { ...project, test: { ...project.test, fileParallelism: true, maxWorkers: 2 } };
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
          include: [
            '{controller,gateway,cli,runtime-images}/**/*.test.ts',
            'test/*.test.ts',
            'test/{helpers,setup,bench,sim,simulate,soak}/**/*.test.ts',
          ],
          maxWorkers: PARALLEL_WORKERS,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true as const,
        test: { name: 'brokers', include: [BROKERS], hookTimeout: 120_000, maxWorkers: PARALLEL_WORKERS, sequence: { groupOrder: 0 } },
      },
      serial('conformance', 1, ['test/conformance/**/*.test.ts'], 60_000, ON_KUBERNETES),
      paired(serial('e2e', 2, ['test/e2e/**/*.test.ts'], 120_000, ALONE)),
      onPods(paired(serial('pods', 2, SAME_ON_PODS, 150_000))),
      serial('alone', 3, ALONE, 90_000),
      serial('cluster', 4, ON_KUBERNETES, 120_000),
      serial('chaos', 5, ['test/chaos/**/*.test.ts'], 180_000),
    ],
  },
});
