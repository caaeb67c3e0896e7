/**
 * Properties of everything that takes what people send: whatever comes, it is taken as it is meant or refused in words,
 * and the process lives. Routes, headers and frames of WebSockets have theirs beside their source (gateway/*.test.ts).
 */
import { createHash } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { FunctionAccess } from '#contract/access.ts';
import { DeployRequest, TrafficRequest } from '#contract/api.ts';
import { ERRORS, FnError } from '#contract/errors.ts';
import { CheckedFunctionSettings } from '#contract/function.ts';
import { CreateTokenRequest, NamespaceSettings } from '#contract/tenancy.ts';
import { Trigger } from '#contract/trigger.ts';
import { checkSchedule, nextTick, ticksBetween } from '#kit/schedule.ts';
import { CliError } from '../../cli/errors.ts';
import { readManifest } from '../../cli/manifest/file.ts';
import { resolveManifest } from '../../cli/manifest/resolve.ts';
import { openBundleStore } from '../../controller/store/bundles.ts';
import { ApiFixture } from '../helpers/api-fixture.ts';
import { fuzzed, fuzzTimeoutMs } from '../helpers/fuzz.ts';
import { pax, tar } from '../helpers/tar.ts';
import { folderFor, json, key, text } from './properties.fixture.ts';

const TIMEOUT_MS = fuzzTimeoutMs(240_000);

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
