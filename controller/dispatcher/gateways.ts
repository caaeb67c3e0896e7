/**
 * The gateways that are connected, and deliveries through them: to the one with the fewest in flight, as many as it
 * takes. Framing is LineServer's; what gateways ask is answered by whoever is given.
 */
import type { AddressInfo } from 'node:net';
import { problem, type ErrorCode } from '#contract/errors.ts';
import { type DispatcherMessage, GatewayEventMessage, MAX_EVENTS_LINE_BYTES } from '#contract/events-link.ts';
import { decodeBody } from '#kit/event-body.ts';
import type { Clock } from '#kit/clock.ts';
import type { TcpListen } from '#kit/link-endpoint.ts';
import { type LineConnection, type LineHandler, LineServer } from '#kit/line-server.ts';
import type { Log } from '#kit/log.ts';
import { headerOf, retryAfterOf } from './headers.ts';
import { Share } from './share.ts';
import type { Deliverer, Delivery, DeliveryResult } from './types.ts';

/** Connections at a time: as many as gateways, and those that are just being replaced. */
const MAX_CONNECTIONS = 256;
/** A gateway that does not read is cut off when so much waits for it, bytes. */
const MAX_UNSENT_BYTES = 8 * MAX_EVENTS_LINE_BYTES;
const HELLO_TIMEOUT_MS = 5_000;
/**
 * Deliveries of one gateway at a time, and their bodies, bytes: of one namespace half of it, which is all that the queue holds at a time
 * (MAX_HELD of queue.ts), and what triggers deliver beside it.
 */
const MAX_IN_FLIGHT = { count: 8_192, bytes: 128 * 1024 * 1024 };
/** A delivery waits for a gateway that is just being restarted, ms. */
const NO_GATEWAY_WAIT_MS = 3_000;
/** Then it is tried again after this, seconds. */
const NO_GATEWAY_RETRY_SECONDS = 2;

type Asked = Exclude<GatewayEventMessage, { type: 'hello' | 'delivered' | 'draining' }>;
export type Reply = (message: DispatcherMessage) => void;

export interface GatewaysOptions {
  path: string;
  gid: number | null;
  /** Where gateways of other hosts dial, beside the socket; null: nowhere. */
  tcp?: TcpListen | null | undefined;
  clock: Clock;
  log: Log;
  /** Answers what a gateway asks. Must not throw. */
  onAsked: (message: Asked, reply: Reply) => void;
  /** How long a delivery waits while no gateway is there, ms. */
  noGatewayWaitMs?: number;
}

interface InFlight {
  namespace: string;
  bytes: number;
  done: (result: DeliveryResult) => void;
}

class Gateway {
  /** Of its process. */
  readonly name: string;
  readonly connection: LineConnection;
  readonly inFlight = new Map<number, InFlight>();
  readonly #share = new Share(MAX_IN_FLIGHT);
  draining = false;
  #seq = 0;

  constructor(name: string, connection: LineConnection) {
    this.name = name;
    this.connection = connection;
  }

  /** One that is idle takes a delivery of any size. */
  takes({ namespace }: Delivery, bytes: number): boolean {
    if (this.draining) return false;
    return this.inFlight.size === 0 || this.#share.takes(namespace, bytes);
  }

  begin(delivery: Delivery, bytes: number, done: (result: DeliveryResult) => void): number {
    const seq = (this.#seq += 1);
    const { namespace } = delivery;
    this.inFlight.set(seq, { namespace, bytes, done });
    this.#share.add(namespace, bytes);
    this.connection.send({ type: 'deliver', seq, ...delivery } satisfies DispatcherMessage);
    return seq;
  }

  end(seq: number): InFlight | undefined {
    const one = this.inFlight.get(seq);
    if (one === undefined) return undefined;
    this.inFlight.delete(seq);
    this.#share.remove(one.namespace, one.bytes);
    return one;
  }
}

interface Waiting {
  delivery: Delivery;
  bytes: number;
  begin: (gateway: Gateway) => void;
}

export class Gateways implements Deliverer {
  readonly #options: GatewaysOptions;
  readonly #server: LineServer;
  readonly #gateways = new Set<Gateway>();
  /** Deliveries that no gateway has room for, by namespace, the first first: none waits behind another's. */
  readonly #waiting = new Map<string, Set<Waiting>>();

  constructor(options: GatewaysOptions) {
    this.#options = options;
    this.#server = new LineServer({
      listen: [{ kind: 'unix', path: options.path, gid: options.gid }, ...(options.tcp ? [options.tcp] : [])],
      peer: 'a gateway',
      maxConnections: MAX_CONNECTIONS,
      maxLineBytes: MAX_EVENTS_LINE_BYTES,
      maxUnsentBytes: MAX_UNSENT_BYTES,
      helloTimeoutMs: HELLO_TIMEOUT_MS,
      onConnection: (connection) => this.#accept(connection),
      log: options.log,
    });
  }

  async start(): Promise<void> {
    await this.#server.start();
  }

  /** Where it listens over TCP; null: nowhere. */
  get tcpAddress(): AddressInfo | null {
    return this.#server.tcpAddress;
  }

  /** What is in flight is lost with it. Idempotent. */
  async close(): Promise<void> {
    await this.#server.close();
  }

  get connected(): boolean {
    return this.#gateways.size > 0;
  }

  #accept(connection: LineConnection): LineHandler {
    let gateway: Gateway | null = null;
    return {
      onLine: (line) => {
        const message = GatewayEventMessage.parse(JSON.parse(line));
        if (gateway === null) {
          if (message.type !== 'hello') throw new Error(`the first message is ${message.type}, not hello`);
          const name = `${message.gateway}/${message.boot}`;
          connection.greeted(name);
          // It has dialled anew: of the connection before, nobody may have heard that it is gone.
          for (const other of this.#gateways) if (other.name === name) other.connection.close();
          gateway = new Gateway(name, connection);
          this.#gateways.add(gateway);
          connection.send({ type: 'welcome' } satisfies DispatcherMessage);
          this.#options.log.info({ gateway: name }, 'a gateway is connected');
          this.#next();
        } else if (message.type === 'hello') throw new Error('a second hello');
        else this.#receive(gateway, message);
      },
      onClose: () => {
        if (gateway !== null) this.#lost(gateway);
      },
    };
  }

  #receive(gateway: Gateway, message: Exclude<GatewayEventMessage, { type: 'hello' }>): void {
    if (message.type === 'draining') gateway.draining = true;
    else if (message.type === 'delivered') {
      // One that was abandoned may still be answered.
      gateway.end(message.seq)?.done(resultOf(message, this.#options.clock.wall()));
      this.#next();
    } else this.#options.onAsked(message, (reply) => gateway.connection.send(reply));
  }

  #lost(gateway: Gateway): void {
    this.#gateways.delete(gateway);
    const lost = [...gateway.inFlight.values()];
    gateway.inFlight.clear();
    if (lost.length > 0 || !gateway.draining) this.#options.log.warn({ gateway: gateway.name, inFlight: lost.length }, 'a gateway is gone');
    for (const { done } of lost) done(failed('instance-lost', 'The gateway that delivered it is gone: it may have run.'));
  }

  deliver(delivery: Delivery, signal?: AbortSignal): Promise<DeliveryResult> {
    return new Promise((resolve) => {
      if (signal?.aborted) {
        resolve(ABANDONED);
        return;
      }
      const { body } = delivery.request;
      const bytes = 'text' in body ? body.text.length : body.base64.length;
      let at: { gateway: Gateway; seq: number } | null = null;
      let cancelWait = () => {};
      const done = (result: DeliveryResult) => {
        cancelWait();
        this.#unwait(waiting);
        signal?.removeEventListener('abort', onAbort);
        resolve(result);
      };
      const onAbort = () => {
        if (at !== null && at.gateway.end(at.seq) !== undefined) {
          at.gateway.connection.send({ type: 'abandon', seq: at.seq } satisfies DispatcherMessage);
          this.#next();
        }
        done(ABANDONED);
      };
      const begin = (gateway: Gateway) => {
        cancelWait();
        this.#unwait(waiting);
        at = { gateway, seq: gateway.begin(delivery, bytes, done) };
      };
      const waiting: Waiting = { delivery, bytes, begin };
      signal?.addEventListener('abort', onAbort, { once: true });
      const behind = this.#waiting.get(delivery.namespace);
      const gateway = behind === undefined ? this.#leastBusy(delivery, bytes) : null;
      if (gateway !== null) begin(gateway);
      else {
        if (behind === undefined) this.#waiting.set(delivery.namespace, new Set([waiting]));
        else behind.add(waiting);
        cancelWait = this.#giveUpWithoutGateway(done);
      }
    });
  }

  /** While some gateway is connected a delivery waits for its room; with none it is given up after a while. */
  #giveUpWithoutGateway(done: (result: DeliveryResult) => void): () => void {
    const { clock, noGatewayWaitMs = NO_GATEWAY_WAIT_MS } = this.#options;
    let cancel = () => {};
    const look = () => {
      cancel = clock.after(noGatewayWaitMs, () => {
        if (this.connected) look();
        else done(failed('not-ready', 'No gateway is connected.', NO_GATEWAY_RETRY_SECONDS));
      });
    };
    look();
    return () => cancel();
  }

  #unwait(waiting: Waiting): void {
    const { namespace } = waiting.delivery;
    const line = this.#waiting.get(namespace);
    if (line?.delete(waiting) === true && line.size === 0) this.#waiting.delete(namespace);
  }

  #leastBusy(delivery: Delivery, bytes: number): Gateway | null {
    let best: Gateway | null = null;
    for (const gateway of this.#gateways)
      if (gateway.takes(delivery, bytes) && (best === null || gateway.inFlight.size < best.inFlight.size)) best = gateway;
    return best;
  }

  #next(): void {
    for (const line of this.#waiting.values()) {
      for (const waiting of line) {
        const gateway = this.#leastBusy(waiting.delivery, waiting.bytes);
        if (gateway === null) break;
        waiting.begin(gateway);
      }
    }
  }
}

const failed = (code: ErrorCode, detail: string, retryAfterSeconds: number | null = null): DeliveryResult => ({
  requestId: null,
  revision: null,
  response: null,
  problem: problem(code, detail),
  retryAfterSeconds,
  waitedMs: 0,
  ranMs: 0,
});

const ABANDONED = failed('instance-lost', 'It was abandoned.');

function resultOf(message: Extract<GatewayEventMessage, { type: 'delivered' }>, now: number): DeliveryResult {
  const { requestId, revision, response, retryAfterSeconds, waitedMs, ranMs } = message;
  const nothing = response === null && message.problem === null;
  return {
    requestId,
    revision,
    response: response === null ? null : { ...response, body: decodeBody(response.body) },
    problem: nothing ? problem('internal', 'The gateway told neither an answer nor a problem.') : message.problem,
    // The platform's; or what the function itself asks for.
    retryAfterSeconds: retryAfterSeconds ?? retryAfterOf(headerOf(response?.headers ?? [], 'retry-after'), now),
    waitedMs,
    ranMs,
  };
}
