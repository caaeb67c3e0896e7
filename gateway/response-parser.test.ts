/** The reader of responses: what it takes for one, however the bytes are split, held against Node's own. */
import { request as httpRequest } from 'node:http';
import { Duplex } from 'node:stream';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ResponseError } from './response-lines.ts';
import { MAX_RESPONSE_HEADER_BYTES, ResponseParser } from './response-parser.ts';

interface Outcome {
  status: number;
  headers: string[];
  body: string;
  /** Did it end in order? */
  whole: boolean;
}

interface Read {
  /** Of the final response; null where none came. */
  outcome: Outcome | null;
  hints: number[];
  reusable: boolean;
  keepAliveMs: number;
  upgraded: string | null;
  error: string | null;
}

/** What the parser makes of these pieces, and of the end of the connection behind them. */
function read(pieces: readonly string[], { method = 'GET', upgrade = false, ends = true } = {}): Read {
  const got: Read = { outcome: null, hints: [], reusable: false, keepAliveMs: -1, upgraded: null, error: null };
  const parser = new ResponseParser({
    onHead(status, _reason, headers) {
      if (status < 200) got.hints.push(status);
      else got.outcome = { status, headers, body: '', whole: false };
    },
    onData(chunk) {
      got.outcome!.body += chunk.toString('latin1');
    },
    onEnd(reusable, keepAliveMs) {
      got.outcome!.whole = true;
      Object.assign(got, { reusable, keepAliveMs });
    },
    onUpgrade(_headers, rest) {
      got.upgraded = rest.toString('latin1');
    },
  });
  parser.expect(method, upgrade);
  try {
    for (const piece of pieces) parser.push(Buffer.from(piece, 'latin1'));
    if (ends) parser.end();
  } catch (error) {
    if (!(error instanceof ResponseError)) throw error;
    got.error = error.message;
  }
  return got;
}

/** The same bytes at each of these places apart. */
function split(bytes: string, at: readonly number[]): string[] {
  const places = [...new Set(at.map((n) => n % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, n) => bytes.slice(from, places[n] ?? bytes.length)).filter((piece) => piece !== '');
}

/** What Node's client makes of the same bytes. */
function readByNode(bytes: string, method: string): Promise<Outcome | null> {
  const socket = new Duplex({
    read() {},
    write(_chunk, _encoding, done) {
      done();
    },
  });
  const result = new Promise<Outcome | null>((resolve) => {
    const request = httpRequest({ method, createConnection: () => socket });
    let answered = false;
    const none = () => {
      if (!answered) resolve(null);
    };
    request.on('error', none);
    request.on('upgrade', none);
    request.on('close', () => setImmediate(none));
    request.on('response', (response) => {
      answered = true;
      const outcome: Outcome = {
        status: response.statusCode!,
        headers: response.rawHeaders.map((text, n) => (n % 2 === 0 ? text.toLowerCase() : text)),
        body: '',
        whole: false,
      };
      response.on('data', (chunk: Buffer) => (outcome.body += chunk.toString('latin1')));
      response.on('error', () => {});
      response.on('close', () => resolve({ ...outcome, whole: response.complete }));
    });
    request.end();
  });
  setImmediate(() => {
    socket.push(Buffer.from(bytes, 'latin1'));
    socket.push(null);
  });
  return result;
}

const OK = 'HTTP/1.1 200 OK\r\n';

describe('a response', () => {
  it.each<[string, string, Partial<Outcome>, boolean]>([
    ['with a length', `${OK}Content-Length: 3\r\n\r\nabc`, { status: 200, body: 'abc' }, true],
    ['without a body', `${OK}content-length: 0\r\n\r\n`, { body: '' }, true],
    ['in chunks', `${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x="y"\r\n0123456789\r\n0\r\n\r\n`, { body: 'abc0123456789' }, true],
    ['with trailers', `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\nZ: \r\n\r\n`, { body: 'a' }, true],
    ['to the end of the connection', `${OK}X: y\r\n\r\nabc`, { headers: ['x', 'y'], body: 'abc' }, false],
    ['of 204, whatever it declares', 'HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n', { status: 204, body: '' }, true],
    ['of 304, whatever it declares', 'HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n', { status: 304, body: '' }, true],
    ['that closes', `${OK}Connection: x, Close\r\nContent-Length: 1\r\n\r\na`, { body: 'a' }, false],
    ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na', { body: 'a' }, false],
    ['of HTTP/1.0 that stays', 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na', { body: 'a' }, true],
    ['without a reason', 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n', { status: 200 }, true],
    ['behind hints', `HTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 102 y\r\n\r\n${OK}Content-Length: 0\r\n\r\n`, { status: 200 }, true],
    ['with blanks around values', `${OK}X: \t a b \t\r\nContent-Length:0\r\n\r\n`, { headers: ['x', 'a b', 'content-length', '0'] }, true],
  ])('%s', (_name, bytes, expected, reusable) => {
    const got = read([bytes]);
    expect(got.error).toBeNull();
    expect(got.outcome).toMatchObject({ ...expected, whole: true });
    expect(got.reusable).toBe(reusable);
    // However it is split, byte by byte as well.
    expect(read([...bytes])).toEqual({ ...got, error: null });
  });

  it('to HEAD has no body, and the connection is not used again', () => {
    expect(read([`${OK}Content-Length: 3\r\n\r\n`], { method: 'HEAD' })).toMatchObject({
      outcome: { body: '', whole: true },
      reusable: false,
    });
  });

  it('says how long the connection is kept', () => {
    expect(read([`${OK}Keep-Alive: timeout=5, max=100\r\nContent-Length: 0\r\n\r\n`]).keepAliveMs).toBe(5_000);
    expect(read([`${OK}Content-Length: 0\r\n\r\n`]).keepAliveMs).toBe(-1);
  });

  it('with bytes behind it is whole, and the connection not used again', () => {
    const answer = `${OK}Content-Length: 1\r\n\r\na`;
    expect(read([`${answer}${answer}`])).toMatchObject({ outcome: { body: 'a', whole: true }, reusable: false, error: null });
    expect(read([answer, 'x'], { ends: false })).toMatchObject({
      outcome: { body: 'a' },
      error: expect.stringContaining('not asked') as string,
    });
  });

  it('that is cut off is not whole', () => {
    for (const bytes of [`${OK}Content-Length: 3\r\n\r\nab`, `${OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n`, OK]) {
      expect(read([bytes]).outcome?.whole ?? false).toBe(false);
    }
  });

  it('of 101 hands the rest over where it was asked for, and is an error where it was not', () => {
    const bytes = 'HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\nframes';
    expect(read([bytes], { upgrade: true })).toMatchObject({ upgraded: 'frames', error: null });
    expect(read([bytes])).toMatchObject({ upgraded: null, error: expect.stringContaining('not asked') as string });
  });
});

describe('no response', () => {
  it.each<[string, string]>([
    ['no HTTP', 'hello\r\n\r\n'],
    ['the begin of something else', 'SSH-2'],
    ['HTTP/2', 'HTTP/2.0 200 OK\r\n\r\n'],
    ['HTTP/1.2', 'HTTP/1.2 200 OK\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status of four', 'HTTP/1.1 2000 OK\r\n\r\n'],
    ['a status below 100', 'HTTP/1.1 099 OK\r\n\r\n'],
    ['two blanks', 'HTTP/1.1  200 OK\r\n\r\n'],
    ['100', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n'],
    ['a bare LF in a header', `${OK}X: a\nContent-Length: 0\r\n\r\n`],
    ['a bare CR in a header', `${OK}X: a\rY: b\r\n\r\n`],
    ['a bare CR in the reason', 'HTTP/1.1 200 O\rK\r\n\r\n'],
    ['NUL', `${OK}X: \0\r\n\r\n`],
    ['DEL', `${OK}X: \x7f\r\n\r\n`],
    ['a folded line', `${OK}X: a\r\n b\r\n\r\n`],
    ['a blank before the colon', `${OK}Content-Length : 0\r\n\r\n`],
    ['no colon', `${OK}Content-Length\r\n\r\n`],
    ['no name', `${OK}: x\r\n\r\n`],
    ['a signed length', `${OK}Content-Length: +1\r\n\r\na`],
    ['a length in hex', `${OK}Content-Length: 0x1\r\n\r\na`],
    ['two lengths that are the same', `${OK}Content-Length: 1\r\nContent-Length: 1\r\n\r\na`],
    ['a list of lengths', `${OK}Content-Length: 1, 1\r\n\r\na`],
    ['length and chunks', `${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['another coding', `${OK}Transfer-Encoding: gzip\r\n\r\n`],
    ['chunked twice', `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['chunks in HTTP/1.0', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a chunk without a length', `${OK}Transfer-Encoding: chunked\r\n\r\n;\r\n`],
    ['a chunk of a sign', `${OK}Transfer-Encoding: chunked\r\n\r\n-1\r\n`],
    ['a chunk of far too much', `${OK}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n`],
    ['a blank behind the length of a chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n`],
    ['a chunk that ends in LF', `${OK}Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n`],
    ['a chunk that is longer than it says', `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n`],
    ['an extension with a control character', `${OK}Transfer-Encoding: chunked\r\n\r\n1;\x01\r\na\r\n0\r\n\r\n`],
    ['a trailer that is no header', `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\nX Y: z\r\n\r\n`],
    ['a hint with a body', 'HTTP/1.1 103 x\r\nContent-Length: 1\r\n\r\na'],
  ])('%s', (_name, bytes) => {
    expect(read([bytes]).error).toEqual(expect.any(String));
    expect(read([...bytes]).error).toEqual(expect.any(String));
    expect(read([bytes]).outcome?.whole ?? false).toBe(false);
  });

  it.each<[string, string, string]>([
    ['headers', OK, 'X-Y: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'],
    ['one header', `${OK}X: `, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
    ['many headers', OK, 'X:\r\n'],
    ['trailers', `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n`, 'X-Y: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'],
    ['an extension of a chunk', `${OK}Transfer-Encoding: chunked\r\n\r\n1;`, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
  ])('%s without end', (_name, begin, more) => {
    const times = Math.ceil((MAX_RESPONSE_HEADER_BYTES * 2) / more.length);
    const pieces = [begin, ...Array.from({ length: times }, () => more), '\r\n\r\n'];
    expect(read(pieces).error).toEqual(expect.any(String));
    expect(read([pieces.join('')]).error).toEqual(expect.any(String));
  });
});

describe('against Node’s own parser', () => {
  const bit = fc.constantFrom(
    OK,
    'HTTP/1.1 204 No Content\r\n',
    'HTTP/1.0 200 OK\r\n',
    'HTTP/1.1 103 Hints\r\n',
    'HTTP/1.1 304\r\n',
    'Content-Length: 3\r\n',
    'Content-Length: 0\r\n',
    'content-length: 3 \r\n',
    'Transfer-Encoding: chunked\r\n',
    'transfer-encoding:Chunked\r\n',
    'Transfer-Encoding: gzip, chunked\r\n',
    'Connection: close\r\n',
    'Connection: keep-alive\r\n',
    'X: \ty \r\n',
    'X : y\r\n',
    ' folded\r\n',
    'Set-Cookie: a\r\n',
    '\r\n',
    '\r\n',
    'abc',
    '3\r\nabc\r\n',
    '3;x=y\r\nabc\r\n',
    '0\r\n\r\n',
    '0\r\nT: u\r\n\r\n',
    '00\r\n',
    '\r',
    '\n',
    '\0',
    '\xff',
    ':',
    'g',
  );
  const method = fc.constantFrom('GET', 'GET', 'POST', 'HEAD');
  const begin = fc.constantFrom(OK, OK, OK, 'HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 201 x\r\n', 'HTTP/1.0 404 x\r\n', '');
  const bytes = fc.tuple(begin, fc.array(bit, { maxLength: 10 })).map(([first, rest]) => first + rest.join(''));

  it('property: however it is split, the same comes out', () => {
    fc.assert(
      fc.property(bytes, fc.array(fc.nat(400), { maxLength: 8 }), method, (text, at, by) => {
        const whole = read([text], { method: by });
        const parts = read(split(text, at), { method: by });
        // What stands behind a response may have come later, or not: the connection is good for nothing either way.
        if (whole.outcome?.whole === true) expect(parts.outcome).toEqual(whole.outcome);
        else expect({ ...parts, error: parts.error !== null }).toEqual({ ...whole, error: whole.error !== null });
      }),
      { numRuns: 2_000 },
    );
  });

  it('property: what is whole here is the same there; what is none there is none here', async () => {
    let seen = 0;
    await fc.assert(
      fc.asyncProperty(bytes, fc.array(fc.nat(400), { maxLength: 4 }), method, async (text, at, by) => {
        const ours = read(split(text, at), { method: by });
        const theirs = await readByNode(text, by);
        if (ours.outcome?.whole === true) {
          seen++;
          expect(theirs).toEqual(ours.outcome);
        }
        if (theirs === null) expect(ours.outcome?.whole ?? false).toBe(false);
      }),
      { numRuns: 1_500 },
    );
    expect(seen).toBeGreaterThan(50);
  });
});
