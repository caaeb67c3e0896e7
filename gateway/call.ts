/** What is known of a request to a function: who asked for what, and, as it goes on, what became of it. */
import type { IncomingMessage } from 'node:http';
import type { StartInfo } from '#contract/link.ts';
import type { ClientConnection, ForwardContext, Outgoing } from './context.ts';
import { functionHeaders, type RequestHead } from './headers.ts';
import type { EndedCall } from './journal.ts';
import type { RouteMatch } from './routes.ts';
import { isSampled, type RequestTrace } from './trace.ts';

/** What a request begins with. */
export interface Asked {
  readonly context: ForwardContext;
  readonly connection: ClientConnection;
  readonly incoming: IncomingMessage;
  readonly outgoing: Outgoing;
  readonly match: RouteMatch;
  readonly head: RequestHead;
  readonly id: string;
  readonly expectsContinue: boolean;
}

export class Call implements EndedCall {
  readonly id: string;
  readonly arrivedAt: number;
  askedAt: number | null = null;
  sentAt: number | null = null;
  start: StartInfo | null = null;
  // As it is told at its end.
  instance: string | null = null;
  headAt: number | null = null;
  status = 0;
  problem: EndedCall['problem'] = null;
  traceparent: string | null = null;
  tries: { instance: string; why: string }[] | null = null;
  aborted = false;
  stream: EndedCall['stream'] = null;
  protected readonly context: ForwardContext;
  protected readonly connection: ClientConnection;
  protected readonly incoming: IncomingMessage;
  protected readonly outgoing: Outgoing;
  protected readonly head: RequestHead;
  /** By the routes as they were when it was last looked. */
  protected match: RouteMatch;
  #trace: RequestTrace | null = null;

  constructor({ context, connection, incoming, outgoing, match, head, id }: Asked) {
    this.context = context;
    this.connection = connection;
    this.incoming = incoming;
    this.outgoing = outgoing;
    this.match = match;
    this.head = head;
    this.id = id;
    this.arrivedAt = context.clock.now();
  }

  get namespace(): string {
    return this.match.entry.route.namespace;
  }

  get name(): string {
    return this.match.entry.route.name;
  }

  get revision(): string {
    return this.match.target.revision;
  }

  get method(): string {
    return this.incoming.method!;
  }

  get secure(): boolean {
    return this.connection.secure;
  }

  get path(): string {
    return this.incoming.url!;
  }

  /** Its trace, which begins when it is asked for first. */
  get trace(): RequestTrace {
    this.#trace ??= this.context.tracer.begin(this.head.traceparent);
    return this.#trace;
  }

  /** As a waiter: where the start belongs that it causes. */
  get cause(): string | undefined {
    const { tracer, traced } = this.context;
    return traced && isSampled(this.trace.flags) ? tracer.own(this.trace) : undefined;
  }

  /** What the instance is sent; `traceparent` is set before. */
  protected headersFor(instance: string, timeoutMs: number): string[] {
    const { clock, publicHost } = this.context;
    return functionHeaders(this.head, {
      requestId: this.id,
      instance,
      deadline: Math.round(clock.wall() + timeoutMs),
      remote: this.connection.remote,
      secure: this.connection.secure,
      prefix: this.match.prefix,
      fallbackHost: publicHost,
      traceparent: this.traceparent!,
      continued: this.trace.parent !== null,
    });
  }
}
