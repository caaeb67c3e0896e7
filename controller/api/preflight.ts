/**
 * What is refused before anything interprets a request: framing that two parsers would read
 * differently, and paths that routers normalise. Works on the raw request, since a Request object has
 * resolved `..` and `\` already.
 */
import type { IncomingMessage } from 'node:http';
import { type ErrorCode, FnError } from '#contract/errors.ts';

export interface RequestLimits {
  /** Bytes of all header names and values together. */
  maxHeaderBytes: number;
  maxHeaders: number;
  maxUrlBytes: number;
}

export const REQUEST_LIMITS: RequestLimits = { maxHeaderBytes: 16 * 1024, maxHeaders: 100, maxUrlBytes: 8 * 1024 };

/** Headers that must not be there twice: which of the two counts is a matter of taste. */
const SINGLE = new Set(['host', 'authorization', 'content-type', 'content-encoding', 'expect', 'if-match']);
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']);
const HOST = /^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/;
/** In a path: `\`, `%` before 00, `.`, `/` or `\`, `//`, a segment `.` or `..`. */
const AMBIGUOUS_PATH = /\\|%(?:00|2e|2f|5c)|\/\/|\/\.{1,2}(?:\/|$)/i;

/** Why this request is refused; null where it may go on. Absolute-form targets are rewritten to their path. */
export function preflight(incoming: IncomingMessage, limits: RequestLimits): FnError | null {
  return framing(incoming) ?? headers(incoming, limits) ?? target(incoming, limits);
}

const refuse = (code: ErrorCode, detail: string): FnError => new FnError(code, detail);

function framing(incoming: IncomingMessage): FnError | null {
  const coding = incoming.headers['transfer-encoding'];
  if (incoming.httpVersion !== '1.1' && incoming.httpVersion !== '1.0')
    return refuse('bad-request', `HTTP/${incoming.httpVersion} is not spoken here.`);
  if (coding === undefined) return null;
  if (incoming.httpVersion === '1.0') return refuse('bad-request', 'HTTP/1.0 has no Transfer-Encoding.');
  if (coding.trim().toLowerCase() !== 'chunked') return refuse('not-implemented', 'The only transfer coding is chunked.');
  if (incoming.headers['content-length'] !== undefined)
    return refuse('bad-request', 'Content-Length and Transfer-Encoding exclude each other.');
  return null;
}

function headers(incoming: IncomingMessage, { maxHeaderBytes, maxHeaders }: RequestLimits): FnError | null {
  const raw = incoming.rawHeaders;
  if (raw.length / 2 > maxHeaders) return refuse('headers-too-large', `A request has at most ${maxHeaders} headers.`);
  const seen = new Set<string>();
  let bytes = 0;
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index]!.toLowerCase();
    // ": " and CRLF; latin1, so a character is a byte.
    bytes += raw[index]!.length + raw[index + 1]!.length + 4;
    if (SINGLE.has(name) && seen.has(name)) return refuse('bad-request', `The header ${name} is there twice.`);
    seen.add(name);
  }
  if (bytes > maxHeaderBytes) return refuse('headers-too-large', `Headers have at most ${maxHeaderBytes} bytes.`);
  const { host } = incoming.headers;
  if (host === undefined && incoming.httpVersion === '1.1') return refuse('bad-request', 'The header host is missing.');
  if (host !== undefined && !HOST.test(host)) return refuse('bad-request', 'The header host is not HOST or HOST:PORT.');
  return null;
}

function target(incoming: IncomingMessage, { maxUrlBytes }: RequestLimits): FnError | null {
  const url = incoming.url ?? '';
  if (url.length > maxUrlBytes) return refuse('uri-too-long', `A URL has at most ${maxUrlBytes} bytes.`);
  if (!METHODS.has(incoming.method ?? '')) return refuse('method-not-allowed', 'This method is not allowed here.');
  const absolute = /^http:\/\/([^/?#]*)(.*)$/i.exec(url);
  if (absolute !== null) {
    if (absolute[1]!.toLowerCase() !== incoming.headers.host?.toLowerCase())
      return refuse('bad-request', 'The authority of the URL is not that of the header host.');
    incoming.url = absolute[2]!.startsWith('/') ? absolute[2]! : `/${absolute[2]!}`;
  }
  const path = incoming.url!.split('?', 1)[0]!;
  if (!path.startsWith('/')) return refuse('bad-request', 'The URL must begin with /.');
  if (incoming.url!.includes('#')) return refuse('bad-request', 'A URL in a request has no fragment.');
  if (AMBIGUOUS_PATH.test(path))
    return refuse('bad-request', 'The path holds \\, an encoded NUL, dot or slash, an empty segment or a dot segment.');
  if (/[^\u0021-\u007e]/.test(incoming.url!)) return refuse('bad-request', 'The URL holds characters that must be percent-encoded.');
  return null;
}
