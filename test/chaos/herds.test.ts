/**
 * Herds: thousands of requests at one cold function, and hundreds of cold functions at once. Starts are shared and made a few at
 * a time, queues are bounded, who is too many hears 429 or 503 with Retry-After, and memory of the gateway is flat.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Answer, call } from '../helpers/http.ts';
import type { LedgerEntry } from '../helpers/load.ts';
import type { DriverName } from '../helpers/platform.ts';
import { settledPssMib } from '../helpers/process-memory.ts';
import { onlyOn, usePlatform } from '../helpers/suite.ts';
import { range, waitFor } from '../helpers/wait.ts';
import { LOOKED_AFTER, reportFault } from './report.ts';
import { SCALE } from './scale.ts';

const LEDGER = 'test/chaos/fixtures/ledger.ts';
const HERD = 2_000;
/** Fewer in the short form: each costs a third of a second of CPU to deploy, and as much to start. */
const FUNCTIONS = SCALE.full ? 200 : 16;
/** Created at a time, whatever is asked for. */
const MAX_CREATES = 2;
/** Of one function: beyond it 503. */
const MAX_WAITING = 1_500;
/** Of a request that waits for an instance: two hundred starts on two cores are a minute of CPU. */
const QUEUE_MS = 60_000;
/** What a gateway may keep of a herd that has gone, MiB. */
const KEPT_MIB = 32;
const BUDGET_MIB = 1_600;

interface Herd {
  entries: LedgerEntry[];
  answers: Answer[];
  /** Most instances that were being created at a time, and in all. */
  creating: number;
  created: Set<string>;
}

describe.each(onlyOn(SCALE.full ? 'docker' : 'process'))('herds (%s)', (driver: DriverName) => {
  const platform = usePlatform({
    driver,
    env: {
      FN_MAX_CREATES: String(MAX_CREATES),
      FN_MAX_WAITING_PER_FUNCTION: String(MAX_WAITING),
      FN_QUEUE_TIMEOUT_MS: String(QUEUE_MS),
      FN_MEMORY_BUDGET_MIB: String(BUDGET_MIB),
      FN_POOL: '1',
    },
  });
  const names = range(FUNCTIONS).map((index) => `herd-${index}`);

  beforeAll(async () => {
    await platform().deploy('one', LEDGER, { flags: ['--keep-alive', '1', '--timeout', '30', '--max', '4'] });
    const folder = dirname(platform().write(await readFile(LEDGER, 'utf8'), 'ledger.ts'));
    const functions = names.map((name) => `  ${name}: { entry: ./ledger.ts, keepAlive: 1s, timeout: 30s, memory: 64Mi }\n`);
    await writeFile(join(folder, 'fn.yaml'), `functions:\n${functions.join('')}`);
    await platform().fnOk(['deploy'], { cwd: folder, timeoutMs: SCALE.timeoutMs });
    await platform().scaledToZero('one', 60_000);
  }, SCALE.timeoutMs);

  /** One request for each of these, all at once, and what the platform made of it. */
  async function herd(targets: readonly string[], ms: number): Promise<Herd> {
    const agent = new Agent({ maxSockets: targets.length });
    const answers: Answer[] = [];
    const entries: LedgerEntry[] = [];
    const created = new Set<string>();
    const known = new Set((await platform().status()).instances.map(({ id }) => id));
    let creating = 0;
    const over = new AbortController();
    const watching = (async () => {
      while (!over.signal.aborted) {
        const { instances } = await platform().status();
        // With no function's name yet: generic ones, of which all are made.
        creating = Math.max(creating, instances.filter(({ state, function: of }) => state === 'starting' && of === undefined).length);
        for (const { id } of instances) if (!known.has(id)) created.add(id);
      }
    })();
    await Promise.all(
      targets.map(async (name, index) => {
        const id = `herd-${index}`;
        const from = performance.now();
        const answer = await call(`${platform().url}/${name}?id=${id}&ms=${ms}`, { agent, timeoutMs: 120_000 });
        const code = answer.status === 200 ? '' : answer.json<{ code: string }>().code;
        answers.push(answer);
        entries.push({ id, from, to: performance.now(), status: answer.status, code, body: answer.text });
      }),
    );
    over.abort();
    await watching;
    agent.destroy();
    return { entries, answers, creating, created };
  }

  /** What holds for every herd. */
  function judgeHerd(what: string, { entries, answers, creating, created }: Herd, mib: { before: number; after: number }): void {
    const failed: Record<string, number> = {};
    for (const { status, code } of entries) if (status !== 200) failed[`${status} ${code}`] = (failed[`${status} ${code}`] ?? 0) + 1;
    const foreign = entries.filter(({ status, id, body }) => status === 200 && body.split(' ')[0] !== id);
    reportFault({
      fault: 14,
      what,
      driver,
      acknowledged: entries.filter(({ status }) => status === 200).length,
      failed,
      lost: foreign.length,
      duplicated: null,
      unknown: 0,
      recoveredMs: Math.round(Math.max(...entries.map(({ to }) => to)) - Math.min(...entries.map(({ from }) => from))),
      leaks: `${LOOKED_AFTER}, PSS ${Math.round(mib.after - mib.before)} MiB`,
      figures: { created: created.size, creatingAtOnce: creating, beforeMib: mib.before, afterMib: mib.after },
    });
    for (const failure of Object.keys(failed)) expect(failure).toMatch(/^(?:429 \S+|503 (?:queue-full|queue-timeout|no-capacity))$/);
    for (const answer of answers) if (answer.status !== 200) expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    expect(foreign).toEqual([]);
    expect(creating).toBeLessThanOrEqual(MAX_CREATES);
    expect(mib.after - mib.before).toBeLessThan(KEPT_MIB);
  }

  it(
    `${HERD} requests at one cold function share its starts`,
    async () => {
      const gateway = await platform().pid('gateway');
      const all = () =>
        herd(
          range(HERD).map(() => 'one'),
          5,
        );
      // Of the first one is what a gateway takes once and keeps.
      await all();
      let seen: Herd;
      let mib: { before: number; after: number };
      let herds = 0;
      do {
        await platform().scaledToZero('one', 60_000);
        const before = await settledPssMib(gateway);
        seen = await all();
        mib = { before, after: await settledPssMib(gateway) };
        // A heap that V8 made larger is no larger after the next one; what is kept of a herd is there once more.
      } while (mib.after - mib.before >= KEPT_MIB && ++herds < 3);
      judgeHerd(`${HERD} requests at one cold function`, seen, mib);
      const good = seen.entries.filter(({ status }) => status === 200).length;
      // All that may wait have their turn; whoever comes while others leave has, too.
      expect(good).toBeGreaterThanOrEqual(MAX_WAITING);
      // Four at most serve, and what is made for the pool meanwhile.
      expect(seen.created.size).toBeLessThanOrEqual(12);
      expect((await platform().call('/one?id=tail')).text).toBe('tail none');
    },
    SCALE.timeoutMs,
  );

  it(
    `${FUNCTIONS} cold functions at once: all have their turn, or hear when to come again`,
    async () => {
      const gateway = await platform().pid('gateway');
      await waitFor('all to be cold', async () => (await platform().status()).instances.every(({ function: of }) => of === undefined), {
        timeoutMs: 60_000,
      });
      const before = await settledPssMib(gateway);
      const seen = await herd(names, 5);
      const after = await settledPssMib(gateway);
      judgeHerd(`${FUNCTIONS} cold functions at once`, seen, { before, after });
      const good = seen.entries.filter(({ status }) => status === 200).length;
      expect(good).toBeGreaterThanOrEqual(FUNCTIONS / 8);
      expect((await platform().status()).budget.memoryUsedMib).toBeLessThanOrEqual(BUDGET_MIB);
      // Whoever was sent away has its turn when it comes again.
      for (const name of names) {
        const answer = await waitFor(name, async () => {
          const again = await platform().call(`/${name}?id=again`);
          return again.status === 200 && again;
        });
        expect(answer.text).toBe('again none');
      }
    },
    SCALE.timeoutMs,
  );
});
