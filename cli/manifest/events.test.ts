/** `async` and `triggers` of fn.yaml: short forms, names, what is wrong and where; and what a deployment leaves as it is. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FunctionAccess } from '#contract/access.ts';
import { temporaryFolder } from '../../test/helpers/cli.ts';
import { FunctionSettings } from '#contract/function.ts';
import { changeLines } from '../change-text.ts';
import type { Deployed } from '../compare.ts';
import { compare } from '../compare.ts';
import { CliError } from '../errors.ts';
import { readManifest } from './file.ts';
import { resolveManifest } from './resolve.ts';

/** Reads `async` or `triggers` of a function, written over lines that are indented by four. */
function read(fields: string) {
  const folder = temporaryFolder(onTestFinished);
  writeFileSync(join(folder, 'fn.yaml'), `functions:\n  hello:\n    entry: ./hello.ts\n${fields}`);
  writeFileSync(join(folder, 'hello.ts'), '');
  const [one] = resolveManifest(readManifest('fn.yaml', folder), { variables: {} });
  return one!;
}

/** `LINE:COLUMN: …` of what is wrong. */
function faults(fields: string): string[] {
  try {
    read(fields);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    expect(error.exitCode).toBe(2);
    return error.details.map((detail) => detail.split('\n')[0]!.replace('fn.yaml:', '').replace('functions.hello.', ''));
  }
  throw new Error('nothing was refused');
}

describe('triggers', () => {
  it("the issue's own names work exactly", () => {
    const { access } = read(`    triggers:
      - type: redis-stream
        url: redis://:\${secret:REDIS}@redis.example.com:6379/0
        stream: orders
        batchSize: 10
        batchWindowMs: 500
        concurrency: 4
        maxAttempts: 3
        deadLetter: { type: redis-list, url: redis://redis.example.com, list: dead }
`);
    expect(access.triggers).toMatchObject([
      {
        name: 'redis-stream',
        enabled: true,
        url: 'redis://:${secret:REDIS}@redis.example.com:6379/0',
        batchSize: 10,
        batchWindowMs: 500,
        concurrency: 4,
        maxAttempts: 3,
        maxAgeSeconds: 21_600,
        deadLetter: { type: 'redis-list', list: 'dead' },
      },
    ]);
  });

  it('have short forms, and times and sizes with units', () => {
    const { access } = read(`    triggers:
      - { cron: '*/5 * * * *', timezone: Europe/Berlin, maxAge: 1h, retry: { base: 500ms, max: 1m } }
      - { webhook: github, secret: GITHUB }
      - { type: webhook, verify: none, name: open }
      - { type: mqtt, url: mqtt://m.example.com, topic: a/+, batchWindow: 0.5s, maxPayload: 64Ki, keepDeadLetters: 30d, deadLetter: bury }
      - { type: nats, url: nats://n.example.com, stream: S, deadLetter: https://example.com/dead }
`);
    expect(access.triggers).toMatchObject([
      {
        type: 'cron',
        schedule: '*/5 * * * *',
        timezone: 'Europe/Berlin',
        maxAgeSeconds: 3_600,
        retryBaseSeconds: 0.5,
        retryMaxSeconds: 60,
      },
      { type: 'webhook', name: 'webhook', verify: { scheme: 'github', secret: 'GITHUB' } },
      { type: 'webhook', name: 'open', verify: { scheme: 'none' } },
      {
        batchWindowMs: 500,
        maxPayloadBytes: 65_536,
        deadLetterSeconds: 2_592_000,
        deadLetter: { type: 'function', name: 'bury' },
      },
      { deadLetter: { type: 'webhook', url: 'https://example.com/dead', secret: null } },
    ]);
  });

  it('without a name have that of their type, with a number where it is taken, in any order', () => {
    const { access } = read(
      `    triggers: [{ cron: '@daily' }, { cron: '@hourly', name: cron-2 }, { cron: '@weekly' }, { cron: '@yearly', name: cron }]\n`,
    );
    expect(access.triggers.map(({ name }) => name)).toEqual(['cron-3', 'cron-2', 'cron-4', 'cron']);
  });

  it.each([
    [`[{ cron: '@daily', timzone: UTC }]`, '4:34: triggers.0.timzone: there is no such field (did you mean timezone?)'],
    [`[{ type: redis-stream, url: 'redis://x' }]`, '4:16: triggers.0.stream: is missing'],
    [`[{ type: pigeon }]`, '4:16: triggers.0: its type "pigeon" is none of: redis-stream, redis-list,'],
    [`[{ stream: x }]`, '4:16: triggers.0: has no type: redis-stream,'],
    [`[daily]`, '4:16: triggers.0: must be {type: '],
    [`{ cron: '@daily' }`, '4:15: triggers: must be a list'],
    [`[{ type: redis-list, list: l, url: 'redis://:hunter2@x' }]`, '4:50: triggers.0.url: holds a password: put it into a secret'],
    [`[{ cron: '@daily', maxAge: 60d }]`, '4:42: triggers.0.maxAge: must be a time from 1s to 14d'],
    [`[{ cron: '@daily', maxAge: 1h, maxAgeSeconds: 5 }]`, '4:42: triggers.0.maxAge: maxAge and maxAgeSeconds say the same'],
    [`[{ cron: '@daily', retry: { base: 1h, max: 1s } }]`, '4:49: triggers.0.retry.base: must not be greater than retry.max'],
    [`[{ cron: '@daily', deadLetter: No Such }]`, '4:46: triggers.0.deadLetter: '],
    [`[{ cron: '@daily', deadLetter: { type: kafka, topic: x } }]`, '4:34: triggers.0.deadLetter.brokers: is missing'],
    [`[{ webhook: gitlab, secret: X }]`, '4:27: triggers.0.webhook: must be standard, github, stripe or slack'],
    [`[{ cron: '@daily', name: a }, { cron: '@hourly', name: a }]`, '4:70: triggers.1.name: a second trigger of this name'],
    [`[{ cron: '61 * * * *' }]`, '4:24: triggers.0.cron: it cannot be read'],
    [`[{ type: cron, schedule: '@yesterday' }]`, '4:40: triggers.0.schedule: @yesterday is none of'],
    [`[{ cron: '@daily', timezone: Nowhere/Here }]`, '4:44: triggers.0.timezone: Nowhere/Here is no time zone'],
    [`[{ cron: '@daily', batchSize: 2 }]`, '4:34: triggers.0.batchSize: there is no such field'],
  ])('%s', (triggers, expected) => expect(faults(`    triggers: ${triggers}\n`)[0]).toContain(expected));

  it.each([
    ["''", 'must not be empty'],
    ['"a\\tb"', 'must not hold control characters'],
  ])('a queue that is called %s is told of once', (queue, why) =>
    expect(faults(`    triggers: [{ type: rabbitmq, url: 'amqp://x', queue: ${queue} }]\n`)).toEqual([`4:58: triggers.0.queue: ${why}`]),
  );
});

describe('async', () => {
  it('is off, or says what it says, and the rest is the default', () => {
    expect(read('    async: false\n').access.async).toMatchObject({ enabled: false, maxAttempts: 3 });
    const { async } = read(
      `    async: { maxAttempts: 7, maxAge: 2h, keepResults: 1d, onSuccess: [next, https://example.com/ok], onFailure: report }\n`,
    ).access;
    expect(async).toMatchObject({
      enabled: true,
      maxAttempts: 7,
      maxAgeSeconds: 7_200,
      resultSeconds: 86_400,
      retryMaxSeconds: 300,
      onSuccess: [{ type: 'function', name: 'next' }, { type: 'webhook' }],
      onFailure: [{ type: 'function', name: 'report' }],
    });
  });

  it.each([
    ['yes please', '4:12: async: must be true, false, or {maxAttempts,'],
    ['{ maxAttempt: 3 }', '4:14: async.maxAttempt: there is no such field (did you mean maxAttempts?)'],
    ['{ maxAttempts: 0 }', '4:27: async.maxAttempts: must be at least 1'],
    ['{ onFailure: [a, b, c, d, e] }', '4:25: async.onFailure: must be at most 4 of them'],
    ['{ onFailure: { type: function } }', '4:14: async.onFailure.name: is missing'],
  ])('%s', (text, expected) => expect(faults(`    async: ${text}\n`)[0]).toContain(expected));
});

const DIGEST = `sha256:${'a'.repeat(64)}`;

/** A function with this access and one revision, of nothing but defaults. */
function deployedWith(access: FunctionAccess): Deployed {
  const settings = { ...FunctionSettings.parse({}), concurrency: 50, egress: 'internet' as const };
  const of = { namespace: 'default', name: 'hello', bundle: DIGEST, entry: 'index.mjs', image: null, settings, form: 'fetch' as const };
  const revision = { ...of, key: 'default/hello@1', number: 1, createdAt: 0 };
  const view = {
    namespace: 'default',
    name: 'hello',
    url: 'http://x/hello',
    urls: [],
    revision,
    access,
    etag: '1',
    revisions: [1],
    instances: 0,
  };
  return {
    view: { ...view, traffic: [{ revision: 1, percent: 100 }] },
    revisions: [{ ...revision, percent: 100, previewUrl: 'http://x/hello@1', instances: 0 }],
  };
}

describe('a deployment over a function that is there', () => {
  const cron = { type: 'cron', schedule: '@daily' } as const;
  const before = FunctionAccess.parse({
    async: { maxAttempts: 9 },
    triggers: [
      { ...cron, name: 'paused', enabled: false },
      { ...cron, name: 'added' },
    ],
    auth: { type: 'token' },
  });

  it('leaves triggers and async of which the manifest says nothing, and sets back what it always sets', () => {
    expect(read('').accessOver(before)).toEqual({ ...before, auth: { type: 'public' } });
  });

  it('replaces what it says: a trigger that it does not name is removed, one that was paused stays so unless it says enabled', () => {
    const names = (fields: string) =>
      read(fields)
        .accessOver(before)
        .triggers.map(({ name, enabled }) => `${name} ${enabled}`);
    expect(names(`    triggers: [{ cron: '@hourly', name: paused }, { cron: '@daily', name: new }]\n`)).toEqual([
      'paused false',
      'new true',
    ]);
    expect(names(`    triggers: [{ cron: '@hourly', name: paused, enabled: true }]\n`)).toEqual(['paused true']);
    expect(names(`    triggers: [{ cron: '@daily', name: added, enabled: false }]\n`)).toEqual(['added false']);
    expect(names('    triggers: []\n')).toEqual([]);
    expect(read('    async: { maxQueued: 5 }\n').accessOver(before).async).toMatchObject({ maxAttempts: 3, maxQueued: 5 });
  });

  it('is told by fn diff, trigger by trigger and field by field', () => {
    const { accessOver } = read(
      `    async: { maxAttempts: 4, onFailure: report }\n    triggers: [{ cron: '@hourly', name: paused }, { cron: '@daily', name: new, timezone: Europe/Berlin }]\n    auth: token\n`,
    );
    const same = compare(
      { bundle: DIGEST, entry: 'index.mjs', image: null, settings: {}, access: accessOver(before) },
      deployedWith(before),
    );
    expect(same.needs).toEqual({ revision: false, access: true });
    expect(changeLines(same.changes)).toEqual([
      'async.maxAttempts         9 → 4',
      'async.onFailure           none → [{"type":"function","name":"report"}]',
      'triggers.added            − cron @daily',
      'triggers.new              + cron @daily (Europe/Berlin)',
      'triggers.paused.schedule  @daily → @hourly',
    ]);
  });
});
