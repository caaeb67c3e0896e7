/** The controller may die at any time: warm traffic does not notice, and the next one takes over what runs. */
import { describe, expect, it } from 'vitest';
import { Load, judge } from '../helpers/load.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { sleep, waitFor } from '../helpers/wait.ts';

const PROBE = 'test/e2e/fixtures/probe.ts';

for (const driver of drivers('docker', 'process')) {
  describe(`adoption (${driver})`, () => {
    const platform = usePlatform({ driver });

    it('kill -9 of the controller: warm requests go on, instances are the same after', async () => {
      await platform().deploy('warm', PROBE, { flags: ['--keep-alive', '600', '--timeout', '20'] });
      const born = (await platform().call('/warm')).json<{ instance: string }>().instance;
      const before = await platform().status();
      const load = new Load({ url: (id) => `${platform().url}/warm?id=${id}`, connections: 4 });
      await load.during(1_000);
      const faultAt = performance.now();
      process.kill(before.controller.pid, 'SIGKILL');
      const after = await waitFor('a new controller', async () => {
        const status = await platform().status();
        return status.controller.pid !== before.controller.pid && status;
      });
      await load.during(3_000);
      await load.tail(101, faultAt);
      const verdict = judge(await load.stop(), { faultAt });
      expect(verdict.failed).toEqual({});
      expect(verdict.goodTail).toBeGreaterThan(100);
      expect(after.controller.term).toBeGreaterThan(before.controller.term);
      const known = before.instances.filter((instance) => instance.function === 'warm').map(({ id }) => id);
      await waitFor('those that were there', async () => {
        const adopted = new Set((await platform().instances('warm')).map(({ id }) => id));
        return known.length > 0 && known.every((id) => adopted.has(id));
      });
      expect((await platform().call('/warm')).json<{ instance: string }>().instance).toBe(born);
    });

    it('generic instances go back to the pool', async () => {
      await platform().pooled();
      const before = await platform().status();
      const generic = before.instances.filter(({ state }) => state === 'generic').map(({ id }) => id);
      process.kill(before.controller.pid, 'SIGKILL');
      const after = await waitFor('a new controller', async () => {
        const status = await platform().status();
        const known = new Set(status.instances.flatMap(({ id, state }) => (state === 'generic' ? [id] : [])));
        return status.controller.pid !== before.controller.pid && generic.every((id) => known.has(id)) && status;
      });
      const again = after.instances.filter(({ state }) => state === 'generic').map(({ id }) => id);
      expect(again).toEqual(expect.arrayContaining(generic));
    });

    it('an instance that died meanwhile is noticed, and what is busy is not disturbed', async () => {
      await platform().deploy('dies', PROBE, { flags: ['--keep-alive', '600'] });
      await platform().call('/dies');
      const instance = await platform().servingInstance('dies');
      const before = await platform().status();
      const busy = platform().call('/warm/sleep?ms=4000');
      await sleep(200);
      process.kill(before.controller.pid, 'SIGKILL');
      await platform().killInstance(instance);
      await waitFor('a new controller', async () => (await platform().status()).controller.pid !== before.controller.pid);
      expect((await busy).status).toBe(200);
      await waitFor('the dead one to be gone', async () => !(await platform().instances('dies')).some(({ id }) => id === instance.id));
      await waitFor('it to serve again', async () => (await platform().call('/dies')).status === 200);
    });

    it('keep-alive goes on to count after a restart: nothing stays for ever', async () => {
      await platform().deploy('brief', PROBE, { flags: ['--keep-alive', '2'] });
      await platform().call('/brief');
      process.kill(await platform().pid('controller'), 'SIGKILL');
      await platform().scaledToZero('brief');
      expect((await platform().call('/brief')).status).toBe(200);
    });

    it('cold requests wait while the controller is away, and are answered when it is back', async () => {
      await platform().deploy('cold', PROBE, { flags: ['--keep-alive', '1', '--timeout', '20'] });
      await platform().scaledToZero('cold');
      process.kill(await platform().pid('controller'), 'SIGKILL');
      const answer = await platform().call('/cold');
      expect(answer.status).toBe(200);
    });
  });
}
