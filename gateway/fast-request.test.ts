/** What the fast path takes, beside what Node's own parser makes of the same bytes: the same, or it is left to that. */
import { createServer, type IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fuzzed, fuzzTimeoutMs } from '../test/helpers/fuzz.ts';
import { readFastRequest } from './fast-request.ts';

/** One end of a connection that says `bytes` and no more, and of which nobody reads. */
class Said extends Duplex {
  readonly remoteAddress = '127.0.0.1';
  #bytes: Buffer | null;

  constructor(bytes: Buffer) {
    super({ allowHalfOpen: true });
    this.#bytes = bytes;
  }

  override _read(): void {
    const bytes = this.#bytes;
    this.#bytes = null;
    if (bytes !== null) this.push(bytes);
  }

  override _write(_chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    callback();
  }

  setTimeout(): this {
    return this;
  }
}

interface Read {
  method: string;
  url: string;
  rawHeaders: readonly string[];
  body: string;
}

const MAX_HEADER_SIZE = 64 * 1_024;

/** What a strict server of Node takes `bytes` for: requests that came whole, and whether anything was wrong or is yet to come. */
async function byNode(bytes: Buffer): Promise<{ requests: Read[]; whole: boolean }> {
  const requests: Read[] = [];
  let begun = 0;
  let wrong = false;
  const take = (incoming: IncomingMessage) => {
    begun++;
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const { method = '', url = '', rawHeaders } = incoming;
      requests.push({ method, url, rawHeaders, body: Buffer.concat(chunks).toString('latin1') });
    });
  };
  const server = createServer({ maxHeaderSize: MAX_HEADER_SIZE, requireHostHeader: false });
  for (const event of ['request', 'checkContinue', 'checkExpectation']) server.on(event, take);
  for (const event of ['upgrade', 'connect', 'clientError']) server.on(event, () => (wrong = true));
  const socket = new Said(bytes);
  server.emit('connection', socket);
  for (let turn = 0; turn < 6; turn++) await new Promise((resolve) => setImmediate(resolve));
  // An end here is an error for the parser where something had begun and not ended.
  socket.push(null);
  for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
  socket.destroy();
  return { requests, whole: !wrong && begun === requests.length };
}

const socket = {} as Socket;

function byFastPath(bytes: Buffer): Read | null {
  const read = readFastRequest(socket, bytes, false);
  if (read === null) return null;
  const { method, url, rawHeaders, body } = read.incoming;
  return { method, url, rawHeaders, body: body === null ? '' : body.toString('latin1') };
}

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');
const HOST = 'Host: a\r\n';

describe('a request of the fast path', () => {
  it('is read whole, as it came', () => {
    const text =
      'POST /a/b?c=%20&d=~ HTTP/1.1\r\nhost: example.com:80\r\nX-A:b\r\nEmpty:\r\nContent-Length: 5\r\nX-Latin: \xe4\tb\r\n\r\nh\x00\r\nx';
    const { incoming, head } = readFastRequest(socket, bytesOf(text), false)!;
    expect(incoming).toMatchObject({ method: 'POST', url: '/a/b?c=%20&d=~', complete: true });
    expect(incoming.rawHeaders).toEqual(['host', 'example.com:80', 'X-A', 'b', 'Empty', '', 'Content-Length', '5', 'X-Latin', '\xe4\tb']);
    expect(incoming.body).toEqual(bytesOf('h\x00\r\nx'));
    expect(head).toMatchObject({ host: 'example.com:80', contentLength: 5, chunked: false });
  });

  it.each([
    ['GET', ''],
    ['HEAD', ''],
    ['DELETE', ''],
    ['OPTIONS', ''],
    ['PUT', 'Content-Length: 0\r\n'],
    ['PATCH', 'Connection: keep-alive\r\n'],
    ['POST', 'Connection: Keep-Alive\r\nContent-Length: 0\r\n'],
    ['GET', 'Proxy-Connection: Keep-Alive\r\n'],
  ])('may be %s', (method, headers) => {
    expect(byFastPath(bytesOf(`${method} / HTTP/1.1\r\n${HOST}${headers}\r\n`))).toMatchObject({ method, body: '' });
  });

  it.each([
    ['half a head', `GET / HTTP/1.1\r\n${HOST}`],
    ['half a line', 'GET / HT'],
    ['a body that is yet to come', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhell`],
    ['a second request behind it', `GET / HTTP/1.1\r\n${HOST}\r\nGET / HTTP/1.1\r\n${HOST}\r\n`],
    ['bytes behind its body', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello!`],
    ['an empty line before it', `\r\nGET / HTTP/1.1\r\n${HOST}\r\n`],
    ['no Host', 'GET / HTTP/1.1\r\nA: b\r\n\r\n'],
    ['no header at all', 'GET / HTTP/1.1\r\n\r\n'],
    ['two Hosts', `GET / HTTP/1.1\r\n${HOST}${HOST}\r\n`],
    ['a Host that is none', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n'],
    ['HTTP/1.0', `GET / HTTP/1.0\r\n${HOST}\r\n`],
    ['HTTP/2.0', `GET / HTTP/2.0\r\n${HOST}\r\n`],
    ['another method', `TRACE / HTTP/1.1\r\n${HOST}\r\n`],
    ['a method in small letters', `get / HTTP/1.1\r\n${HOST}\r\n`],
    ['CONNECT', `CONNECT a:1 HTTP/1.1\r\n${HOST}\r\n`],
    ['a URL in place of a path', `GET http://a/ HTTP/1.1\r\n${HOST}\r\n`],
    ['an asterisk', `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`],
    ['a fragment', `GET /#a HTTP/1.1\r\n${HOST}\r\n`],
    ['a blank in the path', `GET /a b HTTP/1.1\r\n${HOST}\r\n`],
    ['a byte over 127 in the path', `GET /\xe4 HTTP/1.1\r\n${HOST}\r\n`],
    ['a control character in the path', `GET /\x01 HTTP/1.1\r\n${HOST}\r\n`],
    ['two blanks in the first line', `GET  / HTTP/1.1\r\n${HOST}\r\n`],
    ['a line that ends in LF alone', `GET / HTTP/1.1\n${HOST}\r\n`],
    ['a header that ends in LF alone', `GET / HTTP/1.1\r\nHost: a\n\r\n`],
    ['an end that is LF alone', `GET / HTTP/1.1\r\n${HOST}\n`],
    ['a bare CR in a value', `GET / HTTP/1.1\r\n${HOST}A: b\rc\r\n\r\n`],
    ['a NUL in a value', `GET / HTTP/1.1\r\n${HOST}A: b\0c\r\n\r\n`],
    ['DEL in a value', `GET / HTTP/1.1\r\n${HOST}A: \x7f\r\n\r\n`],
    ['a folded line', `GET / HTTP/1.1\r\n${HOST}A: b\r\n c\r\n\r\n`],
    ['a blank before the colon', `GET / HTTP/1.1\r\n${HOST}A : b\r\n\r\n`],
    ['a blank before the name', `GET / HTTP/1.1\r\n A: b\r\n${HOST}\r\n`],
    ['a header without a name', `GET / HTTP/1.1\r\n${HOST}: b\r\n\r\n`],
    ['a line without a colon', `GET / HTTP/1.1\r\n${HOST}b\r\n\r\n`],
    ['more blanks around a value', `GET / HTTP/1.1\r\n${HOST}A:  b\r\n\r\n`],
    ['a blank behind a value', `GET / HTTP/1.1\r\n${HOST}A: b \r\n\r\n`],
    ['a value of blanks', `GET / HTTP/1.1\r\n${HOST}A:  \r\n\r\n`],
    ['Transfer-Encoding', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['Transfer-Encoding and Content-Length', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`],
    ['two lengths', `POST / HTTP/1.1\r\n${HOST}Content-Length: 1\r\nContent-Length: 1\r\n\r\na`],
    ['a list of lengths', `POST / HTTP/1.1\r\n${HOST}Content-Length: 1, 1\r\n\r\na`],
    ['a length with a sign', `POST / HTTP/1.1\r\n${HOST}Content-Length: +1\r\n\r\na`],
    ['a length in hex', `POST / HTTP/1.1\r\n${HOST}Content-Length: 0x1\r\n\r\na`],
    ['a length over what is here', `POST / HTTP/1.1\r\n${HOST}Content-Length: 999999999999999\r\n\r\na`],
    ['Expect', `POST / HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 0\r\n\r\n`],
    ['Upgrade', `GET / HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`],
    ['Upgrade that Connection does not name', `GET / HTTP/1.1\r\n${HOST}Upgrade: h2c\r\n\r\n`],
    ['Connection: close', `GET / HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`],
    ['Proxy-Connection: close', `GET / HTTP/1.1\r\n${HOST}Proxy-Connection: close\r\n\r\n`],
    ['Connection that names a header', `GET / HTTP/1.1\r\n${HOST}Connection: keep-alive, X-A\r\nX-A: b\r\n\r\n`],
    ['too many headers', `GET / HTTP/1.1\r\n${HOST}${'a: b\r\n'.repeat(128)}\r\n`],
    ['headers that are too large', `GET / HTTP/1.1\r\n${HOST}a: ${'b'.repeat(17_000)}\r\n\r\n`],
    ['a URL that is too long', `GET /${'b'.repeat(8_200)} HTTP/1.1\r\n${HOST}\r\n`],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ])('is not one with %s', (_what, text) => {
    expect(byFastPath(bytesOf(text))).toBeNull();
  });
});

const TOKEN_CHARS = "!#$%&'*+-.^_`|~09azAZ";
const text = (chars: string, min: number, max: number) =>
  fc.array(fc.constantFrom(...chars), { minLength: min, maxLength: max }).map((list) => list.join(''));

/** Parts that frame a message are frequent, and in all their spellings. */
const header = fc.oneof(
  fc
    .tuple(text(TOKEN_CHARS, 1, 8), fc.constantFrom(':', ': ', ' :', ':  ', ':\t'), text(' \tabc,;="/\\(){}\x80\xff', 0, 12))
    .map((parts) => parts.join('')),
  fc.constantFrom(
    'Host: a',
    'host:b',
    'Content-Length: 0',
    'content-length: 3',
    'CONTENT-LENGTH:3',
    'Content-Length: 03',
    'Content-Length: 3 ',
    'Content-Length : 3',
    'Content-Length: 3,3',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: identity',
    'transfer-encoding:\tchunked',
    'Transfer-Encoding : chunked',
    'Connection: keep-alive',
    'Connection: close',
    'Connection: upgrade',
    'Connection: keep-alive, close',
    'Upgrade: websocket',
    'Upgrade: h2c',
    'Expect: 100-continue',
    'Expect: x',
    'Trailer: a',
    'TE: trailers',
    'X-Request-Id: abc',
    ' folded',
    '\tfolded',
  ),
);
const target = fc.oneof(
  fc.constantFrom('/', '/a?b', '*', 'http://a/', '//a', '/\\', '/a#b', 'a', ''),
  text('/abc?%20;"<>^`{|}~\\[]=&', 1, 12).map((rest) => `/${rest}`),
);
/** One that is as plain as most are, but for a byte of it. */
const plainRequest = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'HEAD', 'DELETE'),
    path: text('/abc?%20;"<>^`{|}~\\[]=&', 0, 12),
    headers: fc.array(fc.tuple(text(TOKEN_CHARS, 1, 8), text('ab \t,;="/\\(){}\x80\xff', 0, 8)), { maxLength: 4 }),
    body: fc.constantFrom('', 'abc', 'a\r\n\r\n', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
  })
  .map(({ method, path, headers, body }) => {
    const lines = headers.map(([name, value]) => `${name}: ${value.trim()}\r\n`).join('');
    return `${method} /${path} HTTP/1.1\r\nHost: a\r\n${lines}${body === '' ? '' : `Content-Length: ${body.length}\r\n`}\r\n${body}`;
  });
const oddRequest = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'HEAD', 'DELETE', 'PUT', 'OPTIONS', 'PATCH', 'TRACE', 'CONNECT', 'PRI', 'get', 'M-SEARCH'),
    target,
    version: fc.constantFrom('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/1.2', 'http/1.1'),
    headers: fc.array(header, { maxLength: 5 }),
    body: fc.constantFrom('', '', 'abc', 'abcd', '3\r\nabc\r\n0\r\n\r\n', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
  })
  .map(
    ({ method, target: to, version, headers, body }) =>
      `${method} ${to} ${version}\r\nHost: a\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n${body}`,
  );
const request = fc.oneof(plainRequest, plainRequest, oddRequest);
/** A byte that is put in, left out or changed, at any place: in most the head itself. */
const damage = fc.record({
  at: fc.nat(200),
  how: fc.constantFrom('none', 'none', 'in', 'out', 'other'),
  byte: fc.constantFrom('\r', '\n', '\0', ' ', '\t', ':', ',', '\x7f', '\x80', 'a', '\x0b'),
});

describe('side by side with Node’s parser', () => {
  it.each([
    [`GET / HTTP/1.1\r\n${HOST}\r\n`, 1, true],
    [`GET / HTTP/1.1\r\n${HOST}`, 0, false],
    [`POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhell`, 0, false],
    [`GET / HTTP/1.1\r\n${HOST}\r\nGET / HTTP/1.1\r\n${HOST}\r\n`, 2, true],
    [`GET / HTTP/1.1\r\n${HOST}A : b\r\n\r\n`, 0, false],
  ])('sees what that makes of %j', async (bytes, count, whole) => {
    const read = await byNode(bytesOf(bytes));
    expect({ count: read.requests.length, whole: read.whole }).toEqual({ count, whole });
  });

  it(
    'takes nothing that Node would refuse, cut in two or wait for, and reads what it takes as Node does',
    { timeout: fuzzTimeoutMs(240_000) },
    async () => {
      let taken = 0;
      await fc.assert(
        fc.asyncProperty(request, damage, async (whole, { at, how, byte }) => {
          const place = at % whole.length;
          const changed =
            how === 'none' ? whole : whole.slice(0, place) + (how === 'out' ? '' : byte) + whole.slice(place + (how === 'in' ? 0 : 1));
          const bytes = bytesOf(changed);
          const fast = byFastPath(bytes);
          if (fast === null) return;
          taken++;
          expect(await byNode(bytes)).toEqual({ requests: [fast], whole: true });
        }),
        fuzzed(6_000),
      );
      // Otherwise nothing was compared.
      expect(taken).toBeGreaterThan(200);
    },
  );
});
