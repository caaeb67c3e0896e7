/**
 * A plain HTTP/1.1 client for tests: what was sent and what came back, byte for byte, without the
 * conveniences of fetch (no redirects, no decompression, no pooling unless an agent is given).
 */
import { type Agent, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import type { Readable } from 'node:stream';

export interface CallOptions {
  method?: string;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer | Readable;
  agent?: Agent;
  /** The call fails after so long. Default 60 s. */
  timeoutMs?: number;
  /** Unix socket to dial in place of the URL's host. */
  socketPath?: string;
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  rawHeaders: string[];
  body: Buffer;
  text: string;
  /** The body, parsed. Throws where it is no JSON. */
  json: <T = Record<string, unknown>>() => T;
  /** From sending to the last byte, ms. */
  ms: number;
}

const DEFAULT_TIMEOUT_MS = 60_000;

/** Starts a request and gives both ends of it. The caller ends it. */
export function open(url: string, options: CallOptions = {}): { request: ClientRequest; response: Promise<IncomingMessage> } {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const request = httpRequest(url, {
    method: options.method ?? 'GET',
    headers: options.headers ?? {},
    agent: options.agent ?? false,
    signal: AbortSignal.timeout(timeoutMs),
    ...(options.socketPath === undefined ? {} : { socketPath: options.socketPath }),
  });
  const response = new Promise<IncomingMessage>((resolve, reject) => {
    request.on('response', resolve);
    request.on('error', reject);
  });
  response.catch(() => {});
  return { request, response };
}

/** Reads a body to its end; rejects when it is cut short. */
export async function readAll(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** One request and its whole answer. Rejects when the connection fails or the body is cut short. */
export async function call(url: string, options: CallOptions = {}): Promise<Answer> {
  const started = performance.now();
  const { request, response } = open(url, options);
  const { body } = options;
  if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) request.end(body);
  else body.pipe(request);
  const incoming = await response;
  const bytes = await readAll(incoming);
  return {
    status: incoming.statusCode ?? 0,
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body: bytes,
    text: bytes.toString(),
    json: <T>() => JSON.parse(bytes.toString()) as T,
    ms: performance.now() - started,
  };
}

/** Sends bytes as they are and gives what came back until the server closed, or all is there that `whole` waits for. */
export function rawExchange(
  port: number,
  bytes: string | Buffer,
  whole?: (text: string) => boolean,
): Promise<{ text: string; closed: boolean }> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    let text = '';
    const finish = (closed: boolean) => {
      clearTimeout(limit);
      socket.destroy();
      resolve({ text, closed });
    };
    const limit = setTimeout(() => finish(false), DEFAULT_TIMEOUT_MS);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (whole?.(text)) finish(false);
    });
    socket.on('close', () => finish(true));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') finish(true);
      else {
        clearTimeout(limit);
        reject(error);
      }
    });
  });
}

export interface Timing {
  /** Milliseconds by phase: queue, start, init, handler, … */
  phases: Record<string, number>;
  start: 'warm' | 'pooled' | 'full' | null;
}

/** Reads Server-Timing. */
export function serverTiming(header: string | string[] | undefined): Timing {
  const timing: Timing = { phases: {}, start: null };
  for (const metric of (Array.isArray(header) ? header.join(',') : (header ?? '')).split(',')) {
    const [name = '', ...params] = metric.split(';').map((part) => part.trim());
    const values = Object.fromEntries(params.map((param) => param.split('=') as [string, string | undefined]));
    if (values.dur !== undefined) timing.phases[name] = Number(values.dur);
    for (const word of [name, values.desc?.replaceAll('"', '')]) {
      if (word === 'warm' || word === 'pooled' || word === 'full') timing.start = word;
    }
  }
  return timing;
}
