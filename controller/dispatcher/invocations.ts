/** Works on a claimed event of a function: delivers it, and says what is to become of it. */
import { MAX_RESULT_BYTES } from '#contract/events.ts';
import { encodeBody } from '#kit/event-body.ts';
import type { Clock } from '#kit/clock.ts';
import { type AttemptOutcome, type Verdict, verdictBefore, verdictOf } from '../core/events.ts';
import type { Claim, EventStore, Settlement } from '../store/events.ts';
import { type Onward, deadNotice, outcomesFor } from './destinations.ts';
import type { EventPolicy, FunctionTable } from './functions.ts';
import { headerOf, pickHeaders } from './headers.ts';
import { decodePayload, type EventPayload } from './payload.ts';
import type { Worked } from './queue.ts';
import { encodeResult, type Result, resultOf } from './result.ts';
import { outcomesOf } from './trigger-answer.ts';
import type { Deliverer, Delivery, DeliveryResult } from './types.ts';

/**
 * The gateway ends what takes too long by the function's own timeout, after it has waited for a slot. One that has stopped itself
 * says nothing: after so long beside the timeout it is not waited for any more, ms.
 */
const SILENT_GATEWAY_MS = 120_000;
/** Of a function that is not known any more, ms. */
const UNKNOWN_TIMEOUT_MS = 900_000;

export interface InvocationsOptions {
  store: Pick<EventStore, 'get'>;
  functions: FunctionTable;
  deliverer: Deliverer;
  /** What a deleted function of this name left is still being removed: what is given to it now would go along. */
  forgetting: (namespace: string, name: string) => boolean;
  clock: Clock;
  random: () => number;
}

const ATTEMPT_HEADER = 'ce-attempt';
const NOTHING: Worked = { settlement: null, pushedBack: false, forget: false };

/** The headers that it is delivered with: as they were kept, and the number of the attempt, which is ours to say. */
export function deliveredHeaders(payload: EventPayload, attempt: number): string[] {
  // A client's CloudEvent in structured mode says all in its body.
  if (headerOf(payload.headers, 'ce-specversion') === null) return payload.headers;
  const others = pickHeaders(payload.headers, (name) => name !== ATTEMPT_HEADER);
  return [...others, ATTEMPT_HEADER, String(attempt)];
}

/** What a queue's function says in its answer of the event itself counts, too. */
function outcomeOf(payload: EventPayload, result: DeliveryResult): AttemptOutcome {
  const { response, problem, retryAfterSeconds } = result;
  const [said] = payload.kind === 'queue' ? outcomesOf(result, [headerOf(payload.headers, 'ce-id') ?? '']).outcomes : [];
  return said ?? { status: response?.status ?? null, problem, retryAfterSeconds, itemFailed: false };
}

export class Invocations {
  readonly #options: InvocationsOptions;

  constructor(options: InvocationsOptions) {
    this.#options = options;
  }

  async work(claim: Claim, signal: AbortSignal): Promise<Worked> {
    const { clock, functions, random, store } = this.#options;
    const { event } = claim;
    const { namespace, name } = event;
    const policy = functions.policy(namespace, name, event.trigger);
    const payload = decodePayload(event.payload);
    const { attempts, deliveries } = claim;
    const { expiresAt } = event;
    const lastError = clock.wall() < expiresAt ? null : ((await store.get(claim.id))?.error ?? null);
    const early = verdictBefore({ deliveries, attempts, expiresAt, lastError, at: clock.wall() });
    const nobody = { requestId: null, revision: null, response: null };
    if (early !== null) return { ...NOTHING, settlement: this.#dead(claim, payload, policy, early, nobody) };
    const result = await this.#deliver(
      {
        namespace,
        name,
        revision: payload.revision,
        kind: payload.kind,
        request: {
          method: payload.method,
          path: payload.path,
          headers: deliveredHeaders(payload, attempts + 1),
          body: encodeBody(payload.body),
        },
        traceparent: payload.traceparent,
        maxResponseBytes: MAX_RESULT_BYTES,
      },
      signal,
    );
    if (signal.aborted) return NOTHING;
    const at = clock.wall();
    const known = functions.get(namespace, name) !== null;
    const verdict = verdictOf({ outcome: outcomeOf(payload, result), attempts, expiresAt, policy, known, at, chance: random() });
    return this.#worked(claim, payload, policy, verdict, result);
  }

  async #deliver(delivery: Delivery, signal: AbortSignal): Promise<DeliveryResult> {
    const { clock, functions, deliverer } = this.#options;
    const timeoutMs = functions.get(delivery.namespace, delivery.name)?.timeoutMs ?? UNKNOWN_TIMEOUT_MS;
    const silent = new AbortController();
    const cancel = clock.after(timeoutMs + SILENT_GATEWAY_MS, () => silent.abort());
    try {
      return await deliverer.deliver(delivery, AbortSignal.any([signal, silent.signal]));
    } finally {
      cancel();
    }
  }

  #worked(claim: Claim, payload: EventPayload, policy: EventPolicy, verdict: Verdict, result: DeliveryResult): Worked {
    switch (verdict.verdict) {
      case 'forget':
        return { ...NOTHING, forget: true };
      case 'succeeded':
        return { ...NOTHING, settlement: this.#succeeded(claim, payload, policy, result) };
      case 'retry': {
        const { dueAt, counted, error } = verdict;
        const settlement: Settlement = { ...this.#base(claim, result), outcome: 'retry', dueAt, counted, error };
        return { ...NOTHING, settlement, pushedBack: !counted };
      }
      case 'dead':
        return { ...NOTHING, settlement: this.#dead(claim, payload, policy, verdict, result), pushedBack: !verdict.counted };
    }
  }

  #base(claim: Claim, { requestId, revision }: Pick<DeliveryResult, 'requestId' | 'revision'>) {
    return { id: claim.id, fence: claim.fence, at: this.#options.clock.wall(), attempt: { request: requestId, revision } };
  }

  #onward({ event }: Claim, { maxAgeMs }: EventPolicy): Onward {
    const { functions, forgetting } = this.#options;
    const { namespace } = event;
    return { maxAgeMs, there: (name) => functions.get(namespace, name) !== null && !forgetting(namespace, name) };
  }

  #succeeded(claim: Claim, payload: EventPayload, policy: EventPolicy, answered: DeliveryResult): Settlement {
    const base = this.#base(claim, answered);
    const result = answered.response === null ? null : resultOf(answered.response);
    const following = outcomesFor(
      {
        event: claim.event,
        payload,
        state: 'succeeded',
        attempts: claim.attempts + 1,
        reason: null,
        error: null,
        result,
        request: base.attempt.request,
        revision: base.attempt.revision,
        at: base.at,
      },
      policy.onSuccess,
      this.#onward(claim, policy),
    );
    return { ...base, outcome: 'succeeded', ...kept(result, base.at + policy.resultMs, policy.resultMs > 0), following };
  }

  #dead(
    claim: Claim,
    payload: EventPayload,
    policy: EventPolicy,
    { reason, counted, error }: Extract<Verdict, { verdict: 'dead' }>,
    answered: Pick<DeliveryResult, 'requestId' | 'revision' | 'response'>,
  ): Settlement {
    const base = this.#base(claim, answered);
    const result = answered.response === null ? null : resultOf(answered.response);
    const ended = {
      event: claim.event,
      payload,
      state: 'failed' as const,
      attempts: claim.attempts + (counted ? 1 : 0),
      reason,
      error,
      result,
      request: base.attempt.request,
      revision: base.attempt.revision,
      at: base.at,
    };
    const onward = this.#onward(claim, policy);
    const following = outcomesFor(ended, policy.onFailure, onward);
    if (policy.deadLetter !== null) following.push(deadNotice(ended, policy.deadLetter, onward));
    // Where it goes to a queue of somebody's own, it is not kept in the function's: it would be there twice.
    const keptUntil = policy.deadLetter === null ? base.at + policy.deadLetterMs : base.at;
    return { ...base, outcome: 'dead', reason, counted, error, ...kept(result, keptUntil, true), following };
  }
}

function kept(result: Result | null, keptUntil: number, keep: boolean) {
  return {
    result: result === null || !keep ? null : encodeResult(result),
    resultInfo: result === null ? null : { status: result.status, bytes: result.body.length, truncated: result.truncated },
    keptUntil,
  };
}
