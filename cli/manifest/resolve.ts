/** What a manifest comes to: its functions in one environment, complete, checked, ready to be bundled. */
import { resolve } from 'node:path';
import type { FunctionAccess } from '#contract/access.ts';
import type { FunctionSettingsInput } from '#contract/function.ts';
import { CheckedFunctionSettings } from '#contract/function.ts';
import type { Manifest } from '#contract/manifest.ts';
import { DEFAULT_NAMESPACE } from '#contract/names.ts';
import { checkSchedule } from '#kit/schedule.ts';
import { RUNTIMES } from '../bundlers/index.ts';
import { usageError } from '../errors.ts';
import { clashes } from './clashes.ts';
import type { ManifestFile } from './file.ts';
import { interpolate } from './interpolate.ts';
import type { Layer, Merged, Origin } from './merge.ts';
import { SETTINGS_FIELDS, accessOf, accessOver, fileLayer, merge, settingsOf } from './merge.ts';
import { didYouMean } from './similar.ts';
import type { Fault, Path } from './text.ts';

export interface ResolveOptions {
  /** `--env NAME`; without: what stands in the file but for environments. */
  environment?: string | undefined;
  /** Of the functions of the file; without: all. */
  names?: readonly string[];
  /** In place of the file's. */
  namespace?: string | undefined;
  /** Where the file names none; without: `default`. */
  fallbackNamespace?: string;
  /** What was said outside of the file, the strongest last. */
  overrides?: readonly Layer[];
  /** For `${env:NAME}`; null: they stay as they are. */
  variables: Readonly<Record<string, string | undefined>> | null;
}

/** One function of a manifest. */
export interface ResolvedFunction {
  namespace: string;
  name: string;
  /** Absolute path of its source; null with `image`. */
  path: string | null;
  /** With the runtime `image`, as it was written; a path is relative to `folder`. */
  image: string | null;
  /** Folder of the manifest. */
  folder: string;
  assets: readonly string[];
  settings: FunctionSettingsInput;
  /** Of a new function. */
  access: FunctionAccess;
  /** Of one that is there, whose access it is given: see accessOver. */
  accessOver(before: FunctionAccess): FunctionAccess;
  /** Something wrong about its entry or image, with the place where that stands. */
  sourceFault(message: string): Fault;
  /** Something wrong about one of its routes. */
  routeFault(index: number, message: string): Fault;
}

/** Throws CliError (exit code 2) with all that is wrong, with places. */
export function resolveManifest(file: ManifestFile, options: ResolveOptions): ResolvedFunction[] {
  const { functions, faults } = inspectManifest(file, options);
  if (faults.length > 0) throw file.text.error(faults);
  return functions;
}

/** The same with all that is wrong, for who has more to add. Throws CliError for an environment or a name that the file has not. */
export function inspectManifest(file: ManifestFile, options: ResolveOptions): { functions: ResolvedFunction[]; faults: Fault[] } {
  const { manifest, text } = file;
  const { environment } = options;
  const environmentNames = Object.keys(manifest.environments ?? {});
  if (environment !== undefined && !environmentNames.includes(environment)) {
    const hint = environmentNames.length === 0 ? 'It has none: environments: {staging: {…}}' : `It has: ${environmentNames.join(', ')}.`;
    throw usageError(`${text.label} has no environment ${environment}${didYouMean(environment, environmentNames)}`, hint);
  }
  const names = checkedNames(file, options.names);
  const faults = strangers(file);
  const functions = names.map((name) => resolveFunction(file, name, options, faults));
  return { functions, faults: [...faults, ...clashes(functions)] };
}

/** Names as asked for, once each. Throws usageError for one that the file has not. */
function checkedNames({ manifest, text }: ManifestFile, wanted: readonly string[] | undefined): string[] {
  const all = Object.keys(manifest.functions);
  if (wanted === undefined || wanted.length === 0) return all;
  for (const name of wanted) {
    if (!all.includes(name))
      throw usageError(`${text.label} has no function ${name}${didYouMean(name, all)}`, `It has: ${all.join(', ')}.`);
  }
  return [...new Set(wanted)];
}

/** Environments change functions, they have none of their own. */
function strangers({ manifest, text }: ManifestFile): Fault[] {
  const known = Object.keys(manifest.functions);
  return Object.entries(manifest.environments ?? {}).flatMap(([environment, { functions = {} }]) =>
    Object.keys(functions)
      .filter((name) => !known.includes(name))
      .map((name) => ({
        range: text.keyAt(['environments', environment, 'functions', name]),
        message: `environments.${environment}.functions.${name}: there is no such function under functions${didYouMean(name, known)}`,
      })),
  );
}

/** Layers of the file for one function, the weakest first. */
function layersOf(manifest: Manifest, name: string, environment: string | undefined): Layer[] {
  const layers = [fileLayer(manifest.defaults, ['defaults']), fileLayer(manifest.functions[name], ['functions', name])];
  const chosen = environment === undefined ? undefined : manifest.environments?.[environment];
  if (environment === undefined || !chosen) return layers;
  const base: Path = ['environments', environment];
  return [
    ...layers,
    fileLayer(chosen.defaults, [...base, 'defaults']),
    fileLayer(chosen.env === undefined ? {} : { env: chosen.env }, base),
    fileLayer(chosen.functions?.[name], [...base, 'functions', name]),
  ];
}

function resolveFunction(file: ManifestFile, name: string, options: ResolveOptions, faults: Fault[]): ResolvedFunction {
  const { manifest, folder } = file;
  const merged = merge([...layersOf(manifest, name, options.environment), ...(options.overrides ?? [])]);
  const at = (field: string): Fault['range'] => rangeOf(file, name, merged.origins.get(field));
  const tell = (variable: string, message: string) =>
    void faults.push({ range: at(`env.${variable}`), message: `env.${variable}: ${message}` });
  const env = options.variables === null ? merged.values.env : interpolate(merged, options.variables, tell);
  const values = { ...merged.values, ...(env === undefined ? {} : { env }) };
  if (values.image !== undefined && values.runtime === undefined) values.runtime = 'image';
  faults.push(
    ...sourceFaults(values, name, at),
    ...settingsFaults(values, merged, name, at),
    ...scheduleFaults(values, merged, name, file),
  );
  const { entry = null, image = null } = values;
  return {
    namespace:
      options.namespace ??
      (options.environment === undefined ? undefined : manifest.environments?.[options.environment]?.namespace) ??
      manifest.namespace ??
      options.fallbackNamespace ??
      DEFAULT_NAMESPACE,
    name,
    path: entry === null ? null : resolve(folder, entry),
    image,
    folder,
    assets: values.assets ?? [],
    settings: settingsOf(values),
    access: accessOf(values),
    accessOver: (before) => accessOver(values, before),
    sourceFault: (message) => ({ range: at(entry === null ? 'image' : 'entry'), message: `functions.${name}: ${message}` }),
    routeFault: (index, message) => ({
      range: routeRange(file, name, merged.origins.get('routes'), index),
      message: `functions.${name}.routes.${index}: ${message}`,
    }),
  };
}

function routeRange(file: ManifestFile, name: string, origin: Origin | undefined, index: number): Fault['range'] {
  const path = origin !== undefined && 'path' in origin ? [...origin.path, index] : null;
  // A route may stand there alone, without a list.
  return path !== null && file.text.has(path) ? file.text.valueAt(path) : rangeOf(file, name, origin);
}

/** Where it stands; what was typed is shown at the function. */
function rangeOf({ text }: ManifestFile, name: string, origin: Origin | undefined): Fault['range'] {
  return origin !== undefined && 'path' in origin ? text.valueAt(origin.path) : text.keyAt(['functions', name]);
}

function sourceFaults({ entry, image, runtime }: Merged['values'], name: string, at: (field: string) => Fault['range']): Fault[] {
  const fault = (field: string, message: string): Fault[] => [{ range: at(field), message: `functions.${name}: ${message}` }];
  if (runtime !== undefined && !RUNTIMES.includes(runtime))
    return fault(
      'runtime',
      `fn cannot bundle for the runtime ${runtime}${didYouMean(runtime, RUNTIMES)}; it can for: ${RUNTIMES.join(', ')}`,
    );
  if (image !== undefined && runtime !== 'image') return fault('image', `image goes with runtime: image, not with ${runtime}`);
  if (image !== undefined && entry !== undefined) return fault('entry', 'it has both entry and image; one of them says what it is');
  if (image === undefined && entry === undefined && runtime === 'image')
    return fault('runtime', 'runtime: image needs image: which one; or entry: ./Dockerfile');
  if (image === undefined && entry === undefined) return fault('', 'entry is missing: its source file or folder');
  return [];
}

/** What concerns several fields, which only the whole can tell. */
function settingsFaults(values: Merged['values'], { origins }: Merged, name: string, at: (field: string) => Fault['range']): Fault[] {
  const checked = CheckedFunctionSettings.safeParse(settingsOf(values));
  if (checked.success) return [];
  return checked.error.issues.map(({ path: [setting], message }) => {
    const field = Object.entries(SETTINGS_FIELDS).find(([, one]) => one === setting)?.[0] ?? String(setting);
    const origin = origins.get(field);
    return {
      range: at(field),
      message: `functions.${name}.${field}: ${message}${origin !== undefined && 'said' in origin ? ` (${origin.said})` : ''}`,
    };
  });
}

/** Schedules and time zones that nobody understands; the platform would refuse them after all was bundled and sent. */
function scheduleFaults({ triggers = [] }: Merged['values'], { origins }: Merged, name: string, { text }: ManifestFile): Fault[] {
  const origin = origins.get('triggers');
  if (origin === undefined || !('path' in origin)) return [];
  return triggers.flatMap((trigger, index): Fault[] => {
    const fault = trigger.type === 'cron' ? checkSchedule(trigger.schedule, trigger.timezone) : null;
    if (fault === null) return [];
    const above = [...origin.path, index];
    // The short form has another name for it; where neither stands, the place of the trigger is found.
    const field = fault.field === 'schedule' && text.has([...above, 'cron']) ? 'cron' : fault.field;
    return [{ range: text.valueAt([...above, field]), message: `functions.${name}.triggers.${index}.${field}: ${fault.detail}` }];
  });
}
