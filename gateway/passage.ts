/**
 * A call on its way to an instance: slot → instance → response, and to another instance where one did not take it. It
 * is the waiter in the queue and the entry on the wheel at once, so that a warm call makes few objects;
 * each try on an instance is an Attempt. What comes before and after is of those who extend it: the client's
 * requests (forward.ts), and events (delivery.ts).
 *
 * What may be sent twice: a request that no instance has seen (no connection), and one that an
 * instance refused before user code ran, as far as its body is still held. Nothing else ever.
 */
import type { Duplex } from 'node:stream';
import type { StartInfo } from '#contract/call.ts';
import type { Problem } from '#contract/errors.ts';
import type { Refusal } from '#contract/runtime.ts';
import { Attempt, type AttemptOwner, type Flow } from './attempt.ts';
import { Call } from './call.ts';
import type { Cause, HeldLease, Waiter } from './demand.ts';
import { lossOf } from './failures.ts';
import { ConnectError } from './instance-connection.ts';
import type { Place } from './queue.ts';
import type { InstanceRequest } from './request-writer.ts';
import { isSampled } from './trace.ts';
import type { Upstream } from './upstream.ts';
import type { WheelEntry, WheelSlot } from './wheel.ts';

/** Instances that one call is tried on, before 503. */
export const MAX_ATTEMPTS = 10;

export type Phase = 'arriving' | 'waiting' | 'sent' | 'answering' | 'asking-why' | 'done';

export abstract class Passage extends Call implements Waiter<Upstream>, AttemptOwner, WheelEntry {
  wheel: WheelSlot | null = null;
  place: Place | null = null;
  giveUpAt = 0;
  protected phase: Phase = 'arriving';
  protected attempt: Attempt | null = null;
  #attempts = 0;
  #refusal: Refusal | null = null;

  /** What is sent to this instance; `traceparent` is set before. */
  protected abstract requestFor(instance: string, now: number): InstanceRequest;
  abstract onFail(reason: Problem, retryAfterSeconds: number | undefined): void;
  abstract onSending(): void;
  abstract onHead(status: number, reason: string, headers: string[]): boolean;
  abstract onData(flow: Flow, chunk: Buffer): void;
  abstract onQuiet(): void;
  abstract onUpgrade(headers: string[], socket: Duplex): void;
  abstract onEnd(): void;
  abstract onCut(error: Error): void;

  /** Can all of its body that was sent be sent again? */
  protected get replayable(): boolean {
    return true;
  }

  /** As a waiter: where the start belongs that it causes. */
  get cause(): string | undefined {
    const { tracer, traced } = this.context;
    return traced && isSampled(this.trace.flags) ? tracer.own(this.trace) : undefined;
  }

  /** Asks for a slot; `again`: it had its turn, and was refused by an instance. */
  protected acquire(again: boolean): void {
    const { clock, wheel, leases, queueTimeoutMs } = this.context;
    const { target } = this.match;
    if (this.askedAt === null) {
      this.askedAt = clock.now();
      this.giveUpAt = this.askedAt + queueTimeoutMs;
    }
    this.phase = 'waiting';
    const acquired = leases.acquire(this, target, again);
    if (acquired === 'waiting') wheel.set(this, this.giveUpAt);
    else if (acquired === 'queue-full') this.fail(acquired, 'too many requests wait for an instance');
    else if (acquired === 'too-many-requests')
      this.fail(acquired, `all ${target.maxSlots} slots of the function are in use, and its queue is full`);
    else this.onLease(acquired, null);
  }

  onLease(lease: HeldLease<Upstream>, start: StartInfo | null): void {
    const { clock, wheel, leases, tracer } = this.context;
    if (start !== null) this.start = start;
    const now = clock.now();
    this.phase = 'sent';
    this.sentAt = now;
    this.#attempts++;
    this.instance = lease.instance.id;
    this.traceparent = tracer.next(this.trace);
    wheel.set(this, now + this.match.target.timeoutMs);
    const request = this.requestFor(lease.instance.id, now);
    const attempt = new Attempt(this, lease, leases);
    this.attempt = attempt;
    attempt.send(request);
  }

  onReroute(): void {
    if (this.resolve()) this.acquire(false);
  }

  onRefused(why: Refusal): void {
    this.#refusal = why;
    this.context.leases.refused(this.attempt!.lease, why);
  }

  /** To another instance, by the route as it is now. */
  onNotTaken(error: Error | null): void {
    if (error instanceof ConnectError && !error.own) this.context.leases.instances.suspect(this.attempt!.lease.instance, error.message);
    (this.tries ??= []).push({ instance: this.instance!, why: error === null ? `refused: ${this.#refusal}` : error.message });
    this.sentAt = null;
    this.context.wheel.cancel(this);
    this.leaveAttempt();
    if (this.#attempts >= MAX_ATTEMPTS) {
      this.fail('no-capacity', `${this.#attempts} instances in a row could not take the request`);
    } else if (!this.replayable) {
      this.fail('no-capacity', 'the instance could not take the request, and its body is too long to be sent to another');
    } else if (this.resolve()) {
      this.acquire(true);
    }
  }

  onLost(error: Error): void {
    const { instance } = this.attempt!.lease;
    this.phase = 'asking-why';
    this.context.wheel.cancel(this);
    this.context.leases.instances.why(instance, (cause: Cause | null) => {
      if (this.phase !== 'asking-why') return;
      const { code, detail } = lossOf(cause, error);
      this.fail(code, detail);
    });
    this.leaveAttempt();
  }

  onBadResponse(detail: string): void {
    this.fail('function-bad-response', detail);
  }

  onDeadline(): void {
    if (this.phase === 'waiting') this.fail('queue-timeout', `no instance became free within ${this.context.queueTimeoutMs} ms`);
    else if (this.phase === 'sent' || this.phase === 'answering') this.overran();
  }

  /** The function had its time. The controller ends its instance, unless it is not at fault. */
  protected overran(atFault = true): void {
    const { match, attempt, context, id } = this;
    if (atFault) context.leases.instances.timedOut(attempt!.lease.instance, id);
    this.fail('function-timeout', `the function did not finish within ${match.target.timeoutMs} ms`);
  }

  /** Lets go of place, instance, slot and deadline: it is over. */
  protected letGo(serviceMs?: number): void {
    if (this.phase === 'waiting') this.context.leases.cancel(this, this.match.target.revision);
    this.phase = 'done';
    this.context.wheel.cancel(this);
    this.leaveAttempt(serviceMs);
  }

  protected leaveAttempt(serviceMs?: number): void {
    const attempt = this.attempt;
    this.attempt = null;
    attempt?.leave(serviceMs);
  }

  protected ended(now: number): void {
    this.context.calls.ended(this, now);
  }
}
