import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';

const log = new URL('log.ts', import.meta.url).href;
const PROGRAM = `
  const { createLog } = await import(${JSON.stringify(log)});
  const log = createLog('test', 'info');
  for (let line = 0; line < 3_000; line += 1) log.warn({ line, text: 'x'.repeat(1_000) }, 'the disk is full');
  await new Promise((resolve) => setTimeout(resolve, 20));
  process.stdout.write('alive');
`;

it('a disk that is full ends no process that says so', () => {
  const full = openSync('/dev/full', 'w');
  onTestFinished(() => closeSync(full));
  const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', PROGRAM], {
    stdio: ['ignore', 'pipe', full],
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    encoding: 'utf8',
  });
  expect([status, stdout]).toEqual([0, 'alive']);
});
