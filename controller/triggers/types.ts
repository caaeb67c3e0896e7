/**
 * The port of a source: where a trigger's messages come from. An adapter speaks to its broker and knows nothing of
 * functions, attempts or batches: those are the runner's (controller/dispatcher/). It is loaded, and with
 * it its client library, when a trigger of its type is there. All adapters pass test/conformance/trigger.suite.ts.
 */
import type { Destination } from '#contract/events.ts';
import type { BrokerTrigger } from '#contract/trigger.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';

/** One message that was taken and is not acknowledged. */
export interface SourceMessage {
  /** Stable: the same when it is delivered again. CloudEvents `id`. */
  readonly id: string;
  /** CloudEvents `source`, `type` and `subject`: `redis://host/stream`, `fn.redis-stream`, … */
  readonly source: string;
  readonly type: string;
  readonly subject: string | null;
  /** When it was sent, milliseconds since 1970; null: the broker does not tell. */
  readonly time: number | null;
  readonly contentType: string | null;
  readonly data: Uint8Array;
  /** Extension attributes of the CloudEvent: names of lower-case letters and digits. Those of a CloudEvent that came by the broker are kept as they are. */
  readonly extensions: Readonly<Record<string, string>>;
  /** Deliveries so far by the broker's own count, this one included; 1 where it has none. */
  readonly deliveries: number;
  /** Messages with the same key must be done one after the other; null: in any order. (Kafka: the partition.) */
  readonly orderKey: string | null;
}

export interface Source {
  /**
   * Waits for at least one message, and returns at most `max`; none after `waitMs`. Aborted: none. What was returned is
   * the caller's until it acknowledges or releases it. Throws where the broker cannot be reached or refuses: the
   * runner then waits and calls again, and the adapter connects anew by itself.
   */
  receive(max: number, waitMs: number, signal: AbortSignal): Promise<SourceMessage[]>;
  /** Done: the broker may forget them. Resolves when it has. Throws where that is not sure: they may come again. */
  ack(messages: readonly SourceMessage[]): Promise<void>;
  /** Back to the broker, to be delivered again, also to others; as soon as it can. */
  release(messages: readonly SourceMessage[]): Promise<void>;
  /** They are still being worked on: the broker is not to give them to others. Called about every `touchEveryMs`. */
  touch(messages: readonly SourceMessage[]): Promise<void>;
  /** null: nothing is to be touched. */
  readonly touchEveryMs: number | null;
  /** Messages that wait, those that are taken not counted; null: it does not tell. */
  lag(): Promise<number | null>;
  /** Releases what is not acknowledged, and ends the connection. Idempotent. */
  close(): Promise<void>;
}

/** Refuses to dial what must not be dialled. Resolves with the address to dial (an IP), as for a host of `network: public`. */
export type ResolveHost = (host: string, port: number) => Promise<{ host: string; servername: string | undefined }>;

export interface SourceOptions<T extends BrokerTrigger = BrokerTrigger> {
  /** References to secrets are filled in; `sasl.password` is then the password itself. */
  trigger: T;
  namespace: string;
  name: string;
  /** Tells this installation's consumers from others'. */
  installation: string;
  /** Tells this process's consumer from another's. */
  consumer: string;
  resolve: ResolveHost;
  clock: Clock;
  log: Log;
}

/** Opens the source of a trigger; connects by itself, and again. Does not throw because the broker is away. */
export type OpenSource<T extends BrokerTrigger = BrokerTrigger> = (options: SourceOptions<T>) => Promise<Source>;

/** A message to be sent to a destination: a CloudEvent. */
export interface OutgoingEvent {
  /** CloudEvents attributes: specversion, id, source, type, time, subject, datacontenttype, extensions. */
  attributes: Readonly<Record<string, string>>;
  data: Uint8Array;
}

/** Brings events to a broker; kept open while it is used. */
export interface Publisher {
  /** Resolves when the broker has confirmed it. Throws where that is not sure. */
  publish(event: OutgoingEvent): Promise<void>;
  close(): Promise<void>;
}
export type BrokerDestination = Exclude<Destination, { type: 'function' | 'webhook' }>;
export interface PublisherOptions<D extends BrokerDestination = BrokerDestination> {
  destination: D;
  resolve: ResolveHost;
  clock: Clock;
  log: Log;
}
export type OpenPublisher<D extends BrokerDestination = BrokerDestination> = (options: PublisherOptions<D>) => Promise<Publisher>;
