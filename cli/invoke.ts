/** One call of a function through the gateway, as any client would make it. */
import { isUtf8 } from 'node:buffer';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Auth } from '#contract/access.ts';
import { PROBLEM_TYPE, Problem } from '#contract/errors.ts';
import { EVENT_HEADERS } from '#contract/events.ts';
import { connect } from './client.ts';
import type { Context } from './context.ts';
import { painter, printJson, say } from './context.ts';
import { LOOPBACK, checkedToken, remoteOf } from './contexts.ts';
import type { ExitCode } from './errors.ts';
import { CliError, EXIT, usageError } from './errors.ts';
import type { Reply } from './http.ts';
import { readBody, request } from './http.ts';
import { type AsyncOptions, acceptedAt, asyncHeaders, followInvocation } from './invoke-async.ts';
import { formatMs, printable } from './output.ts';
import { problemError } from './problems.ts';
import { describeTiming, parseServerTiming } from './server-timing.ts';

export interface InvokeOptions {
  namespace: string;
  name: string;
  /** Text, `@FILE`, or `-`. */
  data?: string;
  method?: string;
  /** `Name: value` */
  headers: readonly string[];
  path: string;
  include: boolean;
  /** Everything of the answer as one JSON document, in place of its body. */
  json: boolean;
  /** It is to be answered later; null: now. */
  later: AsyncOptions | null;
}

/** Above the longest timeout that a function can have: the gateway decides, not we. */
const ANSWER_TIMEOUT_MS = 3_660_000;

/** Longest body that becomes a part of a JSON document, bytes. */
const MAX_JSON_BODY_BYTES = 64 * 1024 * 1024;

/** A body on a terminal that ends without it would run into what is told next. */
const NEWLINE = 10;

/** Body to stdout as it comes, status and times to stderr; 1 from status 400 up. */
export async function invokeFunction(ctx: Context, options: InvokeOptions): Promise<ExitCode> {
  const body = await readData(ctx, options.data);
  const headers = parseHeaders(options.headers);
  if (body && !Object.keys(headers).some((name) => name.toLowerCase() === 'content-type')) headers['content-type'] = guessType(body);
  const { url: told, access } = await connect(ctx).describe(options.namespace, options.name);
  const url = fromHere(ctx, told);
  if (access.auth.type === 'token' && headers.authorization === undefined) {
    const token = tokenFor(ctx, url);
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
  }
  if (options.later !== null) Object.assign(headers, asyncHeaders(options.later));
  const startedAt = performance.now();
  const reply = await send(ctx, url, { ...options, headers, body });
  const location = options.later === null ? null : acceptedAt(reply, url);
  if (options.later !== null && location !== null) {
    await readBody(reply, MAX_JSON_BODY_BYTES);
    const authorization = typeof headers.authorization === 'string' ? headers.authorization : undefined;
    const replayed = reply.headers['idempotency-replayed'] === 'true';
    return followInvocation(ctx, { ...options, location: fromHere(ctx, location.href), authorization, replayed, wait: options.later.wait });
  }
  if (options.later !== null && reply.status < 400)
    say(
      ctx,
      `note: it was answered at once: ${access.async.enabled ? 'what answers there takes nothing for later' : `async is off for ${options.name}`}`,
    );
  const headMs = performance.now() - startedAt;
  // What is to be answered later can be refused by the platform alone: that is no answer of the function.
  const kept = options.later !== null && access.async.enabled && isProblem(reply) ? await readBody(reply, MAX_JSON_BODY_BYTES) : null;
  if (kept !== null) throwRefusal(kept, access.auth, options);
  if (options.json) {
    const bytes = kept ?? (await readBody(reply, MAX_JSON_BODY_BYTES));
    checkWhole(reply, options.name);
    printJson(ctx, asJson(reply, bytes, headMs, performance.now() - startedAt));
    return exitCodeFor(ctx, reply, access.auth, options);
  }
  if (options.include) ctx.stdout.write(renderHead(reply));
  let lastByte: number | undefined = NEWLINE;
  for await (const chunk of kept === null ? (reply.body as AsyncIterable<Buffer>) : [kept]) {
    lastByte = chunk.at(-1);
    // A slow reader of our stdout slows the function down, instead of filling our memory.
    if (ctx.stdout.write(chunk) === false && ctx.stdout === process.stdout) await once(process.stdout, 'drain');
  }
  if (ctx.stdout.isTTY === true && lastByte !== NEWLINE) say(ctx, '');
  checkWhole(reply, options.name);
  tell(ctx, reply, headMs, performance.now() - startedAt);
  return exitCodeFor(ctx, reply, access.auth, options);
}

/**
 * The token that this platform is spoken to with: never one that is meant for another (FN_TOKEN belongs to FN_URL where that is
 * set), and not in the clear over a network.
 */
function tokenFor(ctx: Context, gateway: URL): string | undefined {
  const remote = remoteOf(ctx);
  const { FN_URL = '', FN_TOKEN = '' } = ctx.env;
  const token = remote === null ? (FN_URL === '' && FN_TOKEN !== '' ? FN_TOKEN : undefined) : remote.token;
  const isSafe = gateway.protocol === 'https:' || LOOPBACK.test(gateway.hostname) || (remote !== null && remote.url.startsWith('http:'));
  return isSafe ? checkedToken(token, remote?.from ?? 'FN_TOKEN') : undefined;
}

const isProblem = ({ status, headers }: Reply): boolean => status >= 400 && headers['content-type']?.startsWith(PROBLEM_TYPE) === true;

/** Throws CliError with a problem of the platform, as it is told of any other command. What is the function's own goes through. */
function throwRefusal(body: Buffer, auth: Auth, options: InvokeOptions): void {
  const parsed = Problem.safeParse(parseJson(body.toString('utf8')));
  if (!parsed.success || parsed.data.type !== `urn:fn:error:${parsed.data.code}`) return;
  const error = problemError({ ...parsed.data, detail: inTypedWords(parsed.data.detail, options.later) });
  if (error.code !== 'unauthorized' || auth.type === 'public') throw error;
  throw new CliError(error.message, { exitCode: EXIT.notAuthorised, hint: tokenHint(auth, options), code: error.code });
}

/** The option that became a header, to who typed it. */
function inTypedWords(detail: string, later: AsyncOptions | null): string {
  const typed = [
    [EVENT_HEADERS.delay, '--delay', later?.delayMs],
    [EVENT_HEADERS.orderKey, '--order-key', later?.orderKey],
    [EVENT_HEADERS.idempotencyKey, '--idempotency-key', later?.idempotencyKey],
  ] as const;
  const [header, option] = typed.find(([name, , value]) => value !== undefined && detail.startsWith(`${name} must `)) ?? ['', ''];
  return option + detail.slice(header.length);
}

function tokenHint(auth: Auth, { namespace, name }: InvokeOptions): string {
  return auth.type === 'jwt'
    ? `${name} asks for a token (JWT) of ${auth.issuer}: -H 'authorization: Bearer JWT'`
    : `${name} asks for a token with the scope invoke: fn token create NAME --scope invoke -n ${namespace}; then FN_TOKEN=TOKEN, or -H 'authorization: Bearer TOKEN'`;
}

/** 3 where the gateway did not let us in, which is then told with what helps; a 401 of the function's own is its failure. */
function exitCodeFor(ctx: Context, reply: Reply, auth: Auth, options: InvokeOptions): ExitCode {
  if (reply.status < 400) return EXIT.ok;
  const isGateways = reply.status === 401 && auth.type !== 'public' && isProblem(reply);
  if (!isGateways) return EXIT.failed;
  const paint = painter(ctx.stderr, ctx.env);
  say(ctx, `  ${paint('dim', '→')} ${printable(tokenHint(auth, options))}`);
  return EXIT.notAuthorised;
}

function checkWhole({ body }: Reply, name: string): void {
  if (!body.complete) throw new CliError('the answer broke off before its end', { hint: `See fn logs ${name}.` });
}

/** A body that is no text is given in base64. */
function asJson({ status, headers }: Reply, bytes: Buffer, headMs: number, totalMs: number): object {
  const { start, phases } = parseServerTiming(headers['server-timing']);
  const body = isUtf8(bytes) ? { body: bytes.toString('utf8') } : { bodyBase64: bytes.toString('base64') };
  return { status, headers, ...body, headMs, totalMs, start: start ?? null, phases };
}

/** A path as a person types it, as it may stand in a request: what is no printable ASCII is percent-encoded. */
export function requestPath(typed: string): string {
  const path = typed.startsWith('/') ? typed : `/${typed}`;
  return path.toWellFormed().replace(/[^\u0021-\u007e]+/gu, encodeURIComponent);
}

interface SendOptions {
  method?: string;
  path: string;
  headers: Record<string, string | string[]>;
  body: Buffer | undefined;
}

async function send(ctx: Context, url: URL, { method, path, headers, body }: SendOptions): Promise<Reply> {
  try {
    return await request(
      { url },
      {
        method: method?.toUpperCase() ?? (body ? 'POST' : 'GET'),
        path: requestPath(path),
        headers,
        body,
        signal: ctx.signal,
        timeoutMs: ANSWER_TIMEOUT_MS,
      },
    );
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_INVALID_ARG_VALUE') throw usageError(error.message);
    if (error instanceof TypeError) throw usageError(error.message);
    if (
      error instanceof Error &&
      'code' in error &&
      (error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET' || error.code === 'ENOTFOUND')
    ) {
      throw new CliError(`the gateway does not answer at ${url.origin}: ${error.message}`, {
        exitCode: EXIT.unreachable,
        hint: gatewayHint(ctx, error.code),
        cause: error,
      });
    }
    throw error;
  }
}

/** Names of a cluster mean nothing outside of it: who forwards the port of the gateway says so when logging in. */
function gatewayHint(ctx: Context, code: unknown): string {
  const remote = remoteOf(ctx);
  if (remote === null || remote.from === 'FN_URL') return 'See fn status.';
  if (remote.gateway !== undefined) return `The ${remote.from} says so (--gateway of fn login). Is its port still forwarded?`;
  if (code !== 'ENOTFOUND') return 'See fn status.';
  return `That name means nothing here. Where the gateway is reached from here: fn login ${remote.url} --gateway http://HOST:PORT`;
}

/** A URL of the platform's gateway, at the place where the context says that it is reached from here. */
export function fromHere(ctx: Pick<Context, 'env' | 'said'>, told: string): URL {
  const gateway = remoteOf(ctx)?.gateway;
  const url = new URL(told);
  return gateway === undefined ? url : new URL(`${url.pathname}${url.search}`, gateway);
}

function tell(ctx: Context, { status, statusText, headers }: Reply, headMs: number, totalMs: number): void {
  const paint = painter(ctx.stderr, ctx.env);
  const timing = parseServerTiming(headers['server-timing']);
  const phases = describeTiming(timing);
  const words = paint(status < 400 ? 'green' : 'red', `${status} ${statusText}`.trim());
  say(ctx, `${words} in ${formatMs(totalMs)} (first byte ${formatMs(headMs)}${phases === '' ? '' : `; ${phases}`})`);
}

function renderHead({ status, statusText, rawHeaders }: Reply): string {
  const lines = [`HTTP/1.1 ${status} ${statusText}`.trimEnd()];
  for (let index = 0; index < rawHeaders.length; index += 2) lines.push(`${rawHeaders[index]}: ${rawHeaders[index + 1]}`);
  return `${lines.join('\n')}\n\n`;
}

async function readData(ctx: Context, data: string | undefined): Promise<Buffer | undefined> {
  if (data === undefined) return undefined;
  if (data === '-') {
    const chunks: Buffer[] = [];
    for await (const chunk of ctx.stdin) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks);
  }
  if (!data.startsWith('@')) return Buffer.from(data);
  const file = resolve(ctx.cwd, data.slice(1));
  try {
    return await readFile(file);
  } catch (error) {
    throw usageError(`--data ${data}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parseHeaders(texts: readonly string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (const text of texts) {
    const at = text.indexOf(':');
    if (at < 1) throw usageError(`--header ${JSON.stringify(text)} is not "Name: value"`);
    const name = text.slice(0, at).trim().toLowerCase();
    const value = text.slice(at + 1).trim();
    const before = headers[name];
    headers[name] = before === undefined ? value : [before, value].flat();
  }
  return headers;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Whatever it is, a problem of the platform it is not.
    return undefined;
  }
}

/** JSON where it is JSON, else text: what a person who types a body means. */
function guessType(body: Buffer): string {
  try {
    JSON.parse(body.toString('utf8'));
    return 'application/json';
  } catch {
    // Not JSON is an answer too.
    return 'text/plain; charset=utf-8';
  }
}
