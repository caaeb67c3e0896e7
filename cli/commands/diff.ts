import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { MANIFEST_OPTION, SETTINGS_OPTIONS } from '../settings-options.ts';

export const diff: CommandSpec = {
  name: 'diff',
  summary: 'show what fn deploy would change',
  args: [
    {
      name: 'name',
      description: 'functions of fn.yaml; nothing: all of them',
      optional: true,
      variadic: true,
      completes: 'manifest-function',
    },
  ],
  options: [
    { ...NAMESPACE_OPTION, description: 'namespace (default: FN_NAMESPACE, fn.yaml, or default)' },
    MANIFEST_OPTION,
    ...SETTINGS_OPTIONS,
    { flags: '--exit-code', description: 'end with 1 where something would change' },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn diff', 'fn diff api --env staging', 'fn diff --exit-code > /dev/null && echo up to date'],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const [{ chooseTarget }, { diffManifest }, { usageError }] = await Promise.all([
    import('../deploy-target.ts'),
    import('../diff.ts'),
    import('../errors.ts'),
  ]);
  const target = chooseTarget(ctx, input);
  if ('path' in target)
    throw usageError(
      `${target.path ?? 'an image'} is no function of an fn.yaml`,
      'fn diff compares what fn.yaml says with what is deployed.',
    );
  return diffManifest(ctx, input, target);
}
