/**
 * The time of day jumps by an hour, forth and back, for the controller, the dispatcher and a gateway: what is measured goes by the
 * monotonic clock and does not notice; schedules fire each time once; events that wait do not wait an hour more. What goes by the
 * time of day, as a token that expires, goes by the one that there is.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventLedger } from '../helpers/event-ledger.ts';
import { FalseTime } from '../helpers/false-time.ts';
import { call } from '../helpers/http.ts';
import { judge, Load, misdirected } from '../helpers/load.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { SecondGateway } from '../helpers/second-gateway.ts';
import { range, sleep, waitFor } from '../helpers/wait.ts';
import { LOOKED_AFTER, reportFault, rowOf } from './report.ts';
import { SCALE } from './scale.ts';
import { ByHttp } from './senders.ts';

const HOUR_S = 3_600;
const NAME = 'witness';
const GUARDED = 'guarded';
/** Of a request, and of one that overruns it. */
const TIMEOUT_S = 10;
/** Seconds beside the real time, and what is answered then to who has a token that is good for half an hour of it. */
const JUMPS: [what: string, offset: number, status: number][] = [
  ['an hour forth', HOUR_S, 401],
  ['back again', 0, 200],
  ['an hour back', -HOUR_S, 200],
  ['forth again', 0, 200],
];
/** Longest wait for an event that is to wait for two seconds: a clock that is set back must not make it an hour. */
const EVENT_MS = 60_000;

const manifest = (port: number) => `
functions:
  ${NAME}:
    entry: ./witness.ts
    keepAlive: 600s
    timeout: ${TIMEOUT_S}s
    min: 1
    max: 2
    env: { LEDGER_PORT: ${port} }
    triggers:
      - { type: cron, schedule: "* * * * * *" }
  ${GUARDED}:
    entry: ./witness.ts
    auth: token
    keepAlive: 600s
    max: 1
    env: { LEDGER_PORT: ${port} }
`;

describe('the time of day jumps', () => {
  const ledger = new EventLedger();
  const time = new FalseTime();
  let platform: TestPlatform;
  let gateway: SecondGateway;
  /** Good for half an hour. */
  let token = '';

  beforeAll(async () => {
    const port = await ledger.start();
    platform = await startPlatform({ driver: 'process', env: { ...time.env, FN_LOG_LEVEL: 'warn' } });
    const folder = dirname(platform.write(await readFile('test/chaos/fixtures/witness.ts', 'utf8'), 'witness.ts'));
    await writeFile(join(folder, 'consumer.ts'), await readFile('test/chaos/fixtures/consumer.ts'));
    await writeFile(join(folder, 'fn.yaml'), manifest(port));
    await platform.fnOk(['deploy'], { cwd: folder });
    token = await newToken('caller');
    // The supervisor gives its gateway an environment of its own: this one believes the clock, too.
    gateway = await SecondGateway.start(platform, { ...time.env, FN_EVENTS_SOCKET: join(platform.runDir, 'events', 's') });
    await waitFor('ticks', () => ticks().size >= 2, { timeoutMs: 60_000 });
  }, 240_000);

  afterAll(async () => {
    await gateway?.kill();
    const left = await platform?.dispose();
    await ledger.stop();
    time.close();
    expect(left ?? []).toEqual([]);
  }, 240_000);

  /** When each was due, and how often it ran. */
  const ticks = (): Map<string, number> =>
    new Map([...ledger.done].flatMap(([id, times]) => (id.startsWith('tick ') ? [[id.slice('tick '.length), times] as const] : [])));

  const newToken = async (name: string) =>
    (await platform.fnOk(['token', 'create', name, '--scope', 'invoke', '--expires', '30m'])).stdout.trim();

  const instances = async () => (await platform.instances(NAME)).map(({ id }) => id);

  it.each(SCALE.full ? JUMPS : JUMPS.slice(0, 2))(
    '%s: nothing is evicted, nothing times out early or late, schedules fire once, events do not wait',
    async (what, offset, status) => {
      const before = await instances();
      const fired = ticks().size;
      const prefix = what.replaceAll(' ', '-');
      const load = new Load({ url: (id) => `${gateway.url}/${NAME}?id=${id}`, connections: 4, pauseMs: 10 });
      const sender = new ByHttp(`${platform.url}/${NAME}`);
      const sending = sender.send(60, { poisonEvery: Number.MAX_SAFE_INTEGER, perSecond: 30, prefix });
      const across = call(`${gateway.url}/${NAME}?id=across-${prefix}&ms=3000`);
      const overrun = call(`${gateway.url}/${NAME}?id=overrun-${prefix}&ms=30000`);
      const delayed = range(5).map((at) => `delayed-${prefix}-${at}`);
      for (const id of delayed) {
        const headers = { prefer: 'respond-async', 'content-type': 'application/json', 'fn-delay': '2s' };
        expect((await platform.call(`/${NAME}`, { method: 'POST', headers, body: JSON.stringify({ id }) })).status).toBe(202);
      }
      await sleep(SCALE.calmMs / 2);
      const faultAt = performance.now();
      time.set(offset);
      // For another one gateways are told of all tokens anew: also when this one has just expired, it is not forgotten.
      const fresh = await newToken(prefix);
      const guarded = [token, fresh].map((bearer) =>
        gateway.call(`/${GUARDED}?id=guarded`, { headers: { authorization: `Bearer ${bearer}` } }),
      );
      const letIn = (await Promise.all(guarded)).map((answer) => answer.status);
      await sending;
      const all = [...sender.acknowledged, ...delayed];
      const done = () => new Set([...ledger.done.keys()].map((id) => id.split('#')[0]!));
      await waitFor('events', () => all.every((id) => done().has(id)), { timeoutMs: EVENT_MS }).catch(() => {
        // Which are missing is told below.
      });
      const eventsMs = Math.round(performance.now() - faultAt);
      const [kept, late] = await Promise.all([across, overrun]);
      await load.during(SCALE.calmMs);
      if (offset > 0) await waitFor('a tick of the new time', () => ticks().size > fired);
      await load.tail(51, faultAt);
      const entries = await load.stop();
      await sender.close();
      const verdict = judge(entries, { faultAt, seen: ledger.all() });
      const lost = all.filter((id) => !done().has(id));
      const twice = [...ticks().values()].filter((times) => times > 1).length;
      reportFault(rowOf({ fault: 9, what: `clock ${what}, warm calls`, driver: 'process' }, entries, verdict));
      reportFault({
        fault: 9,
        what: `clock ${what}, events and schedules`,
        driver: 'process',
        acknowledged: all.length,
        failed: sender.refusals,
        lost: lost.length,
        duplicated: twice,
        unknown: 0,
        recoveredMs: eventsMs,
        leaks: LOOKED_AFTER,
        figures: { ticks: ticks().size },
      });

      expect(letIn).toEqual([status, 200]);
      expect(verdict.failed).toEqual({});
      expect([verdict.lost, verdict.duplicated, misdirected(entries)]).toEqual([[], [], []]);
      expect(verdict.goodTail).toBeGreaterThan(50);
      expect(kept.status).toBe(200);
      expect([late.status, late.json<{ code: string }>().code]).toEqual([504, 'function-timeout']);
      expect(late.ms).toBeGreaterThan(TIMEOUT_S * 1_000 - 100);
      expect(lost).toEqual([]);
      expect(twice).toBe(0);
      // A clock that is behind the last tick fires none until it is past it, so that none is fired again.
      if (offset > 0) expect(ticks().size).toBeGreaterThan(fired);
      // The one that was ended, because a request overran in it, is the only one that may have gone.
      expect(before.length).toBeGreaterThan(0);
      expect((await instances()).length).toBeGreaterThan(0);
    },
    SCALE.timeoutMs,
  );
});
