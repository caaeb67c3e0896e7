import { describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import type { SpanRecord } from '#kit/telemetry.ts';
import { createGatewayMetrics, RequestMetrics } from './metrics.ts';
import { RequestSpans } from './telemetry.ts';
import { endedCall } from './testing.ts';
import { createTracer, spanIdOf } from './trace.ts';

const CLIENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

function setup(incoming?: string, sampler?: () => boolean) {
  const clock = new VirtualClock();
  clock.advance(1_000);
  const tracer = createTracer(sampler);
  const trace = tracer.begin(incoming);
  const call = endedCall(1_000, {
    revision: 'default/hello@7',
    secure: true,
    arrivedAt: 900,
    askedAt: 910,
    sentAt: 950,
    headAt: 990,
    start: { kind: 'pooled', startMs: 0, initMs: 30, reason: 'burst' },
    traceparent: tracer.next(trace),
    trace,
  });
  const spans: SpanRecord[] = [];
  const observer = new RequestSpans({ span: (span) => void spans.push(span) }, tracer, clock);
  return { clock, tracer, call, spans, observer };
}

describe('the spans of a request', () => {
  it('continue the trace of the client, and are what the function continues', () => {
    const { clock, tracer, call, spans, observer } = setup(CLIENT);
    observer.ended(call, 1_000);
    const [server, queue, invoke] = spans;
    const at = (monotonic: number) => clock.wall() - 1_000 + monotonic;
    expect(server).toMatchObject({
      name: 'GET hello',
      kind: 'server',
      parent: 'b7ad6b7169203331',
      start: at(900),
      end: at(1_000),
      error: null,
    });
    expect(server?.spanId).toBe(spanIdOf(tracer.own(call.trace)));
    expect(server?.attributes).toMatchObject({
      'url.path': '/hello',
      'url.scheme': 'https',
      'faas.version': '7',
      'faas.coldstart': true,
      'fn.start.reason': 'burst',
    });
    expect(queue).toMatchObject({ name: 'queue', parent: server?.spanId, start: at(910), end: at(950) });
    expect(invoke).toMatchObject({
      name: 'invoke',
      kind: 'client',
      parent: server?.spanId,
      spanId: spanIdOf(call.traceparent!),
      start: at(950),
    });
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set(['0af7651916cd43dd8448eb211c80319c']));
  });

  it('are none of a trace that is not recorded', () => {
    const unwanted = setup(CLIENT.replace(/01$/, '00'));
    unwanted.observer.ended(unwanted.call, 1_000);
    const sampled = setup(undefined, () => false);
    sampled.observer.ended(sampled.call, 1_000);
    expect([...unwanted.spans, ...sampled.spans]).toEqual([]);
    expect(sampled.call.traceparent).toMatch(/-00$/);
  });

  it('fail where the request does; what it did not come to has no span', () => {
    const { call, spans, observer } = setup();
    const problem = { code: 'queue-timeout', detail: 'no instance became free' };
    observer.ended({ ...call, sentAt: null, headAt: null, traceparent: null, status: 503, problem }, 1_000);
    expect(spans.map(({ name, error }) => [name, error])).toEqual([
      ['GET hello', 'queue-timeout: no instance became free'],
      ['queue', null],
    ]);
    expect(spans[0]).toMatchObject({ parent: null, attributes: { 'error.type': 'queue-timeout', 'http.response.status_code': 503 } });
  });

  it('a refusal of the caller is no error of the gateway', () => {
    const { call, spans, observer } = setup();
    observer.ended({ ...call, sentAt: null, traceparent: null, status: 401, problem: { code: 'unauthorized', detail: 'x' } }, 1_000);
    expect(spans[0]?.error).toBeNull();
  });
});

describe('the metrics of requests', () => {
  it('count by function and class of status, and time the parts', () => {
    const { call } = setup();
    const metrics = createGatewayMetrics(() => ({ connected: true, events: false, leases: 3, waiting: 2, inFlight: 1, delivering: 4 }));
    const observer = new RequestMetrics(metrics);
    observer.ended(call, 1_000);
    observer.ended({ ...call, revision: 'default/hello@8', start: null }, 1_000);
    observer.ended({ ...call, start: null, aborted: true, status: 0 }, 1_000);
    observer.ended({ ...call, start: null, status: 503, problem: { code: 'queue-full', detail: 'x' }, askedAt: null }, 1_000);
    observer.ended({ ...call, start: null, stream: 'events', arrivedAt: 0, headAt: 10 }, 1_000);
    const points = new Map(metrics.collect().map((metric) => [metric.name, metric.points]));
    const of = { namespace: 'default', function: 'hello' };
    expect(points.get('fn_requests_total')).toEqual([
      { labels: { ...of, status: '2xx' }, value: 3 },
      { labels: { ...of, status: 'gone' }, value: 1 },
      { labels: { ...of, status: '5xx' }, value: 1 },
    ]);
    expect(points.get('fn_request_duration_seconds')?.[0]?.value).toMatchObject({ count: 5, sum: expect.closeTo(0.41) });
    expect(points.get('fn_queue_duration_seconds')?.[0]?.value).toMatchObject({ count: 4 });
    expect(points.get('fn_cold_requests_total')).toEqual([{ labels: { ...of, kind: 'pooled', reason: 'burst' }, value: 1 }]);
    expect(points.get('fn_problems_total')).toEqual([{ labels: { code: 'queue-full' }, value: 1 }]);
    expect(points.get('fn_link_up')).toEqual([{ labels: {}, value: 1 }]);
  });
});
