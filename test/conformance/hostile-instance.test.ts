/**
 * What a function can do to its gateway by the bytes that it writes: nothing but harm itself. Whatever it answers, its
 * own client gets its answer, one that is seen to be cut, or a problem; the next request of the same function is answered as it
 * should be, and so are those of others; and no byte of one answer is found in another. Each answer carries the id of its request, so that
 * this can be told.
 *
 * All through the gateway's public side, whatever client it has for instances.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fuzzed, fuzzTimeoutMs } from '../helpers/fuzz.ts';
import { parallel, waitFor } from '../helpers/wait.ts';
import { type Attack, HostileFunction, type Outcome } from './hostile-instance.fixture.ts';

const OK = 'HTTP/1.1 200 OK\r\n';
/** `kind`s and codes that an attack may end in. */
type Ends = readonly (Outcome['kind'] | 'function-bad-response' | 'instance-lost' | 'function-timeout' | 'no-capacity')[];
const BAD: Ends = ['function-bad-response'];

const sized = (body: string): string => `${OK}Content-Length: ${body.length}\r\n\r\n${body}`;
const write =
  (bytes: (id: string) => string): Attack =>
  (socket, id) =>
    socket.write(Buffer.from(bytes(id), 'latin1'));

const ATTACKS: readonly [string, (id: string) => string, Ends][] = [
  ['nothing', () => '', ['instance-lost']],
  ['a NUL', () => '\0', BAD],
  ['what is no HTTP', (id) => `${id}\r\n\r\n`, BAD],
  ['another protocol', () => 'SSH-2.0-x\r\n', BAD],
  ['HTTP/0.9', (id) => `<html>${id}</html>`, BAD],
  ['HTTP/2', () => 'HTTP/2.0 200 OK\r\n\r\n', ['own', 'function-bad-response']],
  ['a request', () => 'GET /good HTTP/1.1\r\nHost: a\r\n\r\n', BAD],
  ['a status of two digits', () => 'HTTP/1.1 20 OK\r\n\r\n', BAD],
  ['a status of four digits', () => 'HTTP/1.1 2000 OK\r\n\r\n', BAD],
  ['the status 000', () => 'HTTP/1.1 000 x\r\nContent-Length: 0\r\n\r\n', BAD],
  ['the status 999', () => 'HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n', ['own', 'function-bad-response']],
  ['bare LF', (id) => `HTTP/1.1 200 OK\nX-A: b\nContent-Length: ${id.length}\n\n${id}`, ['own', 'function-bad-response']],
  ['bare CR', () => 'HTTP/1.1 200 OK\rX-A: b\r\r', ['function-bad-response', 'instance-lost']],
  ['a header that is split by a bare CR', () => `${OK}X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n`, BAD],
  ['a NUL in a header', () => `${OK}X: a\0b\r\nContent-Length: 0\r\n\r\n`, BAD],
  ['control characters in a header', () => `${OK}X: a\x01\x1b[2J\r\nContent-Length: 0\r\n\r\n`, BAD],
  ['a header name with a space', () => `${OK}X Y: a\r\nContent-Length: 0\r\n\r\n`, BAD],
  ['a header without a name', () => `${OK}: a\r\nContent-Length: 0\r\n\r\n`, BAD],
  ['a folded header', () => `${OK}X: a\r\n b\r\nContent-Length: 0\r\n\r\n`, ['own', 'function-bad-response']],
  ['both lengths', () => `${OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, BAD],
  ['two lengths', () => `${OK}Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc`, BAD],
  ['two equal lengths', () => `${OK}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`, BAD],
  ['a length that is negative', () => `${OK}Content-Length: -1\r\n\r\n`, BAD],
  ['a length that is a word', () => `${OK}Content-Length: many\r\n\r\n`, BAD],
  ['a length that no number holds', () => `${OK}Content-Length: 99999999999999999999999\r\n\r\nx`, BAD],
  ['a length of terabytes, and little', (id) => `${OK}Content-Length: 999999999999\r\n\r\n${id}`, ['cut']],
  ['a longer body than its length', (id) => `${OK}Content-Length: 3\r\n\r\nabc${id}${id}`, ['own', 'cut', 'function-bad-response']],
  ['another transfer coding', () => `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, BAD],
  ['two transfer codings', () => `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, BAD],
  ['a chunk size that is none', () => `${OK}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`, ['cut', 'function-bad-response']],
  ['a chunk size that is negative', () => `${OK}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n`, ['cut', 'function-bad-response']],
  [
    'a chunk size that no number holds',
    () => `${OK}Transfer-Encoding: chunked\r\n\r\n${'f'.repeat(17)}\r\nabc`,
    ['cut', 'function-bad-response'],
  ],
  ['a chunk longer than its size', () => `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n`, ['cut']],
  ['a chunk that ends in LF', () => `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n`, ['cut']],
  [
    'trailers',
    (id) => `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: ${id}\r\nFn-Refused: full\r\nContent-Length: 5\r\n\r\n`,
    ['own', 'cut'],
  ],
  [
    'a body for 204',
    (id) => `HTTP/1.1 204 No Content\r\nContent-Length: ${id.length}\r\n\r\n${id}`,
    ['own', 'function-bad-response', 'cut'],
  ],
  [
    'a body for 304',
    (id) => `HTTP/1.1 304 Not Modified\r\nContent-Length: ${id.length}\r\n\r\n${id}`,
    ['own', 'function-bad-response', 'cut'],
  ],
  ['100 unasked', (id) => `HTTP/1.1 100 Continue\r\n\r\n${sized(id)}`, ['own', 'function-bad-response']],
  ['101 unasked', () => 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01a', BAD],
  ['101 without a protocol', () => 'HTTP/1.1 101 Switching Protocols\r\n\r\n', BAD],
  ['hints', (id) => `HTTP/1.1 103 Early Hints\r\nLink: </${id}>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n${sized(id)}`, ['own']],
  [
    'hints with a length',
    (id) => `HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello${sized(id)}`,
    ['own', 'function-bad-response'],
  ],
  ['two answers', (id) => sized(id) + sized(`second ${id}`), ['own']],
  ['three answers, the last one begun', (id) => `${sized(id)}${sized(id)}HTTP/1.1 200 O`, ['own']],
  ['an answer, and the beginning of another', (id) => `${sized(id)}HTTP/1.1 200 OK\r\nContent-Le`, ['own']],
  ['an answer, and one byte', (id) => `${sized(id)}H`, ['own']],
  ['an answer, and hints', (id) => `${sized(id)}HTTP/1.1 103 Early Hints\r\n\r\n`, ['own']],
  ['an answer, and empty lines', (id) => `${sized(id)}\r\n\r\n\r\n`, ['own']],
  ['an answer in chunks, and another', (id) => `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n${sized(id)}`, ['own']],
  [
    'an answer that ends its connection, and another',
    (id) => `${OK}Connection: close\r\nContent-Length: 1\r\n\r\na${sized(id)}`,
    ['own', 'cut'],
  ],
  ['a 204, and another answer', (id) => `HTTP/1.1 204 No Content\r\n\r\n${sized(id)}`, ['own', 'function-bad-response']],
  [
    'a refusal with a long body',
    () => `HTTP/1.1 503 x\r\nfn-refused: full\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(100_000)}`,
    ['no-capacity'],
  ],
  ['a refusal of a kind that there is not', () => 'HTTP/1.1 503 x\r\nfn-refused: maybe\r\nContent-Length: 0\r\n\r\n', ['own']],
  [
    "the platform's own headers",
    () => `${OK}x-request-id: id-999999-x\r\nfn-deadline: 0\r\nfn-refused: full\r\nContent-Length: 0\r\n\r\n`,
    ['own'],
  ],
  [
    'a Connection header that lists everything',
    () => `${OK}Connection: content-length, x-request-id, date, close\r\nContent-Length: 0\r\n\r\n`,
    ['own'],
  ],
  ['hundreds of headers', () => `${OK}${'X-Y: aaaaaaaaaa\r\n'.repeat(1_000)}Content-Length: 0\r\n\r\n`, ['own', 'function-bad-response']],
];

const matches = ({ kind, code }: Outcome, ends: Ends): boolean => ends.some((end) => end === kind || end === code);

describe('an answer that is wrong', () => {
  it('is answered for as it should be, each more than once, and beside each other', async () => {
    await HostileFunction.with(10_000, async (hostile) => {
      // What one leaves behind meets its own kind, and others.
      await parallel([...ATTACKS, ...ATTACKS], 8, async ([name, bytes, ends]) => {
        const { attacked: _attacked, ...outcome } = await hostile.ask(write(bytes));
        expect([name, outcome, matches(outcome, ends)]).toEqual([name, outcome, true]);
        await hostile.expectWell('bad', 1);
      });
    });
  });

  it.each(ATTACKS.filter(([, , ends]) => ends.includes('own')))('leaves nothing behind: %s', async (_name, bytes) => {
    await HostileFunction.with(10_000, async (hostile) => {
      for (let n = 0; n < 2; n++) {
        const { kind } = await hostile.ask(write(bytes));
        expect(['own', 'cut', 'problem']).toContain(kind);
        await hostile.expectWell('bad', 3);
      }
    });
  });

  it('to a request for a WebSocket: 502, and nothing is upgraded', async () => {
    const asked =
      'Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
    await HostileFunction.with(10_000, async (hostile) => {
      for (const bytes of [
        'HTTP/1.1 101 x\r\n\r\n',
        'HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
        'HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n',
        'HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: tcp\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n',
        `${'HTTP/1.1 103 x\r\n\r\n'.repeat(50)}HTTP/1.1 101 x\r\n\r\n`,
        '\x81\x05hello',
      ]) {
        expect(
          await hostile.ask(
            write(() => bytes),
            { headers: asked },
          ),
        ).toMatchObject({ kind: 'problem', status: 502 });
        await hostile.expectWell('bad');
      }
    });
  });
});

describe('a connection that ends', () => {
  it.each<[string, (id: string) => string, (sent: string, whole: string) => Ends]>([
    [
      'a length',
      sized,
      (sent, whole) => (sent === whole ? ['own'] : sent.includes('\r\n\r\n') ? ['cut'] : ['instance-lost', 'function-bad-response']),
    ],
    [
      'chunks',
      (id) => `${OK}Transfer-Encoding: chunked\r\n\r\n4;x=y\r\nabcd\r\n${id.length.toString(16)}\r\n${id}\r\n0\r\nX: y\r\n\r\n`,
      (sent, whole) => (sent === whole ? ['own'] : sent.includes('\r\n\r\n') ? ['cut'] : ['instance-lost', 'function-bad-response']),
    ],
    // Its end is the end of the connection, wherever that is.
    [
      'neither',
      (id) => `${OK}X: y\r\n\r\n${id}`,
      (sent) => (sent.includes('\r\n\r\n') ? ['own'] : ['instance-lost', 'function-bad-response']),
    ],
  ])('at any byte of an answer with %s', async (_name, answer, ends) => {
    await HostileFunction.with(10_000, async (hostile) => {
      const whole = answer('id-000000-x');
      const places = Array.from({ length: whole.length + 1 }, (_, at) => at);
      await parallel(places, 32, async (at) => {
        // One that is whole says itself where it ends. Were its connection ended without a word, a request that is on its way on it by then
        // would be lost, as with any server: its own function's, which the looks below would take for another fault.
        const stays = at === whole.length && /content-length|transfer-encoding/i.test(whole);
        const outcome = await hostile.ask((socket, id) => (stays ? socket.write(answer(id)) : socket.end(answer(id).slice(0, at))));
        const sent = whole.slice(0, at);
        expect([sent, outcome.kind, outcome.code, matches(outcome, ends(sent, whole))]).toEqual([sent, outcome.kind, outcome.code, true]);
        if (at % 8 === 0) await hostile.expectWell('bad', 1);
      });
      await hostile.expectWell('neighbour');
    });
  });

  it('is not one where the bytes come one by one', async () => {
    await HostileFunction.with(30_000, async (hostile) => {
      const drip: Attack = (socket, id) => {
        const bytes = `HTTP/1.1 103 Early Hints\r\n\r\n${OK}Transfer-Encoding: chunked\r\n\r\n${id.length.toString(16)};x\r\n${id}\r\n0\r\nX: y\r\n\r\n`;
        const next = (at: number): void => {
          if (at < bytes.length && !socket.destroyed) socket.write(bytes[at]!, () => setImmediate(next, at + 1));
        };
        next(0);
      };
      expect(await hostile.ask(drip, { wait: true })).toMatchObject({
        kind: 'own',
        status: 200,
        body: expect.stringMatching(/^id-\d+-x$/),
      });
      await hostile.expectWell('bad');
    });
  });
});

describe('bytes that nobody asked for', () => {
  it('on an idle connection end it, and reach nobody', async () => {
    await HostileFunction.with(10_000, async (hostile) => {
      for (const left of [
        'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil',
        'H',
        '\0',
        'HTTP/1.1 103 Early Hints\r\n\r\n',
        'HTTP/1.1 408 x\r\n\r\n',
      ]) {
        const { kind, attacked } = await hostile.ask(write(sized));
        expect(kind).toBe('own');
        expect(attacked.destroyed).toBe(false);
        attacked.write(left);
        await waitFor(`the end of a connection with ${JSON.stringify(left)}`, () => attacked.destroyed, { everyMs: 1 });
        await hostile.expectWell('bad', 3);
      }
    });
  });

  it('as soon as it is connected harm the function alone', async () => {
    await HostileFunction.with(10_000, async (hostile) => {
      hostile.onConnection = (socket) => {
        hostile.onConnection = () => {};
        socket.write(sized('too early'));
      };
      const { attacked: _attacked, ...outcome } = await hostile.ask(write(sized));
      expect([outcome, matches(outcome, ['own', 'function-bad-response', 'cut'])]).toEqual([outcome, true]);
      await hostile.expectWell('bad', 5);
      await hostile.expectWell('neighbour');
    });
  });
});

describe('a flood', () => {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  /** What is reachable, bytes. Twice: what the first round frees of buffers is only counted after it. */
  const kept = async (): Promise<number> => {
    for (let round = 0; round < 2; round++) {
      if (typeof collect === 'function') collect();
      await new Promise((resolve) => setImmediate(resolve));
    }
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  /** What each writes at least, where nobody stops it. Bytes. */
  const FLOOD_BYTES = 16 * 1_024 * 1_024;
  /** What may be kept of it, with what a busy test process has beside. Bytes. */
  const MAX_KEPT_BYTES = 10 * 1_024 * 1_024;

  it.each<[string, string, string]>([
    ['hints', '', 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'],
    ['headers', OK, 'X-Y: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'],
    ['a header', `${OK}X: `, 'a'],
    ['a header name', OK, 'a'],
    ['a reason phrase', 'HTTP/1.1 200 ', 'a'],
    ['empty lines before the answer', '', '\r\n'],
    ['chunk extensions', `${OK}Transfer-Encoding: chunked\r\n\r\n1;`, 'a'],
    ['zeros of a chunk size', `${OK}Transfer-Encoding: chunked\r\n\r\n`, '0'],
    ['trailers', `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\n`, 'X-Y: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'],
    ['a trailer', `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\nX: `, 'a'],
    ['NULs', '', '\0'],
  ])('of %s ends at a limit or at the deadline, and is not kept', async (_name, begin, piece) => {
    await HostileFunction.with(1_500, async (hostile) => {
      await hostile.expectWell('bad');
      const before = await kept();
      let most = 0;
      const flood: Attack = async (socket) => {
        const chunk = Buffer.from(piece.repeat(Math.ceil(65_536 / piece.length)), 'latin1');
        const write = (bytes: Buffer) => new Promise<boolean>((resolve) => socket.write(bytes, (error) => resolve(!error)));
        await write(Buffer.from(begin, 'latin1'));
        for (let written = 0; written < FLOOD_BYTES; written += chunk.length) if (socket.destroyed || !(await write(chunk))) return;
        // All of it has been taken, and the request is still open: what there is now is what is kept.
        most = (await kept()) - before;
      };
      const [outcome] = await Promise.all([hostile.ask(flood, { wait: true }), hostile.expectWell('neighbour', 5)]);
      expect(outcome.kind).not.toBe('own');
      expect(most).toBeLessThan(MAX_KEPT_BYTES);
      await hostile.expectWell('bad');
    });
  });
});

describe('property', () => {
  /** Most places are in it, so that heads mostly stay whole. */
  const long = (id: string): string => `${id} ${'x'.repeat(400)} ${id}`;
  const chunks = (texts: readonly string[]): string => texts.map((text) => `${text.length.toString(16)}\r\n${text}\r\n`).join('');
  const templates: readonly ((id: string) => string)[] = [
    sized,
    (id) => sized(long(id)),
    (id) => `${OK}Transfer-Encoding: chunked\r\n\r\n${chunks([id, long(id), id])}0\r\n\r\n`,
    (id) => `HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n${sized(long(id))}`,
    (id) => `HTTP/1.1 503 x\r\nfn-refused: full\r\nContent-Length: 0\r\n\r\n${id}`,
    (id) => `HTTP/1.1 204 No\r\nX-A: ${id}\r\n\r\n`,
    (id) => `HTTP/1.0 200 OK\r\nKeep-Alive: timeout=5\r\n\r\n${long(id)}`,
    (id) => `HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-A: ${id}\r\n\r\n`,
  ];
  const junk = fc.oneof(
    fc.constantFrom(
      '\r\n',
      '\n',
      '\r',
      '\0',
      ':',
      ' ',
      '0\r\n\r\n',
      'HTTP/1.1 200 OK\r\n',
      'Content-Length: 3\r\n',
      'Transfer-Encoding: chunked\r\n',
      '\xff',
      '\x81\x00',
      'Connection: close\r\n',
      '3\r\nabc\r\n',
    ),
    fc.uint8Array({ minLength: 1, maxLength: 12 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
  );
  /** A place is a part of the whole length: it means the same for any template. */
  const place = fc.nat({ max: 9_999 }).map((part) => part / 10_000);
  const mutation = fc.oneof(
    fc.record({ do: fc.constant('insert' as const), at: place, text: junk }),
    fc.record({ do: fc.constant('replace' as const), at: place, text: junk }),
    fc.record({ do: fc.constant('remove' as const), at: place, length: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ do: fc.constant('repeat' as const), at: place, length: fc.integer({ min: 1, max: 40 }) }),
    fc.record({ do: fc.constant('cut' as const), at: place }),
  );
  const script = fc.record({
    template: fc.nat({ max: templates.length - 1 }),
    mutations: fc.array(mutation, { maxLength: 2 }),
    left: fc.oneof(fc.constant(''), junk),
    pieces: fc.array(place, { maxLength: 4 }),
  });
  type Script = typeof script extends fc.Arbitrary<infer T> ? T : never;

  function bytesOf({ template, mutations, left }: Script, id: string): string {
    let text = templates[template]!(id);
    for (const one of mutations) {
      const at = Math.floor(one.at * text.length);
      if (one.do === 'insert') text = text.slice(0, at) + one.text + text.slice(at);
      else if (one.do === 'replace') text = text.slice(0, at) + one.text + text.slice(at + one.text.length);
      else if (one.do === 'remove') text = text.slice(0, at) + text.slice(at + one.length);
      else if (one.do === 'repeat') text = text.slice(0, at + one.length) + text.slice(at);
      else text = text.slice(0, at);
    }
    return text + left;
  }

  it(
    'whatever is written, in whatever pieces, harms the function alone',
    async () => {
      const tally = new Map<string, number>();
      await HostileFunction.with(10_000, async (hostile) => {
        const run = async (one: Script): Promise<void> => {
          const { kind } = await hostile.ask((socket, id) => {
            const bytes = Buffer.from(bytesOf(one, id), 'latin1');
            const ends = [...one.pieces.map((part) => Math.floor(part * bytes.length)), bytes.length].toSorted((a, b) => a - b);
            return new Promise<void>((resolve) => {
              const next = (from: number, index: number): void => {
                const end = ends[index];
                if (end === undefined || socket.destroyed) resolve();
                else socket.write(bytes.subarray(from, end), () => setImmediate(next, end, index + 1));
              };
              next(0, 0);
            });
          });
          tally.set(kind, (tally.get(kind) ?? 0) + 1);
        };
        await fc.assert(
          // Together: an answer that goes astray finds others that wait.
          fc.asyncProperty(fc.array(script, { minLength: 40, maxLength: 60 }), async (scripts) => {
            await Promise.all([...scripts.map(run), hostile.expectWell('neighbour', 2), hostile.expectWell('bad', 2)]);
          }),
          fuzzed(4),
        );
        await hostile.expectWell('bad', 5);
      });
      // None of these is a rare thing here.
      expect(Math.min(...['own', 'cut', 'problem'].map((kind) => tally.get(kind) ?? 0))).toBeGreaterThan(10);
    },
    fuzzTimeoutMs(240_000),
  );
});
