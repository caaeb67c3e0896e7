/**
 * The event store port: what was accepted and is not over, what became of it, and dead letters. Every
 * write has reached the disk (or Redis, as durable as that is configured) when its promise resolves.
 * SQLite and Redis implement it; both pass test/conformance/event-store.suite.ts. Times are milliseconds
 * since 1970 and always given by the caller, so that a test can say what time it is.
 *
 * **Lanes.** An event waits in a lane: `NAMESPACE/NAME` for the invocations of a function,
 * `NAMESPACE/NAME>` for what is to be sent to its destinations. A lane of one function delays no other.
 *
 * **Claims.** Who works on an event has claimed it in the name of an *owner*: a dispatcher process,
 * which beats. Each claim raises the event's fence; whoever settles it must bring the fence that he was given, or
 * is told `fenced` and nothing happens. An owner that has not beaten for its time loses all of its claims.
 *
 * **At least once.** An event leaves the store only by `settle`, `cancel` and `purge`.
 */
import type { DeadLetterView, EventError, InvocationState } from '#contract/events.ts';

/** A page of dead letters ends early where their payloads are together longer, bytes: a thousand of the longest would be a GiB. */
export const MAX_LISTED_BYTES = 33_554_432;

export interface NewEvent {
  /** EventId, made by the caller. One that is there already is left as it is: what a client re-sends makes no duplicate. */
  id: string;
  /** It belongs to one function: to the one of the first event in it. */
  lane: string;
  namespace: string;
  name: string;
  /** Trigger that brought it; null: it was called. */
  trigger: string | null;
  /**
   * Of all events of the namespace, function and trigger, one with this key is made, until `until`: a second one is told the first one's
   * id. `fingerprint` is of what was asked for: another one with the same key is a mismatch.
   */
  dedup: { key: string; fingerprint: string; until: number } | null;
  /** Events of a lane with the same key are claimed one at a time, in the order in which they were enqueued; also while one of them waits for its next attempt. */
  orderKey: string | null;
  createdAt: number;
  /** Not claimed before. */
  dueAt: number;
  /** For its view; the store does not act by it. */
  expiresAt: number;
  /** What is to be sent: opaque to the store. */
  payload: Uint8Array;
}

export type EnqueueOutcome =
  | { outcome: 'enqueued'; id: string; claim: Claim | null }
  /** The one that is there: by `dedup`, or (with its own id) by id. */
  | { outcome: 'duplicate'; id: string }
  | { outcome: 'mismatch'; id: string };

export interface Claim {
  id: string;
  fence: number;
  /**
   * Claims of it so far, this one included: of workers that died, too. What is settled as `released`, or as `retry` that does not
   * count, is taken off again: so what is above `attempts` is the number of workers that were lost with it.
   */
  deliveries: number;
  /** Attempts that failed and counted. */
  attempts: number;
  /** Set by the first attempt that is settled as `retry`: the time of the first claim. */
  firstAt: number;
  event: NewEvent;
}

export interface Finished {
  /** The function's answer, opaque to the store; null: none is kept. */
  result: Uint8Array | null;
  /** For the view, with it. */
  resultInfo: { status: number; bytes: number; truncated: boolean } | null;
  /** Until when state and result are kept. */
  keptUntil: number;
}

export interface AttemptInfo {
  request: string | null;
  revision: string | null;
}

export type Settlement = { id: string; fence: number; at: number; attempt: AttemptInfo } & (
  | ({ outcome: 'succeeded' } & Finished)
  /** Again at `dueAt`. `counted`: the attempt counts (the platform's own failures do not). The claim ends. */
  | { outcome: 'retry'; dueAt: number; counted: boolean; error: EventError }
  /** It is a dead letter until `keptUntil`, and its state `failed`. */
  | ({ outcome: 'dead'; reason: DeadLetterView['reason']; error: EventError; counted: boolean } & Finished)
  /** It goes back as it was: nobody worked on it. */
  | { outcome: 'released' }
) & {
    /** Enqueued in the same transaction: what goes to destinations. */
    following?: NewEvent[];
  };

/** An event as it is kept: for views. */
export interface StoredEvent {
  event: NewEvent;
  state: InvocationState;
  fence: number;
  attempts: number;
  deliveries: number;
  request: string | null;
  revision: string | null;
  error: EventError | null;
  resultInfo: { status: number; bytes: number; truncated: boolean } | null;
  finishedAt: number | null;
  keptUntil: number | null;
}

/** A dead letter that was never an event of ours: a broker's message. The same (lane, trigger, message) twice is one. */
export interface NewDeadLetter {
  event: NewEvent;
  /** Id of the message in its broker. */
  message: string;
  reason: DeadLetterView['reason'];
  error: EventError;
  attempts: number;
  request: string | null;
  deadAt: number;
  keptUntil: number;
}

export interface StoredDeadLetter extends Omit<NewDeadLetter, 'message'> {
  message: string | null;
}

export interface DeadLetterFilter {
  namespace: string;
  name: string;
  trigger?: string | undefined;
}

export interface LaneInfo {
  lane: string;
  namespace: string;
  name: string;
  /** Queued and retrying, due or not. */
  waiting: number;
  claimed: number;
  /** Earliest `dueAt` of those that may be claimed then: what waits for its order key does not count. null: there is none. */
  nextAt: number | null;
  /** The same, where that is due; else null. */
  oldestAt: number | null;
  dead: number;
}

export interface EventStore {
  /** Takes part under this name until it beats no more. Throws FnError store-unavailable. */
  join(owner: string, until: number): Promise<void>;
  /** False: it was taken for dead, and its claims are others'. It must not go on under this name. */
  beat(owner: string, until: number): Promise<boolean>;
  /** Ends an owner, and frees its claims at once: who is known to be dead, or leaves. Idempotent. Returns how many. */
  leave(owner: string, at: number): Promise<number>;
  /** Frees the claims of owners whose time is over. Returns how many. */
  expire(at: number): Promise<number>;

  /**
   * False: new events are not to be enqueued, and dead letters of brokers are refused, for the room that is left is needed to work
   * off what is there. Does not throw.
   */
  hasRoom(): boolean;
  /**
   * All that are given in one transaction, in this order. With `claimFor`, those that are due at `at` and whose order key is
   * free are claimed at once for that owner. Throws FnError store-unavailable: then none of them is there.
   */
  enqueue(events: readonly NewEvent[], at: number, claimFor?: string): Promise<EnqueueOutcome[]>;
  /** Claims what is due: of each lane the earliest, at most `limit`. Lanes with nothing due are left out. Throws FnError not-leader where `owner` has been taken for dead. */
  claim(owner: string, lanes: readonly { lane: string; limit: number }[], at: number): Promise<Claim[]>;
  /** Each by itself `settled` or `fenced`; all in one transaction. One that was cancelled meanwhile is `fenced`. */
  settle(settlements: readonly Settlement[]): Promise<('settled' | 'fenced')[]>;

  get(id: string): Promise<StoredEvent | null>;
  /** null: none is kept. */
  result(id: string): Promise<Uint8Array | null>;
  /** `cancelled`; or its state where it is over already. One that runs is fenced, so what it does comes to nothing. null: there is none. */
  cancel(id: string, at: number, keptUntil: number): Promise<InvocationState | null>;
  /** Of a function (also of its triggers, not what goes to its destinations), the newest first. Their payloads are left out. */
  list(namespace: string, name: string, query: { state?: InvocationState | undefined; limit: number }): Promise<StoredEvent[]>;
  /** Every lane that has something in it, dead letters included. */
  lanes(at: number): Promise<LaneInfo[]>;

  /** Idempotent by (lane, trigger, message). Returns the id that it has. */
  addDead(letters: readonly NewDeadLetter[]): Promise<string[]>;
  /**
   * The newest first; `before` is the id of one of them (none is older than one that is gone). Fewer than `limit` where they are large
   * (MAX_LISTED_BYTES): only an empty page is past the end.
   */
  listDead(filter: DeadLetterFilter, query: { before?: string | undefined; limit: number }): Promise<StoredDeadLetter[]>;
  countDead(filter: DeadLetterFilter): Promise<number>;
  getDead(id: string): Promise<StoredDeadLetter | null>;
  /**
   * Makes a dead letter an event again, with its own id, no attempts, due at `at`, and the new `expiresAt`. In its lane it is the newest.
   * Returns those that were there.
   */
  redrive(ids: readonly string[], at: number, expiresAt: number): Promise<string[]>;
  /** Removes dead letters for good. Returns those that were there. */
  purge(ids: readonly string[]): Promise<string[]>;

  /** Removes ended events and dead letters that are kept no longer, and keys of `dedup` whose time is over; at most `limit` of each. Returns how many. */
  prune(at: number, limit: number): Promise<number>;
  /** Of a function that was deleted: all that waits, is claimed, is dead or is over, so that the next one of its name has none of it. Returns how many. */
  forget(namespace: string, name: string): Promise<number>;

  /** Small texts that must last: when a schedule fired last. */
  getState(key: string): Promise<string | null>;
  putState(key: string, value: string): Promise<void>;
  /** Those that begin with `prefix`. */
  deleteState(prefix: string): Promise<void>;

  /** Idempotent. */
  close(): Promise<void>;
}
