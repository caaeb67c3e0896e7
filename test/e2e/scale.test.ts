/** From nothing to many and back: starts, pools, queues, budget. */
import { Agent } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Answer, serverTiming } from '../helpers/http.ts';
import { drivers, onlyOn, usePlatform } from '../helpers/suite.ts';
import { parallel, range, sleep, waitFor } from '../helpers/wait.ts';

const PROBE = 'test/e2e/fixtures/probe.ts';
const startOf = (answer: Answer) => serverTiming(answer.headers['server-timing']).start;

for (const driver of drivers('docker')) {
  describe(`scale (${driver})`, () => {
    const platform = usePlatform({ driver });

    it('a class without a pool starts in full, and says so', async () => {
      await platform().deploy('full', PROBE, { flags: ['--keep-alive', '1', '--memory', '1500'] });
      await platform().scaledToZero('full');
      const cold = await platform().call('/full');
      expect(cold.status).toBe(200);
      expect(startOf(cold)).toMatch(/full|pooled/);
    });

    it('min keeps instances ready, and replaces one that dies', async () => {
      await platform().deploy('min', PROBE, { flags: ['--min', '2', '--keep-alive', '1', '--memory', '64'] });
      const ready = async () => (await platform().instances('min')).filter(({ state }) => state === 'idle' || state === 'busy');
      await waitFor('two instances', async () => (await ready()).length === 2, { timeoutMs: 60_000 });
      await sleep(3_000);
      const before = await ready();
      expect(before).toHaveLength(2);
      expect((await platform().call('/min/exit/1')).status).toBe(502);
      await waitFor('a replacement', async () => (await ready()).length === 2, { timeoutMs: 60_000 });
      expect((await platform().call('/min')).status).toBe(200);
      await platform().fnOk(['delete', 'min']);
    });

    // On pods the suite of what is promised everywhere (test/helpers/semantics.suite.ts) holds it.
    describe.each(onlyOn('docker'))('beside what is promised everywhere (%s only)', () => {
      it('cold, warm, and cold again after it scaled to zero', async () => {
        await platform().deploy('cold', PROBE, { flags: ['--keep-alive', '3'] });
        await platform().scaledToZero('cold');
        await platform().pooled();
        const cold = await platform().call('/cold');
        expect(cold.status).toBe(200);
        expect(startOf(cold)).toBe('pooled');
        expect(startOf(await platform().call('/cold'))).toBe('warm');
        await platform().scaledToZero('cold');
        await platform().pooled();
        expect(startOf(await platform().call('/cold'))).toBe('pooled');
      });

      it('100 requests at one cold function share its starts', async () => {
        await platform().deploy('burst', PROBE, { flags: ['--keep-alive', '2', '--timeout', '30'] });
        await platform().scaledToZero('burst');
        const agent = new Agent({ keepAlive: true, maxSockets: 100 });
        const answers = await Promise.all(range(100).map(() => platform().call('/burst/sleep?ms=50', { agent })));
        agent.destroy();
        expect(answers.filter((answer) => answer.status !== 200).map((answer) => answer.text)).toEqual([]);
        const used = new Set(answers.map((answer) => answer.json<{ instance: string }>().instance));
        // 50 slots each: two hold them all; a few more may have been asked for while they started.
        expect(used.size).toBeLessThanOrEqual(4);
      });

      it('concurrency and max are never exceeded; what is over waits', async () => {
        await platform().deploy('bounded', PROBE, { flags: ['--concurrency', '2', '--max', '2', '--timeout', '20', '--keep-alive', '10'] });
        const agent = new Agent({ keepAlive: true, maxSockets: 30 });
        const answers = await Promise.all(range(12).map(() => platform().call('/bounded/sleep?ms=300', { agent })));
        expect(answers.map((answer) => answer.status)).toEqual(range(12).map(() => 200));
        expect(new Set(answers.map((answer) => answer.json<{ instance: string }>().instance)).size).toBeLessThanOrEqual(2);
        const after = await Promise.all(range(4).map(() => platform().call('/bounded', { agent })));
        agent.destroy();
        for (const answer of after) expect(answer.json<{ mostActive: number }>().mostActive).toBeLessThanOrEqual(2);
      });

      it('the Lambda form works on one event at a time', async () => {
        await platform().deploy(
          'single',
          `let active = 0, most = 0;
           export const handler = async () => { most = Math.max(most, ++active); await new Promise((r) => setTimeout(r, 100)); active--; return { statusCode: 200, body: String(most) }; };`,
          { flags: ['--max', '3'] },
        );
        const answers = await Promise.all(range(9).map(() => platform().call('/single')));
        expect(answers.map((answer) => [answer.status, answer.text])).toEqual(range(9).map(() => [200, '1']));
      });

      it('a request that overruns its timeout gets 504, and the next call works', async () => {
        await platform().deploy('slow', PROBE, { flags: ['--timeout', '4'] });
        // The function would take five minutes for it, and the client wait for one.
        const late = await platform().call('/slow/sleep?ms=300000');
        expect(late.status).toBe(504);
        expect(late.json()).toMatchObject({ code: 'function-timeout' });
        expect((await platform().call('/slow')).status).toBe(200);
      });

      it('waitUntil keeps the instance until what was promised is done', async () => {
        await platform().deploy('later', PROBE, { flags: ['--keep-alive', '0'] });
        expect((await platform().call('/later/later/done?ms=1500')).text).toBe('accepted');
        await waitFor('the late line', async () => (await platform().fnOk(['logs', 'later'])).stdout.includes('later done'), {
          timeoutMs: 60_000,
          everyMs: 300,
        });
      });
    });
  });
}

describe.each(onlyOn('docker'))('freeze (%s)', (driver) => {
  const platform = usePlatform({ driver });

  it('an idle instance is frozen where the host can, and thaws for a request', async () => {
    await platform().deploy('ice', PROBE, { flags: ['--keep-alive', '60'] });
    expect((await platform().call('/ice')).status).toBe(200);
    const { features } = await platform().status();
    if (!features.freeze) {
      expect(features.notes.join(' ')).toMatch(/freez/i);
      return;
    }
    const frozen = await waitFor(
      'a frozen instance',
      async () => (await platform().instances('ice')).find(({ state }) => state === 'frozen'),
      { timeoutMs: 60_000 },
    );
    const answer = await platform().call('/ice');
    expect(answer.status).toBe(200);
    expect((await platform().instances('ice')).map(({ id }) => id)).toContain(frozen.id);
  });
});

describe.each(drivers('docker'))('budget (%s)', (driver) => {
  // An instance may take seconds to go, and until it has gone its memory is taken.
  const queueMs = 15_000;
  /** Room for three functions of 256 MiB and little else. */
  const platform = usePlatform({ driver, env: { FN_MEMORY_BUDGET_MIB: '800', FN_QUEUE_TIMEOUT_MS: String(queueMs) } });
  beforeAll(async () => {
    for (const name of ['one', 'two', 'three', 'four', 'five']) {
      await platform().deploy(name, PROBE, { flags: ['--memory', '256', '--keep-alive', '600', '--timeout', '60'] });
    }
  });

  it('idle instances give way to functions that are asked for', async () => {
    for (const name of ['one', 'two', 'three', 'four', 'five', 'one', 'five']) expect((await platform().call(`/${name}`)).status).toBe(200);
    const { budget } = await platform().status();
    expect(budget.memoryUsedMib).toBeLessThanOrEqual(800);
  });

  // Who waits, and for how long, is the controller's to say: the same on every driver.
  describe.each(onlyOn('docker'))('in use (%s only)', () => {
    const inUse = (...names: string[]) =>
      waitFor(`${names.join()} to be in use`, async () => {
        const { instances } = await platform().status();
        return names.every((name) => instances.some(({ state, revision }) => state === 'busy' && revision?.startsWith(`default/${name}@`)));
      });
    it('where all are busy a request waits, and has its turn or 503 with Retry-After', async () => {
      // They are there before they are held: starts that make room first would take as long as they are.
      const warmed = async () => {
        for (const name of ['one', 'two', 'three']) expect((await platform().call(`/${name}`)).status).toBe(200);
      };
      await warmed();
      const busy = ['one', 'two', 'three'].map((name) => platform().call(`/${name}/sleep?ms=6000`));
      await inUse('one', 'two', 'three');
      const waiter = platform().call('/four');
      expect((await Promise.all(busy)).map((answer) => answer.status)).toEqual([200, 200, 200]);
      expect((await waiter).status).toBe(200);

      await warmed();
      const longer = ['one', 'two', 'three'].map((name) => platform().call(`/${name}/sleep?ms=${queueMs + 8_000}`));
      await inUse('one', 'two', 'three');
      const refused = await platform().call('/four');
      expect(refused.status).toBe(503);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
      expect(refused.json<{ code: string }>().code).toMatch(/^(?:no-capacity|queue-timeout)$/);
      expect((await Promise.all(longer)).map((answer) => answer.status)).toEqual([200, 200, 200]);
      expect((await platform().call('/four')).status).toBe(200);
    });

    it('many cold functions at once all have their turn', async () => {
      const names = ['one', 'two', 'three', 'four', 'five'];
      const answers = await parallel(
        range(25).map((index) => names[index % names.length]!),
        10,
        (name) => platform().call(`/${name}`),
      );
      expect(answers.filter(({ status }) => status !== 200 && status !== 503)).toEqual([]);
      expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThan(10);
    });
  });
});
