/** Input that means trouble somewhere, and where it may leave something behind. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { onTestFinished } from 'vitest';

/** A folder that goes with the test. */
export function folderFor(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fn-property-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Text that is trouble somewhere: control characters, other scripts, lone surrogates, keys of every object. */
export const text = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom(
    '__proto__',
    'constructor',
    'toString',
    '../x',
    '\u0000',
    '\u001b[2J',
    '\ud800',
    '💥',
    'ﬁ',
    'İ',
    'a'.repeat(5_000),
    '1e999',
    '-0',
    'NaN',
    '',
  ),
);
/** Numbers that are trouble somewhere. */
export const number = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(0, -0, -1, 1e18, 1e308, 5e-324, 2 ** 53, 0.1));
/** Names that mean something to some schema, so that what is inside is looked at. */
export const key = fc.oneof(
  text,
  fc.constantFrom(
    ...[
      'bundle',
      'entry',
      'settings',
      'env',
      'memoryMib',
      'timeoutSeconds',
      'secrets',
      'egress',
      'min',
      'max',
      'traffic',
      'revision',
      'percent',
      'auth',
      'type',
      'routes',
      'path',
      'host',
      'methods',
    ],
    ...[
      'cors',
      'origins',
      'rateLimit',
      'triggers',
      'name',
      'schedule',
      'timezone',
      'url',
      'stream',
      'filter',
      'quota',
      'scopes',
      'namespaces',
      'expiresAt',
      'value',
      'image',
      'access',
      'sticky',
      'by',
    ],
  ),
);
/** JSON of any shape. */
export const { json } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.oneof(
      text,
      number,
      fc.boolean(),
      fc.constant(null),
      fc.constantFrom('jwt', 'cron', 'public', 'token', 'redis-stream', '* * * * *', 'none', 'GET'),
    ),
    fc.array(tie('json'), { maxLength: 4 }),
    fc.array(fc.tuple(key, tie('json')), { maxLength: 6 }).map((pairs) => Object.fromEntries(pairs)),
  ),
}));
