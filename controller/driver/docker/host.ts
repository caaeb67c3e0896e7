/**
 * What a driver needs of the host beside the engine: one parent cgroup, one bridge and its rules.
 * Made here as root; made before by `fn host-setup` for another user; or missing, and then the
 * features and notes say so.
 */
import { readFile, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { Log } from '#kit/log.ts';
import type { DriverFeatures } from '../types.ts';
import { isMissing } from '../workspace.ts';
import { readMounts, writable, type CgroupMounts } from './cgroup.ts';
import { nameserversIn } from './egress.ts';
import type { Engine, EngineInfo } from './engine.ts';
import { bridgeIsFiltered, Firewall, removeFirewall, whyNoFirewall } from './firewall.ts';
import { ensureNetwork, hasNetwork, heldInWords, networkName, removeNetwork } from './network.ts';
import { sandboxesOf } from './sandbox.ts';
import { limitParent, makeParent, parentCgroup, parentUsable, removeParent, type ParentCgroup } from './parent-cgroup.ts';

/** What `fn host-setup` leaves for the driver of another user. */
export const HostSetupMarker = z.object({
  version: z.literal(1),
  homeId: z.string(),
  bridge: z.string(),
  nameservers: z.array(z.string()),
  parentCgroup: z.boolean(),
  installedAt: z.string(),
});
export type HostSetupMarker = z.infer<typeof HostSetupMarker>;

export const markerFolder = (homeId: string): string => `/run/fn/${homeId}`;
export const markerPath = (homeId: string): string => join(markerFolder(homeId), 'host-setup.json');

export interface HostOptions {
  homeId: string;
  memoryBudgetMib: number;
  cpuBudget: number;
  egressPolicy: 'require-filter' | 'allow-unfiltered';
  /** DNS servers for instances; undefined: those of the host. */
  nameservers: string[] | undefined;
  log: Log;
}

/** The host as it was found and made ready. */
export interface Host {
  info: EngineInfo;
  mounts: CgroupMounts;
  /** The parent, where the kernel holds it to the budget. */
  parent: ParentCgroup | null;
  /** Rules that this process keeps. */
  firewall: Firewall | null;
  features: DriverFeatures;
}

export async function prepareHost(engine: Engine, options: HostOptions): Promise<Host> {
  const [info, mounts, marker] = await Promise.all([engine.info(), readMounts(), readMarker(options.homeId)]);
  const notes: string[] = [];
  const limits = limitsNote(info, notes);
  const parent = await prepareParent(info, mounts, options, notes);
  const { firewall, egress } = await prepareEgress(engine, options, marker, notes);
  const freezer = parent?.dirs.freezer;
  const freeze = freezer !== undefined && (await writable(join(freezer, mounts.version === 1 ? 'cgroup.procs' : 'cgroup.freeze')));
  if (!freeze) notes.push('Idle instances are not frozen, as their freezer cannot be written: what they do while idle costs CPU.');
  if (!info.securityOptions.some((option) => option.startsWith('name=seccomp'))) {
    notes.push('The engine runs without seccomp: one layer of the isolation is missing. Use a kernel and an engine that have it.');
  }
  const { names: sandboxes, notes: onSandboxes } = sandboxesOf(info);
  notes.push(...onSandboxes);
  return { info, mounts, parent, firewall, features: { freeze, limits, parentCgroup: parent !== null, egress, sandboxes, notes } };
}

function limitsNote(info: EngineInfo, notes: string[]): boolean {
  const rootless = info.securityOptions.some((option) => option.startsWith('name=rootless'));
  if (info.cgroupDriver !== 'none' && !(rootless && info.cgroupVersion === 1)) return true;
  notes.push('The engine cannot limit memory and CPU (rootless without cgroup version 2): an instance can take all of the machine.');
  return false;
}

async function prepareParent(info: EngineInfo, mounts: CgroupMounts, options: HostOptions, notes: string[]): Promise<ParentCgroup | null> {
  const { homeId, memoryBudgetMib, cpuBudget, log } = options;
  const parent = parentCgroup({ homeId, driver: info.cgroupDriver, mounts });
  const without = (why: string): null => {
    notes.push(
      `There is no cgroup above the instances, as ${why}: the budget is kept by the controller alone. As root, or after sudo fn host-setup, the kernel keeps it.`,
    );
    return null;
  };
  if (parent?.dirs.memory === undefined) return without('the engine or this machine has none');
  try {
    if (process.getuid?.() === 0) await makeParent(parent);
    else if (!(await parentUsable(parent))) return without('making it needs root');
    await limitParent(parent, { memoryMib: memoryBudgetMib, cpu: cpuBudget }, availableParallelism());
    return parent;
  } catch (error) {
    log.warn({ error: messageOf(error) }, 'the parent cgroup could not be made');
    return without(`making it failed (${messageOf(error)})`);
  }
}

type EgressState = Pick<Host, 'firewall'> & { egress: DriverFeatures['egress'] };

async function prepareEgress(engine: Engine, options: HostOptions, marker: HostSetupMarker | null, notes: string[]): Promise<EgressState> {
  const { homeId, egressPolicy, log } = options;
  const without = async (why: string): Promise<EgressState> => {
    if (egressPolicy === 'allow-unfiltered') {
      await ensureNetwork(engine, homeId);
      notes.push(
        `Egress is not filtered, as ${why}: functions that may dial out also reach this host and private networks. As root, or after sudo fn host-setup, it is.`,
      );
      return { firewall: null, egress: 'unfiltered' };
    }
    notes.push(
      `Functions cannot dial out (egress is none), as ${why}. As root, or after sudo fn host-setup, they can; or unfiltered, with fn up --allow-unfiltered-egress.`,
    );
    return { firewall: null, egress: 'none' };
  };
  try {
    if (marker && process.getuid?.() !== 0) {
      if (!(await hasNetwork(engine, homeId))) return await without('the bridge that host-setup made is gone: run it again');
      notes.push(
        'Egress to a list of networks is refused, as its rules need root at run time; internet and none work. After a reload of the firewall, run sudo fn host-setup again.',
      );
      return { firewall: null, egress: 'filtered' };
    }
    const reason = await whyNoFirewall(homeId);
    if (reason !== null) return await without(reason);
    await ensureNetwork(engine, homeId);
    if (!(await bridgeIsFiltered())) return await without('the kernel does not pass bridged packets to iptables (module br_netfilter)');
    const nameservers = options.nameservers ?? (await hostNameservers());
    return { firewall: new Firewall({ homeId, bridge: networkName(homeId), nameservers, log }), egress: 'filtered' };
  } catch (error) {
    log.warn({ error: messageOf(error) }, 'egress could not be prepared');
    notes.push(`Functions cannot dial out (egress is none), as preparing the network failed: ${messageOf(error)}`);
    return { firewall: null, egress: 'none' };
  }
}

/**
 * Removes what was made for a home; what cannot be removed keeps nothing else. What host-setup made for another user stays, for
 * the next start. Throws the first of the failures, when all has been tried.
 */
export async function removeHost(engine: Engine, homeId: string, log: Log): Promise<void> {
  const [info, mounts] = await Promise.all([engine.info(), readMounts()]);
  const root = process.getuid?.() === 0;
  const parent = parentCgroup({ homeId, driver: info.cgroupDriver, mounts });
  const steps = [
    async () => {
      if (root && (await whyNoFirewall(homeId)) === null) await removeFirewall(homeId, networkName(homeId));
    },
    async () => {
      if (!root && (await readMarker(homeId)) !== null) return;
      if ((await removeNetwork(engine, homeId)) === 'held') log.warn({ network: networkName(homeId) }, heldInWords(homeId));
    },
    async () => {
      if (root && parent !== null) await removeParent(parent, await readFile('/proc/self/mountinfo', 'utf8'));
    },
  ];
  const failures: unknown[] = [];
  for (const step of steps) {
    await step().catch((error: unknown) => {
      failures.push(error);
      log.error({ error: messageOf(error) }, 'what was made for the home could not be removed');
    });
  }
  if (failures.length > 0) throw failures[0];
}

/** The name servers that Docker hands to containers on a network of one's own. */
export async function hostNameservers(): Promise<string[]> {
  try {
    return nameserversIn(await readFile('/etc/resolv.conf', 'utf8'));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

async function readMarker(homeId: string): Promise<HostSetupMarker | null> {
  const path = markerPath(homeId);
  try {
    // Only root's word counts: the folder is below /run, but the file could be anybody's.
    if ((await stat(path)).uid !== 0) return null;
    const marker = HostSetupMarker.safeParse(JSON.parse(await readFile(path, 'utf8')));
    return marker.success ? marker.data : null;
  } catch (error) {
    if (isMissing(error) || error instanceof SyntaxError) return null;
    throw error;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.trim().split('\n')[0]! : String(error);
}
