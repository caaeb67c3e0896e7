/** An instance as this driver knows it, read from what the engine says of its container. */
import type Dockerode from 'dockerode';
import type { NetworkClass } from '#contract/function.ts';
import type { DriverInstance } from '../types.ts';
import type { CgroupDirs } from './cgroup.ts';
import { LABELS, containerName } from './container.ts';

/**
 * `creating` and `killing` keep what the engine tells from being reported as an end by itself;
 * `ended` keeps it from being reported twice.
 */
export type Phase = 'creating' | 'running' | 'ended' | 'killing';

/** Paths on this host of what an instance sees, read-only, as its /etc/hosts and /etc/resolv.conf. */
export interface InstanceFiles {
  hosts: string;
  resolvConf: string;
}

export interface Known {
  readonly id: string;
  phase: Phase;
  /** Id of the container; empty until it is made. */
  container: string;
  memoryClassMib: number;
  network: NetworkClass;
  /** On our bridge; null without network, or when it is not running. */
  ip: string | null;
  /** Files of the engine that it sees as its own. */
  files: InstanceFiles | null;
  cgroup: CgroupDirs | null;
  /** It ended before create() was done with it. */
  endedEarly: { exitCode: number | null } | null;
}

export function newKnown(id: string, memoryClassMib: number, network: NetworkClass): Known {
  return { id, phase: 'creating', container: '', memoryClassMib, network, ip: null, files: null, cgroup: null, endedEarly: null };
}

/** Our view of a container, or null where it does not carry this home's labels as we write them. */
export function readInstance(
  container: Dockerode.ContainerInspectInfo,
  homeId: string,
  networkName: string,
  socketOf: (id: string) => string,
): { instance: DriverInstance; ip: string | null; files: InstanceFiles } | null {
  const labels = container.Config.Labels ?? {};
  const id = labels[LABELS.instance];
  if (labels[LABELS.home] !== homeId || id === undefined || container.Name !== `/${containerName(homeId, id)}`) return null;
  const network: NetworkClass = labels[LABELS.network] === 'egress' ? 'egress' : 'none';
  const { Running: running, Pid: pid, StartedAt: startedAt } = container.State;
  const ip = container.NetworkSettings.Networks?.[networkName]?.IPAddress ?? '';
  const instance: DriverInstance = {
    id,
    runtime: labels[LABELS.runtime] ?? '',
    memoryClassMib: Number(labels[LABELS.memoryClass]),
    network,
    image: labels[LABELS.image] ?? null,
    sandbox: labels[LABELS.sandbox] ?? null,
    address: { kind: 'unix', path: socketOf(id) },
    startedAt,
    running,
    handle: containerName(homeId, id),
    ...(running && pid > 0 ? { pid } : {}),
  };
  const files = { hosts: container.HostsPath, resolvConf: container.ResolvConfPath };
  return { instance, ip: ip === '' ? null : ip, files };
}
