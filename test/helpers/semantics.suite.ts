/**
 * What a user may rely on, whatever runs the instances: one row each. The same tests run on containers, on plain processes
 * and on pods (test/e2e/semantics.test.ts), and on a platform that a chart has installed (test/cluster). docs/kubernetes.md has
 * the table; a test holds its rows to ROWS.
 */
import { Agent } from 'node:http';
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { InvocationView } from '#contract/events.ts';
import { LogEntry } from '#contract/log.ts';
import type { InstanceView } from '#contract/api.ts';
import { type Answer, type CallOptions, serverTiming } from './http.ts';
import { failures, Load, tally } from './load.ts';
import type { CommandOptions, CommandResult, Deployed, DeployOptions } from './platform.ts';
import { range, waitFor } from './wait.ts';

/** What the suite needs of a platform: what a user has. */
export interface UserPlatform {
  /** Of the gateway. */
  readonly url: string;
  fn(args: string[], options?: CommandOptions): Promise<CommandResult>;
  fnOk(args: string[], options?: CommandOptions): Promise<CommandResult>;
  deploy(name: string, source: string, options?: DeployOptions): Promise<Deployed>;
  write(source: string, file?: string): string;
  call(path: string, options?: CallOptions): Promise<Answer>;
  instances(name: string): Promise<InstanceView[]>;
  scaledToZero(name: string, timeoutMs?: number): Promise<void>;
  pooled(count?: number, timeoutMs?: number): Promise<void>;
}

export interface Semantics {
  platform: () => UserPlatform;
  /** Memory is held by the kernel: not so for plain processes. */
  limits: boolean;
  /** All that whoever runs instances tells of them: there must be no secret in it. null where nobody tells anything. */
  inspect: (() => Promise<string>) | null;
}

/** The rows of the table, in its order. */
export const ROWS = [
  'deploy',
  'cold',
  'warm',
  'zero',
  'limits',
  'out of memory',
  'timeout',
  'logs',
  'revisions',
  'secrets',
  'triggers',
  'async',
] as const;

const PROBE = 'test/e2e/fixtures/probe.ts';
/** Pods of a busy machine take seconds to go. */
const GONE_MS = 60_000;

const startOf = (answer: Answer) => serverTiming(answer.headers['server-timing']).start;
const codeOf = (answer: Answer) => [answer.status, answer.json<{ code: string }>().code];
const version = (text: string) => `export default () => new Response(${JSON.stringify(text)});\n`;

const ASYNC = `
let third = 0;
export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === '/fail' || (pathname === '/third' && ++third < 3)) throw new Error('not now');
    return Response.json({ body: await request.text(), attempt: Number(request.headers.get('ce-attempt') ?? 1) }, { status: 201 });
  },
};
`;

const CLOCK = `
const seen = [];
export default {
  scheduled(event) { seen.push({ id: event.id, tick: event.scheduledTime, data: event.data }); },
  fetch: () => Response.json(seen),
};
`;

export function semantics({ platform, limits, inspect }: Semantics): void {
  const rows: Record<(typeof ROWS)[number], () => Promise<void>> = {
    deploy: async () => {
      const { url } = await platform().deploy('first', version('one'));
      expect(url).toContain('/first');
      expect((await platform().call('/first')).text).toBe('one');
      const broken = await platform().deploy('first', 'export default () => new Response("two");\nthrow new Error("at line two");\n', {
        mayFail: true,
      });
      expect(broken.code).not.toBe(0);
      expect(broken.stderr).toMatch(/handler\.ts:2[^]*at line two/);
      expect((await platform().call('/first')).text).toBe('one');
    },
    cold: async () => {
      await platform().deploy('cold', PROBE, { flags: ['--keep-alive', '1'] });
      await platform().scaledToZero('cold', GONE_MS);
      await platform().pooled();
      const cold = await platform().call('/cold');
      expect([cold.status, startOf(cold)]).toEqual([200, 'pooled']);
      await platform().scaledToZero('cold', GONE_MS);
      const agent = new Agent({ keepAlive: true, maxSockets: 50 });
      const answers = await Promise.all(range(50).map(() => platform().call('/cold/sleep?ms=50', { agent })));
      agent.destroy();
      expect(answers.filter(({ status }) => status !== 200).map(({ text }) => text)).toEqual([]);
      expect(new Set(answers.map((answer) => answer.json<{ instance: string }>().instance)).size).toBeLessThanOrEqual(3);
    },
    warm: async () => {
      await platform().deploy('warm', PROBE);
      await platform().call('/warm');
      const load = new Load({ url: () => `${platform().url}/warm`, connections: 8 });
      await waitFor('answers', () => load.entries.length > 500, { timeoutMs: 60_000 }).finally(() => load.stop());
      expect(tally(failures(load.entries))).toEqual({});
      expect(startOf(await platform().call('/warm'))).toBe('warm');
    },
    zero: async () => {
      await platform().deploy('zero', PROBE, { flags: ['--keep-alive', '1'] });
      const before = (await platform().call('/zero')).json<{ instance: string }>().instance;
      await platform().scaledToZero('zero', GONE_MS);
      const after = await platform().call('/zero');
      expect(after.status).toBe(200);
      expect(after.json<{ instance: string }>().instance).not.toBe(before);
    },
    limits: async () => {
      await platform().deploy('bounded', PROBE, { flags: ['--concurrency', '2', '--max', '2', '--timeout', '20', '--keep-alive', '10'] });
      const agent = new Agent({ keepAlive: true, maxSockets: 12 });
      const answers = await Promise.all(range(12).map(() => platform().call('/bounded/sleep?ms=300', { agent })));
      agent.destroy();
      expect(answers.map(({ status }) => status)).toEqual(range(12).map(() => 200));
      expect(new Set(answers.map((answer) => answer.json<{ instance: string }>().instance)).size).toBeLessThanOrEqual(2);
      if (!limits) return;
      await platform().deploy('large', PROBE, { flags: ['--memory', '512', '--timeout', '60'] });
      const filled = await platform().call('/large/heap?mib=400');
      expect([filled.status, filled.text]).toEqual([200, expect.any(String)]);
      expect(filled.json<{ used: number }>().used).toBeGreaterThanOrEqual(400);
      await platform().fnOk(['delete', 'large']);
    },
    'out of memory': async () => {
      await platform().deploy('greedy', PROBE, { flags: ['--timeout', '60'] });
      if (limits) {
        expect(codeOf(await platform().call('/greedy/oom'))).toEqual([502, 'function-oom']);
        expect((await platform().call('/greedy')).status).toBe(200);
      }
      expect(codeOf(await platform().call('/greedy/exit/137'))).toEqual([502, 'function-crashed']);
      expect((await platform().call('/greedy')).status).toBe(200);
    },
    timeout: async () => {
      await platform().deploy('loop', PROBE, { flags: ['--timeout', '5', '--max', '1'] });
      expect(codeOf(await platform().call('/loop/spin'))).toEqual([504, 'function-timeout']);
      expect((await platform().call('/loop')).status).toBe(200);
    },
    logs: async () => {
      await platform().deploy('chatty', PROBE, { flags: ['--keep-alive', '1'] });
      const answer = await platform().call('/chatty/log/needle');
      const lines = async () =>
        (await platform().fnOk(['logs', 'chatty', '--json', '--grep', 'needle'])).stdout
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => LogEntry.parse(JSON.parse(line)));
      const found = await waitFor('both lines', async () => {
        const all = await lines();
        return all.length >= 2 && all;
      });
      expect(found.map(({ stream, level, req }) => `${stream} ${level} ${req}`).toSorted()).toEqual(
        ['err error', 'out info'].map((line) => `${line} ${String(answer.headers['x-request-id'])}`),
      );
      await platform().scaledToZero('chatty', GONE_MS);
      expect(await lines()).toEqual(found);
    },
    revisions: async () => {
      await platform().deploy('moving', version('one'));
      const load = new Load({ url: () => `${platform().url}/moving`, connections: 4 });
      const marks: { at: number; body: string }[] = [];
      const until = async (body: string) => {
        marks.push({ at: performance.now(), body });
        const seen = load.entries.length;
        await waitFor(`answers after ${body}`, () => load.entries.length > seen + 100, { timeoutMs: 60_000 });
      };
      try {
        await until('one');
        await platform().deploy('moving', version('two'));
        await until('two');
        await platform().fnOk(['rollback', 'moving']);
        await until('one');
      } finally {
        await load.stop();
      }
      expect(tally(failures(load.entries))).toEqual({});
      for (const [index, { at, body }] of marks.entries()) {
        const answered = load.entries.filter(({ from, to }) => from >= at && to < (marks[index + 1]?.at ?? Infinity));
        // A change is acknowledged when no gateway routes by what was before it; while it is made, both may answer.
        expect(answered.at(0)?.body).toBe(body);
      }
      expect((await platform().call('/moving@2')).text).toBe('two');
    },
    secrets: async () => {
      const values = ['canary-one', 'canary-two'].map((text) => `${text}-${Math.random().toString(36).slice(2)}`);
      await platform().fnOk(['secret', 'set', 'API_KEY'], { input: values[0]! });
      await platform().deploy('teller', 'export default () => new Response(process.env.API_KEY);\n', { flags: ['--secret', 'API_KEY'] });
      expect((await platform().call('/teller')).text).toBe(values[0]);
      await platform().fnOk(['secret', 'set', 'API_KEY'], { input: values[1]! });
      await waitFor('the new value', async () => (await platform().call('/teller')).text === values[1], { timeoutMs: 60_000 });
      if (inspect === null) return;
      const told = await inspect();
      expect(told.length).toBeGreaterThan(100);
      for (const value of values) expect(told).not.toContain(value);
    },
    triggers: async () => {
      const entry = platform().write(CLOCK, 'clock.js');
      const manifest = join(entry, '..', 'fn.yaml');
      writeFileSync(
        manifest,
        "functions:\n  clock:\n    entry: ./clock.js\n    max: 1\n    triggers:\n      - { cron: '*/1 * * * * *', name: second, missed: skip, data: { a: 1 } }\n",
      );
      await platform().fnOk(['deploy', '--file', manifest]);
      const seen = await waitFor(
        'three ticks',
        async () => {
          const ticks = (await platform().call('/clock')).json<{ id: string; tick: number; data: unknown }[]>();
          return ticks.length >= 3 && ticks;
        },
        { timeoutMs: 60_000 },
      );
      expect(new Set(seen.map(({ tick }) => tick)).size).toBe(seen.length);
      expect(seen[0]!.data).toEqual({ a: 1 });
      await platform().fnOk(['trigger', 'pause', 'clock', 'second']);
    },
    async: async () => {
      const manifest = join(platform().write(ASYNC, 'later.js'), '..', 'fn.yaml');
      writeFileSync(
        manifest,
        'functions:\n  later:\n    entry: ./later.js\n    max: 1\n    async: { maxAttempts: 3, retry: { base: 50ms, max: 100ms } }\n',
      );
      await platform().fnOk(['deploy', '--file', manifest]);
      const send = async (path: string): Promise<string> => {
        const answer = await platform().call(`/later${path}`, { method: 'POST', body: 'some', headers: { prefer: 'respond-async' } });
        expect([answer.status, answer.text]).toEqual([202, expect.any(String)]);
        return answer.headers.location!;
      };
      const ended = (location: string) =>
        waitFor(
          `${location} to end`,
          async () => {
            const view = InvocationView.parse((await platform().call(location)).json());
            return ['succeeded', 'failed'].includes(view.state) && view;
          },
          { timeoutMs: 60_000 },
        );
      expect(await ended(await send('/third'))).toMatchObject({ state: 'succeeded', attempts: 3, result: { status: 201 } });
      const failed = await ended(await send('/fail'));
      expect(failed).toMatchObject({ state: 'failed', attempts: 3 });
      expect((await platform().fnOk(['dlq', 'list', 'later', '--json'])).stdout).toContain(failed.id);
    },
  };

  describe('means the same', () => {
    beforeAll(() => platform().pooled());
    it.each(ROWS)('%s', async (row) => {
      expect.hasAssertions();
      await rows[row]();
    });
  });
}
