/**
 * The CustomResourceDefinition of Function, made of the schemas that read it. Kubernetes wants a structural schema: one type at
 * each place, no `$ref`, no type inside of `anyOf`. Where fn.yaml takes several forms, the place is left open and the platform
 * checks it: what is wrong is told in the status.
 */
import { z } from 'zod';
import { FUNCTION_GROUP, FUNCTION_KIND, FUNCTION_PLURAL, FUNCTION_VERSION, FunctionSpec, FunctionStatus } from './function-resource.ts';
import { writtenSchema } from './manifest.ts';

type Json = Record<string, unknown>;
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** A place that takes anything: what may stand there is checked by the platform. */
const OPEN = 'x-kubernetes-preserve-unknown-fields';
const INT_OR_STRING = 'x-kubernetes-int-or-string';

/** Keywords that mean the same in OpenAPI v3, by the type that they are of. */
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  string: ['minLength', 'maxLength', 'enum'],
  integer: ['minimum', 'maximum', 'enum'],
  number: ['minimum', 'maximum', 'enum'],
  boolean: ['enum'],
  array: ['minItems', 'maxItems'],
  object: ['required', 'minProperties', 'maxProperties'],
};

/** Go looks neither ahead nor behind and knows no \\u, and refuses the whole definition for one pattern. */
const isPortable = (pattern: unknown): pattern is string => typeof pattern === 'string' && !/\(\?[=!<]|\\u/.test(pattern);

/** The bounds of whole numbers that JavaScript can hold say nothing. */
const isTelling = ([key, value]: readonly [string, unknown]): boolean =>
  !((key === 'minimum' || key === 'maximum') && typeof value === 'number' && Math.abs(value) >= Number.MAX_SAFE_INTEGER);

/** A JSON Schema (draft 7) as a structural one. `definitions`: what it refers to. */
function structural(schema: Json, definitions: Json): Json {
  const { $ref, anyOf, oneOf, description } = schema;
  const words = typeof description === 'string' ? { description } : {};
  if (typeof $ref === 'string') {
    const target = definitions[$ref.replace('#/definitions/', '')];
    return { ...(isObject(target) ? structural(target, definitions) : { [OPEN]: true }), ...words };
  }
  const branches = [...list(anyOf), ...list(oneOf)].filter(isObject);
  if (branches.length > 0) return { ...merged(branches.map((branch) => structural(branch, definitions))), ...words };
  const { const: constant, type } = schema;
  const kind = constant === undefined ? type : typeof constant;
  if (kind === 'null') return { type: 'null' };
  if (typeof kind !== 'string' || !Object.hasOwn(KEYWORDS, kind)) return { [OPEN]: true, ...words };
  const told: Json = { type: kind, ...words };
  if (constant !== undefined) told.enum = [constant];
  for (const key of KEYWORDS[kind]!) if (schema[key] !== undefined && isTelling([key, schema[key]])) told[key] = schema[key];
  if (kind === 'string' && isPortable(schema.pattern)) told.pattern = schema.pattern;
  if (kind === 'array') told.items = isObject(schema.items) ? structural(schema.items, definitions) : { [OPEN]: true };
  if (kind === 'object') Object.assign(told, members(schema, definitions));
  return told;
}

/** Fields of an object, or the values of a map. */
function members({ properties, additionalProperties }: Json, definitions: Json): Json {
  if (isObject(properties)) {
    const entries = Object.entries(properties).map(([name, one]) => [
      name,
      isObject(one) ? structural(one, definitions) : { [OPEN]: true },
    ]);
    return { properties: Object.fromEntries(entries) as Json };
  }
  if (isObject(additionalProperties)) return { additionalProperties: structural(additionalProperties, definitions) };
  return { [OPEN]: true };
}

/** One schema for what may have any of these forms: as exact as they are alike. */
function merged(forms: readonly Json[]): Json {
  const real = forms.filter(({ type }) => type !== 'null');
  const nullable = real.length < forms.length ? { nullable: true } : {};
  const [first] = real;
  if (first === undefined) return { [OPEN]: true, ...nullable };
  if (real.length === 1) return { ...first, ...nullable };
  const kinds = new Set(real.map((form) => (form[INT_OR_STRING] === true ? 'int-or-string' : form.type)));
  if (kinds.size > 1) {
    const whole = [...kinds].every((kind) => kind === 'string' || kind === 'integer' || kind === 'int-or-string');
    return { ...(whole ? { [INT_OR_STRING]: true } : { [OPEN]: true }), ...nullable };
  }
  switch (first.type) {
    case 'object':
      return { ...mergedObjects(real), ...nullable };
    case 'array':
      return { type: 'array', items: merged(real.map(({ items }) => (isObject(items) ? items : { [OPEN]: true }))), ...nullable };
    case 'string': {
      const choices = real.map((form) => form.enum);
      return { type: 'string', ...(choices.every(Array.isArray) ? { enum: [...new Set(choices.flat())] } : {}), ...nullable };
    }
    case undefined:
      return { ...first, ...nullable };
    default:
      return { type: first.type, ...nullable };
  }
}

/** All fields of all of them; required is what each requires. */
function mergedObjects(forms: readonly Json[]): Json {
  if (!forms.every(({ properties }) => isObject(properties))) return { type: 'object', [OPEN]: true };
  const fields = new Map<string, Json[]>();
  for (const { properties } of forms)
    for (const [name, schema] of Object.entries(properties as Record<string, Json>))
      fields.set(name, [...(fields.get(name) ?? []), schema]);
  const properties = Object.fromEntries([...fields].map(([name, schemas]) => [name, alike(schemas)]));
  const required = list(forms[0]?.required).filter((name) => forms.every((form) => list(form.required).includes(name)));
  return { type: 'object', properties, ...(required.length > 0 ? { required } : {}) };
}

/** The same field of several forms: mostly the very same schema. */
function alike(schemas: readonly Json[]): Json {
  const [first] = schemas;
  const text = JSON.stringify(first);
  if (schemas.every((schema) => JSON.stringify(schema) === text)) return first!;
  const described = schemas.find(({ description }) => description !== undefined);
  return { ...merged(schemas), ...(described === undefined ? {} : { description: described.description }) };
}

/** One of the sources, said so that the API server refuses none and two. */
const ONE_SOURCE = [{ required: ['inline'] }, { required: ['archive'] }, { required: ['bundle'] }, { required: ['url', 'sha256'] }];

function specSchema(): Json {
  const definitions: Json = {};
  const written = writtenSchema(FunctionSpec, definitions);
  const spec = structural(written, definitions);
  const { properties } = spec;
  if (isObject(properties) && isObject(properties.source)) properties.source.oneOf = ONE_SOURCE;
  return spec;
}

function statusSchema(): Json {
  const status = structural(z.toJSONSchema(FunctionStatus, { io: 'input', target: 'draft-7' }), {});
  const { properties } = status;
  if (isObject(properties) && isObject(properties.conditions))
    Object.assign(properties.conditions, { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] });
  return status;
}

const column = (name: string, type: string, jsonPath: string, more: Json = {}): Json => ({ name, type, jsonPath, ...more });

/** The definition, as `kubectl apply` takes it (apiextensions.k8s.io/v1, Kubernetes 1.16 and newer). */
export function functionCrd(): Json {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${FUNCTION_PLURAL}.${FUNCTION_GROUP}` },
    spec: {
      group: FUNCTION_GROUP,
      scope: 'Namespaced',
      names: { kind: FUNCTION_KIND, listKind: `${FUNCTION_KIND}List`, plural: FUNCTION_PLURAL, singular: 'function', shortNames: ['fnf'] },
      versions: [
        {
          name: FUNCTION_VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: [
            column('Ready', 'string', '.status.conditions[?(@.type=="Ready")].status'),
            column('Synced', 'string', '.status.conditions[?(@.type=="Synced")].status'),
            column('Revision', 'string', '.status.revision'),
            column('URL', 'string', '.status.url'),
            column('Age', 'date', '.metadata.creationTimestamp'),
            column('Reason', 'string', '.status.conditions[?(@.type=="Synced")].reason', { priority: 1 }),
          ],
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description: 'A function of fn, declared: the platform deploys it, and says in the status how it does.',
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: { ...specSchema(), description: 'The function: what fn.yaml says of one, and where its code is.' },
                status: { ...statusSchema(), description: 'What the platform says of it.' },
              },
            },
          },
        },
      ],
    },
  };
}
