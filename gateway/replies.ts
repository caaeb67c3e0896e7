/** Answers of the gateway's own to a request for a function: problems, and preflights. */
import { STATUS_CODES, validateHeaderName, validateHeaderValue } from 'node:http';
import type { WireBody } from '#contract/events-link.ts';
import { HEADERS } from '#contract/runtime.ts';
import { decodeBody } from '#kit/event-body.ts';
import type { RequestBody } from './body.ts';
import type { ClientRequest, ClientResponse } from './context.ts';
import { type ProblemAnswer, sendProblem } from './problems.ts';

/** What is answered. */
export interface Asker {
  readonly id: string;
  readonly incoming: ClientRequest;
  readonly outgoing: ClientResponse;
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
export function replyProblem({ id, outgoing, body, now, serverTiming, draining }: Asker, answer: ProblemAnswer, readRest: boolean): void {
  const close = answer.close === true || unread(body) || draining;
  const hold = unread(body) && readRest;
  sendProblem(outgoing, { ...answer, close, serverTiming }, id, hold);
  if (hold) {
    body!.onceEnded(() => outgoing.end());
    body!.discard(now);
  } else {
    body?.abandon();
  }
}

/** 204 with these headers (lower-case name, value, …). */
export function replyPreflight({ id, outgoing, body, serverTiming, draining }: Asker, flat: string[]): void {
  flat.push(HEADERS.requestId, id, 'server-timing', serverTiming);
  if (unread(body) || draining) flat.push('connection', 'close');
  outgoing.writeHead(204, STATUS_CODES[204]!, flat);
  outgoing.end();
  body?.abandon();
}

/** The whole answer, with these headers (lower-case name, value, …) and those of every one. */
export function replyWhole({ id, incoming, outgoing, serverTiming, draining }: Asker, status: number, flat: string[], body: Buffer): void {
  const bodiless = status === 204 || status === 304;
  if (!bodiless) flat.push('content-length', String(body.length));
  flat.push(HEADERS.requestId, id, 'server-timing', serverTiming);
  if (draining) flat.push('connection', 'close');
  outgoing.writeHead(status, STATUS_CODES[status] ?? 'unknown', flat);
  if (bodiless || incoming.method === 'HEAD') outgoing.end();
  else outgoing.end(body);
}

/** What of an answer that the dispatcher gives is not passed on: hop by hop, set here, or for the whole origin and its cookies. */
const NOT_PASSED: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'upgrade',
  'transfer-encoding',
  'content-length',
  'date',
  'cache-control',
  'server-timing',
  'set-cookie',
  'strict-transport-security',
  'alt-svc',
  'clear-site-data',
  'public-key-pins',
  'service-worker-allowed',
  HEADERS.requestId,
]);

/** Headers and body of an answer of the dispatcher's: its own, or one of a function that was kept. null: its status is none. */
export function readAnswer(answer: {
  status: number;
  headers: readonly string[];
  body: WireBody;
}): { flat: string[]; body: Buffer } | null {
  if (answer.status < 200 || answer.status > 999) return null;
  const flat: string[] = [];
  for (let i = 0; i + 1 < answer.headers.length; i += 2) {
    const name = answer.headers[i]!.toLowerCase();
    const value = answer.headers[i + 1]!;
    if (!NOT_PASSED.has(name) && !name.startsWith('access-control-') && isHeader(name, value)) flat.push(name, value);
  }
  return { flat, body: decodeBody(answer.body) };
}

function isHeader(name: string, value: string): boolean {
  try {
    validateHeaderName(name);
    validateHeaderValue(name, value);
    return true;
  } catch {
    return false;
  }
}
