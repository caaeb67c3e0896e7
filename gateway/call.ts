/** What is known of a call of a function: who asked for what, and, as it goes on, what became of it. */
import type { StartInfo } from '#contract/call.ts';
import type { ErrorCode } from '#contract/errors.ts';
import type { EventKind } from '#contract/events-link.ts';
import type { ForwardContext } from './context.ts';
import type { Desk } from './desk.ts';
import type { EndedCall } from './journal.ts';
import type { RouteMatch } from './routes.ts';
import type { RequestTrace } from './trace.ts';

/** `close`: the connection of the client cannot be used on. `broken`: what it sent within its body was not HTTP. */
export interface FailOptions {
  close?: boolean;
  broken?: boolean;
}

export abstract class Call implements EndedCall {
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
  /** By the routes as they were when it was last looked. */
  match: RouteMatch;
  protected readonly context: ForwardContext;
  #trace: RequestTrace | null = null;

  constructor(context: ForwardContext, match: RouteMatch, id: string) {
    this.context = context;
    this.match = match;
    this.id = id;
    this.arrivedAt = context.clock.now();
  }

  abstract get method(): string;
  abstract get path(): string;
  abstract get secure(): boolean;
  /** What it is an event of; null: a client waits for the answer. */
  abstract get event(): EventKind | null;
  /** The traceparent that it came with. */
  protected abstract get incomingTrace(): string | undefined;

  /** Ends it with a problem. Nothing happens where it is over. */
  abstract fail(code: ErrorCode, detail: string, options?: FailOptions): void;

  /** By the routes as they are now; ends it where the function is gone. */
  resolve(): boolean {
    const found = this.context.routes.again(this.match);
    if ('code' in found) {
      this.fail(found.code, found.detail);
      return false;
    }
    this.match = found;
    return true;
  }

  get namespace(): string {
    return this.match.entry.route.namespace;
  }

  get name(): string {
    return this.match.entry.route.name;
  }

  get revision(): string | null {
    return this.match.target.revision;
  }

  get desk(): Desk | null {
    return this.match.target.desk;
  }

  /** Its trace, which begins when it is asked for first. */
  get trace(): RequestTrace {
    this.#trace ??= this.context.tracer.begin(this.incomingTrace);
    return this.#trace;
  }
}
