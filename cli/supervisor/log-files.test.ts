import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { MAX_LOG_BYTES, lastLines, logSize, rotate } from './log-files.ts';

function log(text: string): { folder: string; path: string } {
  const folder = temporaryFolder(onTestFinished);
  const path = join(folder, 'gateway.log');
  writeFileSync(path, text);
  return { folder, path };
}

it('the last lines are those of this start, and nothing where it said nothing', () => {
  const { folder, path } = log('an earlier start\nfailed\n');
  const from = logSize(folder, 'gateway');
  expect(lastLines(folder, 'gateway', 12, from)).toEqual([]);
  appendFileSync(path, 'one\n\ntwo\nthree\n');
  expect(lastLines(folder, 'gateway', 12, from)).toEqual(['one', 'two', 'three']);
  expect(lastLines(folder, 'gateway', 2, from)).toEqual(['two', 'three']);
});

it('the last lines of a log that was rotated since are all that is in it', () => {
  const { folder, path } = log(`${'x'.repeat(MAX_LOG_BYTES)}\n`);
  const from = logSize(folder, 'gateway');
  rotate(folder, 'gateway');
  appendFileSync(path, 'after it\n');
  expect(lastLines(folder, 'gateway', 12, from)).toEqual(['after it']);
  expect(readFileSync(`${path}.1`).length).toBe(from);
});

it('a log that is not there has no bytes', () => {
  expect(logSize(temporaryFolder(onTestFinished), 'gateway')).toBe(0);
});
