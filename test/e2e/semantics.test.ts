/** One semantics: the table of docs/kubernetes.md, on each driver. */
import { execa } from 'execa';
import { describe } from 'vitest';
import { semantics } from '../helpers/semantics.suite.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';

for (const driver of drivers('docker', 'process')) {
  describe(`semantics (${driver})`, () => {
    const platform = usePlatform({ driver });
    const inspect = async (): Promise<string> => {
      const { cluster } = platform();
      if (cluster !== null)
        return cluster.cluster.kubectl(['get', 'pods,configmaps,events', '--namespace', cluster.namespace, '-o', 'yaml']);
      const { stdout } = await execa('docker', ['ps', '-aq', '--filter', `name=${platform().homeId}`]);
      // One that has gone meanwhile is an error beside what the others tell.
      return (await execa('docker', ['inspect', ...stdout.split('\n').filter((id) => id !== '')], { reject: false })).stdout;
    };
    semantics({ platform, limits: driver !== 'process', inspect: driver === 'process' ? null : inspect });
  });
}
