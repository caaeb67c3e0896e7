/** Telemetry of the controller: what it counts, the spans of starts, and the export of functions' log lines. */
import { hostname } from 'node:os';
import type { PlatformStatus } from '#contract/api.ts';
import type { LogEntry } from '#contract/log.ts';
import type { UsageStats } from '#contract/stats.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { type Clock, sleep } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { type SpanRecord, startTelemetry, type Telemetry, type TelemetryPlan } from '#kit/telemetry.ts';
import { LogExport, type LogRecord } from '#kit/telemetry-logs.ts';
import { Metrics, readProcess } from '#kit/telemetry-metrics.ts';
import { ATTRIBUTES, CONTROLLER_METRICS, SPANS } from '#kit/telemetry-names.ts';

/** An instance that was created so shortly before it was claimed was created for whoever waited, ms. */
const CREATED_FOR_IT_MS = 100;

/** How long the end of the controller waits for lines to be sent, ms. */
const FLUSH_TIMEOUT_MS = 1_000;

const MIB = 1024 * 1024;

/** A start that ended well. Times in ms; those of the instance are monotonic. */
export interface StartFacts {
  instance: { id: string; createdAt: number; genericAt: number | null; runtime: string };
  revision: string;
  /** Since 1970. */
  claimedAt: number;
  initMs: number;
  traceparent: string | null;
}

/** What the dispatcher tells of a function's events. */
export interface EventCounts {
  namespace: string;
  name: string;
  waiting: number;
  running: number;
  dead: number;
  /** Milliseconds since 1970; null: none is due. */
  oldestAt: number | null;
  succeeded: number;
  failed: number;
  deadLettered: number;
}

/** The numbers of the controller that are read when they are asked for. */
export interface ControllerState {
  status(): Promise<PlatformStatus>;
  logLinesDropped(): number;
  events(): { dispatcher: boolean; functions: readonly EventCounts[] };
  calls(): { kept: number; skipped: number; lost: number };
  /** What functions have used, by function. */
  usage(): readonly { namespace: string; function: string; stats: UsageStats }[];
  traceOf(request: string): string | undefined;
}

export interface ControllerTelemetryOptions {
  plan: TelemetryPlan;
  version: string;
  state: ControllerState;
  clock: Clock;
  log: Log;
}

export interface ControllerTelemetry {
  readonly onStart: (start: StartFacts) => void;
  readonly onStartFailure: (code: string) => void;
  readonly onLogEntries: (entries: readonly LogEntry[]) => void;
  close(): Promise<void>;
}

type ControllerMetrics = Metrics<keyof typeof CONTROLLER_METRICS>;

/** Starts what is planned. */
export async function startControllerTelemetry(options: ControllerTelemetryOptions): Promise<ControllerTelemetry> {
  const { plan, version, state, clock, log } = options;
  const counted = plan.listen !== null || plan.metrics;
  const metrics: ControllerMetrics = new Metrics(CONTROLLER_METRICS);
  metrics.read('fn_log_lines_dropped_total', () => [{ value: state.logLinesDropped() }]);
  metrics.read('fn_calls_total', () => Object.entries(state.calls()).map(([what, value]) => ({ labels: { what }, value })));
  readEvents(metrics, state, clock);
  readUsage(metrics, state);
  const telemetry = await startTelemetry({
    plan,
    service: 'fn-controller',
    version,
    instance: `${hostname()}-${process.pid}`,
    collect: async () => {
      readStatus(metrics, await state.status());
      return metrics.collect();
    },
    log,
  });
  const logs = new LogExport<LogEntry>({
    clock,
    convert: (entry) => logRecord(entry, state.traceOf),
    send: (records) => telemetry.sendLogs(records),
  });
  const watch = counted ? readProcess(metrics, () => [{ what: 'logs', value: logs.dropped }]) : null;
  return {
    onStart: (start) => {
      const { namespace, name } = parseRevisionKey(start.revision);
      const labels = { namespace, function: name };
      metrics.counter('fn_starts_total', { ...labels, kind: createdFor(start, clock) === null ? 'pooled' : 'full' }).add();
      metrics.histogram('fn_init_duration_seconds', labels).record(start.initMs / 1_000);
      if (plan.traces) startSpans(telemetry, start, clock);
    },
    onStartFailure: (code) => metrics.counter('fn_start_failures_total', { code }).add(),
    onLogEntries: (entries) => {
      if (plan.logs) logs.add(entries);
    },
    async close() {
      watch?.stop();
      await Promise.race([logs.flush(), sleep(FLUSH_TIMEOUT_MS)]);
      await telemetry.close();
    },
  };
}

/** How long its creation took that somebody waited for, ms; null where it was ready before. */
function createdFor({ instance, claimedAt }: StartFacts, clock: Clock): number | null {
  const { genericAt, createdAt } = instance;
  const claimed = claimedAt - clock.wall() + clock.now();
  return genericAt !== null && claimed - genericAt < CREATED_FOR_IT_MS ? genericAt - createdAt : null;
}

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** In the trace of the request that waited longest for it. A start that nobody waited for is in none. */
function startSpans(telemetry: Pick<Telemetry, 'span'>, start: StartFacts, clock: Clock): void {
  const parent = TRACEPARENT.exec(start.traceparent ?? '');
  if (parent === null || (Number.parseInt(parent[3]!, 16) & 1) === 0) return;
  const { namespace, name, number } = parseRevisionKey(start.revision);
  const common: Omit<SpanRecord, 'name' | 'start' | 'end'> = {
    kind: 'internal',
    traceId: parent[1]!,
    spanId: null,
    parent: parent[2]!,
    error: null,
    attributes: {
      [ATTRIBUTES.function]: name,
      [ATTRIBUTES.namespace]: namespace,
      [ATTRIBUTES.revision]: String(number),
      [ATTRIBUTES.instance]: start.instance.id,
    },
  };
  const createdMs = createdFor(start, clock);
  if (createdMs !== null) telemetry.span({ ...common, name: SPANS.start, start: start.claimedAt - createdMs, end: start.claimedAt });
  telemetry.span({ ...common, name: SPANS.init, start: start.claimedAt, end: start.claimedAt + start.initMs });
}

function readStatus(metrics: ControllerMetrics, { instances, functions, gateway, budget }: PlatformStatus): void {
  const byState = Map.groupBy(instances, ({ state, runtime }) => `${state} ${runtime}`);
  metrics.read('fn_instances', () =>
    [...byState].map(([key, those]) => {
      const [state = '', runtime = ''] = key.split(' ');
      return { labels: { state, runtime }, value: those.length };
    }),
  );
  const numbers = {
    fn_functions: functions.length,
    fn_gateways: gateway.connected,
    fn_memory_budget_bytes: budget.memoryMib * MIB,
    fn_memory_used_bytes: budget.memoryUsedMib * MIB,
    fn_cpu_budget_cores: budget.cpu,
    fn_cpu_used_cores: budget.cpuUsed,
  } as const;
  for (const name of [
    'fn_functions',
    'fn_gateways',
    'fn_memory_budget_bytes',
    'fn_memory_used_bytes',
    'fn_cpu_budget_cores',
    'fn_cpu_used_cores',
  ] as const)
    metrics.read(name, () => [{ value: numbers[name] }]);
}

function readEvents(metrics: ControllerMetrics, state: ControllerState, clock: Clock): void {
  const each = (values: (of: EventCounts) => { labels?: Record<string, string>; value: number }[]) => () =>
    state.events().functions.flatMap((of) => {
      const labels = { namespace: of.namespace, function: of.name };
      return values(of).map((point) => ({ ...point, labels: { ...labels, ...point.labels } }));
    });
  metrics.read(
    'fn_events_total',
    each(({ succeeded, failed, deadLettered }) =>
      Object.entries({ succeeded, failed, dead_lettered: deadLettered }).map(([outcome, value]) => ({ labels: { outcome }, value })),
    ),
  );
  metrics.read(
    'fn_events',
    each(({ waiting, running, dead }) =>
      Object.entries({ waiting, running, dead }).map(([of, value]) => ({ labels: { state: of }, value })),
    ),
  );
  metrics.read(
    'fn_event_oldest_seconds',
    each(({ oldestAt }) => [{ value: oldestAt === null ? 0 : Math.max(0, clock.wall() - oldestAt) / 1_000 }]),
  );
  metrics.read('fn_dispatcher_up', () => [{ value: state.events().dispatcher ? 1 : 0 }]);
}

function readUsage(metrics: ControllerMetrics, state: ControllerState): void {
  const each = (values: (stats: UsageStats) => { labels?: Record<string, string>; value: number }[]) => () =>
    state
      .usage()
      .flatMap(({ stats, namespace, function: name }) =>
        values(stats).map(({ labels, value }) => ({ labels: { namespace, function: name, ...labels }, value })),
      );
  metrics.read(
    'fn_function_cpu_seconds_total',
    each(({ cpuSeconds }) => [{ value: cpuSeconds }]),
  );
  metrics.read(
    'fn_function_memory_gib_seconds_total',
    each(({ memoryReservedGibSeconds, memoryUsedGibSeconds }) => [
      { labels: { what: 'reserved' }, value: memoryReservedGibSeconds },
      { labels: { what: 'used' }, value: memoryUsedGibSeconds },
    ]),
  );
  metrics.read(
    'fn_function_invocations_total',
    each(({ invocations, errors, rejected }) => [
      { labels: { outcome: 'succeeded' }, value: invocations - errors },
      { labels: { outcome: 'failed' }, value: errors },
      { labels: { outcome: 'rejected' }, value: rejected },
    ]),
  );
  metrics.read(
    'fn_function_cold_starts_total',
    each(({ coldStarts }) => Object.entries(coldStarts).map(([kind, value]) => ({ labels: { kind }, value }))),
  );
  metrics.read(
    'fn_function_busy_seconds_total',
    each(({ duration }) => [{ value: duration.sumSeconds }]),
  );
}

function logRecord(entry: LogEntry, traceOf: ControllerState['traceOf']): LogRecord {
  const { namespace, name, number } = parseRevisionKey(entry.revision);
  return {
    t: entry.t,
    level: entry.level,
    body: entry.msg,
    attributes: {
      [ATTRIBUTES.function]: name,
      [ATTRIBUTES.namespace]: namespace,
      [ATTRIBUTES.revision]: String(number),
      [ATTRIBUTES.instance]: entry.instance,
      [ATTRIBUTES.logStream]: entry.stream,
      ...(entry.req === undefined ? {} : { [ATTRIBUTES.invocation]: entry.req }),
    },
    traceId: entry.req === undefined ? undefined : traceOf(entry.req),
  };
}
