/** `fn diff`: bundles what the manifest names, asks what is deployed, and shows the difference. Changes nothing. */
import { changeLines } from './change-text.ts';
import { connect } from './client.ts';
import type { Input } from './command.ts';
import type { Change, Comparison } from './compare.ts';
import type { Context, Painter } from './context.ts';
import { painter, printJson, say } from './context.ts';
import { AT_ONCE, atOnce, deployedViews, examine } from './deploy-all.ts';
import { resolveTarget } from './deploy-manifest.ts';
import type { ManifestTarget } from './deploy-target.ts';
import type { ExitCode } from './errors.ts';
import { CliError, EXIT, renderError, toCliError } from './errors.ts';
import { Progress } from './progress.ts';

/** What would become of one function. `failed`: it does not build. */
interface Difference {
  namespace: string;
  name: string;
  state: Comparison['state'] | 'failed';
  changes: Change[];
  error: string | null;
}

/** Prints the difference. Exit code 1 where a function does not build, or with --exit-code where something differs. */
export async function diffManifest(ctx: Context, input: Input, target: ManifestTarget): Promise<ExitCode> {
  const { functions, environment } = resolveTarget(ctx, input, target);
  const client = connect(ctx);
  const namespaces = functions.map(({ namespace }) => namespace);
  const views = await deployedViews(client, namespaces);
  const paint = painter(ctx.stderr, ctx.env);
  const progress = new Progress(ctx.stderr, ctx.env);
  progress.doing('bundling');
  const differences = await atOnce(functions, AT_ONCE, async (spec): Promise<Difference> => {
    const { namespace, name } = spec;
    const talk = { client, cwd: ctx.cwd, signal: ctx.signal, say: (line: string) => progress.line(`${name}  ${line}`), paint };
    try {
      const { comparison } = await examine(spec, views.get(`${namespace}/${name}`), talk);
      return { namespace, name, state: comparison.state, changes: comparison.changes, error: null };
    } catch (error) {
      ctx.signal.throwIfAborted();
      const told = toCliError(error);
      progress.line(renderError(new CliError(`${name}: ${told.message}`, told), paint).trimEnd());
      return { namespace, name, state: 'failed', changes: [], error: told.message };
    }
  });
  progress.stop();
  const named = new Set(functions.map(({ namespace, name }) => `${namespace}/${name}`));
  const all = Object.keys(target.file.manifest.functions);
  // What the manifest names and the command line did not is no stranger.
  const others = [...views.values()].filter(({ namespace, name }) => !named.has(`${namespace}/${name}`) && !all.includes(name));
  if (input.flag('json'))
    printJson(ctx, {
      manifest: target.file.path,
      environment,
      functions: differences,
      others: others.map(({ namespace, name }) => ({ namespace, name })),
    });
  else {
    ctx.stdout.write(differences.map((difference) => renderDifference(difference, painter(ctx.stdout, ctx.env))).join(''));
    if (others.length > 0)
      say(ctx, `${paint('dim', 'note')}  deployed, and not in ${target.file.text.label}: ${others.map(({ name }) => name).join(', ')}`);
  }
  if (differences.some(({ state }) => state === 'failed')) return EXIT.failed;
  return input.flag('exitCode') && differences.some(({ state }) => state !== 'unchanged') ? EXIT.failed : EXIT.ok;
}

const MARKS = { added: '+', changed: '~', unchanged: ' ', failed: '!' } as const;
const COLORS = { added: 'green', changed: 'yellow', unchanged: 'dim', failed: 'red' } as const;

function renderDifference({ namespace, name, state, changes }: Difference, paint: Painter): string {
  const head = `${MARKS[state]} ${namespace === 'default' ? name : `${namespace}/${name}`}  ${state}`;
  return [paint(COLORS[state], head), ...changeLines(changes).map((line) => `    ${line}`)].map((line) => `${line}\n`).join('');
}
