/**
 * The driver port: what the controller needs of whatever runs instances. Docker, plain processes,
 * Kubernetes and a fake implement it and pass test/conformance/driver.
 *
 * A driver decides nothing. It knows only its own: what does not carry this home's mark is never
 * listed and never touched.
 */
import type { Egress, NetworkClass } from '#contract/function.ts';
import type { RevisionKey } from '#contract/names.ts';
import type { Address } from '#contract/runtime.ts';
import type { UsageSource } from '#contract/stats.ts';

export interface DriverFeatures {
  /** Instances can be frozen in well under a millisecond. Where false, freeze() is never called. */
  freeze: boolean;
  /** Memory and CPU limits are enforced by the kernel. */
  limits: boolean;
  /** All instances are under one cgroup that holds them to the budget. */
  parentCgroup: boolean;
  /** What egress other than `none` means here: filtered by rules; not filtered; not to be had. */
  egress: 'filtered' | 'unfiltered' | 'none';
  /** Sandboxes that functions may ask for by name. */
  sandboxes: readonly string[];
  /** What is missing and what that costs, a sentence each. */
  notes: string[];
}

export interface CreateSpec {
  id: string;
  runtime: string;
  memoryClassMib: number;
  network: NetworkClass;
  /** OCI image that the instance runs; null for all runtimes but `image`. */
  image: string | null;
  /** One of features.sandboxes; null: none. */
  sandbox: string | null;
  /** Secret that init must carry. */
  nonce: string;
}

/** An instance as the driver sees it. */
export interface DriverInstance {
  id: string;
  runtime: string;
  memoryClassMib: number;
  network: NetworkClass;
  image: string | null;
  sandbox: string | null;
  address: Address;
  /** The start as the engine tells it, unchanged while the instance lives: part of its identity. */
  startedAt: string;
  running: boolean;
  /** Name in the engine, for people. */
  handle: string;
  pid?: number;
}

export interface SpecialiseSpec {
  /** Folder of the unpacked bundle on this host. */
  bundleDir: string;
  memoryMib: number;
  cpu: number;
  egress: Egress;
  /** Whose it becomes, for the labels that people look for. */
  revision: RevisionKey;
  /** Secret that the instance was created with. */
  nonce: string;
}

/** What there is to know of the host names of an egress list before a function is deployed with it. */
export interface HostsCheck {
  /** Hosts that it cannot have, and why; for people. */
  refused: { host: string; why: string }[];
  /** What the person should know of the others, a sentence each. */
  notes: string[];
}

/** Why an instance ended, as far as the driver can tell. */
export interface Exit {
  id: string;
  /** `oom`: its own memory limit. An OOM of the parent cgroup is `lost`. */
  cause: 'exit' | 'oom' | 'lost';
  /** For people: `exit code 1`, `signal SIGKILL`. */
  detail: string;
}

/** Something below the driver takes an instance away soon: a node that is drained, a pod that is evicted. */
export interface Leaving {
  id: string;
  /** For people. */
  why: string;
  /** From now until it is killed, ms. */
  graceMs: number;
}

/** What an instance has used since its start. */
export interface Usage {
  /** Which counter `cpuUs` is of: while it is the same text, `cpuUs` goes on; another one began at nought. */
  counter: string;
  /** User and system, of all its processes, those that have ended too, µs. */
  cpuUs: number;
  /** In use now, without file cache that can be dropped at once, bytes. */
  memoryBytes: number;
  /** The most that was ever in use, file cache included; null where nobody knows. */
  peakBytes: number | null;
}

/** A raw piece of what an instance wrote to stdout or stderr. */
export interface LogChunk {
  stream: 'stdout' | 'stderr';
  data: Buffer;
  /** Where to go on after it: hand it to logs() as `after`. */
  position: string;
  /** When it was written, milliseconds since 1970, where the driver knows. */
  at?: number;
  /** Before it, output was lost to the driver's own limit: so many bytes; 0 where it is not known how many. */
  lostBytes?: number;
}

/** The instance cannot be made to fit (the kernel says EBUSY): destroy it. */
export class LimitBusy extends Error {}

/** Another controller has this instance: leave it alone, it is none of ours any more. */
export class ClaimLost extends Error {}

/** Nothing can be created now; the message says what to do. */
export class DriverUnavailable extends Error {}

/** An OCI image as the engine has it. */
export interface EngineImage {
  /** `sha256:…` */
  id: string;
  /** The tag it was asked for by, where there was one. */
  reference: string | null;
  bytes: number;
  /** The one TCP port that it says it listens on; null where it says none or several. It gets $PORT all the same. */
  port: number | null;
}

/** Images that functions of the runtime `image` are made of. */
export interface ImageStore {
  /** null where the engine has no such image. */
  find(reference: string): Promise<EngineImage | null>;
  /** Reads an archive as `docker save` writes it, or an OCI layout, as a tar. Throws FnError invalid or body-too-large. */
  load(archive: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<EngineImage>;
  /** Throws FnError image-not-found, with what the registry said. */
  pull(reference: string, signal: AbortSignal): Promise<EngineImage>;
  /** Holds one that the engine has, by its id, as load() and pull() do with theirs: nobody takes it for what nobody needs. Idempotent. */
  hold(id: string): Promise<void>;
  /**
   * Lets go of one that is held: it is gone where nothing else in the engine has a name for it. One that is not held is
   * not touched. False where a container is made of it still, or where it was taken up a moment ago. Idempotent.
   */
  release(id: string): Promise<boolean>;
}

export interface Driver {
  readonly name: string;
  /** null where instances cannot be made of images. */
  readonly images: ImageStore | null;
  /** Known after start(). */
  readonly features: DriverFeatures;
  /** Prepares the host (network, cgroup) and begins to watch. Throws DriverUnavailable. */
  start(): Promise<void>;
  /** Stops watching. Instances live on. Idempotent. */
  close(): Promise<void>;
  /** Ends every instance of this home and removes all that start() made. Idempotent. */
  destroyAll(): Promise<void>;
  /** Runtimes that instances can be created of, with the version of each. `note`: what is amiss with it, a sentence with what to do. */
  runtimes(): Promise<{ name: string; version: string; image?: string; note?: string }[]>;
  /** All instances of this home, dead ones too. */
  list(): Promise<DriverInstance[]>;
  /**
   * Creates an instance and starts it; resolves when its process runs, which is before it listens.
   * Leaves nothing behind when it throws or is aborted.
   */
  create(spec: CreateSpec, signal: AbortSignal): Promise<DriverInstance>;
  /** Whether functions can have these hosts, beside these networks, in their list; notes of networks that stay closed. With hosts it takes some seconds where no name server answers. */
  checkHosts(hosts: readonly string[], networks: readonly string[]): Promise<HostsCheck>;
  /** After the first health answer: takes the socket's folder from the instance (see DESIGN: the socket path belongs to the platform). */
  seal(id: string): Promise<void>;
  /** Exact limits, egress rules, and the code in place. Returns the folder as the instance sees it. Throws LimitBusy, ClaimLost. */
  specialise(id: string, spec: SpecialiseSpec): Promise<{ code: string }>;
  freeze(id: string): Promise<void>;
  thaw(id: string): Promise<void>;
  /** Who says what usage() says: the kernel of control groups, of single processes, or the cluster's metrics; `none`: nobody. Known after start(). */
  readonly usageSource: UsageSource;
  /** Reads what an instance has used, from what is at hand: some tenths of a millisecond. null where it is gone, or nobody knows. */
  usage(id: string): Promise<Usage | null>;
  /** SIGKILL, also when frozen, then removes every trace. Idempotent; resolves when it is gone. */
  kill(id: string): Promise<void>;
  /**
   * What the instance writes, from `after` (a position; null: from its start), until it ends or is
   * aborted. What the driver's own limit dropped is missing.
   */
  logs(id: string, after: string | null, signal: AbortSignal): AsyncIterable<LogChunk>;
  /** Called once for each instance that ends by itself, also for those that died while the driver was away from its engine. Never for kill(). */
  onExit(listener: (exit: Exit) => void): void;
  /** Called once for each instance that is about to be taken away by others; it serves on until it is told to drain. onExit follows, unless it is killed. */
  onLeaving(listener: (leaving: Leaving) => void): void;
}
