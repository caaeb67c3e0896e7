/** `fn deploy [NAME…]`: the functions of the manifest, and what became of each. */
import { connect } from './client.ts';
import type { Input } from './command.ts';
import type { Context } from './context.ts';
import { painter, printJson } from './context.ts';
import type { Outcome } from './deploy-all.ts';
import { checkSources, deployAll, deployedViews, exitCodeOf } from './deploy-all.ts';
import type { ManifestTarget } from './deploy-target.ts';
import type { ExitCode } from './errors.ts';
import { CliError, renderError, usageError } from './errors.ts';
import type { ResolvedFunction } from './manifest/resolve.ts';
import { inspectManifest } from './manifest/resolve.ts';
import { defaultNamespace, saidNamespace } from './names.ts';
import { formatMs, table } from './output.ts';
import { Progress } from './progress.ts';
import { environmentFrom, overridesFrom } from './settings.ts';

/** The functions that are meant, with what was said beside the file. Throws CliError (exit code 2). */
export function resolveTarget(
  ctx: Context,
  input: Input,
  { file, names }: ManifestTarget,
): { functions: ResolvedFunction[]; environment: string | null } {
  const environment = environmentFrom(input, ctx.env)?.name;
  const overrides = overridesFrom(input, ctx.env, ctx.cwd);
  const [namespace, fallbackNamespace] = [saidNamespace(ctx, input), defaultNamespace(ctx)];
  const { functions, faults } = inspectManifest(file, { environment, names, namespace, fallbackNamespace, overrides, variables: ctx.env });
  if (input.text('name') !== undefined) throw usageError('--name goes with a path; in fn.yaml functions have their names already');
  const single = ['route', 'image'].find((option) => (option === 'image' ? input.has(option) : input.list(option).length > 0));
  if (single !== undefined && functions.length > 1)
    throw usageError(
      `--${single} is for one function, and ${functions.length} are deployed`,
      'Name one: fn deploy NAME; or write it into fn.yaml.',
    );
  checkSources(file, functions, ctx.cwd, faults);
  return { functions, environment: environment ?? null };
}

/** Deploys what changed; prints a table. One that fails does not stop the others; the exit code is 1 then. */
export async function deployManifest(ctx: Context, input: Input, target: ManifestTarget): Promise<ExitCode> {
  const { functions, environment } = resolveTarget(ctx, input, target);
  const paint = painter(ctx.stderr, ctx.env);
  const client = connect(ctx);
  const views = await deployedViews(
    client,
    functions.map(({ namespace }) => namespace),
  );
  const progress = new Progress(ctx.stderr, ctx.env);
  const width = Math.max(...functions.map(({ name }) => name.length));
  const busy = new Map<string, string>();
  const surroundingsOf = ({ name }: { name: string }) => ({
    client,
    cwd: ctx.cwd,
    signal: ctx.signal,
    env: ctx.env,
    say: (line: string) => progress.line(`${paint('bold', name.padEnd(width))}  ${line}`),
    doing: (what: string) => {
      busy.set(name, what);
      progress.doing([...busy].map(([one, does]) => `${one}: ${does}`).join(', '));
    },
    paint,
  });
  const options = { force: input.flag('force'), traffic: input.flag('traffic'), message: input.text('message') };
  const outcomes = await deployAll(functions, views, options, surroundingsOf, ({ name, result }, error) => {
    busy.delete(name);
    if (error) progress.line(renderError(new CliError(`${name}: ${error.message}`, error), paint).trimEnd());
    else if (result === 'unchanged' || result === 'routed')
      progress.line(
        `${paint('bold', name.padEnd(width))}  ${paint('dim', result === 'routed' ? 'access' : 'same')}    ${RESULT_WORDS[result]}`,
      );
  });
  progress.stop();
  if (input.flag('json')) printJson(ctx, { manifest: target.file.path, environment, functions: outcomes });
  else ctx.stdout.write(renderOutcomes(outcomes));
  ctx.signal.throwIfAborted();
  return exitCodeOf(outcomes);
}

const RESULT_WORDS: Record<Outcome['result'], string> = {
  created: 'created',
  updated: 'updated',
  routed: 'routes and access changed, no new revision',
  unchanged: 'unchanged',
  failed: 'failed',
  abandoned: 'abandoned',
};

function renderOutcomes(outcomes: readonly Outcome[]): string {
  return table(
    [
      { title: 'FUNCTION', value: ({ namespace, name }) => (namespace === 'default' ? name : `${namespace}/${name}`) },
      { title: 'RESULT', value: ({ result }) => result },
      { title: 'REVISION', value: ({ revision }) => (revision === null ? '–' : String(revision)), align: 'right' },
      { title: 'TIME', value: ({ ms }) => formatMs(ms), align: 'right' },
      { title: 'URL', value: ({ url }) => url ?? '–' },
    ],
    outcomes,
  );
}
