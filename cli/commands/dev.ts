import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { CommandSpec } from '../command.ts';
import { Input, integerBetween } from '../command.ts';
import { ENV_OPTION } from '../settings-options.ts';
import type { Context } from '../context.ts';
import type { Project } from '../dev/session.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';
import { DEFAULT_PORT } from './up.ts';

/** Where Node's own debuggers look first. */
const DEFAULT_INSPECT_PORT = 9_229;
/** Ending the processes of a project takes a moment. */
const PATIENCE_MS = 30_000;

export const dev: CommandSpec = {
  name: 'dev',
  summary: 'serve a project here, again at each change of its files',
  args: [
    {
      name: 'path',
      description: 'source file, or folder with fn.yaml or a source (default: this folder)',
      optional: true,
      completes: 'file',
    },
  ],
  options: [
    ENV_OPTION,
    {
      flags: '--env-file <file>',
      description: 'file of NAME=VALUE lines for all functions (default: .env, where there is one)',
      completes: 'file',
    },
    {
      flags: '--secrets-file <file>',
      description: 'file of NAME=VALUE lines for secrets (default: .secrets, where there is one)',
      completes: 'file',
    },
    {
      flags: '--inspect [port]',
      description: `let a debugger attach (default: ${DEFAULT_INSPECT_PORT})`,
      parse: integerBetween(1, 65_535),
    },
    { flags: '--port <port>', description: 'port to serve at; 0: any free one', parse: integerBetween(0, 65_535), default: DEFAULT_PORT },
    { flags: '--host <ip>', description: 'address to listen on', default: '127.0.0.1' },
    { flags: '--driver <driver>', description: 'what runs instances', choices: ['process', 'docker'], default: 'process' },
  ],
  examples: ['fn dev', 'fn dev ./handler.ts', 'fn dev --env staging --inspect'],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { DevSession } = await import('../dev/session.ts');
  ctx.patience(PATIENCE_MS);
  const { project, folder } = await findProject(ctx, input);
  const secretsFile = fileOr(ctx, input, 'secretsFile', join(folder, '.secrets'));
  const ended = new AbortController();
  // A terminal that closes, or a supervisor of processes, ends it as Ctrl-C does: nothing is left behind.
  for (const name of ['SIGTERM', 'SIGHUP'] as const) process.once(name, () => ended.abort());
  const session = new DevSession(
    { ...ctx, signal: AbortSignal.any([ctx.signal, ended.signal]) },
    {
      project,
      host: input.text('host') ?? '127.0.0.1',
      port: input.number('port') ?? DEFAULT_PORT,
      driver: input.text('driver') === 'docker' ? 'docker' : 'process',
      inspect: input.flag('inspect') ? DEFAULT_INSPECT_PORT : (input.number('inspect') ?? null),
      secretsFile,
    },
  );
  await session.run();
  return ctx.signal.aborted ? EXIT.interrupted : EXIT.ok;
}

/** What was said, else the usual file where it is there, else null. */
function fileOr({ cwd }: Context, input: Input, option: string, usual: string): string | null {
  const said = input.text(option);
  if (said !== undefined) return resolve(cwd, said);
  return existsSync(usual) ? usual : null;
}

/** What is to be served, and its folder. Throws usageError where there is nothing. */
async function findProject(ctx: Context, input: Input): Promise<{ project: Project; folder: string }> {
  const { MANIFEST_NAMES, findManifest } = await import('../manifest/file.ts');
  const path = resolve(ctx.cwd, input.optionalArg(0) ?? '.');
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  const inFolder = isFolder ? MANIFEST_NAMES.map((name) => join(path, name)).find((file) => existsSync(file)) : undefined;
  const manifest = inFolder ?? (input.optionalArg(0) === undefined ? findManifest(ctx.cwd) : null);
  const folder = manifest === null ? (isFolder ? path : dirname(path)) : dirname(manifest);
  const envFile = fileOr(ctx, input, 'envFile', join(folder, '.env'));
  return {
    folder,
    project:
      manifest === null ? await sourceProject(ctx, input, path, folder, envFile) : await manifestProject(ctx, input, manifest, envFile),
  };
}

async function manifestProject(ctx: Context, input: Input, path: string, envFile: string | null): Promise<Project> {
  const [{ readManifest }, { resolveManifest }, { envFile: fileVariables, environmentFrom, overridesFrom }] = await Promise.all([
    import('../manifest/file.ts'),
    import('../manifest/resolve.ts'),
    import('../settings.ts'),
  ]);
  return {
    watched: [dirname(path), ...(envFile === null ? [] : [envFile])],
    label: path,
    functions: () =>
      resolveManifest(readManifest(path, ctx.cwd), {
        environment: environmentFrom(input, ctx.env)?.name,
        overrides: overridesFrom(variablesAlone(input, envFile), ctx.env, ctx.cwd),
        // `.env` is what stands in for the shell of later; what is set in this one counts more.
        variables: { ...fileVariables(envFile ?? undefined, ctx.cwd), ...ctx.env },
      }),
  };
}

async function sourceProject(ctx: Context, input: Input, path: string, folder: string, envFile: string | null): Promise<Project> {
  const [{ DEFAULT_ACCESS }, { DEFAULT_NAMESPACE }, { overridesFrom, settingsAlone }, { locate }, { usageError }] = await Promise.all([
    import('#contract/access.ts'),
    import('#contract/names.ts'),
    import('../settings.ts'),
    import('../deploy.ts'),
    import('../errors.ts'),
  ]);
  if (input.list('env').some((text) => !text.includes('=')))
    throw usageError('--env names an environment of fn.yaml, and there is none here', 'A variable is --env NAME=VALUE.');
  return {
    watched: [folder, ...(envFile === null ? [] : [envFile])],
    label: path,
    functions: () => {
      const { settings } = settingsAlone(overridesFrom(variablesAlone(input, envFile), ctx.env, ctx.cwd));
      const spec = { namespace: DEFAULT_NAMESPACE, name: null, path, image: null, folder, assets: [], settings };
      return [{ ...spec, name: locate(spec, ctx.cwd).name, access: DEFAULT_ACCESS }];
    },
  };
}

/** What `fn deploy --env NAME=VALUE --env-file FILE` would say: of a deployment's options dev has no others. */
const variablesAlone = (input: Input, envFile: string | null): Input =>
  new Input([], { env: input.list('env'), ...(envFile === null ? {} : { envFile }) });
