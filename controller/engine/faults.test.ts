import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Lease } from '#contract/link.ts';
import { deploy, driven, loaded, Machine, request } from '../../test/helpers/engine-harness.ts';
import type { TestGateway } from '../../test/helpers/test-gateway.ts';
import type { CreateSpec, ImageStore } from '../driver/types.ts';
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

describe('a function that does not load any more', () => {
  const broken = () => ({ ok: false as const, error: { name: 'TypeError', message: 'no such thing', at: 'handler.ts:3:9' } });

  async function brokenAfterDeploy(settings: Parameters<typeof deploy>[3] = {}) {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0, concurrency: 1, ...settings });
    await machine.until('scale to zero', () => machine.host.instances.size === 0);
    machine.shims.onInit = broken;
    return { engine, gateway };
  }

  it('fails its waiters with its own message, and starts are ever rarer', async () => {
    const { gateway } = await brokenAfterDeploy();
    gateway.want(KEY, 1);
    const fail = await machine.until('fail', () => gateway.heard.find((message) => message.type === 'fail'));
    expect(fail.problem).toMatchObject({ code: 'function-init-failed', detail: 'hello@1: TypeError: no such thing (handler.ts:3:9)' });
    expect(fail.retryAfterSeconds).toBeGreaterThan(0);
    const inits = machine.count('specialise');
    for (let passed = 0; passed < 60_000; passed += 100) {
      gateway.want(KEY, 1);
      await machine.pass(100, 100);
    }
    expect(machine.count('specialise') - inits).toBeLessThanOrEqual(9);
    machine.shims.onInit = loaded;
    await machine.until(
      'a grant',
      () => {
        gateway.want(KEY, 1);
        return gateway.count('grant') > 0;
      },
      100,
    );
  });

  it('is tried by one instance at a time then, however many wait', async () => {
    const { gateway } = await brokenAfterDeploy();
    gateway.want(KEY, 20);
    await machine.until('fail', () => gateway.heard.find((message) => message.type === 'fail'));
    await machine.pass(1_500);
    const inits = machine.count('specialise');
    gateway.want(KEY, 20);
    await machine.until('a second fail', () => machine.count('specialise') > inits);
    await machine.pass(200);
    expect(machine.count('specialise') - inits).toBe(1);
    // What failed at the same time counts once: the wait is not 2 ** 20 s.
    const again = machine.count('specialise');
    await machine.until(
      'the next try',
      () => {
        gateway.want(KEY, 20);
        return machine.count('specialise') > again;
      },
      50,
    );
    expect(machine.clock.now()).toBeLessThan(20_000);
  });

  it('leaves those alone that instances which did load can serve', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { concurrency: 1 });
    gateway.want(KEY, 1);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    machine.shims.onInit = broken;
    gateway.want(KEY, 1, 1);
    await machine.until('a failed start', () => machine.shims.inits.length === 2);
    await machine.pass(200);
    expect(gateway.count('fail')).toBe(0);
    gateway.want(KEY, 1, 0);
    gateway.say({ type: 'release', lease: lease.lease });
    await machine.until('the second grant', () => gateway.count('grant') === 2);
  });

  it('thaws what is frozen even while it backs off', async () => {
    const engine = await machine.start({ settings: { freezeAfterMs: 50 } });
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { concurrency: 1 });
    machine.shims.onInit = broken;
    gateway.want(KEY, 2);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    await machine.until('a failed start', () => machine.shims.inits.length >= 2);
    const failedAt = machine.clock.now();
    gateway.want(KEY, 0);
    gateway.say({ type: 'release', lease: lease.lease });
    await machine.until('frozen', () => machine.host.instances.get(lease.instance)?.frozen, 20);
    gateway.want(KEY, 1);
    await machine.until('the second grant', () => gateway.count('grant') === 2);
    expect(machine.clock.now() - failedAt).toBeLessThan(750);
  });

  it('says what ended it while it was loading', async () => {
    const { gateway } = await brokenAfterDeploy();
    machine.shims.onInit = (_request, id) => {
      machine.host.end(id, 'oom', 'out of memory');
      return new Promise(() => {});
    };
    gateway.want(KEY, 1);
    const fail = await machine.until('fail', () => gateway.heard.find((message) => message.type === 'fail'));
    expect(fail.problem.code).toBe('function-oom');
    await machine.until('nothing is left', () => machine.host.instances.size === 0);
  });
});

describe('an image that no container can be made of', () => {
  it('is the failure of who brought it: others get their instances at once', async () => {
    const image = `sha256:${'1'.repeat(64)}`;
    const info = { id: image, reference: null, bytes: 1, port: null };
    const found = async () => info;
    const images: ImageStore = { find: found, load: found, pull: found, hold: async () => {}, release: async () => true };
    const engine = await machine.start({
      driver(driver) {
        const create = driver.create.bind(driver);
        return Object.assign(driver, {
          images,
          runtimes: async () => ['node', 'image'].map((name) => ({ name, version: '1' })),
          create: (spec: CreateSpec, signal: AbortSignal) =>
            spec.image === null ? create(spec, signal) : Promise.reject(new Error('mkdir /secret: not a directory')),
        });
      },
    });
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0 });
    await machine.until('scale to zero', () => machine.host.instances.size === 0);
    const broken = { ...request({ runtime: 'image' }), image };
    for (const name of ['a', 'b', 'c', 'd']) {
      const deploying = engine.deploy('default', name, broken, new AbortController().signal);
      await expect(driven(machine, deploying)).rejects.toThrow(/mkdir \/secret/);
    }
    const before = machine.clock.now();
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') > 0);
    expect(machine.clock.now() - before).toBeLessThan(100);
    expect(gateway.heard.filter((message) => message.type === 'fail')).toEqual([]);
    const lines: string[] = [];
    for await (const { msg } of engine.logs('default', 'hello', { follow: false }, new AbortController().signal)) lines.push(msg);
    expect(lines.join('\n')).not.toContain('secret');
  });
});

describe('an engine that cannot create', () => {
  it('is asked ever more rarely, tells who waits, and serves at once when it can again', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0 });
    await machine.until('scale to zero', () => machine.host.instances.size === 0);
    let down = true;
    const perform = machine.host.perform.bind(machine.host);
    machine.host.perform = async (operation, id) => {
      await perform(operation, id);
      if (operation === 'create' && down) throw new Error('no such engine');
    };
    const before = machine.count('create');
    for (let passed = 0; passed < 60_000; passed += 100) {
      gateway.want(KEY, 1);
      await machine.pass(100, 100);
    }
    // 0.1 + 0.2 + … 30 s, two at a time.
    expect(machine.count('create') - before).toBeLessThanOrEqual(20);
    const fail = gateway.heard.find((message) => message.type === 'fail');
    expect(fail?.problem).toMatchObject({ code: 'start-failed' });
    // Callers may be anybody: the reason is for the function's log.
    expect(fail?.problem.detail).toMatch(/no instance of it could be started; its log says why$/);
    const lines: string[] = [];
    for await (const { msg } of engine.logs('default', 'hello', { follow: false }, new AbortController().signal)) lines.push(msg);
    expect(lines.join('\n')).toContain('no such engine');
    down = false;
    const at = machine.clock.now();
    await machine.until(
      'a grant',
      () => {
        gateway.want(KEY, 1);
        return gateway.count('grant') > 0;
      },
      100,
    );
    expect(machine.clock.now() - at).toBeLessThan(70_000);
    expect(gateway.count('grant')).toBe(1);
  });

  it('lifts the pause of functions that are not to blame when a create succeeds', async () => {
    const engine = await machine.start({ settings: { poolSize: 1 } });
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0 });
    await machine.until('only the pool', async () => (await engine.status()).instances.map((view) => view.state).join() === 'generic');
    for (let n = 0; n < 12; n += 1) machine.host.failNext('create', new Error('no such engine'));
    gateway.want(KEY, 2);
    const [generic] = [...machine.host.instances.keys()];
    machine.host.end(generic!);
    for (let passed = 0; machine.count('create') < 10 && passed < 120_000; passed += 100) {
      gateway.want(KEY, 1);
      await machine.pass(100, 100);
    }
    await machine.until('the pool is back', async () => (await engine.status()).instances.some((view) => view.state === 'generic'), 100);
    const at = machine.clock.now();
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') > 0);
    expect(machine.clock.now() - at).toBeLessThan(500);
  });

  it.each(['seal', 'specialise'] as const)('loses an instance in the moment of its %s, and leaves nothing of it', async (moment) => {
    let ended = '';
    const engine = await machine.start({
      settings: { poolSize: 1 },
      driver: (driver) => {
        const seal = driver.seal.bind(driver);
        const specialise = driver.specialise.bind(driver);
        const end = (id: string, when: string) => {
          if (ended !== '' || when !== moment) return;
          ended = id;
          machine.host.end(id);
        };
        driver.seal = async (id) => {
          await seal(id);
          end(id, 'seal');
        };
        driver.specialise = async (id, spec) => {
          const placed = await specialise(id, spec);
          end(id, 'specialise');
          return placed;
        };
        return driver;
      },
    });
    if (moment === 'specialise') await expect(deploy(machine, engine, 'hello')).rejects.toMatchObject({ code: 'deploy-refused' });
    await machine.until('another in its place', async () => {
      const { instances } = await engine.status();
      return ended !== '' && instances.length === 1 && instances[0]!.state === 'generic' && instances[0]!.id !== ended;
    });
    expect([...machine.host.instances.keys()]).not.toContain(ended);
  });

  it('is told when one start goes wrong, and the next goes well: nobody hears of it', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0 });
    await machine.until('scale to zero', () => machine.host.instances.size === 0);
    machine.host.failNext('specialise', new Error('a hiccup'));
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') > 0);
    expect(gateway.count('fail')).toBe(0);
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
