/** One semantics: the table of docs/kubernetes.md on a platform that the chart installed, used by the CLI with another context. */
import { describe } from 'vitest';
import { useInstalled } from '../helpers/installed.ts';
import { semantics } from '../helpers/semantics.suite.ts';

describe('semantics (chart)', () => {
  const platform = useInstalled({ FN_MEMORY_BUDGET_MIB: 4_096, FN_POOL: 2 });
  semantics({
    platform,
    limits: true,
    inspect: () => platform().cluster.kubectl(['get', 'pods', '--namespace', platform().functions, '--output', 'yaml']),
  });
});
