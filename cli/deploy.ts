/** Bundle, upload what is new, make a revision of it: the whole of `fn deploy`, told step by step. */
import type { DeployResponse } from '#contract/api.ts';
import type { FunctionSettingsInput, HandlerForm } from '#contract/function.ts';
import { bundleFunction } from './bundlers/node.ts';
import type { ApiClient } from './client.ts';
import type { Painter } from './context.ts';
import { usageError } from './errors.ts';
import { checkedName, checkedNamespace } from './names.ts';
import { formatBytes, formatMs } from './output.ts';
import { findSource } from './source.ts';

export interface DeployOptions {
  client: ApiClient;
  path: string;
  cwd: string;
  namespace: string;
  /** Instead of the one that the path suggests. */
  name?: string;
  settings: FunctionSettingsInput;
  say: (line: string) => void;
  paint: Painter;
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
};

/** Deploys. Throws CliError; the revision before this one keeps serving then. */
export async function deploy({ client, path, cwd, namespace, name, settings, say, paint }: DeployOptions): Promise<Deployed> {
  const startedAt = performance.now();
  const source = findSource(path, cwd);
  const suggested = name ?? source.name;
  if (suggested === null) throw usageError(`no function name can be made of ${path}`, 'Give one: --name NAME');
  const label = checkedName(suggested, 'Give another: --name NAME');
  checkedNamespace(namespace);
  const bundle = await bundleFunction(source, cwd);
  const bundleMs = performance.now() - startedAt;
  for (const warning of bundle.warnings) say(`${paint('yellow', 'warning:')} ${warning}`);
  say(step(paint, 'bundle', `${formatBytes(bundle.codeBytes)} in ${formatMs(bundleMs)}`));

  const uploadAt = performance.now();
  const uploaded = !(await client.hasBundle(bundle.digest));
  if (uploaded) await client.putBundle(bundle.digest, bundle.bytes);
  const uploadMs = performance.now() - uploadAt;
  say(step(paint, 'upload', uploaded ? `${formatBytes(bundle.bytes.length)} in ${formatMs(uploadMs)}` : 'skipped, unchanged'));

  const response = await client.deploy(namespace, label, { bundle: bundle.digest, entry: bundle.entry, settings });
  const { timing, revision, start, notes } = response;
  say(step(paint, 'start', `${start} ${formatMs(timing.startMs)}, init ${formatMs(timing.initMs)}, route ${formatMs(timing.routeMs)}`));
  say(step(paint, 'form', `${revision.form} (${FORM_WORDS[revision.form]}), concurrency ${revision.settings.concurrency}`));
  for (const note of notes) say(step(paint, 'note', note));
  const totalMs = performance.now() - startedAt;
  say(step(paint, 'live', `${revision.name}@${revision.number} in ${formatMs(totalMs)} total`));
  return { ...response, bundleBytes: bundle.bytes.length, uploaded, clientTiming: { bundleMs, uploadMs, totalMs } };
}

const step = (paint: Painter, label: string, text: string): string => `${paint('dim', label.padEnd(6))}  ${text}`;
