/** Secrets: how they reach instances, and how those that have an old value are replaced. */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { silentLog } from '#kit/log.ts';
import { deploy, driven, loaded, Machine, request } from '../../test/helpers/engine-harness.ts';
import { openSqliteStore } from '../store/sqlite/store.ts';
import type { SecretValues } from './context.ts';
import type { Engine } from './engine.ts';

const CANARY = 'canary-3f1c';
const KEY = 'default/hello@1';

let machine: Machine;
/** Values by name; the store has only that they are there, and their versions. */
let values: Map<string, { value: string; version: number }>;

const secrets: SecretValues = {
  reveal: async (_namespace, names) =>
    new Map(
      names.map((name) => {
        const value = values.get(name);
        if (!value) throw new FnError('secret-not-found', `There is no secret ${name} in the namespace default.`);
        return [name, value];
      }),
    ),
};

beforeEach(async () => {
  machine = await Machine.create();
  values = new Map();
});
afterEach(() => machine.close());

/** Sets a value the way the platform does: in the store first, then the engine is told. */
async function set(engine: Engine | null, name: string, value: string): Promise<void> {
  const store = openSqliteStore({ path: machine.paths.database, log: silentLog });
  const version = await store.reserveSecretVersion('default', name);
  await store.putSecret({ namespace: 'default', name, version, updatedAt: 0, sealed: new Uint8Array(40) });
  await store.close();
  values.set(name, { value, version });
  engine?.secretChanged('default', name);
}

const start = () => machine.start({ secrets });
const instances = async (engine: Engine) => (await engine.status()).instances.filter((view) => view.revision === KEY);
const ids = async (engine: Engine) => (await instances(engine)).map(({ id }) => id);
/** What the instances that run were given. */
const given = (name: string) => machine.shims.inits.map((init) => init.env[name]);

describe('a secret on its way', () => {
  it('is in the init request, beside the environment, and nowhere on disk', async () => {
    await set(null, 'DB', CANARY);
    const engine = await start();
    await deploy(machine, engine, 'hello', { secrets: ['DB'], env: { PLAIN: 'x' } });
    expect(machine.shims.inits.at(-1)?.env).toEqual({ PLAIN: 'x', DB: CANARY });
    const records = await Promise.all(
      (await readdir(machine.paths.records)).map((file) => readFile(join(machine.paths.records, file), 'utf8')),
    );
    expect(records.join()).toContain('"secrets":{"DB":1}');
    expect(records.join()).not.toContain(CANARY);
  });

  it('that does not exist: the deployment is refused with a pointer, before anything is started', async () => {
    const engine = await start();
    await set(engine, 'DB', 'x');
    const refused = engine.deploy('default', 'hello', request({ secrets: ['DB', 'API'] }), new AbortController().signal);
    await expect(refused).rejects.toMatchObject({ code: 'invalid', options: { errors: [{ pointer: '/settings/secrets/1' }] } });
    expect(machine.count('create')).toBe(0);
  });

  it('that was deleted: a start fails and names it; set again, whoever asks next is served at once', async () => {
    const engine = await start();
    const gateway = await machine.gateway();
    await set(engine, 'DB', 'x');
    await deploy(machine, engine, 'hello', { secrets: ['DB'], keepAliveSeconds: 0 });
    await machine.until('it is stopped', async () => (await instances(engine)).length === 0);
    values.clear();
    gateway.want(KEY, 1);
    const fail = await machine.until('a failure', () => gateway.heard.find((message) => message.type === 'fail'));
    expect(fail.problem).toMatchObject({ code: 'function-init-failed', detail: expect.stringContaining('DB') });
    await set(engine, 'DB', 'y');
    const grants = gateway.count('grant');
    const asked = machine.clock.now();
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') > grants);
    expect(machine.clock.now() - asked).toBeLessThan(500);
  });

  it('that changes while it is read is read again', async () => {
    const engine = await start();
    await set(engine, 'DB', 'old');
    let during: (() => Promise<void>) | null = () => set(engine, 'DB', 'new');
    const reveal = secrets.reveal;
    secrets.reveal = async (namespace, names) => {
      const before = await reveal(namespace, names);
      const change = during;
      during = null;
      await change?.();
      return before;
    };
    try {
      await deploy(machine, engine, 'hello', { secrets: ['DB'] });
    } finally {
      secrets.reveal = reveal;
    }
    expect(given('DB')).toEqual(['new']);
  });
});

describe('a new value', () => {
  it('replaces what is idle at once, and leaves alone who does not use it', async () => {
    const engine = await start();
    await set(engine, 'DB', 'old');
    await deploy(machine, engine, 'hello', { secrets: ['DB'] });
    await deploy(machine, engine, 'other', {});
    const [old] = await ids(engine);
    await set(engine, 'DB', 'new');
    await machine.until('the old one is gone', async () => !(await ids(engine)).includes(old!));
    expect((await engine.status()).instances.map((view) => view.function)).toEqual(['other']);
  });

  it('has as many fresh ones ready as the load needs, before those in use are let go', async () => {
    const engine = await start();
    const gateway = await machine.gateway();
    await set(engine, 'DB', 'old');
    await deploy(machine, engine, 'hello', { secrets: ['DB'], concurrency: 2, min: 1, max: 3 });
    gateway.want(KEY, 5);
    await machine.until('three grants', () => gateway.count('grant') === 3);
    gateway.want(KEY, 0, 5);
    await machine.quiet();
    const old = await ids(engine);
    expect(old).toHaveLength(3);
    let freshAtRevoke = 0;
    await set(engine, 'DB', 'new');
    await machine.until(
      'revokes',
      async () => {
        const fresh = (await ids(engine)).filter((id) => !old.includes(id)).length;
        if (gateway.count('revoke') === 0) freshAtRevoke = fresh;
        return gateway.count('revoke') === 3;
      },
      1,
    );
    // `max` holds for those that stay.
    expect(freshAtRevoke).toBe(3);
    expect((await ids(engine)).filter((id) => old.includes(id))).toHaveLength(3);
    for (const message of gateway.heard) if (message.type === 'grant') gateway.say({ type: 'release', lease: message.lease.lease });
    await machine.until('the old ones are gone', async () => (await ids(engine)).every((id) => !old.includes(id)));
    gateway.want(KEY, 5);
    await machine.until('grants of fresh ones', () => gateway.count('grant') > 3);
    for (const message of gateway.heard.slice(-1)) if (message.type === 'grant') expect(old).not.toContain(message.lease.instance);
    expect(given('DB').filter((value) => value === 'new').length).toBeGreaterThanOrEqual(3);
  });

  it('that comes while a fresh one is being loaded makes that one stale, too: those in use stay until there is a better one', async () => {
    const engine = await start();
    const gateway = await machine.gateway();
    await set(engine, 'DB', 'old');
    await deploy(machine, engine, 'hello', { secrets: ['DB'] });
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') === 1);
    gateway.want(KEY, 0, 1);
    const first = Promise.withResolvers<void>();
    const second = Promise.withResolvers<void>();
    machine.shims.onInit = async (init) => {
      await (init.env.DB === 'newer' ? second : first).promise;
      return loaded(init);
    };
    await set(engine, 'DB', 'new');
    await machine.until('it is being loaded', () => given('DB').includes('new'));
    await set(engine, 'DB', 'newer');
    first.resolve();
    await machine.until('the newer one is being loaded', () => given('DB').includes('newer'));
    await machine.pass(500);
    expect(gateway.count('revoke')).toBe(0);
    second.resolve();
    await machine.until('a revoke', () => gateway.count('revoke') > 0);
  });

  it('brings up of a revision with a share of the traffic its share of `min`, no more', async () => {
    const engine = await start();
    const gateway = await machine.gateway();
    await set(engine, 'DB', 'old');
    const settings = { secrets: ['DB'], min: 4, max: 8 };
    await deploy(machine, engine, 'hello', settings);
    await deploy(machine, engine, 'hello', settings);
    const traffic = [
      { revision: 2, percent: 75 },
      { revision: 1, percent: 25 },
    ];
    await driven(machine, engine.setTraffic('default', 'hello', traffic, null, new AbortController().signal));
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') === 1);
    await machine.until('what is too many has gone', async () => (await instances(engine)).length === 1, 200);
    const before = machine.shims.inits.length;
    await set(engine, 'DB', 'new');
    await machine.until('a revoke', () => gateway.count('revoke') === 1);
    const fresh = machine.shims.inits.slice(before).filter(({ revision }) => revision === KEY);
    expect(fresh).toHaveLength(1);
  });

  it('with which the function does not start: those in use serve what they hold, and a better value replaces them', async () => {
    const engine = await start();
    const gateway = await machine.gateway();
    await set(engine, 'DB', 'old');
    await deploy(machine, engine, 'hello', { secrets: ['DB'] });
    gateway.want(KEY, 1);
    await machine.until('a grant', () => gateway.count('grant') === 1);
    gateway.want(KEY, 0, 1);
    const [old] = await ids(engine);
    machine.shims.onInit = (init) =>
      init.env.DB === 'wrong' ? { ok: false, error: { name: 'Error', message: 'no access' } } : loaded(init);
    await set(engine, 'DB', 'wrong');
    await machine.until('it was tried', () => given('DB').includes('wrong'));
    await machine.pass(5_000);
    expect(await ids(engine)).toContain(old);
    expect(gateway.count('revoke')).toBe(0);
    await machine.until('it was tried again', () => given('DB').filter((value) => value === 'wrong').length > 3, 500);
    await set(engine, 'DB', 'right');
    await machine.until('a revoke', () => gateway.count('revoke') === 1);
    expect(given('DB').at(-1)).toBe('right');
  });

  it('during a deployment reaches the instance that is being deployed', async () => {
    const engine = await start();
    const gateway = await machine.gateway({ acknowledge: false });
    gateway.say({ type: 'routed', version: (await gateway.next('welcome')).version });
    await set(engine, 'DB', 'old');
    const deploying = engine.deploy('default', 'hello', request({ secrets: ['DB'] }), new AbortController().signal);
    const routes = await machine.until('it is committed', () => gateway.heard.find((message) => message.type === 'routes'), 1);
    const [old] = await ids(engine);
    await set(engine, 'DB', 'new');
    gateway.say({ type: 'routed', version: routes.version });
    await driven(machine, deploying);
    gateway.want(KEY, 1);
    const grant = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    expect(grant.lease.instance).not.toBe(old);
    expect(given('DB').at(-1)).toBe('new');
  });

  it('that nothing starts with is tried again for each function once, not for each failure', async () => {
    const engine = await start();
    const gateway = await machine.gateway();
    await set(engine, 'DB', 'old');
    for (const name of ['a', 'b', 'c']) {
      await deploy(machine, engine, name, { secrets: ['DB'] });
      gateway.want(`default/${name}@1`, 1);
    }
    await machine.until('grants', () => gateway.count('grant') === 3);
    for (const name of ['a', 'b', 'c']) gateway.want(`default/${name}@1`, 0, 1);
    machine.shims.onInit = (init) => (init.env.DB === 'old' ? loaded(init) : { ok: false, error: { name: 'Error', message: 'no access' } });
    await set(engine, 'DB', 'wrong');
    await set(engine, 'DB', 'wrong too');
    await machine.pass(10_000, 250);
    const before = machine.shims.inits.length;
    await machine.pass(90_000, 250);
    // Three functions, every thirty seconds.
    const attempts = machine.shims.inits.length - before;
    expect(attempts).toBeGreaterThanOrEqual(6);
    expect(attempts).toBeLessThanOrEqual(12);
  });

  it('is heard by frozen instances: they are stopped', async () => {
    const engine = await start();
    await set(engine, 'DB', 'old');
    await deploy(machine, engine, 'hello', { secrets: ['DB'] });
    await machine.until('it is frozen', async () => (await instances(engine))[0]?.state === 'frozen', 100);
    await set(engine, 'DB', 'new');
    await machine.until('it is gone', async () => (await instances(engine)).length === 0);
    expect(machine.host.instances.size).toBe(0);
  });

  it('that the controller could not finish with: the next one does, by the versions in the records', async () => {
    const engine = await start();
    await set(engine, 'DB', 'old');
    await set(engine, 'OTHER', 'x');
    await deploy(machine, engine, 'hello', { secrets: ['DB'], min: 1 });
    const [old] = await ids(engine);
    await engine.close();
    await set(null, 'OTHER', 'y');
    const same = await start();
    await machine.quiet();
    expect(await ids(same)).toEqual([old]);
    await same.close();
    await set(null, 'DB', 'new');
    const next = await start();
    await machine.until(
      'a fresh one is there, and the old one gone',
      async () => {
        const now = await ids(next);
        return now.length === 1 && now[0] !== old;
      },
      200,
    );
    expect(given('DB').at(-1)).toBe('new');
  });

  it('that the controller could not finish with: a gateway that comes back with a lease of the old one gets a fresh one for it', async () => {
    const engine = await start();
    await set(engine, 'DB', 'old');
    await deploy(machine, engine, 'hello', { secrets: ['DB'] });
    const before = await machine.gateway();
    before.want(KEY, 1);
    const { lease } = await before.next('grant');
    before.want(KEY, 0, 1);
    await machine.quiet();
    await engine.close();
    await set(null, 'DB', 'new');
    const next = await start();
    // After the inventory, as gateways come that look for the link once a second.
    await machine.quiet();
    const gateway = await machine.gateway({ held: [lease] });
    expect((await gateway.next('welcome')).keep).toEqual([lease.lease]);
    gateway.want(KEY, 0, 1);
    const revoke = await machine.until('a revoke', () => gateway.heard.find((message) => message.type === 'revoke'));
    expect(revoke).toMatchObject({ lease: lease.lease, slots: 0 });
    expect(await ids(next)).toHaveLength(2);
    expect(given('DB').at(-1)).toBe('new');
  });

  it('says why whoever waited for a fresh one had to wait', async () => {
    const engine = await start();
    const gateway = await machine.gateway();
    await set(engine, 'DB', 'old');
    await deploy(machine, engine, 'hello', { secrets: ['DB'], concurrency: 1 });
    gateway.say({
      type: 'want',
      revision: KEY,
      waiting: 2,
      inFlight: 0,
      oldestDeadline: Date.now() + 30_000,
      serviceMs: 0,
      traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
    });
    await machine.until('two grants', () => gateway.count('grant') === 2);
    const reasons = gateway.heard.flatMap((message) => (message.type === 'grant' ? [message.start.reason ?? message.start.kind] : []));
    expect(reasons).toEqual(['warm', 'burst']);
    expect(machine.starts.map(({ revision, traceparent }) => [revision, traceparent !== null])).toEqual([
      [KEY, false],
      [KEY, true],
    ]);
    await driven(machine, engine.delete('default', 'hello'));
  });
});
