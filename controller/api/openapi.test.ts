/** docs/openapi.json is what clients were promised. `npm run openapi` writes it anew. */
import { access, readFile } from 'node:fs/promises';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERRORS } from '#contract/errors.ts';

import { ApiFixture } from '../../test/helpers/api-fixture.ts';

const COMMITTED = join(import.meta.dirname, '../../docs/openapi.json');

interface Operation {
  operationId: string;
  summary: string;
  'x-access': { scope: string | null; namespace: string };
  responses: Record<string, unknown>;
}

interface Document {
  openapi: string;
  info: { version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
}

let api: ApiFixture;
let document: Document;
beforeAll(async () => {
  api = await ApiFixture.start();
  const answer = await api.call({ path: '/v1/openapi.json' });
  expect(answer.status).toBe(200);
  document = answer.json as Document;
});
afterAll(() => api.close());

describe('OpenAPI', () => {
  it('docs/openapi.json is the document that is served; else: npm run openapi', async () => {
    // A snapshot that is missing would be written, and pass.
    await access(COMMITTED);
    const metadata = JSON.parse(await readFile(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string };
    const text = `${JSON.stringify({ ...document, info: { ...document.info, version: metadata.version } }, null, 2)}\n`;
    await expect(text).toMatchFileSnapshot(COMMITTED);
  });

  it('names every operation once, with a summary and a rule of access', () => {
    const operations = Object.values(document.paths).flatMap((item) => Object.values(item));
    expect(operations.length).toBeGreaterThan(25);
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
    const wrong = operations.filter(
      ({ summary, 'x-access': access }) => summary === '' || !/^(?:path|platform|filtered)$/.test(access.namespace),
    );
    expect(wrong).toEqual([]);
  });

  it('has every route: none is added but by Router.add, which asks for its rule of access and describes it', async () => {
    const sources = globSync('*.ts', { cwd: import.meta.dirname }).filter((name) => !name.endsWith('.test.ts'));
    expect(sources.length).toBeGreaterThan(15);
    const texts = await Promise.all(sources.map(async (name) => [name, await readFile(join(import.meta.dirname, name), 'utf8')] as const));
    const adding = texts.filter(([, text]) => /\.(?:on|get|post|put|patch|delete|all|openapi|mount)\(\s*['"`]\/|hono\.on\(/.test(text));
    expect(adding.map(([name]) => name)).toEqual(['env.ts']);
  });

  it('every reference leads somewhere', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"/]+)/g)].map(([, name]) => name!);
    expect(references.length).toBeGreaterThan(50);
    for (const name of references) expect(Object.keys(document.components.schemas)).toContain(name);
  });

  it('a problem says nothing that the registry does not know', async () => {
    const { problem } = await api.call({ path: '/v1/nothing' });
    expect(Object.keys(ERRORS)).toContain(problem.code);
  });
});
