/** What the schema found wrong with a manifest, in words and with its place. */
import type { z } from 'zod';
import { manifestJsonSchema } from '#contract/manifest.ts';
import { didYouMean } from './similar.ts';
import type { Fault, ManifestText, Path } from './text.ts';

type Issue = z.core.$ZodIssue;

/** All of them, the most telling branch of each choice. */
export function faultsOf(issues: readonly Issue[], text: ManifestText): Fault[] {
  const schema = manifestJsonSchema();
  return issues.flatMap((issue) => flat(issue, [])).flatMap(({ issue, path }) => faultOf(issue, path, text, schema));
}

/** Where in the file they are. */
export function placesOf(issues: readonly Issue[]): Path[] {
  return issues
    .flatMap((issue) => flat(issue, []))
    .flatMap(({ issue, path }) => (issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...path, key]) : [path]));
}

/** The same for what was typed in pieces: where in the value, and what is wrong. */
export function plainIssues(issues: readonly Issue[]): { path: Path; message: string }[] {
  return issues
    .flatMap((issue) => flat(issue, []))
    .flatMap(({ issue, path }) => {
      if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => ({ path: [...path, key], message: 'there is no such field' }));
      return [{ path, message: issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : reason(issue) }];
    });
}

interface Located {
  issue: Issue;
  path: Path;
}

const named = (path: readonly PropertyKey[]): Path => path.map((part) => (typeof part === 'number' ? part : String(part)));

/** A choice is wrong in each of its branches; the one that was meant is what says something of use. */
function flat(issue: Issue, above: Path): Located[] {
  const path = [...above, ...named(issue.path)];
  if (issue.code !== 'invalid_union') return [{ issue, path }];
  const meant = issue.errors.filter((branch) => branch.length > 0 && branch.every((one) => !isOtherKind(one)));
  const best = meant.toSorted((a, b) => weight(a) - weight(b))[0];
  return best ? best.flatMap((one) => flat(one, path)) : [{ issue, path }];
}

/** Whether it says no more than that this branch was not meant. */
function isOtherKind(issue: Issue): boolean {
  if (issue.code === 'invalid_union' && issue.errors.length === 0) return true;
  return issue.path.length === 0 && (issue.code === 'invalid_type' || issue.code === 'invalid_value' || issue.code === 'invalid_union');
}

/** What is wrong deep inside speaks for a branch, what is wrong at its top against it. */
const weight = (branch: readonly Issue[]): number => branch.reduce((sum, { path }) => sum + 1 / (1 + path.length), 0);

function faultOf(issue: Issue, path: Path, text: ManifestText, schema: unknown): Fault[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      range: text.keyAt([...path, key]),
      message: `${label([...path, key])}: ${unknownKey(key, path, schema)}`,
    }));
  }
  if (issue.code === 'invalid_key') {
    return [{ range: text.keyAt(path), message: `${label(path)}: ${issue.issues[0]?.message ?? issue.message}` }];
  }
  const range = issue.code === 'custom' && path.length === 1 ? text.keyAt(path) : text.valueAt(path);
  return [{ range, message: `${label(path)}: ${reason(issue)}` }];
}

/** `functions.hello.memory`; the whole file is `this file`. */
const label = (path: Path): string => (path.length === 0 ? 'this file' : path.join('.'));

function unknownKey(key: string, path: Path, schema: unknown): string {
  return `there is no such field${didYouMean(key, keysAt(schema, schema, path))}`;
}

const KINDS: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of fields',
  record: 'a map of names',
};

/** The contract's own words where it has some, else zod's in plainer ones. */
function reason(issue: Issue): string {
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) {
    if (issue.message.endsWith('received undefined')) return 'is missing';
    return `must be ${KINDS[issue.expected] ?? issue.expected}`;
  }
  if (issue.code === 'invalid_value' && issue.message.startsWith('Invalid'))
    return `must be ${issue.values.map(String).join(', ')}`.replace(/, ([^,]+)$/, ' or $1');
  if (issue.code === 'too_small' && issue.message.startsWith('Too small'))
    return issue.origin === 'string'
      ? 'must not be empty'
      : `must be at least ${issue.minimum}${issue.origin === 'array' ? ' of them' : ''}`;
  if (issue.code === 'too_big' && issue.message.startsWith('Too big'))
    return `must be at most ${issue.maximum}${issue.origin === 'string' ? ' characters' : issue.origin === 'array' ? ' of them' : ''}`;
  return issue.message;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** Keys that the JSON Schema knows at a path, over all branches. */
function keysAt(root: unknown, schema: unknown, path: Path): string[] {
  if (!isObject(schema)) return [];
  const { $ref } = schema;
  const target =
    typeof $ref === 'string' && isObject(root) && isObject(root.definitions)
      ? root.definitions[$ref.replace('#/definitions/', '')]
      : undefined;
  const branches = [
    target,
    ...['anyOf', 'oneOf', 'allOf'].flatMap((key) => (Array.isArray(schema[key]) ? (schema[key] as unknown[]) : [])),
  ];
  const [first, ...rest] = path;
  const properties = isObject(schema.properties) ? schema.properties : {};
  const here =
    first === undefined
      ? Object.keys(properties)
      : keysAt(root, typeof first === 'number' ? schema.items : (properties[first] ?? schema.additionalProperties), rest);
  return [...here, ...branches.flatMap((branch) => keysAt(root, branch, path))];
}
