/** The controller's telemetry with the real SDK, and a collector that is an HTTP server. */
import { describe, expect, it } from 'vitest';
import type { LogEntry } from '#contract/log.ts';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { planTelemetry } from '#kit/telemetry.ts';
import { Collector } from '../test/helpers/otlp.ts';
import { type ControllerTelemetry, startControllerTelemetry } from './telemetry.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';

async function withCollector(body: (telemetry: ControllerTelemetry) => void): Promise<Collector> {
  const collector = await Collector.start();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' };
  const before = process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = collector.url;
  try {
    const telemetry = await startControllerTelemetry({
      plan: planTelemetry(env, null)!,
      version: '1',
      clock: systemClock,
      log: silentLog,
      state: {
        status: () => Promise.reject(new Error('not asked for here')),
        logLinesDropped: () => 0,
        events: () => ({ dispatcher: false, functions: [] }),
        calls: () => ({ kept: 0, skipped: 0, lost: 0 }),
        usage: () => [],
        traceOf: (request) => (request === 'r-1' ? TRACE : undefined),
      },
    });
    body(telemetry);
    await telemetry.close();
    return collector;
  } finally {
    if (before === undefined) delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT;
    else process.env.OTEL_EXPORTER_OTLP_ENDPOINT = before;
    await collector.close();
  }
}

const start = (overrides: Partial<Parameters<ControllerTelemetry['onStart']>[0]> = {}) => ({
  instance: { id: 'i-aaaaaaaaaaaa', createdAt: systemClock.now() - 300, genericAt: systemClock.now() - 20, runtime: 'node' },
  revision: 'default/hello@7',
  claimedAt: systemClock.wall() - 15,
  initMs: 12,
  traceparent: `00-${TRACE}-00f067aa0ba902b7-01`,
  ...overrides,
});

describe('a start', () => {
  it('is in the trace of who waited for it: its creation, and the loading of the code', async () => {
    const { spans } = await withCollector((telemetry) => telemetry.onStart(start()));
    expect(spans.map(({ name, traceId, parentSpanId }) => [name, traceId, parentSpanId])).toEqual([
      ['start instance', TRACE, '00f067aa0ba902b7'],
      ['init instance', TRACE, '00f067aa0ba902b7'],
    ]);
    expect(spans[1]?.attributes).toEqual({
      'faas.name': 'hello',
      'faas.version': '7',
      'faas.instance': 'i-aaaaaaaaaaaa',
      'fn.namespace': 'default',
    });
    expect(spans[0]!.endTimeUnixNano).toBe(spans[1]!.startTimeUnixNano);
  });

  it('of a pooled instance has no creation; one that nobody waited for, or whose trace is not recorded, is in none', async () => {
    const pooled = { ...start().instance, genericAt: systemClock.now() - 60_000 };
    const { spans } = await withCollector((telemetry) => {
      telemetry.onStart(start({ instance: pooled }));
      telemetry.onStart(start({ traceparent: null }));
      telemetry.onStart(start({ traceparent: `00-${TRACE}-00f067aa0ba902b7-00` }));
      telemetry.onStart(start({ traceparent: 'nonsense' }));
    });
    expect(spans.map(({ name }) => name)).toEqual(['init instance']);
  });
});

it('lines of functions go with what they are of, and with their trace where it is known', async () => {
  const entry: LogEntry = {
    t: 1_795_000_000_000,
    level: 'warn',
    stream: 'out',
    msg: 'x',
    revision: 'team/hello@7',
    instance: 'i-aaaaaaaaaaaa',
  };
  const { logs } = await withCollector((telemetry) => telemetry.onLogEntries([{ ...entry, req: 'r-1' }, { ...entry, req: 'r-2' }, entry]));
  expect(logs.map(({ traceId, attributes }) => [traceId || undefined, attributes['faas.invocation_id']])).toEqual([
    [TRACE, 'r-1'],
    [undefined, 'r-2'],
    [undefined, undefined],
  ]);
  expect(logs[0]).toMatchObject({
    severityText: 'WARN',
    body: { stringValue: 'x' },
    timeUnixNano: 1_795_000_000_000_000_000n,
    attributes: { 'faas.name': 'hello', 'faas.version': '7', 'fn.namespace': 'team', 'fn.log.stream': 'out' },
  });
});
