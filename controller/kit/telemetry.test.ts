import { describe, expect, it } from 'vitest';
import { VirtualClock } from './clock.ts';
import { LogExport, MAX_QUEUED_RECORDS, type LogRecord } from './telemetry-logs.ts';
import { MAX_SERIES, Metrics, OTHER, readProcess } from './telemetry-metrics.ts';
import { GATEWAY_METRICS } from './telemetry-names.ts';
import { planTelemetry, ratioSampler } from './telemetry.ts';

const TO = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };

describe('what the environment asks for', () => {
  it('is nothing, unless it says so', () => {
    expect(planTelemetry({}, null)).toBeNull();
    expect(planTelemetry({ OTEL_TRACES_SAMPLER: 'always_on', OTEL_SERVICE_NAME: 'x' }, null)).toBeNull();
    expect(planTelemetry({ ...TO, OTEL_SDK_DISABLED: 'true' }, null)).toBeNull();
  });

  it('is a listener alone', () => {
    expect(planTelemetry({}, { host: 'localhost', port: 1 })).toMatchObject({ traces: false, metrics: false, logs: false });
  });

  it('is each signal by itself', () => {
    expect(planTelemetry(TO, null)).toMatchObject({ traces: true, metrics: true, logs: true });
    expect(planTelemetry({ ...TO, OTEL_METRICS_EXPORTER: 'none' }, null)).toMatchObject({ traces: true, metrics: false, logs: true });
    expect(planTelemetry({ OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: 'http://x' }, null)).toMatchObject({
      traces: false,
      metrics: false,
      logs: true,
    });
  });

  it('is told where it cannot be had', () => {
    const plan = planTelemetry({ ...TO, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_TRACES_SAMPLER: 'jaeger_remote' }, null);
    expect(plan?.protocol.traces).toBe('http/protobuf');
    expect(plan?.warnings).toHaveLength(4);
    expect(planTelemetry({ ...TO, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }, null)).toMatchObject({
      protocol: { traces: 'http/json', metrics: 'http/json', logs: 'http/json' },
      warnings: [],
    });
  });

  it.each([
    [{}, 1],
    [{ OTEL_TRACES_SAMPLER: 'always_off' }, 0],
    [{ OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' }, 0.25],
    [{ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '7' }, 1],
  ])('samples by %j: %d', (env, ratio) => {
    expect(planTelemetry({ ...TO, ...env }, null)?.sampler).toEqual({ ratio });
  });
});

describe('a sampler', () => {
  it('takes so many, and decides alike for the same trace', () => {
    const ids = Array.from({ length: 10_000 }, (_, n) =>
      (BigInt(n + 1) * 0x9e3779b97f4a7c15f39cc0605cedc835n).toString(16).slice(-32).padStart(32, '0'),
    );
    const taken = ids.filter(ratioSampler({ ratio: 0.25 }));
    expect(taken.length).toBeGreaterThan(2_000);
    expect(taken.length).toBeLessThan(3_000);
    expect(taken.filter(ratioSampler({ ratio: 0.5 }))).toEqual(taken);
    expect(ids.filter(ratioSampler({ ratio: 1 }))).toEqual(ids);
    expect(ids.filter(ratioSampler({ ratio: 0 }))).toEqual([]);
  });
});

describe('metrics', () => {
  it('count, and put each value into its bucket', () => {
    const metrics = new Metrics(GATEWAY_METRICS);
    const labels = { namespace: 'default', function: 'hello' };
    metrics.counter('fn_requests_total', { ...labels, status: '2xx' }).add(2);
    metrics.counter('fn_requests_total', { ...labels, status: '2xx' }).add();
    for (const value of [0.0001, 0.001, 0.0011, 100]) metrics.histogram('fn_request_duration_seconds', labels).record(value);
    const [duration, requests] = metrics.collect();
    expect(requests?.points).toEqual([{ labels: { ...labels, status: '2xx' }, value: 3 }]);
    const value = duration?.points[0]?.value;
    if (typeof value !== 'object') throw new Error('no histogram');
    expect(value.counts.slice(0, 3)).toEqual([1, 1, 1]);
    expect([value.counts.at(-1), value.count, value.counts.length - value.bounds.length]).toEqual([1, 4, 1]);
    expect(value.sum).toBeCloseTo(100.0022);
  });

  it('have a limit of series: the rest is counted as other', () => {
    const metrics = new Metrics(GATEWAY_METRICS);
    for (let n = 0; n < MAX_SERIES + 500; n += 1) metrics.counter('fn_problems_total', { code: `c${n}` }).add();
    const [problems] = metrics.collect();
    expect(problems?.points).toHaveLength(MAX_SERIES + 1);
    expect(problems?.points.at(-1)).toEqual({ labels: { code: OTHER }, value: 500 });
    expect(metrics.overflown).toBe(500);
  });

  it('refuse a name of another kind', () => {
    const metrics = new Metrics(GATEWAY_METRICS);
    metrics.counter('fn_problems_total', { code: 'x' });
    expect(() => metrics.histogram('fn_problems_total', { code: 'x' })).toThrow(TypeError);
  });

  it('tell of the process', () => {
    const metrics = new Metrics(GATEWAY_METRICS);
    const watch = readProcess(metrics, () => [{ what: 'logs', value: 3 }]);
    try {
      const values = new Map(metrics.collect().map(({ name, points }) => [name, points]));
      expect(values.get('process_resident_memory_bytes')?.[0]?.value).toBeGreaterThan(1e6);
      expect(values.get('fn_event_loop_lag_seconds')).toHaveLength(3);
      expect(values.get('fn_telemetry_dropped_total')).toEqual([
        { labels: { what: 'logs' }, value: 3 },
        { labels: { what: 'series' }, value: 0 },
      ]);
    } finally {
      watch.stop();
    }
  });
});

describe('the export of log lines', () => {
  const record = (body: string): LogRecord => ({ t: 1, level: 'info', body, attributes: {} });

  it('sends them in order, one batch at a time, and counts what was refused', async () => {
    const clock = new VirtualClock();
    const sent: string[][] = [];
    let taken = true;
    let atOnce = 0;
    const logs = new LogExport<string>({
      clock,
      convert: record,
      send: async (records) => {
        atOnce += 1;
        expect(atOnce).toBe(1);
        await Promise.resolve();
        atOnce -= 1;
        sent.push(records.map(({ body }) => body));
        return taken;
      },
    });
    logs.add(Array.from({ length: 600 }, (_, n) => String(n)));
    expect(sent).toEqual([]);
    clock.advance(1_000);
    await logs.flush();
    expect(sent.map((batch) => batch.length)).toEqual([512, 88]);
    expect(sent.flat().at(-1)).toBe('599');
    taken = false;
    logs.add(['x']);
    await logs.flush();
    expect(logs.dropped).toBe(1);
  });

  it('lets each line wait until more is known of it, also one that comes shortly before others are sent', async () => {
    const clock = new VirtualClock();
    const sent: string[] = [];
    const send = async (records: readonly LogRecord[]) => {
      sent.push(...records.map(({ body }) => body));
      return true;
    };
    const logs = new LogExport<string>({ clock, convert: record, send });
    logs.add(['a']);
    clock.advance(900);
    logs.add(['b']);
    clock.advance(100);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toEqual(['a']);
    clock.advance(1_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toEqual(['a', 'b']);
  });

  it('holds no more than it may while a collector does not answer', async () => {
    const answer = Promise.withResolvers<boolean>();
    const logs = new LogExport<string>({ clock: new VirtualClock(), convert: record, send: () => answer.promise });
    logs.add(Array.from({ length: MAX_QUEUED_RECORDS + 5 }, () => 'x'));
    expect(logs.dropped).toBe(5);
    const flushed = logs.flush();
    answer.resolve(true);
    await flushed;
    expect(logs.dropped).toBe(5);
  });
});
