/** The table of the fault suites. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import type { FaultRow } from '../chaos/report.ts';
import { faultTable, readFaults, tellFaults } from './chaos.mjs';

const ROW: FaultRow = {
  fault: 8,
  what: 'Redis is killed',
  driver: 'process',
  acknowledged: 1_200,
  failed: { '503 events-unavailable': 3 },
  lost: 0,
  duplicated: null,
  unknown: 0,
  recoveredMs: 1_250,
  leaks: 'none',
};

it('has a line for each fault, in their order, and is a file in the long form', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fn-chaos-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'faults.jsonl');
  expect(readFaults(file)).toEqual([]);
  const earlier = { ...ROW, fault: 1, what: 'w'.repeat(60), failed: {}, recoveredMs: null };
  writeFileSync(file, [ROW, { test: 'something else' }, earlier].map((line) => `${JSON.stringify(line)}\n`).join(''));
  const rows = readFaults(file);
  expect(faultTable(rows).split('\n')).toEqual([
    'fault  what                                          driver   ok    failed                     lost  dupl.  unknown  recover s  leaks',
    `1      ${'w'.repeat(43)}…  process  1200  0                          0     –      0        –          none`,
    '8      Redis is killed                               process  1200  3× 503 events-unavailable  0     –      0        1.3        none',
  ]);
  tellFaults(file, folder, false);
  expect(readdirSync(folder)).toEqual(['faults.jsonl']);
  tellFaults(file, folder, true);
  const [written] = readdirSync(join(folder, 'bench-results'));
  expect(written).toMatch(/^chaos-\d{4}-\d\d-\d\dT[\d-]+\.json$/);
  expect(JSON.parse(readFileSync(join(folder, 'bench-results', written!), 'utf8'))).toEqual(rows);
});
