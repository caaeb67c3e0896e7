import { join } from 'node:path';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import { functionCrd } from './function-crd.ts';

/** The chart's copy. Made anew by this test: vitest -u. */
const COMMITTED = join(import.meta.dirname, '../../helm/fn/files/functions.fn.dev.yaml');

type Node = Record<string, unknown>;
const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Every place of the schema, with its path. */
function* places(node: Node, path: string): Generator<[path: string, node: Node]> {
  yield [path, node];
  for (const [name, one] of Object.entries(isNode(node.properties) ? node.properties : {}))
    if (isNode(one)) yield* places(one, `${path}.${name}`);
  for (const key of ['items', 'additionalProperties']) {
    const one = node[key];
    if (isNode(one)) yield* places(one, `${path}.${key}`);
  }
}

const schemaOf = (): Node => {
  const { spec } = functionCrd();
  const [version] = isNode(spec) && Array.isArray(spec.versions) ? (spec.versions as Node[]) : [];
  const schema = isNode(version?.schema) ? version.schema.openAPIV3Schema : null;
  if (!isNode(schema)) throw new Error('the definition has no schema');
  return schema;
};

it('is what the chart installs', async () => {
  const text = `# Made of controller/contract/function-resource.ts: fn schema --kubernetes\n${stringify(functionCrd(), { lineWidth: 140, aliasDuplicateObjects: false })}`;
  await expect(text).toMatchFileSnapshot(COMMITTED);
});

it('is structural: one type at each place, or open; nothing that apiextensions/v1 refuses', () => {
  const all = [...places(schemaOf(), '')];
  expect(all.length).toBeGreaterThan(100);
  const wrong = all.filter(([path, node]) => {
    const open = node['x-kubernetes-preserve-unknown-fields'] === true || node['x-kubernetes-int-or-string'] === true;
    const forbidden = ['$ref', 'anyOf', 'allOf', 'default', 'const', 'format', 'patternProperties', 'propertyNames', 'uniqueItems'].some(
      (key) => key in node,
    );
    return forbidden || (typeof node.type !== 'string' && !open) || ('oneOf' in node && path !== '.spec.source');
  });
  expect(wrong.map(([path]) => path)).toEqual([]);
});

it('leaves open only what takes several forms', () => {
  const open = [...places(schemaOf(), '')]
    .filter(([, node]) => node['x-kubernetes-preserve-unknown-fields'] === true)
    .map(([path]) => path);
  expect(open.filter((path) => !path.includes('.triggers.'))).toEqual([
    '.spec.routes.items',
    '.spec.cpu',
    '.spec.timeout',
    '.spec.keepAlive',
    '.spec.maxStream',
    '.spec.egress',
    '.spec.env.additionalProperties',
    '.spec.cors',
    '.spec.auth',
    '.spec.rateLimit',
    '.spec.sticky',
    '.spec.async',
  ]);
});
