/**
 * The Kubernetes cluster of the tests: whichever KUBECONFIG names; else the one of test/kube/cluster that is up
 * already; else that script brings one up, beside the tests that need none, and the run that did ends it.
 * Plain JavaScript for Node 18 and up.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { ROOT } from './packages.mjs';

/** The first time Kubernetes is compiled: four minutes on two idle cores, three times that beside the tests. */
const UP_TIMEOUT_MS = 20 * 60_000;
const DOWN_TIMEOUT_MS = 60_000;
const PROBE_TIMEOUT_MS = 10_000;
const TOOLS_TIMEOUT_MS = 180_000;

/** What the script needs to run; and, until it has compiled Kubernetes, to do that. By Debian package: the command that shows it. */
const RUN_TOOLS = {
  iproute2: 'ip',
  iptables: 'iptables',
  conntrack: 'conntrack',
  openssl: 'openssl',
  procps: 'pgrep',
  'util-linux': 'unshare',
};
const BUILD_TOOLS = { 'golang-go': 'go', gcc: 'gcc', 'dpkg-dev': 'dpkg-source', unzip: 'unzip', npm: 'npm' };

const SCRIPT = join(ROOT, 'test', 'kube', 'cluster');
const CACHE = process.env.KUBE_CACHE ?? join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'kube-from-debian');
/** State and kubeconfig of the cluster while it is up. */
const RUN = process.env.KUBE_RUN ?? `/run/kube-test${process.env.KUBE_NUMBER ?? ''}`;
const OWN_KUBECONFIG = join(RUN, 'admin.kubeconfig');
const ENV = { ...process.env, KUBE_CACHE: CACHE, KUBE_RUN: RUN, KUBE_NODES: '2' };

/**
 * What this run has to do for a cluster: nothing; give one that is up a second node, since a node is drained in some
 * tests; or bring one up. Throws where nobody can, and says what to do.
 * @returns {'nothing' | 'join' | 'start'}
 */
function whatToDo() {
  if (process.env.KUBECONFIG) return 'nothing';
  if (existsSync(OWN_KUBECONFIG)) {
    const asked = spawnSync(SCRIPT, ['kubectl', 'get', 'nodes', '-o', 'name'], { encoding: 'utf8', timeout: PROBE_TIMEOUT_MS, env: ENV });
    if (asked.status === 0) return asked.stdout.trim().split('\n').length >= 2 ? 'nothing' : 'join';
  }
  const debian = existsSync('/etc/os-release') && /^VERSION_ID="?12"?$/m.test(readFileSync('/etc/os-release', 'utf8'));
  if (process.getuid?.() !== 0 || !debian || process.arch !== 'x64')
    throw new Error(
      'the tests need a Kubernetes cluster. Set KUBECONFIG to that of one that may be filled with test namespaces, and\n' +
        "FN_TEST_LOAD_IMAGES to a command that gives its nodes images of this machine's Docker (for example `kind load docker-image`);\n" +
        'or run `npm test` as root on Debian 12 on x86-64, where it brings one up by itself. See test/kube/README.md.',
    );
  return 'start';
}

/** Sees to it that kubectl and Helm are there, for charts too that no cluster is asked about. Throws, and says what to do. */
export function ensureClusterTools() {
  const folders = [join(CACHE, 'bin'), ...(process.env.PATH ?? '').split(delimiter)];
  const missing = ['kubectl', 'helm'].filter((name) => !folders.some((folder) => existsSync(join(folder, name))));
  if (missing.length === 0) return;
  if (process.platform === 'linux' && process.arch === 'x64') {
    process.stderr.write(`fetching ${missing.join(' and ')}\n`);
    const fetched = spawnSync(SCRIPT, ['tools'], { stdio: ['ignore', 2, 2], timeout: TOOLS_TIMEOUT_MS, env: ENV });
    if (fetched.status === 0) return;
  }
  throw new Error(`the tests need ${missing.join(' and ')} on the PATH: install ${missing.length === 1 ? 'it' : 'them'} (Helm 3)`);
}

/** Debian packages that the cluster needs, as machine.mjs has its own: what each brings, and what shows that it is there. */
export function clusterTools() {
  if (whatToDo() !== 'start') return {};
  const commands = existsSync(join(CACHE, 'complete')) ? RUN_TOOLS : { ...RUN_TOOLS, ...BUILD_TOOLS };
  const tools = Object.fromEntries(Object.entries(commands).map(([name, command]) => [name, [command, `command -v ${command}`]]));
  return commands === RUN_TOOLS ? tools : { ...tools, 'libc6-dev': ['the headers of libc', 'test -e /usr/include/stdio.h'] };
}

/**
 * Begins to bring up a cluster where none is up. `env` is for the tests, which wait for the file that it names:
 * `{"kubeconfig":…}` or `{"error":…}`. `end` ends what was begun here, however far it came.
 * @returns {{ env: Record<string, string>, end: () => Promise<void> }}
 */
export function startCluster() {
  const todo = whatToDo();
  if (todo === 'nothing') return { env: {}, end: async () => {} };
  const folder = mkdtempSync(join(tmpdir(), 'fn-kube-'));
  const logFile = join(folder, 'log');
  const answerFile = join(folder, 'answer.json');
  const answer = (content) => {
    writeFileSync(`${answerFile}.new`, JSON.stringify(content));
    renameSync(`${answerFile}.new`, answerFile);
  };
  const log = openSync(logFile, 'a');
  // A group of its own: what it compiles with ends with it.
  const child = spawn(SCRIPT, ['up'], {
    detached: true,
    stdio: ['ignore', log, log],
    env: ENV,
  });
  closeSync(log);
  process.stderr.write(`bringing up a Kubernetes cluster (pid ${child.pid}, output in ${logFile})\n`);
  const endGroup = () => {
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  };
  const timer = setTimeout(endGroup, UP_TIMEOUT_MS);
  const ended = new Promise((resolve) => {
    const done = (how) => {
      clearTimeout(timer);
      if (how === 0) answer({ kubeconfig: OWN_KUBECONFIG });
      else answer({ error: `no cluster came up: ${how}\n${readFileSync(logFile, 'utf8').split('\n').slice(-25).join('\n')}` });
      resolve();
    };
    child.on('error', (error) => done(error.message));
    child.on('exit', (code, signal) => done(code ?? signal));
  });
  return {
    env: { FN_TEST_CLUSTER: answerFile },
    async end() {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) endGroup();
      await ended;
      // One that was up before goes on, with the node that it was given.
      const status =
        todo === 'start' ? spawnSync(SCRIPT, ['down'], { stdio: ['ignore', 2, 2], timeout: DOWN_TIMEOUT_MS, env: ENV }).status : 0;
      if (status !== 0) process.stderr.write(`the cluster did not end (${status ?? 'it took too long'}): test/kube/cluster down\n`);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
