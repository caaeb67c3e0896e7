/**
 * Waits for the end of a run of tests, and then ends and removes whatever it left: also of a run that was killed, and
 * of one whose workers were (vitest kills them, and no hook of theirs runs). Started by global.ts, in a session of its
 * own, with the folder of the run; the end of its stdin is the end of the run.
 */
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { homePaths } from '#kit/paths.ts';
import { removeNamespaces } from '../helpers/kube.ts';
import { removeLeftovers } from '../helpers/leaks.ts';
import { sleep } from '../helpers/wait.ts';

/** A process that nothing can end (it waits for a disk) is left after so many. */
const MAX_ROUNDS = 50;

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('guard.ts FOLDER');

/** Where a run keeps homes: those of whole platforms in its folder, those of other tests among its temporary files. */
function homesIn(run: string): string[] {
  const temporary = join(run, 't');
  const platforms = readdirSync(run).map((name) => join(run, name));
  const others = existsSync(temporary)
    ? readdirSync(temporary).flatMap((name) => ['home', 'fn'].map((home) => join(temporary, name, home)))
    : [];
  return [...platforms.filter((path) => path !== temporary), ...others].filter((path) => existsSync(path));
}

/**
 * Ends what was started in this run, by whatever: its folder is in the environment of workers and brokers, and instances
 * have their socket in it. Until there is no such process, since one may start another meanwhile.
 */
async function endProcesses(run: string): Promise<void> {
  const mentions = (pid: number, file: string) => {
    const text = readFileSync(`/proc/${pid}/${file}`, 'utf8');
    return text.includes(`${run}/`) || text.includes(`FN_TEST_FOLDER=${run}\0`);
  };
  for (let round = 0; round < MAX_ROUNDS; round++) {
    let found = 0;
    for (const entry of readdirSync('/proc')) {
      const pid = Number(entry);
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      try {
        if (!mentions(pid, 'environ') && !mentions(pid, 'cmdline')) continue;
        process.kill(pid, 'SIGKILL');
        found++;
      } catch (error) {
        // Gone meanwhile, or not ours.
        if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      }
    }
    if (found === 0) return;
    await sleep(100);
  }
}

process.stdin.resume();
process.stdin.once('end', async () => {
  await endProcesses(folder);
  if (!existsSync(folder)) return;
  for (const left of await removeNamespaces(folder)) process.stderr.write(`${left}\n`);
  for (const home of homesIn(folder)) await removeLeftovers(homePaths(home));
  // What ended meanwhile may have written until then.
  rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
});
