import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { MANIFEST_OPTION, SETTINGS_OPTIONS } from '../settings-options.ts';

export const deploy: CommandSpec = {
  name: 'deploy',
  summary: 'put a function live, or all of fn.yaml',
  args: [
    {
      name: 'target',
      description: 'source file or folder; or names of functions in fn.yaml; nothing: all of them',
      optional: true,
      variadic: true,
      completes: 'target',
    },
  ],
  options: [
    { flags: '--name <name>', description: 'name of the function (default: from the path)' },
    { ...NAMESPACE_OPTION, description: 'namespace (default: FN_NAMESPACE, fn.yaml, or default)' },
    MANIFEST_OPTION,
    ...SETTINGS_OPTIONS,
    { flags: '--message <text>', description: 'what this revision is, for fn revisions' },
    { flags: '--no-traffic', description: 'the revision gets no requests but those to its preview URL' },
    { flags: '--force', description: 'with fn.yaml: also what did not change' },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: [
    'fn deploy ./handler.ts',
    'fn deploy ./api --name api --memory 256Mi --env STAGE=prod --secret DATABASE_URL',
    'fn deploy                      # all of fn.yaml, what changed',
    'fn deploy api --env staging    # one of it, in an environment',
    'fn deploy ./api --no-traffic   # look at it first, then: fn traffic api latest=100',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const [{ chooseTarget }, { deployPath }, { deployManifest }] = await Promise.all([
    import('../deploy-target.ts'),
    import('../deploy-path.ts'),
    import('../deploy-manifest.ts'),
  ]);
  const target = chooseTarget(ctx, input);
  return 'path' in target ? deployPath(ctx, input, target.path) : deployManifest(ctx, input, target);
}
