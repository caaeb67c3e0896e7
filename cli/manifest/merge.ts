/**
 * What several places say about one function, merged: the later place wins. Maps (env) merge by name,
 * lists and all else are replaced. What each value came from is kept, for messages.
 */
import type { ManifestFunction } from '#contract/manifest.ts';
import type { Path } from './text.ts';

export { ACCESS_FIELDS, SETTINGS_FIELDS, accessOf, accessOver, saysAccess, settingsOf } from '#contract/manifest-function.ts';

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
