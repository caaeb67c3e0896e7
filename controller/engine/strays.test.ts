/** Instances that nobody knows, and a controller that leads no more. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newInstanceId } from '#kit/ids.ts';
import { silentLog } from '#kit/log.ts';
import { deploy, Machine } from '../../test/helpers/engine-harness.ts';
import { createFakeDriver } from '../driver/fake/driver.ts';
import type { CreateSpec, Driver } from '../driver/types.ts';
import { openSqliteStore } from '../store/sqlite/store.ts';

/** A driver whose kills wait. */
const slowKill = (driver: Driver, until: Promise<void>): Driver =>
  new Proxy(driver, {
    get(target, name) {
      if (name === 'kill') return (id: string) => until.then(() => target.kill(id));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

const spec = (): CreateSpec => ({
  id: newInstanceId(),
  runtime: 'node',
  memoryClassMib: 128,
  network: 'none',
  image: null,
  sandbox: null,
  nonce: 'n',
});

describe('an instance that nobody knows', () => {
  it('as where a creation of the controller before comes true late, is ended; none else is', async () => {
    const engine = await machine.start({ settings: { poolSize: 1 } });
    await deploy(machine, engine, 'hello', { min: 1 });
    await machine.until('the pool', async () => (await engine.status()).instances.some(({ state }) => state === 'generic'));
    const known = (await engine.status()).instances.map(({ id }) => id).toSorted();
    const late = spec();
    const other = createFakeDriver({ host: machine.host });
    await other.start();
    await other.create(late, new AbortController().signal);
    expect(machine.host.instances.has(late.id)).toBe(true);
    await machine.pass(50_000, 1_000);
    expect(machine.host.instances.has(late.id)).toBe(true);
    await machine.until('its end', () => !machine.host.instances.has(late.id), 1_000);
    expect([...machine.host.instances.keys()].toSorted()).toEqual(known);
  });
});

describe('a controller that leads no more', () => {
  it('decides nothing and kills nothing, whatever it had in mind', async () => {
    let leads = true;
    const engine = await machine.start({ settings: { poolSize: 1 }, leads: () => leads });
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 1 });
    await machine.until('the pool', async () => (await engine.status()).instances.some(({ state }) => state === 'generic'));
    const before = [...machine.host.instances.keys()].toSorted();
    leads = false;
    const calls = machine.host.calls.length;
    machine.host.leave({ id: before[0]!, why: 'its node is drained', graceMs: 1_000 });
    await machine.pass(130_000, 1_000);
    expect([...machine.host.instances.keys()].toSorted()).toEqual(before);
    expect(machine.host.calls.slice(calls).map(({ operation }) => operation)).not.toContain('create');
  });
});

describe('a controller that began to lead before', () => {
  it('leads under the term that it raised then, and raises none', async () => {
    await machine.start({ term: 7 });
    const gateway = await machine.gateway();
    expect(gateway.heard.find(({ type }) => type === 'welcome')?.term).toBe(7);
    const store = openSqliteStore({ path: machine.paths.database, log: silentLog });
    expect(await store.raiseTerm()).toBe(1);
    await store.close();
  });
});

describe('a controller that ends while an instance does not go', () => {
  it('gives up its lease in time: whoever leads next finds it', async () => {
    let resigned = false;
    let release = () => {};
    const engine = await machine.start({
      driver: (driver) => slowKill(driver, new Promise<void>((resolve) => (release = resolve))),
      resign: async () => void (resigned = true),
    });
    await deploy(machine, engine, 'hello');
    const [instance] = [...machine.host.instances.keys()];
    machine.host.leave({ id: instance!, why: 'its node is gone', graceMs: 0 });
    await machine.pass(500);
    const closing = engine.close();
    await machine.until('its lease is given up', () => resigned, 500);
    expect(machine.host.instances.has(instance!)).toBe(true);
    release();
    await closing;
  });
});
