/**
 * Properties of everything that takes input from outside: whatever comes, it is taken as it is meant or refused in words,
 * and the process lives. Routes, headers and frames of WebSockets have theirs beside their source (gateway/*.test.ts).
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { z } from 'zod';
import { FunctionAccess } from '#contract/access.ts';
import { DeployRequest, TrafficRequest } from '#contract/api.ts';
import { ERRORS, FnError } from '#contract/errors.ts';
import { CheckedFunctionSettings } from '#contract/function.ts';
import { LogEntry } from '#contract/log.ts';
import { Health } from '#contract/runtime.ts';
import { CreateTokenRequest, NamespaceSettings } from '#contract/tenancy.ts';
import { Trigger } from '#contract/trigger.ts';
import { silentLog } from '#kit/log.ts';
import { checkSchedule, nextTick, ticksBetween } from '#kit/schedule.ts';
import { CliError } from '../../cli/errors.ts';
import { readManifest } from '../../cli/manifest/file.ts';
import { resolveManifest } from '../../cli/manifest/resolve.ts';
import { FrameSplitter } from '../../controller/driver/docker/logs.ts';
import { LinkServer } from '../../controller/engine/link-server.ts';
import { droppedLines, RawLines, toEntry } from '../../controller/engine/log-lines.ts';
import { createRuntimeClient, RuntimeUnreachable } from '../../controller/engine/runtime-client.ts';
import { openBundleStore } from '../../controller/store/bundles.ts';
import { ApiFixture } from '../helpers/api-fixture.ts';
import { fuzzed, fuzzTimeoutMs } from '../helpers/fuzz.ts';
import { pax, tar } from '../helpers/tar.ts';
import { waitFor } from '../helpers/wait.ts';

const TIMEOUT_MS = fuzzTimeoutMs(240_000);

function folderFor(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fn-property-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Text that is trouble somewhere: control characters, other scripts, lone surrogates, keys of every object. */
const text = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom(
    '__proto__',
    'constructor',
    'toString',
    '../x',
    '\u0000',
    '\u001b[2J',
    '\ud800',
    '💥',
    'ﬁ',
    'İ',
    'a'.repeat(5_000),
    '1e999',
    '-0',
    'NaN',
    '',
  ),
);
const number = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(0, -0, -1, 1e18, 1e308, 5e-324, 2 ** 53, 0.1));
/** Names that mean something to some schema, so that what is inside is looked at. */
const key = fc.oneof(
  text,
  fc.constantFrom(
    ...[
      'bundle',
      'entry',
      'settings',
      'env',
      'memoryMib',
      'timeoutSeconds',
      'secrets',
      'egress',
      'min',
      'max',
      'traffic',
      'revision',
      'percent',
      'auth',
      'type',
      'routes',
      'path',
      'host',
      'methods',
    ],
    ...[
      'cors',
      'origins',
      'rateLimit',
      'triggers',
      'name',
      'schedule',
      'timezone',
      'url',
      'stream',
      'filter',
      'quota',
      'scopes',
      'namespaces',
      'expiresAt',
      'value',
      'image',
      'access',
      'sticky',
      'by',
    ],
  ),
);
const { json } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.oneof(
      text,
      number,
      fc.boolean(),
      fc.constant(null),
      fc.constantFrom('jwt', 'cron', 'public', 'token', 'redis-stream', '* * * * *', 'none', 'GET'),
    ),
    fc.array(tie('json'), { maxLength: 4 }),
    fc.array(fc.tuple(key, tie('json')), { maxLength: 6 }).map((pairs) => Object.fromEntries(pairs)),
  ),
}));

describe('the control API', () => {
  let api: ApiFixture;
  beforeAll(async () => {
    api = await ApiFixture.start();
    const bundle = await api.upload();
    await api.json('POST', '/v1/namespaces/default/functions/hello/revisions', { bundle, entry: 'index.mjs', settings: {} });
  });
  afterAll(() => api.close());

  const HELLO = '/v1/namespaces/default/functions/hello';
  const TARGETS = [
    ['POST', `${HELLO}/revisions`],
    ['PUT', `${HELLO}/traffic`],
    ['PUT', `${HELLO}/access`],
    ['PUT', `${HELLO}/triggers/t`],
    ['PATCH', `${HELLO}/triggers/t`],
    ['PUT', '/v1/namespaces/default/secrets/S'],
    ['PUT', '/v1/namespaces/team'],
    ['POST', '/v1/tokens'],
  ] as const;

  it(
    'takes or refuses any JSON, with the place of what is wrong, and never fails',
    async () => {
      const statuses = new Set<number>();
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...TARGETS), json, async ([method, path], body) => {
          const answer = await api.json(method, path, body);
          statuses.add(answer.status);
          expect([200, 201, 204, 400, 404, 422]).toContain(answer.status);
          if (answer.status < 400) return;
          const { code, errors } = answer.problem;
          expect(Object.keys(ERRORS)).toContain(code);
          if (code === 'invalid') for (const { pointer } of errors ?? []) expect(pointer).toMatch(/^(?:$|\/|path\/|query\/)/);
          // What is told is fit for a terminal and a log.
          // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
          expect(answer.text).not.toMatch(/[\u0000-\u001f]/);
        }),
        fuzzed(300),
      );
      expect(statuses).toContain(422);
      expect((await api.call({ path: '/v1/status' })).status).toBe(200);
    },
    TIMEOUT_MS,
  );

  it(
    'answers any bytes in place of JSON with 400 or 422',
    async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.oneof(
            fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
            text.map((one) => Buffer.from(one)),
            fc.constantFrom('{"a":', '[', '"\\ud800"', '1e99999', '{"a":1,"a":2}').map((one) => Buffer.from(one)),
          ),
          async (body) => {
            const answer = await api.call({
              method: 'PUT',
              path: `${HELLO}/traffic`,
              headers: { 'content-type': 'application/json' },
              body,
            });
            expect([400, 422]).toContain(answer.problem.status);
          },
        ),
        fuzzed(80),
      );
    },
    TIMEOUT_MS,
  );
});

describe('schemas of the contract', () => {
  const EXAMPLES: readonly [string, z.ZodType, Record<string, unknown>][] = [
    [
      'DeployRequest',
      DeployRequest,
      {
        bundle: `sha256:${'0'.repeat(64)}`,
        entry: 'index.mjs',
        settings: { memoryMib: 128, env: { A: 'b' }, secrets: ['S'], egress: ['10.0.0.0/8'] },
        traffic: false,
        message: 'm',
      },
    ],
    ['FunctionSettings', CheckedFunctionSettings, { memoryMib: 64, cpu: 0.5, timeoutSeconds: 3, min: 1, max: 2, egress: 'none' }],
    [
      'TrafficRequest',
      TrafficRequest,
      {
        traffic: [
          { revision: 1, percent: 90 },
          { revision: 2, percent: 10 },
        ],
      },
    ],
    [
      'FunctionAccess',
      FunctionAccess,
      {
        routes: [{ host: '*.a.test', path: '/a/:b/*', methods: ['GET'] }],
        auth: { type: 'token' },
        rateLimit: { requestsPerSecond: 1, burst: 2, by: 'function' },
      },
    ],
    ['Trigger', Trigger, { type: 'cron', name: 't', schedule: '*/5 * * * *', timezone: 'Europe/Berlin' }],
    ['NamespaceSettings', NamespaceSettings, { quota: { bundleBytes: 1_000 } }],
    ['CreateTokenRequest', CreateTokenRequest, { name: 'ci', scopes: ['deploy'], namespaces: ['shop'], expiresAt: null }],
  ];
  /** Another value at a place in the example, or a field more. */
  const change = fc.tuple(fc.nat(), fc.option(key, { freq: 3 }), json);

  function changed(example: unknown, [place, name, value]: [number, string | null, unknown]): unknown {
    const copy: unknown = structuredClone(example);
    const objects: object[] = [];
    const gather = (one: unknown): void => {
      if (typeof one !== 'object' || one === null) return;
      objects.push(one);
      for (const inner of Object.values(one)) gather(inner);
    };
    gather(copy);
    const object = objects[place % objects.length]!;
    const names = Object.keys(object);
    Object.defineProperty(object, name ?? names[place % Math.max(1, names.length)] ?? 'x', {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
    return copy;
  }

  it.each(EXAMPLES)('%s: what was taken is the same after it was written and read; nothing throws', (_name, schema, example) => {
    expect(schema.safeParse(example).error).toBeUndefined();
    let taken = 0;
    fc.assert(
      fc.property(fc.array(change, { maxLength: 2 }), (changes) => {
        const parsed = schema.safeParse(changes.reduce<unknown>(changed, example));
        if (!parsed.success) return;
        taken++;
        expect(schema.parse(JSON.parse(JSON.stringify(parsed.data)))).toEqual(JSON.parse(JSON.stringify(parsed.data)));
      }),
      fuzzed(300),
    );
    expect(taken).toBeGreaterThan(20);
    expect(Object.prototype).not.toHaveProperty('polluted');
  });
});

describe('a manifest', () => {
  const GOOD =
    'namespace: shop\ndefaults: { memory: 64, env: { A: b } }\nfunctions:\n  api:\n    entry: ./api.js\n    timeout: 5m\n    routes: [/api/*]\nenvironments:\n  staging: { env: { A: c } }\n';
  const piece = fc.oneof(
    text,
    fc.constantFrom(
      '\n',
      '  ',
      '\t',
      ': ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '&a ',
      '*a',
      '!!js ',
      '<<: *a',
      '? ',
      '|',
      '>',
      '---\n',
      '...\n',
      '#',
      '"',
      "'",
      '%YAML 9\n',
      '@',
      '`',
      '\r',
      '\ufeff',
      '${env:X}',
      'functions:\n',
      'environments: ',
      '1.10',
      '0x10',
      'null',
      '~',
      '5m',
      '-1',
      'memory: ',
    ),
  );
  const place = fc.nat({ max: 999 }).map((part) => part / 1_000);
  const manifest = fc.oneof(
    fc.array(piece, { maxLength: 20 }).map((pieces) => pieces.join('')),
    fc
      .array(fc.tuple(place, piece, fc.nat({ max: 6 })), { maxLength: 4 })
      .map((changes) =>
        changes.reduce((sum, [at, what, length]) => sum.slice(0, at * sum.length) + what + sum.slice(at * sum.length + length), GOOD),
      ),
    json.map((value) => JSON.stringify(value)),
    json.map((value) => JSON.stringify({ functions: { api: value } })),
  );

  it(
    'of any text is a value, or is refused with the place of each fault',
    () => {
      const folder = folderFor();
      writeFileSync(join(folder, 'api.js'), '');
      const tally = { good: 0, bad: 0 };
      fc.assert(
        fc.property(manifest, fc.option(fc.constantFrom('staging', 'nowhere'), { freq: 1 }), (content, environment) => {
          writeFileSync(join(folder, 'fn.yaml'), content);
          try {
            const functions = resolveManifest(readManifest('fn.yaml', folder), {
              variables: { X: 'y' },
              environment: environment ?? undefined,
            });
            for (const { settings } of functions) expect(CheckedFunctionSettings.safeParse(settings).success).toBe(true);
            tally.good++;
          } catch (error) {
            tally.bad++;
            if (!(error instanceof CliError)) throw error;
            expect(error.exitCode).toBe(2);
            for (const detail of error.details.slice(0, 20)) expect(detail).toMatch(/^fn\.yaml:\d+:\d+: ./);
            // Either places, or a word that is about the command line or the file as a whole.
            expect(error.details.length > 0 || /environment|UTF-8|too large|function/.test(error.message)).toBe(true);
          }
        }),
        fuzzed(150),
      );
      expect(Math.min(tally.good, tally.bad)).toBeGreaterThan(3);
    },
    TIMEOUT_MS,
  );
});

describe('a bundle', () => {
  const entry = fc.record({
    name: fc.constantFrom('a', 'a/b', 'A', 'd/', '../x', '/x', './a', 'n'.repeat(100), 'a\0b', 'é', '.', ''),
    type: fc.constantFrom('0', '0', '0', '5', '1', '2', '3', '6', 'L', 'K', 'x', 'g', 'S', '\0', 'Z'),
    content: fc.constantFrom(
      '',
      'x',
      'x'.repeat(600),
      '../../evil\0',
      '18 path=../../evil\n',
      '19 size=9999999999\n',
      '30 GNU.sparse.name=../../evil\n',
      '99 path=x\n',
    ),
    mode: fc.constantFrom(0o644, 0o755, 0o4755, 0o1777),
    size: fc.option(fc.constantFrom(0, 1, 0o777777777, 511), { nil: undefined, freq: 6 }),
  });
  const plain = fc.integer({ min: 0, max: 999 }).map((n) => ({ name: `f${n}`, type: '0', content: 'x', mode: 0o644, size: undefined }));
  const flips = fc.array(fc.tuple(fc.nat({ max: 9_999 }), fc.nat({ max: 255 })), { maxLength: 4 });

  it(
    'of any bytes is kept whole or refused, and nothing else is anywhere',
    async () => {
      const folder = folderFor();
      const store = await openBundleStore({ folder: join(folder, 'bundles') });
      const tally = { kept: 0, refused: 0 };
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.oneof({ weight: 3, arbitrary: plain }, { weight: 1, arbitrary: entry }), { maxLength: 4 }),
          fc.boolean(),
          fc.oneof(fc.constant([]), flips),
          fc.option(fc.nat({ max: 9_999 }), { freq: 1 }),
          async (entries, long, changes, end) => {
            const raw = tar(
              ...(long ? [pax({ path: 'long/'.repeat(40) + 'f' })] : []),
              { name: 'index.mjs', content: 'x' },
              ...entries.map(({ size, ...rest }) => (size === undefined ? rest : { ...rest, size })),
            );
            for (const [at, value] of changes) raw[Math.floor((at / 10_000) * raw.length)] = value;
            const whole = gzipSync(raw);
            const data = end === null ? whole : whole.subarray(0, Math.floor((end / 10_000) * whole.length));
            const digest = `sha256:${createHash('sha256').update(data).digest('hex')}`;
            try {
              await store.put(
                digest,
                (async function* pieces() {
                  yield data;
                })(),
              );
              tally.kept++;
              expect(await store.has(digest)).toBe(true);
            } catch (error) {
              if (!(error instanceof FnError)) throw error;
              tally.refused++;
              expect([413, 422]).toContain(error.status);
              expect(await store.has(digest)).toBe(false);
            }
            expect([readdirSync(folder), readdirSync(join(folder, 'bundles', '.tmp'))]).toEqual([['bundles'], []]);
          },
        ),
        fuzzed(120),
      );
      expect(Math.min(tally.kept, tally.refused)).toBeGreaterThan(5);
    },
    TIMEOUT_MS,
  );
});

describe('a schedule', () => {
  const field = fc.constantFrom(
    '*',
    '*/5',
    '0',
    '1-5',
    '59',
    '60',
    '1,2',
    'MON',
    'L',
    '?',
    '#',
    '31',
    '2',
    '-1',
    '1/0',
    '*/0',
    '99999999999',
    'W',
    '5#2',
    '',
  );
  it(
    'of any text is refused in words, or comes again and again, later each time',
    () => {
      let runs = 0;
      fc.assert(
        fc.property(
          fc.oneof(
            text,
            fc.array(field, { minLength: 4, maxLength: 7 }).map((fields) => fields.join(' ')),
            fc.constantFrom('@daily', '@never', '@reboot'),
          ),
          fc.oneof(
            { weight: 3, arbitrary: fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York') },
            { weight: 1, arbitrary: fc.oneof(text, fc.constantFrom('+01:00', 'Nowhere/Bad')) },
          ),
          (schedule, timezone) => {
            const wrong = checkSchedule(schedule, timezone);
            if (wrong !== null) {
              expect(wrong.detail).toMatch(/\S/);
              return;
            }
            runs++;
            let at = Date.UTC(2026, 2, 29);
            for (let n = 0; n < 3; n++) {
              const next = nextTick(schedule, timezone, at);
              if (next === null) return;
              expect(next).toBeGreaterThan(at);
              expect(ticksBetween(schedule, timezone, at, next, 5)).toEqual([next]);
              at = next;
            }
          },
        ),
        fuzzed(150),
      );
      expect(runs).toBeGreaterThan(5);
    },
    TIMEOUT_MS,
  );
});

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
