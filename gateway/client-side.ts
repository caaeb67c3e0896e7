/**
 * A client's side of its request: its turn on the connection, whether it may come in, its body, and the
 * answers that are the gateway's own. What is done with it is its owner's: it goes to an instance
 * (forward.ts) or to the dispatcher (event-request.ts).
 */
import { IncomingMessage } from 'node:http';
import { type ErrorCode, problem } from '#contract/errors.ts';
import { addHeaders } from './added-headers.ts';
import { Admission } from './admission.ts';
import { type BodyOwner, RequestBody } from './body.ts';
import type { FailOptions } from './call.ts';
import {
  type ClientConnection,
  type ClientRequest,
  type ClientResponse,
  closeRequest,
  type ForwardContext,
  type OpenRequest,
} from './context.ts';
import type { RequestHead } from './headers.ts';
import type { ProblemAnswer } from './problems.ts';
import { type Asker, replyProblem } from './replies.ts';
import type { RouteMatch } from './routes.ts';
import { serverTiming, type Timing } from './timing.ts';

/** What a request begins with. */
export interface Asked {
  readonly context: ForwardContext;
  readonly connection: ClientConnection;
  readonly incoming: ClientRequest;
  readonly outgoing: ClientResponse;
  readonly match: RouteMatch;
  readonly head: RequestHead;
  readonly id: string;
  readonly expectsContinue: boolean;
}

export interface ClientOwner extends Timing {
  readonly match: RouteMatch;
  /** Is a response under way, or over? */
  readonly answering: boolean;
  /** By the routes as they are now; false where it has ended it, as the function is gone. */
  resolve(): boolean;
  /** It is its turn on the connection. */
  onTurn(): void;
  /** It may come in. */
  onAdmitted(): void;
  /** Its body is here, where `collect` was asked for. */
  onCollected(): void;
  fail(code: ErrorCode, detail: string, options?: FailOptions): void;
  /** Answers with a problem, and ends it. */
  refuse(answer: ProblemAnswer): void;
  /** The connection is gone, or the answer is complete. */
  onClientGone(): void;
}

/** Where it comes from. The fast path takes a request with all of it. */
const bodyOf = (incoming: ClientRequest): IncomingMessage | Buffer => (incoming instanceof IncomingMessage ? incoming : incoming.body!);

export class ClientSide implements OpenRequest, BodyOwner {
  readonly context: ForwardContext;
  readonly connection: ClientConnection;
  readonly incoming: ClientRequest;
  readonly outgoing: ClientResponse;
  readonly head: RequestHead;
  readonly id: string;
  readonly body: RequestBody | null;
  readonly expectsContinue: boolean;
  readonly #owner: ClientOwner;
  readonly #maxBodyBytes: number;
  #continued = false;
  /** Null where nothing was to be asked. */
  #admission: Admission | null = null;

  /** Of bodies up to `keepBytes` all is kept. */
  constructor(asked: Asked, owner: ClientOwner, limits: { maxBodyBytes: number; keepBytes: number }) {
    const { context, connection, incoming, outgoing, head } = asked;
    this.context = context;
    this.connection = connection;
    this.incoming = incoming;
    this.outgoing = outgoing;
    this.head = head;
    this.id = asked.id;
    this.expectsContinue = asked.expectsContinue;
    this.#owner = owner;
    this.#maxBodyBytes = limits.maxBodyBytes;
    this.body = head.contentLength > 0 || head.chunked ? new RequestBody(bodyOf(incoming), this, context.wheel, limits) : null;
  }

  get received(): boolean {
    return this.body === null || this.incoming.complete;
  }

  get answered(): boolean {
    return !this.connection.open.has(this);
  }

  get answering(): boolean {
    return this.#owner.answering;
  }

  begin(): void {
    const { open, pipelined } = this.connection;
    open.add(this);
    this.connection.last = this;
    this.outgoing.watchedBy(this);
    if (open.size === 1) this.#turn();
    // What it is for may have changed while those before it were answered.
    else
      pipelined.push(() => {
        if (this.#owner.resolve()) this.#turn();
      });
  }

  #turn(): void {
    if (this.context.draining) this.outgoing.shouldKeepAlive = false;
    this.#owner.onTurn();
  }

  /** Asks whether it may come in; without `authenticated`: by its rates and limits alone. */
  admit(authenticated = true): void {
    const { gatekeeper } = this.context;
    const { entry } = this.#owner.match;
    if (gatekeeper.open(entry, authenticated)) {
      this.#admitted();
      return;
    }
    this.#admission = new Admission(gatekeeper, entry.route.namespace, authenticated);
    this.#admission.ask(entry, this.head, this.connection.remote, (denial) => {
      // Its token may have taken a while to check, and the routes may be others by now.
      if (denial !== null) this.#owner.refuse({ ...denial, problem: problem(denial.code, denial.detail) });
      else if (this.#owner.resolve()) this.#admitted();
    });
  }

  #admitted(): void {
    if (this.head.contentLength > this.#maxBodyBytes) this.onTooLarge();
    else this.#owner.onAdmitted();
  }

  /** Tells a client that waits for it to send its body. */
  proceed(): void {
    if (!this.expectsContinue || this.#continued) return;
    this.#continued = true;
    this.outgoing.writeContinue();
  }

  /** The request is over: it counts no more. */
  leave(): void {
    this.#admission?.leave();
  }

  /** Sets the headers that the function is configured to say with every answer. */
  addFunctions(flat: string[]): void {
    const { connection, head } = this;
    addHeaders(flat, this.#owner.match, head.forward, connection.secure || head.forwardedProto === 'https');
  }

  asker(now: number): Asker {
    const { id, incoming, outgoing, body, context } = this;
    return { id, incoming, outgoing, body, now, serverTiming: serverTiming(this.#owner, now), draining: context.draining };
  }

  /** Answers with a problem. The head must not be out. */
  problem(answer: ProblemAnswer & FailOptions, headers: string[]): void {
    const readRest = answer.broken !== true && (!this.expectsContinue || this.#continued);
    replyProblem(this.asker(this.context.clock.now()), { ...answer, headers }, readRest);
  }

  /** It has left the list of what the connection waits for. */
  closed(): void {
    closeRequest(this.connection, this);
  }

  // As a request of the connection.

  breakOff(code: ErrorCode, detail: string): void {
    this.#owner.fail(code, detail, { close: true, broken: true });
  }

  onClose(): void {
    this.#owner.onClientGone();
    // After a complete answer the rest of the body may still be read: see RequestBody.discard.
    if (!this.outgoing.writableFinished) this.body?.abandon();
    this.closed();
  }

  // As the owner of its body.

  onCollected(): void {
    this.#owner.onCollected();
  }

  onTooLarge(): void {
    this.#owner.fail('body-too-large', `the body is over ${this.#maxBodyBytes} bytes`, { close: true });
  }

  onTooSlow(): void {
    this.#owner.fail('request-timeout', 'the body came too slowly', { close: true });
  }
}
