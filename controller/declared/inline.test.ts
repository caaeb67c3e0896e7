import { expect, it } from 'vitest';
import { FUNCTION_OBJECT_LIMITS } from '#contract/function-resource.ts';
import { inlineBundle } from './inline.ts';
import { CannotStrip, stripTypes } from './strip-types.ts';

const refusal = async (text: string): Promise<string> => {
  try {
    await inlineBundle({ 'a.ts': text }, {});
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return 'it was taken';
};

it('names of files that are imported follow, however they are written', async () => {
  const files = {
    'a.ts': `import { b } from "./lib/b.ts";\nimport './lib/b.ts';\nexport const c = () => import( './lib/b.ts' ); // ./lib/b.ts\n`,
    'lib/b.ts': 'export const b: number = 1;\n',
  };
  const { bytes } = await inlineBundle(files, { entry: 'a.ts' });
  const { gunzipSync } = await import('node:zlib');
  const text = gunzipSync(bytes).toString('utf8');
  expect(text).toContain(`from "./lib/b.mjs";\nimport './lib/b.mjs';\nexport const c = () => import( './lib/b.mjs' ); // ./lib/b.ts`);
});

it.each([
  ['blanks after import', 'import' + ' '.repeat(FUNCTION_OBJECT_LIMITS.inlineLength - 6)],
  ['blanks after import(', 'import(' + ' '.repeat(FUNCTION_OBJECT_LIMITS.inlineLength - 7)],
  ['blanks after from and require', `from${' '.repeat(400_000)}require(${' '.repeat(400_000)}`],
  ['the words alone', 'import from require('.repeat(40_000)],
])('a text that is as long as can be is read in one go: %s', { timeout: 120_000 }, async (_what, text) => {
  expect((await inlineBundle({ 'a.mjs': text }, {})).entry).toBe('a.mjs');
});

it('a text that overruns the parser is refused, and the next one is read', async () => {
  expect(await refusal(`const a = ${'('.repeat(20_000)}1${')'.repeat(20_000)};`)).toMatch(/^source\/inline\/files\/a\.ts: /);
  expect((await inlineBundle({ 'a.ts': 'const a: number = 1;' }, {})).entry).toBe('a.mjs');
});

it('a parser that takes too long is ended, and the controller goes on meanwhile', async () => {
  let ticks = 0;
  const ticking = setInterval(() => (ticks += 1), 10);
  try {
    const failed = await stripTypes(new Map([['slow.ts', 'a ? (b) : c => '.repeat(500)]]), 1_000).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(CannotStrip);
    expect(failed).toMatchObject({ file: 'slow.ts', message: 'was not read within 1000 ms' });
    expect(ticks).toBeGreaterThan(0);
  } finally {
    clearInterval(ticking);
  }
});
