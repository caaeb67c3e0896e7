/** A gateway between a raw client and a function, with a second parser that judges both sides of it. */
import type { Socket } from 'node:net';
import { expect } from 'vitest';
import { type Harness, RawClient } from '../helpers/gateway-harness.ts';
import { startInstance } from '../helpers/gateway-instance.ts';
import { call } from '../helpers/http.ts';
import type { Opinion, SecondParser, SeenRequest } from '../helpers/second-parser.ts';
import { waitFor } from '../helpers/wait.ts';

/** The path under which the function is; the gateway takes it off. */
const FUNCTION = '/f';

/** A request as the function had it, whole. */
interface Served {
  method: string;
  target: string;
  body: Buffer;
}

/** What came back on a client's connection. */
interface ClientAnswer {
  status: number;
  /** Index in `served`; undefined where the gateway answered by itself. */
  saw: number | undefined;
}

export class FramingCourt {
  readonly served: Served[] = [];
  /** What the gateway wrote, by connection to the instance, and what Node made of it there. */
  readonly #wires = new Map<Socket, { bytes: Buffer[]; served: Served[] }>();
  readonly #harness: Harness;
  readonly #second: SecondParser;

  private constructor(harness: Harness, second: SecondParser) {
    this.#harness = harness;
    this.#second = second;
  }

  static async open(harness: Harness, second: SecondParser): Promise<FramingCourt> {
    const court = new FramingCourt(harness, second);
    const instance = await startInstance(
      harness.socket('f'),
      (incoming, outgoing) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('end', () => {
          const request = { method: incoming.method ?? '', target: incoming.url ?? '', body: Buffer.concat(chunks) };
          court.#wires.get(incoming.socket)?.served.push(request);
          const index = court.served.push(request) - 1;
          outgoing.writeHead(200, { 'x-saw': String(index), 'content-length': '0' }).end();
        });
      },
      (server) =>
        server.on('connection', (socket: Socket) => {
          const wire = { bytes: [] as Buffer[], served: [] };
          court.#wires.set(socket, wire);
          socket.on('data', (chunk: Buffer) => wire.bytes.push(chunk));
        }),
    );
    harness.defer(() => instance.stop());
    harness.controller.grantOnDemand(() => instance.address);
    harness.controller.route('f', { timeoutMs: 60_000 });
    await harness.controller.settled();
    return court;
  }

  /**
   * Sends the bytes on one connection, cut as `pieces` says, and compares. Returns what the second parser thinks of them
   * and how many requests the function got.
   */
  async judge(bytes: Buffer, pieces: readonly Buffer[] = [bytes]): Promise<{ opinion: Opinion; served: number }> {
    const opinion = await this.#second.read(bytes);
    const before = this.served.length;
    const client = new RawClient(this.#harness.port);
    try {
      for (const piece of pieces) {
        if (client.text !== '' && client.closed) break;
        client.socket.write(piece);
        if (pieces.length > 1) await new Promise((resolve) => setImmediate(resolve));
      }
      const due = opinion.requests.length + (opinion.end === 'refused' ? 1 : 0);
      await waitFor(
        `${due} answers to ${JSON.stringify(bytes.toString('latin1'))}`,
        () => client.closed || answersOf(client.text).length >= due,
        { everyMs: 1 },
      );
      // Whatever else the gateway made of these bytes reached the function before this does.
      const fence = await call(`${this.#harness.url}/f/fence`);
      expect(fence.status).toBe(200);
      const seen = this.served.slice(before).filter(({ target }) => target !== '/fence');
      this.#compare(bytes, opinion, answersOf(client.text), seen, client.closed);
      return { opinion, served: seen.length };
    } finally {
      client.close();
    }
  }

  #compare(bytes: Buffer, opinion: Opinion, answers: readonly ClientAnswer[], seen: readonly Served[], closed: boolean): void {
    const context = JSON.stringify({ bytes: bytes.toString('latin1'), opinion, answers });
    const forwarded = answers.flatMap(({ saw }) => (saw === undefined ? [] : [this.served[saw]!]));
    // What functions saw is what clients got answers for, in this order.
    expect(seen, `${context}`).toEqual(forwarded);
    for (const [index, { saw }] of answers.entries()) {
      if (saw === undefined) continue;
      const request = opinion.requests[index];
      expect(request, `a request that the second parser does not see: ${context}`).toBeDefined();
      expect(this.served[saw], `${context}`).toEqual(asForwarded(request!));
    }
    const refusals = answers.filter(({ saw, status }) => saw === undefined && status >= 400);
    expect(answers.length, `${context}`).toBeLessThanOrEqual(opinion.requests.length + Math.min(1, refusals.length));
    if (opinion.end === 'refused') expect([refusals.length > 0, closed || answers.length > 0], `${context}`).toEqual([true, true]);
  }

  /** What the gateway wrote to the function, judged by the second parser as well. Returns how many requests that was. */
  async judgeWires(): Promise<number> {
    let count = 0;
    for (const { bytes, served } of this.#wires.values()) {
      const opinion = await this.#second.read(Buffer.concat(bytes));
      // One that its client broke off ends its connection, and is seen as whole by nobody.
      expect(['clean', 'partial', 'closed']).toContain(opinion.end);
      expect(opinion.requests.map(({ method, target, body }) => ({ method, target, body }))).toEqual(served);
      for (const { headers } of opinion.requests) expectOneFraming(headers);
      count += served.length;
    }
    return count;
  }
}

/** At most one way to tell the length, one Host, and nothing that is for one connection only. */
function expectOneFraming(headers: SeenRequest['headers']): void {
  const values = (name: string) => headers.filter(([one]) => one === name).map(([, value]) => value);
  expect(values('content-length').length + values('transfer-encoding').length).toBeLessThanOrEqual(1);
  expect(values('host')).toHaveLength(1);
  for (const name of ['te', 'trailer', 'upgrade', 'expect', 'keep-alive', 'proxy-connection', 'http2-settings'])
    expect(values(name)).toEqual([]);
  for (const value of values('transfer-encoding')) expect(value).toBe('chunked');
  for (const value of values('connection')) expect(['keep-alive', 'close']).toContain(value);
}

/** As the function should see it: without the authority of an absolute URL, and without the function's own path. */
function asForwarded({ method, target, body }: SeenRequest): Served {
  const path = target.replace(/^https?:\/\/[^/?]*/i, '');
  const rest = path.startsWith(FUNCTION) ? path.slice(FUNCTION.length) : path;
  return { method, target: rest.startsWith('/') ? rest : `/${rest}`, body };
}

function answersOf(text: string): ClientAnswer[] {
  return text
    .split(/(?=HTTP\/1\.1 \d{3} [^\r\n]*\r\n)/)
    .filter((part) => part.startsWith('HTTP/1.1 ') && !part.startsWith('HTTP/1.1 1') && part.includes('\r\n\r\n'))
    .map((part) => {
      const saw = /\r\nx-saw: (\d+)\r\n/.exec(part)?.[1];
      return { status: Number(part.slice(9, 12)), saw: saw === undefined ? undefined : Number(saw) };
    });
}
