/** `fn deploy FILE|DIR`: one function, by what the command line says. */
import type { FunctionAccess } from '#contract/access.ts';
import type { FunctionView } from '#contract/function.ts';
import type { ApiClient } from './client.ts';
import { connect } from './client.ts';
import type { Input } from './command.ts';
import type { Context } from './context.ts';
import { painter, print, printJson } from './context.ts';
import type { DeploySpec } from './deploy.ts';
import { build, locate, release } from './deploy.ts';
import { CliError, EXIT, usageError } from './errors.ts';
import { accessOf, saysAccess } from './manifest/merge.ts';
import { chosenNamespace } from './names.ts';
import { Progress } from './progress.ts';
import { environmentFrom, overridesFrom, settingsAlone } from './settings.ts';

/** Deploys a source, or (path null) an image. Prints the URL. Throws CliError; the revision before this one keeps serving then. */
export async function deployPath(ctx: Context, input: Input, path: string | null): Promise<typeof EXIT.ok> {
  const environment = environmentFrom(input, {});
  if (environment)
    throw usageError(`${environment.said} names an environment of fn.yaml, which is not read here`, 'A variable is --env NAME=VALUE.');
  const { settings, values } = settingsAlone(overridesFrom(input, ctx.env, ctx.cwd));
  const { image = null, assets = [] } = values;
  if (image !== null && path !== null)
    throw usageError(`--image says what runs, and so does ${path}`, 'One of them: fn deploy --name NAME --image REF');
  if (image !== null && settings.runtime !== undefined && settings.runtime !== 'image')
    throw usageError(`--image goes with the runtime image, not with ${settings.runtime}`);
  const namespace = chosenNamespace(ctx, input);
  return deploySpec(ctx, input, { namespace, name: input.text('name') ?? null, path, image, folder: ctx.cwd, assets, settings }, values);
}

async function deploySpec(ctx: Context, input: Input, spec: DeploySpec, values: Parameters<typeof accessOf>[0]): Promise<typeof EXIT.ok> {
  const client = connect(ctx);
  const progress = new Progress(ctx.stderr, ctx.env);
  const surroundings = {
    client,
    cwd: ctx.cwd,
    signal: ctx.signal,
    env: ctx.env,
    say: (line: string) => progress.line(line),
    doing: (what: string) => progress.doing(what),
    paint: painter(ctx.stderr, ctx.env),
  };
  try {
    const { name } = locate(spec, ctx.cwd);
    const wantsTraffic = input.flag('traffic');
    const built = await build({ ...spec, name }, surroundings);
    // What is not said of its routes and who may call it stays, so what there is must be known.
    const before = !wantsTraffic || saysAccess(values) ? await describeOrNull(client, spec.namespace, name) : undefined;
    const traffic = wantsTraffic || before === null;
    if (!wantsTraffic && traffic) progress.line('note    the first revision of a function gets the traffic');
    const access: FunctionAccess | undefined = saysAccess(values) ? accessOf(values, before?.access) : undefined;
    const deployed = await release(built, { access, traffic, message: input.text('message') }, surroundings);
    if (input.flag('json')) printJson(ctx, deployed);
    else print(ctx, traffic ? deployed.url : deployed.previewUrl);
    return EXIT.ok;
  } finally {
    progress.stop();
  }
}

/** Null where it was never deployed. */
export async function describeOrNull(client: ApiClient, namespace: string, name: string): Promise<FunctionView | null> {
  try {
    return await client.describe(namespace, name);
  } catch (error) {
    if (error instanceof CliError && (error.code === 'function-not-found' || error.code === 'namespace-not-found')) return null;
    throw error;
  }
}
