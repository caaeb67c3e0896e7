/** Things die under load. Each time: what failed, was anything run twice or answered wrongly, how soon was it well. */
import { beforeAll, describe, expect, it } from 'vitest';
import { LogEntry } from '#contract/api.ts';
import { type Blow, Load, failures, judge, misdirected, tally, unexplained } from '../helpers/load.ts';
import { settledPssMib } from '../helpers/process-memory.ts';
import { drivers, onlyOn, usePlatform } from '../helpers/suite.ts';
import { parallel, range, sleep, waitFor } from '../helpers/wait.ts';
import { LOOKED_AFTER, reportFault, rowOf } from './report.ts';
import { SCALE } from './scale.ts';

const LEDGER = 'test/chaos/fixtures/ledger.ts';
const BUDGET_MIB = 1_600;
/** Functions that there is no room for at a time: for half of them, or a few less. */
const MANY = SCALE.full ? 12 : 8;
const MANY_MIB = SCALE.full ? 256 : 384;
/** How long a function writes as much as it can, ms. */
const FLOOD_MS = SCALE.full ? 30_000 : 3_000;
/** What a controller may keep of a flood that is over, MiB. */
const KEPT_MIB = 64;

for (const driver of drivers('docker')) {
  describe(`faults (${driver})`, () => {
    const platform = usePlatform({ driver });
    const ledger =
      (name: string, path = '') =>
      (id: string) =>
        `${platform().url}/${name}${path}?id=${id}`;
    const otherPid = async (part: 'gateway' | 'controller', than: number) =>
      waitFor(`a new ${part}`, async () => {
        const pid = (await platform().status())[part].pid;
        return pid !== null && pid !== than && pid;
      });

    beforeAll(async () => {
      await platform().deploy('steady', LEDGER, { flags: ['--keep-alive', '600', '--timeout', '20'] });
      await platform().deploy('mortal', LEDGER, { flags: ['--keep-alive', '600', '--timeout', '20', '--concurrency', '4', '--max', '3'] });
    });

    it(
      'kill -9 of the controller: no warm request fails',
      async () => {
        const load = new Load({ url: ledger('steady'), connections: 8 });
        await load.during(SCALE.calmMs);
        let faultAt = 0;
        for (const _ of range(SCALE.strikes)) {
          const pid = await platform().pid('controller');
          faultAt = performance.now();
          process.kill(pid, 'SIGKILL');
          await otherPid('controller', pid);
          await load.during(500);
        }
        await load.during(SCALE.calmMs);
        await load.tail(201, faultAt);
        const entries = await load.stop();
        const verdict = judge(entries, { faultAt });
        reportFault(rowOf({ fault: 1, what: 'kill -9 controller, warm', driver }, entries, verdict));
        expect(verdict.failed).toEqual({});
        expect(misdirected(entries)).toEqual([]);
        expect(verdict.goodTail).toBeGreaterThan(200);
      },
      SCALE.timeoutMs,
    );

    it(
      'kill -9 of the gateway: what was in flight fails, the rest waits in the socket, nothing runs twice',
      async () => {
        const load = new Load({ url: ledger('steady', '/logged'), connections: 4, pauseMs: 20 });
        await load.during(SCALE.calmMs);
        let faultAt = 0;
        const blows: Blow[] = [];
        for (const strike of range(SCALE.strikes)) {
          const pid = await platform().pid('gateway');
          faultAt = performance.now();
          process.kill(pid, 'SIGKILL');
          await otherPid('gateway', pid);
          await waitFor('the new one to answer', async () => (await platform().call(`/steady?id=new-${strike}`)).status === 200);
          blows.push({ from: faultAt, to: performance.now() });
          await load.during(800);
        }
        await load.during(SCALE.calmMs);
        await load.tail(51, faultAt);
        const entries = await load.stop();
        // Lines come to the log behind the answers.
        const last = entries.findLast(({ status }) => status === 200)?.id ?? '';
        const seen = await waitFor('the last line of it', async () => {
          const { stdout } = await platform().fnOk(['logs', 'steady', '--json']);
          const ids = stdout
            .split('\n')
            .filter((line) => line !== '')
            .map((line) => LogEntry.parse(JSON.parse(line)).msg)
            .filter((message) => message.startsWith('seen '))
            .map((message) => message.slice('seen '.length).trim());
          return ids.includes(last) && ids;
        });
        const verdict = judge(entries, { faultAt, seen });
        // The newest lines only are asked for: of the first requests nothing is known any more.
        reportFault(rowOf({ fault: 2, what: 'kill -9 gateway', driver, lost: misdirected(entries).length }, entries, verdict));
        expect(seen.length).toBeGreaterThan(50);
        expect(verdict.duplicated).toEqual([]);
        expect(misdirected(entries)).toEqual([]);
        // Connections of the dead process break; none is refused, for the listening socket lives on.
        for (const what of Object.keys(verdict.failed)) expect(what).toMatch(/ECONNRESET|hang up|EPIPE|aborted|503/);
        expect(Object.keys(verdict.failed).join()).not.toMatch(/ECONNREFUSED/);
        // Whoever comes when the new one has answered is answered, too.
        expect(unexplained(entries, blows)).toEqual([]);
        expect(verdict.goodTail).toBeGreaterThan(50);
      },
      SCALE.timeoutMs,
    );

    it(
      'a gateway that restarts on SIGTERM fails no request, on old connections or new',
      async () => {
        const kept = new Load({ url: ledger('steady', '/'), connections: 6 });
        const fresh = new Load({ url: ledger('steady', '/'), connections: 2, agentKeepAlive: false });
        await kept.during(SCALE.calmMs);
        let faultAt = 0;
        for (const _ of range(SCALE.strikes)) {
          const pid = await platform().pid('gateway');
          faultAt = performance.now();
          process.kill(pid, 'SIGTERM');
          await otherPid('gateway', pid);
          await kept.during(800);
        }
        await kept.during(SCALE.calmMs);
        for (const [what, load] of [
          ['SIGTERM gateway, kept connections', kept],
          ['SIGTERM gateway, new connections', fresh],
        ] as const) {
          await load.tail(51, faultAt);
          const entries = await load.stop();
          const verdict = judge(entries, { faultAt });
          reportFault(rowOf({ fault: 2, what, driver }, entries, verdict));
          expect(verdict.failed).toEqual({});
          expect(misdirected(entries)).toEqual([]);
          expect(verdict.goodTail).toBeGreaterThan(50);
        }
      },
      SCALE.timeoutMs,
    );

    it(
      'kill -9 of the function: one clean 502 for each request in it, no silent retry, and the next works',
      async () => {
        const load = new Load({ url: ledger('mortal'), connections: 8 });
        await load.during(SCALE.calmMs);
        let faultAt = 0;
        const blows: Blow[] = [];
        const ids = async () => {
          const instances = await platform().instances('mortal');
          return instances.filter(({ state }) => state !== 'starting' && state !== 'draining').map(({ id }) => id);
        };
        for (const strike of range(SCALE.strikes)) {
          const before = await ids();
          faultAt = performance.now();
          if (strike % 2 === 0) {
            await platform().killInstance(await platform().servingInstance('mortal'));
          } else {
            const answer = await platform().call(`/mortal/suicide?id=suicide-${strike}`);
            expect(answer.json()).toMatchObject({ status: 502, code: 'function-crashed' });
          }
          await waitFor('one less of those that were there', async () => {
            const now = await ids();
            return before.some((id) => !now.includes(id));
          });
          blows.push({ from: faultAt, to: performance.now() });
          await load.during(1_500);
        }
        await load.during(SCALE.calmMs);
        await load.tail(101, faultAt);
        const entries = await load.stop();
        const verdict = judge(entries, { faultAt });
        reportFault(rowOf({ fault: 3, what: 'function killed, or ends itself', driver }, entries, verdict));
        for (const what of Object.keys(verdict.failed)) expect(what).toMatch(/^502 (?:function-crashed|instance-lost)$/);
        // At most the slots of the instance each time.
        expect(failures(entries).length).toBeLessThanOrEqual(4 * SCALE.strikes);
        expect(misdirected(entries)).toEqual([]);
        // Nobody is given to one that is known to be gone.
        expect(unexplained(entries, blows)).toEqual([]);
        expect(verdict.goodTail).toBeGreaterThan(100);
      },
      SCALE.timeoutMs,
    );

    it(
      'endless loops: 504 for them, neighbours are well',
      async () => {
        await platform().deploy('looper', LEDGER, { flags: ['--timeout', '1', '--concurrency', '2', '--max', '2'] });
        const load = new Load({ url: ledger('steady'), connections: 2, pauseMs: 5 });
        const faultAt = performance.now();
        const spun = await Promise.all(range(3).map(() => platform().call('/looper/spin?id=x')));
        for (const answer of spun) expect([502, 503, 504]).toContain(answer.status);
        expect(spun.filter(({ status }) => status === 504).length).toBeGreaterThan(0);
        await waitFor('the looper to serve again', async () => (await platform().call('/looper?id=y')).status === 200, {
          timeoutMs: 60_000,
        });
        const recoveredMs = Math.round(performance.now() - faultAt);
        await load.tail(51);
        const entries = await load.stop();
        reportFault(
          rowOf({ fault: 6, what: 'endless loops; beside a neighbour', driver, recoveredMs }, entries, judge(entries, { faultAt })),
        );
        expect(tally(entries)).toEqual({});
        expect(entries.length).toBeGreaterThan(50);
      },
      SCALE.timeoutMs,
    );

    it(
      'a deploy under load: no failure, no old version after it returned',
      async () => {
        await platform().deploy('moving', LEDGER, { flags: ['--env', 'VERSION=0', '--keep-alive', '600'] });
        const load = new Load({ url: ledger('moving'), connections: 6 });
        const returned: { version: number; at: number }[] = [];
        for (const version of range(SCALE.strikes).map((strike) => strike + 1)) {
          await load.during(500);
          await platform().deploy('moving', LEDGER, { flags: ['--env', `VERSION=${version}`, '--keep-alive', '600'] });
          returned.push({ version, at: performance.now() });
        }
        await load.tail(51, returned.at(-1)!.at);
        const entries = await load.stop();
        reportFault(rowOf({ fault: 15, what: `${SCALE.strikes} deployments under load`, driver }, entries, judge(entries, { faultAt: 0 })));
        expect(tally(entries)).toEqual({});
        expect(misdirected(entries)).toEqual([]);
        const stale = entries.filter(({ from, body }) => {
          const least = Math.max(0, ...returned.filter(({ at }) => at < from).map(({ version }) => version));
          return Number(body.split(' ')[1]) < least;
        });
        expect(stale).toEqual([]);
        expect(new Set(entries.map(({ body }) => body.split(' ')[1])).size).toBeGreaterThan(1);
      },
      SCALE.timeoutMs,
    );

    it(
      'a function that no longer loads fails fast, in its own words, and is not started for ever',
      async () => {
        // It must load once: where the deployment took longer than that, once more with twice the time.
        let until = 0;
        for (let aheadMs = 10_000, deployed = false; !deployed; aheadMs *= 2) {
          until = Date.now() + aheadMs;
          const source = `if (Date.now() > ${until}) throw new Error('the certificate has expired');\nexport default () => new Response('fine');\n`;
          const { code, stderr } = await platform().deploy('brittle', source, { flags: ['--keep-alive', '1'], mayFail: true });
          deployed = code === 0;
          if (!deployed) expect([stderr, aheadMs < 40_000]).toEqual([expect.stringContaining('the certificate has expired'), true]);
        }
        await sleep(Math.max(0, until - Date.now()));
        await platform().scaledToZero('brittle');
        const load = new Load({ url: () => `${platform().url}/brittle`, connections: 4, pauseMs: 50 });
        await load.during(4_000);
        const entries = await load.stop();
        expect(failures(entries)).toHaveLength(entries.length);
        // In its own words: nobody waits until a limit of the queue, or of a request, is what answers.
        for (const what of Object.keys(tally(entries))) expect(what).toMatch(/^50[23] function-init-failed$/);
        const answer = await platform().call('/brittle');
        expect(answer.json()).toMatchObject({ code: 'function-init-failed' });
        expect(answer.text).toContain('the certificate has expired');
        expect(answer.text).toMatch(/handler\.ts:1:\d+/);
        // Back-off holds: far fewer starts than requests.
        const { instances } = await platform().status();
        reportFault({
          fault: 13,
          what: 'crash on init: fails fast, in its own words',
          driver,
          acknowledged: 0,
          failed: tally(entries),
          lost: null,
          duplicated: null,
          unknown: 0,
          recoveredMs: null,
          leaks: LOOKED_AFTER,
        });
        expect(instances.filter((instance) => instance.function === 'brittle').length).toBeLessThanOrEqual(2);
      },
      SCALE.timeoutMs,
    );
  });
}

describe.each(onlyOn('docker'))('faults (%s only)', (driver) => {
  const platform = usePlatform({ driver, env: { FN_MEMORY_BUDGET_MIB: String(BUDGET_MIB) } });
  const neighbour = () => new Load({ url: (id) => `${platform().url}/neighbour?id=${id}`, connections: 4 });

  beforeAll(async () => {
    await platform().deploy('neighbour', LEDGER, { flags: ['--memory', '128', '--keep-alive', '600'] });
  });

  it('a function that puts a link to the Docker socket in place of its own reaches nobody with it', async () => {
    await platform().deploy('thief', 'test/chaos/fixtures/thief.ts');
    const stolen = (await platform().call('/thief/steal')).json<{ sockets: string[]; tried: string[] }>();
    expect(stolen.sockets.length).toBeGreaterThan(0);
    expect(stolen.tried.filter((line) => line.endsWith(': done'))).toEqual([]);
    for (const _ of range(5)) {
      const { text } = await platform().call('/thief/version');
      expect(text).not.toMatch(/ApiVersion|MinAPIVersion/);
      expect(text).toBe('honest');
    }
  });

  it(
    'out of memory under load: 502 function-oom, neighbours are well, and so is the next call',
    async () => {
      await platform().deploy('eater', LEDGER, { flags: ['--memory', '128', '--timeout', '30'] });
      const load = neighbour();
      for (const _ of range(SCALE.strikes)) {
        const answer = await platform().call('/eater/oom?id=x');
        expect([answer.status, answer.json<{ code: string }>().code]).toEqual([502, 'function-oom']);
        expect((await platform().call('/eater?id=y')).status).toBe(200);
      }
      await load.tail(51);
      const entries = await load.stop();
      reportFault(rowOf({ fault: 4, what: 'out of memory; beside a neighbour', driver }, entries, judge(entries, { faultAt: 0 })));
      expect(tally(entries)).toEqual({});
      expect(entries.length).toBeGreaterThan(50);
    },
    SCALE.timeoutMs,
  );

  it(
    'a flood of output: who writes it and its neighbours are answered, what is too much is dropped and counted',
    async () => {
      await platform().deploy('flooder', LEDGER, { flags: ['--memory', '128', '--timeout', '30'] });
      const controller = await platform().pid('controller');
      const before = await settledPssMib(controller);
      const load = neighbour();
      const flood = new Load({ url: (id) => `${platform().url}/flooder/flood?id=${id}`, connections: 2 });
      await load.during(FLOOD_MS);
      // Until it has come to more than 4 MiB, and 1 MiB for each second: a slow machine floods slowly.
      const note = await waitFor(
        'the count of what was dropped',
        async () => {
          const { stderr } = await platform().fnOk(['logs', 'flooder', '--limit', '1']);
          return flood.entries.length >= 5 && /^note: (\d+) lines were dropped/.exec(stderr)?.[1];
        },
        { timeoutMs: 60_000 },
      );
      const flooded = await flood.stop();
      await load.tail(51);
      const entries = await load.stop();
      const after = await settledPssMib(controller);
      const figures = { dropped: Number(note), controllerMib: { before, after } };
      const row = { fault: 5, driver, recoveredMs: null, figures, leaks: `${LOOKED_AFTER}, PSS ${Math.round(after - before)} MiB` };
      reportFault(rowOf({ ...row, what: 'a flood of output: who writes it' }, flooded, judge(flooded, { faultAt: 0 })));
      reportFault(rowOf({ ...row, what: 'a flood of output: its neighbour' }, entries, judge(entries, { faultAt: 0 })));
      expect([tally(flooded), tally(entries)]).toEqual([{}, {}]);
      expect([misdirected(flooded), misdirected(entries)]).toEqual([[], []]);
      expect(flooded.length).toBeGreaterThanOrEqual(5);
      expect(entries.length).toBeGreaterThan(50);
      expect(after - before).toBeLessThan(KEPT_MIB);
    },
    SCALE.timeoutMs,
  );

  it(
    'more functions than the budget holds: everyone has a turn or an honest 503, then all is well',
    async () => {
      const names = range(MANY).map((index) => `many-${index}`);
      await parallel(names, 2, (name) => platform().deploy(name, LEDGER, { flags: ['--memory', String(MANY_MIB), '--keep-alive', '600'] }));
      const loads = names.map((name) => new Load({ url: (id) => `${platform().url}/${name}?id=${id}`, connections: 1, pauseMs: 100 }));
      await sleep(SCALE.full ? 10_000 : 5_000);
      const good = () => loads.flatMap((load) => load.entries).filter(({ status }) => status === 200).length;
      await waitFor('a hundred turns', () => good() > 100, { timeoutMs: 180_000 });
      const entries = (await Promise.all(loads.map((load) => load.stop()))).flat();
      const verdict = judge(entries, { faultAt: 0 });
      reportFault(
        rowOf(
          { fault: 14, what: `${MANY} functions, room for ${Math.floor(BUDGET_MIB / MANY_MIB)}`, driver, recoveredMs: null },
          entries,
          verdict,
        ),
      );
      for (const what of Object.keys(tally(entries))) expect(what).toMatch(/^503 (?:no-capacity|queue-timeout|queue-full)$/);
      expect(entries.filter(({ status }) => status === 200).length).toBeGreaterThan(100);
      expect((await platform().status()).budget.memoryUsedMib).toBeLessThanOrEqual(BUDGET_MIB);
      for (const name of names) expect((await platform().call(`/${name}?id=z`)).status).toBe(200);
    },
    SCALE.timeoutMs,
  );
});
