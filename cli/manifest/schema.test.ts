import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { manifestJsonSchema } from '#contract/manifest.ts';
import { runCli } from '../../test/helpers/cli.ts';
import { root } from '../root.ts';
import { SETTINGS_VARIABLES } from '../settings.ts';

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Every `properties` of the schema, with the path to it. */
function properties(schema: unknown, path: string): { path: string; schema: Record<string, unknown> }[] {
  if (Array.isArray(schema)) return schema.flatMap((one, index) => properties(one, `${path}/${index}`));
  if (!isObject(schema)) return [];
  const own = isObject(schema.properties)
    ? Object.entries(schema.properties).map(([name, one]) => ({ path: `${path}/${name}`, schema: one as Record<string, unknown> }))
    : [];
  return [...own, ...Object.entries(schema).flatMap(([key, one]) => properties(one, `${path}/${key}`))];
}

describe('docs/fn.schema.json', () => {
  it('is what the code makes: ./fn schema > docs/fn.schema.json', async () => {
    const { code, stdout } = await runCli(['schema']);
    expect(code).toBe(0);
    expect(readFileSync(join(root, 'docs/fn.schema.json'), 'utf8')).toBe(stdout);
  });

  it('describes every field, so that an editor can tell of it', () => {
    const described = (schema: Record<string, unknown>) => typeof schema.description === 'string' || '$ref' in schema || 'allOf' in schema;
    const all = properties(manifestJsonSchema(), '');
    expect(all.length).toBeGreaterThan(40);
    // The contract's own long forms say in their names what they are.
    const ours = all.filter(({ path }) => /^\/(?:definitions\/(?:Function|Defaults|Environment)\/)?[A-Za-z]+$/.test(path));
    expect(ours.filter(({ schema }) => !described(schema)).map(({ path }) => path)).toEqual([]);
  });
});

describe('docs/manifest.md', () => {
  const text = readFileSync(join(root, 'docs/manifest.md'), 'utf8');

  it.each(['Function', 'Environment'])('tells of every field of a %s', (name) => {
    const { definitions } = manifestJsonSchema();
    const definition = isObject(definitions) ? definitions[name] : undefined;
    const fields = isObject(definition) && isObject(definition.properties) ? Object.keys(definition.properties) : [];
    expect(fields.length).toBeGreaterThan(3);
    for (const field of fields) expect(text).toMatch(new RegExp(`^\\| \`${field}\` \\|`, 'm'));
  });

  it.each(SETTINGS_VARIABLES)('tells of %s', (variable) => expect(text).toContain(`\`${variable}\``));
});
