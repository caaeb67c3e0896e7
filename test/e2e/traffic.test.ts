/**
 * Revisions and traffic under load: whatever is changed, no request fails, and after a change was
 * acknowledged no revision answers that has no share of the traffic.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FunctionView } from '#contract/function.ts';
import { call } from '../helpers/http.ts';
import { failures, Load, type LedgerEntry, tally } from '../helpers/load.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { parallel, range, waitFor } from '../helpers/wait.ts';

/** Answers with its version after some 10 ms, so that requests are in flight at any moment. */
const version = (text: string) => `
export default {
  fetch: async () => {
    await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 10));
    return new Response(${JSON.stringify(text)});
  },
};
`;
/** Answers with the secret that its instance was started with. */
const TELLS_SECRET = `
const value = process.env.SECRET;
export default {
  fetch: async () => {
    await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 10));
    return new Response(value);
  },
};
`;
/** Requests that a phase of a load must have before its shares are judged. */
const ENOUGH = 400;
/** So many standard deviations from its share, and a split is wrong: by chance once in some two million times. */
const SIGMAS = 5;

/** Control API of a platform, over its socket. */
async function api(platform: TestPlatform, method: string, path: string, body?: unknown) {
  return call(`http://fn/v1/namespaces/default${path}`, {
    socketPath: join(platform.runDir, 'control', 's'),
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  });
}

const setTraffic = async (platform: TestPlatform, name: string, shares: Record<number, number>): Promise<FunctionView> => {
  const traffic = Object.entries(shares).map(([revision, percent]) => ({ revision: Number(revision), percent }));
  const answer = await api(platform, 'PUT', `/functions/${name}/traffic`, { traffic });
  if (answer.status !== 200) throw new Error(`traffic: ${answer.status} ${answer.text}`);
  return FunctionView.parse(answer.json());
};

/** Entries of a load that were sent after one moment and had ended before another. */
const between = (entries: LedgerEntry[], from: number, to = Infinity) => entries.filter((entry) => entry.from >= from && entry.to <= to);

const bodies = (entries: LedgerEntry[]): string[] => [...new Set(entries.map((entry) => entry.body))].sort();

/** Waits until so many requests that were sent after a moment have been answered. */
const answered = (load: Load, since: number, count: number) =>
  waitFor(`${count} answers`, () => between(load.entries, since).length >= count, { timeoutMs: 60_000 });

function expectShare(entries: LedgerEntry[], body: string, share: number): void {
  const count = entries.filter((entry) => entry.body === body).length;
  const expected = entries.length * share;
  const bound = SIGMAS * Math.sqrt(entries.length * share * (1 - share));
  expect(Math.abs(count - expected), `${count} of ${entries.length} are ${body}, where ${expected} ± ${bound} were expected`).toBeLessThan(
    bound,
  );
}

for (const driver of drivers('docker')) {
  describe(`traffic (${driver})`, () => {
    const platform = usePlatform({ driver });
    const loadOn = (path: string, connections = 8) => new Load({ url: () => `${platform().url}${path}`, connections });

    it('deployed, split, rolled back under load: nothing fails, and no version answers that has no share', async () => {
      // Three at a time: the load needs several instances of each revision.
      const flags = ['--concurrency', '3'];
      await platform().deploy('shift', version('one'), { flags });
      const load = loadOn('/shift');
      const marks: { from: number; to: number; bodies: string[]; share?: number }[] = [];
      /** Makes a change under load, and lets the load go on after it was acknowledged. */
      const phase = async (change: () => Promise<unknown>, expected: string[], count: number, share?: number) => {
        const before = marks.at(-1);
        if (before) before.to = performance.now();
        await change();
        const from = performance.now();
        marks.push({ from, to: Infinity, bodies: expected, ...(share === undefined ? {} : { share }) });
        await answered(load, from, count);
      };
      try {
        await phase(async () => {}, ['one'], 100);
        await phase(() => platform().deploy('shift', version('two'), { flags }), ['two'], 100);
        await phase(() => setTraffic(platform(), 'shift', { 1: 90, 2: 10 }), ['one', 'two'], ENOUGH, 0.1);
        await phase(() => setTraffic(platform(), 'shift', { 1: 50, 2: 50 }), ['one', 'two'], ENOUGH, 0.5);
        await phase(() => setTraffic(platform(), 'shift', { 2: 100 }), ['two'], 100);
        await phase(() => platform().fnOk(['rollback', 'shift']), ['one'], 100);
        await phase(() => platform().deploy('shift', version('three'), { flags }), ['three'], 100);
      } finally {
        await load.stop();
      }
      expect(tally(load.entries)).toEqual({});
      for (const { from, to, bodies: expected, share } of marks) {
        const entries = between(load.entries, from, to);
        expect(bodies(entries)).toEqual(expected);
        if (share !== undefined) expectShare(entries, 'two', share);
      }
      // Memory goes back: what lost its traffic is kept for a moment only, in case of a rollback.
      await waitFor(
        'instances of the current revision only',
        async () => (await platform().instances('shift')).every(({ revision }) => revision?.endsWith('@3')),
        { timeoutMs: 60_000 },
      );
    });

    it('deleted under load: every request is answered, by the function or by 404', async () => {
      await platform().deploy('gone', version('here'));
      const load = loadOn('/gone');
      let deletedAt = 0;
      try {
        await answered(load, 0, 100);
        await platform().fnOk(['delete', 'gone']);
        deletedAt = performance.now();
        await answered(load, deletedAt, 50);
      } finally {
        await load.stop();
      }
      const wrong = failures(load.entries).filter(({ status }) => status !== 404);
      expect(tally(wrong)).toEqual({});
      expect(between(load.entries, deletedAt).every(({ status }) => status === 404)).toBe(true);
    });

    it('a revision without traffic answers at its preview URL only, warm or cold, also when the traffic is elsewhere', async () => {
      await platform().deploy('preview', version('one'));
      const { stdout } = await platform().deploy('preview', version('two'), { flags: ['--no-traffic', '--json'] });
      const { previewUrl } = JSON.parse(stdout);
      expect(previewUrl).toBe(`${platform().url}/preview@2`);
      expect((await call(`${previewUrl}/some/path`)).text).toBe('two');
      const answers = await parallel(range(40), 4, () => platform().call('/preview'));
      expect(answers.filter(({ status, text }) => status !== 200 || text !== 'one')).toEqual([]);
      expect((await platform().call('/preview@1')).text).toBe('one');
      expect((await platform().call('/preview@9')).status).toBe(404);
      await waitFor(
        'the preview has scaled to zero',
        async () => !(await platform().instances('preview')).some(({ revision }) => revision?.endsWith('@2')),
        {
          timeoutMs: 60_000,
        },
      );
      expect((await call(previewUrl)).text).toBe('two');
    });

    it('sticky by header and by cookie: a client stays, and a shift moves clients in one direction only', async () => {
      await platform().deploy('sticky', version('one'));
      await platform().deploy('sticky', version('two'));
      await setTraffic(platform(), 'sticky', { 1: 50, 2: 50 });
      const sticky = (settings: unknown) => api(platform(), 'PUT', '/functions/sticky/access', { sticky: settings });
      expect((await sticky({ by: 'header', name: 'x-user' })).status).toBe(200);
      const ask = (user: number) => platform().call('/sticky', { headers: { 'x-user': `user-${user}` } });
      const askAll = async () => (await parallel(range(60), 8, ask)).map(({ text }) => text);
      const before = await askAll();
      // Each of 60 users by chance of one half: that all are alike happens once in 2^59 times.
      expect(new Set(before)).toEqual(new Set(['one', 'two']));
      expect(await askAll()).toEqual(before);
      await setTraffic(platform(), 'sticky', { 1: 20, 2: 80 });
      const after = await askAll();
      expect(before.flatMap((text, user) => (text === 'two' && after[user] !== 'two' ? [user] : []))).toEqual([]);
      expect(after.filter((text) => text === 'two').length).toBeGreaterThan(before.filter((text) => text === 'two').length);
      expect((await sticky({ by: 'cookie', name: 'which' })).status).toBe(200);
      for (const _ of range(3)) {
        const first = await platform().call('/sticky');
        const cookie = /^which=[^;]+/.exec(first.headers['set-cookie']?.[0] ?? '')?.[0];
        expect(cookie).toBeDefined();
        const more = await parallel(range(12), 4, () => platform().call('/sticky', { headers: { cookie: cookie! } }));
        expect(new Set(more.map(({ text }) => text))).toEqual(new Set([first.text]));
      }
    });

    it('a secret that changes under load: nothing fails, and soon only the new value is known', async () => {
      const set = async (value: string) => expect((await api(platform(), 'PUT', '/secrets/SECRET', { value })).status).toBeLessThan(300);
      await set('old value');
      await platform().deploy('rotates', TELLS_SECRET, { flags: ['--secret', 'SECRET'] });
      const load = loadOn('/rotates');
      try {
        await answered(load, 0, 100);
        await set('new value');
        await waitFor('the new value', () => load.entries.at(-1)?.body === 'new value', { timeoutMs: 60_000 });
        await waitFor('the old instances are gone', async () => {
          const since = performance.now();
          await answered(load, since, 50);
          return bodies(between(load.entries, since)).join() === 'new value';
        });
        const since = performance.now();
        await answered(load, since, 200);
        expect(bodies(between(load.entries, since))).toEqual(['new value']);
      } finally {
        await load.stop();
      }
      expect(tally(load.entries)).toEqual({});
    });
  });
}
