/** What the parts of the dispatcher are to each other, and what the controller says to it. */
import type {
  AsyncSettings,
  DeadLetterCount,
  DeadLetterDetail,
  DeadLetterList,
  DeadLetterQuery,
  DeadLetterSelection,
  InvocationList,
  InvocationQuery,
  InvocationView,
} from '#contract/events.ts';
import type { EventKind, EventRequest } from '#contract/events-link.ts';
import type { Problem } from '#contract/errors.ts';
import type { GatewayEventMessage } from '#contract/events-link.ts';
import type { Trigger, TriggerStatus } from '#contract/trigger.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { EnqueueOutcome, EventStore, NewEvent } from '../store/events.ts';
import type { OutgoingEvent, ResolveHost } from '../triggers/types.ts';
import type { Destination } from '#contract/events.ts';

/** All that the dispatcher needs to know of a function. */
export interface FunctionEvents {
  namespace: string;
  name: string;
  async: AsyncSettings;
  /** As they are stored: references to secrets are not filled in. */
  triggers: Trigger[];
  /** Requests at a time that all of its instances can take: max × slots. */
  maxSlots: number;
  /** Those of one instance: calls at a time that need no second one. */
  instanceSlots: number;
  timeoutMs: number;
  /** Where its triggers and destinations may dial beside public addresses; null: anywhere. */
  networks: string[] | null;
}

/** What is delivered. Times out by itself: the gateway's deadlines are the function's. */
export interface Delivery {
  namespace: string;
  name: string;
  revision: string | null;
  kind: EventKind;
  request: EventRequest;
  traceparent: string | null;
  maxResponseBytes: number;
}

/** What came of it. Exactly one of `response` and `problem` is there. */
export interface DeliveryResult {
  /** x-request-id of it; null: it never reached a gateway, or nobody knows. */
  requestId: string | null;
  revision: string | null;
  response: { status: number; headers: string[]; body: Buffer; truncated: boolean } | null;
  problem: Problem | null;
  retryAfterSeconds: number | null;
  waitedMs: number;
  ranMs: number;
}

/** Brings deliveries to functions, through the gateways that are connected. */
export interface Deliverer {
  /**
   * Never rejects: that no gateway is there (`not-ready`), that its link broke meanwhile (`instance-lost`: it may have run) and that
   * it was aborted are results too.
   */
  deliver(delivery: Delivery, signal?: AbortSignal): Promise<DeliveryResult>;
  /** Whether a gateway is connected. */
  readonly connected: boolean;
}

/** What the API asks of the dispatcher, through the controller. Each throws FnError as the API shows it. */
export interface EventQuestions {
  listInvocations(namespace: string, name: string, query: InvocationQuery): Promise<InvocationList>;
  getInvocation(namespace: string, name: string, id: string): Promise<InvocationView>;
  /** Base64, with status and headers. Throws invocation-not-found where none is kept. */
  getResult(namespace: string, name: string, id: string): Promise<{ status: number; headers: string[]; body: string }>;
  /** Throws conflict where it is over. */
  cancelInvocation(namespace: string, name: string, id: string): Promise<InvocationView>;
  listDeadLetters(namespace: string, name: string, query: DeadLetterQuery): Promise<DeadLetterList>;
  getDeadLetter(namespace: string, name: string, id: string): Promise<DeadLetterDetail>;
  redrive(namespace: string, name: string, selection: DeadLetterSelection): Promise<DeadLetterCount>;
  purge(namespace: string, name: string, selection: DeadLetterSelection): Promise<DeadLetterCount>;
  /** By trigger name. */
  triggerStatus(namespace: string, name: string): Promise<Record<string, TriggerStatus>>;
  /** Of a function: what waits, runs, is dead. */
  backlog(namespace: string, name: string): Promise<EventBacklog>;
}

export interface EventBacklog {
  waiting: number;
  running: number;
  dead: number;
  /** Of the oldest that is due, milliseconds since 1970; null: none is. */
  oldestAt: number | null;
}

/** Controller → dispatcher, over the channel that Node makes for a child process. */
export type ControllerToDispatcher =
  /** First of all, and whole. `retired`: owners that are known to be dead; their claims are free at once. */
  | { type: 'config'; installation: string; owner: string; retired: string[]; functions: FunctionEvents[]; secrets: SecretTexts }
  | { type: 'change'; set: FunctionEvents[]; remove: { namespace: string; name: string; deleted: boolean }[]; secrets: SecretTexts }
  | {
      [Name in keyof EventQuestions]: { type: 'ask'; seq: number; question: Name; args: Parameters<EventQuestions[Name]> };
    }[keyof EventQuestions]
  /** Ends in order: takes no more, lets what runs end within `graceMs`, releases the rest. */
  | { type: 'drain'; graceMs: number };

/** `NAMESPACE/NAME` of each secret that triggers and destinations refer to → its value. Whole, each time. */
export type SecretTexts = Record<string, string>;

/** How often the dispatcher says that it is well, ms. */
export const BEAT_MS = 2_000;

/** Dispatcher → controller. */
export type DispatcherToController =
  /** It listens for gateways, and its store is open. */
  | { type: 'ready' }
  /** Every BEAT_MS, whatever there is to do: one that is not heard is taken for hung, and ended. */
  | { type: 'beat' }
  | { type: 'answer'; seq: number; value: unknown }
  | { type: 'problem'; seq: number; problem: Problem; retryAfterSeconds: number | null }
  /** Nothing has been enqueued, claimed or triggered for a while, and nothing waits: it may be ended. */
  | { type: 'idle'; since: number }
  /** Counters for /metrics and status, about once a second while something changes. */
  | { type: 'stats'; functions: FunctionEventStats[] };

export interface FunctionEventStats extends EventBacklog {
  namespace: string;
  name: string;
  succeeded: number;
  /** Attempts. */
  failed: number;
  deadLettered: number;
}

/** What triggers get of the dispatcher. */
export interface TriggerHost {
  readonly installation: string;
  /** Tells this dispatcher's consumers from another's: its owner name. */
  readonly consumer: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly deliverer: Deliverer;
  readonly store: Pick<EventStore, 'addDead' | 'getState' | 'putState' | 'deleteState'>;
  /**
   * Events for the functions' own lanes: durable when it resolves, and their queues are woken. Throws FnError backlog-full,
   * store-unavailable.
   */
  enqueue(events: readonly NewEvent[]): Promise<EnqueueOutcome[]>;
  /** With its secrets filled in. Throws FnError secret-not-found. */
  fill<T extends Trigger>(namespace: string, trigger: T): T;
  /** The value of a secret. Throws FnError secret-not-found. */
  secret(namespace: string, name: string): string;
  /** Where triggers of this function may dial. */
  resolveFor(of: FunctionEvents): ResolveHost;
  /** Sends an event to a destination; resolves when that has confirmed it. Throws where that is not sure. */
  publish(of: FunctionEvents, destination: Destination, event: OutgoingEvent): Promise<void>;
}

/** All triggers of all functions. */
export interface Triggers {
  /** Starts, changes and ends triggers, so that they are as the functions say. What is in flight of one that has changed ends first. */
  apply(set: readonly FunctionEvents[], remove: readonly { namespace: string; name: string; deleted: boolean }[]): void;
  /** The value of a secret has changed: those that need it begin anew. */
  secretsChanged(names: ReadonlySet<string>): void;
  status(namespace: string, name: string): Promise<Record<string, TriggerStatus>>;
  /** A webhook came in: checks it and accepts it. Does not throw: what is wrong is in the answer. */
  webhook(message: Extract<GatewayEventMessage, { type: 'webhook' }>): Promise<{ status: number; headers: string[]; body: Buffer }>;
  /** Whether a trigger runs at all: then the dispatcher is not idle. */
  readonly active: boolean;
  /** Takes no more; what is in flight may end within `graceMs`. Idempotent. */
  close(graceMs: number): Promise<void>;
}
