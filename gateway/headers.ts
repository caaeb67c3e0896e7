/**
 * Which headers cross the gateway. Hop-by-hop ones and those that Connection lists end here, both
 * ways; so does whatever begins with `fn-`, which is the platform's own language. X-Forwarded-* and
 * its kin are believed from trusted peers only.
 */
import type { ErrorCode } from '#contract/errors.ts';
import { HEADERS } from '#contract/runtime.ts';
import { dropHeaders } from './flat-headers.ts';

/** Limits of a request's head. Node's own limit (main.ts) is above both together. */
export const HEAD_LIMITS = {
  /** Names and values, with the `: ` and CRLF around them. */
  maxHeaderBytes: 16 * 1_024,
  maxHeaders: 128,
  maxUrlBytes: 8 * 1_024,
} as const;

/** Responses: informational (1xx) ones before the final one. */
export const MAX_INFORMATIONAL = 16;

const FORWARD = 0;
const DROP = 1;
const HOST = 2;
const CONTENT_LENGTH = 3;
const TRANSFER_ENCODING = 4;
const CONNECTION = 5;
const REQUEST_ID = 6;
const TRACEPARENT = 7;
const TRACESTATE = 8;
const FROM_PROXY = 9;
const DATE = 10;
const SERVER_TIMING = 11;
const ORIGIN = 12;
const PREFER = 13;
const SPECIAL = 14;
const PROXY_CONNECTION = 15;
type Kind = number;

const REQUEST_KINDS: Record<string, Kind> = {
  Host: HOST,
  'Content-Length': CONTENT_LENGTH,
  'Transfer-Encoding': TRANSFER_ENCODING,
  Connection: CONNECTION,
  'Keep-Alive': DROP,
  'Proxy-Connection': PROXY_CONNECTION,
  'Proxy-Authenticate': DROP,
  'Proxy-Authorization': DROP,
  TE: DROP,
  Trailer: DROP,
  Upgrade: SPECIAL,
  'HTTP2-Settings': DROP,
  // Answered here: 100 when the request goes out, 417 for anything but 100-continue.
  Expect: SPECIAL,
  'X-Request-Id': REQUEST_ID,
  Traceparent: TRACEPARENT,
  Tracestate: TRACESTATE,
  'X-Forwarded-For': FROM_PROXY,
  'X-Forwarded-Proto': FROM_PROXY,
  'X-Forwarded-Host': FROM_PROXY,
  'X-Forwarded-Prefix': FROM_PROXY,
  'X-Forwarded-Port': FROM_PROXY,
  Forwarded: FROM_PROXY,
  'X-Real-Ip': FROM_PROXY,
  Prefer: PREFER,
  // Frequent ones, so that they need no lower-casing below.
  Accept: FORWARD,
  'Accept-Encoding': FORWARD,
  'Accept-Language': FORWARD,
  Authorization: FORWARD,
  'Cache-Control': FORWARD,
  'Content-Type': FORWARD,
  Cookie: FORWARD,
  'If-None-Match': FORWARD,
  Origin: FORWARD,
  Referer: FORWARD,
  'User-Agent': FORWARD,
};

interface KnownName {
  lower: string;
  kind: Kind;
}

const REQUEST_NAMES = new Map<string, KnownName>();
for (const [name, kind] of Object.entries(REQUEST_KINDS)) {
  const known = { lower: name.toLowerCase(), kind };
  REQUEST_NAMES.set(name, known).set(known.lower, known).set(name.toUpperCase(), known);
}

function classify(name: string): KnownName {
  const lower = name.toLowerCase();
  const known = REQUEST_NAMES.get(lower);
  if (known !== undefined) return known;
  if (lower.startsWith('x-forwarded-')) return { lower, kind: FROM_PROXY };
  return { lower, kind: lower.startsWith('fn-') ? DROP : FORWARD };
}

/** What a request's headers say, and those that go on to the function, as a flat list. */
export interface RequestHead {
  /** Lower-case name, value, … without those that the platform sets itself. */
  readonly forward: string[];
  host: string | null;
  /** Declared length of the body; −1 where none is declared. */
  contentLength: number;
  chunked: boolean;
  /** It asks for something of its connection other than to be kept: an upgrade, a 100, an end. */
  special: boolean;
  requestId: string | null;
  traceparent: string | undefined;
  tracestate: string | null;
  /** What the client prefers (RFC 7240); it is passed on, too. */
  prefer: string | null;
  /** From a trusted peer only. */
  forwardedFor: string | null;
  forwardedProto: string | null;
  forwardedHost: string | null;
  forwardedPrefix: string | null;
}

export interface HeadRefusal {
  code: ErrorCode;
  detail: string;
  /** The connection cannot be used on: where this request ends is not certain. */
  close: boolean;
  /** `Allow`, for 405. */
  allow?: string | undefined;
}

export const refusal = (code: ErrorCode, detail: string, close = false): HeadRefusal => ({ code, detail, close });

const REQUEST_ID_PATTERN = /^[A-Za-z0-9._-]{1,128}$/;
/** `uri-host [":" port]` of RFC 9112; may be empty. What is none of these, functions and libraries read each in their own way. */
export const HOST_PATTERN = /^(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{0,5})?$/;
const CONTENT_LENGTH_PATTERN = /^[0-9]{1,15}$/;

/** Reads a request's raw headers (as of Node: name, value, name, value, …). */
export function readRequestHead(raw: readonly string[], trusted: boolean): RequestHead | HeadRefusal {
  const count = raw.length;
  if (count > HEAD_LIMITS.maxHeaders * 2) return refusal('headers-too-large', `more than ${HEAD_LIMITS.maxHeaders} headers`, true);
  const head: RequestHead = {
    forward: [],
    host: null,
    contentLength: -1,
    chunked: false,
    special: false,
    requestId: null,
    traceparent: undefined,
    tracestate: null,
    prefer: null,
    forwardedFor: null,
    forwardedProto: null,
    forwardedHost: null,
    forwardedPrefix: null,
  };
  let bytes = 0;
  let listed: string | null = null;
  for (let i = 0; i < count; i += 2) {
    const name = raw[i]!;
    const value = raw[i + 1]!;
    bytes += name.length + value.length + 4;
    const known = REQUEST_NAMES.get(name) ?? classify(name);
    switch (known.kind) {
      case FORWARD:
        head.forward.push(known.lower, value);
        break;
      case DROP:
        break;
      case SPECIAL:
        head.special = true;
        break;
      case PROXY_CONNECTION:
        // Node's parser reads it as it reads Connection.
        head.special ||= value.toLowerCase() !== 'keep-alive';
        break;
      case CONNECTION:
        listed = listed === null ? value : `${listed},${value}`;
        break;
      default: {
        const refused = readSpecial(head, known, value, trusted);
        if (refused !== null) return refused;
      }
    }
  }
  if (bytes > HEAD_LIMITS.maxHeaderBytes)
    return refusal('headers-too-large', `the headers are over ${HEAD_LIMITS.maxHeaderBytes} bytes`, true);
  if (head.chunked && head.contentLength >= 0) return refusal('bad-request', 'both Content-Length and Transfer-Encoding', true);
  if (listed !== null) {
    head.special ||= listed.toLowerCase() !== 'keep-alive';
    dropListed(head.forward, listed);
  }
  return head;
}

function readSpecial(head: RequestHead, { lower, kind }: KnownName, value: string, trusted: boolean): HeadRefusal | null {
  switch (kind) {
    case HOST:
      if (head.host !== null) return refusal('bad-request', 'more than one Host header', true);
      if (!HOST_PATTERN.test(value)) return refusal('bad-request', 'the Host header is not HOST or HOST:PORT', true);
      head.host = value;
      return null;
    case CONTENT_LENGTH:
      if (head.contentLength >= 0 || !CONTENT_LENGTH_PATTERN.test(value)) return refusal('bad-request', 'invalid Content-Length', true);
      head.contentLength = Number(value);
      return null;
    case TRANSFER_ENCODING:
      if (head.chunked) return refusal('bad-request', 'more than one Transfer-Encoding', true);
      if (value.trim().toLowerCase() !== 'chunked')
        return refusal('not-implemented', 'the only transfer coding known here is chunked', true);
      head.chunked = true;
      return null;
    case REQUEST_ID:
      if (REQUEST_ID_PATTERN.test(value)) head.requestId = value;
      return null;
    case TRACEPARENT:
      head.traceparent = value;
      return null;
    case TRACESTATE:
      head.tracestate = head.tracestate === null ? value : `${head.tracestate},${value}`;
      return null;
    case PREFER:
      head.prefer = head.prefer === null ? value : `${head.prefer},${value}`;
      head.forward.push(lower, value);
      return null;
    default:
      if (trusted) readForwarded(head, lower, value);
      return null;
  }
}

function readForwarded(head: RequestHead, lower: string, value: string): void {
  if (lower === 'x-forwarded-for') head.forwardedFor = head.forwardedFor === null ? value : `${head.forwardedFor}, ${value}`;
  else if (lower === 'x-forwarded-proto') head.forwardedProto ??= value;
  else if (lower === 'x-forwarded-host') head.forwardedHost ??= value;
  else if (lower === 'x-forwarded-prefix') head.forwardedPrefix ??= value;
  else head.forward.push(lower, value);
}

/** Takes out, in place, what a Connection header names. The commonest values name nothing. */
function dropListed(flat: string[], listed: string): void {
  const lower = listed.toLowerCase();
  if (lower === 'keep-alive' || lower === 'close') return;
  const names = new Set(lower.split(',').map((token) => token.trim()));
  dropHeaders(flat, (name) => names.has(name));
}

/** What is known of a client's request beside its headers. */
export interface ClientFacts {
  remote: string;
  /** Did the request come over TLS? */
  secure: boolean;
  /** What the function does not see of the path; empty where it sees all. */
  prefix: string;
  fallbackHost: string;
  /** The client's trace goes on: its tracestate is good. */
  continued: boolean;
}

/** What the platform tells the function about a request. */
export interface FunctionHeaderFacts extends ClientFacts {
  requestId: string;
  instance: string;
  /** When the gateway gives up, ms since 1970. */
  deadline: number;
  traceparent: string;
}

/** The headers of a request that say what the client asked for and who it is, as a flat list. */
export function clientHeaders(head: RequestHead, facts: ClientFacts): string[] {
  const host = head.host ?? facts.fallbackHost;
  const prefix = head.forwardedPrefix === null ? facts.prefix : head.forwardedPrefix + facts.prefix;
  // Not concat(): copying the list first is several times as fast.
  const headers = head.forward.slice();
  headers.push(
    'host',
    host,
    'x-forwarded-for',
    head.forwardedFor === null ? facts.remote : `${head.forwardedFor}, ${facts.remote}`,
    'x-forwarded-proto',
    head.forwardedProto ?? (facts.secure ? 'https' : 'http'),
    'x-forwarded-host',
    head.forwardedHost ?? host,
  );
  if (prefix !== '') headers.push('x-forwarded-prefix', prefix);
  if (facts.continued && head.tracestate !== null) headers.push('tracestate', head.tracestate);
  return headers;
}

/** The headers that the function gets, as a flat list. */
export function functionHeaders(head: RequestHead, facts: FunctionHeaderFacts): string[] {
  const headers = clientHeaders(head, facts);
  headers.push(
    HEADERS.requestId,
    facts.requestId,
    HEADERS.traceparent,
    facts.traceparent,
    HEADERS.deadline,
    String(facts.deadline),
    HEADERS.instance,
    facts.instance,
  );
  return headers;
}

const RESPONSE_KINDS = new Map<string, Kind>([
  ['connection', CONNECTION],
  ['keep-alive', DROP],
  ['proxy-connection', DROP],
  ['proxy-authenticate', DROP],
  ['proxy-authorization', DROP],
  ['te', DROP],
  ['trailer', DROP],
  ['upgrade', DROP],
  [HEADERS.requestId, DROP],
  ['transfer-encoding', TRANSFER_ENCODING],
  ['content-length', CONTENT_LENGTH],
  ['date', DATE],
  ['server-timing', SERVER_TIMING],
  // What a browser does by them it does to the whole origin.
  ['strict-transport-security', ORIGIN],
  ['alt-svc', ORIGIN],
  ['clear-site-data', ORIGIN],
  ['public-key-pins', ORIGIN],
  ['service-worker-allowed', ORIGIN],
]);

/** What a function's response headers say. */
export interface ResponseHead {
  /** Lower-case name, value, …, as far as they may pass. */
  readonly flat: string[];
  /** Declared length of the body; −1 where none is declared. */
  contentLength: number;
  /** The function's own Server-Timing, to be kept beside ours. */
  serverTiming: string | null;
}

/**
 * Reads a response's headers (lower-case name, value, …; framing has been looked at, response-parser.ts). A string says what
 * makes the response invalid. On a host that is `shared` with other tenants, what speaks for the whole origin is left out.
 */
export function readResponseHead(raw: readonly string[], shared: boolean): ResponseHead | string {
  const flat: string[] = [];
  const head: ResponseHead = { flat, contentLength: -1, serverTiming: null };
  let chunked = false;
  let dated = false;
  let listed: string | null = null;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    const value = raw[i + 1]!;
    switch (RESPONSE_KINDS.get(name)) {
      case undefined:
        if (!name.startsWith('fn-')) flat.push(name, value);
        break;
      case ORIGIN:
        if (!shared) flat.push(name, value);
        break;
      case CONNECTION:
        listed = listed === null ? value : `${listed}, ${value}`;
        break;
      case TRANSFER_ENCODING:
        if (chunked || value.trim().toLowerCase() !== 'chunked') return 'a transfer coding other than chunked';
        chunked = true;
        break;
      case CONTENT_LENGTH:
        if (head.contentLength >= 0 || !CONTENT_LENGTH_PATTERN.test(value)) return 'an invalid Content-Length';
        head.contentLength = Number(value);
        flat.push(name, value);
        break;
      case DATE:
        if (!dated) flat.push(name, value);
        dated = true;
        break;
      case SERVER_TIMING:
        head.serverTiming = head.serverTiming === null ? value : `${head.serverTiming}, ${value}`;
        break;
      default:
    }
  }
  if (chunked && head.contentLength >= 0) return 'both Content-Length and Transfer-Encoding';
  if (listed !== null) dropListed(flat, listed);
  return head;
}
