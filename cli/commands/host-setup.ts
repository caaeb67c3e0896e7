import { spawn } from 'node:child_process';
import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { programFile } from '../root.ts';

export const hostSetup: CommandSpec = {
  name: 'host-setup',
  summary: 'as root: prepare this host (parent cgroup, egress rules) for a platform that runs without root',
  options: [{ flags: '--undo', description: 'remove what it made' }, HOME_OPTION],
  examples: ['sudo fn host-setup', 'sudo fn host-setup --undo'],
  run,
};

async function run(ctx: Context, input: Input): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new CliError('host-setup changes the host, and needs root', {
      exitCode: EXIT.notAuthorised,
      hint: 'sudo fn host-setup --home "$HOME/.fn"',
    });
  }
  const args = [programFile('host-setup'), ...(input.flag('undo') ? ['--undo'] : [])];
  const child = spawn(process.execPath, args, { env: { ...ctx.env, FN_HOME: ctx.home }, stdio: 'inherit' });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (code !== 0)
    throw new CliError('this host could not be prepared', {
      hint: 'See the messages above; fn works without it, with what fn status says is missing.',
    });
}
