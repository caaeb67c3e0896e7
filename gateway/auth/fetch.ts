/**
 * Fetches a document from a URL that a user of the platform chose. The name is resolved here, the
 * address is checked, and that very address is dialled: what the name leads to a moment later does not
 * matter. Redirects go the same way again.
 */
import { lookup } from 'node:dns/promises';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { type RequestOptions as HttpsOptions, request as httpsRequest } from 'node:https';
import { type BlockList, isIP } from 'node:net';
import { mayDial } from '#kit/public-address.ts';

/** For all of it: resolving, connecting, redirects and the body. */
export const FETCH_TIMEOUT_MS = 5_000;
export const MAX_DOCUMENT_BYTES = 128 * 1_024;
export const MAX_REDIRECTS = 3;
const MAX_HEADER_BYTES = 16 * 1_024;

export interface FetchOptions {
  /** Networks beside the public internet that may be dialled. */
  allowed: BlockList;
  resolve?: (host: string) => Promise<readonly { address: string }[]>;
  /** Authorities to trust in place of those that Node knows, PEM. */
  ca?: string | undefined;
}

const resolveAll = (host: string): Promise<readonly { address: string }[]> => lookup(host, { all: true, verbatim: true });

/** The text at a URL of http or https. Throws an Error that says what went wrong. */
export async function fetchDocument(url: string, options: FetchOptions): Promise<string> {
  const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
  const timedOut = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error(`no answer within ${FETCH_TIMEOUT_MS} ms`)), { once: true });
  });
  // Resolving a name cannot be aborted: it is left to itself.
  return Promise.race([follow(new URL(url), options, signal), timedOut]);
}

async function follow(first: URL, options: FetchOptions, signal: AbortSignal): Promise<string> {
  let url = first;
  for (let redirects = 0; ; redirects++) {
    const response = await get(url, await addressOf(url, options), options.ca, signal);
    const location = response.headers.location;
    const status = response.statusCode ?? 0;
    if (status === 200) return bodyOf(response);
    response.destroy();
    if (![301, 302, 303, 307, 308].includes(status) || location === undefined) throw new Error(`${url.host} answered ${status}`);
    if (redirects >= MAX_REDIRECTS) throw new Error(`more than ${MAX_REDIRECTS} redirects`);
    const next = URL.parse(location, url.href);
    if (next === null) throw new Error(`${url.host} redirects to what is no URL`);
    if (url.protocol === 'https:' && next.protocol !== 'https:') throw new Error(`${url.host} redirects from https to ${next.protocol}`);
    url = next;
  }
}

/** The address to dial for a URL. Throws where there is none that may be. */
async function addressOf(url: URL, { allowed, resolve = resolveAll }: FetchOptions): Promise<string> {
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new Error(`${url.protocol} is neither http nor https`);
  if (url.username !== '' || url.password !== '') throw new Error('a URL with a name or password in it is not fetched');
  const host = url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname;
  const addresses = isIP(host) === 0 ? (await resolve(host)).map(({ address }) => address) : [host];
  const dialled = addresses.find((address) => mayDial(address, allowed));
  if (dialled === undefined) throw new Error(`${url.hostname} has no public address, and FN_JWKS_ALLOW does not list one of its own`);
  return dialled;
}

function get(url: URL, address: string, ca: string | undefined, signal: AbortSignal): Promise<IncomingMessage> {
  const name = isIP(url.hostname) === 0 && !url.hostname.startsWith('[') ? url.hostname : undefined;
  const options: HttpsOptions = {
    host: address,
    port: url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, accept: 'application/jwk-set+json, application/json', 'user-agent': 'fn', connection: 'close' },
    agent: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    signal,
    // The certificate is checked against this name, not against the address.
    ...(name === undefined ? {} : { servername: name }),
    ...(ca === undefined ? {} : { ca }),
  };
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(options);
    request.once('response', resolve);
    request.once('error', reject);
    request.end();
  });
}

async function bodyOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_DOCUMENT_BYTES) throw new Error(`the document is over ${MAX_DOCUMENT_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
