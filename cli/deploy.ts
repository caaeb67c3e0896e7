/** Bundle, upload what is new, make a revision of it: the whole of `fn deploy`, told step by step. */
import type { FunctionAccess } from '#contract/access.ts';
import type { DeployRequestInput, DeployResponse } from '#contract/api.ts';
import type { FunctionSettingsInput, HandlerForm } from '#contract/function.ts';
import { bundle as bundleSource } from './bundlers/index.ts';
import type { Bundle } from './bundlers/types.ts';
import type { ApiClient } from './client.ts';
import type { Painter } from './context.ts';
import { CliError, usageError } from './errors.ts';
import { checkedName, checkedNamespace } from './names.ts';
import { withRuntime } from './needed-runtime.ts';
import { formatBytes, formatMs } from './output.ts';
import type { Source } from './source.ts';
import { findSource } from './source.ts';

/** What is deployed, as a manifest or a command line says. */
export interface DeploySpec {
  namespace: string;
  /** Null: the one that the path suggests. */
  name: string | null;
  /** Source file or folder; null with `image`. */
  path: string | null;
  /** With the runtime `image`, as it was written; paths are relative to `folder`. */
  image: string | null;
  /** What relative paths are relative to. */
  folder: string;
  assets: readonly string[];
  settings: FunctionSettingsInput;
}

export interface Surroundings {
  client: ApiClient;
  cwd: string;
  signal: AbortSignal;
  /** A line of talk. */
  say: (line: string) => void;
  /** What goes on from now on, for who watches. */
  doing?: (what: string) => void;
  paint: Painter;
  /** With it, a runtime that is not built yet is built, where the platform is on this machine. */
  env?: NodeJS.ProcessEnv;
  /** For a debugger: source maps name files by their absolute path. */
  debug?: boolean;
}

/** A function that is bundled and not sent yet. */
export interface Built {
  namespace: string;
  name: string;
  bundle: Bundle;
  settings: FunctionSettingsInput;
  startedAt: number;
  bundleMs: number;
}

export interface Release {
  /** In place of the function's; left out, it stays. */
  access?: FunctionAccess | undefined;
  /** `false`: the revision gets no traffic. */
  traffic?: boolean;
  message?: string | undefined;
}

export interface Deployed extends DeployResponse {
  bundleBytes: number;
  uploaded: boolean;
  /** What the client did itself and as a whole, ms. */
  clientTiming: { bundleMs: number; uploadMs: number; totalMs: number };
}

const FORM_WORDS: Record<HandlerForm, string> = {
  fetch: 'default export with fetch',
  methods: 'exports named after HTTP methods',
  lambda: 'exported handler(event, context), as AWS Lambda has it',
  function: 'default export that is a function',
  server: 'a server that listens',
  wsgi: 'a WSGI application',
  asgi: 'an ASGI application',
  port: 'a program that listens on $PORT',
  events: 'handlers for events, none for HTTP',
};

const PYTHON_FORM_WORDS: Partial<Record<HandlerForm, string>> = {
  lambda: 'handler(event, context), as AWS Lambda has it',
  function: 'a plain function: main, handle or handler',
};

/** What a form looks like in the source of its language. */
export const formWords = (form: HandlerForm, runtime: string): string =>
  (runtime === 'python' ? PYTHON_FORM_WORDS[form] : undefined) ?? FORM_WORDS[form];

/** A namespace that is another's answers as one that is not there: so who has the wrong token reads of a bundle that is missing. */
function uploadError(error: unknown, namespace: string): unknown {
  if (!(error instanceof CliError) || error.code !== 'not-found') return error;
  return new CliError(`nothing can be deployed to the namespace ${namespace} (not-found)`, {
    hint: 'It is not there, or the token is not for it: fn whoami says what it is for, -n NAMESPACE chooses another.',
    code: error.code,
    cause: error,
  });
}

/** Where the source of it is and what it is called. Throws usageError where there is none, or no name can be made. */
export function locate({ path, image, folder, name }: DeploySpec, cwd: string): { source: Source; name: string } {
  const source: Source = path === null ? { entry: folder, folder, name: null } : findSource(path, cwd);
  const suggested = name ?? source.name;
  if (suggested === null) throw usageError(`no function name can be made of ${path ?? image ?? folder}`, 'Give one: --name NAME');
  return { source, name: checkedName(suggested, 'Give another: --name NAME') };
}

/** Bundles. Throws CliError; nothing was sent then. */
export async function build(spec: DeploySpec, { client, cwd, signal, say, doing, paint, debug = false }: Surroundings): Promise<Built> {
  const startedAt = performance.now();
  const namespace = checkedNamespace(spec.namespace);
  const { source, name } = locate(spec, cwd);
  doing?.('bundling');
  const runtime = spec.settings.runtime ?? (spec.image === null ? (source.runtime ?? 'node') : 'image');
  const { image, assets } = spec;
  const bundle = await bundleSource({ runtime, source, image: image ?? undefined, cwd, assets, say, signal, client, namespace, debug });
  const bundleMs = performance.now() - startedAt;
  for (const warning of bundle.warnings) say(`${paint('yellow', 'warning:')} ${warning}`);
  return { namespace, name, bundle, settings: { ...spec.settings, runtime }, startedAt, bundleMs };
}

/** Sends what is new and makes a revision of it. Throws CliError; the revision before this one keeps serving then. */
export async function release(
  { namespace, name, bundle, settings, startedAt, bundleMs }: Built,
  { access, traffic = true, message }: Release,
  { client, say, doing, paint, signal, env }: Surroundings,
): Promise<Deployed> {
  signal.throwIfAborted();
  say(step(paint, 'bundle', `${formatBytes(bundle.codeBytes)} in ${formatMs(bundleMs)}`));
  const uploadAt = performance.now();
  doing?.('uploading');
  const uploaded = !(await client.hasBundle(namespace, bundle.digest));
  try {
    if (uploaded) await client.putBundle(namespace, bundle.digest, bundle.bytes);
  } catch (error) {
    throw uploadError(error, namespace);
  }
  const uploadMs = performance.now() - uploadAt;
  say(step(paint, 'upload', uploaded ? `${formatBytes(bundle.bytes.length)} in ${formatMs(uploadMs)}` : 'skipped, unchanged'));

  doing?.('starting');
  const request: DeployRequestInput = { bundle: bundle.digest, entry: bundle.entry, settings, image: bundle.image ?? null, traffic };
  const body = { ...request, ...(access ? { access } : {}), ...(message === undefined ? {} : { message }) };
  const runtime = settings.runtime ?? 'node';
  const response = await withRuntime(runtime, { client, env, say, doing }, () => client.deploy(namespace, name, body));
  const { timing, revision, start, notes } = response;
  say(step(paint, 'start', `${start} ${formatMs(timing.startMs)}, init ${formatMs(timing.initMs)}, route ${formatMs(timing.routeMs)}`));
  say(
    step(
      paint,
      'form',
      `${revision.form} (${formWords(revision.form, revision.settings.runtime)}), concurrency ${revision.settings.concurrency}`,
    ),
  );
  for (const note of notes) say(step(paint, 'note', note));
  const totalMs = performance.now() - startedAt;
  say(
    step(
      paint,
      traffic ? 'live' : 'ready',
      `${revision.name}@${revision.number} in ${formatMs(totalMs)} total${traffic ? '' : `, without traffic: ${response.previewUrl}`}`,
    ),
  );
  return { ...response, bundleBytes: bundle.bytes.length, uploaded, clientTiming: { bundleMs, uploadMs, totalMs } };
}

const step = (paint: Painter, label: string, text: string): string => `${paint('dim', label.padEnd(6))}  ${text}`;
