/**
 * What needs root on a host whose platform runs without it: the bridge with its egress rules, and the
 * parent cgroup, handed over to the platform's user. Done once per boot (rules, cgroups and /run do
 * not outlive it); undone by hostSetupUndo.
 */
import { chmod, mkdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import type { HomePaths } from '#kit/paths.ts';
import type { Log } from '#kit/log.ts';
import { DriverUnavailable } from '../types.ts';
import { codeOf, readMounts } from './cgroup.ts';
import { DEFAULT_DOCKER_SOCKET, connectEngine } from './engine.ts';
import { bridgeIsFiltered, Firewall, removeFirewall, whyNoFirewall } from './firewall.ts';
import { hostNameservers, markerFolder, markerPath, messageOf, type HostSetupMarker } from './host.ts';
import { ensureNetwork, heldInWords, networkName, removeNetwork } from './network.ts';
import { makeParent, parentCgroup, removeParent } from './parent-cgroup.ts';

export interface HostSetupOptions {
  paths: Pick<HomePaths, 'homeId' | 'home'>;
  /** The user that the platform runs as. */
  uid: number;
  gid: number;
  log: Log;
  socketPath?: string;
  /** DNS servers that instances may ask; default: those of the host. */
  nameservers?: string[];
}

/** One thing that was done, or could not be. */
export interface HostSetupStep {
  what: string;
  ok: boolean;
  detail: string;
}

/** Prepares the host. Doing it again is how rules come back after a reload of the firewall. Throws DriverUnavailable without root or engine. */
export async function hostSetup(options: HostSetupOptions): Promise<HostSetupStep[]> {
  const { paths, uid, gid, log } = options;
  requireRoot();
  const { homeId } = paths;
  const engine = await connectEngine(options.socketPath ?? DEFAULT_DOCKER_SOCKET);
  const nameservers = options.nameservers ?? (await hostNameservers());
  const bridge = networkName(homeId);

  const reason = await whyNoFirewall(homeId);
  if (reason !== null) throw new DriverUnavailable(`The egress rules cannot be set: ${reason}.`);
  await ensureNetwork(engine, homeId);
  if (!(await bridgeIsFiltered())) {
    await removeNetwork(engine, homeId);
    throw new DriverUnavailable('The kernel does not pass bridged packets to iptables: load the module br_netfilter, then do this again.');
  }
  await new Firewall({ homeId, bridge, nameservers, log }).install([]);
  const steps: HostSetupStep[] = [
    { what: 'bridge', ok: true, detail: `Docker network ${bridge}: no traffic between instances, no IPv6` },
    {
      what: 'egress rules',
      ok: true,
      detail: `instances on ${bridge} reach public addresses only; DNS: ${nameservers.join(', ') || 'by Docker, on the host'}`,
    },
  ];

  const parent = await handOverParent(homeId, { uid, gid }, (await engine.info()).cgroupDriver);
  steps.push(parent);
  await writeMarker({ version: 1, homeId, bridge, nameservers, parentCgroup: parent.ok, installedAt: new Date().toISOString() });
  return steps;
}

/** Removes what hostSetup made. Instances on the bridge must be gone: `fn down` first. */
export async function hostSetupUndo({ paths, socketPath }: Pick<HostSetupOptions, 'paths' | 'socketPath'>): Promise<HostSetupStep[]> {
  requireRoot();
  const { homeId } = paths;
  const engine = await connectEngine(socketPath ?? DEFAULT_DOCKER_SOCKET);
  const bridge = networkName(homeId);
  // The network first: it refuses while instances are on it, and must not be left without rules.
  const network = await removeNetwork(engine, homeId);
  await removeFirewall(homeId, bridge);
  const parent = parentCgroup({ homeId, driver: (await engine.info()).cgroupDriver, mounts: await readMounts() });
  if (parent !== null) await removeParent(parent, await readFile('/proc/self/mountinfo', 'utf8'));
  await rm(markerPath(homeId), { force: true });
  await rmdir(markerFolder(homeId)).catch((error: unknown) => {
    // As root the platform's own run folder is the same one.
    if (!['ENOENT', 'ENOTEMPTY'].includes(codeOf(error) ?? '')) throw error;
  });
  if (network === 'held') return [{ what: 'undo', ok: false, detail: `removed the rules and the parent cgroup. ${heldInWords(homeId)}` }];
  return [{ what: 'undo', ok: true, detail: `removed the bridge ${bridge}, its rules and the parent cgroup` }];
}

async function handOverParent(
  homeId: string,
  owner: { uid: number; gid: number },
  driver: 'cgroupfs' | 'systemd' | 'none',
): Promise<HostSetupStep> {
  const what = 'parent cgroup';
  const parent = parentCgroup({ homeId, driver, mounts: await readMounts() });
  if (parent?.dirs.memory === undefined)
    return { what, ok: false, detail: 'this machine has no memory controller, or the engine makes no cgroups' };
  try {
    await makeParent(parent, owner);
    return { what, ok: true, detail: `${parent.name}, its limits writable by uid ${owner.uid}` };
  } catch (error) {
    return { what, ok: false, detail: messageOf(error) };
  }
}

async function writeMarker(marker: HostSetupMarker): Promise<void> {
  const folder = markerFolder(marker.homeId);
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o711);
  const path = markerPath(marker.homeId);
  await writeFile(`${path}.new`, `${JSON.stringify(marker)}\n`, { mode: 0o644 });
  await chmod(`${path}.new`, 0o644);
  await rename(`${path}.new`, path);
}

function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new DriverUnavailable('host-setup changes the host, and needs root: sudo fn host-setup');
}
