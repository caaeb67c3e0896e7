/**
 * A typed client of the control API: over the unix socket in the home, or over TCP with a token
 * (FN_URL and FN_TOKEN). Every answer is checked against the contract before it is believed.
 */
import type { z } from 'zod';
import { BundleInfo, DeployResponse, FunctionList, LogEntry, PlatformStatus, RevisionList } from '#contract/api.ts';
import type { DeployRequestInput } from '#contract/api.ts';
import { Problem } from '#contract/errors.ts';
import { FunctionView } from '#contract/function.ts';
import { LineSplitter } from '#kit/ndjson.ts';
import { homePaths } from '#kit/paths.ts';
import type { Context } from './context.ts';
import { homeFlag } from './context.ts';
import { CliError, EXIT, usageError } from './errors.ts';
import type { Reply, Target } from './http.ts';
import { readBody, request } from './http.ts';
import { checkedName, checkedNamespace } from './names.ts';
import { problemError } from './problems.ts';

/** Longest answer that is read into memory. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** Longest line of a log. */
const MAX_LOG_LINE_BYTES = 1024 * 1024;
/** How long an answer may take to begin; a deployment waits for an instance to load the function. */
const ANSWER_TIMEOUT_MS = 120_000;

interface Call {
  method: string;
  path: string;
  json?: unknown;
  body?: Uint8Array;
  contentType?: string;
  signal?: AbortSignal;
  timeoutMs?: number;
}

export interface LogOptions {
  follow: boolean;
  /** Milliseconds since 1970. */
  since?: number;
  limit?: number;
}

export class ApiClient {
  readonly #target: Target;
  readonly #token: string | undefined;
  /** What unreachable means here, and what to do. */
  readonly #unreachable: { message: string; hint: string };
  readonly #signal: AbortSignal | undefined;

  constructor(target: Target, options: { token?: string; unreachable: { message: string; hint: string }; signal?: AbortSignal }) {
    this.#target = target;
    this.#token = options.token;
    this.#unreachable = options.unreachable;
    this.#signal = options.signal;
  }

  async status(): Promise<PlatformStatus> {
    return this.#json({ method: 'GET', path: '/v1/status' }, PlatformStatus);
  }

  async list(namespace?: string): Promise<FunctionView[]> {
    const query = namespace === undefined ? '' : `?namespace=${encodeURIComponent(namespace)}`;
    return (await this.#json({ method: 'GET', path: `/v1/functions${query}` }, FunctionList)).functions;
  }

  async describe(namespace: string, name: string): Promise<FunctionView> {
    return this.#json({ method: 'GET', path: functionRoute(namespace, name) }, FunctionView);
  }

  async revisions(namespace: string, name: string): Promise<z.infer<typeof RevisionList>['revisions']> {
    return (await this.#json({ method: 'GET', path: `${functionRoute(namespace, name)}/revisions` }, RevisionList)).revisions;
  }

  async delete(namespace: string, name: string): Promise<void> {
    const reply = await this.#call({ method: 'DELETE', path: functionRoute(namespace, name) });
    await readBody(reply, MAX_ANSWER_BYTES);
  }

  async deploy(namespace: string, name: string, body: DeployRequestInput): Promise<DeployResponse> {
    return this.#json({ method: 'POST', path: `${functionRoute(namespace, name)}/revisions`, json: body }, DeployResponse);
  }

  async hasBundle(digest: string): Promise<boolean> {
    const reply = await this.#request({ method: 'HEAD', path: `/v1/bundles/${digest}` });
    await readBody(reply, 0);
    if (reply.status === 404) return false;
    if (reply.status >= 400) throw this.#refused(reply.status);
    return true;
  }

  async putBundle(digest: string, archive: Uint8Array): Promise<BundleInfo> {
    return this.#json({ method: 'PUT', path: `/v1/bundles/${digest}`, body: archive, contentType: 'application/gzip' }, BundleInfo);
  }

  /** Answers when the controller has begun to end. */
  async shutdown(): Promise<void> {
    const reply = await this.#call({ method: 'POST', path: '/v1/shutdown' });
    await readBody(reply, MAX_ANSWER_BYTES);
  }

  /** Lines as they come; with `follow` until the signal is aborted. */
  async *logs(namespace: string, name: string, { follow, since, limit }: LogOptions): AsyncIterable<LogEntry> {
    const query = new URLSearchParams();
    if (follow) query.set('follow', 'true');
    if (since !== undefined) query.set('since', String(Math.floor(since)));
    if (limit !== undefined) query.set('limit', String(limit));
    const suffix = query.size === 0 ? '' : `?${query}`;
    const reply = await this.#call({ method: 'GET', path: `${functionRoute(namespace, name)}/logs${suffix}` });
    const lines = new LineSplitter(MAX_LOG_LINE_BYTES);
    for await (const chunk of reply.body) for (const line of lines.push(chunk)) yield this.#parse(LogEntry, line, 'a log line');
  }

  async #json<T extends z.ZodType>(call: Call, schema: T): Promise<z.infer<T>> {
    const reply = await this.#call(call);
    const text = (await readBody(reply, MAX_ANSWER_BYTES)).toString('utf8');
    return this.#parse(schema, text, `${call.method} ${call.path}`);
  }

  #parse<T extends z.ZodType>(schema: T, text: string, what: string): z.infer<T> {
    const value = parseJson(text);
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    const details = result.error.issues.slice(0, 5).map((issue) => `/${issue.path.join('/')}: ${issue.message}`);
    throw new CliError(`the answer to ${what} is not what this version of fn expects`, {
      details,
      hint: 'Is another version of fn running? `fn down` and `fn up` start this one.',
    });
  }

  /** Sends; throws CliError for every answer from 400 up. */
  async #call(call: Call): Promise<Reply> {
    const reply = await this.#request(call);
    if (reply.status < 400) return reply;
    const text = (await readBody(reply, MAX_ANSWER_BYTES)).toString('utf8');
    const problem = Problem.safeParse(parseJson(text));
    throw problem.success ? problemError(problem.data) : this.#refused(reply.status);
  }

  #refused(status: number): CliError {
    const notAuthorised = status === 401 || status === 403;
    return new CliError(`the control API answered ${status}`, {
      exitCode: notAuthorised ? EXIT.notAuthorised : EXIT.failed,
      hint: notAuthorised ? 'Check FN_TOKEN.' : 'See `fn status` and the logs in the home folder.',
    });
  }

  async #request({ method, path, json, body, contentType, signal }: Call): Promise<Reply> {
    const headers: Record<string, string> = { accept: 'application/json' };
    if (this.#token !== undefined) headers.authorization = `Bearer ${this.#token}`;
    const payload = json === undefined ? body : Buffer.from(JSON.stringify(json));
    if (payload) headers['content-type'] = json === undefined ? (contentType ?? 'application/octet-stream') : 'application/json';
    try {
      return await request(this.#target, {
        method,
        path,
        headers,
        body: payload,
        signal: signal ?? this.#signal,
        timeoutMs: ANSWER_TIMEOUT_MS,
      });
    } catch (error) {
      throw this.#translate(error);
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
    if (typeof code === 'string' && UNREACHABLE_CODES.has(code)) {
      return new CliError(this.#unreachable.message, { exitCode: EXIT.unreachable, hint: this.#unreachable.hint, cause: error });
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

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON: the schema says so in better words.
    return undefined;
  }
}

/** Throws usageError for what cannot be a name: the API would speak of its own paths and fields. */
const functionRoute = (namespace: string, name: string): string =>
  `/v1/namespaces/${checkedNamespace(namespace)}/functions/${checkedName(name, 'fn list shows the names.')}`;

/** The client that the surroundings ask for: FN_URL with FN_TOKEN, or the socket of the home. */
export function connect(ctx: Context): ApiClient {
  const { FN_URL: url, FN_TOKEN: token } = ctx.env;
  if (url !== undefined && url !== '') {
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw usageError(`FN_URL is not an http(s) URL: ${url}`);
    return new ApiClient(
      { url: new URL(url) },
      {
        token,
        signal: ctx.signal,
        unreachable: {
          message: `no control API answers at ${url} (FN_URL)`,
          hint: 'Check the address, and that the platform was started with --api.',
        },
      },
    );
  }
  const paths = homePaths(ctx.home);
  return new ApiClient(
    { socketPath: paths.controlSocket },
    {
      signal: ctx.signal,
      unreachable: { message: `fn is not running in ${paths.home}`, hint: `Start it: fn up --detach${homeFlag(ctx)}` },
    },
  );
}
