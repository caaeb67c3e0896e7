/** Shares of traffic, previews, access, and which revisions are kept. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FunctionAccess } from '#contract/access.ts';
import { NamespaceSettings } from '#contract/tenancy.ts';
import { deploy, driven, loaded, Machine, request } from '../../test/helpers/engine-harness.ts';
import { expired } from './changes.ts';
import { ONE_TENANT, type Tenancy } from './context.ts';
import type { Engine } from './engine.ts';

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

const never = () => new AbortController().signal;
/** `2=90 1=10`: the first is the current one. */
const shares = (text: string) =>
  text.split(' ').map((share) => ({ revision: Number(share.split('=')[0]), percent: Number(share.split('=')[1]) }));
const shift = (engine: Engine, traffic: string, ifMatch: string | null = null) =>
  driven(machine, engine.setTraffic('default', 'hello', shares(traffic), ifMatch, never()));
const preview = (engine: Engine) => driven(machine, engine.deploy('default', 'hello', { ...request(), traffic: false }, never()));
const running = async (engine: Engine) => (await engine.status()).instances.flatMap((view) => view.revision ?? []).sort();
/** Of a revision that can serve: what is on its way out is not. */
const serving = async (engine: Engine, revision: string) =>
  (await engine.status()).instances.filter((view) => view.revision === revision && view.state !== 'draining').length;
const key = (number: number) => `default/hello@${number}`;

describe('a shift of traffic', () => {
  it('has an instance ready of what gets more, is routed, and takes the leases of what lost all', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    await deploy(machine, engine, 'hello');
    await machine.until('only the second is left', async () => (await running(engine)).join() === key(2));
    const split = await shift(engine, '2=90 1=10');
    expect(split).toMatchObject({ revision: { number: 2 }, traffic: shares('2=90 1=10'), etag: '3' });
    expect(await running(engine)).toEqual([key(1), key(2)]);
    expect(gateway.heard.findLast((message) => message.type === 'routes')).toMatchObject({
      set: [
        {
          targets: [
            { revision: key(2), percent: 90 },
            { revision: key(1), percent: 10 },
          ],
        },
      ],
    });
    gateway.want(key(2), 1);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    expect(gateway.count('revoke')).toBe(0);
    expect((await shift(engine, '1=100')).revision.number).toBe(1);
    expect(await gateway.next('revoke')).toMatchObject({ lease: lease.lease, slots: 0 });
  });

  it('is refused where the revision does not load, is not there, or the function has changed; nothing is changed', async () => {
    const engine = await machine.start();
    await deploy(machine, engine, 'hello', { keepAliveSeconds: 0 });
    await deploy(machine, engine, 'hello');
    await machine.until('the first is gone', async () => (await running(engine)).join() === key(2));
    machine.shims.onInit = () => ({ ok: false, error: { name: 'Error', message: 'no database' } });
    await expect(shift(engine, '1=100')).rejects.toMatchObject({
      code: 'deploy-refused',
      message: expect.stringContaining('no database'),
    });
    machine.shims.onInit = loaded;
    await expect(shift(engine, '7=100')).rejects.toMatchObject({ code: 'revision-not-found' });
    await expect(shift(engine, '1=100', '1')).rejects.toMatchObject({ code: 'precondition-failed' });
    expect(await engine.describe('default', 'hello')).toMatchObject({ traffic: shares('2=100'), etag: '2' });
    // That it failed a moment ago does not make whoever asks again wait.
    expect((await shift(engine, '1=100', '2')).etag).toBe('3');
  });

  it('is ready for its share of the present load, and of min', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { concurrency: 1 });
    await preview(engine);
    gateway.want(key(1), 8);
    await machine.until('eight grants', () => gateway.count('grant') === 8);
    gateway.want(key(1), 0, 8);
    await machine.quiet();
    const deploying = engine.deploy('default', 'hello', { ...request({ concurrency: 1, min: 5 }), traffic: false }, never());
    await driven(machine, deploying);
    let ready = 0;
    const shifting = engine.setTraffic('default', 'hello', shares('1=50 3=50'), null, never());
    await machine.until(
      'routes',
      async () => {
        const routed = gateway.heard.some(
          (message) => message.type === 'routes' && message.set[0]?.targets.some(({ percent }) => percent === 50),
        );
        if (!routed) ready = await serving(engine, key(3));
        return routed;
      },
      1,
    );
    // Half of eight requests at one each; half of min would be three.
    expect(ready).toBe(4);
    await driven(machine, shifting);
    await machine.until('its share of min is left', async () => (await serving(engine, key(3))) === 3, 1_000);
  });

  it('back to what was before is warm for a moment, then memory goes back', async () => {
    const engine = await machine.start({ settings: { rollbackGraceMs: 10_000, previewKeepAliveMs: 5_000 } });
    await deploy(machine, engine, 'hello');
    await deploy(machine, engine, 'hello');
    await machine.pass(9_000);
    expect(await running(engine)).toEqual([key(1), key(2)]);
    await shift(engine, '1=100');
    expect(machine.count('create')).toBe(2);
    await machine.until('the second has gone', async () => (await running(engine)).join() === key(1), 200);
    expect(machine.clock.now()).toBeGreaterThanOrEqual(19_000);
  });
});

describe('a shift back to a revision whose only instance is changing its state', () => {
  it.each([
    { word: 'about to be frozen', goal: 'freeze' },
    { word: 'about to be thawed', goal: 'thaw' },
  ] as const)('waits until it is there: $word', async ({ goal }) => {
    const held = Promise.withResolvers<void>();
    let hold = false;
    const engine = await machine.start({
      settings: { freezeAfterMs: 50, rollbackGraceMs: 600_000 },
      driver: (driver) => {
        const perform = driver[goal].bind(driver);
        driver[goal] = async (id) => {
          if (hold) await held.promise;
          return perform(id);
        };
        return driver;
      },
    });
    const gateway = await machine.gateway();
    hold = goal === 'freeze';
    await deploy(machine, engine, 'hello');
    await deploy(machine, engine, 'hello');
    if (goal === 'thaw') {
      await machine.until('both are frozen', () => machine.count('freeze') === 2);
      hold = true;
      gateway.want(key(1), 1);
    }
    await machine.pass(500);
    const shifting = shift(engine, '1=100');
    await machine.pass(500);
    held.resolve();
    expect((await shifting).revision.number).toBe(1);
    expect(machine.count('create')).toBe(2);
    expect(machine.clock.now()).toBeLessThan(30_000);
  });
});

describe('a revision without traffic', () => {
  it('is deployed beside the others, and serves whoever asks for it', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    const response = await preview(engine);
    expect(response.previewUrl).toBe('http://fn.test/hello@2');
    expect(await engine.revisions('default', 'hello')).toMatchObject([
      { number: 2, percent: 0, previewUrl: 'http://fn.test/hello@2' },
      { number: 1, percent: 100 },
    ]);
    await machine.until('the preview is stopped', async () => (await running(engine)).join() === key(1));
    gateway.want(key(2), 1);
    const grant = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    expect(grant).toMatchObject({ lease: { revision: key(2) }, start: { reason: 'scaled-to-zero' } });
  });

  it('is told that the first has its traffic all the same, and that access goes with the traffic', async () => {
    const engine = await machine.start();
    const first = await preview(engine);
    expect(first.notes.join()).toMatch(/first revision/);
    const access = FunctionAccess.parse({ auth: { type: 'token' } });
    const second = await driven(machine, engine.deploy('default', 'hello', { ...request(), traffic: false, access }, never()));
    expect(second.notes.join()).toMatch(/go with the traffic/);
    expect((await engine.describe('default', 'hello')).access.auth.type).toBe('public');
    await shift(engine, '1=50 2=50');
    const third = await driven(machine, engine.deploy('default', 'hello', { ...request(), access }, never()));
    expect(third.notes.join()).toMatch(/split \(1=50 2=50\)/);
    expect(await engine.describe('default', 'hello')).toMatchObject({ traffic: shares('3=100'), access });
  });

  it('survives the controller: traffic, access and previews are what they were', async () => {
    const engine = await machine.start();
    await deploy(machine, engine, 'hello');
    await preview(engine);
    await shift(engine, '1=30 2=70');
    const before = await engine.describe('default', 'hello');
    await engine.close();
    const next = await machine.start();
    expect(await next.describe('default', 'hello')).toEqual(before);
    expect((await next.revisions('default', 'hello')).map(({ percent }) => percent)).toEqual([70, 30]);
  });
});

describe('how a function is reached', () => {
  const routes = (...paths: string[]) => FunctionAccess.parse({ routes: paths.map((path) => ({ path })) });

  it('of a length that not all gateways could be told is refused', async () => {
    const engine = await machine.start();
    await deploy(machine, engine, 'hello');
    const jwks = { keys: Array.from({ length: 100 }, (_, kid) => ({ kty: 'RSA', kid: String(kid), n: 'n'.repeat(1_000), e: 'AQAB' })) };
    const access = FunctionAccess.parse({ auth: { type: 'jwt', issuer: 'a', audience: 'b', jwks } });
    await expect(engine.setAccess('default', 'hello', access, null)).rejects.toMatchObject({
      code: 'invalid',
      message: expect.stringContaining('65536'),
    });
  });

  it('is changed without a deployment, and tells the URLs', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    const access = FunctionAccess.parse({ routes: [{ path: '/users/:id' }, { host: 'api.example.com', path: '/*' }] });
    const view = await driven(machine, engine.setAccess('default', 'hello', access, '1'));
    expect(view).toMatchObject({ etag: '2', urls: ['http://fn.test/users/:id', 'http://api.example.com/*'], access });
    expect(gateway.heard.findLast((message) => message.type === 'routes')).toMatchObject({ set: [{ routes: access.routes }] });
    await expect(driven(machine, engine.setAccess('default', 'hello', access, '1'))).rejects.toMatchObject({ code: 'precondition-failed' });
    await expect(engine.setAccess('default', 'other', access, null)).rejects.toMatchObject({ code: 'function-not-found' });
  });

  it('is refused where it clashes, also of two that ask at once; a deployment before anything is started', async () => {
    const engine = await machine.start();
    await machine.gateway();
    await deploy(machine, engine, 'one');
    await deploy(machine, engine, 'two');
    const both = await driven(
      machine,
      Promise.allSettled(['one', 'two'].map((name) => engine.setAccess('default', name, routes('/users/:id'), null))),
    );
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    const creates = machine.count('create');
    const refused = engine.deploy('default', 'three', { ...request(), access: routes('/users/:other') }, never());
    await expect(refused).rejects.toMatchObject({ code: 'route-conflict' });
    expect(machine.count('create')).toBe(creates);
    await expect(deploy(machine, engine, 'users')).rejects.toMatchObject({ code: 'route-conflict' });
  });
});

describe('revisions that are kept', () => {
  it('are those of traffic, the one before the current, and the newest up to the count', async () => {
    const engine = await machine.start({ retention: { count: 2, maxAgeMs: Infinity } });
    const gateway = await machine.gateway();
    const kept = async () => (await engine.revisions('default', 'hello')).map(({ number }) => number);
    for (let n = 0; n < 3; n += 1) await deploy(machine, engine, 'hello');
    await machine.until('two are kept', async () => (await kept()).join() === '3,2');
    await shift(engine, '2=100');
    await preview(engine);
    await preview(engine);
    // 5 and 4 are the newest, 2 is the current; 3 was neither before it nor is it new enough.
    await machine.until('the newest and the current are kept', async () => (await kept()).join() === '5,4,2');
    const routed = () => gateway.heard.findLast((message) => message.type === 'routes')?.set[0]?.targets.map(({ number }) => number);
    await machine.until('gateways know it', () => routed()?.join() === '2,5,4');
    await expect(shift(engine, '3=100')).rejects.toMatchObject({ code: 'revision-not-found' });
  });

  it('by age and count, as a pure decision', () => {
    const day = 86_400_000;
    const revision = (number: number, createdAt: number) => ({ number, createdAt });
    const record = (current: number[], ...kept: { number: number; createdAt: number }[]) =>
      ({ traffic: current.map((number) => ({ revision: number, percent: 1 })), revisions: kept }) as Parameters<typeof expired>[0];
    const old = [revision(9, 99 * day), revision(8, 98 * day), revision(7, 60 * day), revision(6, 20 * day), revision(5, 10 * day)];
    expect(expired(record([9], ...old), { count: 10, maxAgeMs: 30 * day }, 100 * day)).toEqual([7, 6, 5]);
    expect(expired(record([9, 6], ...old), { count: 10, maxAgeMs: 30 * day }, 100 * day)).toEqual([7, 5]);
    expect(expired(record([6, 9], ...old), { count: 1, maxAgeMs: Infinity }, 100 * day)).toEqual([7]);
    // Back at 6: 5 is what was before it.
    expect(expired(record([6], ...old), { count: 2, maxAgeMs: Infinity }, 100 * day)).toEqual([7]);
    expect(expired(record([9], ...old), { count: 1, maxAgeMs: Infinity }, 100 * day)).toEqual([7, 6, 5]);
  });

  it('drain: what is in flight on one that goes ends', async () => {
    const engine = await machine.start({ retention: { count: 1, maxAgeMs: Infinity } });
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    await deploy(machine, engine, 'hello');
    gateway.want(key(1), 1);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    gateway.want(key(1), 0, 1);
    machine.shims.inFlight.set(lease.instance, 1);
    await deploy(machine, engine, 'hello');
    await gateway.next('revoke');
    await machine.pass(2_000);
    expect(machine.host.instances.has(lease.instance)).toBe(true);
    gateway.say({ type: 'release', lease: lease.lease });
    machine.shims.inFlight.set(lease.instance, 0);
    await machine.until('it is gone', () => !machine.host.instances.has(lease.instance), 100);
  });
});

describe('quotas of a namespace', () => {
  const quota = (settings: { functions?: number; memoryMib?: number }): Tenancy => ({
    ...ONE_TENANT,
    namespaces: () => [{ name: 'default', settings: NamespaceSettings.parse({ quota: settings }) }],
  });

  it('of functions: one too many is refused, another revision is not', async () => {
    const engine = await machine.start({ tenancy: quota({ functions: 1 }) });
    await deploy(machine, engine, 'hello');
    await deploy(machine, engine, 'hello');
    await expect(deploy(machine, engine, 'other')).rejects.toMatchObject({ code: 'quota-exceeded' });
  });

  it('of memory: what can never fit is refused, an idle instance makes room, a busy one does not', async () => {
    const engine = await machine.start({ tenancy: quota({ memoryMib: 256 }) });
    const gateway = await machine.gateway();
    await expect(engine.deploy('default', 'big', request({ min: 3 }), never())).rejects.toMatchObject({ code: 'quota-exceeded' });
    for (const name of ['a', 'b', 'c']) await deploy(machine, engine, name, { keepAliveSeconds: 600 });
    const memory = async () => (await engine.memoryUsage()).get('default') ?? 0;
    expect(await memory()).toBeLessThanOrEqual(256);
    for (const name of ['a', 'b']) gateway.want(`default/${name}@1`, 1);
    await machine.until('two grants', () => gateway.count('grant') === 2);
    for (const name of ['a', 'b']) gateway.want(`default/${name}@1`, 0, 1);
    gateway.want('default/c@1', 1);
    const fail = await machine.until('a failure', () => gateway.heard.find((message) => message.type === 'fail'), 100);
    expect(fail).toMatchObject({ revision: 'default/c@1', problem: { code: 'no-capacity', detail: expect.stringContaining('256 MiB') } });
    expect(fail.retryAfterSeconds).toBeGreaterThan(0);
    expect(await memory()).toBe(256);
    await expect(driven(machine, engine.deploy('default', 'd', request(), never()))).rejects.toMatchObject({ code: 'quota-exceeded' });
    // One is given back: whoever asks next gets it.
    const grant = gateway.heard.find((message) => message.type === 'grant')!;
    gateway.want(grant.lease.revision, 0, 0);
    gateway.say({ type: 'release', lease: grant.lease.lease });
    gateway.want('default/c@1', 1);
    await machine.until(
      'a grant',
      () => gateway.heard.some((message) => message.type === 'grant' && message.lease.revision === 'default/c@1'),
      50,
    );
  });
});
