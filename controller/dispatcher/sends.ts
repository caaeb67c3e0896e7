/** Sends events to destinations: those that wait in a function's lane for it, and those that triggers give up. */
import { createHash } from 'node:crypto';
import { FnError } from '#contract/errors.ts';
import type { Destination, EventError } from '#contract/events.ts';
import { type Clock, timeOfDay } from '#kit/clock.ts';
import { type RetryPolicy, retryDelayMs, verdictBefore } from '../core/events.ts';
import type { Claim, EnqueueOutcome, NewEvent, Settlement } from '../store/events.ts';
import type { OutgoingEvent } from '../triggers/types.ts';
import { addressedEvent } from './destinations.ts';
import type { EventPolicy, FunctionTable } from './functions.ts';
import { outgoingOf } from './outcome-event.ts';
import { messageOf } from './ownership.ts';
import { decodePayload } from './payload.ts';
import { isBroker, type Publishers } from './publishers.ts';
import type { Worked } from './queue.ts';
import { resolverFor } from './resolve.ts';
import { PostRefused, postSigned } from './signed-post.ts';
import type { FunctionEvents } from './types.ts';

/** A destination is tried at least so often: with the usual pauses that is some hours. */
export const MIN_SEND_ATTEMPTS = 15;
/** What triggers give to a function is known by its id for so long, ms. */
const DEDUP_MS = 86_400_000;
/** Longest that is kept of what a destination said, characters. */
const MAX_DETAIL = 1_000;

export interface SendsOptions {
  functions: FunctionTable;
  publishers: Publishers;
  enqueue: (event: NewEvent) => Promise<EnqueueOutcome>;
  clock: Clock;
  random: () => number;
}

export class Sends {
  readonly #options: SendsOptions;

  constructor(options: SendsOptions) {
    this.#options = options;
  }

  /** Resolves when the destination has confirmed it. Throws where that is not sure. */
  async publish(of: FunctionEvents, destination: Destination, event: OutgoingEvent): Promise<void> {
    if (destination.type === 'function') await this.#toFunction(of, destination, event);
    else await this.#send(of, destination, event);
  }

  async #toFunction(of: FunctionEvents, destination: Extract<Destination, { type: 'function' }>, event: OutgoingEvent): Promise<void> {
    const { functions, enqueue, clock } = this.#options;
    const { namespace } = of;
    const { name } = destination;
    if (functions.get(namespace, name) === null)
      throw new FnError('function-not-found', `The destination ${name} of ${of.name} is no function of ${namespace}.`);
    const at = clock.wall();
    const expiresAt = at + functions.policy(namespace, name, null).maxAgeMs;
    const made = addressedEvent({ namespace, name: of.name, destination, event, traceparent: null, at, expiresAt, there: () => true });
    const { source = '', id = '' } = event.attributes;
    const key = createHash('sha256').update(`${of.name}\n${source}\n${id}`).digest('base64url');
    // No client's Idempotency-Key has a space in it: none can take the place of what is given up.
    await enqueue({ ...made, dedup: { key: `publish ${key}`, fingerprint: key, until: at + DEDUP_MS } });
  }

  async #send(of: FunctionEvents, given: Exclude<Destination, { type: 'function' }>, event: OutgoingEvent): Promise<void> {
    const { functions, publishers, clock } = this.#options;
    const { namespace, networks } = of;
    const destination = functions.fill(namespace, given);
    const resolve = resolverFor(networks);
    if (isBroker(destination)) {
      await publishers.publish(destination, networks, resolve, event);
      return;
    }
    const secret = destination.secret === null ? null : functions.secret(namespace, destination.secret);
    await postSigned({ url: destination.url, secret, event, resolve, at: timeOfDay(clock) });
  }

  /** Works on a claimed event of a lane of sends. */
  async work(claim: Claim): Promise<Worked> {
    const { functions, clock } = this.#options;
    const { event, attempts, deliveries } = claim;
    const { namespace, name, expiresAt } = event;
    const of = functions.get(namespace, name);
    // The function was deleted: nobody is to hear of it any more.
    if (of === null) return { settlement: null, pushedBack: false, forget: true };
    const policy = functions.policy(namespace, name, null);
    const payload = decodePayload(event.payload);
    const early = verdictBefore({ deliveries, attempts, expiresAt, lastError: null, at: clock.wall() });
    if (early !== null) return this.#worked(this.#undeliverable(claim, policy, early.error, false));
    if (payload.destination === undefined) {
      const detail = 'It was stored without where it is to be sent.';
      return this.#worked(this.#undeliverable(claim, policy, { code: 'internal', detail, status: null }, true));
    }
    try {
      await this.publish(of, payload.destination, outgoingOf(payload));
    } catch (error) {
      return this.#worked(this.#failed(claim, policy, error));
    }
    const settlement: Settlement = { ...this.#base(claim), outcome: 'succeeded', result: null, resultInfo: null, keptUntil: clock.wall() };
    return this.#worked(settlement);
  }

  #worked(settlement: Settlement): Worked {
    return { settlement, pushedBack: false, forget: false };
  }

  #base(claim: Claim) {
    return { id: claim.id, fence: claim.fence, at: this.#options.clock.wall(), attempt: { request: null, revision: null } };
  }

  #failed(claim: Claim, policy: EventPolicy, cause: unknown): Settlement {
    const base = this.#base(claim);
    const refused = cause instanceof PostRefused ? cause : null;
    const code = cause instanceof FnError ? cause.code : 'destination-failed';
    const error: EventError = { code, detail: messageOf(cause).slice(0, MAX_DETAIL), status: refused?.status ?? null };
    const retry: RetryPolicy = { ...policy, maxAttempts: Math.max(MIN_SEND_ATTEMPTS, policy.maxAttempts) };
    const asked = (refused?.retryAfterSeconds ?? 0) * 1_000;
    const dueAt = base.at + Math.max(Math.min(asked, policy.retryMaxMs), retryDelayMs(claim.attempts + 1, retry, this.#options.random()));
    if (claim.attempts + 1 >= retry.maxAttempts || dueAt >= claim.event.expiresAt) return this.#undeliverable(claim, policy, error, true);
    return { ...base, outcome: 'retry', dueAt, counted: true, error };
  }

  #undeliverable(claim: Claim, policy: EventPolicy, error: EventError, counted: boolean): Settlement {
    const base = this.#base(claim);
    const keptUntil = base.at + policy.deadLetterMs;
    return { ...base, outcome: 'dead', reason: 'undeliverable', error, counted, result: null, resultInfo: null, keptUntil };
  }
}
