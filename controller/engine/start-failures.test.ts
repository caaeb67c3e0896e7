import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deploy, driven, loaded, Machine, request } from '../../test/helpers/engine-harness.ts';
import type { CreateSpec, ImageStore } from '../driver/types.ts';

const KEY = 'default/hello@1';
let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

/** As a gateway whose clients come again and again. */
const askUntilGranted = (gateway: Awaited<ReturnType<Machine['gateway']>>) =>
  machine.until(
    'a grant',
    () => {
      gateway.want(KEY, 1);
      return gateway.count('grant') > 0;
    },
    100,
  );

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
    await askUntilGranted(gateway);
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
    await askUntilGranted(gateway);
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
