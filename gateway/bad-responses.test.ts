/** Instances that answer with what is no HTTP, or unasked: what the client gets, and that no answer has a byte of another. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../test/helpers/gateway-echoes.ts';
import { startRawInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { call } from '../test/helpers/http.ts';
import { runningClock } from '../test/helpers/running-clock.ts';
import { CAUSE_WAIT_MS } from './leased-instances.ts';

/** For who breaks off again and again, and of whom the controller never says why: each time it would be waited for, for 5 s. */
const HASTY: Parameters<typeof withGateway>[1] = {
  clock: { ...runningClock, after: (ms, run) => runningClock.after(ms === CAUSE_WAIT_MS ? 20 : ms, run) },
};

/** A raw instance that answers each request with these bytes, granted for as long as it is wanted. */
async function raw(harness: Harness, onRequest: (socket: Socket, text: string) => void, slots = 1) {
  const instance = await startRawInstance(harness.socket('raw'), onRequest);
  harness.defer(() => instance.stop());
  harness.controller.route('hello');
  await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
  harness.controller.grantOnDemand(() => instance.address, slots);
  return instance;
}

describe('a response that is not HTTP', () => {
  it.each<[string, string]>([
    ['no HTTP at all', 'hello\r\n\r\n'],
    ['both lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc'],
    ['a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'],
    ['another transfer coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'],
    ['a bare CR in a header', 'HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n'],
    ['a NUL in a header', 'HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n'],
    ['a header name with a space', 'HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n'],
    ['100 unasked', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'],
    ['101 unasked', 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'],
    ['a flood of hints', `${'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'.repeat(100)}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n`],
    ['headers without end', `HTTP/1.1 200 OK\r\n${'X-Y: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'.repeat(4_000)}`],
    ['one header without end', `HTTP/1.1 200 OK\r\nX: ${'a'.repeat(200_000)}`],
  ])('%s: 502, and the next request works', async (_name, bytes) => {
    await withGateway(async (harness) => {
      let count = 0;
      await raw(harness, (socket) => socket.write(count++ === 0 ? bytes : 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', 'latin1'));
      const answer = await call(`${harness.url}/hello`);
      expect(codeOf(answer)).toEqual([502, 'function-bad-response']);
      expect((await call(`${harness.url}/hello`)).text).toBe('ok');
    });
  });

  it.each([
    ['a control character', 'a\x01b\x7f'],
    ['latin1', 'G\xfcnther'],
    ['UTF-8', 'G\xc3\xbcnther \xe2\x98\x83'],
  ])('%s in the reason phrase: the answer passes, the phrase does not', async (_name, phrase) => {
    await withGateway(async (harness) => {
      await raw(harness, (socket) => socket.write(`HTTP/1.1 200 ${phrase}\r\nContent-Length: 2\r\n\r\nok`, 'latin1'));
      const answer = await call(`${harness.url}/hello`);
      expect([answer.status, answer.text]).toEqual([200, 'ok']);
    });
  });

  it('early hints before a good one do not disturb it', async () => {
    await withGateway(async (harness) => {
      await raw(harness, (socket) =>
        socket.write(
          'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
        ),
      );
      expect((await call(`${harness.url}/hello`)).text).toBe('ok');
    });
  });

  it.each<[string, string]>([
    ['declared longer than it is', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'],
    ['cut within its chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nab'],
    ['with a bad chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n'],
  ])('a body %s looks truncated to the client', async (_name, bytes) => {
    await withGateway(async (harness) => {
      await raw(harness, (socket) => socket.end(bytes));
      await expect(call(`${harness.url}/hello`)).rejects.toThrow(/aborted|ECONNRESET|terminated/);
    });
  });

  it.each([
    ['the connection is kept', ''],
    ['it ends', 'Connection: close\r\n'],
  ])('one that is bad right behind its head is seen to break off there, not to be no answer at all (%s)', async (_name, header) => {
    await withGateway(async (harness) => {
      await raw(harness, (socket) => socket.write('HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'));
      const client = new RawClient(harness.port).write(`POST /hello HTTP/1.1\r\nHost: a\r\n${header}\r\n`);
      expect(await client.untilClosed()).toMatch(/^HTTP\/1\.1 201 Created\r\n[^]*\r\n\r\n$/);
    });
  });

  it('hundreds of random ones: never a crash, never a byte of one answer in another', async () => {
    await withGateway(async (harness) => {
      let seed = 42;
      const random = (below: number): number => {
        seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
        return (seed >> 8) % below;
      };
      const parts = [
        'HTTP/1.1 200 OK\r\n',
        'HTTP/1.1 ',
        '103 x\r\n\r\n',
        'Content-Length: 3\r\n',
        'Transfer-Encoding: chunked\r\n',
        '\r\n',
        'abc',
        '3\r\nabc\r\n',
        '0\r\n\r\n',
        '\0',
        'Connection: close\r\n',
        'HTTP/1.1 204 No\r\n\r\n',
        'ÿþ',
        ': ',
        '\n',
        'HTTP/1.0 200\r\n\r\n',
        'Keep-Alive: timeout=1\r\n',
      ];
      await raw(
        harness,
        (socket, text) => {
          if (text.startsWith('GET /good ')) {
            socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood');
            return;
          }
          for (let i = random(12); i >= 0; i--) socket.write(parts[random(parts.length)]!, 'latin1');
          if (random(2) === 0) socket.end();
          else setImmediate(() => socket.destroy());
        },
        4,
      );
      let good = 0;
      for (let i = 0; i < 300; i++) {
        await call(`${harness.url}/hello`).catch(() => {});
        if (i % 10 === 0) {
          const answer = await call(`${harness.url}/hello/good`);
          if (answer.status === 200) {
            good++;
            expect(answer.text).toBe('good');
          }
        }
      }
      expect(good).toBe(30);
    }, HASTY);
  });
});

describe('bytes that nobody asked for', () => {
  it('behind an answer, or between two, reach nobody', async () => {
    await withGateway(async (harness) => {
      let count = 0;
      const evil = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';
      const instance = await raw(
        harness,
        (socket) => {
          const answer = `HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngo${String(count++).padStart(2, '0')}`;
          socket.write(count % 2 === 0 ? answer + evil : answer);
        },
        8,
      );
      for (let round = 0; round < 20; round++) {
        const answers = await Promise.all(Array.from({ length: 4 }, () => call(`${harness.url}/hello`)));
        expect(answers.map((answer) => answer.text.slice(0, 2))).toEqual(['go', 'go', 'go', 'go']);
        expect(new Set(answers.map((answer) => answer.text)).size).toBe(4);
        for (const socket of instance.connections) socket.write(evil);
      }
      expect(instance.connections.size).toBeLessThanOrEqual(8);
    });
  });

  it('on an idle connection destroy it', async () => {
    await withGateway(async (harness) => {
      const sockets: Socket[] = [];
      await raw(harness, (socket) => {
        sockets.push(socket);
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      });
      await call(`${harness.url}/hello`);
      sockets[0]!.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil');
      await once(sockets[0]!, 'close');
      expect((await call(`${harness.url}/hello`)).text).toBe('ok');
      expect(sockets[1]).not.toBe(sockets[0]);
    });
  });
});
