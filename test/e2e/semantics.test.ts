/** One semantics: the table of docs/kubernetes.md on containers. On pods it runs in the project `cluster`. */
import { execa } from 'execa';
import { describe } from 'vitest';
import { semantics } from '../helpers/semantics.suite.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';

for (const driver of drivers('docker')) {
  describe(`semantics (${driver})`, () => {
    const platform = usePlatform({ driver });
    const inspect = async (): Promise<string> => {
      const { stdout } = await execa('docker', ['ps', '-aq', '--filter', `name=${platform().homeId}`]);
      // One that has gone meanwhile is an error beside what the others tell.
      return (await execa('docker', ['inspect', ...stdout.split('\n').filter((id) => id !== '')], { reject: false })).stdout;
    };
    semantics({ platform, limits: true, inspect });
  });
}
