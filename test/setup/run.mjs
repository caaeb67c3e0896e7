/**
 * `npm test`: everything that the tests need, then the tests. Arguments go to vitest:
 * `npm test -- test/e2e/http.test.ts -t HEAD`. Runs on Node 18 and up; the tests run on the Node
 * that npm installs. The last line is `N passed, N failed`, from vitest's own report. Of a whole run very few files that failed
 * run once more (second-try.mjs).
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { tellFaults } from './chaos.mjs';
import { clusterTools, ensureClusterTools, startCluster } from './cluster.mjs';
import { ensureEngine, ensureTools } from './machine.mjs';
import { NODE, ROOT, ensurePackages } from './packages.mjs';
import { afterSecondTry, countTests, filesToTryAgain, readReport } from './second-try.mjs';

/** The long form of the fault suites. */
const FULL_CHAOS = process.env.FN_CHAOS === 'full';

/** The whole run is ended after so long: one that hangs must fail, not wait for ever. Twice what it takes on two busy cores. */
const RUN_TIMEOUT_MS = (FULL_CHAOS ? 240 : 60) * 60_000;
/** The same for the few files that run once more. */
const SECOND_TIMEOUT_MS = 15 * 60_000;

/** Longest wait for what a run left to be ended, by the guard of test/setup/global.ts. */
const SWEEP_TIMEOUT_MS = 60_000;

/** vitest's exit code where tests failed. */
const FAILED = 1;

/** Folders whose tests start containers, or brokers. */
const NEEDS_ENGINE = /test\/(?:e2e|chaos|conformance|cluster)|runtime-images|driver|helm/;

/** Those whose tests run in a Kubernetes cluster. */
const NEEDS_CLUSTER = /test\/(?:cluster|conformance(?:$|\/$|\/driver\.kubernetes))/;

/** Those that kubectl or Helm is enough for. */
const NEEDS_HELM = /test(?:$|\/$|\/helm|\/sim)|helm/;

const args = process.argv.slice(2);
const started = Date.now();
const paths = args.filter((arg) => !arg.startsWith('-') && existsSync(join(ROOT, arg)));
const withEngine = paths.length === 0 || paths.some((path) => NEEDS_ENGINE.test(path));
const withCluster =
  paths.length === 0 || paths.some((path) => NEEDS_CLUSTER.test(path)) || /kubernetes/.test(process.env.FN_TEST_DRIVERS ?? '');
const withHelm = withCluster || paths.some((path) => NEEDS_HELM.test(path));

process.env.PATH = [dirname(NODE), join(ROOT, 'node_modules', '.bin'), process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(
  delimiter,
);

function buildImages() {
  // A part of the suites builds what it needs beside node's image by itself.
  const build = spawnSync(NODE, [join(ROOT, 'runtime-images', 'build.ts'), '--json', ...(paths.length === 0 ? ['--all'] : [])], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 2],
    timeout: 10 * 60_000,
  });
  if (build.status !== 0)
    throw new Error(`the runtime images could not be built (${build.error?.message ?? build.status ?? build.signal})`);
  process.stderr.write(`runtime images: ${build.stdout.trim().replaceAll(/\s+/g, ' ')}\n`);
}

/** Runs vitest with a folder that is gone when all is; resolves with its exit code. The child has no share in our stdin. */
async function runVitest(report, env, which, timeoutMs) {
  const folder = mkdtempSync('/tmp/fnt-');
  try {
    return await vitestEnds(report, folder, env, which, timeoutMs);
  } finally {
    // `t` is there from the moment that somebody watches over the folder.
    const end = Date.now() + SWEEP_TIMEOUT_MS;
    while (existsSync(join(folder, 't')) && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 100));
    rmSync(folder, { recursive: true, force: true });
  }
}

function vitestEnds(report, folder, env, which, timeoutMs) {
  const child = spawn(
    NODE,
    [
      join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      '--config',
      join(ROOT, 'test', 'vitest.config.ts'),
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${report}`,
      ...which,
    ],
    { cwd: ROOT, stdio: ['ignore', 1, 2], env: { ...process.env, ...env, FN_TEST_RUN: folder } },
  );
  const timer = setTimeout(() => {
    process.stderr.write(`the tests did not end within ${timeoutMs / 60_000} minutes\n`);
    child.kill('SIGTERM');
    setTimeout(() => child.kill('SIGKILL'), 15_000).unref();
  }, timeoutMs);
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      resolve(code ?? `signal ${signal}`);
    });
  });
}

/** All that was asked for; of a whole run very few files that failed once more. */
async function runTests(folder, env) {
  const path = join(folder, 'report.json');
  const code = await runVitest(path, env, args, RUN_TIMEOUT_MS);
  const first = readReport(path);
  // Whoever runs a part wants to see each failure; and a run that was ended says little of what it did not come to.
  const again = args.length === 0 && code === FAILED ? filesToTryAgain(first) : [];
  if (again.length === 0) return { code, ...countTests(first), secondTry: [] };
  const files = again.map((file) => relative(ROOT, file));
  process.stderr.write(`\n${files.join(' and ')} failed, and nothing else: once more, alone (CONTRIBUTING.md)\n`);
  const secondPath = join(folder, 'second.json');
  const secondCode = await runVitest(secondPath, env, files, SECOND_TIMEOUT_MS);
  return { code: secondCode, ...afterSecondTry(first, readReport(secondPath), ROOT) };
}

async function main() {
  ensurePackages();
  let endEngine = async () => {};
  let cluster = { env: {}, end: async () => {} };
  const folder = mkdtempSync(join(tmpdir(), 'fn-test-report-'));
  try {
    if (withHelm) ensureClusterTools();
    if (withEngine || withCluster) {
      ensureTools(withCluster ? clusterTools() : {});
      endEngine = await ensureEngine();
      // Beside all tests that need none; those that do wait for it.
      if (withCluster) cluster = startCluster();
      buildImages();
    }
    const faults = process.env.FN_CHAOS_JSON ?? join(folder, 'faults.jsonl');
    const result = await runTests(folder, { ...cluster.env, FN_CHAOS_JSON: faults });
    tellFaults(faults, ROOT, FULL_CHAOS);
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await cluster.end();
    await endEngine();
  }
}

main().then(
  ({ code, passed, failed, skipped, secondTry }) => {
    if (passed + failed === 0) process.stderr.write('no test ran\n');
    else if (code !== 0 && failed === 0) process.stderr.write(`vitest ended with ${code} though no test failed\n`);
    for (const line of secondTry) process.stderr.write(`PASSED ONLY WHEN IT RAN AGAIN, to be mended: ${line}\n`);
    process.stderr.write(`tests took ${Math.round((Date.now() - started) / 1000)} s\n`);
    process.exitCode = code === 0 && failed === 0 && passed > 0 ? 0 : 1;
    if (skipped > 0)
      process.stderr.write(`${skipped} tests were left out: by a filter (-t), or because they need root; .ci/run as root runs all\n`);
    process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
  },
  (error) => {
    process.stderr.write(`npm test: ${error.message}\n`);
    process.exitCode = 1;
    process.stdout.write('0 passed, 1 failed\n');
  },
);
