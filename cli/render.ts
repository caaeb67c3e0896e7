/** `fn render`: bundles, and prints objects of Kubernetes. Nobody is asked, and nothing is changed. */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { stringify } from 'yaml';
import { DEFAULT_ACCESS, type FunctionAccess } from '#contract/access.ts';
import { FUNCTION_OBJECT_LIMITS, type FunctionSource } from '#contract/function-resource.ts';
import { DEFAULT_NAMESPACE } from '#contract/names.ts';
import { connect } from './client.ts';
import type { Input } from './command.ts';
import type { Context } from './context.ts';
import { painter } from './context.ts';
import { build, type Built, type DeploySpec, locate } from './deploy.ts';
import { AT_ONCE, atOnce, checkSources } from './deploy-all.ts';
import type { ManifestTarget } from './deploy-target.ts';
import { CliError, EXIT, type ExitCode, usageError } from './errors.ts';
import { accessOf } from './manifest/merge.ts';
import { inspectManifest } from './manifest/resolve.ts';
import { saidNamespace } from './names.ts';
import { formatBytes } from './output.ts';
import { base64Lines, functionObject } from './render-object.ts';
import { environmentFrom, overridesFrom, settingsAlone } from './settings.ts';

type Renderable = DeploySpec & { name: string; access: FunctionAccess; accessOver?(before: FunctionAccess): FunctionAccess };

/** A source by its path, with what the command line says. */
export async function renderPath(ctx: Context, input: Input, path: string | null): Promise<ExitCode> {
  const environment = environmentFrom(input, {});
  if (environment)
    throw usageError(`${environment.said} names an environment of fn.yaml, which is not read here`, 'A variable is --env NAME=VALUE.');
  const { settings, values } = settingsAlone(overridesFrom(input, ctx.env, ctx.cwd));
  const { image = null, assets = [] } = values;
  const namespace = saidNamespace(ctx, input) ?? DEFAULT_NAMESPACE;
  const spec = { namespace, name: input.text('name') ?? null, path, image, folder: ctx.cwd, assets, settings };
  refuseImages([spec]);
  return print(ctx, input, [{ ...spec, name: locate(spec, ctx.cwd).name, access: accessOf(values) }]);
}

/** Functions of a manifest: those that are named, or --all. */
export async function renderManifest(ctx: Context, input: Input, { file, names }: ManifestTarget): Promise<ExitCode> {
  const environment = environmentFrom(input, ctx.env)?.name;
  const overrides = overridesFrom(input, ctx.env, ctx.cwd);
  const namespace = saidNamespace(ctx, input);
  const { functions, faults } = inspectManifest(file, { environment, names, namespace, overrides, variables: ctx.env });
  if (input.text('name') !== undefined) throw usageError('--name goes with a path; in fn.yaml functions have their names already');
  if (functions.length > 1 && names.length === 0 && !input.flag('all'))
    throw usageError(
      `${file.text.label} has ${functions.length} functions: ${functions.map(({ name }) => name).join(', ')}`,
      'Name some of them, or all: fn render --all',
    );
  checkSources(file, functions, ctx.cwd, faults);
  refuseImages(functions);
  return print(ctx, input, functions);
}

function refuseImages(functions: readonly DeploySpec[]): void {
  const image = functions.find(({ image: one, settings }) => one !== null || settings.runtime === 'image');
  if (image === undefined) return;
  throw usageError(
    `${image.name ?? 'the function'} is made of an image, which an object cannot hold`,
    'fn deploy takes images; or name the others: fn render NAME…',
  );
}

async function print(ctx: Context, input: Input, functions: readonly Renderable[]): Promise<ExitCode> {
  const [url, file] = [input.text('url'), input.text('bundle')];
  if ((url !== undefined || file !== undefined) && functions.length > 1)
    throw usageError(`--${url === undefined ? 'bundle' : 'url'} is for one function, and ${functions.length} are rendered`, 'Name one.');
  if (url !== undefined && !/^https:\/\/./.test(url)) throw usageError(`--url ${url} is no https URL`);
  const paint = painter(ctx.stderr, ctx.env);
  const talk = (name: string) => (line: string) => void ctx.stderr.write(`${functions.length > 1 ? `${name}  ` : ''}${line}\n`);
  const surroundings = { client: connect(ctx), cwd: ctx.cwd, signal: ctx.signal, env: ctx.env, paint };
  const texts = await atOnce(functions, AT_ONCE, async (spec) => {
    const built = await build(spec, { ...surroundings, say: talk(spec.name) });
    if (file !== undefined) writeFileSync(resolve(ctx.cwd, file), built.bundle.bytes);
    return textOf(built, spec, {
      source: sourceOf(built, url),
      message: input.text('message'),
      kubeNamespace: input.text('kubeNamespace') ?? null,
    });
  });
  ctx.signal.throwIfAborted();
  const large = texts.some((text) => Buffer.byteLength(text) > FUNCTION_OBJECT_LIMITS.clientSideApplyBytes);
  if (large)
    ctx.stderr.write(
      `${paint('dim', 'note')}  over ${formatBytes(FUNCTION_OBJECT_LIMITS.clientSideApplyBytes)}, which is what kubectl apply can keep a copy of: kubectl apply --server-side -f -\n`,
    );
  ctx.stdout.write(texts.join('---\n'));
  return EXIT.ok;
}

/** Throws CliError where the bundle is too large for an object. */
function sourceOf({ name, bundle }: Built, url: string | undefined): FunctionSource {
  if (url !== undefined) return { url, sha256: bundle.digest.slice('sha256:'.length) };
  const archive = base64Lines(bundle.bytes);
  if (archive.length <= FUNCTION_OBJECT_LIMITS.archiveLength) return { archive };
  throw new CliError(`the bundle of ${name} has ${formatBytes(bundle.bytes.length)}, and an object of Kubernetes holds some 1 MB`, {
    exitCode: EXIT.usage,
    hint: `Put it where the platform can fetch it: fn render … --bundle ${name}.tgz --url https://HOST/${name}.tgz`,
  });
}

function textOf(
  { name, namespace, bundle, settings }: Built,
  { access, accessOver }: Renderable,
  more: { source: FunctionSource; message: string | undefined; kubeNamespace: string | null },
): string {
  const object = functionObject({
    name,
    namespace: namespace === DEFAULT_NAMESPACE ? null : namespace,
    entry: bundle.entry,
    settings,
    access,
    unsaid: unsaidTriggers(access, accessOver),
    ...more,
  });
  return stringify(object, { lineWidth: 0, aliasDuplicateObjects: false });
}

/** Triggers that stay paused, or not, as they are where the function is: of those the manifest does not say. */
function unsaidTriggers(access: FunctionAccess, accessOver: Renderable['accessOver']): Set<string> {
  if (accessOver === undefined) return new Set();
  const turned = access.triggers.map((trigger) => ({ ...trigger, enabled: !trigger.enabled }));
  const after = accessOver({ ...DEFAULT_ACCESS, triggers: turned }).triggers;
  return new Set(
    after.filter(({ name, enabled }) => turned.some((one) => one.name === name && one.enabled === enabled)).map(({ name }) => name),
  );
}
