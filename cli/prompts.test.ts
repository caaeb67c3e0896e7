/** What is asked for at a terminal: that of util-linux's `script`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { ApiFixture } from '../test/helpers/api-fixture.ts';
import { temporaryFolder } from '../test/helpers/cli.ts';
import { root } from './root.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
});
afterAll(() => api.close());

/** Runs a command line on a terminal, and types `keys` once `question` is shown. */
async function typed(argv: string, question: string, keys: string): Promise<{ code: unknown; shown: string }> {
  const home = temporaryFolder(onTestFinished);
  const env = { ...process.env, HOME: home, FN_URL: `http://127.0.0.1:${api.port}`, FN_TOKEN: api.token, TERM: 'xterm' };
  const command = `stty cols 80; '${process.execPath}' '${join(root, 'cli/main.ts')}' ${argv}`;
  const child = spawn('script', ['-qec', command, '/dev/null'], { env });
  onTestFinished(() => void child.kill('SIGKILL'));
  let shown = '';
  let done = false;
  child.stdout.on('data', (chunk: Buffer) => {
    shown += chunk.toString('utf8');
    if (done || !shown.includes(question)) return;
    done = true;
    child.stdin.write(keys);
  });
  const [code] = (await once(child, 'exit')) as unknown[];
  return { code, shown };
}

it('a secret is asked for without an echo', async () => {
  const { code, shown } = await typed('secret set API_KEY', 'Value of API_KEY', 'hunter2\r');
  expect(code).toBe(0);
  expect(shown).not.toContain('hunter2');
  expect((await api.reveal('default', ['API_KEY'])).get('API_KEY')?.value).toBe('hunter2');
});

it.each([
  ['Ctrl-C', 'hunter3\u0003'],
  ['the end of input', '\u0004'],
])('%s sets nothing: exit 130', async (_name, keys) => {
  const { code, shown } = await typed('secret set NEVER', 'Value of NEVER', keys);
  expect(code).toBe(130);
  expect(shown).not.toMatch(/hunter3|unsettled/);
  expect(await api.store.getSecret('default', 'NEVER')).toBeNull();
});

it('a secret is deleted only by yes', async () => {
  await api.json('PUT', '/v1/namespaces/default/secrets/KEPT', { value: 'x' });
  expect((await typed('secret delete KEPT', 'Delete the secret', 'n')).code).toBe(1);
  expect(await api.store.getSecret('default', 'KEPT')).not.toBeNull();
  expect((await typed('secret delete KEPT', 'Delete the secret', 'y')).code).toBe(0);
  expect(await api.store.getSecret('default', 'KEPT')).toBeNull();
});

it('a token is asked for without an echo', async () => {
  const { code, shown } = await typed(`login http://127.0.0.1:${api.port}`, 'Token for', `${api.token}\r`);
  expect(code).toBe(0);
  expect(shown).not.toContain(api.token);
  expect(shown).toContain('Logged in');
});
