/** The machine itself: Node, memory, disk, ports, cgroups, tools. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { totalmem } from 'node:os';
import { promisify } from 'node:util';
import { formatBytes } from '../output.ts';
import type { Finding } from './finding.ts';

const COMMAND_TIMEOUT_MS = 5_000;

/** stdout of a program, or null where it is not there or fails. */
export async function outputOf(command: string, args: string[]): Promise<string | null> {
  try {
    return (await promisify(execFile)(command, args, { timeout: COMMAND_TIMEOUT_MS })).stdout.trim();
  } catch {
    // Not installed, or it says no: for the doctor both are "nothing known".
    return null;
  }
}

export function examineNode(): Finding {
  const { node } = process.versions;
  if (Number(node.split('.')[0]) >= 24) return { level: 'ok', what: 'node', found: `${node} at ${process.execPath}` };
  return { level: 'fail', what: 'node', found: `${node} is too old`, remedy: 'Run fn by its launcher, which finds Node 24: ./fn' };
}

const LOW_MEMORY_MIB = 1_024;

/** `budgetMib`: what the platform will let instances take together, as it does where nothing else is said. */
export function examineMemory(totalMib = Math.floor(totalmem() / 1024 / 1024)): Finding {
  const budgetMib = Math.floor(totalMib * 0.75);
  const found = `${totalMib} MiB; instances may take ${budgetMib} MiB of it, ${Math.floor(budgetMib / 128)} of the default size`;
  if (totalMib >= LOW_MEMORY_MIB) return { level: 'ok', what: 'memory', found };
  return { level: 'warn', what: 'memory', found, remedy: 'Fewer generic instances: fn up --pool 1' };
}

const LOW_DISK_BYTES = 1_000_000_000;

export function examineDisk(home: string): Finding {
  const { bavail, bsize } = statfsSync(home);
  const free = bavail * bsize;
  const found = `${formatBytes(free)} free for ${home}`;
  if (free >= LOW_DISK_BYTES) return { level: 'ok', what: 'disk', found };
  return {
    level: free < LOW_DISK_BYTES / 10 ? 'fail' : 'warn',
    what: 'disk',
    found,
    remedy: 'Free some space, or choose another folder: fn up --home DIR',
  };
}

/** `own`: the port is taken by this home's own gateway. */
export async function examinePort(port: number, own: boolean): Promise<Finding> {
  const what = 'port';
  if (own) return { level: 'ok', what, found: `${port} is the running gateway’s` };
  const probe = createServer();
  const problem = await new Promise<string | null>((resolve) => {
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    probe.listen(port, '127.0.0.1', () => resolve(null));
  });
  if (problem !== null)
    return { level: 'warn', what, found: `${port} cannot be used (${problem})`, remedy: `Choose another: fn up --port ${port + 1}` };
  await new Promise((resolve) => probe.close(resolve));
  return { level: 'ok', what, found: `${port} is free` };
}

export function examineCgroups(): Finding {
  const what = 'cgroups';
  if (!existsSync('/sys/fs/cgroup'))
    return { level: 'warn', what, found: 'none here: the engine runs in a virtual machine, or there is no Linux' };
  if (existsSync('/sys/fs/cgroup/cgroup.controllers')) {
    const controllers = readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8').trim().split(/\s+/);
    const missing = ['memory', 'cpu', 'pids'].filter((name) => !controllers.includes(name));
    if (missing.length > 0)
      return {
        level: 'warn',
        what,
        found: `version 2, without ${missing.join(', ')}`,
        remedy: 'Boot with these controllers; limits of functions are not enforced without.',
      };
    return { level: 'ok', what, found: 'version 2, with memory, cpu and pids' };
  }
  const folders = ['memory', 'cpu', 'pids', 'freezer'].filter((name) => !existsSync(`/sys/fs/cgroup/${name}`));
  if (folders.length > 0)
    return {
      level: 'warn',
      what,
      found: `version 1, without ${folders.join(', ')}`,
      remedy: 'Boot with cgroup_enable=memory, or with version 2: systemd.unified_cgroup_hierarchy=1',
    };
  return examineSwapAccounting();
}

/** Without it a function that is over its memory goes to swap instead of ending. */
function examineSwapAccounting(): Finding {
  const what = 'cgroups';
  if (existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes'))
    return { level: 'ok', what, found: 'version 1, with memory, swap, cpu, pids and freezer' };
  return { level: 'warn', what, found: 'version 1, without accounting of swap', remedy: 'Boot with swapaccount=1, or switch swap off.' };
}

export async function examineImageBuilder(): Promise<Finding> {
  const what = 'mmdebstrap';
  const version = await outputOf('mmdebstrap', ['--version']);
  if (version !== null) return { level: 'ok', what, found: version };
  const debian = existsSync('/etc/debian_version');
  return {
    level: debian ? 'warn' : 'ok',
    what,
    found: debian ? 'not installed: it makes the runtime images’ root filesystem' : 'not here; needed on Debian only',
    remedy: debian ? 'sudo apt-get install -y mmdebstrap' : 'Elsewhere take a base image: fn runtimes build --base debian:stable-slim',
  };
}
