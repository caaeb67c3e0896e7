/** A collector: takes OTLP over HTTP in JSON, and remembers what it was sent. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { z } from 'zod';

const Value = z.object({
  stringValue: z.string().optional(),
  intValue: z.coerce.number().optional(),
  doubleValue: z.number().optional(),
  boolValue: z.boolean().optional(),
});
const Attributes = z
  .array(z.object({ key: z.string(), value: Value }))
  .default([])
  .transform((list) => Object.fromEntries(list.map(({ key, value }) => [key, Object.values(value)[0]])));
const Resource = z.object({ attributes: Attributes });

const Span = z.object({
  traceId: z.string(),
  spanId: z.string(),
  parentSpanId: z.string().optional(),
  name: z.string(),
  kind: z.number(),
  startTimeUnixNano: z.coerce.bigint(),
  endTimeUnixNano: z.coerce.bigint(),
  attributes: Attributes,
  status: z.object({ code: z.number().optional(), message: z.string().optional() }).optional(),
});
const LogLine = z.object({
  timeUnixNano: z.coerce.bigint(),
  severityText: z.string(),
  body: Value,
  traceId: z.string().optional(),
  attributes: Attributes,
});

const Traces = z.object({
  resourceSpans: z.array(z.object({ resource: Resource, scopeSpans: z.array(z.object({ spans: z.array(Span) })) })),
});
const Logs = z.object({
  resourceLogs: z.array(z.object({ resource: Resource, scopeLogs: z.array(z.object({ logRecords: z.array(LogLine) })) })),
});
const Metrics = z.object({
  resourceMetrics: z.array(
    z.object({ resource: Resource, scopeMetrics: z.array(z.object({ metrics: z.array(z.object({ name: z.string() })) })) }),
  ),
});

export type CollectedSpan = z.output<typeof Span> & { service: string };
export type CollectedLog = z.output<typeof LogLine> & { service: string };

export class Collector {
  readonly spans: CollectedSpan[] = [];
  readonly logs: CollectedLog[] = [];
  /** Names of the metrics that came, by service. */
  readonly metrics = new Map<string, Set<string>>();
  readonly #server: Server;
  url = '';

  constructor() {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        this.#take(request.url ?? '', JSON.parse(Buffer.concat(chunks).toString()));
        response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
      });
    });
  }

  static async start(): Promise<Collector> {
    const collector = new Collector();
    collector.#server.listen(0, '127.0.0.1');
    await once(collector.#server, 'listening');
    const address = collector.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the collector has no port');
    collector.url = `http://127.0.0.1:${address.port}`;
    return collector;
  }

  #take(path: string, body: unknown): void {
    if (path === '/v1/traces') {
      for (const { resource, scopeSpans } of Traces.parse(body).resourceSpans)
        for (const span of scopeSpans.flatMap(({ spans }) => spans)) this.spans.push({ ...span, service: serviceOf(resource) });
    } else if (path === '/v1/logs') {
      for (const { resource, scopeLogs } of Logs.parse(body).resourceLogs)
        for (const line of scopeLogs.flatMap(({ logRecords }) => logRecords)) this.logs.push({ ...line, service: serviceOf(resource) });
    } else if (path === '/v1/metrics') {
      for (const { resource, scopeMetrics } of Metrics.parse(body).resourceMetrics) {
        const names = this.metrics.get(serviceOf(resource)) ?? new Set();
        for (const { name } of scopeMetrics.flatMap(({ metrics }) => metrics)) names.add(name);
        this.metrics.set(serviceOf(resource), names);
      }
    }
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const serviceOf = ({ attributes }: z.output<typeof Resource>): string => String(attributes['service.name']);
