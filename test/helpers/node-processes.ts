/**
 * Processes of the tests' own cluster, whose nodes are this machine: of pods by their cgroup, of the control plane by their command
 * line. What is frozen or cut off here is thawed: by whoever did it, and by a process of its own where the whole run is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { execa } from 'execa';
import type { Cluster } from './kube.ts';
import { processesOfPod } from './platform-cluster.ts';
import { sleep } from './wait.ts';

/** After the time that something was to be frozen for, the run is believed dead, s. */
const THAW_ANYWAY_SECONDS = 30;

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    // It has ended since it was listed.
    return '';
  }
}

/** The process of a pod whose command line has these words. Throws where it is not on this machine. */
export function processOfPod(uid: string, words: string): number {
  const pid = processesOfPod(uid).find((one) => commandLine(one).includes(words));
  if (pid === undefined) throw new Error(`no process of pod ${uid} on this machine is ${words}`);
  return pid;
}

/** Of the cluster that test/kube/cluster brought up. Throws where it is another. */
export function apiServerProcess({ own }: Cluster): number {
  const pid =
    own === null
      ? undefined
      : readdirSync('/proc')
          .filter((name) => /^\d+$/.test(name))
          .map(Number)
          .find((one) => commandLine(one).startsWith('kube-apiserver ') && commandLine(one).includes(`=${own}/`));
  if (pid === undefined) throw new Error('the API server is no process of this machine: this suite needs a cluster of test/kube/cluster');
  return pid;
}

/** Runs a command after a while, whatever has become of this process and of the run that it belongs to. */
function inAnyCase(afterMs: number, command: readonly string[]): ChildProcess {
  const seconds = String(Math.ceil(afterMs / 1_000) + THAW_ANYWAY_SECONDS);
  // Without the run's environment, by which its end would end this, too.
  const env = { PATH: process.env.PATH };
  const child = spawn('sh', ['-c', 'sleep "$0"; exec "$@"', seconds, ...command], { detached: true, stdio: 'ignore', env });
  child.unref();
  return child;
}

async function forAWhile(ms: number, begin: readonly string[], end: readonly string[], struck: () => void): Promise<void> {
  const guard = inAnyCase(ms, end);
  try {
    await execa(begin[0]!, begin.slice(1));
    struck();
    await sleep(ms);
  } finally {
    await execa(end[0]!, end.slice(1));
    // With its sleep, which is in its group.
    if (guard.pid !== undefined && guard.exitCode === null) process.kill(-guard.pid, 'SIGKILL');
  }
}

/** `struck` is called when it has begun. The process stands still: connections to it are taken, by the kernel, and nothing is ever answered. */
export function frozen(pid: number, ms: number, struck = () => {}): Promise<void> {
  return forAWhile(ms, ['kill', '-STOP', String(pid)], ['kill', '-CONT', String(pid)], struck);
}

/** Connections of these addresses to the port of this process are reset, those that were open too. */
export function refused(pid: number, port: number, from: readonly string[], ms: number, struck = () => {}): Promise<void> {
  const rule = ['INPUT', '-s', from.join(','), '-p', 'tcp', '--dport', String(port), '-j', 'REJECT', '--reject-with', 'tcp-reset'];
  const iptables = (action: string) => ['nsenter', '--target', String(pid), '--net', 'iptables', '--wait', action, ...rule];
  return forAWhile(ms, iptables('--insert'), iptables('--delete'), struck);
}
