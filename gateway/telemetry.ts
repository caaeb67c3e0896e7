/**
 * Telemetry of the gateway: what is counted, and the spans of requests, made at their end of the times that
 * were taken anyway, and only where a trace is recorded.
 */
import { hostname } from 'node:os';
import type { EventKind } from '#contract/events-link.ts';
import { ATTRIBUTES, SPANS } from '#kit/telemetry-names.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { ratioSampler, type SpanRecord, startTelemetry, type Telemetry, type TelemetryPlan } from '#kit/telemetry.ts';
import { readProcess } from '#kit/telemetry-metrics.ts';
import type { GatewayTelemetry } from './app.ts';
import { type CallObserver, type EndedCall, isCold } from './journal.ts';
import { createGatewayMetrics, type GatewayState, RequestMetrics } from './metrics.ts';
import { isSampled, spanIdOf, type Tracer } from './trace.ts';

export interface TelemetryProcess {
  plan: TelemetryPlan;
  version: string;
  /** Asked when metrics are scraped. */
  state: () => GatewayState;
  clock: Clock;
  log: Log;
}

/** Starts what is planned. */
export async function startGatewayTelemetry(options: TelemetryProcess): Promise<GatewayTelemetry & { close(): Promise<void> }> {
  const { plan, version, state, clock, log } = options;
  const counted = plan.listen !== null || plan.metrics;
  const metrics = createGatewayMetrics(state);
  const watch = counted ? readProcess(metrics, () => []) : null;
  const telemetry = await startTelemetry({
    plan,
    service: 'fn-gateway',
    version,
    instance: `${hostname()}-${process.pid}`,
    collect: () => Promise.resolve(metrics.collect()),
    log,
  });
  return {
    // Without a collector of ours, a trace that begins here is the function's to record: it must not hear a "no".
    sampler: plan.traces ? ratioSampler(plan.sampler) : () => true,
    traced: plan.traces,
    observers: (tracer) => [
      ...(counted ? [new RequestMetrics(metrics)] : []),
      ...(plan.traces ? [new RequestSpans(telemetry, tracer, clock)] : []),
    ],
    async close() {
      watch?.stop();
      await telemetry.close();
    },
  };
}

export class RequestSpans implements CallObserver {
  readonly #telemetry: Pick<Telemetry, 'span'>;
  readonly #tracer: Pick<Tracer, 'own'>;
  readonly #clock: Clock;

  constructor(telemetry: Pick<Telemetry, 'span'>, tracer: Pick<Tracer, 'own'>, clock: Clock) {
    this.#telemetry = telemetry;
    this.#tracer = tracer;
    this.#clock = clock;
  }

  ended(call: EndedCall, now: number): void {
    const { trace } = call;
    if (!isSampled(trace.flags)) return;
    const offset = this.#clock.wall() - now;
    const at = (monotonic: number): number => monotonic + offset;
    const span = spanIdOf(this.#tracer.own(trace));
    const error = errorOf(call);
    const child = (name: string, kind: SpanRecord['kind'], from: number, to: number, rest: Partial<SpanRecord> = {}) =>
      this.#telemetry.span({
        name,
        kind,
        traceId: trace.traceId,
        spanId: null,
        parent: span,
        start: at(from),
        end: at(to),
        attributes: {},
        error: null,
        ...rest,
      });
    child(`${call.method} ${call.name}`, 'server', call.arrivedAt, now, {
      spanId: span,
      parent: trace.parent,
      attributes: serverAttributes(call),
      error: call.status >= 500 || call.status === 0 ? error : null,
    });
    if (call.askedAt !== null) child(SPANS.queue, 'internal', call.askedAt, call.sentAt ?? now);
    if (call.sentAt !== null && call.traceparent !== null)
      child(SPANS.invoke, 'client', call.sentAt, now, { spanId: spanIdOf(call.traceparent), attributes: functionAttributes(call), error });
  }
}

function functionAttributes({ namespace, name, revision, instance }: EndedCall): SpanRecord['attributes'] {
  return {
    [ATTRIBUTES.function]: name,
    [ATTRIBUTES.namespace]: namespace,
    ...(revision === null ? {} : { [ATTRIBUTES.revision]: revision.slice(revision.lastIndexOf('@') + 1) }),
    ...(instance === null ? {} : { [ATTRIBUTES.instance]: instance }),
  };
}

/** OpenTelemetry's words for what brought an event. */
const FAAS_TRIGGERS = { invocation: 'http', queue: 'pubsub', schedule: 'timer', event: 'other' } as const satisfies Record<
  EventKind,
  string
>;

function serverAttributes(call: EndedCall): SpanRecord['attributes'] {
  const { start, problem } = call;
  const query = call.path.indexOf('?');
  return {
    ...functionAttributes(call),
    [ATTRIBUTES.method]: call.method,
    [ATTRIBUTES.path]: query < 0 ? call.path : call.path.slice(0, query),
    [ATTRIBUTES.scheme]: call.secure ? 'https' : 'http',
    [ATTRIBUTES.trigger]: call.event === null ? 'http' : FAAS_TRIGGERS[call.event],
    [ATTRIBUTES.invocation]: call.id,
    [ATTRIBUTES.coldStart]: isCold(start),
    ...(call.status === 0 ? {} : { [ATTRIBUTES.status]: call.status }),
    ...(start === null ? {} : { [ATTRIBUTES.startKind]: start.kind }),
    ...(start?.reason === undefined ? {} : { [ATTRIBUTES.startReason]: start.reason }),
    ...(problem === null ? {} : { [ATTRIBUTES.errorType]: problem.code }),
  };
}

function errorOf({ problem, status, aborted }: EndedCall): string | null {
  if (problem !== null) return `${problem.code}: ${problem.detail}`;
  if (aborted) return 'the client went away';
  return status >= 500 ? `the function answered with ${status}` : null;
}
