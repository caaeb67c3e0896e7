/**
 * Requests that can be read in one way only, read at once: a packet that is one whole HTTP/1.1 request (RFC 9112) for a path,
 * written as nearly every client writes it. What is anything else is no error here: Node's parser and server.ts have it, and
 * say what is wrong with it. So nothing is taken here that those would refuse, and what is taken is read as they would read it
 * (fast-request.test.ts holds the two side by side).
 */
import type { Socket } from 'node:net';
import { HEAD_LIMITS, readRequestHead, type RequestHead } from './headers.ts';

/** A head of this many bytes has no place here, bytes: it may be over a limit. */
const MAX_HEAD_BYTES = HEAD_LIMITS.maxHeaderBytes;

/** Up to the empty line behind the head. No fragment, no blank line before it, no line that is folded, no bare CR or LF. */
const HEAD =
  /^(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) \/[\x21\x22\x24-\x7e]* HTTP\/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+\r\n/y;

const SPACE = 32;
const CRLF = '\r\n';

const isBlank = (char: number): boolean => char === SPACE || char === 9;

/** As much of Node's IncomingMessage as is asked of a request for a function. All of it has arrived. */
export class FastRequest {
  readonly socket: Socket;
  readonly method: string;
  readonly url: string;
  /** Name, value, … as they came. */
  readonly rawHeaders: readonly string[];
  readonly complete = true;
  /** null: it has none. */
  readonly body: Buffer | null;

  constructor(socket: Socket, method: string, url: string, rawHeaders: readonly string[], body: Buffer | null) {
    this.socket = socket;
    this.method = method;
    this.url = url;
    this.rawHeaders = rawHeaders;
    this.body = body;
  }
}

/** Name, value, … of the lines of `text` between these; null where a value has blanks around it beside the one that is usual. */
function readHeaders(text: string, from: number, to: number): string[] | null {
  const flat: string[] = [];
  for (let at = from; at < to;) {
    const colon = text.indexOf(':', at);
    const end = text.indexOf(CRLF, colon);
    const begin = text.charCodeAt(colon + 1) === SPACE ? colon + 2 : colon + 1;
    if (begin < end && (isBlank(text.charCodeAt(begin)) || isBlank(text.charCodeAt(end - 1)))) return null;
    if (begin > end) return null;
    flat.push(text.slice(at, colon), text.slice(begin, end));
    at = end + 2;
  }
  return flat;
}

/** `chunk` as one whole request, with what its headers say; null where it is not as plain as that. */
export function readFastRequest(
  socket: Socket,
  chunk: Buffer,
  trusted: boolean,
): { readonly incoming: FastRequest; readonly head: RequestHead } | null {
  const text = chunk.toString('latin1', 0, Math.min(chunk.length, MAX_HEAD_BYTES));
  HEAD.lastIndex = 0;
  if (!HEAD.test(text)) return null;
  const bodyAt = HEAD.lastIndex;
  const methodEnd = text.indexOf(' ');
  const urlEnd = text.indexOf(' ', methodEnd + 1);
  if (urlEnd - methodEnd > HEAD_LIMITS.maxUrlBytes) return null;
  const rawHeaders = readHeaders(text, text.indexOf(CRLF, urlEnd) + 2, bodyAt - 2);
  if (rawHeaders === null) return null;
  const head = readRequestHead(rawHeaders, trusted);
  if ('code' in head || head.special || head.chunked || head.host === null) return null;
  const bodyLength = chunk.length - bodyAt;
  if (bodyLength !== Math.max(0, head.contentLength)) return null;
  const body = bodyLength === 0 ? null : chunk.subarray(bodyAt);
  const url = text.slice(methodEnd + 1, urlEnd);
  return { incoming: new FastRequest(socket, text.slice(0, methodEnd), url, rawHeaders, body), head };
}
