/**
 * Two controllers and two gateways on one Redis: whoever leads is killed, or frozen past its time with its dispatcher and
 * thawed. Events go on under the other, schedules fire once, warm requests notice nothing, and who was thawed changes
 * nothing any more.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { EventLedger } from '../helpers/event-ledger.ts';
import { Load, judge } from '../helpers/load.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { LOOKED_AFTER, report, reportFault } from './report.ts';
import { SCALE } from './scale.ts';
import { ByHttp } from './senders.ts';

const NAME = 'consumer';
/** Longer than a leader's lease (6 s) and the time that a dispatcher is believed in without a beat (10 s). */
const FROZEN_MS = 14_000;
/** Ticks of which a leader may not have written down yet, when it ends, that they ran: those of some seconds of a machine that stands still. */
const MAX_CUT_OFF = 5;

const manifest = (port: number) => `
functions:
  ${NAME}:
    entry: ./consumer.ts
    env: { LEDGER_PORT: ${port} }
    async: { maxAttempts: 3, retryBaseSeconds: 0.2, retryMaxSeconds: 1 }
  ticking:
    entry: ./ticking.ts
    env: { LEDGER_PORT: ${port} }
    triggers:
      - { type: cron, schedule: "* * * * * *", missed: all }
`;

/** Writes down the time that each tick was due, and its event's id: one that fires twice is there with two. */
const TICKING = `
import consumer from './consumer.ts';
export default {
  async scheduled({ id, scheduledTime }: { id: string; scheduledTime: number }): Promise<void> {
    const body = JSON.stringify({ id: \`tick \${scheduledTime} \${id}\` });
    await consumer.fetch(new Request('http://here/', { method: 'POST', body }));
  },
};
`;

/** Where somebody has ended it meanwhile, there is nothing to thaw. */
function thaw(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

describe('another controller takes over', () => {
  const ledger = new EventLedger();
  let store: RedisServer;
  let platform: TestPlatform;

  beforeAll(async () => {
    const port = await ledger.start();
    store = await startRedis({ appendfsync: 'always' });
    platform = await startPlatform({
      driver: 'process',
      env: { FN_STORE: store.url, FN_LOG_LEVEL: 'warn' },
      upFlags: ['--controllers', '2', '--gateways', '2'],
    });
    const consumer = await readFile('test/chaos/fixtures/consumer.ts', 'utf8');
    const folder = dirname(platform.write(consumer, 'consumer.ts'));
    await writeFile(join(folder, 'ticking.ts'), TICKING);
    await writeFile(join(folder, 'fn.yaml'), manifest(port));
    await platform.fnOk(['deploy'], { cwd: folder });
    await platform.deploy('steady', 'test/chaos/fixtures/ledger.ts', { flags: ['--min', '1'] });
  }, 240_000);

  afterAll(async () => {
    const left = await platform.dispose();
    await Promise.all([store.stop(), ledger.stop()]);
    expect(left).toEqual([]);
  }, 240_000);

  const leader = () =>
    waitFor(
      'a controller that leads, with its dispatcher',
      async () => {
        const { controller, dispatcher } = await platform.status();
        return dispatcher.pid !== null && { pid: controller.pid, dispatcher: dispatcher.pid, term: controller.term };
      },
      { timeoutMs: 60_000 },
    );

  const anotherThan = (term: number) =>
    waitFor('another leader', async () => ((await platform.status()).controller.term > term ? true : undefined), { timeoutMs: 60_000 });

  /** When each tick was due, and its events: how often each of them ran. */
  function ticks(): Map<number, number[]> {
    const due = new Map<number, number[]>();
    for (const [id, times] of ledger.done) {
      const at = /^tick (\d+) /.exec(id)?.[1];
      if (at !== undefined) due.set(Number(at), [...(due.get(Number(at)) ?? []), times]);
    }
    return due;
  }

  /** Ticks that ran more than once. */
  const cutOff = (): number => [...ticks().values()].filter((events) => events.some((times) => times > 1)).length;

  /** Ticks before which one is missing. */
  const gaps = (): number[] => {
    const due = [...ticks().keys()].toSorted((a, b) => a - b);
    return due.filter((tick, index) => index > 0 && tick - due[index - 1]! !== 1_000);
  };

  const FAULTS: [what: string, strike: () => Promise<unknown>][] = [
    [
      'killed',
      async () => {
        const { pid, term } = await leader();
        process.kill(pid, 'SIGKILL');
        await anotherThan(term);
      },
    ],
    [
      `frozen for ${FROZEN_MS / 1_000} s, with its dispatcher, and thawed`,
      async () => {
        const { pid, dispatcher, term } = await leader();
        for (const one of [pid, dispatcher]) process.kill(one, 'SIGSTOP');
        const began = performance.now();
        await anotherThan(term);
        const took = performance.now() - began;
        await sleep(Math.max(0, FROZEN_MS - took));
        for (const one of [pid, dispatcher]) thaw(one);
      },
    ],
  ];

  for (const [what, strike] of FAULTS) {
    it(
      `the leader is ${what}: nothing is lost, schedules fire once, warm requests go on`,
      async () => {
        const before = ledger.duplicates;
        const cutOffBefore = cutOff();
        const sender = new ByHttp(`${platform.url}/${NAME}`);
        const warm = new Load({ url: (id) => `${platform.url}/steady?id=${id}`, connections: 4, pauseMs: 10 });
        const sending = sender.send(SCALE.takeoverEvents, {
          poisonEvery: Number.MAX_SAFE_INTEGER,
          perSecond: 50,
          prefix: what.replaceAll(/[^a-z]+/g, '-'),
        });
        await sleep(SCALE.calmMs);
        const faultAt = performance.now();
        await strike();
        const recoveredMs = performance.now() - faultAt;
        await sending;
        await waitFor('all that was acknowledged', () => ledger.lost(sender.acknowledged).length === 0, {
          timeoutMs: SCALE.settleMs,
        }).catch(() => {
          // What is missing is told below.
        });
        const lastTick = Math.max(...ticks().keys()) + 2_000;
        // One that a frozen dispatcher had claimed is another's when its time is over.
        await waitFor('ticks after it, and none missing', () => ticks().has(lastTick) && gaps().length === 0, {
          timeoutMs: SCALE.settleMs,
        }).catch(() => {
          // Which are missing is told below.
        });
        await warm.tail(51, faultAt);
        const verdict = judge(await warm.stop(), { faultAt });
        const refused = sender.refused;
        await sender.close();
        report({
          test: `takeover: ${what}`,
          recoveredMs: Math.round(recoveredMs),
          acknowledged: sender.acknowledged.size,
          refused,
          lost: ledger.lost(sender.acknowledged).length,
          duplicates: ledger.duplicates - before,
          ticks: ticks().size,
          ticksTwice: [...ticks().values()].filter((events) => events.length > 1).length,
          ticksCutOff: cutOff() - cutOffBefore,
          warmFailed: verdict.failed,
        });
        reportFault({
          fault: what === 'killed' ? 1 : 17,
          what: `leader ${what}`,
          driver: 'process',
          acknowledged: sender.acknowledged.size,
          failed: sender.refusals,
          lost: ledger.lost(sender.acknowledged).length,
          duplicated: ledger.duplicates - before,
          unknown: 0,
          recoveredMs: Math.round(recoveredMs),
          leaks: LOOKED_AFTER,
          figures: { warmOk: verdict.ok, warmFailed: verdict.failed },
        });
        expect(ledger.lost(sender.acknowledged)).toEqual([]);
        expect(sender.acknowledged.size).toBe(SCALE.takeoverEvents);
        expect(verdict.failed).toEqual({});
        expect(verdict.goodTail).toBeGreaterThan(50);
        expect(gaps()).toEqual([]);
        // A tick is one event, whoever fires it: one that was cut off in the middle runs again, as the same one.
        expect([...ticks()].filter(([, events]) => events.length > 1)).toEqual([]);
        expect(cutOff() - cutOffBefore).toBeLessThanOrEqual(MAX_CUT_OFF);
        await sender.close();
      },
      SCALE.timeoutMs,
    );
  }

  it('one of them leads at the end, and the other stands by', async () => {
    const { controller } = await waitFor('both gateways', async () => {
      const status = await platform.status();
      return status.gateways?.length === 2 && status;
    });
    // Who was thawed has ended itself and was started again: killing the leader once more finds it ready.
    process.kill(controller.pid, 'SIGKILL');
    await anotherThan(controller.term);
    expect((await platform.call('/steady?id=last')).status).toBe(200);
  });
});
