/** What the gateway counts of requests. Each function's series are found once for a revision, then only counted. */
import { type Counter, type Histogram, Metrics } from '#kit/telemetry-metrics.ts';
import { GATEWAY_METRICS } from '#kit/telemetry-names.ts';
import { type CallObserver, type EndedCall, isCold } from './journal.ts';

/** Revisions whose series are kept at hand; past it all are looked up anew. */
const MAX_CACHED = 10_000;

export type GatewayMetrics = Metrics<keyof typeof GATEWAY_METRICS>;

/** The numbers of the gateway that are read when they are asked for. */
export interface GatewayState {
  readonly connected: boolean;
  /** Is the link to the dispatcher up? */
  readonly events: boolean;
  /** Events that are being delivered. */
  readonly delivering: number;
  readonly leases: number;
  readonly waiting: number;
  readonly inFlight: number;
}

/** The series of a function that every request counts in. */
export interface FunctionSeries {
  labels: Record<string, string>;
  duration: Histogram;
  queue: Histogram;
  /** By the first digit of the status; the client that went away is 0. */
  statuses: (Counter | undefined)[];
}

const CLASSES = ['gone', '1xx', '2xx', '3xx', '4xx', '5xx'];

export function createGatewayMetrics(state: () => GatewayState): GatewayMetrics {
  const metrics: GatewayMetrics = new Metrics(GATEWAY_METRICS);
  metrics.read('fn_requests_in_flight', () => [{ value: state().inFlight }]);
  metrics.read('fn_requests_waiting', () => [{ value: state().waiting }]);
  metrics.read('fn_leases', () => [{ value: state().leases }]);
  metrics.read('fn_link_up', () => [{ value: Number(state().connected) }]);
  metrics.read('fn_events_link_up', () => [{ value: Number(state().events) }]);
  metrics.read('fn_events_delivering', () => [{ value: state().delivering }]);
  return metrics;
}

export class RequestMetrics implements CallObserver {
  readonly #metrics: GatewayMetrics;
  readonly #byRevision = new Map<string, FunctionSeries>();

  constructor(metrics: GatewayMetrics) {
    this.#metrics = metrics;
  }

  ended(call: EndedCall, now: number): void {
    const { desk } = call;
    const series = desk?.series ?? this.#seriesOf(call);
    if (desk !== null) desk.series = series;
    const status = call.aborted ? 0 : Math.min(5, Math.floor(call.status / 100));
    let counter = series.statuses[status];
    if (counter === undefined) {
      counter = this.#metrics.counter('fn_requests_total', { ...series.labels, status: CLASSES[status]! });
      series.statuses[status] = counter;
    }
    counter.add();
    // Of a stream, how long it was open says nothing about how fast the function is.
    const end = call.stream === null ? now : (call.headAt ?? now);
    series.duration.record((end - call.arrivedAt) / 1_000);
    if (call.askedAt !== null) series.queue.record(((call.sentAt ?? now) - call.askedAt) / 1_000);
    if (isCold(call.start)) {
      const { kind, reason = 'unknown' } = call.start!;
      this.#metrics.counter('fn_cold_requests_total', { ...series.labels, kind, reason }).add();
    }
    if (call.problem !== null) this.#metrics.counter('fn_problems_total', { code: call.problem.code }).add();
  }

  #seriesOf({ revision, namespace, name }: EndedCall): FunctionSeries {
    const key = revision ?? `${namespace}/${name}`;
    const known = this.#byRevision.get(key);
    if (known !== undefined) return known;
    if (this.#byRevision.size >= MAX_CACHED) this.#byRevision.clear();
    const labels = { namespace, function: name };
    const series: FunctionSeries = {
      labels,
      duration: this.#metrics.histogram('fn_request_duration_seconds', labels),
      queue: this.#metrics.histogram('fn_queue_duration_seconds', labels),
      statuses: [],
    };
    this.#byRevision.set(key, series);
    return series;
  }
}
