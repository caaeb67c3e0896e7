import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { programFile } from '../root.ts';

export const hostSetup: CommandSpec = {
  name: 'host-setup',
  summary: 'as root: prepare this host for a platform without root',
  description: 'Makes the parent cgroup and the egress rules that only root can make.',
  options: [{ flags: '--undo', description: 'remove what it made' }, HOME_OPTION, JSON_OPTION],
  examples: ['sudo fn host-setup', 'sudo fn host-setup --undo'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new CliError('host-setup changes the host, and needs root', {
      exitCode: EXIT.notAuthorised,
      hint: 'Run it with sudo: sudo fn host-setup',
    });
  }
  const sudoUser = findSudoUser(ctx.env);
  const chosen = input.has('home') || ctx.env.FN_HOME !== undefined || sudoUser === null;
  const args = [programFile('host-setup'), '--home', chosen ? ctx.home : join(sudoUser.folder, '.fn')];
  if (sudoUser !== null) args.push('--uid', sudoUser.uid);
  if (input.flag('undo')) args.push('--undo');
  if (input.flag('json')) args.push('--json');
  const child = spawn(process.execPath, args, { env: ctx.env, stdio: 'inherit' });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (code !== 0)
    throw new CliError('this host could not be prepared', {
      hint: 'See the messages above; fn works without it, with what fn status says is missing.',
    });
}

/** Who called sudo, and their home folder: it is their platform that the host is prepared for. */
function findSudoUser({ SUDO_UID: uid }: NodeJS.ProcessEnv): { uid: string; folder: string } | null {
  if (uid === undefined || uid === '0') return null;
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find((fields) => fields[2] === uid);
  return entry?.[5] === undefined ? null : { uid, folder: entry[5] };
}
