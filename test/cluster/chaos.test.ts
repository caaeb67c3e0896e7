/**
 * The chart under faults: controllers and gateways come and go, a node is drained, Redis dies, the API server stands still. Warm
 * requests notice nothing of it, over connections that are kept and over new ones; what was acknowledged of events is done; cold
 * functions work again; and at the end there is nothing that nobody knows of.
 */
import { Redis } from 'ioredis';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { report } from '../chaos/report.ts';
import { ByHttp } from '../chaos/senders.ts';
import { EventLedger } from '../helpers/event-ledger.ts';
import { type Installed, type InstalledPod, useInstalled } from '../helpers/installed.ts';
import { judge, Load, type LedgerEntry } from '../helpers/load.ts';
import { apiServerProcess, frozen, processOfPod, refused } from '../helpers/node-processes.ts';
import { ROOT } from '../helpers/root.ts';
import { sleep, waitFor } from '../helpers/wait.ts';

const FULL = process.env.FN_CHAOS === 'full';
/** Load before a fault, and after all is there again. */
const CALM_MS = FULL ? 10_000 : 1_500;
const ROUNDS = FULL ? 3 : 1;
/** Of the API server. In the short form still three times what a Lease lasts. */
const AWAY_MS = FULL ? 60_000 : 20_000;
const API_PORT = 6_443;
/** Longest wait for a cold function to work again, from the fault's end on: as long as for all else to be there again. */
const COLD_BOUND_MS = 120_000;
/** Pods are there again, and somebody leads. */
const SETTLED_TIMEOUT_MS = 120_000;
const ROLL_TIMEOUT_MS = 180_000;
const EVENTS_TIMEOUT_MS = 60_000;
const EVENTS = { poisonEvery: Number.MAX_SAFE_INTEGER, perSecond: 20 };
const EVENTS_AT_ONCE = 40;
const TEST_TIMEOUT_MS = 600_000;

interface Fault {
  what: string;
  /** Resolves when it is over: killed, thawed, rolled, uncordoned. Calls `struck` when it has begun to hurt. */
  strike: (platform: Installed, struck: () => void) => Promise<unknown>;
}

const rolled = async (platform: Installed, what: string, struck = () => {}): Promise<void> => {
  await platform.kubectl(['rollout', 'restart', `deployment/fn-${what}`]);
  struck();
  await platform.kubectl(['rollout', 'status', `deployment/fn-${what}`, `--timeout=${ROLL_TIMEOUT_MS}ms`], ROLL_TIMEOUT_MS + 5_000);
};

const COMPONENTS = ['gateway', 'controller', 'functions'];

/** Before a node is left by all, there must be something of everything on it: an earlier drain may have left it empty. */
async function settleOn(platform: Installed, node: string, other: string): Promise<void> {
  const missing = async (of: string) => !(await platform.pods(of)).some((pod) => pod.node === node && !pod.leaving && pod.ready);
  try {
    for (const of of COMPONENTS) {
      if (!(await missing(of))) continue;
      await platform.cluster.kubectl(['cordon', other]);
      if (of === 'functions')
        await platform.cluster.kubectl(['delete', 'pods', '--selector', 'fn.dev/function=steady', '--namespace', platform.functions]);
      else await rolled(platform, of);
      await waitFor(`${of} on ${node}`, async () => !(await missing(of)), { timeoutMs: SETTLED_TIMEOUT_MS });
    }
  } finally {
    await platform.cluster.kubectl(['uncordon', other]);
  }
}

/** A node is left by all, and is not the one that Redis has its volume on. */
async function drained(platform: Installed, struck: () => void): Promise<void> {
  const other = (await platform.pods('redis'))[0]?.node ?? '';
  const node = (await platform.cluster.nodes()).find((name) => name !== other);
  if (node === undefined) throw new Error('the cluster has one node: this suite needs two');
  await settleOn(platform, node, other);
  struck();
  try {
    await platform.cluster.kubectl(['drain', node, '--ignore-daemonsets', '--delete-emptydir-data', `--timeout=${ROLL_TIMEOUT_MS}ms`], {
      timeoutMs: ROLL_TIMEOUT_MS + 5_000,
    });
    for (const of of COMPONENTS)
      expect(
        (await platform.pods(of)).filter((pod) => pod.node === node),
        `${of} on ${node}`,
      ).toEqual([]);
  } finally {
    await platform.cluster.kubectl(['uncordon', node]);
  }
}

const FAULTS: Fault[] = [
  { what: 'a node is drained', strike: drained },
  {
    what: 'the leading controller is killed',
    strike: async (platform) => process.kill(processOfPod((await platform.leader()).uid, 'controller.mjs'), 'SIGKILL'),
  },
  {
    what: 'the pod of the leading controller is deleted at once',
    strike: async (platform) => platform.kubectl(['delete', 'pod', (await platform.leader()).name, '--grace-period=0', '--force']),
  },
  {
    what: 'the leader changes in order',
    strike: async (platform) => platform.kubectl(['delete', 'pod', (await platform.leader()).name]),
  },
  { what: 'the gateways are rolled', strike: (platform, struck) => rolled(platform, 'gateway', struck) },
  { what: 'the controllers are rolled', strike: (platform, struck) => rolled(platform, 'controller', struck) },
  {
    what: 'Redis is killed',
    strike: async (platform) => process.kill(processOfPod((await platform.pods('redis'))[0]!.uid, 'redis-server'), 'SIGKILL'),
  },
  { what: 'the API server stands still', strike: ({ cluster }, struck) => frozen(apiServerProcess(cluster), AWAY_MS, struck) },
  ...(FULL
    ? [
        {
          what: 'the API server refuses the controllers',
          // Not the nodes: what becomes of those that are not heard of is the cluster's matter.
          strike: async (platform: Installed, struck: () => void) => {
            const from = (await platform.pods('controller')).flatMap(({ ip }) => ip ?? []);
            await refused(apiServerProcess(platform.cluster), API_PORT, from, AWAY_MS, struck);
          },
        },
      ]
    : []),
];
const STRIKES = Array.from({ length: ROUNDS }, (_, round) => FAULTS.map((fault, index) => ({ ...fault, round, index }))).flat();

const manifest = (host: string, port: number) => `
defaults: { keepAlive: 1s }
functions:
  steady: { entry: ./ledger.ts, keepAlive: 1h, min: 2, timeout: 20s }
  consumer:
    entry: ./consumer.ts
    keepAlive: 1h
    timeout: 20s
    egress: [${host}/32]
    env: { LEDGER_HOST: ${host}, LEDGER_PORT: ${port} }
    async: { maxAttempts: 5, retryBaseSeconds: 0.2, retryMaxSeconds: 2 }
${STRIKES.map((_, index) => `  cold-${index}: { entry: ./ledger.ts }\n  after-${index}: { entry: ./ledger.ts }`).join('\n')}
`;

const Lease = z.object({
  items: z.array(z.object({ metadata: z.object({ name: z.string() }), spec: z.object({ holderIdentity: z.string() }) })),
});

describe('the chart under faults', () => {
  const platform = useInstalled({ FN_MEMORY_BUDGET_MIB: 3_072, FN_POOL: 2 });
  const ledger = new EventLedger();
  let sender: ByHttp;

  beforeAll(async () => {
    const host = platform().cluster.hostAddress();
    const port = await ledger.start(host);
    const folder = dirname(platform().write(await readFile(join(ROOT, 'test/chaos/fixtures/ledger.ts'), 'utf8'), 'ledger.ts'));
    await writeFile(join(folder, 'consumer.ts'), await readFile(join(ROOT, 'test/chaos/fixtures/consumer.ts'), 'utf8'));
    await writeFile(join(folder, 'fn.yaml'), manifest(host, port));
    await platform().fnOk(['deploy'], { cwd: folder });
    sender = new ByHttp(`${platform().url}/consumer`);
  }, 300_000);

  afterAll(async () => {
    await sender?.close();
    await ledger.stop();
  });

  /** All pods are there and ready, none is on its way out, one leads, and both gateways have their link to it. */
  const settled = () =>
    waitFor(
      'gateways, controllers and Redis to be as they were',
      async () => {
        const pods = (await Promise.all(['gateway', 'controller', 'redis'].map((of) => platform().pods(of)))).flat();
        const gateways = pods.filter(({ labels }) => labels['app.kubernetes.io/component'] === 'gateway').map(({ name }) => name);
        if (pods.length !== 5 || pods.some(({ leaving, ready }) => leaving || !ready)) throw new Error(JSON.stringify(pods));
        await platform().leader();
        const linked = ((await platform().status()).gateways ?? []).map(({ id }) => id.split('/')[0]!);
        expect(linked.toSorted()).toEqual(gateways.toSorted());
        return true;
      },
      { timeoutMs: SETTLED_TIMEOUT_MS, everyMs: 250 },
    );

  /** Calls a function that has no instance, again and again, until it answers. When it did, or Infinity. */
  async function coldStart(name: string, late: () => boolean): Promise<number> {
    while (!late()) {
      const answer = await platform()
        .call(`/${name}?id=cold`, { timeoutMs: 30_000 })
        // Not yet: how long that lasts is what is measured.
        .catch(() => null);
      if (answer?.status === 200) return performance.now();
      await sleep(200);
    }
    return Infinity;
  }

  it.each(STRIKES)(
    '$what: warm requests, events and cold starts ($round)',
    { timeout: TEST_TIMEOUT_MS },
    async ({ what, strike, round, index }) => {
      await settled();
      for (const name of ['cold', 'after']) await platform().scaledToZero(`${name}-${index}`);
      await waitFor('the warm function', async () => (await platform().call('/steady?id=first')).status === 200);
      const options = { url: (id: string) => `${platform().url}/steady?id=${id}`, pauseMs: 20 };
      const kept = new Load({ ...options, connections: 4 });
      const fresh = new Load({ ...options, connections: 2, agentKeepAlive: false });
      const events = { running: true, acknowledged: sender.acknowledged.size, refused: sender.refused, duplicates: ledger.duplicates };
      const sending = (async () => {
        for (let part = 0; events.running; part += 1)
          await sender.send(EVENTS_AT_ONCE, { ...EVENTS, prefix: `${what.replaceAll(' ', '-')}-${round}-${part}` });
      })();
      let faultAt = 0;
      let overAt = Infinity;
      let coldAt = Infinity;
      let afterAt = Infinity;
      let entries: LedgerEntry[][] = [];
      try {
        await sleep(CALM_MS);
        faultAt = performance.now();
        let cold: Promise<number> | null = null;
        const late = () => performance.now() > overAt + COLD_BOUND_MS;
        const struck = () => {
          faultAt = performance.now();
          cold ??= coldStart(`cold-${index}`, late);
        };
        try {
          await strike(platform(), struck);
        } finally {
          overAt = performance.now();
          // A fault without duration has struck when it is over.
          if (cold === null) struck();
          [coldAt, afterAt] = await Promise.all([cold ?? Infinity, coldStart(`after-${index}`, late)]);
        }
        await settled();
        await sleep(CALM_MS);
        await Promise.all([kept, fresh].map((load) => load.tail(21, faultAt)));
      } finally {
        events.running = false;
        entries = await Promise.all([kept.stop(), fresh.stop()]);
        await sending;
      }
      await waitFor('all that was acknowledged', () => ledger.lost(sender.acknowledged).length === 0, {
        timeoutMs: EVENTS_TIMEOUT_MS,
      }).catch(() => {
        // What is missing is told below.
      });
      const [keptVerdict, freshVerdict] = entries.map((some) => judge(some, { faultAt }));
      const slowest = Math.max(...entries.flat().map(({ from, to }) => to - from));
      report({
        test: `chart: ${what}`,
        faultSeconds: seconds(overAt - faultAt),
        coldSeconds: seconds(coldAt - faultAt),
        coldAfterSeconds: seconds(afterAt - overAt),
        kept: { sent: keptVerdict!.sent, failed: keptVerdict!.failed },
        fresh: { sent: freshVerdict!.sent, failed: freshVerdict!.failed },
        slowestMs: Math.round(slowest),
        events: {
          acknowledged: sender.acknowledged.size - events.acknowledged,
          refused: sender.refused - events.refused,
          lost: ledger.lost(sender.acknowledged).length,
          duplicates: ledger.duplicates - events.duplicates,
        },
      });
      for (const { failed, goodTail } of [keptVerdict!, freshVerdict!]) {
        expect(failed).toEqual({});
        expect(goodTail).toBeGreaterThan(20);
      }
      expect(entries.flat().filter(({ id, body }) => body.split(' ')[0] !== id)).toEqual([]);
      expect(ledger.lost(sender.acknowledged)).toEqual([]);
      expect(sender.acknowledged.size).toBeGreaterThan(events.acknowledged);
      expect([coldAt, afterAt]).not.toContain(Infinity);
    },
  );

  it('leaves no pod that nobody knows of, no record of one that is gone, and one lease', { timeout: 300_000 }, async () => {
    await settled();
    const podsOf = (pods: InstalledPod[]) => pods.map(({ labels }) => labels['fn.dev/instance']).toSorted();
    const redis = new Redis({
      host: (await platform().pods('redis'))[0]!.ip!,
      password: await platform().secret('fn-redis', 'password'),
      lazyConnect: true,
    });
    try {
      await redis.connect();
      const fields = async (hash: string) => (await Promise.all((await redis.keys(`fn:*:${hash}`)).map((key) => redis.hkeys(key)))).flat();
      await waitFor(
        'pods, records and what the controller knows to be the same',
        async () => {
          const known = (await platform().status()).instances;
          const ids = known.map(({ id }) => id).toSorted();
          expect(podsOf(await platform().pods('functions'))).toEqual(ids);
          expect((await fields('instances')).toSorted()).toEqual(ids);
          expect((await fields('log-positions')).filter((id) => !ids.includes(id))).toEqual([]);
          // Nobody calls: no gateway holds a slot of any.
          expect(known.filter(({ state }) => !['generic', 'idle', 'frozen'].includes(state))).toEqual([]);
          expect(ids.length).toBeGreaterThan(0);
          return true;
        },
        { timeoutMs: 120_000, everyMs: 500 },
      );
    } finally {
      redis.disconnect();
    }
    const leases = await platform().cluster.get(Lease, ['leases', '--namespace', platform().namespace]);
    expect(leases.items.map(({ metadata }) => metadata.name)).toEqual(['fn-leader']);
    expect(leases.items[0]!.spec.holderIdentity).toContain((await platform().leader()).name);
    const nodes = await platform().cluster.get(
      z.object({ items: z.array(z.object({ spec: z.object({ unschedulable: z.boolean().optional() }) })) }),
      ['nodes'],
    );
    expect(nodes.items.filter(({ spec }) => spec.unschedulable)).toEqual([]);
  });
});

const seconds = (ms: number): number | null => (Number.isFinite(ms) ? Math.round(ms / 100) / 10 : null);
