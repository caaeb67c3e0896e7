import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS } from '#contract/access.ts';
import { Revision } from '#contract/function.ts';
import { CreateTokenRequest, type CreateTokenRequestInput, NamespaceSettings, type Principal } from '#contract/tenancy.ts';
import { type Clock, systemClock } from '#kit/clock.ts';
import { newSecret } from '#kit/ids.ts';
import { silentLog } from '#kit/log.ts';
import { IN_MEMORY, openSqliteStore } from '../store/sqlite/store.ts';
import type { Store } from '../store/types.ts';
import { Tenants } from './tenants.ts';

const OWNER: Principal = { id: 'owner', name: 'owner', scopes: ['admin'], namespaces: '*' };
const admin = (...namespaces: string[]): Principal => ({ id: 't-aaaaaaaaaaaa', name: 'admin', scopes: ['admin'], namespaces });
const homeToken = newSecret();

let store: Store;
let tenants: Tenants;
let wall = 1_000_000;
const clock: Clock = { ...systemClock, wall: () => wall };

beforeEach(async () => {
  wall = 1_000_000;
  store = openSqliteStore({ path: IN_MEMORY, log: silentLog });
  tenants = await Tenants.open({ store, clock, homeToken });
});
afterEach(() => store.close());

const create = (request: Partial<CreateTokenRequestInput> = {}, by: Principal = OWNER) =>
  tenants.createToken(by, CreateTokenRequest.parse({ name: 'ci', scopes: ['deploy'], namespaces: ['shop'], ...request }));
const settings = (more: object = {}) => NamespaceSettings.parse(more);

async function deployed(namespace: string, name: string, hosts: string[] = []): Promise<void> {
  const revision = Revision.parse({
    key: `${namespace}/${name}@1`,
    namespace,
    name,
    number: 1,
    bundle: `sha256:${'a'.repeat(64)}`,
    entry: 'index.mjs',
    settings: { concurrency: 1, egress: 'none' },
    form: 'fetch',
    createdAt: 1,
  });
  const routes = hosts.map((host) => ({ host, path: '/*' }));
  await store.commitRevision(revision, { traffic: [{ revision: 1, percent: 100 }], access: { ...DEFAULT_ACCESS, routes } });
}

describe('authenticate', () => {
  it('knows the home’s token as the owner, and a token as who it was made for', async () => {
    const { token, id } = await create();
    expect(tenants.authenticate(`Bearer ${homeToken}`)).toEqual(OWNER);
    expect(tenants.authenticate(`bearer   ${token}`)).toEqual({ id, name: 'ci', scopes: ['deploy'], namespaces: ['shop'] });
  });

  it('knows nobody else', async () => {
    const { token } = await create();
    const { token: other } = await create();
    const mixed = `${token.slice(0, 17)}${other.slice(17)}`;
    const wrong = [
      undefined,
      '',
      token,
      homeToken,
      'Bearer',
      'Bearer ',
      `Basic ${token}`,
      `Bearer ${token}x`,
      `Bearer ${token.slice(0, -1)}`,
    ];
    for (const header of [
      ...wrong,
      `Bearer ${token} x`,
      ` Bearer ${token}`,
      `Bearer ${mixed}`,
      `Bearer ${homeToken}x`,
      `Bearer ${token.slice(17)}`,
    ])
      expect(tenants.authenticate(header)).toBeNull();
  });

  it('without a token of the home, nothing is one', async () => {
    const none = await Tenants.open({ store, clock, homeToken: null });
    for (const header of ['Bearer ', `Bearer ${homeToken}`, 'Bearer null', undefined]) expect(none.authenticate(header)).toBeNull();
  });

  it('a token ends when it expires, and when it is revoked', async () => {
    const { token } = await create({ expiresAt: wall + 10 });
    const { token: second, id } = await create();
    wall += 9;
    expect(tenants.authenticate(`Bearer ${token}`)).not.toBeNull();
    wall += 1;
    expect(tenants.authenticate(`Bearer ${token}`)).toBeNull();
    expect(tenants.authenticate(`Bearer ${second}`)).not.toBeNull();
    await tenants.revokeToken(OWNER, id);
    expect(tenants.authenticate(`Bearer ${second}`)).toBeNull();
  });

  it('goes on after a restart; the store has no token', async () => {
    const { token, id } = await create();
    const revoked = await create();
    await tenants.revokeToken(OWNER, revoked.id);
    const again = await Tenants.open({ store, clock, homeToken });
    expect(again.authenticate(`Bearer ${token}`)).toMatchObject({ id });
    expect(again.authenticate(`Bearer ${revoked.token}`)).toBeNull();
    expect((await again.listTokens(OWNER)).map((view) => view.id)).toEqual([revoked.id, id]);
    expect(JSON.stringify(await store.listTokens())).not.toContain(token.slice(17));
  });
});

describe('tokens', () => {
  it('are made for namespaces of who makes them', async () => {
    expect(await create({}, admin('shop', 'blog'))).toMatchObject({ namespaces: ['shop'] });
    for (const namespaces of [['other'], ['shop', 'other'], '*'] as const)
      await expect(create({ namespaces: namespaces === '*' ? '*' : [...namespaces] }, admin('shop'))).rejects.toMatchObject({
        code: 'forbidden',
      });
    await expect(create({}, { ...admin('shop'), scopes: ['deploy'] })).rejects.toMatchObject({ code: 'forbidden' });
  });

  it('are listed and revoked by who could have made them', async () => {
    const [shop, blog, both, all] = [
      await create(),
      await create({ namespaces: ['blog'] }),
      await create({ namespaces: ['shop', 'blog'] }),
      await create({ namespaces: '*' }),
    ];
    expect((await tenants.listTokens(admin('shop'))).map(({ id }) => id)).toEqual([shop.id]);
    expect(await tenants.listTokens(OWNER)).toHaveLength(4);
    for (const { id } of [blog, both, all])
      await expect(tenants.revokeToken(admin('shop'), id)).rejects.toMatchObject({ code: 'token-not-found' });
    expect(await tenants.revokeToken(admin('shop'), shop.id)).toMatchObject({ revokedAt: wall });
    const { revokedAt } = await tenants.revokeToken(OWNER, shop.id);
    wall += 5;
    expect((await tenants.revokeToken(OWNER, shop.id)).revokedAt).toBe(revokedAt);
  });

  it('one tenant cannot take all places', async () => {
    const records = Array.from({ length: 1_000 }, (_, index) => ({
      id: `t-${String(index).padStart(12, '0')}`,
      name: 'x',
      scopes: ['read' as const],
      namespaces: ['shop'],
      createdAt: index,
      expiresAt: null,
      revokedAt: null,
      sha256: String(index).padStart(64, '0'),
    }));
    for (const record of records) await store.addToken(record);
    tenants = await Tenants.open({ store, clock, homeToken });
    await expect(create({}, admin('shop'))).rejects.toMatchObject({ code: 'conflict' });
    expect(await create({ namespaces: ['blog'] }, admin('blog'))).toMatchObject({ name: 'ci' });
    await tenants.revokeToken(admin('shop'), records[0]!.id);
    expect(await create({}, admin('shop'))).toMatchObject({ name: 'ci' });
  });

  it('no view holds the token or its hash', async () => {
    const { token, ...view } = await create();
    expect(await tenants.listTokens(OWNER)).toEqual([view]);
    expect(Object.keys(view)).not.toContain('sha256');
    expect(token).toMatch(/^fn_[a-z0-9]{12}_[A-Za-z0-9_-]{43}$/);
  });
});

describe('what gateways are told', () => {
  it('tokens that may invoke and are good, by their hash; limits where there are any', async () => {
    const day = 24 * 3_600_000;
    const invoke = await create({ scopes: ['invoke'], expiresAt: wall + 2 * day });
    const boss = await create({ scopes: ['admin'], namespaces: '*' });
    await create({ scopes: ['deploy', 'read'] });
    await create({ scopes: ['invoke'], expiresAt: wall + 1 });
    const revoked = await create({ scopes: ['invoke'] });
    await tenants.revokeToken(OWNER, revoked.id);
    wall += day + 3_600_001;
    await tenants.putNamespace('shop', settings({ quota: { concurrency: 5 } }));
    await tenants.putNamespace('blog', settings({ quota: { functions: 5 } }));
    const { limits, tokens } = tenants.gatewaySettings();
    expect(limits).toEqual([{ namespace: 'shop', concurrency: 5, requestsPerSecond: null }]);
    expect(tokens.map(({ id, expiresAt }) => ({ id, expiresAt }))).toEqual([
      { id: 'owner', expiresAt: null },
      { id: invoke.id, expiresAt: 1_000_000 + 2 * day },
      { id: boss.id, expiresAt: null },
    ]);
    expect(JSON.stringify(tokens)).not.toContain(invoke.token.slice(17));
  });

  it('a token that has just expired, too: where the clock was ahead, and is set back, it is good again', async () => {
    const { id } = await create({ scopes: ['invoke'], expiresAt: wall + 1_800_000 });
    const revoked = await create({ scopes: ['invoke'], expiresAt: wall + 1_800_000 });
    wall += 3_600_000;
    await tenants.revokeToken(OWNER, revoked.id);
    const known = tenants.gatewaySettings().tokens.map((token) => token.id);
    expect(known).toEqual(['owner', id]);
  });

  it('they hear of each change before it is answered', async () => {
    const heard: string[] = [];
    tenants.onChange(async () => {
      await Promise.resolve();
      heard.push(`${tenants.gatewaySettings().tokens.length}`);
    });
    const { id } = await create({ scopes: ['invoke'] });
    expect(heard).toEqual(['2']);
    await tenants.revokeToken(OWNER, id);
    expect(heard).toEqual(['2', '1']);
    await tenants.putNamespace('shop', settings());
    await tenants.deleteNamespace('shop');
    expect(heard).toHaveLength(4);
  });
});

describe('namespaces', () => {
  it('are those that were set or have something in them; the default one always', async () => {
    expect((await tenants.listNamespaces(OWNER)).map(({ name }) => name)).toEqual(['default']);
    await deployed('blog', 'hello');
    await store.putSecret({ namespace: 'vault', name: 'A', version: 1, updatedAt: 1, sealed: new Uint8Array(40) });
    await tenants.putNamespace('shop', settings({ quota: { functions: 3 } }));
    tenants.measureWith(async () => new Map([['blog', 256]]));
    expect((await tenants.listNamespaces(OWNER)).map(({ name, usage }) => [name, usage.functions, usage.memoryMib])).toEqual([
      ['blog', 1, 256],
      ['default', 0, 0],
      ['shop', 0, 0],
      ['vault', 0, 0],
    ]);
    expect((await tenants.listNamespaces(admin('shop', 'nobody'))).map(({ name }) => name)).toEqual(['shop']);
    expect(tenants.quota('shop').functions).toBe(3);
    expect(tenants.quota('blog').functions).toBeNull();
    await expect(tenants.getNamespace('nobody')).rejects.toMatchObject({ code: 'namespace-not-found' });
  });

  it('are deleted when they are empty', async () => {
    await deployed('blog', 'hello');
    await tenants.putNamespace('shop', settings());
    await expect(tenants.deleteNamespace('blog')).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('1 functions'),
    });
    await expect(tenants.deleteNamespace('default')).rejects.toMatchObject({ code: 'conflict' });
    await tenants.deleteNamespace('shop');
    await expect(tenants.deleteNamespace('shop')).rejects.toMatchObject({ code: 'namespace-not-found' });
    expect(await store.listNamespaces()).toEqual([]);
  });

  it('survive a restart', async () => {
    await tenants.putNamespace('shop', settings({ quota: { functions: 3 }, hosts: ['shop.example.com'] }));
    const again = await Tenants.open({ store, clock, homeToken });
    expect(again.namespaces()).toEqual([{ name: 'shop', settings: settings({ quota: { functions: 3 }, hosts: ['shop.example.com'] }) }]);
  });
});

describe('hosts', () => {
  it.each<[string, string[], string | null]>([
    ['that nobody has', ['new.example.com'], null],
    ['that another namespace lists', ['blog.example.com'], "is the namespace blog's"],
    ['that a function of default uses', ['www.example.com'], 'The function site of the namespace default'],
    ['whose pattern holds one that default uses', ['*.example.com'], 'The function site of the namespace default'],
    ['whose pattern holds only one that another lists by itself', ['*.blogs.example.org'], null],
    ['whose pattern is too short for it', ['*.com'], null],
  ])('%s', async (_name, hosts, conflict) => {
    await deployed('default', 'site', ['www.example.com']);
    await tenants.putNamespace('blog', settings({ hosts: ['blog.example.com', 'my.blogs.example.org'] }));
    await deployed('blog', 'posts', ['my.blogs.example.org']);
    const put = tenants.putNamespace('shop', settings({ hosts }));
    if (conflict === null) expect((await put).hosts).toEqual(hosts);
    else {
      await expect(put).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining(conflict) });
      expect(tenants.namespaces().map(({ name }) => name)).toEqual(['blog']);
    }
  });

  it('are not taken away while a route uses them', async () => {
    await tenants.putNamespace('blog', settings({ hosts: ['*.example.com'] }));
    await deployed('blog', 'posts', ['my.example.com']);
    await expect(tenants.putNamespace('blog', settings())).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('posts'),
    });
    await tenants.putNamespace('blog', settings({ hosts: ['my.example.com'] }));
  });
});
