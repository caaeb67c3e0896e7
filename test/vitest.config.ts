/**
 * Which tests there are and how they share the machine. Units run beside each other, and so do the
 * suites of stores and brokers, which mostly wait for those. Of suites that start a whole platform, on this host or in the
 * cluster, three run at a time, each with a home or a namespace of its own: on a cluster most of the time is waited for.
 * Those that fill the machine or make images run alone, and what kills what others need runs after them: one in the cluster
 * beside those on this host. `vitest run --project unit` picks one.
 */
import { join } from 'node:path';
import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const root = join(import.meta.dirname, '..');

/** Suites of stores, brokers and runtimes: no container, no platform. */
const BROKERS = 'test/conformance/{bundles,event-store*,logs*,records,runtime*,store*,trigger*}.test.ts';

/** Kills what all of the cluster needs. */
const CLUSTER_CHAOS = 'test/cluster/chaos.test.ts';

/** Suites that need a Kubernetes cluster, which they wait for. */
const ON_KUBERNETES = ['test/cluster/**/*.test.ts', 'test/conformance/driver.kubernetes.test.ts'];

/**
 * What runs on containers runs on pods, too: the very same suites, by driver parameter (test/helpers/suite.ts). Those are
 * here in which the driver has a part: what is promised everywhere (semantics), how instances are found again, limited,
 * scaled and logged, and what goes over TCP in place of a unix socket. What only the CLI, the gateway and the controller do
 * is looked at once, on containers.
 */
const SAME_ON_PODS = ['test/e2e/{adoption,http,limits,logs,scale,semantics,streams}.test.ts', 'test/chaos/faults.test.ts'];

/** Suites of a platform that no other may run beside: they fill the machine, or make and remove images that others use. */
const ALONE = ['test/e2e/{hostile,limits,runtimes,scale,security}.test.ts'];

/** Of units, and of suites of brokers: twice what the smallest machine has of cores, since many of them only wait. */
const PARALLEL_WORKERS = 4;

/** Of suites with a platform: one more than the smallest machine has of cores. */
const PLATFORM_WORKERS = 3;

/**
 * Suites that take longest begin first in their group, and nobody waits for them at the end: Kafka's waits for its group most
 * of a minute, brokers take longer than units, `fn demo` installs its packages. By project and path.
 */
const LONGEST = [
  /^brokers .*trigger\.kafka/,
  /^brokers .*runtime\.test/,
  /^brokers /,
  /^cluster /,
  /^e2e .*demo/,
  /^pods .*(?:scale|faults|semantics)/,
  /^e2e .*(?:semantics|deploy|docs|completion|streams|adoption)/,
  /^pods /,
  /^chaos .*cluster\/chaos/,
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification) => {
      const index = LONGEST.findIndex((pattern) => pattern.test(`${project.name} ${moduleId}`));
      return index < 0 ? LONGEST.length : index;
    };
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
      hookTimeout: 240_000,
      sequence: { groupOrder },
    },
  };
}

/** Suites of which so many run at a time, each with a home of its own. */
function sideBySide(maxWorkers: number, project: ReturnType<typeof serial>) {
  return { ...project, test: { ...project.test, fileParallelism: true, maxWorkers } };
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
    testTimeout: 240_000,
    hookTimeout: 240_000,
    teardownTimeout: 30_000,
    // Of itself it would wait for a second, which a busy machine may take for nothing.
    expect: { poll: { timeout: 60_000 } },
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
        test: { name: 'brokers', include: [BROKERS], maxWorkers: PARALLEL_WORKERS, sequence: { groupOrder: 0 } },
      },
      sideBySide(2, serial('conformance', 1, ['test/conformance/**/*.test.ts'], 240_000, ON_KUBERNETES)),
      sideBySide(PLATFORM_WORKERS, serial('e2e', 2, ['test/e2e/**/*.test.ts'], 300_000, ALONE)),
      onPods(sideBySide(PLATFORM_WORKERS, serial('pods', 2, SAME_ON_PODS, 300_000))),
      sideBySide(PLATFORM_WORKERS, serial('cluster', 2, ON_KUBERNETES, 300_000, [CLUSTER_CHAOS])),
      serial('alone', 3, ALONE, 300_000),
      sideBySide(2, serial('chaos', 4, [CLUSTER_CHAOS, 'test/chaos/**/*.test.ts'], 300_000)),
    ],
  },
});
