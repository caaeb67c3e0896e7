/**
 * What a manifest says of one function, as what the platform takes: settings of a revision, and how the function is reached.
 * The CLI and declared functions both come this way, so that a field means the same in fn.yaml and in an object of Kubernetes.
 */
import { FunctionAccess } from './access.ts';
import type { FunctionSettingsInput } from './function.ts';
import type { ManifestFunction } from './manifest.ts';

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
  return FunctionAccess.parse({ ...base, ...Object.fromEntries(said) });
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
