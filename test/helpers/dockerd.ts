/**
 * A Docker engine of the test's own, which may be killed: in its own folder, on its own socket, with its own containerd. Its
 * mounts and its network are in namespaces of their own and vanish with the last of its processes: an engine that starts throws
 * away the bridge and the chains of the firewall that another has made, so it must not see those of the machine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { waitFor } from './wait.ts';

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
/** Of its networks: away from those that an engine takes by itself. */
const ADDRESSES = 'base=10.213.0.0/16,size=24';

export interface DockerdOptions {
  /** Containers go on while it is away. */
  liveRestore: boolean;
}

export class Dockerd {
  readonly folder = mkdtempSync(join(tmpdir(), 'fn-dockerd-'));
  readonly host = `unix://${join(this.folder, 's')}`;
  readonly #logFile = join(this.folder, 'log');
  /** Holds its namespaces while it is away itself. */
  readonly #holder: ChildProcess;
  #child: ChildProcess | null = null;

  constructor() {
    // The machine's own is of its own engine.
    writeFileSync(join(this.folder, 'daemon.json'), '{}');
    this.#holder = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '--mount', '--net', 'sleep', 'infinity'], { stdio: 'ignore' });
  }

  /** Resolves when it answers. Containers that run are taken over, or ended, as the option says. */
  async start({ liveRestore }: DockerdOptions): Promise<void> {
    const own = (kind: string) => readlinkSync(`/proc/${this.#holder.pid}/ns/${kind}`) !== readlinkSync(`/proc/${process.pid}/ns/${kind}`);
    await waitFor('namespaces', () => own('mnt') && own('net'), { everyMs: 5 });
    const namespaces = [`--mount=/proc/${this.#holder.pid}/ns/mnt`, `--net=/proc/${this.#holder.pid}/ns/net`];
    const inside = ['--pdeathsig', 'KILL', 'nsenter', ...namespaces, 'dockerd'];
    const at = (name: string) => join(this.folder, name);
    const args = ['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid'), '--host', this.host];
    args.push('--iptables=false', '--ip6tables=false', '--bridge=none', '--default-address-pool', ADDRESSES);
    args.push('--log-level', 'warn', '--config-file', at('daemon.json'), `--live-restore=${liveRestore}`);
    const log = openSync(this.#logFile, 'a');
    const child = spawn('setpriv', [...inside, ...args], { stdio: ['ignore', log, log] });
    closeSync(log);
    this.#child = child;
    const ended = () => child.exitCode !== null || child.signalCode !== null;
    const answers = async () => ended() || (await this.docker('version', '--format', '{{.Server.Version}}')) !== '';
    await waitFor('dockerd to answer', answers, { timeoutMs: START_TIMEOUT_MS, everyMs: 100 });
    if (ended()) throw new Error(`dockerd has ended\n${readFileSync(this.#logFile, 'utf8').slice(-4_000)}`);
  }

  /** Resolves when it is gone. Its containerd goes with it, the containers do not; at SIGTERM it ends them, without live-restore. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await gone;
    clearTimeout(timer);
    // Its containerd died with it. Where nobody reaps that, its id is still there, and the next one would take it for alive.
    rmSync(join(this.folder, 'exec', 'containerd', 'containerd.pid'), { force: true });
  }

  /** stdout of the docker client, talking to this engine. */
  async docker(...args: string[]): Promise<string> {
    return (await execa('docker', ['--host', this.host, ...args], { timeout: START_TIMEOUT_MS })).stdout.trim();
  }

  /** An image of the machine's own engine is here, too. */
  async take(image: string): Promise<void> {
    const file = join(this.folder, 'image.tar');
    await execa('docker', ['save', '--output', file, image]);
    await this.docker('load', '--input', file);
    rmSync(file);
  }

  /** Ends it and all that it started, and removes its folder. */
  async dispose(): Promise<void> {
    if (this.#child?.exitCode === null) {
      const left = (await this.docker('ps', '--all', '--quiet')).split('\n').filter((id) => id !== '');
      if (left.length > 0) await this.docker('rm', '--force', ...left);
    }
    await this.end('SIGTERM');
    for (const pid of this.#processes()) process.kill(pid, 'SIGKILL');
    await waitFor('the processes of dockerd to end', () => this.#processes().length === 0);
    const gone = once(this.#holder, 'exit');
    this.#holder.kill('SIGKILL');
    await gone;
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What names its folder on the command line: shims that outlived it, its containerd. */
  #processes(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && existsSync(`/proc/${name}/cmdline`))
      .map(Number)
      .filter((pid) => pid !== process.pid && commandLine(pid).includes(this.folder));
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch (error) {
    // Gone since it was listed.
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
