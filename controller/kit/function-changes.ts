/** What differs between a function as it is wanted and as it is, field by field, by the names of fn.yaml. Pure. */
import { isDeepStrictEqual } from 'node:util';
import type { FunctionAccess } from '#contract/access.ts';
import { routeText } from '#contract/access.ts';
import type { FunctionSettingsInput, Revision } from '#contract/function.ts';
import { DEFAULT_CONCURRENCY, FunctionSettings } from '#contract/function.ts';
import { SETTINGS_FIELDS } from '#contract/manifest-function.ts';
import type { Trigger } from '#contract/trigger.ts';

/** A revision as it is wanted. */
export interface WantedRevision {
  bundle: string;
  entry: string;
  image: string | null;
  settings: FunctionSettingsInput;
}

/** One field, as fn.yaml calls it (`code` is the bundle); null is: not there. */
export interface Change {
  field: string;
  from: unknown;
  to: unknown;
}

/** From the revision that there is to the one that is wanted. What was left to the platform is not compared. */
export function revisionChanges(
  { bundle, entry, image, settings: given }: WantedRevision,
  { settings, form, ...revision }: Revision,
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

/** From `is` to `wanted`; the order of routes and triggers means nothing. */
export function accessChanges(wanted: FunctionAccess, is: FunctionAccess): Change[] {
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
