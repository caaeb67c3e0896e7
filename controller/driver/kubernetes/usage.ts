/**
 * What pods have used, by the cluster's metrics API (metrics.k8s.io, the metrics-server): the kernel's word, by way of the kubelet.
 * Control groups of other nodes cannot be read from here, and a pod's own word would be its function's. It tells rates over windows of
 * 10 to 60 s, not counters: CPU is rate × window, added up here; what lies between two windows takes the later one's rate. What a pod used
 * before its first window and after its last is not known.
 */
import { newSecret } from '#kit/ids.ts';
import type { Clock } from '#kit/clock.ts';
import type { UsageSource } from '#contract/stats.ts';
import type { Log } from '#kit/log.ts';
import { POD_METRICS, type PodMetrics } from '../../kube/resources.ts';
import type { KubeApi } from '../../kube/types.ts';
import type { Usage } from '../types.ts';
import { LABELS } from './labels.ts';

/** How often the metrics are read, ms: a metrics-server has new ones every 15 s. */
export const READ_EVERY_MS = 15_000;
/** A gap between two windows that is longer than this was no gap of theirs: only the window counts, s. */
const LONGEST_GAP_S = 120;

const SUFFIXES: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 1_024,
  Mi: 1_024 ** 2,
  Gi: 1_024 ** 3,
};

/** A quantity as Kubernetes writes it: `1234567n` cores, `40512Ki`; NaN where it is none. */
export function quantity(text: string): number {
  const [, digits = '', suffix = ''] = /^(\d+(?:\.\d+)?)([a-zA-Z]*)$/.exec(text) ?? [];
  return digits === '' ? NaN : Number(digits) * (SUFFIXES[suffix] ?? NaN);
}

/** A duration as Go writes it: `30s`, `1m2.5s`; NaN where it is none. */
export function seconds(text: string): number {
  const [, hours, minutes, rest] = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text) ?? [];
  const known = hours ?? minutes ?? rest;
  return known === undefined ? NaN : Number(hours ?? 0) * 3_600 + Number(minutes ?? 0) * 60 + Number(rest ?? 0);
}

interface Sum {
  cpuUs: number;
  memoryBytes: number;
  /** End of the last window, ms since 1970. */
  until: number;
}

export interface PodUsageOptions {
  api: KubeApi;
  namespace: string;
  installation: string;
  clock: Clock;
  log: Log;
}

export class PodUsage {
  readonly #options: PodUsageOptions;
  /** Sums begin anew with each process: they are another counter then. */
  readonly #counter = newSecret().slice(0, 12);
  readonly #sums = new Map<string, Sum>();
  #source: UsageSource = 'none';
  #cancel: () => void = () => {};
  #reading: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: PodUsageOptions) {
    this.#options = options;
  }

  get source(): UsageSource {
    return this.#source;
  }

  /** At once, and then every 15 s. Nobody waits for it. */
  start(): void {
    this.#closed = false;
    this.#reading = this.#read().finally(() => {
      if (!this.#closed) this.#cancel = this.#options.clock.after(READ_EVERY_MS, () => this.start());
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    await this.#reading;
  }

  /** As of the last windows that were read. */
  of(id: string): Usage | null {
    const sum = this.#sums.get(id);
    return sum === undefined ? null : { counter: this.#counter, cpuUs: sum.cpuUs, memoryBytes: sum.memoryBytes, peakBytes: null };
  }

  async #read(): Promise<void> {
    const { api, namespace, installation, log } = this.#options;
    try {
      const { items } = await api.list(POD_METRICS, namespace, { labels: `${LABELS.installation}=${installation},${LABELS.instance}` });
      const seen = new Set<string>();
      for (const pod of items) {
        const id = pod.metadata.labels[LABELS.instance] ?? '';
        seen.add(id);
        this.#add(id, pod);
      }
      for (const id of this.#sums.keys()) if (!seen.has(id)) this.#sums.delete(id);
      this.#source = 'metrics-api';
    } catch (error) {
      // A cluster without metrics-server is nothing new every 15 s.
      if (this.#source !== 'none') log.warn({ error: String(error) }, 'what pods use cannot be read; it is tried again');
      this.#source = 'none';
    }
  }

  #add(id: string, { timestamp, window, containers }: PodMetrics): void {
    const until = Date.parse(timestamp);
    const windowS = seconds(window);
    const cores = containers.reduce((total, { usage }) => total + quantity(usage.cpu), 0);
    const memoryBytes = containers.reduce((total, { usage }) => total + quantity(usage.memory), 0);
    if (![until, windowS, cores, memoryBytes].every(Number.isFinite)) return;
    const before = this.#sums.get(id);
    if (before !== undefined && until <= before.until) return;
    const gapS = before === undefined ? Infinity : (until - before.until) / 1_000;
    const forS = gapS <= LONGEST_GAP_S ? gapS : windowS;
    this.#sums.set(id, { cpuUs: (before?.cpuUs ?? 0) + Math.round(cores * forS * 1e6), memoryBytes, until });
  }
}
