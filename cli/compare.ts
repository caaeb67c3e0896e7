/** What a deployment would change: the function as it is wanted against the function as it is. Pure. */
import { isDeepStrictEqual } from 'node:util';
import type { FunctionAccess } from '#contract/access.ts';
import { routeText } from '#contract/access.ts';
import type { RevisionView } from '#contract/api.ts';
import type { FunctionSettingsInput, FunctionView } from '#contract/function.ts';
import { DEFAULT_CONCURRENCY, FunctionSettings } from '#contract/function.ts';
import type { Trigger } from '#contract/trigger.ts';
import { SETTINGS_FIELDS } from './manifest/merge.ts';

export interface Wanted {
  bundle: string;
  entry: string;
  image: string | null;
  settings: FunctionSettingsInput;
  /** Undefined: it may stay as it is. */
  access: FunctionAccess | undefined;
}

/** A function as the platform has it. */
export interface Deployed {
  view: FunctionView;
  revisions: readonly RevisionView[];
}

/** One field, as fn.yaml calls it (`code` is the bundle); null is: not there. */
export interface Change {
  field: string;
  from: unknown;
  to: unknown;
}

export interface Comparison {
  state: 'added' | 'changed' | 'unchanged';
  changes: Change[];
  /** Whether it takes a new revision, and whether routes and the like change. */
  needs: { revision: boolean; access: boolean };
  /** Number of the revision that is what is wanted already, if one is. */
  same: number | null;
}

/**
 * Compares with the revisions that get traffic: where one of them is what is wanted, nothing is to be
 * deployed, and shares that somebody set stay. `anyKept`: with all that are kept, for a revision that
 * shall get no traffic anyway.
 */
export function compare(wanted: Wanted, deployed: Deployed | null, { anyKept = false } = {}): Comparison {
  if (!deployed) return { state: 'added', changes: [], needs: { revision: true, access: wanted.access !== undefined }, same: null };
  const { view, revisions } = deployed;
  const candidates = revisions.filter(({ percent }) => anyKept || percent > 0);
  const same = candidates.find((revision) => revisionChanges(wanted, revision).length === 0)?.number ?? null;
  const ofRevision = same === null ? revisionChanges(wanted, view.revision) : [];
  const ofAccess = wanted.access === undefined ? [] : accessChanges(wanted.access, view.access);
  const changes = [...ofRevision, ...ofAccess];
  const needs = { revision: same === null, access: ofAccess.length > 0 };
  return { state: needs.revision || needs.access ? 'changed' : 'unchanged', changes, needs, same };
}

function revisionChanges(
  { bundle, entry, image, settings: given }: Wanted,
  { settings, form, ...revision }: FunctionView['revision'],
): Change[] {
  const wanted = FunctionSettings.parse(given);
  const changes: Change[] = [];
  const add = (field: string, from: unknown, to: unknown) => {
    if (!isDeepStrictEqual(from, to)) changes.push({ field, from, to });
  };
  add('code', revision.bundle, bundle);
  add('entry', revision.entry, entry);
  add('image', revision.image, image);
  for (const [field, setting] of Object.entries(SETTINGS_FIELDS)) {
    if (setting === 'env') changes.push(...envChanges(settings.env, wanted.env));
    // What was left to the platform is what the platform made of it.
    else if (setting === 'concurrency') add(field, settings.concurrency, wanted.concurrency ?? DEFAULT_CONCURRENCY[form]);
    else if (setting === 'egress') add(field, settings.egress, wanted.egress ?? (settings.egress === 'none' ? 'none' : 'internet'));
    else add(field, settings[setting], wanted[setting]);
  }
  return changes;
}

function envChanges(from: Readonly<Record<string, string>>, to: Readonly<Record<string, string>>): Change[] {
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])].toSorted();
  return names
    .filter((name) => from[name] !== to[name])
    .map((name) => ({ field: `env.${name}`, from: from[name] ?? null, to: to[name] ?? null }));
}

function accessChanges(wanted: FunctionAccess, is: FunctionAccess): Change[] {
  const changes: Change[] = [];
  const [from, to] = [is.routes, wanted.routes].map((routes) => routes.map(routeKey).toSorted());
  if (!isDeepStrictEqual(from, to)) changes.push({ field: 'routes', from: is.routes, to: wanted.routes });
  for (const field of ['cors', 'auth', 'rateLimit', 'sticky', 'logs', 'async'] as const) {
    if (!isDeepStrictEqual(plain(is[field]), plain(wanted[field]))) changes.push({ field, from: is[field], to: wanted[field] });
  }
  return [...changes, ...triggerChanges(is.triggers, wanted.triggers)];
}

/** One for each trigger that is added (`from` null), removed (`to` null) or changed; their order means nothing. */
function triggerChanges(from: readonly Trigger[], to: readonly Trigger[]): Change[] {
  const names = [...new Set([...from, ...to].map(({ name }) => name))].toSorted();
  return names.flatMap((name) => {
    const [before, after] = [from, to].map((triggers) => triggers.find((trigger) => trigger.name === name) ?? null);
    return isDeepStrictEqual(plain(before), plain(after)) ? [] : [{ field: `triggers.${name}`, from: before, to: after }];
  });
}

/** The order of routes means nothing. */
const routeKey = (route: FunctionAccess['routes'][number]): string => `${routeText(route)} ${route.stripPrefix ?? ''}`;

/** As it is on the wire: a field that is undefined is not there. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
