/**
 * One connection point of the control API: sends a request, checks the answer against the contract,
 * and turns what is not an answer into an error that says what to do.
 */
import type { Readable } from 'node:stream';
import type { z } from 'zod';
import { Problem } from '#contract/errors.ts';
import { sleep } from '#kit/clock.ts';
import { CliError, EXIT } from './errors.ts';
import type { Reply, Target } from './http.ts';
import { readBody, request } from './http.ts';
import { problemError } from './problems.ts';

/** Longest answer that is read into memory. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** How long an answer may take to begin; a deployment waits for an instance to load the function. */
const ANSWER_TIMEOUT_MS = 120_000;
/** A controller that is replaced by another, or started again, answers after some seconds: a lease lasts 6. */
const TAKEOVER_MS = 12_000;
const TAKEOVER_POLL_MS = 100;

export interface Call {
  method: string;
  path: string;
  json?: unknown;
  body?: Uint8Array | Readable;
  contentType?: string;
  /** An ETag as views have it; the change is refused (precondition-failed) where the object has another by now. */
  ifMatch?: string | undefined;
  /** In place of ANSWER_TIMEOUT_MS. */
  timeoutMs?: number;
}

export interface ApiConnectionOptions {
  token?: string | undefined;
  /** What unreachable means here, and what to do. */
  unreachable: { message: string; hint: string };
  signal?: AbortSignal | undefined;
  /** Whether somebody is about to listen there: then it is waited for, instead of being unreachable at once. */
  takenOver?: () => boolean;
}

export class ApiConnection {
  readonly #target: Target;
  readonly #options: ApiConnectionOptions;

  constructor(target: Target, options: ApiConnectionOptions) {
    this.#target = target;
    this.#options = options;
  }

  /** Over a socket of this machine, in a folder that only its owner can enter. */
  get isLocal(): boolean {
    return 'socketPath' in this.#target;
  }

  /** Sends, and checks the JSON of the answer. */
  async json<T extends z.ZodType>(call: Call, schema: T): Promise<z.infer<T>> {
    const reply = await this.call(call);
    const text = (await readBody(reply, MAX_ANSWER_BYTES)).toString('utf8');
    return this.parse(schema, text, `${call.method} ${call.path}`);
  }

  /** Sends; what the answer holds does not matter. */
  async done(call: Call): Promise<void> {
    await readBody(await this.call(call), MAX_ANSWER_BYTES);
  }

  /** Sends; false where it is not there. Throws CliError for every other answer from 400 up. */
  async exists(path: string): Promise<boolean> {
    const reply = await this.#request({ method: 'HEAD', path });
    await readBody(reply, 0);
    if (reply.status === 404) return false;
    // An answer to HEAD has no words: the same by GET says what is wrong.
    if (reply.status >= 400) await this.done({ method: 'GET', path });
    return true;
  }

  /** Sends; throws CliError for every answer from 400 up. */
  async call(call: Call): Promise<Reply> {
    const reply = await this.#request(call);
    if (reply.status < 400) return reply;
    const text = (await readBody(reply, MAX_ANSWER_BYTES)).toString('utf8');
    const problem = Problem.safeParse(parseJson(text));
    throw problem.success ? problemError(problem.data) : this.#refused(reply.status);
  }

  /** Checks JSON of the API. Throws CliError that speaks of another version of fn. */
  parse<T extends z.ZodType>(schema: T, text: string, what: string): z.infer<T> {
    const value = parseJson(text);
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const details = result.error.issues.slice(0, 5).map((issue) => `/${issue.path.join('/')}: ${issue.message}`);
    throw new CliError(`the answer to ${what} is not what this version of fn expects`, {
      details,
      hint: 'Is another version of fn running? `fn down` and `fn up` start this one.',
    });
  }

  #refused(status: number): CliError {
    const notAuthorised = status === 401 || status === 403;
    return new CliError(`the control API answered ${status}`, {
      exitCode: notAuthorised ? EXIT.notAuthorised : EXIT.failed,
      hint: notAuthorised ? 'Check FN_TOKEN, or log in again: fn login.' : 'See `fn status` and the logs in the home folder.',
    });
  }

  async #request({ method, path, json, body, contentType, ifMatch, timeoutMs }: Call): Promise<Reply> {
    const headers: Record<string, string> = { accept: 'application/json' };
    const { token, signal } = this.#options;
    if (token !== undefined && token !== '') headers.authorization = `Bearer ${token}`;
    if (ifMatch !== undefined) headers['if-match'] = `"${ifMatch}"`;
    const payload = json === undefined ? body : Buffer.from(JSON.stringify(json));
    if (payload) headers['content-type'] = json === undefined ? (contentType ?? 'application/octet-stream') : 'application/json';
    const until = performance.now() + TAKEOVER_MS;
    for (;;) {
      try {
        return await request(this.#target, {
          method,
          path,
          headers,
          body: payload,
          signal,
          timeoutMs: timeoutMs ?? ANSWER_TIMEOUT_MS,
        });
      } catch (error) {
        // Nobody has heard any of it. A stream may have begun to flow, and cannot be sent again.
        const again = nobodyListened(error) && (payload === undefined || payload instanceof Uint8Array) && this.#options.takenOver?.();
        if (!again || performance.now() >= until) throw this.#translate(error);
        await sleep(TAKEOVER_POLL_MS, signal);
      }
    }
  }

  #translate(error: unknown): unknown {
    if (!(error instanceof Error) || !('code' in error)) return error;
    const { code } = error;
    if (code === 'EACCES' || code === 'EPERM') {
      return new CliError(`the control socket may not be opened: ${error.message}`, {
        exitCode: EXIT.notAuthorised,
        hint: 'Run fn as the user who started the platform.',
        cause: error,
      });
    }
    const { unreachable } = this.#options;
    if (typeof code === 'string' && UNREACHABLE_CODES.has(code)) {
      return new CliError(unreachable.message, { exitCode: EXIT.unreachable, hint: unreachable.hint, cause: error });
    }
    return error;
  }
}

const UNREACHABLE_CODES = new Set([
  'ENOENT',
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'ENOTSOCK',
]);

/** There was no connection: what was to be sent has reached nobody. */
const nobodyListened = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED');

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON: the schema says so in better words.
    return undefined;
  }
}
