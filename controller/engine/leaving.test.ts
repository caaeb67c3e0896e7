/** Instances that others take away, and those that another controller has claimed. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deploy, Machine, request } from '../../test/helpers/engine-harness.ts';
import { ClaimLost, type Driver, type Leaving } from '../driver/types.ts';
import type { Engine } from './engine.ts';

const KEY = 'default/hello@1';
const GRACE_MS = 10_000;

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

/** A driver that has heard that an instance leaves before anybody listened. */
const told = (driver: Driver, leaving: Leaving): Driver =>
  new Proxy(driver, {
    get(target, name) {
      if (name === 'onLeaving')
        return (listener: (leaving: Leaving) => void) => {
          target.onLeaving(listener);
          listener(leaving);
        };
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });

const instances = async (engine: Engine) => (await engine.status()).instances.filter((view) => view.revision === KEY);
const ids = async (engine: Engine) => (await instances(engine)).map(({ id }) => id);

describe('an instance that is about to be taken away', () => {
  it('in use: serves on until a fresh one is ready, then its lease is taken back and it is killed', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    gateway.want(KEY, 1);
    const grant = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    const leaving = grant.lease.instance;
    machine.host.leave({ id: leaving, why: 'its node is drained', graceMs: GRACE_MS });
    const revoke = await machine.until('a revoke', () => gateway.heard.find((message) => message.type === 'revoke'));
    expect(revoke.lease).toBe(grant.lease.lease);
    const order = gateway.heard.map(({ type }) => type);
    expect(order.indexOf('gone')).toBe(-1);
    const ready = await ids(engine);
    expect(ready.filter((id) => id !== leaving)).toHaveLength(1);
    gateway.say({ type: 'release', lease: grant.lease.lease });
    await machine.until('it is gone', async () => !(await ids(engine)).includes(leaving));
  });

  it('in use, where no fresh one can be had: what is in flight may end, then it is killed', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    gateway.want(KEY, 1);
    const grant = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    for (let count = 0; count < 50; count++) machine.host.failNext('create', new Error('no room in the cluster'));
    for (let count = 0; count < 50; count++) machine.host.failNext('specialise', new Error('no room in the cluster'));
    const leaving = grant.lease.instance;
    machine.host.leave({ id: leaving, why: 'its node is drained', graceMs: GRACE_MS });
    await machine.pass(GRACE_MS / 2 - 1_000);
    expect(gateway.count('revoke')).toBe(0);
    await machine.until('a revoke', () => gateway.count('revoke') > 0);
    expect(await ids(engine)).toContain(leaving);
    gateway.say({ type: 'release', lease: grant.lease.lease });
    await machine.until('it is gone', async () => !(await ids(engine)).includes(leaving));
  });

  it('idle or generic: is killed at once, and the pool is filled again', async () => {
    const engine = await machine.start({ settings: { poolSize: 2 } });
    const generics = async () => (await engine.status()).instances.filter(({ state }) => state === 'generic');
    const generic = await machine.until('a pool', async () => {
      const now = await generics();
      return now.length > 0 ? now : null;
    });
    machine.host.leave({ id: generic[0]!.id, why: 'its node is drained', graceMs: GRACE_MS });
    const now = await machine.until('another is there', async () => {
      const left = (await generics()).map(({ id }) => id).filter((id) => id !== generic[0]!.id);
      return left.length >= generic.length ? left : null;
    });
    expect(now.some((id) => generic.every((before) => before.id !== id))).toBe(true);
  });

  it('idle, with something in flight in it: that may end first', async () => {
    const engine = await machine.start();
    await deploy(machine, engine, 'hello');
    const [leaving] = await ids(engine);
    machine.shims.inFlight.set(leaving!, 1);
    machine.host.leave({ id: leaving!, why: 'its node is drained', graceMs: GRACE_MS });
    await machine.pass(GRACE_MS / 4);
    expect(machine.host.instances.get(leaving!)?.running).toBe(true);
    machine.shims.inFlight.set(leaving!, 0);
    await machine.until('it is gone', async () => !(await ids(engine)).includes(leaving!));
  });

  it('told of while a controller takes over: what a gateway holds of it is served on', async () => {
    const first = await machine.start();
    await deploy(machine, first, 'hello');
    const [leaving] = await ids(first);
    await first.close();
    const word = { id: leaving!, why: 'its node is drained', graceMs: GRACE_MS };
    // Before the inventory knows of any instance.
    const engine = await machine.start({ driver: (driver) => told(driver, word) });
    expect((await engine.status()).instances.find(({ id }) => id === leaving)?.state).not.toBe('draining');
    const gateway = await machine.gateway();
    gateway.want(KEY, 1);
    const grant = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    expect(grant.lease.instance).not.toBe(leaving);
    await machine.until('it is gone', async () => !(await ids(engine)).includes(leaving!));
  });

  it('that is not known is nobody’s business', async () => {
    const engine = await machine.start();
    machine.host.leave({ id: 'i-000000000000', why: 'gone', graceMs: GRACE_MS });
    expect((await engine.status()).functions).toEqual([]);
  });
});

describe('an instance that another controller has claimed', () => {
  it('is left alone, and another one is claimed in its place', async () => {
    const engine = await machine.start();
    await machine.quiet();
    machine.host.failNext('specialise', new ClaimLost('it is default/other@1 now'));
    const response = deploy(machine, engine, 'hello');
    await response;
    const claimed = machine.host.calls.filter(({ operation }) => operation === 'specialise').map(({ id }) => id);
    expect(claimed).toHaveLength(2);
    expect(claimed[0]).not.toBe(claimed[1]);
    const killed = machine.host.calls.filter(({ operation }) => operation === 'kill').map(({ id }) => id);
    expect(killed).not.toContain(claimed[0]);
    expect(machine.host.instances.get(claimed[0]!)?.running).toBe(true);
    // Nobody else would, where this one leads on.
    await machine.until('its end', () => !machine.host.instances.has(claimed[0]!), 1_000);
    await machine.until('nobody counts it', async () => (await engine.status()).instances.every(({ id }) => id !== claimed[0]));
  });
});

describe('a sandbox', () => {
  it('that the driver does not have is refused with a pointer, before anything is started', async () => {
    const engine = await machine.start();
    const refused = engine.deploy('default', 'hello', request({ sandbox: 'gvisor' }), new AbortController().signal);
    await expect(refused).rejects.toMatchObject({ code: 'invalid', options: { errors: [{ pointer: '/settings/sandbox' }] } });
    expect(machine.host.calls.filter(({ operation }) => operation === 'specialise')).toEqual([]);
  });
});
