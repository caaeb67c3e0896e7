/** Error answers: application/problem+json by the registry, to a request or straight to a socket. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { type ErrorCode, ERRORS, type Problem, PROBLEM_TYPE, problem } from '#contract/errors.ts';
import { HEADERS } from '#contract/runtime.ts';
import type { ClientResponse } from './context.ts';

export interface ProblemAnswer {
  problem: Problem;
  /** `Connection: close`, and the connection is closed after it. */
  close?: boolean;
  /** Seconds. 429 and 503 always say one. */
  retryAfterSeconds?: number | undefined;
  serverTiming?: string;
  /** `Allow`, for 405. */
  allow?: string | undefined;
  /** `WWW-Authenticate`, for 401. */
  authenticate?: string | undefined;
  /** More headers: lower-case name, value, … */
  headers?: readonly string[];
}

/** When to come again, where nobody knows better. */
const RETRY_AFTER_SECONDS: Partial<Record<ErrorCode, number>> = { 'queue-timeout': 5, 'start-failed': 5, 'no-capacity': 5 };
const DEFAULT_RETRY_AFTER_SECONDS = 1;

function retryAfter(answer: ProblemAnswer): number | undefined {
  const { status, code } = answer.problem;
  if (status !== 429 && status !== 503) return answer.retryAfterSeconds;
  const known: Partial<Record<string, number>> = RETRY_AFTER_SECONDS;
  return Math.max(1, Math.ceil(answer.retryAfterSeconds ?? known[code] ?? DEFAULT_RETRY_AFTER_SECONDS));
}

function problemHeaders(answer: ProblemAnswer, body: string, requestId: string): string[] {
  const headers = [
    'content-type',
    PROBLEM_TYPE,
    'content-length',
    String(Buffer.byteLength(body)),
    HEADERS.requestId,
    requestId,
    'cache-control',
    'no-store',
  ];
  const seconds = retryAfter(answer);
  if (seconds !== undefined) headers.push('retry-after', String(seconds));
  if (answer.allow !== undefined) headers.push('allow', answer.allow);
  if (answer.authenticate !== undefined) headers.push('www-authenticate', answer.authenticate);
  if (answer.headers !== undefined) headers.push(...answer.headers);
  headers.push('server-timing', answer.serverTiming ?? 'fn;dur=0');
  if (answer.close) headers.push('connection', 'close');
  return headers;
}

/**
 * Writes the whole answer. With `hold` its end is left to the caller, who still wants to read what
 * the client sends: closing with unread bytes would reset the connection under the answer.
 */
export function sendProblem(outgoing: ClientResponse, answer: ProblemAnswer, requestId: string, hold = false): void {
  const body = JSON.stringify({ ...answer.problem, instance: requestId });
  const { status } = answer.problem;
  outgoing.writeHead(status, STATUS_CODES[status]!, problemHeaders(answer, body, requestId));
  if (!hold) outgoing.end(body);
  else outgoing.write(body);
}

/** Answers where there is no request to answer, as when it could not be parsed; then closes. */
export function sendRawProblem(socket: Socket, code: ErrorCode, detail: string, requestId: string, allow?: string): void {
  // An answer that closes the connection was given already, and may still be on its way out.
  if (!socket.writable) return;
  const body = JSON.stringify(problem(code, detail, { instance: requestId }));
  const flat = problemHeaders({ problem: problem(code, detail), close: true, ...(allow === undefined ? {} : { allow }) }, body, requestId);
  let head = `HTTP/1.1 ${ERRORS[code].status} ${STATUS_CODES[ERRORS[code].status]}\r\ndate: ${new Date().toUTCString()}\r\n`;
  for (let i = 0; i < flat.length; i += 2) head += `${flat[i]}: ${flat[i + 1]}\r\n`;
  socket.end(`${head}\r\n${body}`);
}
