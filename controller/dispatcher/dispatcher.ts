/** The dispatcher: the parts of it, put together. What it is told by the controller comes in here; see docs/events.md. */
import type { Clock } from '#kit/clock.ts';
import type { TcpListen } from '#kit/link-endpoint.ts';
import type { Log } from '#kit/log.ts';
import type { EventStore } from '../store/events.ts';
import { Front } from './front.ts';
import { FunctionTable } from './functions.ts';
import { Gateways } from './gateways.ts';
import { Intake } from './intake.ts';
import { Invocations } from './invocations.ts';
import { messageOf } from './ownership.ts';
import { type PublisherAdapters, Publishers } from './publishers.ts';
import { Questions } from './questions.ts';
import { EventQueue } from './queue.ts';
import { resolverFor } from './resolve.ts';
import { Sends } from './sends.ts';
import type { ControllerToDispatcher, FunctionEventStats, TriggerHost, Triggers } from './types.ts';

/** How often what is kept no longer is removed, ms; and again at once while there is more. */
const PRUNE_EVERY_MS = 30_000;
/** Rows of one transaction. */
const PRUNE_CHUNK = 1_000;
/** Between two of them, so that what is accepted meanwhile does not wait, ms. */
const PRUNE_PAUSE_MS = 50;

export type DispatcherConfig = Extract<ControllerToDispatcher, { type: 'config' }>;
export type DispatcherChange = Extract<ControllerToDispatcher, { type: 'change' }>;

export interface DispatcherOptions {
  store: EventStore;
  /** Socket that gateways dial, and the group that may. */
  path: string;
  gid: number | null;
  /** Where gateways of other hosts dial, beside the socket; null: nowhere. */
  tcp?: TcpListen | null | undefined;
  createTriggers: (host: TriggerHost) => Triggers;
  publishers: PublisherAdapters;
  clock: Clock;
  log: Log;
  random?: () => number;
}

export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #functions = new FunctionTable();
  readonly #queue: EventQueue;
  readonly #gateways: Gateways;
  readonly #publishers: Publishers;
  readonly #sends: Sends;
  readonly #intake: Intake;
  #triggers: Triggers | null = null;
  readonly questions: Questions;
  #cancelPrune: () => void = () => {};
  #closing: Promise<void> | null = null;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    const { store, clock, log, path, gid, tcp, publishers, random = Math.random } = options;
    const functions = this.#functions;
    this.#publishers = new Publishers({ adapters: publishers, clock, log });
    const enqueue = (event: Parameters<Intake['enqueue']>[0]) => this.#intake.enqueue(event);
    this.#sends = new Sends({ functions, publishers: this.#publishers, enqueue, clock, random });
    // Both are made below, before anything is claimed.
    const deliver: Gateways['deliver'] = (...args) => this.#gateways.deliver(...args);
    const connected = () => this.#gateways.connected;
    const deliverer = {
      deliver,
      get connected() {
        return connected();
      },
    };
    const forgetting = (namespace: string, name: string): boolean => this.#queue.forgetting(namespace, name);
    const invocations = new Invocations({ store, functions, deliverer, forgetting, clock, random });
    this.#queue = new EventQueue({
      store,
      functions,
      clock,
      log,
      work: (claim, lane, signal) => (lane.sends ? this.#sends.work(claim) : invocations.work(claim, signal)),
    });
    this.#intake = new Intake({ store, queue: this.#queue, functions, clock });
    const triggers = {
      status: async (namespace: string, name: string) => (this.#triggers === null ? {} : this.#triggers.status(namespace, name)),
      webhook: async (message: Parameters<Triggers['webhook']>[0]) => this.#started().webhook(message),
    };
    this.questions = new Questions({ store, queue: this.#queue, functions, triggers, clock });
    const front = new Front({ functions, intake: this.#intake, questions: this.questions, triggers, clock, log });
    this.#gateways = new Gateways({ path, gid, tcp, clock, log, onAsked: (message, reply) => front.asked(message, reply) });
  }

  /** Resolves when it listens and may claim: while the store is away it waits, and refuses what gateways bring. */
  async start({ installation, owner, retired, functions, secrets }: DispatcherConfig): Promise<void> {
    this.#functions.set(functions);
    this.#functions.setSecrets(secrets);
    this.#triggers = this.#options.createTriggers(this.#host(installation, owner));
    await this.#gateways.start();
    await this.#queue.start(owner, retired);
    // As they are by now: changes may have come while the store was away.
    this.#triggers.apply([...this.#functions.all], []);
    this.#prune(0);
  }

  #started(): Triggers {
    if (this.#triggers === null) throw new Error('the dispatcher has not been told of its functions');
    return this.#triggers;
  }

  #host(installation: string, consumer: string): TriggerHost {
    const { store, clock, log } = this.#options;
    const functions = this.#functions;
    return {
      installation,
      consumer,
      clock,
      log,
      deliverer: this.#gateways,
      store: {
        addDead: async (letters) => {
          for (const { event } of letters) this.#queue.checkForgotten(event);
          return await store.addDead(letters);
        },
        getState: (key) => store.getState(key),
        putState: (key, value) => store.putState(key, value),
        deleteState: (prefix) => store.deleteState(prefix),
      },
      enqueue: (events) => {
        const { lanes } = this.#queue;
        return Promise.all(
          events.map((event) => this.#intake.enqueue({ ...event, lane: lanes.laneFor(event.namespace, event.name, event.trigger) })),
        );
      },
      fill: (namespace, trigger) => functions.fill(namespace, trigger),
      secret: (namespace, name) => functions.secret(namespace, name),
      resolveFor: ({ networks }) => resolverFor(networks),
      publish: (of, destination, event) => this.#sends.publish(of, destination, event),
    };
  }

  change({ set, remove, secrets }: DispatcherChange): void {
    const changed = this.#functions.setSecrets(secrets);
    // One that is in both was deleted and made anew.
    for (const { namespace, name, deleted } of remove) {
      this.#functions.remove(namespace, name);
      if (deleted) void this.#queue.forget(namespace, name);
    }
    this.#functions.set(set);
    this.#triggers?.apply(set, remove);
    if (changed.size > 0) this.#triggers?.secretsChanged(changed);
  }

  #prune(inMs: number): void {
    const { store, clock, log } = this.#options;
    this.#cancelPrune = clock.after(inMs, () => {
      void store.prune(clock.wall(), PRUNE_CHUNK).then(
        (count) => {
          if (this.#closing === null) this.#prune(count >= PRUNE_CHUNK ? PRUNE_PAUSE_MS : PRUNE_EVERY_MS);
        },
        (error: unknown) => {
          log.warn({ error: messageOf(error) }, 'what is kept no longer cannot be removed now');
          if (this.#closing === null) this.#prune(PRUNE_EVERY_MS);
        },
      );
    });
  }

  /** What each function's events are like now. */
  stats(): FunctionEventStats[] {
    return this.#queue.lanes.stats();
  }

  /** Since when nothing waits, runs or is triggered, milliseconds since 1970; null: something does. */
  get idleSince(): number | null {
    if (this.#triggers?.active || this.#queue.held > 0) return null;
    for (const lane of this.#queue.lanes.all) if (!lane.empty) return null;
    return this.#queue.activeAt;
  }

  /** Takes no more; what runs may end within `graceMs`, the rest is left to the next dispatcher. Idempotent. */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    this.#cancelPrune();
    await Promise.all([this.#triggers?.close(graceMs), this.#queue.close(graceMs)]);
    await Promise.all([this.#gateways.close(), this.#publishers.close()]);
    await this.#options.store.close();
  }
}
