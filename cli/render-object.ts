/** A function that is bundled, as an object of Kubernetes: what it says in the words of fn.yaml, and its code. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { DEFAULT_ACCESS, type FunctionAccess } from '#contract/access.ts';
import { FUNCTION_API_VERSION, FUNCTION_KIND, FunctionFields, type FunctionSource } from '#contract/function-resource.ts';
import type { FunctionSettingsInput } from '#contract/function.ts';
import { ACCESS_FIELDS, accessOf, SETTINGS_FIELDS, settingsOf } from '#contract/manifest-function.ts';
import { ManifestFunction } from '#contract/manifest.ts';

export interface Rendered {
  name: string;
  /** Of fn; null: as the operator mapped the namespace of the cluster. */
  namespace: string | null;
  kubeNamespace: string | null;
  message: string | undefined;
  entry: string;
  settings: FunctionSettingsInput;
  access: FunctionAccess;
  /** Names of triggers of which it is not said whether they are paused. */
  unsaid: ReadonlySet<string>;
  source: FunctionSource;
}

/** Characters of a line of base64: a text that editors and reviews can show. */
const BASE64_LINE = 120;

export function base64Lines(bytes: Buffer): string {
  const text = bytes.toString('base64');
  const lines = Array.from({ length: Math.ceil(text.length / BASE64_LINE) }, (_, index) =>
    text.slice(index * BASE64_LINE, (index + 1) * BASE64_LINE),
  );
  return `${lines.join('\n')}\n`;
}

type Fields = Record<string, unknown>;
const isFields = (value: unknown): value is Fields => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The contract's names where fn.yaml has others. */
function inManifestWords(field: (typeof ACCESS_FIELDS)[number], value: unknown): unknown {
  if ((field !== 'cors' && field !== 'logs') || !isFields(value)) return value;
  const { maxAgeSeconds, ...rest } = value;
  return { ...rest, maxAge: maxAgeSeconds };
}

/** What would be the same without being said is not said. `read`: what becomes of it; throws where something is missing. */
function minimal(value: unknown, read: (value: unknown) => unknown): unknown {
  if (!isFields(value)) return value;
  const meaning = read(value);
  const means = (fields: Fields): boolean => {
    try {
      return isDeepStrictEqual(read(fields), meaning);
    } catch {
      // It must be said.
      return false;
    }
  };
  return Object.keys(value).reduce<Fields>((left, key) => {
    const { [key]: _left, ...fewer } = left;
    return means(fewer) ? fewer : left;
  }, value);
}

function accessFields(access: FunctionAccess, unsaid: ReadonlySet<string>): Fields {
  const plain = JSON.parse(JSON.stringify(access)) as FunctionAccess;
  const fields: Fields = {};
  for (const field of ACCESS_FIELDS) {
    if (isDeepStrictEqual(plain[field], JSON.parse(JSON.stringify(DEFAULT_ACCESS[field])))) continue;
    const read = (value: unknown) => ManifestFunction.shape[field].parse(value);
    if (field === 'triggers')
      fields[field] = plain.triggers.map(({ enabled, ...trigger }) => {
        const small = minimal(trigger, (value) => read([value]));
        return unsaid.has(trigger.name) ? small : { ...(small as Fields), name: trigger.name, enabled };
      });
    else fields[field] = minimal(inManifestWords(field, plain[field]), read);
  }
  return fields;
}

function settingsFields(settings: FunctionSettingsInput): Fields {
  const entries = Object.entries(SETTINGS_FIELDS).map(([field, setting]) => [field, settings[setting]] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && !(isFields(value) && Object.keys(value).length === 0)));
}

/** The object, its fields in a fixed order. Throws where what it says would not be read as it is meant: a fault of ours. */
export function functionObject(given: Rendered): Fields {
  const { name, namespace, kubeNamespace, message, entry, settings, access, unsaid, source } = given;
  const said = { ...settingsFields(settings), ...accessFields(access, unsaid) };
  const fields = {
    ...(namespace === null ? {} : { namespace }),
    entry,
    ...(message === undefined ? {} : { message }),
    ...said,
  };
  const read = FunctionFields.parse(fields);
  const meant = [settingsOf(read), accessOf(read)];
  if (!isDeepStrictEqual(JSON.parse(JSON.stringify(meant)), JSON.parse(JSON.stringify([withoutEmpty(settings), access]))))
    throw new Error(`the function ${name} cannot be written as an object: its settings would be read as others`);
  return {
    apiVersion: FUNCTION_API_VERSION,
    kind: FUNCTION_KIND,
    metadata: { name, ...(kubeNamespace === null ? {} : { namespace: kubeNamespace }) },
    spec: { ...fields, source },
  };
}

const withoutEmpty = (settings: FunctionSettingsInput): FunctionSettingsInput =>
  Object.fromEntries(
    Object.values(SETTINGS_FIELDS)
      .map((setting) => [setting, settings[setting]] as const)
      .filter(([, value]) => value !== undefined && !(isFields(value) && Object.keys(value).length === 0)),
  );
