/** Traces, metrics and logs as a collector and Prometheus see them: real exporters, real requests. */
import { afterAll, describe, expect, it } from 'vitest';
import { CONTROLLER_METRICS, GATEWAY_METRICS } from '#kit/telemetry-names.ts';
import { call } from '../helpers/http.ts';
import { Collector, type CollectedSpan } from '../helpers/otlp.ts';
import { freePort } from '../helpers/platform.ts';
import { familyOf, parsePrometheus } from '../helpers/prometheus.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const CLIENT_TRACE = '0af7651916cd43dd8448eb211c80319c';
const CLIENT_SPAN = 'b7ad6b7169203331';

interface OwnSpan {
  name: string;
  traceId: string;
  spanId: string;
  parent?: string;
}

const collector = await Collector.start();
const metricsPort = await freePort();
afterAll(() => collector.close());

for (const driver of drivers('process')) {
  describe(`telemetry (${driver})`, () => {
    const platform = usePlatform({
      driver,
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
        OTEL_BSP_SCHEDULE_DELAY: '100',
        OTEL_METRIC_EXPORT_INTERVAL: '500',
        OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
        FN_METRICS_LISTEN: `127.0.0.1:${metricsPort}`,
      },
    });
    const spansOf = (traceId: string, count: number): Promise<CollectedSpan[]> =>
      waitFor(`${count} spans of ${traceId}`, () => {
        const found = collector.spans.filter((span) => span.traceId === traceId);
        return found.length >= count && found;
      });
    const one = (spans: CollectedSpan[], name: string): CollectedSpan => {
      const found = spans.filter((span) => span.name === name);
      expect(found, `spans named ${name} of ${spans.map((span) => span.name).join(', ')}`).toHaveLength(1);
      return found[0]!;
    };

    it('one trace: client, gateway, queue, start of the instance, function', async () => {
      await platform().deploy('traced', 'test/e2e/fixtures/traced.ts', { flags: ['--keep-alive', '0'] });
      await platform().scaledToZero('traced');
      const headers = { traceparent: `00-${CLIENT_TRACE}-${CLIENT_SPAN}-01` };
      const answer = await platform().call('/traced/hello?secret=1', { headers });
      expect(answer.status).toBe(200);
      const own = answer.json() as OwnSpan[];
      const spans = await spansOf(CLIENT_TRACE, 4);
      const server = one(spans, 'GET traced');
      const queue = one(spans, 'queue');
      const invoke = one(spans, 'invoke');
      const init = one(spans, 'init instance');
      expect(server).toMatchObject({ parentSpanId: CLIENT_SPAN, kind: 2, service: 'fn-gateway' });
      expect(server.attributes).toMatchObject({
        'faas.name': 'traced',
        'faas.version': '1',
        'faas.trigger': 'http',
        'faas.coldstart': true,
        'faas.invocation_id': answer.headers['x-request-id'],
        'fn.namespace': 'default',
        'fn.start.reason': 'new-revision',
        'http.request.method': 'GET',
        'http.response.status_code': 200,
        'url.path': '/traced/hello',
        'url.scheme': 'http',
      });
      for (const child of [queue, invoke, init]) expect(child.parentSpanId).toBe(server.spanId);
      expect(init).toMatchObject({ service: 'fn-controller', attributes: { 'faas.instance': invoke.attributes['faas.instance'] } });
      // The instance was loaded while the request waited in the queue, and only then was it sent.
      // Each process has a clock of its own, which may have drifted since it was started.
      expect(init.startTimeUnixNano).toBeGreaterThanOrEqual(queue.startTimeUnixNano - 500_000_000n);
      expect(invoke.startTimeUnixNano).toBeGreaterThanOrEqual(queue.startTimeUnixNano);
      // What the function's own tracer made goes on from the span of its call.
      const work = own.find(({ name }) => name === 'work');
      const query = own.find(({ name }) => name === 'query');
      expect(work).toMatchObject({ traceId: CLIENT_TRACE, parent: invoke.spanId });
      expect(query).toMatchObject({ traceId: CLIENT_TRACE, parent: work?.spanId });
    });

    it('a trace that begins here is recorded, one that its caller does not record is not', async () => {
      const answer = await platform().call('/traced');
      const [work] = answer.json() as OwnSpan[];
      const spans = await spansOf(work!.traceId, 3);
      expect(one(spans, 'GET traced').parentSpanId ?? '').toBe('');
      const silent = '1'.repeat(32);
      const quiet = await platform().call('/traced', { headers: { traceparent: `00-${silent}-${CLIENT_SPAN}-00` } });
      expect(quiet.status).toBe(200);
      // The next one that is recorded comes after it.
      const next = '2'.repeat(32);
      await platform().call('/traced', { headers: { traceparent: `00-${next}-${CLIENT_SPAN}-01` } });
      await spansOf(next, 3);
      expect(collector.spans.some(({ traceId }) => traceId === silent)).toBe(false);
    });

    it('a failure is one in the trace too, and the log line has its trace', async () => {
      const traceId = '3'.repeat(32);
      const answer = await platform().call('/traced/fail', { headers: { traceparent: `00-${traceId}-${CLIENT_SPAN}-01` } });
      expect(answer.status).toBe(500);
      const server = one(await spansOf(traceId, 3), 'GET traced');
      expect(server.status?.code).toBe(2);
      const line = await waitFor('the line of the error', () =>
        collector.logs.find(({ body }) => body.stringValue?.includes('as it was asked')),
      );
      expect(line).toMatchObject({
        service: 'fn-controller',
        severityText: 'ERROR',
        traceId,
        attributes: {
          'faas.name': 'traced',
          'faas.version': '1',
          'fn.namespace': 'default',
          'faas.invocation_id': answer.headers['x-request-id'],
        },
      });
    });

    it('metrics are served by each process, and sent to the collector', async () => {
      const missing = await platform().call('/nobody');
      expect(missing.status).toBe(404);
      for (const [port, specs, some] of [
        [metricsPort, GATEWAY_METRICS, 'fn_requests_total'],
        [metricsPort + 1, CONTROLLER_METRICS, 'fn_instances'],
      ] as const) {
        const answer = await call(`http://127.0.0.1:${port}/metrics`);
        expect(answer.status).toBe(200);
        const parsed = parsePrometheus(answer.text);
        for (const { name } of parsed.samples) {
          const family = familyOf(parsed, name)!;
          if (family === 'target_info') continue;
          const spec = Object.entries(specs).find(([known]) => known === family)?.[1];
          expect(spec, `${family} is not in telemetry-names.ts`).toBeDefined();
          expect(parsed.types.get(family)).toBe(spec!.kind);
          expect(parsed.help.get(family)).toBe(spec!.help);
        }
        expect(parsed.samples.map(({ name }) => name)).toContain(some);
        expect((await call(`http://127.0.0.1:${port}/`)).status).toBe(404);
        expect((await call(`http://127.0.0.1:${port}/metrics`, { method: 'POST' })).status).toBe(405);
      }
      const { samples } = parsePrometheus((await call(`http://127.0.0.1:${metricsPort}/metrics`)).text);
      const value = (name: string, labels: Record<string, string>) =>
        samples.find((sample) => sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text))?.value;
      const of = { namespace: 'default', function: 'traced' };
      expect(value('fn_requests_total', { ...of, status: '5xx' })).toBe(1);
      expect(value('fn_requests_total', { ...of, status: '2xx' })).toBeGreaterThanOrEqual(4);
      expect(value('fn_request_duration_seconds_bucket', { ...of, le: '+Inf' })).toBe(value('fn_request_duration_seconds_count', of));
      expect(value('fn_cold_requests_total', { ...of, reason: 'new-revision' })).toBeGreaterThanOrEqual(1);
      expect(value('fn_link_up', {})).toBe(1);
      await waitFor(
        'metrics by OTLP',
        () => collector.metrics.get('fn-gateway')?.has('fn_requests_total') && collector.metrics.get('fn-controller')?.has('fn_instances'),
      );
    });

    it('nothing of it is on the public port', async () => {
      const answer = await platform().call('/metrics');
      expect(answer.status).toBe(404);
    });
  });
}
