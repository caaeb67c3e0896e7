/** Fetches a bundle by https, where the address may be dialled, within limits, and only what has the digest that was asked for. */
import { createHash } from 'node:crypto';
import { request } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { FnError } from '#contract/errors.ts';
import type { ResolveHost } from '#kit/resolve-host.ts';

/** For all of it, redirects too, ms. */
const FETCH_TIMEOUT_MS = 60_000;
const MAX_REDIRECTS = 5;
const MAX_HEADER_BYTES = 16 * 1_024;

export interface FetchOptions {
  url: string;
  /** `sha256:` and 64 hex digits. */
  digest: string;
  maxBytes: number;
  /** Refuses what may not be dialled. Asked again for each redirect. */
  resolve: ResolveHost;
  signal: AbortSignal;
  timeoutMs?: number;
  /** Authorities to trust in place of those that Node knows, PEM. */
  ca?: string | undefined;
}

const refuse = (detail: string, pointer = '/spec/source/url'): FnError =>
  new FnError('invalid', `The bundle cannot be fetched: ${detail}.`, { errors: [{ pointer, detail }] });

/** In pieces, as it came: several large ones at a time are not to be there twice. Throws FnError invalid (what the server said, a redirect too many, another digest), forbidden (an address that may not be dialled), body-too-large. */
export async function fetchBundle({ timeoutMs = FETCH_TIMEOUT_MS, signal, ...options }: FetchOptions): Promise<Buffer[]> {
  const deadline = AbortSignal.timeout(timeoutMs);
  try {
    return await attempt(options, AbortSignal.any([signal, deadline]));
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof FnError) throw error;
    if (deadline.aborted) throw refuse(`not all of it came within ${timeoutMs} ms`);
    throw refuse(error instanceof Error ? error.message : String(error));
  }
}

async function attempt({ url, digest, maxBytes, resolve, ca }: Omit<FetchOptions, 'signal'>, signal: AbortSignal): Promise<Buffer[]> {
  let at = new URL(url);
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
    const answer = await ask(at, { resolve, ca, signal });
    const { statusCode = 0, headers } = answer;
    if (statusCode >= 300 && statusCode < 400 && headers.location !== undefined) {
      answer.destroy();
      at = next(headers.location, at);
      continue;
    }
    if (statusCode !== 200) {
      answer.destroy();
      throw refuse(`${at.host} answered ${statusCode}`);
    }
    return body(answer, maxBytes, digest);
  }
  throw refuse(`more than ${MAX_REDIRECTS} redirects`);
}

function next(location: string, from: URL): URL {
  if (!URL.canParse(location, from.href)) throw refuse(`${from.host} redirects to what is no URL`);
  const to = new URL(location, from);
  if (to.protocol !== 'https:') throw refuse(`${from.host} redirects to ${to.protocol}//${to.host}, which is not https`);
  return to;
}

async function ask(url: URL, { resolve, ca, signal }: Pick<FetchOptions, 'resolve' | 'ca' | 'signal'>): Promise<IncomingMessage> {
  const port = url.port === '' ? 443 : Number(url.port);
  const { host, servername } = await resolve(url.hostname, port);
  return new Promise((done, reject) => {
    const sent = request({
      host,
      port,
      path: `${url.pathname}${url.search}`,
      headers: { host: url.host, 'user-agent': 'fn', accept: '*/*', connection: 'close' },
      agent: false,
      maxHeaderSize: MAX_HEADER_BYTES,
      signal,
      ...(servername === undefined ? {} : { servername }),
      ...(ca === undefined ? {} : { ca }),
    });
    sent.once('response', done);
    sent.once('error', reject);
    sent.end();
  });
}

async function body(answer: IncomingMessage, maxBytes: number, digest: string): Promise<Buffer[]> {
  const chunks: Buffer[] = [];
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new FnError('body-too-large', `The bundle at the URL has more than ${maxBytes} bytes.`);
    hash.update(chunk);
    chunks.push(chunk);
  }
  const is = `sha256:${hash.digest('hex')}`;
  if (is !== digest) throw refuse(`what is there has the digest ${is}`, '/spec/source/sha256');
  return chunks;
}
