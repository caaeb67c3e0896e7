/** Errors at the border: everything that is thrown becomes a problem of the registry, and only that. */
import type { z } from 'zod';
import { FnError, type FieldError, PROBLEM_TYPE, type Problem } from '#contract/errors.ts';
import type { Log } from '#kit/log.ts';
import { DriverUnavailable } from '../driver/types.ts';

/** Most fields that one answer names. */
const MAX_FIELD_ERRORS = 50;
const MAX_POINTER_LENGTH = 200;
/** Retry-After where the error does not say better, seconds. */
const DEFAULT_RETRY_SECONDS = 1;

/** The client closed the connection before it was answered. */
export class ClientGone extends Error {
  constructor() {
    super('the client closed the connection');
    this.name = 'ClientGone';
  }
}

/** An FnError as it is, and what a driver says that can do nothing; anything else is our own fault, of which the client learns no more than that. */
export function toFnError(error: unknown): FnError {
  if (error instanceof FnError) return error;
  // Not our fault, and its words say what to do: the container engine is away.
  if (error instanceof DriverUnavailable) return new FnError('start-failed', error.message, { cause: error });
  return new FnError('internal', "Something failed inside fn. The controller's log has it under this request's id.", { cause: error });
}

/** After these the connection is closed. */
const CLOSING: ReadonlySet<string> = new Set(['body-too-large', 'quota-exceeded', 'request-timeout', 'not-implemented']);

export interface ProblemAnswer {
  status: number;
  headers: Record<string, string>;
  body: Problem;
}

/** Status, headers and body for an error. */
export function problemAnswer(error: FnError, requestId: string): ProblemAnswer {
  const headers: Record<string, string> = { 'content-type': PROBLEM_TYPE };
  if (error.status === 503 || error.status === 429)
    headers['retry-after'] = String(Math.max(1, Math.ceil(error.options.retryAfterSeconds ?? DEFAULT_RETRY_SECONDS)));
  if (error.status === 401) headers['www-authenticate'] = 'Bearer realm="fn"';
  // What is left of such a request cannot be told from the next one, or is too much to wait for.
  if (CLOSING.has(error.code)) headers.connection = 'close';
  return { status: error.status, headers, body: error.toProblem(requestId) };
}

/** Errors of ours are logged with their stack, refusals are not: they are the caller's affair. */
export function logError(log: Log, error: FnError, requestId: string): void {
  if (error.status < 500) return;
  const cause = error.options.cause;
  const fields = { requestId, code: error.code, detail: error.message, cause: cause instanceof Error ? cause.stack : cause };
  if (error.code === 'internal' || error.code === 'store-unavailable') log.error(fields, 'a request failed');
  else log.warn(fields, 'a request was not served');
}

/** `prefix` is '' for a body (JSON pointers), else `path` or `query`. */
export function invalid(issues: readonly z.core.$ZodIssue[], prefix: '' | 'path' | 'query'): FnError {
  const errors = issues.flatMap((issue) => fieldErrors(issue, prefix)).slice(0, MAX_FIELD_ERRORS);
  const first = errors[0];
  const detail = first === undefined ? 'The input is invalid.' : `${first.pointer === '' ? 'The body' : first.pointer}: ${first.detail}`;
  return new FnError('invalid', errors.length > 1 ? `${detail} (and ${errors.length - 1} more)` : detail, { errors });
}

function fieldErrors(issue: z.core.$ZodIssue, prefix: string): FieldError[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({ pointer: pointer([...issue.path, key], prefix), detail: 'there is no such field' }));
  return [{ pointer: pointer(issue.path, prefix), detail: issueDetail(issue) }];
}

/** For a union and for a record's key, what its parts say: "Invalid input" helps nobody. */
function issueDetail(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_union')
    return [...new Set(issue.errors.flat().map((inner) => inner.message))].join('; or: ') || issue.message;
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? issue.message;
  return issue.message;
}

/** RFC 6901, cut to a length that is fit for an answer. */
export function pointer(path: readonly PropertyKey[], prefix = ''): string {
  const text = `${prefix}${path.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')}`;
  return text.length > MAX_POINTER_LENGTH ? `${text.slice(0, MAX_POINTER_LENGTH)}…` : text;
}
