/** docs/kubernetes.md promises what the suite tests, and nothing else. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from './helpers/root.ts';
import { ROWS } from './helpers/semantics.suite.ts';

it('each row of the table is a test', () => {
  const text = readFileSync(join(ROOT, 'docs/kubernetes.md'), 'utf8');
  const section = text.slice(text.indexOf('## The same everywhere'), text.indexOf('## What differs'));
  const rows = [...section.matchAll(/^\| ([a-z ]+) \|/gm)].map(([, name]) => name);
  expect(rows).toEqual([...ROWS]);
});
