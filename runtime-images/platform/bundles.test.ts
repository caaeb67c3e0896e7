import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { bundleFiles } from './bundles.ts';

function dist(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'fn-dist-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

const PARTS = {
  'controller.mjs':
    'import {a} from "./part-a.mjs";\nimport "./part-b.mjs";\nawait import("./part-lead-X1.mjs");\nexport{c}from"./part-c.mjs";',
  'part-a.mjs': 'const x = () => import("./part-d.mjs");',
  'part-b.mjs': 'import { a } from "./part-a.mjs";',
  'part-c.mjs': '',
  'part-d.mjs': 'import("./telemetry.mjs")',
  'part-lead-X1.mjs': 'const shown = "import x from \'./handler.mjs\'";',
  'part-a-of-an-earlier-build.mjs': '',
  'telemetry.mjs': '',
  'gateway.mjs': '',
};

describe('the bundles of an image', () => {
  it('are a program and all that it loads, directly or not, and nothing else of dist/', () => {
    const files = bundleFiles(dist(PARTS), ['controller.mjs'], 'fn/dist');
    expect(files.map(({ target }) => target)).toEqual([
      'fn/dist/controller.mjs',
      'fn/dist/part-a.mjs',
      'fn/dist/part-b.mjs',
      'fn/dist/part-c.mjs',
      'fn/dist/part-d.mjs',
      'fn/dist/part-lead-X1.mjs',
      'fn/dist/telemetry.mjs',
    ]);
    expect(files[0]!.content.toString()).toBe(PARTS['controller.mjs']);
  });

  it('one that is missing is an error that says what to do', () => {
    const folder = dist({ 'gateway.mjs': 'import "./part-gone.mjs";' });
    expect(() => bundleFiles(folder, ['gateway.mjs'], 'fn')).toThrow(`${folder}/part-gone.mjs is not there: build fn's programs first`);
  });
});
