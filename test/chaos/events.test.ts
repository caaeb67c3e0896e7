/**
 * Events while everything dies in turn: what was acknowledged to a sender is done at least once, or is a dead letter
 * because it is poison. Nothing else is lost; what is done twice is counted, and only attempts that were cut off may be.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DeadLetterList } from '#contract/events.ts';
import { EventLedger } from '../helpers/event-ledger.ts';
import { startPlatform, type TestPlatform } from '../helpers/platform.ts';
import { startRabbit } from '../helpers/rabbitmq-server.ts';
import { type RedisServer, startRedis } from '../helpers/redis-server.ts';
import { sleep, waitFor } from '../helpers/wait.ts';
import { LOOKED_AFTER, report, reportFault } from './report.ts';
import { SCALE } from './scale.ts';
import { ByAmqp, ByHttp, ByRedisStream, type Sender } from './senders.ts';

/** Longer than brokers, platform and deployment may take together: whichever does not come about says so itself, ms. */
const SETUP_TIMEOUT_MS = 300_000;
const CONSUMER = 'test/chaos/fixtures/consumer.ts';
const NAME = 'consumer';
/** One in so many is poison. */
const POISON_EVERY = 500;

const manifest = (redis: string, amqp: string, ledgerPort: number) => `
functions:
  ${NAME}:
    entry: ./consumer.ts
    timeout: 20s
    max: 4
    env: { LEDGER_PORT: ${ledgerPort} }
    async: { maxAttempts: 3, retryBaseSeconds: 0.2, retryMaxSeconds: 1, maxQueued: 200000 }
    triggers:
      - { name: stream, type: redis-stream, url: "${redis}", stream: work, startFrom: beginning, batchSize: 20, maxAttempts: 3, retryBaseSeconds: 0.2, retryMaxSeconds: 1 }
      - { name: queue, type: rabbitmq, url: "${amqp}", queue: work, batchSize: 10, maxAttempts: 3, retryBaseSeconds: 0.2, retryMaxSeconds: 1 }
`;

describe('events while parts die', () => {
  const ledger = new EventLedger();
  let store: RedisServer;
  let broker: RedisServer;
  let rabbit: Awaited<ReturnType<typeof startRabbit>>;
  let platform: TestPlatform;
  let senders: Sender[] = [];

  beforeAll(async () => {
    const port = await ledger.start();
    [store, broker, rabbit] = await Promise.all([
      startRedis({ appendfsync: 'always' }),
      startRedis({ appendfsync: 'always' }),
      startRabbit(),
    ]);
    platform = await startPlatform({ driver: 'process', env: { FN_STORE: store.url, FN_LOG_LEVEL: 'warn' } });
    const { readFile } = await import('node:fs/promises');
    const entry = platform.write(await readFile(CONSUMER, 'utf8'), 'consumer.ts');
    const { writeFile } = await import('node:fs/promises');
    const folder = entry.slice(0, -'/consumer.ts'.length);
    await writeFile(`${folder}/fn.yaml`, manifest(broker.url, rabbit.url, port));
    await platform.fnOk(['deploy'], { cwd: folder });
    senders = [new ByHttp(`${platform.url}/${NAME}`), new ByRedisStream(broker.url, 'work'), new ByAmqp(rabbit.url, 'work')];
  }, SETUP_TIMEOUT_MS);

  afterAll(async () => {
    await Promise.all(senders.map((sender) => sender.close()));
    const left = await platform.dispose();
    await Promise.all([store.stop(), broker.stop(), rabbit.stop(), ledger.stop()]);
    expect(left).toEqual([]);
  }, SETUP_TIMEOUT_MS);

  const pidOf = async (part: 'gateway' | 'controller' | 'dispatcher') =>
    waitFor(`the ${part}`, async () => (await platform.status())[part].pid ?? undefined, { timeoutMs: 60_000 });

  const kill = (part: 'gateway' | 'controller' | 'dispatcher') => async () => {
    const pid = await pidOf(part);
    process.kill(pid, 'SIGKILL');
    await waitFor(
      `another ${part}`,
      async () => {
        // The one that answers may be the one that dies.
        const now = await platform.status().then(
          (status) => status[part].pid,
          () => null,
        );
        return now !== null && now !== pid;
      },
      { timeoutMs: 60_000 },
    );
  };

  const FAULTS: [what: string, strike: () => Promise<unknown>][] = [
    [
      'kill -9 of instances',
      async () => {
        for (const { pid } of await platform.instances(NAME)) if (pid !== undefined) process.kill(pid, 'SIGKILL');
      },
    ],
    ['kill -9 of the controller', kill('controller')],
    ['kill -9 of the gateway', kill('gateway')],
    ['kill -9 of the dispatcher', kill('dispatcher')],
    [
      'dispatcher frozen for 12 s',
      async () => {
        const pid = await pidOf('dispatcher');
        process.kill(pid, 'SIGSTOP');
        await sleep(SCALE.frozenMs);
        try {
          process.kill(pid, 'SIGCONT');
        } catch (error) {
          // The controller may have taken it for dead.
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
        }
      },
    ],
    [
      'kill -9 of the store’s redis-server',
      () =>
        store
          .kill()
          .then(() => sleep(1_000))
          .then(() => store.restart()),
    ],
    [
      'kill -9 of the broker’s redis-server',
      () =>
        broker
          .kill()
          .then(() => sleep(1_000))
          .then(() => broker.restart()),
    ],
    ['kill -9 of RabbitMQ', () => rabbit.kill().then(() => rabbit.restart())],
  ];

  it(
    'loses nothing that was acknowledged',
    async () => {
      const share = Math.round(SCALE.events / senders.length);
      const sending = senders.map((sender) => sender.send(share, { poisonEvery: POISON_EVERY, perSecond: SCALE.eventsPerSecond }));
      const struck: { what: string; doneBefore: number }[] = [];
      for (let round = 0; round < SCALE.eventRounds; round += 1) {
        for (const [what, strike] of FAULTS) {
          await sleep(SCALE.betweenFaultsMs);
          if (struck.length > 0) await waitFor('some to be done', () => ledger.done.size > 0);
          struck.push({ what, doneBefore: ledger.done.size });
          await strike();
        }
      }
      await Promise.all(sending);
      const acknowledged = senders.flatMap((sender) => [...sender.acknowledged]);
      const poison = new Set(senders.flatMap((sender) => [...sender.poison]));
      const healthy = acknowledged.filter((id) => !poison.has(id));
      await waitFor('all that was acknowledged', async () => ledger.lost(healthy).length === 0, {
        timeoutMs: SCALE.settleMs,
        everyMs: 500,
      }).catch(() => {
        // What is missing then is told by the expectations below.
      });
      const poisoned = acknowledged.filter((id) => poison.has(id)).toSorted();
      await waitFor('the dead letters', async () => (await deadLetters(platform)).length >= poisoned.length, {
        timeoutMs: SCALE.settleMs,
        everyMs: 500,
      });
      const dead = await deadLetters(platform);
      const sentTwice = new Set(senders.flatMap((sender) => (sender.name === 'http' ? [] : [...sender.sentAgain])));
      report({
        test: 'events while parts die',
        faults: struck,
        acknowledged: acknowledged.length,
        refused: Object.fromEntries(senders.map((sender) => [sender.name, sender.refused])),
        done: ledger.done.size,
        lost: ledger.lost(healthy).length,
        // A sender that was not answered sends again: what has no idempotency key may then be there twice. The others were cut off.
        duplicates: { sentTwice: ledger.duplicatesOf((id) => sentTwice.has(id)), cutOff: ledger.duplicatesOf((id) => !sentTwice.has(id)) },
        deadLetters: dead.length,
        poison: poisoned.length,
      });
      const row = { driver: 'process', unknown: 0, recoveredMs: null, leaks: LOOKED_AFTER };
      const failed = Object.fromEntries(
        senders.flatMap(({ name, refusals }) => Object.entries(refusals).map(([what, n]) => [`${name} ${what}`, n])),
      );
      // An attempt that was cut off is made again: what a function did twice by it, and no sender sent twice.
      const duplicated = ledger.duplicatesOf((id) => !sentTwice.has(id));
      const of = { ...row, acknowledged: acknowledged.length, failed, lost: ledger.lost(healthy).length, duplicated };
      reportFault({ ...of, fault: 2, what: 'events while each part is killed in turn' });
      reportFault({ ...of, fault: 17, what: 'events, dispatcher frozen 12 s and thawed' });
      reportFault({
        ...of,
        fault: 16,
        what: 'poison among them',
        acknowledged: poisoned.length,
        failed: { 'dead letters': dead.length },
        duplicated: null,
      });
      expect(ledger.lost(healthy)).toEqual([]);
      expect([...new Set(dead)].toSorted()).toEqual(poisoned);
      // A sender without idempotency keys that sends poison again makes two of it.
      const again = senders.reduce((sum, { name, refused }) => sum + (name === 'http' ? 0 : refused), 0);
      expect(dead.length - poisoned.length).toBeLessThanOrEqual(again);
      // A run in which nothing went through must not pass, and one that does everything twice neither.
      expect(healthy.length).toBeGreaterThan(SCALE.events * 0.9);
      expect(ledger.duplicates).toBeLessThan(healthy.length * 0.2);
      for (const { doneBefore } of struck.slice(1)) expect(doneBefore).toBeGreaterThan(0);
    },
    SCALE.timeoutMs,
  );

  it('while the store is away an event is refused with 503, and one that was refused is not there later', async () => {
    await store.kill();
    const answer = await platform.call(`/${NAME}`, {
      method: 'POST',
      headers: { prefer: 'respond-async', 'content-type': 'application/json' },
      body: '{"id":"while-away"}',
    });
    expect([answer.status, answer.json<{ code: string }>().code]).toEqual([503, 'events-unavailable']);
    expect(answer.headers['retry-after']).toBeDefined();
    await store.restart();
    await waitFor(
      'events to be accepted again',
      async () => {
        const again = await platform.call(`/${NAME}`, {
          method: 'POST',
          headers: { prefer: 'respond-async', 'content-type': 'application/json' },
          body: '{"id":"after-it"}',
        });
        return again.status === 202;
      },
      { timeoutMs: 60_000 },
    );
    await waitFor('the one after it', async () => ledger.done.has('after-it'), { timeoutMs: 60_000 });
  }, 180_000);
});

/** Ids that the bodies of all dead letters carry. */
async function deadLetters(platform: TestPlatform): Promise<string[]> {
  const ids: string[] = [];
  let before: string | undefined;
  for (;;) {
    const args = ['dlq', 'list', NAME, '--json', '--limit', '1000', ...(before === undefined ? [] : ['--before', before])];
    const page = DeadLetterList.parse(JSON.parse((await platform.fnOk(args)).stdout));
    for (const { id } of page.deadLetters) {
      const shown = JSON.parse((await platform.fnOk(['dlq', 'show', NAME, id, '--json'])).stdout) as { body: string };
      const body = JSON.parse(Buffer.from(shown.body, 'base64').toString('utf8')) as { id: string } | { data: { id: string } }[];
      ids.push(Array.isArray(body) ? body[0]!.data.id : body.id);
    }
    before = page.deadLetters.at(-1)?.id;
    if (before === undefined || page.deadLetters.length < 1_000) return ids;
  }
}
