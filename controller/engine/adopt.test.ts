import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '#kit/log.ts';
import { deploy, driven, Machine } from '../../test/helpers/engine-harness.ts';
import { TestGateway } from '../../test/helpers/test-gateway.ts';
import { openSqliteStore } from '../store/sqlite/store.ts';
import type { Engine } from './engine.ts';

const KEY = 'default/hello@1';
let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

const views = async (engine: Engine) => (await engine.status()).instances;
const states = async (engine: Engine) => (await views(engine)).map((view) => view.state).sort();
const ids = () => [...machine.host.instances.keys()].sort();

/** A controller that deployed hello and has a generic instance, and then ended. Returns its two instances. */
async function before(settings: Parameters<typeof deploy>[3] = {}): Promise<{ serving: string; generic: string }> {
  const engine = await machine.start({ settings: { poolSize: 1 } });
  await deploy(machine, engine, 'hello', settings);
  await machine.until('the pool', async () => (await states(engine)).includes('generic'));
  const found = await views(engine);
  await engine.close();
  return { serving: found.find((view) => view.function === 'hello')!.id, generic: found.find((view) => view.state === 'generic')!.id };
}

async function changeRecord(id: string, change: object): Promise<void> {
  const file = join(machine.paths.records, `${id}.json`);
  await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, 'utf8')), ...change }));
}

describe('a controller that starts anew', () => {
  it('adopts what serves and what is generic, and begins nothing', async () => {
    const { serving, generic } = await before();
    const creates = machine.count('create');
    const engine = await machine.start({ settings: { poolSize: 1 } });
    expect(ids()).toEqual([serving, generic].sort());
    expect(await states(engine)).toEqual(['generic', 'idle']);
    const gateway = await machine.gateway();
    gateway.want(KEY, 1);
    expect((await gateway.next('grant')).lease).toMatchObject({ instance: serving, slots: 10 });
    expect(machine.count('create')).toBe(creates);
  });

  it('notes in its function’s log how an adopted instance ended', async () => {
    const { serving } = await before();
    const engine = await machine.start();
    machine.host.end(serving, 'exit', 'exit code 3');
    await machine.until('it is gone', () => !ids().includes(serving));
    const notes = await machine.until('a note', async () => {
      const found: string[] = [];
      for await (const entry of engine.logs('default', 'hello', { follow: false, level: 'error' }, new AbortController().signal))
        found.push(entry.msg);
      return found.length > 0 && found;
    });
    expect(notes).toEqual([`instance ${serving} ended: exit code 3`]);
  });

  it('thaws what was frozen, and serves it', async () => {
    const first = await machine.start();
    await deploy(machine, first, 'hello');
    await machine.until('frozen', async () => (await states(first)).join() === 'frozen');
    await first.close();
    const engine = await machine.start();
    expect(await states(engine)).toEqual(['idle']);
    await machine.until('frozen again', async () => (await states(engine)).join() === 'frozen');
  });

  it.each([
    ['without a record', async (id: string) => writeFile(join(machine.paths.records, `${id}.json`), 'half a rec')],
    ['that was started at another time', async (id: string) => changeRecord(id, { startedAt: 'yesterday' })],
    [
      'that was being initialised',
      async (id: string) => (await changeRecord(id, { initialised: false }), void machine.shims.revisions.delete(id)),
    ],
    [
      'that was being initialised, and does not answer',
      async (id: string) => (await changeRecord(id, { initialised: false }), void machine.shims.hung.add(id)),
    ],
    ['of a revision that nobody knows', async (id: string) => changeRecord(id, { revision: 'default/other@9' })],
    ['that says it is another revision', async (id: string) => void machine.shims.revisions.set(id, 'default/hello@9')],
    ['that says it is generic', async (id: string) => void machine.shims.revisions.delete(id)],
    ['that has ended meanwhile', async (id: string) => machine.host.end(id)],
  ])('destroys one %s, with its record', async (_name, spoil) => {
    const { serving, generic } = await before();
    await spoil(serving);
    const engine = await machine.start({ settings: { poolSize: 1 } });
    await machine.until('it is gone', async () => ids().join() === generic && (await states(engine)).join() === 'generic');
    expect((await readdir(machine.paths.records)).filter((file) => !file.startsWith(generic))).toEqual([]);
  });

  it('goes on with one that is initialised, where there was no time to write that down', async () => {
    const { serving } = await before();
    await changeRecord(serving, { initialised: false });
    const engine = await machine.start();
    expect((await views(engine)).find((view) => view.id === serving)?.state).toBe('idle');
  });

  it('destroys a generic one that was initialised behind its back', async () => {
    const { serving, generic } = await before();
    machine.shims.revisions.set(generic, KEY);
    const engine = await machine.start();
    await machine.until('it is gone', () => ids().join() === serving);
    expect((await views(engine)).map((view) => view.state)).not.toContain('generic');
  });

  it('removes records and places in logs of instances that are no more', async () => {
    await before();
    await writeFile(join(machine.paths.records, 'i-aaaaaaaaaaaa.log-position'), '5');
    await writeFile(join(machine.paths.records, 'i-aaaaaaaaaaaa.json.tmp'), '{');
    await machine.start();
    expect((await readdir(machine.paths.records)).filter((file) => file.startsWith('i-aaaa'))).toEqual([]);
  });

  it('starts all the same where one of those cannot be killed, and tries again', async () => {
    const { serving, generic } = await before();
    await changeRecord(serving, { startedAt: 'yesterday' });
    machine.host.failNext('kill', new Error('busy'));
    const engine = await machine.start({ settings: { poolSize: 1 } });
    expect(await states(engine)).toEqual(['draining', 'generic']);
    expect((await engine.status()).budget.memoryUsedMib).toBe(256);
    await machine.until('it is gone', () => ids().join() === generic);
  });

  it('waits for one that is too busy to answer, as long as its function may take', async () => {
    const { serving } = await before({ timeoutSeconds: 10 });
    machine.shims.hung.add(serving);
    const engine = await machine.start();
    const gateway = await machine.gateway();
    gateway.want(KEY, 1);
    await machine.quiet();
    expect(gateway.heard.filter((message) => message.type === 'grant' && message.lease.instance === serving)).toEqual([]);
    gateway.want(KEY, 0);
    await machine.pass(3_000);
    expect(ids()).toContain(serving);
    machine.shims.hung.delete(serving);
    await machine.pass(1_500);
    expect(ids()).toContain(serving);
    expect((await views(engine)).some((view) => view.id === serving && view.state !== 'draining')).toBe(true);
  });

  it('ends one that does not answer within the function’s timeout', async () => {
    const { serving } = await before({ timeoutSeconds: 10 });
    machine.shims.hung.add(serving);
    await machine.start();
    await machine.pass(5_000);
    expect(ids()).toContain(serving);
    await machine.until('it is gone', () => !ids().includes(serving), 100);
  });

  it('hears of one that ends while the inventory is taken', async () => {
    const { serving } = await before();
    const health = machine.shims.health.bind(machine.shims);
    machine.shims.health = async (address) => {
      const answer = await health(address);
      if (answer.instance === serving) machine.host.end(serving);
      return answer;
    };
    const engine = await machine.start();
    await machine.until('it is gone', () => !ids().includes(serving));
    expect((await views(engine)).map((view) => view.state)).not.toContain('idle');
  });

  it('keeps an old revision that is still in use, and lets it go then', async () => {
    const first = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, first, 'hello', { timeoutSeconds: 60 });
    gateway.want(KEY, 1);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    await deploy(machine, first, 'hello');
    machine.shims.inFlight.set(lease.instance, 1);
    await first.close();
    const engine = await machine.start();
    await machine.pass(8_000);
    // What is on its way out besides may take a moment of real time.
    await machine.until(
      'one of each',
      async () =>
        (await views(engine))
          .map((view) => view.revision)
          .sort()
          .join() === `${KEY},default/hello@2`,
    );
    expect(machine.host.instances.has(lease.instance)).toBe(true);
    machine.shims.inFlight.set(lease.instance, 0);
    await machine.until(
      'the old one is gone',
      async () => (await views(engine)).length === 1 && !machine.host.instances.has(lease.instance),
      100,
    );
  });

  it('does not mind a wall clock that jumps', async () => {
    const first = await machine.start();
    await machine.gateway();
    await deploy(machine, first, 'hello', { keepAliveSeconds: 60 });
    await machine.until('frozen', async () => (await states(first)).join() === 'frozen');
    machine.clock.jumpWall(3_600_000);
    await machine.pass(1_000);
    expect(await states(first)).toEqual(['frozen']);
    machine.clock.jumpWall(-7_200_000);
    await machine.pass(1_000);
    expect(await states(first)).toEqual(['frozen']);
    await first.close();
    const engine = await machine.start();
    expect((await views(engine))[0]!.ageSeconds).toBeGreaterThanOrEqual(0);
    await machine.until('scale to zero, by the clock that does not jump', () => ids().length === 0, 500);
  });
});

describe('gateways while a controller starts [3]', () => {
  it('are answered when the inventory is done; what they hold is kept, and nothing frozen before they could come', async () => {
    const { serving } = await before({ keepAliveSeconds: 2 });
    const engine = await machine.start();
    await machine.pass(4_000);
    expect(await states(engine)).toContain('idle');
    const lease = {
      lease: 'l-0123456789abcdef',
      instance: serving,
      revision: KEY,
      address: { kind: 'unix' as const, path: '/x' },
      slots: 3,
    };
    const gateway = await machine.gateway({ held: [lease] });
    expect(await gateway.next('welcome')).toMatchObject({
      term: 2,
      keep: [lease.lease],
      drop: [],
      routes: [{ name: 'hello', targets: [{ revision: KEY, percent: 100 }] }],
    });
    expect(await states(engine)).toContain('busy');
  });

  it('have dropped what does not fit, is not routed or is not there', async () => {
    const { serving } = await before({ concurrency: 4 });
    await machine.start();
    const lease = (id: string, change: object) => ({
      lease: `l-${id.repeat(16)}`,
      instance: serving,
      revision: KEY,
      address: { kind: 'unix' as const, path: '/x' },
      slots: 3,
      ...change,
    });
    const gateway = await machine.gateway({
      held: [
        lease('a', {}),
        lease('b', { slots: 2 }),
        lease('c', { revision: 'default/hello@7', slots: 1 }),
        lease('d', { instance: 'i-aaaaaaaaaaaa' }),
      ],
    });
    const welcome = await gateway.next('welcome');
    expect(welcome.keep).toEqual([`l-${'a'.repeat(16)}`]);
    expect(welcome.drop).toHaveLength(3);
  });

  it('get no word before the inventory is done', async () => {
    await before();
    let go = () => {};
    const health = machine.shims.health.bind(machine.shims);
    const gate = new Promise<void>((resolve) => (go = resolve));
    machine.shims.health = async (address) => {
      await gate;
      return health(address);
    };
    const starting = machine.start();
    const early = await machine.until('the link', () => TestGateway.connect(machine.paths.linkSocket, {}).catch(() => null));
    await machine.quiet();
    expect(early.heard).toEqual([]);
    go();
    await driven(machine, starting);
    expect((await early.next('welcome')).term).toBe(2);
    early.close();
  });

  it('that know a higher term are not answered at all [1]', async () => {
    const engine = await machine.start();
    const store = openSqliteStore({ path: machine.paths.database, log: silentLog });
    expect(await store.raiseTerm()).toBe(2);
    await store.close();
    const gateway = await TestGateway.connect(machine.paths.linkSocket, { term: 2 });
    await machine.until('it is cut off', () => gateway.closed);
    expect(gateway.heard).toEqual([]);
    expect((await engine.status()).gateway.connected).toBe(0);
  });
});

describe('what is not ours', () => {
  it('is never touched: only what the driver lists is looked at', async () => {
    const { serving, generic } = await before();
    machine.host.calls.length = 0;
    const engine = await machine.start({ settings: { poolSize: 1 } });
    await driven(machine, engine.shutdown());
    const touched = new Set(machine.host.calls.flatMap((call) => call.id ?? []));
    expect([...touched].sort()).toEqual([serving, generic].sort());
  });
});
