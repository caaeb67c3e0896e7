/** What a platform left on the host after it ended: everything that carries its home's id or path. */
import { type Dirent, existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';

export interface Home {
  home: string;
  homeId: string;
  runDir: string;
  /** Of the engine that its containers are in, where that is not the machine's own. */
  dockerHost?: string | undefined;
}

const lines = (text: string) => text.split('\n').filter((line) => line !== '');

async function run(command: string, args: string[]): Promise<string[]> {
  const result = await execa(command, args, { reject: false, timeout: 30_000 });
  return result.failed ? [] : lines(result.stdout);
}

const docker = ({ dockerHost }: Home, args: string[]) =>
  run('docker', [...(dockerHost === undefined ? [] : ['--host', dockerHost]), ...args]);

/** Processes that were started for this home, by command line or environment. Zombies of others do not count. */
export function processesOf({ home, homeId }: Home): { pid: number; command: string }[] {
  const found: { pid: number; command: string }[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      const environ = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
      const ours = environ.includes(`FN_HOME=${home}`) || command.includes(home) || command.includes(`/run/fn/${homeId}`);
      if (ours && command !== '') found.push({ pid, command });
    } catch (error) {
      // Gone since readdir, or not ours to read.
      if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return found;
}

/** Folders in a folder; none where it has gone meanwhile, as the cgroups of other platforms do. */
function foldersIn(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ENODEV') return [];
    throw error;
  }
}

/** Cgroup folders named after this home, in any hierarchy. */
export function cgroupsOf({ homeId }: Home): string[] {
  const found: string[] = [];
  const visit = (folder: string, depth: number) => {
    for (const entry of foldersIn(folder)) {
      const path = join(folder, entry.name);
      if (entry.name.includes(homeId)) found.push(path);
      else if (depth < 3) visit(path, depth + 1);
    }
  };
  if (existsSync('/sys/fs/cgroup')) visit('/sys/fs/cgroup', 0);
  return found;
}

export const containersOf = ({ homeId }: Home) => run('docker', ['ps', '-aq', '--no-trunc', '--filter', `label=fn.home=${homeId}`]);

export async function networksOf({ homeId }: Home): Promise<string[]> {
  const all = await run('docker', ['network', 'ls', '--format', '{{.Name}} {{.Labels}}']);
  return all.filter((line) => line.includes(homeId)).map((line) => line.split(' ')[0]!);
}

/**
 * Networks that Docker does not let go of though no container is on them: it miscounts now and then (controller/driver/docker/
 * network.ts), and then nobody can remove them before it is restarted. One that can be removed now could have been before.
 */
export async function heldNetworksOf(home: Home): Promise<string[]> {
  const held: string[] = [];
  for (const name of await networksOf(home)) {
    const containers = await execa('docker', ['network', 'inspect', '--format', '{{len .Containers}}', name], { reject: false });
    if (containers.stdout.trim() !== '0') continue;
    const removal = await execa('docker', ['network', 'rm', name], { reject: false, timeout: 30_000 });
    if (removal.exitCode !== 0 && removal.stderr.includes('has active endpoints')) held.push(name);
  }
  return held;
}

export async function rulesOf({ homeId }: Home): Promise<string[]> {
  return (await run('iptables-save', [])).filter((line) => line.includes(homeId));
}

export const mountsOf = ({ homeId, home }: Home) =>
  lines(readFileSync('/proc/mounts', 'utf8')).filter((line) => line.includes(`/run/fn/${homeId}`) || line.includes(`${home}/`));

/** A sentence for each thing that is left. Empty: clean. */
export async function findLeaks(home: Home): Promise<string[]> {
  const [containers, networks, rules] = await Promise.all([containersOf(home), networksOf(home), rulesOf(home)]);
  const held = networks.length > 0 ? await heldNetworksOf(home) : [];
  // With a network that it holds, Docker keeps its own rules for it; ours have chains of their own.
  const ofDocker = (rule: string) => held.length > 0 && !rule.includes(`FN-${home.homeId}`);
  return [
    ...containers.map((id) => `container ${id.slice(0, 12)}`),
    ...networks.filter((name) => !held.includes(name)).map((name) => `network ${name}`),
    ...rules.filter((rule) => !ofDocker(rule)).map((rule) => `iptables rule ${rule}`),
    ...cgroupsOf(home).map((path) => `cgroup ${path}`),
    ...mountsOf(home).map((mount) => `mount ${mount}`),
    ...processesOf(home).map(({ pid, command }) => `process ${pid}: ${command}`),
    ...(existsSync(home.runDir) ? [`folder ${home.runDir}: ${readdirSync(home.runDir).join(' ')}`] : []),
  ];
}

/** Removes by force what findLeaks() sees, so that one failed suite does not spoil the next. */
export async function removeLeftovers(home: Home): Promise<void> {
  for (const { pid } of processesOf(home)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
  const containers = await containersOf(home);
  if (containers.length > 0) await docker(home, ['rm', '-f', ...containers]);
  for (const network of await networksOf(home)) await docker(home, ['network', 'rm', network]);
  for (const rule of await rulesOf(home)) if (rule.startsWith('-A ')) await run('iptables', ['-D', ...rule.slice(3).split(' ')]);
  for (const folder of cgroupsOf(home)) await run('rmdir', [folder]);
  rmSync(home.runDir, { recursive: true, force: true });
}
