/**
 * What is said of functions outside of fn.yaml: the options of `fn deploy` and `fn diff`, and before
 * them the variables FN_MEMORY and its like. Both are read by the manifest's own schema, so that a
 * value means the same in all three places.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { FunctionSettingsInput } from '#contract/function.ts';
import { CheckedFunctionSettings } from '#contract/function.ts';
import { ManifestFunction } from '#contract/manifest.ts';
import type { Input } from './command.ts';
import { readAssignments } from './env-file.ts';
import { CliError, EXIT, usageError } from './errors.ts';
import { plainIssues } from './manifest/issues.ts';
import type { Layer, Merged } from './manifest/merge.ts';
import { SETTINGS_FIELDS, merge, settingsOf } from './manifest/merge.ts';

type Field = keyof ManifestFunction;

interface Source {
  field: Field;
  flag: string;
  /** Name of the option as commander has it. */
  option: string;
  /** Variable that says the same. */
  variable?: string;
}

const TEXTS: readonly Source[] = [
  { field: 'runtime', flag: '--runtime', option: 'runtime', variable: 'FN_RUNTIME' },
  { field: 'memory', flag: '--memory', option: 'memory', variable: 'FN_MEMORY' },
  { field: 'cpu', flag: '--cpu', option: 'cpu', variable: 'FN_CPU' },
  { field: 'timeout', flag: '--timeout', option: 'timeout', variable: 'FN_TIMEOUT' },
  { field: 'concurrency', flag: '--concurrency', option: 'concurrency', variable: 'FN_CONCURRENCY' },
  { field: 'min', flag: '--min', option: 'min', variable: 'FN_MIN' },
  { field: 'max', flag: '--max', option: 'max', variable: 'FN_MAX' },
  { field: 'keepAlive', flag: '--keep-alive', option: 'keepAlive', variable: 'FN_KEEP_ALIVE' },
  { field: 'maxStream', flag: '--max-stream', option: 'maxStream' },
  { field: 'egress', flag: '--egress', option: 'egress', variable: 'FN_EGRESS' },
  { field: 'sandbox', flag: '--sandbox', option: 'sandbox', variable: 'FN_SANDBOX' },
  { field: 'auth', flag: '--auth', option: 'auth' },
  { field: 'image', flag: '--image', option: 'image' },
];

const LISTS: readonly Source[] = [
  { field: 'secrets', flag: '--secret', option: 'secret' },
  { field: 'routes', flag: '--route', option: 'route' },
  { field: 'assets', flag: '--asset', option: 'asset' },
];

/** Variables that say what an option of `fn deploy` says; docs/manifest.md has them in a table. */
export const SETTINGS_VARIABLES: readonly string[] = [
  ...TEXTS.flatMap(({ variable }) => (variable === undefined ? [] : [variable])),
  'FN_NAMESPACE',
  'FN_ENVIRONMENT',
];

/** What was said, the strongest last: variables, then options. Throws CliError (exit code 2) with all that is wrong. */
export function overridesFrom(input: Input, env: NodeJS.ProcessEnv, cwd: string): Layer[] {
  const faults: string[] = [];
  const ofVariables = TEXTS.flatMap((source) => {
    const text = source.variable === undefined ? undefined : env[source.variable];
    return text === undefined || text === '' ? [] : [{ source, said: source.variable!, value: fromText(source.field, text) }];
  });
  const ofOptions = [
    ...TEXTS.flatMap((source) => {
      const text = input.text(source.option);
      return text === undefined ? [] : [{ source, said: source.flag, value: fromText(source.field, text) }];
    }),
    ...LISTS.flatMap((source) => {
      const list = input.list(source.option);
      return list.length === 0 ? [] : [{ source, said: source.flag, value: list }];
    }),
    ...variablesOf(input, cwd),
  ];
  const layers = [layer(ofVariables, faults), layer(ofOptions, faults)];
  if (faults.length > 0) throw invalidSettings(faults);
  return layers;
}

const invalidSettings = (details: string[]): CliError =>
  new CliError('these settings are not valid', { exitCode: EXIT.usage, details, hint: 'fn deploy --help lists what each option takes.' });

interface Said {
  source: Pick<Source, 'field' | 'flag'>;
  /** `--memory`, `FN_MEMORY` */
  said: string;
  value: unknown;
}

function layer(said: readonly Said[], faults: string[]): Layer {
  const values: Record<string, unknown> = {};
  const names = new Map<string, string>();
  for (const { source, said: name, value } of said) {
    const result = ManifestFunction.shape[source.field].safeParse(value);
    names.set(source.field, name);
    if (result.success) values[source.field] = result.data;
    else faults.push(...plainIssues(result.error.issues).map(({ path, message }) => `${whichOne(name, value, path)}: ${message}`));
  }
  return { values, origin: (field) => ({ said: names.get(field) ?? field }) };
}

/** `--env FN_X`, `--egress "10.0.0.0/99"`: as it was typed, since nobody counts from 0. */
function whichOne(name: string, value: unknown, [first]: readonly (string | number)[]): string {
  if (Array.isArray(value)) return `${name} ${JSON.stringify(typeof first === 'number' ? value[first] : value.join(','))}`;
  if (typeof value === 'object') return `${name}${first === undefined ? '' : ` ${first}`}`;
  return `${name} ${JSON.stringify(value)}`;
}

/** A shell has text only: what the schema wants as a number or a list is made of it. */
function fromText(field: Field, text: string): unknown {
  if (field === 'concurrency' || field === 'min' || field === 'max') return /^-?\d+$/.test(text) ? Number(text) : text;
  if (field === 'egress' && text !== 'none' && text !== 'internet')
    return text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  if (field === 'auth' && text.startsWith('{')) {
    try {
      return JSON.parse(text);
    } catch {
      // The schema says what may stand there.
      return text;
    }
  }
  return text;
}

function variablesOf(input: Input, cwd: string): Said[] {
  const assigned = input.list('env').filter((text) => text.includes('='));
  const env = { ...envFile(input.text('envFile'), cwd), ...Object.fromEntries(assigned.map(parseAssignment)) };
  return Object.keys(env).length === 0 ? [] : [{ source: { field: 'env', flag: '--env' }, said: '--env', value: env }];
}

/** `K=V`; the value may hold more `=` and may be empty. */
function parseAssignment(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw usageError(`--env ${JSON.stringify(text)} is not NAME=VALUE`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** A file of `NAME=VALUE` lines, as Node's --env-file reads it. */
export function envFile(path: string | undefined, cwd: string): Record<string, string> {
  if (path === undefined) return {};
  const file = resolve(cwd, path);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw usageError(`--env-file ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  return readAssignments(text, file);
}

/** `--env staging`: the environment of the manifest; else FN_ENVIRONMENT. Throws usageError for two of them. */
export function environmentFrom(input: Input, env: NodeJS.ProcessEnv): { name: string; said: string } | undefined {
  const named = [...new Set(input.list('env').filter((text) => !text.includes('=')))];
  if (named.length > 1)
    throw usageError(`more than one environment: ${named.map((name) => `--env ${name}`).join(' ')}`, 'A variable is --env NAME=VALUE.');
  if (named[0] !== undefined) return { name: named[0], said: `--env ${named[0]}` };
  const { FN_ENVIRONMENT: name } = env;
  return name === undefined || name === '' ? undefined : { name, said: `FN_ENVIRONMENT=${name}` };
}

/** Settings of a function without a manifest. Throws CliError (exit code 2) for what does not go together. */
export function settingsAlone(layers: readonly Layer[]): Merged & { settings: FunctionSettingsInput } {
  const merged = merge(layers);
  const settings = settingsOf(merged.values);
  const checked = CheckedFunctionSettings.safeParse(settings);
  if (checked.success) return { ...merged, settings };
  throw invalidSettings(
    checked.error.issues.map(({ path: [setting], message }) => {
      const field = Object.entries(SETTINGS_FIELDS).find(([, one]) => one === setting)?.[0] ?? String(setting);
      const origin = merged.origins.get(field);
      return `${origin !== undefined && 'said' in origin ? origin.said : field}: ${message}`;
    }),
  );
}
