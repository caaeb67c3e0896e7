/** Properties of what instances and gateways say to the controller: whatever comes, it is understood or cut off, and the process lives. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { LogEntry } from '#contract/log.ts';
import { Health } from '#contract/runtime.ts';
import { silentLog } from '#kit/log.ts';
import { FrameSplitter } from '../../controller/driver/docker/logs.ts';
import { LinkServer } from '../../controller/engine/link-server.ts';
import { droppedLines, RawLines, toEntry } from '../../controller/engine/log-lines.ts';
import { createRuntimeClient, RuntimeUnreachable } from '../../controller/engine/runtime-client.ts';
import { fuzzed, fuzzTimeoutMs } from '../helpers/fuzz.ts';
import { waitFor } from '../helpers/wait.ts';
import { folderFor, json, number, text } from './properties.fixture.ts';

const TIMEOUT_MS = fuzzTimeoutMs(240_000);

describe('what an instance says', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one)),
    json.map((value) => Buffer.from(`${JSON.stringify(value)}\n`)),
    fc
      .record({ t: number, level: fc.constantFrom('info', 'loud'), stream: fc.constantFrom('out', 'sys', 'x'), msg: text, req: text })
      .map((line) => Buffer.from(`${JSON.stringify(line)}\n`)),
    fc.constantFrom('\n', '\r\n', '\0', 'x'.repeat(100_000)).map((one) => Buffer.from(one)),
  );

  it('on stdout and stderr becomes log entries, whatever it is and however it is cut', () => {
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 20 }), fc.constantFrom('stdout' as const, 'stderr' as const), (chunks, stream) => {
        const lines = new RawLines();
        const now = 1_000_000;
        for (const line of [...chunks.flatMap((chunk) => lines.push(chunk)), lines.flush() ?? 'x']) {
          const entry = LogEntry.parse(toEntry(line, stream, 'default/hello@1', 'i-aaaaaaaaaaaa', now));
          expect([entry.t >= 0 && entry.t <= now, entry.msg.length <= 100_000]).toEqual([true, true]);
          expect(droppedLines(entry)).toBeGreaterThanOrEqual(0);
          // One line of a file, whatever it says.
          expect(JSON.stringify(entry)).not.toContain('\n');
        }
        expect(lines.pending.length).toBeLessThanOrEqual(1_048_576);
      }),
      fuzzed(200),
    );
  });

  it('through an engine that frames it is found again, and what is no frame is an error', () => {
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 10 }), fc.array(bytes, { maxLength: 2 }), (payloads, junk) => {
        const splitter = new FrameSplitter();
        const wire = payloads.map((payload) => {
          const head = Buffer.alloc(8);
          head[0] = 1;
          head.writeUInt32BE(payload.length, 4);
          return Buffer.concat([head, payload]);
        });
        expect(Buffer.concat([...splitter.push(Buffer.concat(wire))].map((frame) => Buffer.from(frame.payload)))).toEqual(
          Buffer.concat(payloads),
        );
        const noise = Buffer.concat([Buffer.from([7, 0, 0, 0, 0, 0, 0, 1]), ...junk]);
        expect(() => [...splitter.push(noise)]).toThrow(/cannot be read/);
      }),
      fuzzed(100),
    );
  });

  it(
    'to health, init and drain ends in an error that says why, or in what the protocol says',
    async () => {
      const path = join(folderFor(), 's');
      let answer: Buffer[] = [];
      const open = new Set<Socket>();
      const server = createServer((socket) => {
        open.add(socket);
        socket.on('error', () => {});
        socket.once('data', () => {
          for (const piece of answer) socket.write(piece);
          socket.end();
        });
      });
      onTestFinished(() => {
        for (const socket of open) socket.destroy();
        server.close();
      });
      await once(server.listen(path), 'listening');
      const client = createRuntimeClient({ initTimeoutMs: 2_000 });
      const address = { kind: 'unix', path } as const;
      const start = fc.constantFrom(
        'HTTP/1.1 200 OK\r\n',
        'HTTP/1.1 422 x\r\n',
        'HTTP/1.1 103 x\r\n\r\n',
        'HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n',
        'HTTP/1.0 200\r\n',
        '',
      );
      const head = fc.constantFrom(
        '\r\n',
        'Transfer-Encoding: chunked\r\n\r\n',
        'Content-Length: 5\r\n\r\n',
        'Content-Length: 99999\r\n\r\n',
        'X: \0\r\n\r\n',
        '',
      );
      const init = {
        nonce: 'n',
        revision: 'default/x@1',
        namespace: 'default',
        name: 'x',
        number: 1,
        code: '/c',
        entry: 'i.mjs',
        env: {},
        slots: 1,
        timeoutMs: 1_000,
        memoryMib: 128,
        memoryClassMib: 128,
      };
      await fc.assert(
        fc.asyncProperty(start, head, fc.array(bytes, { maxLength: 3 }), async (line, headers, body) => {
          answer = [Buffer.from(line + headers, 'latin1'), ...body];
          const health = await client.health(address, { timeoutMs: 2_000 }).catch((error: unknown) => error);
          if (!(health instanceof RuntimeUnreachable)) expect(Health.safeParse(health).success).toBe(true);
          const loaded = await client.init(address, Promise.resolve(init), new AbortController().signal).catch((error: unknown) => error);
          if (loaded instanceof RuntimeUnreachable) expect(loaded.message).toMatch(/\S/);
          else expect(loaded).toMatchObject({ ok: expect.any(Boolean) });
          const drained = await client.drain(address, 10).catch((error: unknown) => error);
          expect(drained === undefined || drained instanceof RuntimeUnreachable).toBe(true);
        }),
        fuzzed(100),
      );
    },
    TIMEOUT_MS,
  );
});

describe('the link', () => {
  const HELLO = '{"type":"hello","gateway":"g","boot":"b","pid":1,"term":0,"held":[]}\n';
  it(
    'cuts off whoever says what it does not know, and serves the next one',
    async () => {
      const path = join(folderFor(), 'link', 's');
      let hellos = 0;
      const server = new LinkServer({
        path,
        gid: null,
        tcp: null,
        term: 1,
        log: silentLog,
        limits: { maxUnsentBytes: 1_048_576, helloTimeoutMs: 60_000 },
        events: {
          onHello: (link) => {
            hellos++;
            link.send({ type: 'welcome', keep: [], drop: [], version: 1, routes: [] });
          },
          onMessage: () => {},
          onClose: () => {},
        },
      });
      await server.start();
      onTestFinished(() => server.close());
      const dial = async (): Promise<Socket> => {
        const socket = connect(path).on('error', () => {});
        await once(socket, 'connect');
        return socket;
      };
      const line = fc.oneof(
        json.map((value) => `${JSON.stringify(value)}\n`),
        fc.uint8Array({ minLength: 1, maxLength: 100 }).map((one) => `${Buffer.from(one).toString('latin1')}\n`),
        fc
          .record({
            type: fc.constantFrom('want', 'release', 'suspect', 'hello', 'welcome', '__proto__'),
            revision: json,
            waiting: number,
            lease: text,
            instance: json,
          })
          .map((value) => `${JSON.stringify(value)}\n`),
      );
      await fc.assert(
        fc.asyncProperty(fc.boolean(), fc.array(line, { minLength: 1, maxLength: 5 }), async (greets, lines) => {
          const socket = await dial();
          const closed = once(socket, 'close');
          socket.resume();
          // The last one is none that there is, whatever stood before it.
          socket.write((greets ? HELLO : '') + lines.join('') + '{"type":"none"}\n');
          await closed;
        }),
        fuzzed(60),
      );
      const before = hellos;
      const good = await dial();
      good.write(HELLO);
      const [welcome] = (await once(good, 'data')) as [Buffer];
      expect(JSON.parse(welcome.toString())).toMatchObject({ type: 'welcome' });
      await waitFor('the hello', () => hellos === before + 1, { everyMs: 2 });
      good.destroy();
    },
    TIMEOUT_MS,
  );
});
