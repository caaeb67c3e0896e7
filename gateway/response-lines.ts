/** The lines of a response's head, of its chunks and of its trailers (RFC 9112, 4, 5 and 7.1), strictly: what is not as it should be throws. */

const TAB = 9;
const LF = 10;
const CR = 13;
const SPACE = 32;
const SEMICOLON = 59;
const DEL = 127;

/** Headers of one response; as many may be in its trailers. */
export const MAX_RESPONSE_HEADERS = 1_000;
/** What each response begins with, but for the last digit of its version. */
export const VERSION = 'HTTP/1.';
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** What came is no response, or not to what was asked. */
export class ResponseError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ResponseError';
  }
}

// Names that frame a message, or are frequent, so that they need no lower-casing.
export const OTHER = 0;
export const CONTENT_LENGTH = 1;
export const TRANSFER_ENCODING = 2;
export const CONNECTION = 3;
export const KEEP_ALIVE = 4;

export interface KnownName {
  readonly lower: string;
  readonly kind: number;
}

const NAMES = new Map<string, KnownName>();
for (const [name, kind] of [
  ['Content-Length', CONTENT_LENGTH],
  ['Transfer-Encoding', TRANSFER_ENCODING],
  ['Connection', CONNECTION],
  ['Keep-Alive', KEEP_ALIVE],
  ...['Content-Type', 'Date', 'Cache-Control', 'Etag', 'Vary', 'Location', 'Set-Cookie', 'X-Request-Id', 'Server-Timing', 'Server'].map(
    (frequent) => [frequent, OTHER] as const,
  ),
] as const) {
  const known = { lower: name.toLowerCase(), kind };
  NAMES.set(name, known).set(known.lower, known);
}

/** Throws where it is no token. */
export function nameOf(text: string): KnownName {
  const known = NAMES.get(text);
  if (known !== undefined) return known;
  if (!TOKEN.test(text)) throw new ResponseError('a name of a header is none');
  const lower = text.toLowerCase();
  return NAMES.get(lower) ?? { lower, kind: OTHER };
}

export const notHttp = () => new ResponseError('the response does not begin with HTTP/1.1');
/** Not CRLF. */
export const lineEnd = () => new ResponseError('a line of the response does not end in CRLF');

/** Of the first line, which is looked at up to it. */
export function statusOf(text: string): number {
  const minor = text.charCodeAt(VERSION.length);
  if (!text.startsWith(VERSION) || (minor !== 49 && minor !== 48) || text.charCodeAt(8) !== SPACE) throw notHttp();
  const status = (text.charCodeAt(9) - 48) * 100 + (text.charCodeAt(10) - 48) * 10 + text.charCodeAt(11) - 48;
  const after = text.charCodeAt(12);
  for (let i = 9; i < 12; i++) {
    const char = text.charCodeAt(i);
    if (!(char >= 48 && char <= 57)) throw new ResponseError('the status of the response is no number');
  }
  if (status < 100 || (after !== SPACE && after !== CR)) throw new ResponseError('the status of the response is no number');
  return status;
}

/** Any byte may be in it but CR and LF. */
export function endOfReason(text: string): number {
  const end = text.indexOf('\r', 12);
  const feed = text.indexOf('\n', 12);
  if (end < 0 || feed !== end + 1) throw lineEnd();
  return end;
}

/** Where the CRLF of a line begins. Throws where what stands before it may not be in a header. */
export function endOfValue(text: string, at: number): number {
  for (; ; at++) {
    const char = text.charCodeAt(at);
    if (char >= SPACE && char !== DEL) continue;
    if (char === TAB) continue;
    if (char === CR && text.charCodeAt(at + 1) === LF) return at;
    throw new ResponseError('a header of the response holds a control character');
  }
}

/** Without the blanks around it. */
export function trimmed(text: string, from: number, to: number): string {
  while (from < to && isBlank(text.charCodeAt(from))) from++;
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--;
  return text.slice(from, to);
}

const isBlank = (char: number): boolean => char === SPACE || char === TAB;

// The line before a chunk.

export const badChunk = () => new ResponseError('a chunk of the response is not as it should be');

/** Of a hex digit; −1: it is none. */
export function digit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const letter = byte | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}

/** They mean nothing here, but must not hide a line. Throws where they would. */
export function checkExtensions(line: Buffer, at: number, till: number): void {
  if (line[at] !== SEMICOLON) throw badChunk();
  for (; at < till; at++) {
    const byte = line[at]!;
    if ((byte < SPACE && byte !== TAB) || byte === DEL) throw badChunk();
  }
}

/** Nobody gets them: each has to be a header, from `at` to the end of the text, with its CRLF. Throws where one is not, or there are too many. */
export function checkTrailers(text: string, at: number): void {
  for (let count = 1; at < text.length; count++) {
    const colon = text.indexOf(':', at);
    if (colon <= at) throw new ResponseError('a line of the trailers is no header');
    nameOf(text.slice(at, colon));
    at = endOfValue(text, colon + 1) + 2;
    if (count > MAX_RESPONSE_HEADERS) throw new ResponseError('the response has too many trailers');
  }
}
