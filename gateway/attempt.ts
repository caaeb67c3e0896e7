/**
 * One try of a request on one instance: who waits for the response. It holds the slot and the
 * connection, and tells its owner what came of it.
 */
import type { Duplex } from 'node:stream';
import { HEADERS, Refusal } from '#contract/runtime.ts';
import type { HeldLease } from './demand.ts';
import { causeOfBadResponse } from './failures.ts';
import { valueOf } from './flat-headers.ts';
import { MAX_INFORMATIONAL } from './headers.ts';
import type { InstanceConnection, ResponseHandler } from './instance-connection.ts';
import type { LeaseTable } from './leases.ts';
import type { InstanceRequest } from './request-writer.ts';
import type { Upstream } from './upstream.ts';

/** Body of a refusal; past it the connection is cut. */
const MAX_REFUSAL_BYTES = 4_096;

/** Whose request it is. Each ending (`on…` but onSending, onHead, onData and onRefused) is told once. */
export interface AttemptOwner {
  /** There is a connection, and the request goes out on it. */
  onSending(): void;
  /** The final head: headers are lower-case name, value, …. False where it cannot be passed on: then the owner has left the attempt. */
  onHead(status: number, reason: string, headers: string[]): boolean;
  /** Of the body. Good only until it returns: the memory is used again. */
  onData(flow: Flow, chunk: Buffer): void;
  /** Of what is here, all was told: head, and body so far. */
  onQuiet(): void;
  /** It answered 101: the connection is the owner's. The slot stays taken until `leave`. */
  onUpgrade(headers: string[], socket: Duplex): void;
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

/** Back-pressure of a response. */
export interface Flow {
  pause(): void;
  resume(): void;
}

export class Attempt implements ResponseHandler, Flow {
  readonly lease: HeldLease<Upstream>;
  readonly #owner: AttemptOwner;
  readonly #upstream: Upstream;
  readonly #leases: LeaseTable<Upstream>;
  #connection: InstanceConnection | null = null;
  /** Has it gone out? */
  #sent = false;
  #state: 'sent' | 'refused' | 'answering' | 'over' = 'sent';
  #holdsSlot = true;
  #informational = 0;
  #refusalBytes = 0;

  constructor(owner: AttemptOwner, lease: HeldLease<Upstream>, leases: LeaseTable<Upstream>) {
    this.#owner = owner;
    this.lease = lease;
    this.#leases = leases;
    this.#upstream = lease.instance.connection;
  }

  send(request: InstanceRequest): void {
    const connection = this.#upstream.acquire(request.upgrade !== null);
    this.#connection = connection;
    connection.send(request, this);
  }

  /** Lets go of instance and slot, at whatever point it is. Idempotent. */
  leave(serviceMs?: number): void {
    this.#state = 'over';
    const connection = this.#connection;
    if (connection !== null) {
      connection.abort();
      this.#releaseConnection();
    }
    this.#releaseSlot(serviceMs);
  }

  pause(): void {
    this.#connection?.pause();
  }

  resume(): void {
    this.#connection?.resume();
  }

  onSending(): void {
    this.#sent = true;
    this.#owner.onSending();
  }

  onHead(status: number, reason: string, headers: string[]): void {
    if (this.#state !== 'sent') return;
    if (status < 200) {
      // 102 and 103 are hints that need not be passed on.
      if (++this.#informational > MAX_INFORMATIONAL) this.#owner.onBadResponse(`more than ${MAX_INFORMATIONAL} informational responses`);
      return;
    }
    if (status === 503) {
      const refused = Refusal.safeParse(valueOf(headers, HEADERS.refused));
      if (refused.success) {
        this.#state = 'refused';
        this.#owner.onRefused(refused.data);
        return;
      }
    }
    if (this.#owner.onHead(status, reason, headers)) this.#state = 'answering';
  }

  onUpgrade(headers: string[], socket: Duplex): void {
    if (this.#over() === 'sent') this.#owner.onUpgrade(headers, socket);
    else socket.destroy();
  }

  onData(chunk: Buffer): void {
    if (this.#state === 'answering') {
      this.#owner.onData(this, chunk);
    } else if (this.#state === 'refused') {
      this.#refusalBytes += chunk.length;
      if (this.#refusalBytes > MAX_REFUSAL_BYTES) this.#connection?.close(new Error('a refusal with a long body'));
    }
  }

  onQuiet(): void {
    if (this.#state === 'answering') this.#owner.onQuiet();
  }

  onEnd(): void {
    const state = this.#over();
    if (state === 'refused') this.#owner.onNotTaken(null);
    else if (state === 'answering') this.#owner.onEnd();
  }

  onError(error: Error): void {
    const sent = this.#sent;
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

  /** The connection is free. The slot is the owner's to give back, with `leave`. */
  #over(): 'sent' | 'refused' | 'answering' | 'over' {
    const state = this.#state;
    this.#state = 'over';
    this.#releaseConnection();
    return state;
  }

  #releaseSlot(serviceMs?: number): void {
    if (!this.#holdsSlot) return;
    this.#holdsSlot = false;
    this.#leases.free(this.lease, serviceMs);
  }

  /** Before the slot: whoever takes that next finds the connection. */
  #releaseConnection(): void {
    const connection = this.#connection;
    this.#connection = null;
    if (connection !== null) this.#upstream.release(connection);
  }
}
