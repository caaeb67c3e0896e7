import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { createStubApi } from '../../test/helpers/cli-stub-api.ts';
import { runCli, temporaryFolder } from '../../test/helpers/cli.ts';
import { root } from '../root.ts';

/** Types `keys` at the question, on a terminal of util-linux's `script`. */
async function answerWith(keys: string): Promise<{ code: unknown; shown: string; left: number }> {
  const api = createStubApi({ publicUrl: 'http://127.0.0.1:9' });
  await new Promise<void>((resolve) => api.server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void api.server.close());
  const address = api.server.address();
  const env = { FN_URL: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}` };
  const folder = temporaryFolder(onTestFinished);
  mkdirSync(join(folder, 'hello'));
  writeFileSync(join(folder, 'hello/index.js'), 'export const GET = () => null;\n');
  expect((await runCli(['deploy', 'hello'], { env, cwd: folder })).code).toBe(0);
  const command = `stty cols 80; '${process.execPath}' '${join(root, 'cli/main.ts')}' delete hello`;
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, ...env, TERM: 'xterm' } });
  onTestFinished(() => void child.kill('SIGKILL'));
  let shown = '';
  let typed = false;
  child.stdout.on('data', (chunk: Buffer) => {
    shown += chunk.toString('utf8');
    if (typed || !shown.includes('No')) return;
    typed = true;
    child.stdin.write(keys);
  });
  const [code] = (await once(child, 'exit')) as unknown[];
  return { code, shown, left: api.functions.size };
}

it.each([
  { what: 'yes', keys: 'y', code: 0, left: 0 },
  { what: 'no', keys: 'n', code: 1, left: 1 },
  { what: 'Ctrl-C', keys: '\u0003', code: 130, left: 1 },
  { what: 'the end of input', keys: '\u0004', code: 130, left: 1 },
])('asks at a terminal, and takes $what for an answer', async ({ keys, code, left }) => {
  const answered = await answerWith(keys);
  expect(answered).toMatchObject({ code, left });
  expect(answered.shown).not.toContain('unsettled');
});
