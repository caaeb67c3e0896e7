/** Reading what a client sent, with a limit on everything: size, time, depth, type. */
import type { IncomingMessage } from 'node:http';
import type { z } from 'zod';
import { MAX_API_BODY_BYTES } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import type { ApiContext, ApiLimits } from './env.ts';
import { ClientGone, invalid, pointer } from './problems.ts';

/** Deepest nesting of a JSON body. The deepest that the contract knows is 4. */
const MAX_JSON_DEPTH = 32;

/** Parameters of the path. Throws FnError invalid with pointers `path/NAME`. */
export function checkedPath<T extends z.ZodType>(c: ApiContext, schema: T): z.output<T> {
  const parsed = schema.safeParse(c.req.param());
  if (!parsed.success) throw invalid(parsed.error.issues, 'path');
  return parsed.data;
}

/** Parameters of the query, each at most once. Throws FnError invalid with pointers `query/NAME`. */
export function checkedQuery<T extends z.ZodType>(c: ApiContext, schema: T): z.output<T> {
  const query = new URL(c.req.url).searchParams;
  for (const name of new Set(query.keys())) {
    if (query.getAll(name).length > 1) {
      const at = pointer([name], 'query');
      throw new FnError('invalid', `${at} is given more than once.`, { errors: [{ pointer: at, detail: 'is given more than once' }] });
    }
  }
  const parsed = schema.safeParse(Object.fromEntries(query));
  if (!parsed.success) throw invalid(parsed.error.issues, 'query');
  return parsed.data;
}

/** One entity tag, `"7"`; weak ones never match (RFC 9110 13.1.1), so they are refused in words. */
const ETAG = /^"([\u0021\u0023-\u007e]{1,100})"$/;

/** The ETag that the object must still have, without its quotes; null where any will do. Throws FnError bad-request. */
export function ifMatch(c: ApiContext): string | null {
  const given = c.env.incoming.headers['if-match']?.trim();
  if (given === undefined || given === '*') return null;
  const tag = ETAG.exec(given)?.[1];
  if (tag === undefined) throw new FnError('bad-request', 'If-Match takes one ETag as GET gave it, such as "7", or *.');
  return tag;
}

/** The JSON body. Throws FnError 415, 413, 408, 400, 422 in this order. */
export async function checkedJson<T extends z.ZodType>(c: ApiContext, schema: T, limits: ApiLimits): Promise<z.output<T>> {
  requireContentType(c, 'application/json');
  const chunks: Uint8Array[] = [];
  // The whole body within one window: no number of bytes is enough to open a second.
  for await (const chunk of limitedBody(c, { maxBytes: MAX_API_BODY_BYTES, windowMs: limits.bodyWindowMs, minBytesPerWindow: Infinity }))
    chunks.push(chunk);
  const value = parseJson(Buffer.concat(chunks));
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw invalid(parsed.error.issues, '');
  return parsed.data;
}

/** Throws FnError 415 for any other type, and for compressed bodies: their size would be a lie. */
export function requireContentType(c: ApiContext, type: string): void {
  const given = c.env.incoming.headers['content-type'] ?? '';
  const [name, ...parameters] = given.split(';').map((part) => part.trim().toLowerCase());
  const plain = parameters.every((parameter) => parameter === '' || /^charset="?utf-?8"?$/.test(parameter));
  if (name !== type || !plain)
    throw new FnError(
      'unsupported-media-type',
      `Send content-type: ${type}${given === '' ? '' : `, not ${JSON.stringify(given.slice(0, 100))}`}.`,
    );
  const encoding = c.env.incoming.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity')
    throw new FnError('unsupported-media-type', 'Send the body without a content-encoding.');
}

/** Throws FnError bad-request for what is no JSON or too deep, invalid for a field named __proto__. */
export function parseJson(body: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch {
    throw new FnError('bad-request', 'The body is not UTF-8.');
  }
  if (jsonDepth(text) > MAX_JSON_DEPTH) throw new FnError('bad-request', `The body is nested deeper than ${MAX_JSON_DEPTH}.`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // The parser quotes what it read; a secret in the body does not belong in an answer that is logged.
    const where = error instanceof Error ? /position \d+|end of JSON input/i.exec(error.message)?.[0] : undefined;
    throw new FnError('bad-request', `The body is not JSON${where === undefined ? '' : ` (${where})`}.`);
  }
  refusePrototypes(value, []);
  return value;
}

/** Depth of the brackets outside strings, counted before anything recursive sees them. */
function jsonDepth(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (quoted) {
      if (char === '\\') index++;
      else if (char === '"') quoted = false;
    } else if (char === '"') quoted = true;
    else if (char === '{' || char === '[') deepest = Math.max(deepest, ++depth);
    else if (char === '}' || char === ']') depth--;
  }
  return deepest;
}

/** A schema of a free-form record would drop the field in silence; the sender should know. */
function refusePrototypes(value: unknown, path: string[]): void {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__')
      throw new FnError('invalid', 'A field must not be named __proto__.', {
        errors: [{ pointer: pointer([...path, key]), detail: 'there is no such field' }],
      });
    refusePrototypes(inner, [...path, key]);
  }
}

export interface BodyLimits {
  maxBytes: number;
  /** What to throw beyond it; without: body-too-large. */
  tooLarge?: () => FnError;
  windowMs: number;
  /** Bytes that must arrive in each window of waiting for the client. */
  minBytesPerWindow: number;
}

/**
 * The body, piece by piece. Throws FnError body-too-large (as soon as it is declared), request-timeout,
 * and ClientGone. Never destroys the request: it may still have to be answered.
 */
export async function* limitedBody(c: ApiContext, bodyLimits: BodyLimits): AsyncGenerator<Uint8Array> {
  const { incoming, outgoing } = c.env;
  const { maxBytes, windowMs, minBytesPerWindow } = bodyLimits;
  const tooLarge = bodyLimits.tooLarge ?? (() => new FnError('body-too-large', `The body may have at most ${maxBytes} bytes.`));
  if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) throw tooLarge();
  if (expectsContinue(incoming)) outgoing.writeContinue();
  const pieces = incoming.iterator({ destroyOnReturn: false });
  let pending: Promise<IteratorResult<Uint8Array, undefined>> | undefined;
  let total = 0;
  // Only waiting for the client counts: a slow disk of ours is not its fault.
  let window = { bytes: 0, waitedMs: 0 };
  try {
    for (;;) {
      pending ??= pieces.next();
      const since = performance.now();
      const next = await within(pending, windowMs - window.waitedMs);
      if (next === null) {
        if (window.bytes < minBytesPerWindow)
          throw new FnError('request-timeout', `The body took too long: ${window.bytes} bytes in ${windowMs / 1_000} seconds.`);
        window = { bytes: 0, waitedMs: 0 };
        continue;
      }
      pending = undefined;
      if (next.done === true) return;
      total += next.value.byteLength;
      window.bytes += next.value.byteLength;
      window.waitedMs += performance.now() - since;
      if (total > maxBytes) throw tooLarge();
      yield next.value;
    }
  } finally {
    // Hands the stream back, for linger(). Not awaited: where a read is pending it waits for that. What
    // it may fail with is the stream's own error, which the read has thrown already.
    pieces.return?.().catch(() => {});
  }
}

/** null when the time is over first. Throws ClientGone. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, Math.max(0, ms), null);
  });
  try {
    return await Promise.race([promise, timeout]);
  } catch {
    // A request's stream fails for one reason only: its connection broke or its framing did.
    throw new ClientGone();
  } finally {
    clearTimeout(timer);
  }
}

/** Node's HTTP server leaves it to us to ask for the body, so a refusal can come before it. */
const expectsContinue = (incoming: IncomingMessage): boolean => incoming.headers.expect?.toLowerCase() === '100-continue';

/**
 * Reads on for a moment what was refused: a connection closed with bytes unread is reset, and the
 * reset may overtake the answer.
 */
export async function linger({ incoming }: { incoming: IncomingMessage }, { lingerMs, lingerBytes }: ApiLimits): Promise<void> {
  if (incoming.complete || incoming.destroyed || expectsContinue(incoming)) return;
  await new Promise<void>((resolve) => {
    let bytes = 0;
    const timer = setTimeout(done, lingerMs);
    function onData(chunk: Buffer): void {
      bytes += chunk.length;
      if (bytes > lingerBytes) done();
    }
    function done(): void {
      clearTimeout(timer);
      incoming.off('data', onData).off('end', done).off('close', done);
      incoming.pause();
      resolve();
    }
    incoming.on('data', onData).on('end', done).on('close', done);
  });
}
