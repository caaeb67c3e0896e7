/**
 * An imaginary cluster: pods that take their time to come, be specialised and go, without a process behind them. What
 * the engine does above it is the real thing. Unlike the fake driver of the tests it costs the same
 * for 5,000 instances as for one. It outlives engines, as a cluster outlives controllers.
 */
import type { Address, Health } from '#contract/runtime.ts';
import { ClaimLost, type CreateSpec, type Driver, type DriverInstance, type Exit, type LogChunk } from '../../controller/driver/types.ts';
import { RuntimeUnreachable, type RuntimeClient } from '../../controller/engine/runtime-client.ts';
import type { InstanceRecord, InstanceRecords } from '../../controller/store/types.ts';
import { seeded } from './random.ts';

/** How long each step takes, ms: from, to. */
export interface Latencies {
  /** Until a new pod answers health: scheduler, kubelet, runtime. */
  create: [number, number];
  /** The claim at the API server, and the code over the network. */
  specialise: [number, number];
  init: [number, number];
  health: [number, number];
  kill: [number, number];
}

export const CLUSTER_LATENCIES: Latencies = { create: [900, 2_500], specialise: [3, 8], init: [3, 15], health: [1, 2], kill: [5, 20] };

interface Pod {
  spec: CreateSpec;
  address: Address;
  startedAt: string;
  revision: string | null;
  claimed: boolean;
  /** Resolves when it is gone. */
  gone: Promise<void>;
  end: () => void;
}

export interface ClusterOptions {
  seed: number;
  latencies?: Latencies;
  /** Pods that are created per second at most, as an API server and a scheduler have it; Infinity: no limit. */
  createsPerSecond?: number;
  slots: number;
}

export class SimCluster {
  readonly pods = new Map<string, Pod>();
  readonly counts = { creates: 0, claims: 0, inits: 0, kills: 0, doubleClaims: 0 };
  readonly #latencies: Latencies;
  readonly #random: () => number;
  readonly #slots: number;
  readonly #gapMs: number;
  #nextCreateAt = 0;
  #started = 0;

  constructor({ seed, latencies = CLUSTER_LATENCIES, createsPerSecond = Infinity, slots }: ClusterOptions) {
    this.#latencies = latencies;
    this.#random = seeded(seed);
    this.#slots = slots;
    this.#gapMs = 1_000 / createsPerSecond;
  }

  #takes(step: keyof Latencies): Promise<void> {
    const [from, to] = this.#latencies[step];
    return pause(from + this.#random() * (to - from));
  }

  /** A driver over this cluster; two of them are two controllers, one after the other. */
  driver(): Driver {
    return {
      name: 'simulated',
      features: { freeze: false, limits: true, parentCgroup: true, egress: 'filtered', sandboxes: [], notes: [] },
      images: null,
      start: () => Promise.resolve(),
      close: () => Promise.resolve(),
      destroyAll: () => {
        for (const id of [...this.pods.keys()]) this.#remove(id);
        return Promise.resolve();
      },
      runtimes: () => Promise.resolve([{ name: 'node', version: '0' }]),
      list: () => Promise.resolve([...this.pods.values()].map(view)),
      create: (spec, signal) => this.#create(spec, signal),
      checkHosts: () => Promise.resolve({ refused: [], notes: [] }),
      seal: () => Promise.resolve(),
      specialise: async (id) => {
        await this.#takes('specialise');
        const pod = this.#pod(id);
        if (pod.claimed) {
          this.counts.doubleClaims += 1;
          throw new ClaimLost(`${id} has been claimed before`);
        }
        pod.claimed = true;
        this.counts.claims += 1;
        return { code: '/code' };
      },
      freeze: () => Promise.reject(new Error('pods are not frozen')),
      thaw: () => Promise.resolve(),
      usageSource: 'none',
      usage: () => Promise.resolve(null),
      kill: async (id) => {
        await this.#takes('kill');
        if (this.pods.has(id)) this.counts.kills += 1;
        this.#remove(id);
      },
      logs: (id, _after, signal) => this.#logs(id, signal),
      onExit: (_listener: (exit: Exit) => void) => {},
      onLeaving: () => {},
    };
  }

  async #create(spec: CreateSpec, signal: AbortSignal): Promise<DriverInstance> {
    this.counts.creates += 1;
    if (this.#gapMs > 0) {
      this.#nextCreateAt = Math.max(performance.now(), this.#nextCreateAt + this.#gapMs);
      await pause(this.#nextCreateAt - performance.now());
    }
    await this.#takes('create');
    signal.throwIfAborted();
    let end = () => {};
    const gone = new Promise<void>((resolve) => (end = resolve));
    this.#started += 1;
    const host = `10.${(this.#started >> 16) & 255}.${(this.#started >> 8) & 255}.${this.#started & 255}`;
    const address: Address = { kind: 'tcp', host, port: 8_080, instance: spec.id };
    const pod: Pod = { spec, address, startedAt: `pod-${this.#started}`, revision: null, claimed: false, gone, end };
    this.pods.set(spec.id, pod);
    return view(pod);
  }

  /** Nothing is written; the reader waits as it would for a pod that is silent. */
  // eslint-disable-next-line require-yield
  async *#logs(id: string, signal: AbortSignal): AsyncIterable<LogChunk> {
    const pod = this.pods.get(id);
    if (!pod || signal.aborted) return;
    await Promise.race([pod.gone, new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))]);
  }

  #remove(id: string): void {
    const pod = this.pods.get(id);
    this.pods.delete(id);
    pod?.end();
  }

  #pod(id: string): Pod {
    const pod = this.pods.get(id);
    if (!pod) throw new RuntimeUnreachable(`${id} is not there`);
    return pod;
  }

  /** What the pods answer. */
  runtime(): RuntimeClient {
    const at = (address: Address) => this.#pod(address.kind === 'tcp' ? address.instance : address.path);
    return {
      health: async (address): Promise<Health> => {
        await this.#takes('health');
        const { spec, revision } = at(address);
        return { status: revision === null ? 'generic' : 'ready', instance: spec.id, revision, inFlight: 0, waitUntil: 0 };
      },
      init: async (address, coming, signal) => {
        const request = await coming;
        await this.#takes('init');
        signal.throwIfAborted();
        const pod = at(address);
        if (pod.revision !== null || request.nonce !== pod.spec.nonce) throw new RuntimeUnreachable('init: status 403');
        pod.revision = request.revision;
        this.counts.inits += 1;
        return { ok: true, response: { form: 'fetch', slots: request.slots ?? this.#slots, loadMs: 1 } };
      },
      codeCache: () => Promise.resolve(null),
      drain: async (address) => {
        at(address);
        await this.#takes('health');
      },
    };
  }
}

function view({ spec, address, startedAt }: Pod): DriverInstance {
  const { id, runtime, memoryClassMib, network, image, sandbox } = spec;
  return { id, runtime, memoryClassMib, network, image, sandbox, address, startedAt, running: true, handle: `pod ${id}` };
}

/** Keeps the process alive, unlike the clock's timers: a run ends when it is over. */
const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, Math.max(0, ms)));

/** Records of instances as a store elsewhere keeps them: nothing of it costs this process anything but the call. */
export class MemoryRecords implements InstanceRecords {
  readonly #records = new Map<string, InstanceRecord>();
  readonly #positions = new Map<string, string>();
  writes = 0;

  get size(): number {
    return this.#records.size;
  }

  load(): Promise<Map<string, InstanceRecord>> {
    return Promise.resolve(new Map(this.#records));
  }

  write(record: InstanceRecord): Promise<void> {
    this.writes += 1;
    this.#records.set(record.id, record);
    return Promise.resolve();
  }

  writeLogPosition(id: string, position: string): Promise<void> {
    this.writes += 1;
    this.#positions.set(id, position);
    return Promise.resolve();
  }

  logPosition(id: string): Promise<string | null> {
    return Promise.resolve(this.#positions.get(id) ?? null);
  }

  prune(keep: ReadonlySet<string>): Promise<void> {
    for (const id of this.#records.keys()) if (!keep.has(id)) this.#records.delete(id);
    for (const id of this.#positions.keys()) if (!keep.has(id)) this.#positions.delete(id);
    return Promise.resolve();
  }

  remove(id: string): Promise<void> {
    this.#records.delete(id);
    this.#positions.delete(id);
    return Promise.resolve();
  }
}
