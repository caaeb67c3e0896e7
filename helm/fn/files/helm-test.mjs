// Runs in the pod of `helm test`: a function is deployed by the API, called through the gateway's Service, and deleted. It has no
// egress, and tries to dial the API server: whether the network enforces NetworkPolicies, nobody else tells.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const { TEST_GATEWAY, TEST_TIMEOUT_SECONDS, TEST_NETWORK_POLICIES, KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT } = process.env;
const name = `helm-test-${process.pid}-${Date.now().toString(36)}`;
const word = `works ${Math.random().toString(36).slice(2)}`;
/** Kept for deleting it again. */
const CLEAN_UP_MS = 20_000;
/** A network plugin takes a moment to see a new pod. */
const DIALS = 5;
const API_SERVER = { host: KUBERNETES_SERVICE_HOST, port: Number(KUBERNETES_SERVICE_PORT), timeout: 2_000 };
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
writeFileSync(
  join(folder, 'handler.mjs'),
  `import { connect } from 'node:net';
const dial = () => new Promise((done) => {
  const socket = connect(${JSON.stringify(API_SERVER)}, () => end('open'));
  const end = (what) => { socket.destroy(); done(new Response(what)); };
  socket.on('timeout', () => end('closed')).on('error', () => end('closed'));
});
export default { fetch: (request) => request.url.endsWith('/dial') ? dial() : new Response(${JSON.stringify(word)}) };
`,
);

/** Whether a function without egress comes through to where it must not. */
async function isOpen() {
  for (let dials = 1; ; dials += 1) {
    const text = await (await fetch(`${TEST_GATEWAY}/${name}/dial`, { signal: AbortSignal.timeout(30_000) })).text();
    if (text !== 'open' && text !== 'closed') throw new Error(`the function was to dial, and answered ${text}`);
    if (text === 'closed' || dials === DIALS) return text === 'open';
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

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
  const found = 'a function without egress can dial the API server: the network of this cluster does not enforce NetworkPolicies';
  if (!(await isOpen())) console.log('a function without egress cannot dial the API server: NetworkPolicies are enforced');
  else if (TEST_NETWORK_POLICIES === 'enforced') throw new Error(`${found}, though functions.networkPolicies=enforced says so`);
  else console.log(`WARNING: ${found}`);
} finally {
  fn('delete', name, '--yes');
}
