/** Sends a CloudEvent to somebody's webhook, signed as Standard Webhooks says. */
import { createHmac } from 'node:crypto';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { retryAfterOf } from './headers.ts';
import type { OutgoingEvent, ResolveHost } from '../triggers/types.ts';
import { batchItem } from './cloudevents.ts';

/** For all of it: resolving, connecting, sending and the head of the answer, ms. */
export const POST_TIMEOUT_MS = 15_000;
const MAX_HEADER_BYTES = 16 * 1_024;
const SECRET_PREFIX = 'whsec_';

export interface SignedPost {
  url: string;
  /** null: it is not signed. */
  secret: string | null;
  event: OutgoingEvent;
  resolve: ResolveHost;
  /** Milliseconds since 1970. */
  at: number;
  timeoutMs?: number;
  /** Authorities to trust in place of those that Node knows, PEM. */
  ca?: string;
}

/** Says what the receiver answered. */
export class PostRefused extends Error {
  readonly status: number;
  readonly retryAfterSeconds: number | null;

  constructor(host: string, status: number, retryAfterSeconds: number | null) {
    super(`${host} answered ${status}`);
    this.name = 'PostRefused';
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Value of `webhook-signature`. A secret that begins with whsec_ is Base64 behind it; any other one is used as it is. */
export function signature(secret: string, id: string, seconds: number, body: Uint8Array): string {
  const key = secret.startsWith(SECRET_PREFIX) ? Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64') : Buffer.from(secret, 'utf8');
  return `v1,${createHmac('sha256', key).update(`${id}.${seconds}.`).update(body).digest('base64')}`;
}

/** Resolves on 2xx. Throws PostRefused on any other answer: a redirect is not followed; and an Error where there was none. */
export async function postSigned({ url: text, secret, event, resolve, at, timeoutMs = POST_TIMEOUT_MS, ca }: SignedPost): Promise<void> {
  const url = new URL(text);
  const secure = url.protocol === 'https:';
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port);
  const signal = AbortSignal.timeout(timeoutMs);
  const { host, servername } = await resolve(url.hostname, port);
  // The JSON format of one event is what it is in a batch.
  const body = Buffer.from(batchItem(event), 'utf8');
  const seconds = Math.floor(at / 1_000);
  const id = event.attributes['id'] ?? '';
  const options: RequestOptions = {
    host,
    port,
    method: 'POST',
    path: `${url.pathname}${url.search}`,
    headers: {
      host: url.host,
      'content-type': 'application/cloudevents+json; charset=utf-8',
      'content-length': String(body.length),
      'user-agent': 'fn',
      connection: 'close',
      'webhook-id': id,
      'webhook-timestamp': String(seconds),
      ...(secret === null ? {} : { 'webhook-signature': signature(secret, id, seconds, body) }),
      ...(url.username === '' ? {} : { authorization: basic(url) }),
    },
    agent: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    signal,
    ...(servername === undefined ? {} : { servername }),
    ...(ca === undefined ? {} : { ca }),
  };
  const answer = await answerOf(secure ? httpsRequest : httpRequest, options, body, timeoutMs);
  const status = answer.statusCode ?? 0;
  const pause = retryAfterOf(answer.headers['retry-after'], at);
  // What it says is of no interest, and may be without end.
  answer.destroy();
  if (status < 200 || status > 299) throw new PostRefused(url.host, status, pause);
}

const basic = (url: URL): string =>
  `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`, 'utf8').toString('base64')}`;

function answerOf(request: typeof httpsRequest, options: RequestOptions, body: Buffer, timeoutMs: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const sent = request(options);
    sent.once('response', resolve);
    sent.on('error', (error) => reject(error.name === 'AbortError' ? new Error(`no answer within ${timeoutMs} ms`) : error));
    sent.end(body);
  });
}
