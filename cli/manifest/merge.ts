/**
 * What several places say about one function, merged: the later place wins. Maps (env) merge by name,
 * lists and all else are replaced. What each value came from is kept, for messages.
 */
import type { FunctionAccess } from '#contract/access.ts';
import { FunctionAccess as FunctionAccessSchema } from '#contract/access.ts';
import type { FunctionSettingsInput } from '#contract/function.ts';
import type { ManifestFunction } from '#contract/manifest.ts';
import type { Path } from './text.ts';

/** Where a value stands: in the manifest, or in what was typed (`--memory`, `FN_MEMORY`). */
export type Origin = { path: Path } | { said: string };

/** One place's word. */
export interface Layer {
  values: ManifestFunction;
  /** Of one of its fields; of `env` by the variable's name. */
  origin(field: keyof ManifestFunction, variable?: string): Origin;
}

export interface Merged {
  values: ManifestFunction;
  /** By field, and by `env.NAME`. */
  origins: Map<string, Origin>;
}

/** A part of the manifest as a layer. */
export const fileLayer = (values: ManifestFunction | undefined, path: Path): Layer => ({
  values: values ?? {},
  origin: (field, variable) => ({ path: variable === undefined ? [...path, field] : [...path, field, variable] }),
});

export function merge(layers: readonly Layer[]): Merged {
  const values: Record<string, unknown> = {};
  const env: Record<string, string> = {};
  const origins = new Map<string, Origin>();
  for (const layer of layers) {
    for (const field of Object.keys(layer.values) as (keyof ManifestFunction)[]) {
      if (layer.values[field] === undefined) continue;
      origins.set(field, layer.origin(field));
      if (field !== 'env') values[field] = layer.values[field];
    }
    for (const [name, value] of Object.entries(layer.values.env ?? {})) {
      env[name] = value;
      origins.set(`env.${name}`, layer.origin('env', name));
    }
  }
  if (Object.keys(env).length > 0) values.env = env;
  return { values: values as ManifestFunction, origins };
}

/** Fields of a manifest that are settings of a revision, and how the contract calls them. */
export const SETTINGS_FIELDS = {
  runtime: 'runtime',
  memory: 'memoryMib',
  cpu: 'cpu',
  timeout: 'timeoutSeconds',
  concurrency: 'concurrency',
  min: 'min',
  max: 'max',
  keepAlive: 'keepAliveSeconds',
  maxStream: 'maxStreamSeconds',
  egress: 'egress',
  sandbox: 'sandbox',
  env: 'env',
  secrets: 'secrets',
} as const satisfies Partial<Record<keyof ManifestFunction, keyof FunctionSettingsInput>>;

/** Fields of a manifest that say how a function is reached; they have the contract's names. */
export const ACCESS_FIELDS = ['routes', 'cors', 'auth', 'rateLimit', 'sticky', 'logs', 'async', 'triggers'] as const;

/** The part that makes a revision; what nobody said is left out. */
export function settingsOf(values: ManifestFunction): FunctionSettingsInput {
  const entries = Object.entries(SETTINGS_FIELDS).map(
    ([field, setting]) => [setting, values[field as keyof typeof SETTINGS_FIELDS]] as const,
  );
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** How the function is reached: what these values say, and `base` (else the defaults) for the rest. */
export function accessOf(values: ManifestFunction, base: Partial<FunctionAccess> = {}): FunctionAccess {
  const said = ACCESS_FIELDS.map((field) => [field, values[field]] as const).filter(([, value]) => value !== undefined);
  return FunctionAccessSchema.parse({ ...base, ...Object.fromEntries(said) });
}

/**
 * The same for a function that is there. Triggers and `async` of which the manifest says nothing stay: `fn trigger add` may
 * have made them, and what waits in a queue is not to be lost by a deployment. A trigger stays paused, or not, where the
 * manifest does not say `enabled`.
 */
export function accessOver(values: ManifestFunction, before: FunctionAccess): FunctionAccess {
  const access = accessOf(values, { async: before.async, triggers: before.triggers });
  const silent = new Set((values.triggers ?? []).filter(({ enabled }) => enabled === undefined).map(({ name }) => name));
  const triggers = access.triggers.map((trigger) => {
    const is = before.triggers.find(({ name }) => name === trigger.name);
    return is !== undefined && silent.has(trigger.name) ? { ...trigger, enabled: is.enabled } : trigger;
  });
  return { ...access, triggers };
}

/** Whether anything is said of how the function is reached. */
export const saysAccess = (values: ManifestFunction): boolean => ACCESS_FIELDS.some((field) => values[field] !== undefined);
