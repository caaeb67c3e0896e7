import type { CommandSpec, Input } from '../command.ts';
import { NAMESPACE_OPTION } from '../command.ts';
import type { Context } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { MANIFEST_OPTION, SETTINGS_OPTIONS } from '../settings-options.ts';

export const render: CommandSpec = {
  name: 'render',
  summary: 'print functions as objects of Kubernetes, for kubectl apply',
  description: 'Bundles as fn deploy does, asks and changes nothing. The code is in the object; the same sources give the same text.',
  args: [
    {
      name: 'target',
      description: 'source file or folder; or names of functions in fn.yaml',
      optional: true,
      variadic: true,
      completes: 'target',
    },
  ],
  options: [
    { flags: '--all', description: 'all functions of fn.yaml' },
    { flags: '--name <name>', description: 'name of the function, and of the object (default: from the path)' },
    { ...NAMESPACE_OPTION, description: 'namespace of fn (default: FN_NAMESPACE, fn.yaml, else what the operator mapped)' },
    { flags: '--kube-namespace <name>', description: 'namespace of the cluster (default: the one that kubectl applies to)' },
    MANIFEST_OPTION,
    ...SETTINGS_OPTIONS,
    { flags: '--message <text>', description: 'what this revision is, for fn revisions' },
    { flags: '--bundle <file>', description: 'write the bundle to a file, for --url', completes: 'file' },
    { flags: '--url <url>', description: 'where the platform will find that file, by https; the object then holds its digest only' },
  ],
  examples: [
    'fn render ./handler.ts | kubectl apply -f -',
    'fn render --all --env prod > functions.yaml',
    'fn render ./api --bundle api.tgz --url https://artifacts.example.com/api.tgz > api.yaml',
  ],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const [{ chooseTarget }, { renderPath, renderManifest }] = await Promise.all([import('../deploy-target.ts'), import('../render.ts')]);
  const target = chooseTarget(ctx, input);
  return 'path' in target ? renderPath(ctx, input, target.path) : renderManifest(ctx, input, target);
}
