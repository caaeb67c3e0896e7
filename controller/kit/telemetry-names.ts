/**
 * Names of all that the platform measures: metrics, spans, attributes of spans and of log records.
 * docs/observability.md is held to this file by a test. Metrics are named as Prometheus has them, with
 * their unit; spans and attributes follow OpenTelemetry's conventions for HTTP and for functions (faas.*).
 */

export interface MetricSpec {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly unit: string;
  readonly help: string;
  readonly labels: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  readonly bounds?: readonly number[];
}

/** From half a millisecond, which a warm request takes, to minutes. */
const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const FUNCTION = ['namespace', 'function'];

/** Of each process. */
const PROCESS_METRICS = {
  process_cpu_seconds_total: { kind: 'counter', unit: 's', help: 'CPU time of the process, user and system.', labels: [] },
  process_resident_memory_bytes: { kind: 'gauge', unit: 'By', help: 'Resident memory of the process.', labels: [] },
  process_start_time_seconds: { kind: 'gauge', unit: 's', help: 'When the process started, seconds since 1970.', labels: [] },
  fn_event_loop_lag_seconds: {
    kind: 'gauge',
    unit: 's',
    help: 'How late the event loop was since the last scrape: quantile 0.5, 0.99 and 1.',
    labels: ['quantile'],
  },
  fn_telemetry_dropped_total: {
    kind: 'counter',
    unit: '{item}',
    help: 'What telemetry itself left out: log records over the queue, series over the limit.',
    labels: ['what'],
  },
} as const satisfies Record<string, MetricSpec>;

export const GATEWAY_METRICS = {
  ...PROCESS_METRICS,
  fn_requests_total: {
    kind: 'counter',
    unit: '{request}',
    help: 'Requests to functions that are over, by class of status; `gone`: the client left before.',
    labels: [...FUNCTION, 'status'],
  },
  fn_request_duration_seconds: {
    kind: 'histogram',
    unit: 's',
    help: 'From the head of a request to the end of its answer; for streams to the beginning of it.',
    labels: FUNCTION,
    bounds: SECONDS,
  },
  fn_queue_duration_seconds: {
    kind: 'histogram',
    unit: 's',
    help: 'How long requests waited for a slot, starts included.',
    labels: FUNCTION,
    bounds: SECONDS,
  },
  fn_cold_requests_total: {
    kind: 'counter',
    unit: '{request}',
    help: 'Requests that waited for a start, by its kind and why it was needed.',
    labels: [...FUNCTION, 'kind', 'reason'],
  },
  fn_problems_total: {
    kind: 'counter',
    unit: '{request}',
    help: 'Requests answered by the gateway with a problem, by its code.',
    labels: ['code'],
  },
  fn_requests_in_flight: { kind: 'gauge', unit: '{request}', help: 'Requests that instances work on.', labels: [] },
  fn_requests_waiting: { kind: 'gauge', unit: '{request}', help: 'Requests that wait for a slot.', labels: [] },
  fn_leases: { kind: 'gauge', unit: '{lease}', help: 'Leases that this gateway holds.', labels: [] },
  fn_link_up: { kind: 'gauge', unit: '1', help: '1 while the link to the controller is up.', labels: [] },
  fn_events_link_up: { kind: 'gauge', unit: '1', help: '1 while the link to the dispatcher of events is up.', labels: [] },
  fn_events_delivering: { kind: 'gauge', unit: '{event}', help: 'Events that are being delivered.', labels: [] },
} as const satisfies Record<string, MetricSpec>;

export const CONTROLLER_METRICS = {
  ...PROCESS_METRICS,
  fn_instances: {
    kind: 'gauge',
    unit: '{instance}',
    help: 'Instances by state and runtime; `generic` is the warm pool.',
    labels: ['state', 'runtime'],
  },
  fn_functions: { kind: 'gauge', unit: '{function}', help: 'Functions that are deployed.', labels: [] },
  fn_gateways: { kind: 'gauge', unit: '{gateway}', help: 'Gateways whose link is up.', labels: [] },
  fn_memory_budget_bytes: { kind: 'gauge', unit: 'By', help: 'Memory that all instances may take together.', labels: [] },
  fn_memory_used_bytes: { kind: 'gauge', unit: 'By', help: 'Sum of the memory limits of all instances.', labels: [] },
  fn_cpu_budget_cores: { kind: 'gauge', unit: '{core}', help: 'CPU that all instances may be promised together.', labels: [] },
  fn_cpu_used_cores: { kind: 'gauge', unit: '{core}', help: 'CPU that instances are promised.', labels: [] },
  fn_starts_total: {
    kind: 'counter',
    unit: '{start}',
    help: 'Instances that were given a function’s code and loaded it.',
    labels: [...FUNCTION, 'kind'],
  },
  fn_start_failures_total: { kind: 'counter', unit: '{start}', help: 'Starts that failed, by the code of the problem.', labels: ['code'] },
  fn_init_duration_seconds: {
    kind: 'histogram',
    unit: 's',
    help: 'Giving an instance its limits and code, and loading it.',
    labels: FUNCTION,
    bounds: SECONDS,
  },
  fn_events_total: {
    kind: 'counter',
    unit: '{event}',
    help: 'Events of the event store: `succeeded`, `failed` (attempts), `dead_lettered`. Begins anew with the dispatcher.',
    labels: [...FUNCTION, 'outcome'],
  },
  fn_events: {
    kind: 'gauge',
    unit: '{event}',
    help: 'Events of the event store now: `waiting`, `running`, `dead`.',
    labels: [...FUNCTION, 'state'],
  },
  fn_event_oldest_seconds: {
    kind: 'gauge',
    unit: 's',
    help: 'Since when the oldest event that is due waits.',
    labels: FUNCTION,
  },
  fn_function_cpu_seconds_total: {
    kind: 'counter',
    unit: 's',
    help: 'CPU time of the instances of a function, user and system, by the counters of the kernel.',
    labels: FUNCTION,
  },
  fn_function_memory_gib_seconds_total: {
    kind: 'counter',
    unit: 'GiBy.s',
    help: 'Memory × time of the instances of a function: `reserved` (their limits), `used` (from samples, without file cache).',
    labels: [...FUNCTION, 'what'],
  },
  fn_function_invocations_total: {
    kind: 'counter',
    unit: '{request}',
    help: 'Requests and events of a function: `succeeded`, `failed`, `rejected` (no instance got it). It goes on over restarts.',
    labels: [...FUNCTION, 'outcome'],
  },
  fn_function_cold_starts_total: {
    kind: 'counter',
    unit: '{request}',
    help: 'Requests of a function that waited for a start: of an instance of the pool (`pooled`), or of one that was created (`full`).',
    labels: [...FUNCTION, 'kind'],
  },
  fn_function_busy_seconds_total: {
    kind: 'counter',
    unit: 's',
    help: 'Sum of what requests took in instances of a function, to the end of the answer, of streams to its head.',
    labels: FUNCTION,
  },
  fn_dispatcher_up: { kind: 'gauge', unit: '1', help: '1 while a dispatcher runs; none does while there is nothing for it.', labels: [] },
  fn_log_lines_dropped_total: { kind: 'counter', unit: '{line}', help: 'Lines of functions that were not kept.', labels: [] },
  fn_calls_total: {
    kind: 'counter',
    unit: '{call}',
    help: 'Calls that gateways told of: `kept`, `skipped` (no record was made), `lost` (not written).',
    labels: ['what'],
  },
} as const satisfies Record<string, MetricSpec>;

export const SPANS = {
  /** Of the gateway, kind server: a request, from its head to the end of the answer. Its name is `METHOD NAME`. */
  request: 'METHOD NAME',
  /** Of the gateway: waiting for a slot. */
  queue: 'queue',
  /** Of the gateway, kind client: one try on an instance. Its id is the parent that the function gets. */
  invoke: 'invoke',
  /** Of the controller: an instance is created for it. */
  start: 'start instance',
  /** Of the controller: an instance is given the code and loads it. */
  init: 'init instance',
} as const;

export const ATTRIBUTES = {
  method: 'http.request.method',
  path: 'url.path',
  scheme: 'url.scheme',
  status: 'http.response.status_code',
  errorType: 'error.type',
  trigger: 'faas.trigger',
  invocation: 'faas.invocation_id',
  function: 'faas.name',
  revision: 'faas.version',
  instance: 'faas.instance',
  coldStart: 'faas.coldstart',
  namespace: 'fn.namespace',
  startKind: 'fn.start.kind',
  startReason: 'fn.start.reason',
  logStream: 'fn.log.stream',
} as const;
