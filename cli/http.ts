/** One HTTP request over a unix socket or TCP, with the answer as a stream. Plain node:http: nothing to load. */
import type { IncomingHttpHeaders, IncomingMessage, RequestOptions } from 'node:http';
import { request as httpRequest } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CliError } from './errors.ts';

export type Target = { socketPath: string } | { url: URL };

export interface RequestSpec {
  method: string;
  /** With the query. Added to the path of the target's URL. */
  path: string;
  headers?: Record<string, string | string[]>;
  /** A stream is sent chunked, no faster than it is taken. */
  body?: Uint8Array | Readable | undefined;
  signal?: AbortSignal | undefined;
  /** Until the answer begins. */
  timeoutMs: number;
}

export interface Reply {
  status: number;
  statusText: string;
  headers: IncomingHttpHeaders;
  /** Names and values as they came, in turn. */
  rawHeaders: string[];
  body: IncomingMessage;
}

/** Resolves when the head of the answer is there. Rejects with Node's own error where no connection can be had. */
export async function request(target: Target, { method, path, headers = {}, body, signal, timeoutMs }: RequestSpec): Promise<Reply> {
  const options: RequestOptions = { method, headers: { ...headers }, agent: false };
  if (signal) options.signal = signal;
  let send = httpRequest;
  if ('socketPath' in target) Object.assign(options, { socketPath: target.socketPath, path });
  else {
    const { url } = target;
    const prefix = url.pathname.replace(/\/$/, '');
    Object.assign(options, { hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port, path: `${prefix}${path}` });
    if (url.protocol === 'https:') send = (await import('node:https')).request;
  }
  return new Promise((resolve, reject) => {
    const outgoing = send(options);
    const timer = setTimeout(
      () => outgoing.destroy(new CliError(`no answer to ${method} ${path} within ${timeoutMs / 1_000} s`)),
      timeoutMs,
    );
    outgoing.on('response', (incoming) => {
      clearTimeout(timer);
      resolve({
        status: incoming.statusCode ?? 0,
        statusText: incoming.statusMessage ?? '',
        headers: incoming.headers,
        rawHeaders: incoming.rawHeaders,
        body: incoming,
      });
    });
    outgoing.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    // An answer before the end of the body is an answer all the same; what breaks the request has rejected already.
    if (body === undefined || body instanceof Uint8Array) outgoing.end(body);
    else pipeline(body, outgoing).catch((error: unknown) => reject(error));
  });
}

/** The whole body; throws where it is longer than `maxBytes`. */
export async function readBody(reply: Reply, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of reply.body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) {
      reply.body.destroy();
      throw new CliError(`the answer is longer than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
