/**
 * One try of a request on one instance: the undici handler. It holds the slot and the connection, and
 * tells its owner what came of it. What undici still says after `leave` is not listened to.
 */
import type { Duplex } from 'node:stream';
import type { Client, Dispatcher } from 'undici';
import { HEADERS, Refusal } from '#contract/runtime.ts';
import type { HeldLease } from './demand.ts';
import { causeOfBadResponse } from './failures.ts';
import { MAX_INFORMATIONAL } from './headers.ts';
import type { LeaseTable } from './leases.ts';
import type { Upstream } from './upstream.ts';

/** Body of a refusal; past it the connection is cut. */
const MAX_REFUSAL_BYTES = 4_096;

/** Whose request it is. Each ending (`on…` but onSending, onHead, onData and onRefused) is told once. */
export interface AttemptOwner {
  /** There is a connection, and the request goes out on it. */
  onSending(): void;
  /** The final head. False where it cannot be passed on: then the owner has left the attempt. */
  onHead(status: number, statusText: string | undefined, headers: Record<string, string | string[] | undefined>): boolean;
  onData(controller: Dispatcher.DispatchController, chunk: Buffer): void;
  /** It answered 101: the connection is the owner's. The slot stays taken until `leave`. */
  onUpgrade(headers: Record<string, string | string[] | undefined>, socket: Duplex): void;
  /** The response is complete. */
  onEnd(): void;
  /** It broke after its head. */
  onCut(error: Error): void;
  /** The instance does not take it; the rest of its answer is still to come, then onNotTaken. */
  onRefused(why: Refusal): void;
  /** No instance has worked on it: it may be sent to another. With the error where there was no connection. */
  onNotTaken(error: Error | null): void;
  /** The connection broke while the instance worked on it. */
  onLost(error: Error): void;
  /** What came is no response. */
  onBadResponse(detail: string): void;
}

/** What is sent. */
export type AttemptRequest = Pick<Dispatcher.DispatchOptions, 'method' | 'path' | 'headers' | 'body' | 'upgrade'>;

export class Attempt implements Dispatcher.DispatchHandler {
  readonly lease: HeldLease<Upstream>;
  readonly #owner: AttemptOwner;
  readonly #upstream: Upstream;
  readonly #leases: LeaseTable<Upstream>;
  #client: Client | null;
  #controller: Dispatcher.DispatchController | null = null;
  #state: 'sent' | 'refused' | 'answering' | 'over' = 'sent';
  #holdsSlot = true;
  #informational = 0;
  #refusalBytes = 0;

  constructor(owner: AttemptOwner, lease: HeldLease<Upstream>, leases: LeaseTable<Upstream>) {
    this.#owner = owner;
    this.lease = lease;
    this.#leases = leases;
    this.#upstream = lease.instance.connection;
    this.#client = this.#upstream.acquire();
  }

  send(request: AttemptRequest): void {
    this.#client!.dispatch(request, this);
  }

  /** Lets go of instance and slot, at whatever point it is. Idempotent. */
  leave(serviceMs?: number): void {
    const running = this.#state !== 'over';
    this.#state = 'over';
    const controller = this.#controller;
    this.#controller = null;
    // Without a controller it waits for a connection: onRequestStart aborts it when there is one.
    if (running && controller !== null) {
      controller.abort(new Error('the request is over'));
      this.#releaseClient();
    }
    this.#releaseSlot(serviceMs);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.#state !== 'sent' || this.#controller !== null) {
      // The client has gone while a connection was made; or undici would send it a second time.
      controller.abort(new Error('the request is over'));
      return;
    }
    this.#controller = controller;
    this.#owner.onSending();
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
    statusText?: string,
  ): void {
    if (this.#state !== 'sent') return;
    if (status < 200) {
      // 102 and 103 are hints that need not be passed on.
      if (++this.#informational > MAX_INFORMATIONAL) this.#owner.onBadResponse(`more than ${MAX_INFORMATIONAL} informational responses`);
      return;
    }
    if (status === 503 && Refusal.options.some((kind) => kind === headers[HEADERS.refused])) {
      this.#state = 'refused';
      this.#owner.onRefused(headers[HEADERS.refused] as Refusal);
      return;
    }
    if (this.#owner.onHead(status, statusText, headers)) this.#state = 'answering';
  }

  onRequestUpgrade(
    _controller: Dispatcher.DispatchController,
    _status: number,
    headers: Record<string, string | string[] | undefined>,
    socket: Duplex,
  ): void {
    if (this.#over() === 'sent') this.#owner.onUpgrade(headers, socket);
    else socket.destroy();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#state === 'answering') {
      this.#owner.onData(controller, chunk);
    } else if (this.#state === 'refused') {
      this.#refusalBytes += chunk.length;
      if (this.#refusalBytes > MAX_REFUSAL_BYTES) controller.abort(new Error('a refusal with a long body'));
    }
  }

  onResponseEnd(): void {
    const state = this.#over();
    if (state === 'refused') this.#owner.onNotTaken(null);
    else if (state === 'answering') this.#owner.onEnd();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    const sent = this.#controller !== null;
    const state = this.#over();
    if (state === 'refused') this.#owner.onNotTaken(null);
    else if (state === 'answering') this.#owner.onCut(error);
    else if (state === 'sent' && !sent) this.#owner.onNotTaken(error);
    else if (state === 'sent') this.#failed(error);
  }

  #failed(error: Error): void {
    const bad = causeOfBadResponse(error);
    if (bad === null) this.#owner.onLost(error);
    else this.#owner.onBadResponse(bad);
  }

  /** undici is done with it: the connection is free. The slot is the owner's to give back, with `leave`. */
  #over(): 'sent' | 'refused' | 'answering' | 'over' {
    const state = this.#state;
    this.#state = 'over';
    this.#controller = null;
    this.#releaseClient();
    return state;
  }

  #releaseSlot(serviceMs?: number): void {
    if (!this.#holdsSlot) return;
    this.#holdsSlot = false;
    this.#leases.free(this.lease, serviceMs);
  }

  /** Before the slot: whoever takes that next finds the connection. */
  #releaseClient(): void {
    const client = this.#client;
    this.#client = null;
    if (client !== null) this.#upstream.release(client);
  }
}
