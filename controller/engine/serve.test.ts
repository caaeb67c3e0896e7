import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deploy, Machine } from '../../test/helpers/engine-harness.ts';
import { LinkFiles } from '../../test/helpers/link-files.ts';
import type { Engine } from './engine.ts';

const KEY = 'default/hello@1';
let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

const states = async (engine: Engine) => (await engine.status()).instances.map((instance) => instance.state).sort();

describe('a cold start', () => {
  it('specialises a generic instance: pooled', async () => {
    const engine = await machine.start({ settings: { poolSize: 1 } });
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0 });
    await machine.until('scale to zero, and a refill', async () => (await states(engine)).join() === 'generic');
    await machine.pass(100);
    gateway.want(KEY, 1);
    const { lease, start } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    expect(lease).toMatchObject({ revision: KEY, slots: 10 });
    expect(start).toMatchObject({ kind: 'pooled', startMs: 0 });
  });

  it('creates one where there is none: full, and says how long that took', async () => {
    machine.host.latencyMs.create = 200;
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0 });
    await machine.until('scale to zero', async () => (await states(engine)).length === 0);
    gateway.want(KEY, 1);
    const { start } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    expect(start.kind).toBe('full');
    expect(start.startMs).toBeGreaterThanOrEqual(200);
  });

  it('is made once for all who wait, and never more at a time than the cap', async () => {
    machine.host.latencyMs.create = 100;
    const engine = await machine.start({ settings: { maxCreates: 2 } });
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0, concurrency: 10 });
    await machine.until('scale to zero', async () => (await states(engine)).length === 0);
    const before = machine.count('create');
    for (let waiting = 1; waiting <= 50; waiting += 1) gateway.want(KEY, waiting);
    await machine.until('five grants', () => gateway.count('grant') === 5);
    await machine.pass(500);
    expect(machine.count('create') - before).toBe(5);
    const creates = machine.host.calls.filter((call) => call.operation === 'create').slice(before);
    for (const { at } of creates) expect(creates.filter((other) => other.at >= at && other.at < at + 100).length).toBeLessThanOrEqual(2);
  });
});

describe('an idle instance', () => {
  it('is frozen, thawed for the next request, and stopped after the keep-alive', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 60 });
    await machine.until('frozen', async () => (await states(engine)).join() === 'frozen');
    gateway.want(KEY, 1);
    const { lease, start } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    expect(start.kind).toBe('warm');
    expect(machine.host.instances.get(lease.instance)!.frozen).toBe(false);
    expect(await states(engine)).toEqual(['busy']);
    gateway.want(KEY, 0);
    await machine.pass(5_000);
    expect(await states(engine)).toEqual(['busy']);
    gateway.say({ type: 'release', lease: lease.lease });
    await machine.until('scale to zero', async () => (await states(engine)).length === 0, 500);
    expect(machine.host.instances.size).toBe(0);
  });

  it('in which something is still in flight is neither frozen nor stopped before the function’s timeout [12, 17]', async () => {
    const engine = await machine.start();
    await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 2, timeoutSeconds: 20 });
    const [id] = [...machine.host.instances.keys()];
    machine.shims.inFlight.set(id!, 1);
    await machine.pass(10_000);
    expect(await states(engine)).toEqual(['idle']);
    expect(machine.count('freeze')).toBe(0);
    await machine.until('stopped at last', () => machine.host.instances.size === 0, 200);
  });

  it('that does not answer may be busy: it has its function’s timeout too', async () => {
    const engine = await machine.start();
    await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 1, timeoutSeconds: 20 });
    const [id] = [...machine.host.instances.keys()];
    machine.shims.hung.add(id!);
    await machine.pass(10_000);
    expect(await states(engine)).toEqual(['idle']);
    await machine.until('ended at last', () => machine.host.instances.size === 0, 200);
  });

  it('that cannot be frozen stays as it is, and is not tried at every turn', async () => {
    const engine = await machine.start({
      driver: (driver) => {
        driver.freeze = async (id) => {
          machine.host.calls.push({ operation: 'freeze', id, at: machine.clock.now() });
          throw new Error('no such file');
        };
        return driver;
      },
    });
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 60 });
    await machine.pass(30_000, 100);
    expect(await states(engine)).toEqual(['idle']);
    expect(machine.count('freeze')).toBeGreaterThan(0);
    expect(machine.count('freeze')).toBeLessThanOrEqual(4);
  });

  it('found busy long ago may be busy with something new: the bound begins with each lease', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 600, timeoutSeconds: 20 });
    const [id] = [...machine.host.instances.keys()];
    machine.shims.inFlight.set(id!, 1);
    await machine.pass(3_000);
    gateway.want(KEY, 1);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    await machine.pass(60_000, 500);
    gateway.want(KEY, 0);
    gateway.say({ type: 'release', lease: lease.lease });
    await machine.pass(5_000);
    expect(await states(engine)).toEqual(['idle']);
  });

  it('is not asked for its health again and again while somebody waits for what is granted already', async () => {
    const engine = await machine.start({ features: { freeze: false }, settings: { freezeAfterMs: null } });
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 1, concurrency: 1 });
    gateway.want(KEY, 2);
    await machine.until('two grants', () => gateway.count('grant') === 2);
    const [first] = gateway.heard.flatMap((message) => (message.type === 'grant' ? [message.lease] : []));
    gateway.say({ type: 'release', lease: first!.lease });
    // One waits, and the slot that is granted still will serve it.
    gateway.want(KEY, 1, 0);
    await machine.quiet();
    machine.clock.advance(1_100);
    let asked = 0;
    const health = machine.shims.health.bind(machine.shims);
    machine.shims.health = (address) => {
      asked += 1;
      return health(address);
    };
    await machine.quiet();
    await machine.quiet();
    expect(asked).toBeGreaterThan(0);
    expect(asked).toBeLessThan(4);
  });
});

describe('min', () => {
  it('is kept ready without demand, never frozen, and replaced when one dies', async () => {
    const engine = await machine.start();
    await deploy(machine, engine, 'hello', { min: 2, keepAliveSeconds: 0 });
    await machine.until('two', async () => (await states(engine)).join() === 'idle,idle');
    await machine.pass(10_000);
    expect(await states(engine)).toEqual(['idle', 'idle']);
    const [first] = [...machine.host.instances.keys()];
    machine.host.end(first!);
    await machine.until(
      'its replacement',
      async () => (await states(engine)).join() === 'idle,idle' && !machine.host.instances.has(first!),
    );
  });

  it('is replaced ever more slowly where instances die before they serve anything', async () => {
    const engine = await machine.start();
    await deploy(machine, engine, 'hello', { min: 1 });
    const reaper = setInterval(() => {
      for (const [id, instance] of machine.host.instances)
        if (instance.specialised && machine.shims.revisions.has(id)) machine.host.end(id);
    }, 1);
    try {
      const before = machine.count('create');
      await machine.pass(60_000, 100);
      // Two at once, then after 1, 2, 4 … 32 s less jitter; some end while they are loading, which counts apart.
      expect(machine.count('create') - before).toBeLessThanOrEqual(20);
    } finally {
      clearInterval(reaper);
    }
    expect((await engine.status()).functions).toHaveLength(1);
  });
});

describe('leases', () => {
  it('are granted once for a demand that was told twice', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    gateway.want(KEY, 5);
    gateway.want(KEY, 6);
    await machine.until('a grant', () => gateway.count('grant') > 0);
    await machine.pass(500);
    expect(gateway.count('grant')).toBe(1);
  });

  it('move to a gateway that has none when max is reached [8]', async () => {
    const engine = await machine.start();
    const one = await machine.gateway({ gateway: 'one' });
    await deploy(machine, engine, 'hello', { max: 1, concurrency: 10 });
    one.want(KEY, 4);
    const grant = await machine.until('the first grant', () => one.heard.find((message) => message.type === 'grant'));
    expect(grant.lease.slots).toBe(10);
    one.want(KEY, 0, 8);
    const two = await machine.gateway({ gateway: 'two' });
    two.want(KEY, 3);
    const revoke = await machine.until('a revoke', () => one.heard.find((message) => message.type === 'revoke'));
    expect(revoke).toMatchObject({ lease: grant.lease.lease, slots: 5 });
    expect(two.count('grant')).toBe(0);
    one.say({ type: 'release', lease: grant.lease.lease, slots: 5 });
    expect((await two.next('grant')).lease.slots).toBe(3);
    expect(machine.clock.now()).toBeLessThan(2_000);
    // The one that gave keeps the rest, and says so when it comes again.
    one.close();
    const again = await machine.gateway({ gateway: 'one', held: [{ ...grant.lease, slots: 5 }] });
    expect((await again.next('welcome')).keep).toEqual([grant.lease.lease]);
  });

  it('that were revoked are free at the deadline, whatever the gateway says [8]', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { timeoutSeconds: 5, keepAliveSeconds: 600 });
    gateway.want(KEY, 1);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    gateway.want(KEY, 0, 1);
    await deploy(machine, engine, 'hello', { timeoutSeconds: 5, keepAliveSeconds: 600 });
    await machine.until('a revoke', () => gateway.heard.find((message) => message.type === 'revoke'));
    await machine.pass(5_000);
    expect(machine.host.instances.has(lease.instance)).toBe(true);
    await machine.until('the old instance is gone', () => !machine.host.instances.has(lease.instance), 100);
  });
});

describe.each(['unix', 'tcp'])('a gateway that is lost, over %s [12]', (over) => {
  beforeEach(() => {
    if (over === 'tcp') machine.network = new LinkFiles(machine.paths.home);
  });

  it('keeps its leases for five seconds of a link that is down', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') > 0);
    gateway.close();
    await machine.pass(4_000, 100);
    expect(await states(engine)).toEqual(['busy']);
    await machine.until('free', async () => (await states(engine)).join() !== 'busy');
    expect(machine.clock.now()).toBeGreaterThanOrEqual(4_900);
  });

  // The number of a process on another host says nothing here: one that cannot be heard may serve on.
  it('loses them at once when its process is gone, where it is of this host', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway({ pid: 2 ** 30 });
    await deploy(machine, engine, 'hello');
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') > 0);
    const at = machine.clock.now();
    gateway.close();
    await machine.until('free', async () => (await states(engine)).join() !== 'busy', over === 'unix' ? 1 : 50);
    if (over === 'unix') expect(machine.clock.now() - at).toBeLessThan(4_000);
    else expect(machine.clock.now() - at).toBeGreaterThanOrEqual(4_900);
  });

  it('takes nothing from others while its link is down: what it waited for goes to them', async () => {
    const engine = await machine.start();
    const one = await machine.gateway({ gateway: 'one' });
    await deploy(machine, engine, 'hello', { max: 1, concurrency: 1 });
    one.want(KEY, 1);
    const { lease } = await machine.until('a grant', () => one.heard.find((message) => message.type === 'grant'));
    const two = await machine.gateway({ gateway: 'two' });
    const three = await machine.gateway({ gateway: 'three' });
    two.want(KEY, 1);
    await machine.quiet();
    three.want(KEY, 1);
    await machine.quiet();
    two.close();
    await machine.quiet();
    one.want(KEY, 0);
    one.say({ type: 'release', lease: lease.lease });
    const at = machine.clock.now();
    await machine.until('the slot', () => three.count('grant') > 0);
    expect(machine.clock.now() - at).toBeLessThan(4_000);
  });

  it('and comes back: what it holds is kept, what it forgot is free, what it asked is asked anew [3, 5]', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { concurrency: 1, keepAliveSeconds: 600 });
    gateway.want(KEY, 2);
    await machine.until('two grants', () => gateway.count('grant') === 2);
    const held = gateway.heard.flatMap((message) => (message.type === 'grant' ? [message.lease] : []));
    gateway.want(KEY, 0, 2);
    await machine.quiet();
    gateway.close();
    const again = await machine.gateway({ held: [held[0]!, { ...held[1]!, lease: 'l-0000000000000000', slots: 1 }] });
    const welcome = await again.next('welcome');
    expect(welcome.keep).toEqual([held[0]!.lease, 'l-0000000000000000']);
    const third = await machine.gateway({ boot: 'later', held: [{ ...held[0]!, lease: 'l-0000000000000001' }] });
    expect(await third.next('welcome')).toMatchObject({ keep: [], drop: ['l-0000000000000001'] });
    // It has not said that anything is in flight: a deployment has no load to prepare for.
    const before = machine.count('specialise');
    await deploy(machine, engine, 'hello', { concurrency: 1 });
    expect(machine.count('specialise') - before).toBe(1);
  });
});
