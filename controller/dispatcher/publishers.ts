/** Connections to the brokers of destinations: one for each destination, opened when it is needed, closed when it is not any more. */
import type { Destination } from '#contract/events.ts';
import { shortHash } from '#kit/ids.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { BrokerDestination, OpenPublisher, OutgoingEvent, Publisher, PublisherOptions, ResolveHost } from '../triggers/types.ts';
import { messageOf } from './ownership.ts';

/** One that was not used for so long is closed, ms. */
const IDLE_MS = 60_000;
/** At a time; the one that was not used for longest makes room. */
const MAX_OPEN = 64;
/** A broker confirms within this, or is taken for not having it, ms. */
const PUBLISH_TIMEOUT_MS = 15_000;

type BrokerType = BrokerDestination['type'];
type BrokerOf<Type extends BrokerType> = Extract<BrokerDestination, { type: Type }>;
/** Each is loaded, with its client library, when the first event is sent to a destination of its type. */
export type PublisherAdapters = { [Type in BrokerType]: () => Promise<{ openPublisher: OpenPublisher<BrokerOf<Type>> }> };

/** The type stands beside the destination so that the compiler knows that both are of one kind. */
async function openOf<Type extends BrokerType>(
  adapters: PublisherAdapters,
  type: Type,
  options: PublisherOptions<BrokerOf<Type>>,
): Promise<Publisher> {
  const { openPublisher } = await adapters[type]();
  return openPublisher(options);
}

interface Open {
  publisher: Promise<Publisher>;
  inUse: number;
  usedAt: number;
}

export interface PublishersOptions {
  adapters: PublisherAdapters;
  clock: Clock;
  log: Log;
}

export class Publishers {
  readonly #options: PublishersOptions;
  readonly #open = new Map<string, Open>();
  #cancel: () => void;

  constructor(options: PublishersOptions) {
    this.#options = options;
    this.#cancel = this.#schedule();
  }

  /** Resolves when the broker has confirmed it. Throws where that is not sure. `networks` tells resolvers apart. */
  async publish(destination: BrokerDestination, networks: string[] | null, resolve: ResolveHost, event: OutgoingEvent): Promise<void> {
    const key = shortHash(JSON.stringify([destination, networks]), 32);
    const open = this.#open.get(key) ?? this.#begin(key, destination, resolve);
    open.inUse += 1;
    try {
      await this.#within(open.publisher.then((publisher) => publisher.publish(event)));
    } catch (error) {
      // A connection that failed is not trusted any more: the next one dials anew, and resolves anew.
      if (this.#open.get(key) === open) this.#end(key, open);
      throw error;
    } finally {
      open.inUse -= 1;
      open.usedAt = this.#options.clock.now();
    }
  }

  #begin(key: string, destination: BrokerDestination, resolve: ResolveHost): Open {
    const { adapters, clock, log } = this.#options;
    if (this.#open.size >= MAX_OPEN) this.#makeRoom();
    const publisher = openOf(adapters, destination.type, { destination, resolve, clock, log });
    const made: Open = { publisher, inUse: 0, usedAt: clock.now() };
    this.#open.set(key, made);
    return made;
  }

  #makeRoom(): void {
    const idle = [...this.#open].filter(([, open]) => open.inUse === 0).sort(([, a], [, b]) => a.usedAt - b.usedAt)[0];
    if (idle === undefined) throw new Error(`${MAX_OPEN} connections to brokers are in use`);
    this.#end(...idle);
  }

  async #within<T>(work: Promise<T>): Promise<T> {
    let cancel = () => {};
    const late = new Promise<never>((_resolve, reject) => {
      cancel = this.#options.clock.after(PUBLISH_TIMEOUT_MS, () => reject(new Error(`not confirmed within ${PUBLISH_TIMEOUT_MS} ms`)));
    });
    return Promise.race([work, late]).finally(cancel);
  }

  #end(key: string, open: Open): void {
    this.#open.delete(key);
    void this.#close(open);
  }

  async #close({ publisher }: Open): Promise<void> {
    try {
      await (await publisher).close();
    } catch (error) {
      this.#options.log.debug({ error: messageOf(error) }, 'the connection of a destination did not close in order');
    }
  }

  #schedule(): () => void {
    return this.#options.clock.after(IDLE_MS / 2, () => {
      for (const [key, open] of this.#open) if (open.inUse === 0 && this.#options.clock.now() - open.usedAt > IDLE_MS) this.#end(key, open);
      this.#cancel = this.#schedule();
    });
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#cancel();
    const open = [...this.#open.values()];
    this.#open.clear();
    await Promise.all(open.map((one) => this.#close(one)));
  }
}

export const isBroker = (destination: Destination): destination is BrokerDestination =>
  destination.type !== 'function' && destination.type !== 'webhook';
