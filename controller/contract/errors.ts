/**
 * The registry of errors: every problem that a user can be shown has one entry here, with its HTTP
 * status, who is at fault and what to do. docs/errors.md is tested against it.
 * On the wire: application/problem+json, RFC 9457.
 */
import { z } from 'zod';

/** Who has to change something so that the error goes away. */
export type Fault = 'caller' | 'function' | 'platform';

export interface ErrorEntry {
  /** HTTP status of the answer. */
  status: number;
  fault: Fault;
  /** A short, constant summary (RFC 9457 `title`). */
  title: string;
  /** What to do next, for the documentation and the CLI. */
  remedy: string;
}

export const ERRORS = {
  // The caller's.
  'bad-request': { status: 400, fault: 'caller', title: 'Bad request', remedy: 'Correct the request as the detail says.' },
  unauthorized: { status: 401, fault: 'caller', title: 'Not authorised', remedy: 'Send a valid token: Authorization: Bearer TOKEN.' },
  forbidden: {
    status: 403,
    fault: 'caller',
    title: 'Not allowed',
    remedy: 'Ask for the right, or stay within the quota that the detail names.',
  },
  'not-found': { status: 404, fault: 'caller', title: 'Not found', remedy: 'Check the path; the detail says what is missing.' },
  'namespace-not-found': { status: 404, fault: 'caller', title: 'No such namespace', remedy: 'Check the name with `fn namespace list`.' },
  'revision-not-found': {
    status: 404,
    fault: 'caller',
    title: 'No such revision',
    remedy: 'Check the number with `fn revisions NAME`; old ones are removed by count and age.',
  },
  'secret-not-found': { status: 404, fault: 'caller', title: 'No such secret', remedy: 'Check the name with `fn secret list`, or set it.' },
  'token-not-found': { status: 404, fault: 'caller', title: 'No such token', remedy: 'Check the id with `fn token list`.' },
  'call-not-found': {
    status: 404,
    fault: 'caller',
    title: 'No record of this request',
    remedy: 'Check the id (the x-request-id of the answer); records are kept for a limited time.',
  },
  'invocation-not-found': {
    status: 404,
    fault: 'caller',
    title: 'No such invocation',
    remedy: 'Check the id; what is over is kept for the time that the function says (async.resultSeconds).',
  },
  'trigger-not-found': { status: 404, fault: 'caller', title: 'No such trigger', remedy: 'Check the name with `fn trigger list`.' },
  'dead-letter-not-found': {
    status: 404,
    fault: 'caller',
    title: 'No such dead letter',
    remedy: 'Check the id with `fn dlq list`; what was redriven or purged is gone.',
  },
  'image-not-found': {
    status: 404,
    fault: 'caller',
    title: 'No such image',
    remedy: 'Build or upload the image first, or check its name.',
  },
  'function-not-found': { status: 404, fault: 'caller', title: 'No such function', remedy: 'Check the name with `fn list`, or deploy it.' },
  'method-not-allowed': { status: 405, fault: 'caller', title: 'Method not allowed', remedy: 'Use a method that the Allow header lists.' },
  'request-timeout': {
    status: 408,
    fault: 'caller',
    title: 'The request took too long to arrive',
    remedy: 'Send the headers and the body without long pauses.',
  },
  conflict: {
    status: 409,
    fault: 'caller',
    title: 'Conflict',
    remedy: 'Change what the detail names; where it names nothing to change, read the current state and try again.',
  },
  'route-conflict': {
    status: 409,
    fault: 'caller',
    title: 'The route is taken',
    remedy: 'Give the route another path, host or method, or remove the other one; the detail names both.',
  },
  'precondition-failed': {
    status: 412,
    fault: 'caller',
    title: 'It has changed meanwhile',
    remedy: 'Read the current state and send its ETag as If-Match.',
  },
  'body-too-large': {
    status: 413,
    fault: 'caller',
    title: 'Body too large',
    remedy: 'Send less; the detail says what the limit is, and whose.',
  },
  'uri-too-long': { status: 414, fault: 'caller', title: 'URL too long', remedy: 'Shorten the URL; long data belongs in the body.' },
  'unsupported-media-type': {
    status: 415,
    fault: 'caller',
    title: 'Unsupported media type',
    remedy: 'Send the content type that the detail names.',
  },
  'expectation-failed': {
    status: 417,
    fault: 'caller',
    title: 'Expectation not supported',
    remedy: 'Send no Expect header, or 100-continue.',
  },
  invalid: { status: 422, fault: 'caller', title: 'Invalid input', remedy: 'Correct the fields listed under errors.' },
  'idempotency-mismatch': {
    status: 422,
    fault: 'caller',
    title: 'The Idempotency-Key was used for another request',
    remedy: 'Use a new key for a new request, and the old one only to repeat the same.',
  },
  'runtime-missing': {
    status: 422,
    fault: 'caller',
    title: 'The runtime is not here',
    remedy: 'Build it with `fn runtimes build NAME`; `fn runtimes list` shows what there is.',
  },
  'deploy-refused': {
    status: 422,
    fault: 'function',
    title: 'The function did not load',
    remedy: 'Correct the function; the revision before this one keeps serving.',
  },
  'quota-exceeded': {
    status: 403,
    fault: 'caller',
    title: 'Over the quota of the namespace',
    remedy: 'Remove what is not needed, or ask the operator to raise the quota that the detail names.',
  },
  'rate-limited': {
    status: 429,
    fault: 'caller',
    title: 'Too many requests in this time',
    remedy: 'Wait for Retry-After seconds, or raise the rate limit that the detail names.',
  },
  'too-many-requests': {
    status: 429,
    fault: 'caller',
    title: 'Too many requests',
    remedy: 'Wait for Retry-After seconds, or raise max or concurrency.',
  },
  'backlog-full': {
    status: 429,
    fault: 'caller',
    title: 'Too many invocations wait',
    remedy: 'Wait for Retry-After seconds, or raise async.maxQueued; `fn trigger list` and `fn describe` show the backlog.',
  },
  'upgrade-required': {
    status: 426,
    fault: 'caller',
    title: 'Another version of WebSocket',
    remedy: 'Ask for version 13 of WebSocket (RFC 6455).',
  },
  'headers-too-large': { status: 431, fault: 'caller', title: 'Headers too large', remedy: 'Send fewer or smaller headers.' },
  'not-implemented': {
    status: 501,
    fault: 'caller',
    title: 'Not implemented',
    remedy: 'Use a transfer coding that HTTP/1.1 servers must know: chunked, or none.',
  },
  'destination-failed': {
    status: 502,
    fault: 'caller',
    title: 'The destination did not take the event',
    remedy: 'See the detail; correct the destination or its receiver, and send it again with `fn dlq redrive`.',
  },
  // The function's.
  'function-error': {
    status: 500,
    fault: 'function',
    title: 'The function threw an error',
    remedy: 'See `fn why ID` (the x-request-id) for the place, and `fn logs NAME` for the message and the stack.',
  },
  'function-crashed': {
    status: 502,
    fault: 'function',
    title: 'The function crashed',
    remedy: 'See `fn why ID` (the x-request-id) and `fn logs NAME`; the next request gets another instance.',
  },
  'function-oom': {
    status: 502,
    fault: 'function',
    title: 'The function ran out of memory',
    remedy: 'Deploy with more --memory, or use less; `fn why ID` says what it had.',
  },
  'function-init-failed': {
    status: 502,
    fault: 'function',
    title: 'The function failed to start',
    remedy: 'See `fn why ID` and `fn logs NAME`, and deploy a corrected version.',
  },
  'function-bad-response': {
    status: 502,
    fault: 'function',
    title: 'The function sent an invalid response',
    remedy: 'See the detail, `fn why ID` and `fn logs NAME`.',
  },
  'function-timeout': {
    status: 504,
    fault: 'function',
    title: 'The function took too long',
    remedy: 'Make it faster, or deploy with a longer --timeout; `fn why ID` says where the time went.',
  },
  // The platform's.
  internal: {
    status: 500,
    fault: 'platform',
    title: 'Internal error',
    remedy: 'See `fn status` and the logs in the home folder; this is a bug of fn.',
  },
  'instance-lost': {
    status: 502,
    fault: 'platform',
    title: 'The instance was lost',
    remedy: 'Try again; the request may have run. `fn why ID` says what became of the instance.',
  },
  'not-ready': { status: 503, fault: 'platform', title: 'Not ready', remedy: 'Try again after Retry-After seconds.' },
  'no-capacity': {
    status: 503,
    fault: 'platform',
    title: 'No capacity',
    remedy: 'Try again after Retry-After seconds; raise the budget if it happens often.',
  },
  'queue-full': { status: 503, fault: 'platform', title: 'Queue full', remedy: 'Try again after Retry-After seconds.' },
  'queue-timeout': {
    status: 503,
    fault: 'platform',
    title: 'Waited too long for an instance',
    remedy: 'Try again; raise max or the budget if it happens often. `fn why ID` says what it waited for.',
  },
  'start-failed': {
    status: 503,
    fault: 'platform',
    title: 'No instance could be started',
    remedy: 'See `fn doctor` and the controller log.',
  },
  'events-unavailable': {
    status: 503,
    fault: 'platform',
    title: 'Events cannot be accepted now',
    remedy:
      'Try again after Retry-After seconds, with the same Idempotency-Key: where an answer was lost on its way, it runs once all the same.',
  },
  'not-leader': {
    status: 503,
    fault: 'platform',
    title: 'Another controller leads',
    remedy: 'Try again after Retry-After seconds: the platform is being taken over by its other controller.',
  },
  'shutting-down': { status: 503, fault: 'platform', title: 'Shutting down', remedy: 'Try again after Retry-After seconds.' },
  'store-unavailable': {
    status: 503,
    fault: 'platform',
    title: 'The store cannot be written',
    remedy: 'See the detail: disk space and permissions of the home folder, or the Redis that it names; `fn doctor` looks at both.',
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

export const ErrorCode = z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]);

/** A field that was wrong: a JSON pointer into the body (or `query/NAME`, `path/NAME`), and why. */
export const FieldError = z.object({ pointer: z.string(), detail: z.string() });
export type FieldError = z.infer<typeof FieldError>;

/** The error that user code threw, as its runtime saw it. Positions are in the user's source file. */
export const FunctionError = z.object({
  name: z.string().max(200),
  message: z.string().max(8_192),
  /** `handler.ts:3:9`, where a source map told. */
  at: z.string().max(1_024).optional(),
  stack: z.string().max(16_384).optional(),
});
export type FunctionError = z.infer<typeof FunctionError>;

/** RFC 9457, with our `code`. `instance` is the id of the request. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  code: z.string(),
  instance: z.string().optional(),
  errors: z.array(FieldError).optional(),
  functionError: FunctionError.optional(),
});
export type Problem = z.infer<typeof Problem>;

export const PROBLEM_TYPE = 'application/problem+json';

export interface ProblemOptions {
  /** Id of the request. */
  instance?: string | undefined;
  errors?: FieldError[] | undefined;
  functionError?: FunctionError | undefined;
}

/** Makes the body of an error answer from the registry. */
export function problem(code: ErrorCode, detail: string, options: ProblemOptions = {}): Problem {
  const entry = ERRORS[code];
  return {
    type: `urn:fn:error:${code}`,
    title: entry.title,
    status: entry.status,
    detail,
    code,
    ...(options.instance === undefined ? {} : { instance: options.instance }),
    ...(options.errors === undefined ? {} : { errors: options.errors }),
    ...(options.functionError === undefined ? {} : { functionError: options.functionError }),
  };
}

/** An error that knows its entry in the registry. Thrown inside, turned into a Problem at the border. */
export class FnError extends Error {
  readonly code: ErrorCode;
  readonly options: ProblemOptions & { retryAfterSeconds?: number | undefined; cause?: unknown };

  constructor(code: ErrorCode, detail: string, options: FnError['options'] = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'FnError';
    this.code = code;
    this.options = options;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  toProblem(instance?: string): Problem {
    return problem(this.code, this.message, { ...this.options, instance: instance ?? this.options.instance });
  }
}
