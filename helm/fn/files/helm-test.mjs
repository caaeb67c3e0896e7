// Runs in the pod of `helm test`: a function is deployed by the API, called through the gateway's Service, and deleted.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const { TEST_GATEWAY, TEST_TIMEOUT_SECONDS } = process.env;
const name = `helm-test-${process.pid}-${Date.now().toString(36)}`;
const word = `works ${Math.random().toString(36).slice(2)}`;
/** Kept for deleting it again. */
const CLEAN_UP_MS = 20_000;
const until = Date.now() + Number(TEST_TIMEOUT_SECONDS) * 1_000 - CLEAN_UP_MS;
const fn = (...args) => execFileSync('fn', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

/** A release that has just been installed, or whose controllers change, is not there at once. */
async function eventually(what, attempt) {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > until) throw new Error(`${what}: ${error.message}`, { cause: error });
      console.log(`${what}: not yet (${error.message.split('\n')[0]})`);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}

const folder = mkdtempSync(join(tmpdir(), 'fn-'));
writeFileSync(join(folder, 'handler.mjs'), `export default { fetch: () => new Response(${JSON.stringify(word)}) };\n`);
try {
  await eventually('the API answers', () => fn('whoami'));
  console.log(fn('deploy', join(folder, 'handler.mjs'), '--name', name, '--egress', 'none'));
  const started = performance.now();
  const answer = await eventually('the gateway answers', async () => {
    const response = await fetch(`${TEST_GATEWAY}/${name}`, { signal: AbortSignal.timeout(30_000) });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${response.status} ${text}`);
    return text;
  });
  if (answer !== word) throw new Error(`the function answered ${JSON.stringify(answer)}, not ${JSON.stringify(word)}`);
  console.log(`deployed and called through the gateway in ${Math.round(performance.now() - started)} ms: ${answer}`);
} finally {
  fn('delete', name, '--yes');
}
