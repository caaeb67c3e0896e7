/** A dispatcher for tests of the gateway: speaks the events link, answers as it is told to, records what it hears. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { type DispatcherMessage, GatewayEventMessage, MAX_EVENTS_LINE_BYTES } from '#contract/events-link.ts';
import type { InvocationView } from '#contract/events.ts';
import { newEventId } from '#kit/ids.ts';
import { encodeLine, LineSplitter } from '#kit/ndjson.ts';
import { waitFor } from './wait.ts';

type Heard<T extends GatewayEventMessage['type']> = Extract<GatewayEventMessage, { type: T }>;
type Deliver = Extract<DispatcherMessage, { type: 'deliver' }>;
export type Delivered = Heard<'delivered'>;

/** What of a delivery a test does not say. */
export interface DeliverOptions {
  namespace?: string;
  name?: string;
  revision?: string | null;
  kind?: Deliver['kind'];
  method?: string;
  path?: string;
  headers?: string[];
  body?: Deliver['request']['body'];
  traceparent?: string | null;
  maxResponseBytes?: number;
}

export class FakeDispatcher {
  readonly path: string;
  readonly heard: GatewayEventMessage[] = [];
  /** What is said to a message; null: nothing. */
  answer: (message: GatewayEventMessage) => DispatcherMessage | null = () => null;
  #server: Server | null = null;
  #seq = 0;
  readonly #sockets = new Set<Socket>();
  readonly #waiting = new Map<number, (delivered: Delivered) => void>();

  constructor(path: string) {
    this.path = path;
  }

  async start(): Promise<this> {
    rmSync(this.path, { force: true });
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.listen(this.path);
    await once(this.#server, 'listening');
    return this;
  }

  /** Cuts every link and stops listening, as one does that was killed. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    const closed = once(server, 'close');
    server.close();
    this.cut();
    await closed;
  }

  /** Cuts every link. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    const splitter = new LineSplitter(MAX_EVENTS_LINE_BYTES);
    socket.on('data', (chunk) => {
      for (const line of splitter.push(chunk)) {
        const message = GatewayEventMessage.parse(JSON.parse(line));
        if (message.type === 'delivered' && this.#waiting.has(message.seq)) {
          this.#waiting.get(message.seq)!(message);
          this.#waiting.delete(message.seq);
          continue;
        }
        this.heard.push(message);
        if (message.type === 'hello') socket.write(encodeLine({ type: 'welcome' } satisfies DispatcherMessage));
        const answer = this.answer(message);
        if (answer !== null) socket.write(encodeLine(answer));
      }
    });
  }

  get links(): number {
    return this.#sockets.size;
  }

  /** To every gateway. */
  send(message: DispatcherMessage): void {
    for (const socket of this.#sockets) socket.write(encodeLine(message));
  }

  /** Bytes as they are, to every gateway. */
  write(text: string): void {
    for (const socket of this.#sockets) socket.write(text);
  }

  all<T extends GatewayEventMessage['type']>(type: T): Heard<T>[] {
    return this.heard.filter((message): message is Heard<T> => message.type === type);
  }

  /** Resolves with the `nth` message of the type (1 is the first), also one that was heard already. */
  hear<T extends GatewayEventMessage['type']>(type: T, nth = 1): Promise<Heard<T>> {
    return waitFor(`${type} number ${nth}`, () => this.all(type)[nth - 1], { everyMs: 2, timeoutMs: 60_000 });
  }

  /** Accepts all that comes. Returns the id that it gives. */
  accept({ duplicate = false } = {}): string {
    const id = newEventId();
    this.answer = (message) => (message.type === 'accept' ? { type: 'accepted', seq: message.seq, id, duplicate } : null);
    return id;
  }

  /** Sends an event to be delivered; `seq` to name it by. */
  begin(options: DeliverOptions = {}): { seq: number; delivered: Promise<Delivered> } {
    const { namespace = 'default', name = 'hello', revision = null, kind = 'queue', traceparent = null } = options;
    const { method = 'POST', path = '/', headers = ['content-type', 'text/plain'], body = { text: 'hi' } } = options;
    const seq = ++this.#seq;
    const { promise: delivered, resolve } = Promise.withResolvers<Delivered>();
    this.#waiting.set(seq, resolve);
    const request = { method, path, headers, body };
    const { maxResponseBytes = 1_024 } = options;
    this.send({ type: 'deliver', seq, namespace, name, revision, kind, request, traceparent, maxResponseBytes });
    return { seq, delivered };
  }

  deliver(options: DeliverOptions = {}): Promise<Delivered> {
    return this.begin(options).delivered;
  }
}

/** An invocation as the dispatcher would describe it. */
export function testView(id: string, more: Partial<InvocationView> = {}): InvocationView {
  return {
    id,
    namespace: 'default',
    function: 'hello',
    state: 'running',
    trigger: null,
    attempts: 1,
    createdAt: 1_700_000_000_000,
    dueAt: null,
    expiresAt: 1_700_000_360_000,
    finishedAt: null,
    orderKey: null,
    request: null,
    revision: null,
    error: null,
    result: null,
    keptUntil: null,
    ...more,
  };
}
