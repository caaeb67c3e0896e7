/**
 * Request smuggling: the gateway and what is behind it must see the same requests in the same bytes. Both are Node,
 * and read by the same parser, so they would agree on a mistake; here h11 judges what clients send to the gateway, and what
 * the gateway sends to functions.
 *
 * The rule: what the gateway passes on, h11 sees as well, the same number of requests, each with the same method, target and
 * body, in the same order; and what h11 refuses, the gateway refuses. The gateway may refuse more. Exception, by RFC 9112 (2.2): line ends
 * before a request line are skipped.
 */
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fuzzed, fuzzTimeoutMs } from '../helpers/fuzz.ts';
import { withGateway } from '../helpers/gateway-harness.ts';
import { type SecondParser, startSecondParser } from '../helpers/second-parser.ts';
import { FramingCourt } from './framing.fixture.ts';

let second: SecondParser;
beforeAll(async () => {
  second = await startSecondParser();
});
afterAll(() => second.stop());

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');
const HOST = 'Host: a\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
/** What an attacker would have the function see. */
const INNER = 'GET /f/smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
const post = (headers: string, body: string): string => `POST /f/p HTTP/1.1\r\n${HOST}${headers}\r\n${body}`;

/** Sound requests: how many of them must be passed on. */
const SOUND: readonly [string, string, number][] = [
  ['none with a body', `GET /f?x=1 HTTP/1.1\r\n${HOST}\r\n`, 1],
  ['a length', post('Content-Length: 3\r\n', 'abc'), 1],
  ['a length of nothing', post('Content-Length: 0\r\n', ''), 1],
  ['neither length nor chunks', post('', INNER), 2],
  ['chunks', post(CHUNKED, '3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n'), 1],
  ['chunks in upper and lower case, with zeros before', post(CHUNKED, '0a\r\n0123456789\r\n00A\r\n0123456789\r\n0\r\n\r\n'), 1],
  ['a chunk with an extension', post(CHUNKED, '3;a=b;c="d"\r\nabc\r\n0;x\r\n\r\n'), 1],
  ['chunks with trailers', post(CHUNKED, '3\r\nabc\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n'), 1],
  ['a request within a body', post(`Content-Length: ${INNER.length}\r\n`, INNER) + INNER, 2],
  ['a request within a chunk', post(CHUNKED, `${INNER.length.toString(16)}\r\n${INNER}\r\n0\r\n\r\n`) + INNER, 2],
  ['a name of a coding in upper case', post('Transfer-Encoding: CHUNKED\r\n', '0\r\n\r\n'), 1],
  ['space around values', post('Content-Length:  3 \t\r\n', 'abc'), 1],
  ['an empty header', `GET /f HTTP/1.1\r\n${HOST}X:\r\n\r\n`, 1],
  ['an absolute URL', `GET http://a/f/x HTTP/1.1\r\n${HOST}\r\n`, 1],
  ['HTTP/1.0', `GET /f HTTP/1.0\r\n${HOST}\r\n`, 1],
  ['the end of the connection, and a request behind it', `GET /f HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n${INNER}`, 1],
  [
    'an upgrade to what is not spoken, which ends the connection',
    `GET /f HTTP/1.1\r\n${HOST}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n${INNER}`,
    1,
  ],
  ['100-continue', post('Content-Length: 3\r\nExpect: 100-continue\r\n', 'abc') + INNER, 2],
  ['an empty line between two', `GET /f HTTP/1.1\r\n${HOST}\r\n\r\n${INNER}`, 2],
  ['HEAD', `HEAD /f HTTP/1.1\r\n${HOST}\r\n${INNER}`, 2],
  ['a method with a body that mostly has none', `DELETE /f HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\nab${INNER}`, 2],
  ['a GET with a body', `GET /f HTTP/1.1\r\n${HOST}Content-Length: ${INNER.length}\r\n\r\n${INNER}`, 1],
  [
    'Connection that lists what frames the body',
    post(`${CHUNKED}Connection: transfer-encoding, content-length\r\n`, '3\r\nabc\r\n0\r\n\r\n'),
    1,
  ],
];

/** From what is known of smuggling (CL.TE, TE.CL, TE.TE, CL.0, chunk lines), each with a request behind it. */
const AMBIGUOUS: readonly [string, string][] = [
  ['both lengths, chunked last', post(`Content-Length: ${INNER.length + 5}\r\n${CHUNKED}`, `0\r\n\r\n${INNER}`)],
  ['both lengths, chunked first', post(`${CHUNKED}Content-Length: 4\r\n`, `${INNER.length.toString(16)}\r\n${INNER}\r\n0\r\n\r\n`)],
  ['both, the length empty', post(`Content-Length:\r\n${CHUNKED}`, `0\r\n\r\n${INNER}`)],
  ['two lengths that differ', post(`Content-Length: 0\r\nContent-Length: ${INNER.length}\r\n`, INNER)],
  ['two lengths that agree', post('Content-Length: 3\r\nContent-Length: 3\r\n', `abc${INNER}`)],
  ['a list of lengths', post('Content-Length: 3, 3\r\n', `abc${INNER}`)],
  ...['+3', '-3', '0x3', '3 3', '3,', '3.0', '３', '3\x00', '3\x0b', '1e1', '', ' ', '99999999999999999999', '03_'].map(
    (length): [string, string] => [`the length ${JSON.stringify(length)}`, post(`Content-Length: ${length}\r\n`, `abc${INNER}`)],
  ),
  ...[
    'xchunked',
    'chunked, identity',
    'identity',
    'identity, chunked',
    'gzip, chunked',
    'chunked, chunked',
    '"chunked"',
    'chunked;q=1',
    '\x0bchunked',
    'chunked\x00',
    'chunk',
    'x',
    '',
    ',chunked',
    'chunked,',
    'cow\r\nTransfer-Encoding: chunked',
    'chunked\r\nTransfer-Encoding: cow',
    '\r\n chunked',
  ].map((coding): [string, string] => [
    `the coding ${JSON.stringify(coding)}`,
    post(`Transfer-Encoding: ${coding}\r\n`, `0\r\n\r\n${INNER}`),
  ]),
  ...[
    'Transfer-Encoding : chunked',
    'Transfer-Encoding\t: chunked',
    ' Transfer-Encoding: chunked',
    'Transfer_Encoding: chunked',
    'Transfer-Encoding:chunked\n',
    'X: y\nTransfer-Encoding: chunked',
    'X: y\rTransfer-Encoding: chunked',
    'X: y\x00Transfer-Encoding: chunked',
    'Transfer-Encoding\x00: chunked',
    'Transfer-Encoding',
  ].map((line): [string, string] => [
    `the line ${JSON.stringify(line)}`,
    post(`Content-Length: ${INNER.length + 5}\r\n${line}\r\n`, `0\r\n\r\n${INNER}`),
  ]),
  ...[
    '0\n\r\n',
    '0\r\n\n',
    '0 \r\n\r\n',
    ' 0\r\n\r\n',
    '0x0\r\n\r\n',
    '+0\r\n\r\n',
    '-1\r\n\r\n',
    '\r\n\r\n',
    'zz\r\n\r\n',
    '0;\n\r\n\r\n',
    '1;\nX\r\n0\r\n\r\n',
    '1\r\nX\n0\r\n\r\n',
    '1\r\nXY\r\n0\r\n\r\n',
    '1\r\nX0\r\n\r\n',
    '3\r\nabc0\r\n\r\n',
    'fffffffffffffffff\r\nx',
    '1;a\x00\r\nX\r\n0\r\n\r\n',
    '0\r\nX: y\n\r\n',
    '0\r\n X: y\r\n\r\n',
    '0\r\nX : y\r\n\r\n',
    '0\r\nX\r\n\r\n',
    '1\r\nX\r\n\r\n0\r\n\r\n',
    '1;a="\r\nX\r\n0\r\n\r\n"',
    '1\rX\r\n0\r\n\r\n',
    '00000000000000000000\r\n\r\n',
  ].map((chunks): [string, string] => [`the chunks ${JSON.stringify(chunks)}`, post(CHUNKED, `${chunks}${INNER}`)]),
  ...[
    'GET  /f HTTP/1.1',
    'GET\t/f HTTP/1.1',
    'GET /f  HTTP/1.1',
    'GET /f HTTP/1.1 ',
    'GET /f HTTP/1.1 HTTP/1.1',
    ' GET /f HTTP/1.1',
    'GET /f\x00 HTTP/1.1',
    'GET /f http/1.1',
    'GET /f HTTP/1.10',
    'GET /f HTTP/01.1',
    'GET /f HTTP/1',
    'GET /f',
    'GET /f HTTP/2.0',
    'GET /f HTTP/1.2',
    'GET /f HTP/1.1',
    'G\x00T /f HTTP/1.1',
    'GET\r/f HTTP/1.1',
    'GET /f\xa0HTTP/1.1',
    '\x00GET /f HTTP/1.1',
    'get /f HTTP/1.1',
    'POST /f HTTP/0.9',
  ].map((line): [string, string] => [`the line ${JSON.stringify(line)}`, `${line}\r\n${HOST}\r\n${INNER}`]),
  ['bare LF all through', 'GET /f HTTP/1.1\nHost: a\n\n'],
  ['bare LF after the request line', `GET /f HTTP/1.1\n${HOST}\r\n${INNER}`],
  ['bare LF after a header', `GET /f HTTP/1.1\r\nHost: a\nX: y\r\n\r\n${INNER}`],
  ['bare LF that ends the head', `GET /f HTTP/1.1\r\n${HOST}\n${INNER}`],
  ['bare CR that ends the head', `GET /f HTTP/1.1\r\n${HOST}\r${INNER}`],
  ['two CR before LF', `GET /f HTTP/1.1\r\r\n${HOST}\r\n${INNER}`],
  ['a folded header', `GET /f HTTP/1.1\r\n${HOST}X: a\r\n b\r\n\r\n${INNER}`],
  ['a folded first header', `GET /f HTTP/1.1\r\n X: a\r\n${HOST}\r\n${INNER}`],
  ['two hosts', `GET /f HTTP/1.1\r\n${HOST}Host: b\r\n\r\n${INNER}`],
  ['no host', `GET /f HTTP/1.1\r\n\r\n${INNER}`],
  ['a header without a name', `GET /f HTTP/1.1\r\n${HOST}: x\r\n\r\n${INNER}`],
  ['a header name with what is no token', `GET /f HTTP/1.1\r\n${HOST}X(y): x\r\n\r\n${INNER}`],
  ['a header name with letters of latin1', `GET /f HTTP/1.1\r\n${HOST}X\xe4: x\r\n\r\n${INNER}`],
  ['a length in a trailer', post(CHUNKED, `3\r\nabc\r\n0\r\nContent-Length: ${INNER.length}\r\n\r\n${INNER}`)],
  ['HTTP/1.0 with chunks', `POST /f HTTP/1.0\r\n${HOST}${CHUNKED}\r\n0\r\n\r\n${INNER}`],
  ['HTTP/1.0 that is kept alive, with chunks', `POST /f HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n${CHUNKED}\r\n0\r\n\r\n${INNER}`],
  ['CONNECT', `CONNECT a:80 HTTP/1.1\r\n${HOST}\r\n${INNER}`],
  ['CONNECT with a body', `CONNECT a:80 HTTP/1.1\r\n${HOST}Content-Length: ${INNER.length}\r\n\r\n${INNER}`],
  ['an upgrade with a body', post(`Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: ${INNER.length}\r\n`, INNER)],
  ['an absolute URL of another host', `GET http://b/f HTTP/1.1\r\n${HOST}\r\n${INNER}`],
  ['an expectation that is none', post('Content-Length: 3\r\nExpect: 200-ok\r\n', `abc${INNER}`)],
];

/** Mostly `good`, now and then `bad`. */
const mostly = (good: readonly string[], bad: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...good) }, { weight: 1, arbitrary: fc.constantFrom(...bad) });

const eol = mostly(['\r\n'], ['\n', '\r', '\r\r\n', ' \r\n', '\0\r\n']);
const requestLine = mostly(
  ['GET /f', 'POST /f', 'PUT /f/a//b?c', 'HEAD /f/x', 'DELETE /f', 'GET http://a/f/y', 'POST /f/%2e%2e/z', 'OPTIONS /f'].map(
    (line) => `${line} HTTP/1.1`,
  ),
  [
    'POST /f HTTP/1.0',
    'GET  /f HTTP/1.1',
    'GET /f',
    'GET /f HTTP/1.2',
    'GET /f\t HTTP/1.1',
    'CONNECT a:1 HTTP/1.1',
    'BREW /f HTTP/1.1',
    'GET /\x7f HTTP/1.1',
    '',
    'GET * HTTP/1.1',
    'OPTIONS * HTTP/1.1',
  ],
);
const ordinary = mostly(
  [
    'X: y',
    'Connection: keep-alive',
    'Cookie: a=b; c=d',
    'X-Forwarded-For: 1.2.3.4',
    'Accept: */*',
    'X:',
    'Connection: content-length',
    'Trailer: x',
    'TE: trailers',
    'Expect: 100-continue',
  ],
  [
    'X : y',
    ' X: y',
    'X',
    ': y',
    'X: a\0b',
    'X: a\rb',
    'Host: b',
    'X\x80: y',
    'X: \x01',
    'Upgrade: x',
    'Connection: close',
    'Keep-Alive: timeout=1',
  ],
);
const framing = (length: number): fc.Arbitrary<readonly string[]> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant([`Content-Length: ${length}`]) },
    { weight: 4, arbitrary: fc.constant(['Transfer-Encoding: chunked']) },
    { weight: 2, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.constant([`Content-Length: ${length}`, 'Transfer-Encoding: chunked']) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        [`Content-Length: +${length}`],
        [`content-length: ${length}`, `Content-Length: ${length + 1}`],
        ['Content-Length: 1, 1'],
      ),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
        ['Transfer-Encoding: gzip, chunked'],
        ['Transfer-Encoding:\tchunked'],
        ['Transfer-Encoding : chunked'],
      ),
    },
  );
const chunkSize = (size: number): fc.Arbitrary<string> =>
  mostly(
    [size.toString(16), `0${size.toString(16)}`, `${size.toString(16)};a=b`],
    [`${size}`, `${(size + 1).toString(16)}`, `${size.toString(16)} `, `+${size.toString(16)}`, `${size.toString(16)};\n`, ''],
  );
const payload = fc.constantFrom('', 'a', 'abc', '0\r\n\r\n', INNER, 'GET ', '\r\n', 'x'.repeat(300));

const message: fc.Arbitrary<string> = payload.chain((data) =>
  fc
    .tuple(
      requestLine,
      eol,
      framing(data.length),
      fc.array(ordinary, { maxLength: 3 }),
      eol,
      eol,
      chunkSize(data.length),
      eol,
      mostly(['0\r\n\r\n', '0\r\nX: y\r\n\r\n'], ['0\n\n', '0\r\n', '', '0\r\nX y\r\n\r\n', '00;\r\n\r\n']),
    )
    .map(([line, end, frames, others, endOfHeader, endOfHead, size, endOfSize, last]) => {
      // h11 keeps no connection of HTTP/1.0, as it may, and so sees nothing behind such a request, where Node may see more.
      const kept = line.endsWith('HTTP/1.0') ? others.filter((one) => one !== 'Connection: keep-alive') : others;
      const head = `${line}${end}${HOST}${[...kept, ...frames].map((one) => `${one}${endOfHeader}`).join('')}${endOfHead}`;
      const chunked = frames.some((one) => /chunked/.test(one));
      return head + (chunked ? `${data === '' ? '' : `${size}${endOfSize}${data}\r\n`}${last}` : frames.length > 0 ? data : '');
    }),
);

/** Cut at random into a few pieces. */
const cuts = fc.array(
  fc.nat({ max: 999 }).map((part) => part / 1_000),
  { maxLength: 6 },
);
function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [0, ...at.map((part) => Math.floor(part * bytes.length)), bytes.length].toSorted((a, b) => a - b);
  return places.slice(1).flatMap((to, index) => (to > places[index]! ? [bytes.subarray(places[index], to)] : []));
}

describe('gateway and second parser', () => {
  it('see the same in requests that are sound, in one piece and byte by byte, and all of them are served', async () => {
    await withGateway(async (harness) => {
      const court = await FramingCourt.open(harness, second);
      for (const [name, text, requests] of SOUND) {
        const bytes = latin1(text);
        for (const pieces of [[bytes], [...bytes].map((byte) => Buffer.from([byte]))]) {
          const { opinion, served } = await court.judge(bytes, pieces);
          expect([name, served]).toEqual([name, requests]);
          expect(opinion.requests.length).toBeGreaterThanOrEqual(requests);
        }
      }
      expect(await court.judgeWires()).toBe(court.served.length);
    });
  });

  it('see the same behind requests that came as one packet each, be they answered by then or not', async () => {
    await withGateway(async (harness) => {
      const court = await FramingCourt.open(harness, second);
      const plain = [latin1(`GET /f/a HTTP/1.1\r\n${HOST}\r\n`), latin1(post('Content-Length: 3\r\n', 'abc'))];
      for (const [name, text, requests] of SOUND) {
        const { served } = await court.judge(Buffer.concat([...plain, latin1(text)]), [...plain, latin1(text)]);
        expect([name, served]).toEqual([name, requests + plain.length]);
      }
      for (const [, text] of AMBIGUOUS) await court.judge(Buffer.concat([...plain, latin1(text)]), [...plain, latin1(text)]);
      expect(await court.judgeWires()).toBe(court.served.length);
    });
  });

  it('see no two things in what is ambiguous; what one refuses the other does, too', async () => {
    await withGateway(async (harness) => {
      const court = await FramingCourt.open(harness, second);
      for (const [, text] of AMBIGUOUS) {
        const bytes = latin1(text);
        await court.judge(bytes);
        await court.judge(bytes, cut(bytes, [0.2, 0.4, 0.6, 0.8]));
      }
      expect(await court.judgeWires()).toBe(court.served.length);
    });
  });

  it(
    'see the same in whatever is put together from pieces of requests',
    async () => {
      await withGateway(async (harness) => {
        const court = await FramingCourt.open(harness, second);
        const tally = { served: 0, refused: 0 };
        await fc.assert(
          fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 3 }), cuts, async (messages, at) => {
            const bytes = latin1(messages.join(''));
            const { opinion, served } = await court.judge(bytes, cut(bytes, at));
            tally.served += served;
            if (opinion.end === 'refused') tally.refused++;
          }),
          fuzzed(250),
        );
        // Neither is a rare thing here: a gateway that refused all would agree with nobody.
        expect(Math.min(tally.served, tally.refused)).toBeGreaterThan(20);
        expect(await court.judgeWires()).toBeGreaterThanOrEqual(tally.served);
      });
    },
    fuzzTimeoutMs(240_000),
  );
});
