import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { bundleFunction } from './node.ts';
import type { Bundle } from './types.ts';
import { CliError } from '../errors.ts';
import { root } from '../root.ts';
import { findSource } from '../source.ts';

function project(files: Record<string, string>): string {
  const folder = temporaryFolder(onTestFinished);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

async function unpack(bundle: Bundle): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const tar = extract();
  tar.end(gunzipSync(bundle.bytes));
  for await (const entry of tar) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
    files[entry.header.name] = Buffer.concat(chunks).toString('utf8');
  }
  return files;
}

/** Loads what a bundle exports, as the runtime does. */
async function load(bundle: Bundle): Promise<Record<string, unknown>> {
  const folder = temporaryFolder(onTestFinished);
  for (const [name, text] of Object.entries(await unpack(bundle))) writeFileSync(join(folder, name), text);
  return (await import(pathToFileURL(join(folder, bundle.entry)).href)) as Record<string, unknown>;
}

const HELLO = "import { greet } from './greet.ts';\nexport default { fetch: () => new Response(greet('you')) };\n";
const GREET = 'export const greet = (name: string): string => `hi ${name}`;\n';

const bundle = (folder: string, path = '.') => bundleFunction(findSource(path, folder), folder);

async function failure(folder: string, path = '.'): Promise<CliError> {
  const error: unknown = await bundle(folder, path).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof CliError)) throw new Error(`expected a CliError, got ${String(error)}`);
  return error;
}

describe('a bundle', () => {
  it('has the same digest wherever the folder lies, and no path of this machine in it', async () => {
    const first = project({ 'deep/er/hello/index.ts': HELLO, 'deep/er/hello/greet.ts': GREET });
    const second = project({ 'hello/index.ts': HELLO, 'hello/greet.ts': GREET });
    const [a, b] = [await bundle(first, 'deep/er/hello'), await bundle(second, 'hello')];
    expect(a.digest).toBe(b.digest);
    expect(a.bytes.equals(b.bytes)).toBe(true);
    const files = await unpack(a);
    expect(Object.keys(files)).toEqual(['index.mjs', 'index.mjs.map']);
    expect(JSON.stringify(files)).not.toContain(first);
    expect(JSON.parse(files['index.mjs.map']!)).toMatchObject({ sources: ['greet.ts', 'index.ts'], sourcesContent: [GREET, HELLO] });
  });

  it('does not depend on where its packages were hoisted to', async () => {
    const app = { 'index.js': "import pad from 'pad';\nexport default () => new Response(pad('x'));\n" };
    const pad = { 'package.json': '{"name":"pad","version":"1.0.0"}', 'index.js': "module.exports = (text) => text + ' ';\n" };
    const own = project(
      Object.fromEntries([
        ...Object.entries(app),
        ...Object.entries(pad).map(([name, text]) => [`node_modules/pad/${name}`, text] as const),
      ]),
    );
    const hoisted = project(
      Object.fromEntries([
        ...Object.entries(pad).map(([name, text]) => [`node_modules/pad/${name}`, text] as const),
        ...Object.entries(app).map(([name, text]) => [`apps/one/${name}`, text] as const),
      ]),
    );
    expect((await bundle(own)).digest).toBe((await bundle(hoisted, 'apps/one')).digest);
  });

  it('changes with its source', async () => {
    const folder = project({ 'index.ts': HELLO, 'greet.ts': GREET });
    const before = await bundle(folder);
    writeFileSync(join(folder, 'greet.ts'), GREET.replace('hi', 'ho'));
    expect((await bundle(folder)).digest).not.toBe(before.digest);
  });

  it('may declare require, __dirname and __filename itself', async () => {
    const own =
      "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);\nconst __dirname = 'mine';\nexport const GET = () => require('node:path').basename(__dirname);\n";
    const { GET } = await load(await bundle(project({ 'index.js': own })));
    expect((GET as () => string)()).toBe('mine');
  });

  it('of CommonJS has require, __dirname and its exports', async () => {
    const cjs = "const { basename } = require('path');\nexports.GET = () => [typeof __dirname, basename(__filename)].join(' ');\n";
    const loaded = await load(await bundle(project({ 'index.cjs': cjs })));
    const { GET } = loaded.default as { GET: () => string };
    expect(GET()).toBe('string index.mjs');
  });

  it('holds JSON, text and what tsconfig maps', async () => {
    const folder = project({
      'tsconfig.json': '{"compilerOptions":{"paths":{"~/*":["./lib/*"]}}}',
      'lib/words.ts': "export const word = 'mapped';\n",
      'data.json': '{"n":7}',
      'page.html': '<p>x</p>',
      'index.ts':
        "import { word } from '~/words.ts';\nimport data from './data.json';\nimport page from './page.html';\nexport const all = [word, data.n, page];\n",
    });
    expect((await load(await bundle(folder))).all).toEqual(['mapped', 7, '<p>x</p>']);
  });

  it('warns of what is not in it, in the user’s own files only', async () => {
    const folder = project({ 'index.js': 'const name = process.env.X;\nexport default () => require(name);\n' });
    expect((await bundle(folder)).warnings).toEqual([expect.stringMatching(/^index\.js:2:\d+: .*not be bundled/)]);
  });

  it.each(['hono-app', 'express-app', 'fastify-app'])('can be made of %s', async (name) => {
    const made = await bundle(join(root, 'examples', name));
    expect(made.warnings).toEqual([]);
    expect(made.codeBytes).toBeGreaterThan(10_000);
  });
});

describe('what does not build', () => {
  it('is told with file, line, column and the line itself', async () => {
    const error = await failure(project({ 'handler.ts': 'export default {\n  fetch: () => new Response("x"\n};\n' }), 'handler.ts');
    expect(error.exitCode).toBe(1);
    expect(error.details.join('\n')).toMatch(/^handler\.ts:3:1: Expected "\)"[^]*\n.*3 │ };/);
    expect(error.hint).toBe('Nothing was deployed.');
  });

  it.each([
    ['bun:sqlite', 'bun'],
    ['bun', 'bun'],
    ['jsr:@std/path', 'deno'],
    ['npm:chalk@5', 'deno'],
  ])('for %s says which runtime has it, and nothing of esbuild’s own options', async (name, runtime) => {
    const error = await failure(project({ 'index.js': `import x from '${name}';\nexport default () => new Response(x);\n` }));
    expect(error.hint).toBe(`${name} is for the runtime ${runtime}: --runtime ${runtime}, or runtime: ${runtime} in fn.yaml`);
    expect(error.details.join('\n')).not.toContain('external');
  });

  it('for want of npm install says so', async () => {
    const folder = project({ 'package.json': '{"main":"index.js","dependencies":{"left-pad":"1"}}', 'index.js': "import 'left-pad';\n" });
    const error = await failure(folder);
    expect(error.details.join('\n')).toContain('index.js:1:8: Could not resolve "left-pad"');
    expect(error.hint).toBe(`Its packages are not installed: cd '${folder}' && npm install`);
  });

  it('for want of a package names it, and not the module within it', async () => {
    const index = "import 'left-pad/index.js';\nimport '@scope/of/deep';\nimport 'left-pad';\nimport '@/alias';\n";
    const folder = project({ 'package.json': '{"main":"index.js"}', 'index.js': index });
    mkdirSync(join(folder, 'node_modules'));
    expect((await failure(folder)).hint).toBe(`Add the package: cd '${folder}' && npm install left-pad @scope/of`);
    const alias = project({ 'index.js': "import '@/alias';\n" });
    expect((await failure(alias)).hint).toBe(`Add the package: cd '${alias}' && npm install NAME`);
  });

  it('because of an addon that is none for this platform says which', async () => {
    const folder = project({ 'index.js': "import addon from './build/addon.node';\nexport default () => addon;\n" });
    mkdirSync(join(folder, 'build'));
    writeFileSync(join(folder, 'build/addon.node'), 'machine code');
    expect((await failure(folder)).details.join('\n')).toMatch(/build\/addon\.node is not a native addon for Linux/);
  });
});
