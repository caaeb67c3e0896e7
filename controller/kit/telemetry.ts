/**
 * Telemetry of a process: what is configured, and the one door to OpenTelemetry's SDK, which is loaded only
 * where something is configured: it is some 10 MB and 100 ms.
 */
import type { MetricSnapshot } from './telemetry-metrics.ts';
import type { LogRecord } from './telemetry-logs.ts';
import type { Log } from './log.ts';

export interface TelemetryPlan {
  /** Export by OTLP over HTTP, to the endpoint of OTEL_EXPORTER_OTLP_…. */
  traces: boolean;
  metrics: boolean;
  logs: boolean;
  /** Where /metrics is served; null: nowhere. */
  listen: { host: string; port: number } | null;
  /** Encoding of OTLP by signal. */
  protocol: Record<'traces' | 'metrics' | 'logs', 'http/protobuf' | 'http/json'>;
  sampler: SamplerPlan;
  /** How often metrics are sent by OTLP, ms. */
  metricsEveryMs: number;
  /** What is not as it was asked for, a sentence each. */
  warnings: string[];
}

/** Which of the traces that begin here are recorded. One that comes with a decision keeps it. */
export interface SamplerPlan {
  /** From 0 to 1. */
  ratio: number;
}

/** As OpenTelemetry has it: OTEL_METRIC_EXPORT_INTERVAL. */
const DEFAULT_METRICS_EVERY_MS = 60_000;
const MIN_METRICS_EVERY_MS = 500;

type Env = Readonly<Record<string, string | undefined>>;

/** What the environment asks for, by OpenTelemetry's own variables; null where that is nothing. */
export function planTelemetry(env: Env, listen: { host: string; port: number } | null): TelemetryPlan | null {
  const warnings: string[] = [];
  const disabled = env.OTEL_SDK_DISABLED?.toLowerCase() === 'true';
  const wanted = (signal: 'TRACES' | 'METRICS' | 'LOGS') => {
    const to = env[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`] ?? env.OTEL_EXPORTER_OTLP_ENDPOINT ?? '';
    return !disabled && to !== '' && (env[`OTEL_${signal}_EXPORTER`] ?? 'otlp') !== 'none';
  };
  const protocol = (signal: 'TRACES' | 'METRICS' | 'LOGS') => {
    const said = (env[`OTEL_EXPORTER_OTLP_${signal}_PROTOCOL`] ?? env.OTEL_EXPORTER_OTLP_PROTOCOL ?? '').trim();
    if (said === 'http/json') return 'http/json';
    if (said !== '' && said !== 'http/protobuf' && wanted(signal))
      warnings.push(`OTLP over ${said} is not spoken here: ${signal.toLowerCase()} go over http/protobuf`);
    return 'http/protobuf';
  };
  const plan: TelemetryPlan = {
    traces: wanted('TRACES'),
    metrics: wanted('METRICS'),
    logs: wanted('LOGS'),
    listen,
    protocol: { traces: protocol('TRACES'), metrics: protocol('METRICS'), logs: protocol('LOGS') },
    sampler: planSampler(env, warnings),
    metricsEveryMs: Math.max(
      MIN_METRICS_EVERY_MS,
      Number(env.OTEL_METRIC_EXPORT_INTERVAL ?? DEFAULT_METRICS_EVERY_MS) || DEFAULT_METRICS_EVERY_MS,
    ),
    warnings: [],
  };
  plan.warnings.push(...new Set(warnings));
  return plan.traces || plan.metrics || plan.logs || plan.listen !== null ? plan : null;
}

/** OTEL_TRACES_SAMPLER and _ARG. What comes with a decision keeps it whichever it is. */
function planSampler(env: Env, warnings: string[]): SamplerPlan {
  const name = (env.OTEL_TRACES_SAMPLER ?? 'parentbased_always_on').trim();
  switch (name.replace(/^parentbased_/, '')) {
    case 'always_on':
      return { ratio: 1 };
    case 'always_off':
      return { ratio: 0 };
    case 'traceidratio': {
      const ratio = Number(env.OTEL_TRACES_SAMPLER_ARG ?? '1');
      if (ratio >= 0 && ratio <= 1) return { ratio };
      warnings.push(`OTEL_TRACES_SAMPLER_ARG is not from 0 to 1: ${env.OTEL_TRACES_SAMPLER_ARG}; every trace is recorded`);
      return { ratio: 1 };
    }
    default:
      warnings.push(`OTEL_TRACES_SAMPLER ${name} is not known here; every trace is recorded`);
      return { ratio: 1 };
  }
}

/** Decides by the id alone, as OpenTelemetry does: whoever sees the same trace decides the same. */
export function ratioSampler({ ratio }: SamplerPlan): (traceId: string) => boolean {
  // The random part of an id is its last 7 bytes (W3C Trace Context, level 2); 6 of them fit a number.
  const bound = Math.round(ratio * 2 ** 48);
  return (traceId) => Number.parseInt(traceId.slice(-12), 16) < bound;
}

/** A span that is over. Times in milliseconds since 1970. */
export interface SpanRecord {
  name: string;
  kind: 'server' | 'client' | 'internal';
  traceId: string;
  /** null: any. */
  spanId: string | null;
  parent: string | null;
  start: number;
  end: number;
  attributes: Record<string, string | number | boolean>;
  /** What went wrong; null where nothing did. */
  error: string | null;
}

export interface TelemetryOptions {
  plan: TelemetryPlan;
  /** `fn-gateway`, `fn-controller`: service.name, unless OTEL_SERVICE_NAME says another. */
  service: string;
  version: string;
  /** Tells processes of one service apart: service.instance.id. */
  instance: string;
  /** Asked whenever metrics are scraped or sent. */
  collect: () => Promise<MetricSnapshot[]>;
  log: Log;
}

/** OpenTelemetry at work. Nothing of it throws, and nothing waits for a collector. */
export interface Telemetry {
  span(span: SpanRecord): void;
  /** Resolves with whether it was taken. */
  sendLogs(records: readonly LogRecord[]): Promise<boolean>;
  /** Sends what there is, within its deadline. */
  close(): Promise<void>;
}

/** Loads the SDK and starts what is planned. */
export async function startTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  for (const warning of options.plan.warnings) options.log.warn({}, warning);
  const { createTelemetry } = await import('./telemetry-sdk.ts');
  return createTelemetry(options);
}
