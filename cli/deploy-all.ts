/** Deploying the functions of a manifest: beside each other, only what changed, one failure does not stop the rest. */
import type { FunctionAccess } from '#contract/access.ts';
import type { RevisionView } from '#contract/api.ts';
import type { FunctionView } from '#contract/function.ts';
import type { ApiClient } from './client.ts';
import type { Change, Comparison, Deployed } from './compare.ts';
import { compare } from './compare.ts';
import { declaredText } from './declared.ts';
import type { Built, DeploySpec, Surroundings } from './deploy.ts';
import { build, locate, release } from './deploy.ts';
import { CliError, EXIT, toCliError } from './errors.ts';
import type { ManifestFile } from './manifest/file.ts';
import type { ResolvedFunction } from './manifest/resolve.ts';
import type { Fault } from './manifest/text.ts';

/** What is needed of a function to deploy it: one of a manifest, or one that is made up. */
export type Deployable = DeploySpec & {
  name: string;
  access: FunctionAccess;
  /** In place of `access` for a function that is there, whose own it is given. */
  accessOver?(before: FunctionAccess): FunctionAccess;
};

const accessFor = ({ access, accessOver }: Deployable, view: FunctionView | undefined): FunctionAccess =>
  view === undefined || accessOver === undefined ? access : accessOver(view.access);

/** Functions that are bundled and deployed at a time: bundling takes a core, loading one the other. */
export const AT_ONCE = 4;

export interface DeployAllOptions {
  /** Also what did not change. */
  force: boolean;
  /** `false`: new revisions get no traffic, and routes and the like stay. */
  traffic: boolean;
  message: string | undefined;
}

/** What became of one function. `routed`: its routes, auth and the like changed, its revision did not. */
export interface Outcome {
  namespace: string;
  name: string;
  result: 'created' | 'updated' | 'routed' | 'unchanged' | 'failed' | 'abandoned';
  /** Number of the revision that is what the manifest says. */
  revision: number | null;
  url: string | null;
  /** Of a new revision. */
  previewUrl: string | null;
  ms: number;
  changes: Change[];
  error: { message: string; code: string | null; details: string[]; hint: string | null } | null;
}

/** A function that was bundled and compared with what is deployed. */
export interface Examined {
  built: Built;
  deployed: Deployed | null;
  comparison: Comparison;
}

/** Functions by `namespace/name`, as they are deployed. Fails at once where the platform does not answer. */
export async function deployedViews(client: ApiClient, namespaces: readonly string[]): Promise<Map<string, FunctionView>> {
  const lists = await Promise.all([...new Set(namespaces)].map((namespace) => client.list(namespace)));
  return new Map(lists.flat().map((view) => [`${view.namespace}/${view.name}`, view]));
}

/** Throws CliError (exit code 2) that names, with places, every entry that is not there. */
export function checkSources(file: ManifestFile, functions: readonly ResolvedFunction[], cwd: string, known: readonly Fault[] = []): void {
  const sources = functions.flatMap((spec) => {
    try {
      locate(spec, cwd);
      return [];
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      return [spec.sourceFault(error.hint === undefined ? error.message : `${error.message}. ${error.hint}`)];
    }
  });
  const faults = [...known, ...sources];
  if (faults.length > 0) throw file.text.error(faults);
}

/** Bundles one and compares it. */
export async function examine(
  spec: Deployable,
  view: FunctionView | undefined,
  surroundings: Surroundings,
  { traffic = true }: { traffic?: boolean } = {},
): Promise<Examined> {
  const built = await build(spec, surroundings);
  const deployed = view === undefined ? null : { view, revisions: await revisionsOf(view, surroundings.client) };
  const { digest, entry, image = null } = built.bundle;
  const access = traffic || deployed === null ? accessFor(spec, view) : undefined;
  return {
    built,
    deployed,
    comparison: compare({ bundle: digest, entry, image, settings: built.settings, access }, deployed, { anyKept: !traffic }),
  };
}

const revisionsOf = (view: FunctionView, client: ApiClient): Promise<RevisionView[]> => client.revisions(view.namespace, view.name);

/** Deploys all of them; never throws for one of them. `told` hears of each when it is done. */
export async function deployAll(
  functions: readonly Deployable[],
  views: ReadonlyMap<string, FunctionView>,
  options: DeployAllOptions,
  surroundingsOf: (spec: Deployable) => Surroundings,
  told: (outcome: Outcome, error: CliError | null) => void,
): Promise<Outcome[]> {
  const attempt = (spec: Deployable) => attemptOne(spec, views.get(`${spec.namespace}/${spec.name}`), options, surroundingsOf(spec));
  const first = await atOnce(functions, AT_ONCE, async (spec) => {
    const tried = await attempt(spec);
    if (!isClash(tried)) told(tried.outcome, tried.failure);
    return tried;
  });
  // A route that moves from one function to another clashes while the other one still has it.
  return atOnce(first, 1, async (tried) => {
    if (!isClash(tried)) return tried.outcome;
    const again = await attempt(tried.spec);
    told(again.outcome, again.failure);
    return again.outcome;
  });
}

interface Attempt {
  spec: Deployable;
  outcome: Outcome;
  failure: CliError | null;
}

const isClash = ({ failure }: Attempt): boolean => failure?.code === 'route-conflict';

async function attemptOne(
  spec: Deployable,
  view: FunctionView | undefined,
  options: DeployAllOptions,
  surroundings: Surroundings,
): Promise<Attempt> {
  const startedAt = performance.now();
  const { namespace, name } = spec;
  const outcome: Outcome = {
    namespace,
    name,
    result: 'failed',
    revision: null,
    url: null,
    previewUrl: null,
    ms: 0,
    changes: [],
    error: null,
  };
  let failure: CliError | null = null;
  try {
    surroundings.signal.throwIfAborted();
    Object.assign(outcome, await deployOne(spec, view, options, surroundings));
  } catch (error) {
    // Ctrl-C closes the connection, which abandons what is not committed.
    if (surroundings.signal.aborted) outcome.result = 'abandoned';
    else {
      failure = toCliError(error);
      outcome.error = { message: failure.message, code: failure.code ?? null, details: failure.details, hint: failure.hint ?? null };
    }
  }
  outcome.ms = Math.round(performance.now() - startedAt);
  return { spec, outcome, failure };
}

async function deployOne(
  spec: Deployable,
  view: FunctionView | undefined,
  { force, traffic: wantsTraffic, message }: DeployAllOptions,
  surroundings: Surroundings,
): Promise<Partial<Outcome>> {
  const { client, doing } = surroundings;
  // The first revision of a function gets the traffic, whatever was asked for.
  const traffic = wantsTraffic || view === undefined;
  const { built, deployed, comparison } = await examine(spec, view, surroundings, { traffic });
  const { changes, needs, same } = comparison;
  if (force || needs.revision) {
    const access = needs.access ? accessFor(spec, view) : undefined;
    const { url, previewUrl, revision } = await release(built, { access, traffic, message }, surroundings);
    return { result: deployed ? 'updated' : 'created', revision: revision.number, url, previewUrl, changes };
  }
  const done = { revision: same, url: deployed?.view.url ?? null, changes };
  if (!needs.access || !deployed) return { ...done, result: 'unchanged' };
  const declared = declaredText(deployed.view);
  if (declared !== null) surroundings.say(`${surroundings.paint('yellow', 'warning:')} ${declared}`);
  doing?.('changing its routes');
  await client.setAccess(spec.namespace, spec.name, accessFor(spec, view), deployed.view.etag);
  return { ...done, result: 'routed' };
}

/** Exit code for all of them. */
export function exitCodeOf(outcomes: readonly Outcome[]): 0 | 1 {
  return outcomes.some(({ result }) => result === 'failed') ? EXIT.failed : EXIT.ok;
}

/** Works on so many at a time; the results are in the order of the items. */
export async function atOnce<Item, Result>(
  items: readonly Item[],
  limit: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next;
      next += 1;
      results[index] = await work(items[index]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
