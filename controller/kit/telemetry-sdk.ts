/**
 * OpenTelemetry's SDK at work: the one file that imports it, and itself imported only where telemetry is
 * configured. Spans and metrics come finished, as the platform counted and timed them by itself; the SDK
 * batches, encodes and sends them.
 */
import {
  logs as logsApi,
  metrics,
  ROOT_CONTEXT,
  SeverityNumber,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  ValueType,
  type HrTime,
} from '@opentelemetry/api';
import { OTLPLogExporter as JsonLogExporter } from '@opentelemetry/exporter-logs-otlp-http';
import { OTLPLogExporter as ProtoLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPMetricExporter as JsonMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoMetricExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { OTLPTraceExporter as JsonTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { envDetector, resourceFromAttributes, type Resource } from '@opentelemetry/resources';
import type { LogRecordExporter, ReadableLogRecord } from '@opentelemetry/sdk-logs';
import {
  AggregationTemporality,
  DataPointType,
  PeriodicExportingMetricReader,
  type CollectionResult,
  type IMetricReader,
  type MetricData,
  type MetricProducer,
} from '@opentelemetry/sdk-metrics';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { AlwaysOnSampler, RandomIdGenerator, type IdGenerator } from '@opentelemetry/sdk-trace';
import type { LogRecord } from './telemetry-logs.ts';
import { serveMetrics } from './telemetry-listener.ts';
import type { MetricSnapshot } from './telemetry-metrics.ts';
import type { SpanRecord, Telemetry, TelemetryOptions, TelemetryPlan } from './telemetry.ts';

/** How long the end of a process waits for a collector, ms. */
const CLOSE_TIMEOUT_MS = 1_000;

const KINDS = { server: SpanKind.SERVER, client: SpanKind.CLIENT, internal: SpanKind.INTERNAL } as const;
const SEVERITIES = {
  debug: SeverityNumber.DEBUG,
  info: SeverityNumber.INFO,
  warn: SeverityNumber.WARN,
  error: SeverityNumber.ERROR,
} as const;

export async function createTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  const { plan, service, version, instance, collect, log } = options;
  const resource = resourceFromAttributes({
    'service.name': service,
    'service.namespace': 'fn',
    'service.version': version,
    'service.instance.id': instance,
  });
  const producer: MetricProducer = { collect: async () => collectionOf(await collect(), resource) };
  const prometheus =
    plan.listen === null ? null : new PrometheusExporter({ preventServerStart: true, withoutScopeInfo: true, metricProducers: [producer] });
  const ids = new GivenIds();
  const sdk = new NodeSDK({
    // What the environment says of the resource (OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME) goes over ours.
    resource,
    resourceDetectors: [envDetector],
    // Contexts are passed on by hand: the SDK has nothing to patch and nothing to follow.
    textMapPropagator: null,
    instrumentations: [],
    idGenerator: ids,
    // Which traces are recorded is decided where they begin; what comes here is to be kept.
    sampler: new AlwaysOnSampler(),
    logRecordProcessors: [],
    metricReaders: [...(prometheus === null ? [] : [prometheus]), ...metricReaders(plan, producer)],
    ...(plan.traces
      ? { traceExporter: plan.protocol.traces === 'http/json' ? new JsonTraceExporter() : new ProtoTraceExporter() }
      : { spanProcessors: [] }),
  });
  sdk.start();
  const tracer = trace.getTracer('fn', version);
  const logs = plan.logs ? new LogSender(plan, resource, version) : null;
  const listener =
    plan.listen === null || prometheus === null
      ? null
      : serveMetrics(plan.listen, (request, response) => prometheus.getMetricsRequestHandler(request, response), log);
  return {
    span(record) {
      if (!plan.traces) return;
      ids.give(record);
      const parent =
        record.parent === null
          ? ROOT_CONTEXT
          : trace.setSpanContext(ROOT_CONTEXT, {
              traceId: record.traceId,
              spanId: record.parent,
              traceFlags: TraceFlags.SAMPLED,
              isRemote: true,
            });
      const span = tracer.startSpan(
        record.name,
        { kind: KINDS[record.kind], startTime: record.start, attributes: record.attributes },
        parent,
      );
      if (record.error !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: record.error });
      span.end(record.end);
    },
    sendLogs: (records) => logs?.send(records) ?? Promise.resolve(false),
    async close() {
      listener?.close();
      const ended = Promise.allSettled([sdk.shutdown(), logs?.shutdown()]);
      const timeout = Promise.withResolvers<void>();
      const timer = setTimeout(timeout.resolve, CLOSE_TIMEOUT_MS);
      await Promise.race([ended, timeout.promise]);
      clearTimeout(timer);
      // The SDK registers itself for the whole process; whoever starts another finds the place free.
      for (const api of [trace, metrics, logsApi]) api.disable();
    },
  };
}

/** The ids that the gateway has given out already; any others are made up. */
class GivenIds implements IdGenerator {
  readonly #random = new RandomIdGenerator();
  #given: Pick<SpanRecord, 'traceId' | 'spanId'> | null = null;

  give(ids: Pick<SpanRecord, 'traceId' | 'spanId'>): void {
    this.#given = ids;
  }

  generateTraceId(): string {
    return this.#given?.traceId ?? this.#random.generateTraceId();
  }

  generateSpanId(): string {
    return this.#given?.spanId ?? this.#random.generateSpanId();
  }
}

function metricReaders(plan: TelemetryPlan, producer: MetricProducer): IMetricReader[] {
  if (!plan.metrics) return [];
  const exporter = plan.protocol.metrics === 'http/json' ? new JsonMetricExporter() : new ProtoMetricExporter();
  return [
    new PeriodicExportingMetricReader({
      exporter,
      metricProducers: [producer],
      exportIntervalMillis: plan.metricsEveryMs,
      exportTimeoutMillis: plan.metricsEveryMs,
    }),
  ];
}

/** Our counts in the SDK's words. */
export function collectionOf(snapshots: readonly MetricSnapshot[], resource: Resource): CollectionResult {
  const times = { startTime: hrTime(performance.timeOrigin), endTime: hrTime(Date.now()) };
  const metrics = snapshots.map((snapshot) => metricData(snapshot, times));
  return { resourceMetrics: { resource, scopeMetrics: [{ scope: { name: 'fn' }, metrics }] }, errors: [] };
}

function metricData({ name, spec, points }: MetricSnapshot, times: { startTime: HrTime; endTime: HrTime }): MetricData {
  const base = {
    // Names have their unit already, and Prometheus wants no second one.
    descriptor: { name, description: spec.help, unit: '', valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  const numbers = points.flatMap(({ labels, value }) => (typeof value === 'number' ? [{ ...times, attributes: labels, value }] : []));
  if (spec.kind === 'gauge') return { ...base, dataPointType: DataPointType.GAUGE, dataPoints: numbers };
  if (spec.kind === 'counter') return { ...base, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints: numbers };
  const histograms = points.flatMap(({ labels, value }) => {
    if (typeof value === 'number') return [];
    const { bounds, counts, sum, count } = value;
    return [{ ...times, attributes: labels, value: { buckets: { boundaries: [...bounds], counts: [...counts] }, sum, count } }];
  });
  return { ...base, dataPointType: DataPointType.HISTOGRAM, dataPoints: histograms };
}

/** Lines of functions, straight to the exporter: they have been queued and counted before (telemetry-logs.ts). */
class LogSender {
  readonly #exporter: LogRecordExporter;
  readonly #resource: Resource;
  readonly #scope: { name: string; version: string };

  constructor(plan: TelemetryPlan, resource: Resource, version: string) {
    this.#exporter = plan.protocol.logs === 'http/json' ? new JsonLogExporter() : new ProtoLogExporter();
    this.#resource = resource;
    this.#scope = { name: 'fn', version };
  }

  send(records: readonly LogRecord[]): Promise<boolean> {
    const readable = records.map((record) => this.#readable(record));
    // 0 is success, by the exporter's contract.
    return new Promise((resolve) => this.#exporter.export(readable, (result) => resolve(result.code === 0)));
  }

  #readable({ t, level, body, attributes, traceId }: LogRecord): ReadableLogRecord {
    return {
      hrTime: hrTime(t),
      hrTimeObserved: hrTime(Date.now()),
      severityText: level.toUpperCase(),
      severityNumber: SEVERITIES[level],
      body,
      attributes,
      resource: this.#resource,
      instrumentationScope: this.#scope,
      droppedAttributesCount: 0,
      // Which of its spans it was written in, the platform does not know.
      ...(traceId === undefined ? {} : { spanContext: { traceId, spanId: '0000000000000000', traceFlags: TraceFlags.SAMPLED } }),
    };
  }

  shutdown(): Promise<void> {
    return this.#exporter.shutdown();
  }
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.round((ms - seconds * 1_000) * 1e6)];
}
