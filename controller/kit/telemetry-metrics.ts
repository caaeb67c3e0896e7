/**
 * Counting, with nothing loaded for it: what is counted with every request must cost nanoseconds. Values
 * are handed on when somebody asks for them. Labels have as many values as there are functions, so each
 * metric has a limit of series; what is beyond it is counted under `other`.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { MetricSpec } from './telemetry-names.ts';

/** Series of one metric. A histogram's has some 20 lines when it is scraped. */
export const MAX_SERIES = 1_000;
/** What the labels of all series beyond the limit are. */
export const OTHER = 'other';

export interface HistogramValue {
  bounds: readonly number[];
  /** One more than there are bounds. */
  counts: readonly number[];
  sum: number;
  count: number;
}

export interface MetricSnapshot {
  name: string;
  spec: MetricSpec;
  points: { labels: Record<string, string>; value: number | HistogramValue }[];
}

/** One series of a counter. */
export class Counter {
  value = 0;

  add(amount = 1): void {
    this.value += amount;
  }
}

/** One series of a histogram. */
export class Histogram {
  readonly bounds: readonly number[];
  readonly counts: number[];
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  record(value: number): void {
    let bucket = 0;
    while (bucket < this.bounds.length && value > this.bounds[bucket]!) bucket++;
    this.counts[bucket]!++;
    this.sum += value;
    this.count++;
  }
}

/** Reads a gauge, or a counter that somebody else keeps: values by labels. */
type Reader = () => readonly { labels?: Record<string, string>; value: number }[];

interface Family<T> {
  spec: MetricSpec;
  series: Map<string, { labels: Record<string, string>; series: T }>;
}

export class Metrics<Names extends string> {
  readonly #specs: Readonly<Record<Names, MetricSpec>>;
  readonly #families = new Map<string, Family<Counter | Histogram>>();
  readonly #readers = new Map<string, Reader>();
  /** Series that were put under `other`. */
  overflown = 0;

  constructor(specs: Readonly<Record<Names, MetricSpec>>) {
    this.#specs = specs;
  }

  /** A series, made when it is asked for first. Keep it: looking it up costs more than counting. */
  counter(name: Names, labels: Record<string, string> = {}): Counter {
    const series = this.#series(name, labels, () => new Counter());
    if (!(series instanceof Counter)) throw new TypeError(`${name} is no counter`);
    return series;
  }

  histogram(name: Names, labels: Record<string, string> = {}): Histogram {
    const series = this.#series(name, labels, ({ bounds = [] }) => new Histogram(bounds));
    if (!(series instanceof Histogram)) throw new TypeError(`${name} is no histogram`);
    return series;
  }

  /** Read when it is asked for. */
  read(name: Names, reader: Reader): void {
    this.#readers.set(name, reader);
  }

  #series(name: Names, labels: Record<string, string>, make: (spec: MetricSpec) => Counter | Histogram): Counter | Histogram {
    let family = this.#families.get(name);
    if (family === undefined) {
      family = { spec: this.#specs[name], series: new Map() };
      this.#families.set(name, family);
    }
    const { spec, series } = family;
    const key = spec.labels.map((label) => labels[label] ?? '').join('\n');
    const found = series.get(key);
    if (found !== undefined) return found.series;
    if (series.size >= MAX_SERIES && !isOther(spec, labels)) {
      this.overflown++;
      return this.#series(name, Object.fromEntries(spec.labels.map((label) => [label, OTHER])), make);
    }
    const made = make(spec);
    series.set(key, { labels: Object.fromEntries(spec.labels.map((label) => [label, labels[label] ?? ''])), series: made });
    return made;
  }

  /** All values, by name. */
  collect(): MetricSnapshot[] {
    const kept = [...this.#families].map(([name, { spec, series }]) => ({
      name,
      spec,
      points: [...series.values()].map(({ labels, series: one }) => ({ labels, value: valueOf(one) })),
    }));
    const read = [...this.#readers].map(([name, reader]) => ({
      name,
      spec: this.#spec(name),
      points: reader().map(({ labels = {}, value }) => ({ labels, value })),
    }));
    return [...kept, ...read].filter(({ points }) => points.length > 0).toSorted((a, b) => a.name.localeCompare(b.name));
  }

  #spec(name: string): MetricSpec {
    return Object.entries<MetricSpec>(this.#specs).find(([known]) => known === name)![1];
  }
}

const isOther = (spec: MetricSpec, labels: Record<string, string>): boolean => spec.labels.every((label) => labels[label] === OTHER);

const valueOf = (series: Counter | Histogram): number | HistogramValue =>
  series instanceof Counter ? series.value : { bounds: series.bounds, counts: [...series.counts], sum: series.sum, count: series.count };

type ProcessMetric =
  | 'process_cpu_seconds_total'
  | 'process_resident_memory_bytes'
  | 'process_start_time_seconds'
  | 'fn_event_loop_lag_seconds'
  | 'fn_telemetry_dropped_total';

/** How often the event loop's lag is looked at, ms. */
const LAG_RESOLUTION_MS = 20;

/** What every process tells of itself. The event loop is watched from now on; `dropped` is asked when it is scraped. */
export function readProcess<Names extends string>(
  metrics: Metrics<Names | ProcessMetric>,
  dropped: () => { what: string; value: number }[],
): { stop(): void } {
  const lag = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
  lag.enable();
  metrics.read('process_cpu_seconds_total', () => {
    const { user, system } = process.cpuUsage();
    return [{ value: (user + system) / 1e6 }];
  });
  metrics.read('process_resident_memory_bytes', () => [{ value: process.memoryUsage.rss() }]);
  metrics.read('process_start_time_seconds', () => [{ value: Math.round(performance.timeOrigin) / 1_000 }]);
  metrics.read('fn_event_loop_lag_seconds', () => {
    // What the timer itself takes is no lag.
    const seconds = (ns: number) => (Number.isFinite(ns) ? Math.max(0, ns / 1e9 - LAG_RESOLUTION_MS / 1_000) : 0);
    const points = [
      { labels: { quantile: '0.5' }, value: seconds(lag.percentile(50)) },
      { labels: { quantile: '0.99' }, value: seconds(lag.percentile(99)) },
      { labels: { quantile: '1' }, value: lag.count === 0 ? 0 : seconds(lag.max) },
    ];
    lag.reset();
    return points;
  });
  metrics.read('fn_telemetry_dropped_total', () =>
    [...dropped(), { what: 'series', value: metrics.overflown }].map(({ what, value }) => ({ labels: { what }, value })),
  );
  return { stop: () => lag.disable() };
}
