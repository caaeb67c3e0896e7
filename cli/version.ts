/** The version of fn, from the one place that has it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './root.ts';

/** `1.2.3`. A file of 2 kB is read for it, so it is asked for only where it is shown. */
export function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const value: unknown = typeof manifest === 'object' && manifest !== null ? Reflect.get(manifest, 'version') : undefined;
  if (typeof value !== 'string') throw new Error(`no version in ${join(root, 'package.json')}`);
  return value;
}
