import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Lease } from '#contract/link.ts';
import { deploy, driven, Machine, request } from '../../test/helpers/engine-harness.ts';
import type { TestGateway } from '../../test/helpers/test-gateway.ts';
import type { Engine } from './engine.ts';

const KEY = 'default/hello@1';
let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

/** A function with one lease of one instance. */
async function serving(settings: Parameters<typeof deploy>[3] = {}): Promise<{ engine: Engine; gateway: TestGateway; lease: Lease }> {
  const engine = await machine.start();
  const gateway = await machine.gateway();
  await deploy(machine, engine, 'hello', settings);
  gateway.want(KEY, 1);
  const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
  gateway.want(KEY, 0, 1);
  await machine.quiet();
  return { engine, gateway, lease };
}

describe('a death [9]', () => {
  it.each(['exit', 'oom'] as const)('is told with its cause: %s', async (cause) => {
    const { gateway, lease } = await serving();
    machine.host.end(lease.instance, cause, 'exit code 1');
    expect(await gateway.next('gone')).toMatchObject({ instance: lease.instance, cause, detail: 'exit code 1' });
    await machine.until('its traces are gone', () => machine.host.instances.size === 0);
  });

  it('voids the leases: the next request gets another instance', async () => {
    const { gateway, lease } = await serving();
    machine.host.end(lease.instance);
    await gateway.next('gone');
    gateway.want(KEY, 1, 0);
    const second = await machine.until('another grant', () => gateway.heard.filter((message) => message.type === 'grant')[1]);
    expect(second.lease.instance).not.toBe(lease.instance);
  });
});

describe('a suspicion [10]', () => {
  it('is cleared where the instance answers, and kills at the third time', async () => {
    const { engine, gateway, lease } = await serving({ timeoutSeconds: 5 });
    for (const times of [1, 2]) {
      gateway.say({ type: 'suspect', instance: lease.instance, reason: 'reset' });
      expect(await gateway.next('clear', times)).toMatchObject({ instance: lease.instance });
    }
    gateway.say({ type: 'suspect', instance: lease.instance, reason: 'reset' });
    expect(await gateway.next('revoke')).toMatchObject({ lease: lease.lease, slots: 0 });
    expect((await engine.status()).instances[0]!.state).toBe('draining');
    gateway.say({ type: 'release', lease: lease.lease });
    await machine.until('it is gone', () => !machine.host.instances.has(lease.instance));
  });

  it('of one that does not answer means its end', async () => {
    const { gateway, lease } = await serving();
    machine.shims.hung.add(lease.instance);
    gateway.say({ type: 'suspect', instance: lease.instance, reason: 'refused' });
    expect(await gateway.next('gone')).toMatchObject({ instance: lease.instance, cause: 'lost' });
  });

  it('of one that has drained itself means its end, the first time: it would be granted again and refuse for ever', async () => {
    const { engine, gateway, lease } = await serving();
    machine.shims.unwilling.add(lease.instance);
    gateway.say({ type: 'suspect', instance: lease.instance, reason: 'it takes no more requests' });
    expect(await gateway.next('revoke')).toMatchObject({ lease: lease.lease, slots: 0 });
    expect((await engine.status()).instances[0]!.state).toBe('draining');
    gateway.say({ type: 'release', lease: lease.lease });
    await machine.until('it is gone', () => !machine.host.instances.has(lease.instance));
  });

  it('of one after the other that drains itself as it loads, starts fewer and fewer: one request would else be a storm of containers', async () => {
    const { gateway, lease } = await serving();
    let heard = 0;
    const answer = () => {
      for (const message of gateway.heard.slice(heard)) {
        if (message.type === 'grant') {
          machine.shims.unwilling.add(message.lease.instance);
          gateway.say({ type: 'suspect', instance: message.lease.instance, reason: 'it takes no more requests' });
        }
        if (message.type === 'revoke') gateway.say({ type: 'release', lease: message.lease });
      }
      heard = gateway.heard.length;
      gateway.want(KEY, 1);
    };
    for (let second = 0; second < 60; second += 1) {
      answer();
      await machine.pass(1_000, 250);
    }
    const granted = gateway.heard.filter((message) => message.type === 'grant');
    // Two at once, and then after 1, 2, 4 … s.
    expect(granted.length).toBeGreaterThan(3);
    expect(granted.length).toBeLessThan(10);
    expect(gateway.heard.findLast((message) => message.type === 'fail')).toMatchObject({ problem: { code: 'function-crashed' } });
    expect(granted[0]!.lease.instance).toBe(lease.instance);
  });

  it.each([
    { where: 'that does not answer', waitMs: 20, shims: () => machine.shims.hung },
    // On a busy host an engine takes seconds for it; whose process has ended for certain is not waited for in vain.
    { where: 'where nobody listens any more', waitMs: 2_000, shims: () => machine.shims.ended },
  ])('of one $where waits for the driver’s word: out of memory is not lost [9]', async ({ waitMs, shims }) => {
    const { gateway, lease } = await serving();
    shims().add(lease.instance);
    gateway.say({ type: 'suspect', instance: lease.instance, reason: 'connection refused' });
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    machine.host.end(lease.instance, 'oom', 'out of memory');
    expect(await gateway.next('gone')).toMatchObject({ cause: 'oom' });
  });

  it.each(['suspect', 'timeout'] as const)('however often said (%s), asks the instance once at a time', async (type) => {
    const { gateway, lease } = await serving();
    const answers = Promise.withResolvers<void>();
    const health = machine.shims.health.bind(machine.shims);
    let asked = 0;
    machine.shims.health = async (address) => {
      asked += 1;
      await answers.promise;
      return health(address);
    };
    for (let n = 0; n < 1_000; n += 1)
      gateway.say({ instance: lease.instance, ...(type === 'suspect' ? { type, reason: 'reset' } : { type, request: `r-${n}` }) });
    // The answer to this one tells that all of them were heard.
    gateway.say({ type: 'suspect', instance: 'i-000000000000', reason: 'reset' });
    await gateway.next('gone');
    expect(asked).toBe(1);
    answers.resolve();
    if (type === 'suspect') expect(await gateway.next('clear')).toMatchObject({ instance: lease.instance });
    else expect(await gateway.next('gone', 2)).toMatchObject({ instance: lease.instance, cause: 'timeout' });
  });

  it('of one that nobody knows is answered with gone', async () => {
    const { gateway } = await serving();
    gateway.say({ type: 'suspect', instance: 'i-000000000000', reason: 'reset' });
    expect(await gateway.next('gone')).toMatchObject({ instance: 'i-000000000000', cause: 'lost' });
  });
});

describe('a request that overran [11]', () => {
  it('kills at once where it is the only one', async () => {
    const { gateway, lease } = await serving();
    machine.shims.inFlight.set(lease.instance, 1);
    gateway.say({ type: 'timeout', instance: lease.instance, request: 'r-1' });
    expect(await gateway.next('gone')).toMatchObject({ instance: lease.instance, cause: 'timeout' });
    expect(machine.shims.drained).toEqual([]);
  });

  it('drains first where others are in flight', async () => {
    const { gateway, lease } = await serving();
    machine.shims.inFlight.set(lease.instance, 2);
    gateway.say({ type: 'timeout', instance: lease.instance, request: 'r-1' });
    await gateway.next('revoke');
    await machine.until('drain', () => machine.shims.drained.includes(lease.instance));
    expect(gateway.count('gone')).toBe(0);
    gateway.say({ type: 'release', lease: lease.lease });
    await machine.until('it is gone', () => !machine.host.instances.has(lease.instance));
  });

  it('is told of once, though the instance ends by itself while it drains', async () => {
    const { engine, gateway, lease } = await serving();
    machine.shims.inFlight.set(lease.instance, 2);
    gateway.say({ type: 'timeout', instance: lease.instance, request: 'r-1' });
    await gateway.next('revoke');
    machine.host.end(lease.instance, 'oom', 'out of memory');
    await gateway.next('gone');
    await machine.until('it is gone', async () => (await engine.status()).instances.length === 0, 0);
    await machine.pass(1_000);
    expect(gateway.count('gone')).toBe(1);
    const notes: string[] = [];
    for await (const entry of engine.logs('default', 'hello', { follow: false }, new AbortController().signal)) notes.push(entry.msg);
    expect(notes).toEqual([
      expect.stringMatching(`^instance ${lease.instance} is ready: its code was loaded in \\d+ ms$`),
      `instance ${lease.instance} ended: out of memory (out of memory)`,
    ]);
    expect(machine.host.calls.filter((call) => call.operation === 'kill' && call.id === lease.instance)).toHaveLength(1);
  });

  it('kills at once where nothing answers any more', async () => {
    const { gateway, lease } = await serving();
    machine.shims.hung.add(lease.instance);
    gateway.say({ type: 'timeout', instance: lease.instance, request: 'r-1' });
    expect(await gateway.next('gone')).toMatchObject({ cause: 'timeout' });
  });
});

describe('a budget', () => {
  it('is made room in by what is idle longest, and never exceeded', async () => {
    const engine = await machine.start({ settings: { memoryBudgetMib: 256 } });
    const gateway = await machine.gateway();
    for (const name of ['a', 'b', 'c']) {
      await deploy(machine, engine, name, { keepAliveSeconds: 600 });
      expect((await engine.status()).budget.memoryUsedMib).toBeLessThanOrEqual(256);
    }
    const left = (await engine.status()).instances.map((view) => view.function).sort();
    expect(left).toEqual(['b', 'c']);
    gateway.want('default/a@1', 1);
    await machine.until('a grant', () => gateway.count('grant') > 0);
    expect((await engine.status()).instances.map((view) => view.function).sort()).toEqual(['a', 'c']);
  });
});

describe('shutdown', () => {
  it('leaves nothing, also of what is being made, and ends what waits for it', async () => {
    const engine = await machine.start({ settings: { poolSize: 2 } });
    await machine.gateway();
    await deploy(machine, engine, 'hello');
    machine.host.latencyMs.create = 1_000;
    const late = engine.deploy('default', 'late', request(), new AbortController().signal);
    late.catch(() => {});
    await machine.until('a create', () => machine.count('create') > 2);
    await driven(machine, engine.shutdown());
    expect(machine.host.instances.size).toBe(0);
    expect(machine.stopped).toBe(1);
    await expect(driven(machine, late)).rejects.toMatchObject({ code: 'shutting-down' });
    await machine.pass(5_000);
    expect(machine.host.instances.size).toBe(0);
  });

  it('comes to an end where nothing can be killed: the driver’s destroyAll has the last word', async () => {
    let away = true;
    const engine = await machine.start({
      driver: (driver) => {
        const kill = driver.kill.bind(driver);
        driver.kill = (id) => (away ? Promise.reject(new Error('the engine is away')) : kill(id));
        const destroyAll = driver.destroyAll.bind(driver);
        driver.destroyAll = async () => {
          if (away) throw new Error('the engine is away');
          await destroyAll();
        };
        return driver;
      },
    });
    await deploy(machine, engine, 'hello');
    await expect(driven(machine, engine.shutdown())).rejects.toThrow('the engine is away');
    expect(machine.stopped).toBe(0);
    away = false;
    await driven(machine, engine.shutdown());
    expect([machine.stopped, machine.host.instances.size]).toEqual([1, 0]);
  });

  it('refuses deployments from then on', async () => {
    const engine = await machine.start();
    await driven(machine, engine.shutdown());
    await expect(deploy(machine, engine, 'hello')).rejects.toMatchObject({ code: 'shutting-down' });
  });
});
