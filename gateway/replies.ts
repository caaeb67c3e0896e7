/** Answers of the gateway's own to a request for a function: problems, and preflights. */
import type { IncomingMessage } from 'node:http';
import { HEADERS } from '#contract/runtime.ts';
import type { RequestBody } from './body.ts';
import type { Outgoing } from './context.ts';
import { type ProblemAnswer, sendProblem } from './problems.ts';

/** What is answered. */
export interface Asker {
  readonly id: string;
  readonly incoming: IncomingMessage;
  readonly outgoing: Outgoing;
  readonly body: RequestBody | null;
  /** Monotonic ms. */
  readonly now: number;
  readonly serverTiming: string;
  readonly draining: boolean;
}

const unread = (body: RequestBody | null): boolean => body !== null && !body.complete;

/**
 * `readRest`: a client may look for the answer only when it has sent its body, so that is read for a
 * while. Not for one that still waits for our 100, nor where the bytes make no sense any more.
 */
export function replyProblem(
  { id, incoming, outgoing, body, now, serverTiming, draining }: Asker,
  answer: ProblemAnswer,
  readRest: boolean,
): void {
  const close = answer.close === true || unread(body) || draining;
  const hold = unread(body) && readRest;
  sendProblem(outgoing, { ...answer, close, serverTiming }, id, hold);
  if (hold) {
    incoming.once('end', () => outgoing.end());
    body!.discard(now);
  } else {
    body?.abandon();
  }
}

/** 204 with these headers (lower-case name, value, …). */
export function replyPreflight({ id, outgoing, body, serverTiming, draining }: Asker, flat: string[]): void {
  flat.push(HEADERS.requestId, id, 'server-timing', serverTiming);
  if (unread(body) || draining) flat.push('connection', 'close');
  outgoing.writeHead(204, flat);
  outgoing.end();
  body?.abandon();
}
