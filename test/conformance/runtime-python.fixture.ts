/** Code for the python runtime, from its text. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { startShim, type Shim } from './runtime-harness.ts';
import { PYTHON } from './runtime-table.ts';

/** A folder with these files that goes with the test. */
export function folderOf(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'fn-python-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

/** Starts a shim that becomes `main.py` of this source. */
export async function startSource(source: string, form: string, files: Record<string, string> = {}): Promise<Shim> {
  const code = folderOf({ 'main.py': source, ...files });
  const shim = await startShim(PYTHON);
  expect((await shim.become('main.py', { code })).form).toBe(form);
  return shim;
}
