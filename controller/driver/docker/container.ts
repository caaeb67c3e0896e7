/**
 * How a container of an instance is made. This is the allow-list: a HostConfig is built here, field
 * by field, and nothing that a user says is passed through. What it sets is the security floor;
 * the test beside it fails when a field is added, lost or loosened.
 */
import type { ContainerCreateOptions } from 'dockerode';
import { openFiles, tmpSizeMib, type NetworkClass } from '#contract/function.ts';
import { imageArguments } from '../boot.ts';
import { SHIM, type ImageProgram } from './image-program.ts';
import { ociRuntimeOf } from './sandbox.ts';

/** uid and gid of every instance: `nonroot`, of no use on the host. */
export const INSTANCE_UID = 65_532;

/** Processes and threads of an instance. Node alone has 11. */
export const MAX_PIDS = 256;

/** What Docker keeps of an instance's output: two files of so much. A reader that is further behind loses the oldest. */
const LOG_FILE_MIB = 2;
const LOG_FILES = 2;

/** Under memory pressure the kernel takes instances before gateway and controller. */
const OOM_SCORE_ADJ = 500;

/** Paths inside an instance. */
export const INSIDE = { sock: '/fn/sock', socket: '/fn/sock/s', code: '/fn/code' } as const;

export const LABELS = {
  home: 'fn.home',
  instance: 'fn.instance',
  runtime: 'fn.runtime',
  image: 'fn.image',
  memoryClass: 'fn.class',
  network: 'fn.network',
  sandbox: 'fn.sandbox',
  version: 'fn.version',
} as const;

export interface ContainerPlan {
  homeId: string;
  id: string;
  runtime: string;
  image: string;
  /** With the runtime `image`: what runs in it; null for all others. */
  program: ImageProgram | null;
  /** The platform's version. */
  version: string;
  memoryClassMib: number;
  network: NetworkClass;
  /** What isolates it beyond the usual, by its name in features.sandboxes; null: nothing. */
  sandbox: string | null;
  /** Docker network of the class `egress`. */
  networkName: string;
  nonce: string;
  /** Folders on this host. */
  sockDir: string;
  codeDir: string;
  /** Empty: Docker's default. */
  cgroupParent: string;
  cgroupVersion: 1 | 2;
  /** Empty: those of the host. */
  nameservers: string[];
}

export const containerName = (homeId: string, id: string): string => `fn-${homeId}-${id}`;

/** Everything that `docker create` is told about an instance. */
export function containerOptions(plan: ContainerPlan): ContainerCreateOptions & { name: string } {
  const args = imageArguments(plan.runtime, plan.memoryClassMib);
  return {
    name: containerName(plan.homeId, plan.id),
    Image: plan.image,
    ...(plan.program === null
      ? args !== null && { Cmd: args }
      : {
          Entrypoint: [SHIM],
          Cmd: plan.program.args,
          // The engine's runtime would enter the image's before it has let go of the host, and follow links (CVE-2024-21626).
          WorkingDir: '/',
          // The image's would be run by the engine, beside our own.
          Healthcheck: { Test: ['NONE'] },
        }),
    Hostname: plan.id,
    User: `${INSTANCE_UID}:${INSTANCE_UID}`,
    Env: [`FN_INSTANCE=${plan.id}`, `FN_NONCE=${plan.nonce}`, `FN_SOCKET=${INSIDE.socket}`],
    Labels: {
      [LABELS.home]: plan.homeId,
      [LABELS.instance]: plan.id,
      [LABELS.runtime]: plan.runtime,
      ...(plan.program === null ? {} : { [LABELS.image]: plan.image }),
      [LABELS.memoryClass]: String(plan.memoryClassMib),
      [LABELS.network]: plan.network,
      ...(plan.sandbox === null ? {} : { [LABELS.sandbox]: plan.sandbox }),
      [LABELS.version]: plan.version,
    },
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    OpenStdin: false,
    Tty: false,
    HostConfig: hostConfig(plan),
  };
}

type HostConfig = NonNullable<ContainerCreateOptions['HostConfig']>;

function hostConfig(plan: ContainerPlan): HostConfig {
  const memory = plan.memoryClassMib * 1024 * 1024;
  const files = openFiles(plan.memoryClassMib);
  const bind = (Source: string, Target: string, ReadOnly: boolean) => ({
    Type: 'bind' as const,
    Source,
    Target,
    ReadOnly,
    BindOptions: { Propagation: 'rprivate' as const },
  });
  return {
    AutoRemove: false, // Docker's word on why it ended is read after its end.
    RestartPolicy: { Name: 'no' },
    Init: false,
    ...(plan.sandbox === null ? {} : { Runtime: ociRuntimeOf(plan.sandbox) }),
    Privileged: false,
    CapDrop: ['ALL'],
    // Docker's default seccomp profile stays on as long as none is named.
    SecurityOpt: ['no-new-privileges:true'],
    ReadonlyRootfs: true,
    // `none` leaves out /dev/shm, a second place to fill.
    IpcMode: 'none',
    PublishAllPorts: false,
    NetworkMode: plan.network === 'none' ? 'none' : plan.networkName,
    ...(plan.network === 'egress' && plan.nameservers.length > 0 ? { Dns: plan.nameservers } : {}),
    Mounts: [
      bind(plan.sockDir, INSIDE.sock, false),
      bind(plan.codeDir, INSIDE.code, true),
      ...(plan.program === null ? [] : [bind(plan.program.shimFile, SHIM, true)]),
    ],
    // All of it counts as the instance's memory.
    Tmpfs: Object.fromEntries(
      ['/tmp', ...(plan.program?.volumes ?? [])].map((path) => [
        path,
        `rw,exec,nosuid,nodev,mode=1777,size=${tmpSizeMib(plan.memoryClassMib)}m`,
      ]),
    ),
    Memory: memory,
    MemorySwap: memory,
    // Version 2 has no such thing, and Docker warns about it.
    ...(plan.cgroupVersion === 1 ? { MemorySwappiness: 0 } : {}),
    PidsLimit: MAX_PIDS,
    Ulimits: [
      { Name: 'nofile', Soft: files, Hard: files },
      { Name: 'core', Soft: 0, Hard: 0 },
      // Docker mounts /dev/mqueue writable, and what is in queues is limited per user: one for all instances.
      { Name: 'msgqueue', Soft: 0, Hard: 0 },
    ],
    OomScoreAdj: OOM_SCORE_ADJ,
    ...(plan.cgroupParent === '' ? {} : { CgroupParent: plan.cgroupParent }),
    LogConfig: { Type: 'json-file', Config: { 'max-size': `${LOG_FILE_MIB}m`, 'max-file': String(LOG_FILES) } },
  };
}
