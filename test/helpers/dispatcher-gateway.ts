/** A gateway as the dispatcher sees it: speaks the events' link, and lets a test be the functions. */
import { createConnection, type Socket } from 'node:net';
import { once } from 'node:events';
import { problem, type ErrorCode } from '#contract/errors.ts';
import { DispatcherMessage, type EventRequest, type GatewayEventMessage, MAX_EVENTS_LINE_BYTES } from '#contract/events-link.ts';
import { decodeBody, encodeBody } from '#kit/event-body.ts';
import { keepAlive } from '#kit/heartbeat.ts';
import { greetingLine, refusalOf } from '#kit/link-greeting.ts';
import { encodeLine, LineSplitter } from '#kit/ndjson.ts';

type Of<Type extends DispatcherMessage['type']> = Extract<DispatcherMessage, { type: Type }>;
type Answer = Of<'accepted' | 'refused' | 'invocation' | 'answer'>;
export type Deliver = Of<'deliver'>;

/** What a function answers; or the problem that there was. */
export type Played = { status: number; headers?: string[]; body?: string } | { code: ErrorCode; retryAfterSeconds?: number };

export interface AcceptOptions {
  namespace?: string;
  body?: string | Buffer;
  headers?: string[];
  path?: string;
  idempotencyKey?: string;
  orderKey?: string;
  delayMs?: number;
}

export class FakeGateway {
  readonly #socket: Socket;
  readonly #asked = new Map<number, (message: Answer) => void>();
  #seq = 0;
  /** Every delivery that came, in order. */
  readonly deliveries: Deliver[] = [];
  readonly abandoned: number[] = [];
  /** Answers a delivery; null: never. */
  play: (delivery: Deliver) => Played | null | Promise<Played | null>;
  closed = false;

  /** `greeted`: the first line that is heard is the answer to a greeting. */
  private constructor(socket: Socket, play: FakeGateway['play'], greeted: boolean) {
    this.#socket = socket;
    this.play = play;
    let answered = !greeted;
    const lines = new LineSplitter(MAX_EVENTS_LINE_BYTES);
    socket.on('data', (chunk: Buffer) => {
      for (const line of lines.push(chunk)) {
        if (answered) this.#receive(DispatcherMessage.parse(JSON.parse(line)));
        else if (refusalOf(line) !== null) socket.destroy();
        answered = true;
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }

  /** To the dispatcher's socket, or over TCP with a token. */
  static async connect(
    at: string | { port: number; token: string },
    play: FakeGateway['play'] = () => ({ status: 200, body: 'ok' }),
    boot = String(Math.random()),
  ): Promise<FakeGateway> {
    const socket = createConnection(typeof at === 'string' ? { path: at } : { port: at.port, host: '127.0.0.1' });
    await once(socket, 'connect');
    if (typeof at !== 'string') {
      keepAlive(socket);
      socket.write(greetingLine(at.token));
    }
    const gateway = new FakeGateway(socket, play, typeof at !== 'string');
    gateway.send({ type: 'hello', gateway: 'test', boot });
    return gateway;
  }

  send(message: GatewayEventMessage): void {
    if (!this.closed) this.#socket.write(encodeLine(message));
  }

  raw(text: string): void {
    this.#socket.write(text);
  }

  #receive(message: DispatcherMessage): void {
    if (message.type === 'deliver') void this.#deliver(message);
    else if (message.type === 'abandon') this.abandoned.push(message.seq);
    else if (message.type !== 'welcome') {
      this.#asked.get(message.seq)?.(message);
      this.#asked.delete(message.seq);
    }
  }

  async #deliver(delivery: Deliver): Promise<void> {
    this.deliveries.push(delivery);
    const played = await this.play(delivery);
    if (played === null) return;
    const failed = 'code' in played;
    this.send({
      type: 'delivered',
      seq: delivery.seq,
      requestId: `r-${delivery.seq}`,
      instance: null,
      revision: `${delivery.namespace}/${delivery.name}@1`,
      response: failed
        ? null
        : { status: played.status, headers: played.headers ?? [], body: encodeBody(Buffer.from(played.body ?? '')), truncated: false },
      problem: failed ? problem(played.code, `it was ${played.code}`) : null,
      retryAfterSeconds: failed ? (played.retryAfterSeconds ?? null) : null,
      waitedMs: 0,
      ranMs: 1,
    });
  }

  #ask(make: (seq: number) => GatewayEventMessage): Promise<Answer> {
    const seq = (this.#seq += 1);
    return new Promise((resolve) => {
      this.#asked.set(seq, resolve);
      this.send(make(seq));
    });
  }

  accept(name: string, options: AcceptOptions = {}): Promise<Answer> {
    const { namespace = 'default', body = '', headers = [], path = '/', idempotencyKey = null, orderKey = null, delayMs = 0 } = options;
    const request: EventRequest = { method: 'POST', path, headers, body: encodeBody(Buffer.from(body)) };
    return this.#ask((seq) => ({
      type: 'accept',
      seq,
      namespace,
      name,
      revision: null,
      request,
      requestId: `c-${seq}`,
      traceparent: null,
      idempotencyKey,
      delayMs,
      orderKey,
    }));
  }

  /** Its id, where it was accepted. Throws what it was refused with. */
  async accepted(name: string, options: AcceptOptions = {}): Promise<string> {
    const answer = await this.accept(name, options);
    if (answer.type === 'accepted') return answer.id;
    throw new Error(`not accepted: ${JSON.stringify(answer)}`);
  }

  invocation(id: string, action: 'read' | 'result' | 'cancel'): Promise<Answer> {
    return this.#ask((seq) => ({ type: 'invocation', seq, id, action }));
  }

  bodies(): string[] {
    return this.deliveries.map(({ request }) => decodeBody(request.body).toString('utf8'));
  }

  close(): void {
    this.#socket.destroy();
  }
}
