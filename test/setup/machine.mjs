/**
 * What the tests need of the machine beside npm packages: a container engine and the tools that
 * build images and networks. Root on Debian gets what is missing; anyone else is told exactly what
 * to install. Nothing is skipped. Plain JavaScript for Node 18 and up.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Longest wait for a fresh engine to answer. */
const ENGINE_START_TIMEOUT_MS = 60_000;
/** Longest wait for an engine of ours to end before it is killed. */
const ENGINE_STOP_TIMEOUT_MS = 20_000;
const POLICY_FILE = '/usr/sbin/policy-rc.d';

/** Tools by the Debian package that has them, each with the command that shows whether it is there. */
const TOOLS = {
  'docker.io': ['dockerd', 'command -v dockerd'],
  mmdebstrap: ['mmdebstrap', 'command -v mmdebstrap'],
  iptables: ['iptables', 'command -v iptables'],
  iproute2: ['ip', 'command -v ip'],
  // For the fault suites: a network that loses packets, and clocks that jump.
  nftables: ['nft', 'command -v nft'],
  libfaketime: ['libfaketime', 'ls /usr/lib/*/faketime/libfaketime.so.1'],
  python3: ['python3', 'command -v python3'],
  // For functions in a sandbox.
  runsc: ['runsc (gVisor)', 'command -v runsc'],
  // For functions with a requirements.txt.
  'python3-pip': ['pip for python3', 'python3 -m pip --version'],
  // Brokers that triggers take from. Tests start their own, on free ports.
  'redis-server': ['redis-server', 'command -v redis-server'],
  'rabbitmq-server': ['rabbitmq-server', 'test -x /usr/lib/rabbitmq/bin/rabbitmq-server'],
  'nats-server': ['nats-server', 'command -v nats-server'],
  mosquitto: ['mosquitto', 'command -v mosquitto'],
  // Its mock Kafka cluster.
  librdkafka1: ['librdkafka1', 'ls /usr/lib/*/librdkafka.so.1'],
};

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const isRoot = process.getuid?.() === 0;

/** True where an engine answers the docker client. */
export function engineAnswers() {
  const asked = spawnSync('docker', ['version', '--format', '{{.Server.Version}}'], { encoding: 'utf8', timeout: 10_000 });
  return asked.status === 0 && asked.stdout.trim() !== '';
}

function missingPackages(tools) {
  const succeeds = (command) => spawnSync('sh', ['-c', command], { stdio: 'ignore' }).status === 0;
  const missing = Object.entries(tools)
    .filter(([, [, command]]) => !succeeds(command))
    .map(([name]) => name);
  // An engine that answers need not be Debian's, nor on this machine.
  return missing.filter((name) => name !== 'docker.io' || !engineAnswers());
}

function aptInstall(packages) {
  process.stderr.write(`installing ${packages.join(' ')}\n`);
  // The packages' scripts would start an engine and brokers that nobody ends: the tests start what they need, and end it.
  const guard = !existsSync(POLICY_FILE);
  if (guard) writeFileSync(POLICY_FILE, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const apt = (...args) => spawnSync('apt-get', args, { stdio: ['ignore', 2, 2], env }).status === 0;
    const install = () => apt('install', '-y', '--no-install-recommends', ...packages);
    if (!install() && !(apt('update') && install())) throw new Error(`apt-get install ${packages.join(' ')} failed`);
  } finally {
    if (guard) rmSync(POLICY_FILE, { force: true });
  }
}

/**
 * Installs the tools that are missing, or throws with the command that does. `more`: beside those that all tests need.
 */
export function ensureTools(more = {}) {
  const tools = { ...more, ...TOOLS };
  const missing = missingPackages(tools);
  if (missing.length === 0) return;
  if (!isRoot || !existsSync('/etc/debian_version')) {
    throw new Error(
      `the tests need ${missing.map((name) => tools[name][0]).join(', ')}. On Debian: sudo apt-get install ${missing.join(' ')}\n` +
        'As root on Debian, `npm test` installs it by itself.',
    );
  }
  aptInstall(missing);
}

const tail = (file) => readFileSync(file, 'utf8').split('\n').slice(-25).join('\n');
const alive = (pid) => existsSync(`/proc/${pid}/stat`) && !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

/** Ends a process by id: SIGTERM, and SIGKILL when it takes too long. */
async function endProcess(pid) {
  for (const [signal, patienceMs] of [
    ['SIGTERM', ENGINE_STOP_TIMEOUT_MS],
    ['SIGKILL', 5_000],
  ]) {
    if (!alive(pid)) return;
    process.kill(pid, signal);
    for (const end = Date.now() + patienceMs; alive(pid) && Date.now() < end;) await wait(100);
  }
}

/** The containerd that a dockerd of ours started, in a session of its own. */
function containerdPid() {
  const file = '/var/run/docker/containerd/containerd.pid';
  if (!existsSync(file)) return null;
  const pid = Number(readFileSync(file, 'utf8'));
  return pid > 1 && alive(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('containerd') ? pid : null;
}

/** Of an engine of ours: it knows gVisor, as docs/security.md has it. Where the machine has a configuration, that one counts. */
function engineArguments(folder) {
  if (existsSync('/etc/docker/daemon.json')) return [];
  const file = join(folder, 'daemon.json');
  const runsc = { path: '/usr/bin/runsc', runtimeArgs: ['--platform=ptrace', '--host-uds=create', '--network=host'] };
  writeFileSync(file, JSON.stringify({ runtimes: { runsc } }));
  return ['--config-file', file];
}

/**
 * Sees to it that a container engine answers. Starts dockerd where none does: in a session of its
 * own, its output in a file, so that whoever waits for us does not wait for it.
 * Returns what ends it again (nothing, where one was running).
 * @returns {Promise<() => Promise<void>>}
 */
export async function ensureEngine() {
  if (engineAnswers()) return async () => {};
  if (!isRoot || process.env.DOCKER_HOST) {
    throw new Error(
      'no container engine answers. Start it (sudo systemctl start docker) and let this user use it (sudo usermod -aG docker $USER).',
    );
  }
  const folder = mkdtempSync(join(tmpdir(), 'fn-dockerd-'));
  const logFile = join(folder, 'log');
  const log = openSync(logFile, 'a');
  const daemon = spawn('dockerd', engineArguments(folder), { detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  let ended = null;
  daemon.on('error', (error) => (ended = error.message));
  daemon.on('exit', (code, signal) => (ended = `it ended with ${code ?? signal}`));
  daemon.unref();
  process.stderr.write(`starting dockerd (pid ${daemon.pid}, output in ${logFile})\n`);
  const end = Date.now() + ENGINE_START_TIMEOUT_MS;
  while (!engineAnswers()) {
    if (ended !== null || Date.now() > end) {
      const text = tail(logFile);
      if (daemon.pid) await endProcess(daemon.pid);
      throw new Error(`dockerd did not start: ${ended ?? `no answer in ${ENGINE_START_TIMEOUT_MS} ms`}\n${text}`);
    }
    await wait(250);
  }
  return async () => {
    const containerd = containerdPid();
    await endProcess(daemon.pid);
    if (containerd !== null) await endProcess(containerd);
    rmSync(folder, { recursive: true, force: true });
  };
}
