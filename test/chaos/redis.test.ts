/**
 * The Redis that is the store, and the one that a trigger takes from, go away under load: ended, killed, frozen, and cut off so
 * that packets are lost and nobody is told. Warm calls go on; an event is refused with 503, never accepted in vain; who sends
 * again under the same key has made one event of it; and when they are back, all that was accepted is done.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EventLedger } from '../helpers/event-ledger.ts';
import { judge, Load, misdirected } from '../helpers/load.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { SeparateNet } from '../helpers/separate-net.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { LOOKED_AFTER, reportFault, rowOf } from './report.ts';
import { SCALE } from './scale.ts';
import { ByHttp, ByRedisStream, type Sender } from './senders.ts';

const NAME = 'witness';
const PER_SECOND = 40;
const NO_POISON = Number.MAX_SAFE_INTEGER;
/** Longest wait between the return of a Redis and the first event that is accepted, or taken from it. */
const RECOVERY_MS = 60_000;
/** Of events that were being done while their store went: what they had done was not written down, and is done again. */
const MAX_CUT_OFF = 100;

const manifest = (broker: string, port: number) => `
functions:
  ${NAME}:
    entry: ./witness.ts
    min: 1
    max: 2
    env: { LEDGER_PORT: ${port} }
    async: { maxAttempts: 5, retryBaseSeconds: 0.2, retryMaxSeconds: 1 }
    triggers:
      - { name: stream, type: redis-stream, url: "${broker}", stream: work, startFrom: beginning, batchSize: 10, retryBaseSeconds: 0.2, retryMaxSeconds: 1 }
`;

describe('Redis goes away', () => {
  const ledger = new EventLedger();
  let net: SeparateNet;
  let store: RedisServer;
  let broker: RedisServer;
  let platform: TestPlatform;

  beforeAll(async () => {
    const port = await ledger.start();
    net = await SeparateNet.make();
    [store, broker] = await Promise.all([startRedis({ appendfsync: 'always', net }), startRedis({ appendfsync: 'always', net })]);
    platform = await startPlatform({ driver: 'process', env: { FN_STORE: store.url, FN_LOG_LEVEL: 'warn' } });
    const folder = dirname(platform.write(await readFile('test/chaos/fixtures/witness.ts', 'utf8'), 'witness.ts'));
    await writeFile(join(folder, 'consumer.ts'), await readFile('test/chaos/fixtures/consumer.ts'));
    await writeFile(join(folder, 'fn.yaml'), manifest(broker.url, port));
    await platform.fnOk(['deploy'], { cwd: folder });
  }, 240_000);

  afterAll(async () => {
    const left = await platform?.dispose();
    await Promise.all([store?.stop(), broker?.stop(), ledger.stop()]);
    await net?.close();
    expect(left ?? []).toEqual([]);
  }, 240_000);

  const both = (act: (redis: RedisServer) => Promise<void> | void) => Promise.all([store, broker].map(act));

  const FAULTS: [what: string, away: () => Promise<unknown>, back: () => Promise<unknown>][] = [
    ['killed', () => both((redis) => redis.kill()), () => both((redis) => redis.restart())],
    ['ended and started', () => both((redis) => redis.end()), () => both((redis) => redis.restart())],
    ['frozen', () => both((redis) => redis.pause()), () => both((redis) => redis.resume())],
    ['cut off', () => net.cut(), () => net.mend()],
  ];

  /** What was sent, with the ids of the events that were made of it and how often each was done. */
  function eventsOf(prefix: string): Map<string, Map<string, number>> {
    const made = new Map<string, Map<string, number>>();
    for (const [done, times] of ledger.done) {
      const [sent = '', event] = done.split('#');
      if (event === undefined || !sent.startsWith(prefix)) continue;
      made.set(sent, (made.get(sent) ?? new Map<string, number>()).set(event, times));
    }
    return made;
  }

  /** Judges the events of one sender, and has their row. */
  function judgeEvents(sender: Sender, what: string, prefix: string, recoveredMs: number) {
    const made = eventsOf(prefix);
    const lost = [...sender.acknowledged].filter((id) => !made.has(id));
    const cutOff = [...made.values()].flatMap((events) => [...events.values()]).reduce((sum, times) => sum + times - 1, 0);
    const several = [...made].filter(([, events]) => events.size > 1).map(([id]) => id);
    // A stream knows no keys: of what was sent to it twice there are two.
    const twice = several.filter((id) => sender.name === 'http' || !sender.sentAgain.has(id));
    const role = sender.name === 'http' ? 'store' : 'broker';
    reportFault({
      fault: 8,
      what: `Redis ${what} (${role}), events`,
      driver: 'process',
      acknowledged: sender.acknowledged.size,
      failed: sender.refusals,
      lost: lost.length,
      duplicated: twice.length,
      unknown: 0,
      recoveredMs,
      leaks: LOOKED_AFTER,
      figures: { sentTwice: several.length, attemptsCutOff: cutOff, longestMs: Math.round(sender.longestMs) },
    });
    return { lost, cutOff, twice };
  }

  // Those of which nobody is told in the short form: events.test.ts kills both there.
  it.each(SCALE.full ? FAULTS : FAULTS.slice(2))(
    '%s: warm calls go on, nothing is accepted in vain, nothing is there twice',
    async (what, away, back) => {
      const prefix = what.replaceAll(' ', '-');
      const warm = new Load({ url: (id) => `${platform.url}/${NAME}?id=${id}`, connections: 4, pauseMs: 10 });
      const senders = [new ByHttp(`${platform.url}/${NAME}`), new ByRedisStream(broker.url, 'work')];
      const sending = senders.map((sender) =>
        sender.send(Number.MAX_SAFE_INTEGER, { poisonEvery: NO_POISON, perSecond: PER_SECOND, prefix: `${prefix}-${sender.name}` }),
      );
      await sleep(SCALE.calmMs);
      const before = senders.map(({ acknowledged }) => acknowledged.size);
      const faultAt = performance.now();
      await away();
      await sleep(SCALE.awayMs);
      // An enqueue waits some seconds for the store: it stays away until one has heard that it waited in vain.
      await waitFor('events to be refused', () => senders[0]!.refused > 0);
      const backAt = performance.now();
      await back();
      const recovered = await Promise.all(
        senders.map(async (sender) => {
          const { size } = sender.acknowledged;
          await waitFor(`${sender.name} to be accepted again`, () => sender.acknowledged.size > size, { timeoutMs: RECOVERY_MS });
          return Math.round(performance.now() - backAt);
        }),
      );
      await sleep(SCALE.calmMs);
      const more = (PER_SECOND * SCALE.calmMs) / 4_000;
      await waitFor('more of each', () => senders.every(({ acknowledged }, index) => acknowledged.size > before[index]! + more));
      for (const sender of senders) sender.stop();
      await Promise.all(sending);
      await waitFor(
        'all that was acknowledged',
        () => senders.every((sender) => [...sender.acknowledged].every((id) => eventsOf(prefix).has(id))),
        { timeoutMs: SCALE.settleMs, everyMs: 300 },
      ).catch(() => {
        // What is missing then is told by the expectations below.
      });
      await warm.tail(101, faultAt);
      const entries = await warm.stop();
      const verdict = judge(entries, { faultAt, seen: ledger.all() });
      reportFault(rowOf({ fault: 8, what: `Redis ${what}, warm calls`, driver: 'process' }, entries, verdict));
      const verdicts = senders.map((sender, index) => judgeEvents(sender, what, `${prefix}-${sender.name}`, recovered[index]!));
      await Promise.all(senders.map((sender) => sender.close()));

      expect(verdict.failed).toEqual({});
      expect([misdirected(entries), verdict.lost, verdict.duplicated]).toEqual([[], [], []]);
      expect(verdict.goodTail).toBeGreaterThan(100);
      const [http] = senders;
      for (const [index, { lost, cutOff, twice }] of verdicts.entries()) {
        expect(lost).toEqual([]);
        expect(cutOff).toBeLessThan(MAX_CUT_OFF);
        expect(twice).toEqual([]);
        expect(senders[index]!.acknowledged.size).toBeGreaterThan(before[index]! + more);
      }
      // All were answered, and none by the end of a client's patience, which is a minute: that would be told here, too.
      expect(Object.keys(http!.refusals)).toEqual(['503 events-unavailable']);
    },
    SCALE.timeoutMs,
  );
});
