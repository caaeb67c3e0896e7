/** What every store must do about tenants, whatever it writes to. Which stores: store.adapters.ts. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type AuditEntry, NamespaceSettings } from '#contract/tenancy.ts';
import type { SealedSecret, Store, TokenRecord } from '../../controller/store/types.ts';
import { STORES, useRedis } from './store.adapters.ts';

useRedis();

const settings = (functions: number | null, hosts: string[] = []) => NamespaceSettings.parse({ quota: { functions }, hosts });

const token = (id: string, more: Partial<TokenRecord> = {}): TokenRecord => ({
  id: `t-${id.padEnd(12, '0')}`,
  name: `token ${id}`,
  scopes: ['deploy', 'invoke'],
  namespaces: ['team'],
  createdAt: 1_000,
  expiresAt: null,
  revokedAt: null,
  sha256: id.charCodeAt(0).toString(16).padStart(2, '0').repeat(32),
  ...more,
});

const secret = (version: number, more: Partial<SealedSecret> = {}): SealedSecret => ({
  namespace: 'team',
  name: 'API_KEY',
  version,
  updatedAt: 1_000 + version,
  sealed: new Uint8Array(randomBytes(80)),
  ...more,
});

const entry = (t: number, namespace: string | null, subject = 'hello'): Omit<AuditEntry, 'id'> => ({
  t,
  by: { id: 't-000000000000', name: 'ci "ünï"' },
  action: 'function.deploy',
  namespace,
  subject,
  request: 'r-1',
  outcome: 'ok',
  detail: { revision: 7, nested: { a: [1, null, 'x'] } },
});

describe.each(STORES)('tenancy store: $name', ({ open }) => {
  let folder: string;
  let store: Store;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-tenancy-'));
    store = await open(folder);
  });
  afterEach(async () => {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  });

  describe('namespaces', () => {
    it('are those that were set, by name, as they were set last', async () => {
      expect(await store.listNamespaces()).toEqual([]);
      await store.putNamespace('team', settings(1));
      await store.putNamespace('a-team', settings(null, ['*.example.com', 'x.org']));
      await store.putNamespace('team', settings(2));
      expect(await store.listNamespaces()).toEqual([
        { name: 'a-team', settings: settings(null, ['*.example.com', 'x.org']) },
        { name: 'team', settings: settings(2) },
      ]);
    });

    it('are deleted once', async () => {
      await store.putNamespace('team', settings(1));
      expect([await store.deleteNamespace('team'), await store.deleteNamespace('team')]).toEqual([true, false]);
      expect(await store.listNamespaces()).toEqual([]);
    });
  });

  describe('tokens', () => {
    it('come back as they were added, the newest first; of one moment, the last one first', async () => {
      const all = [
        token('a'),
        token('b', { createdAt: 3_000, namespaces: '*', expiresAt: 9_000 }),
        token('c', { createdAt: 2_000 }),
        token('d', { createdAt: 3_000 }),
      ];
      for (const one of all) await store.addToken(one);
      expect(await store.listTokens()).toEqual([all[3], all[1], all[2], all[0]]);
    });

    it('are added once: neither the id nor the hash may be there', async () => {
      await store.addToken(token('a'));
      await expect(store.addToken(token('a', { sha256: 'f'.repeat(64) }))).rejects.toMatchObject({ code: 'conflict' });
      await expect(store.addToken(token('b', { sha256: token('a').sha256 }))).rejects.toMatchObject({ code: 'conflict' });
      expect(await store.listTokens()).toEqual([token('a')]);
    });

    it('are revoked once: the first time counts', async () => {
      await store.addToken(token('a'));
      await store.addToken(token('b'));
      expect(await store.revokeToken(token('a').id, 5_000)).toEqual(token('a', { revokedAt: 5_000 }));
      expect(await store.revokeToken(token('a').id, 6_000)).toEqual(token('a', { revokedAt: 5_000 }));
      expect(await store.revokeToken('t-zzzzzzzzzzzz', 5_000)).toBeNull();
      expect((await store.listTokens()).map(({ revokedAt }) => revokedAt)).toEqual([null, 5_000]);
    });
  });

  describe('secrets', () => {
    it('come back byte by byte; nothing where there is none', async () => {
      const first = secret(await store.reserveSecretVersion('team', 'API_KEY'));
      await store.putSecret(first);
      const found = await store.getSecret('team', 'API_KEY');
      expect({ ...found, sealed: Buffer.from(found!.sealed) }).toEqual({ ...first, sealed: Buffer.from(first.sealed) });
      expect(await store.getSecret('other', 'API_KEY')).toBeNull();
      expect(await store.getSecret('team', 'api_key')).toBeNull();
    });

    it('versions are counted per name and never given twice, not even after a delete', async () => {
      expect(await store.reserveSecretVersion('team', 'API_KEY')).toBe(1);
      expect(await store.reserveSecretVersion('other', 'API_KEY')).toBe(1);
      expect(await store.reserveSecretVersion('team', 'OTHER')).toBe(1);
      await store.putSecret(secret(1));
      expect(await store.deleteSecret('team', 'API_KEY')).toBe(true);
      expect(await store.deleteSecret('team', 'API_KEY')).toBe(false);
      const versions = await Promise.all(Array.from({ length: 20 }, () => store.reserveSecretVersion('team', 'API_KEY')));
      expect(versions.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 2));
    });

    it('of two writers that race, the higher version stays', async () => {
      await Promise.all([3, 1, 2].map((version) => store.putSecret(secret(version))));
      expect(await store.getSecret('team', 'API_KEY')).toMatchObject({ version: 3, updatedAt: 1_003 });
      await store.putSecret(secret(3, { updatedAt: 9 }));
      expect(await store.getSecret('team', 'API_KEY')).toMatchObject({ version: 3, updatedAt: 1_003 });
    });

    it('are listed by namespace, then name', async () => {
      for (const [namespace, name] of [
        ['team', 'B'],
        ['a-team', 'Z'],
        ['team', 'A'],
      ] as const)
        await store.putSecret(secret(1, { namespace, name }));
      const names = async (namespace?: string) => (await store.listSecrets(namespace)).map((one) => `${one.namespace}/${one.name}`);
      expect(await names()).toEqual(['a-team/Z', 'team/A', 'team/B']);
      expect(await names('team')).toEqual(['team/A', 'team/B']);
      expect(await names('nobody')).toEqual([]);
    });
  });

  describe('audit', () => {
    it('gives each entry an id above the last, and the entry as it was', async () => {
      const first = await store.addAudit(entry(1, 'team'));
      const second = await store.addAudit(entry(2, null));
      expect(second.id).toBeGreaterThan(first.id);
      expect(first).toEqual({ ...entry(1, 'team'), id: first.id });
      expect(await store.listAudit({ namespaces: '*', limit: 10 })).toEqual([second, first]);
    });

    it('shows the entries of some namespaces only, and then none of none', async () => {
      for (const [t, namespace] of [
        [1, 'a'],
        [2, 'b'],
        [3, null],
        [4, 'a'],
      ] as const)
        await store.addAudit(entry(t, namespace));
      const times = async (namespaces: '*' | string[]) => (await store.listAudit({ namespaces, limit: 10 })).map(({ t }) => t);
      expect(await times('*')).toEqual([4, 3, 2, 1]);
      expect(await times(['a'])).toEqual([4, 1]);
      expect(await times(['a', 'b', 'c'])).toEqual([4, 2, 1]);
      expect(await times([])).toEqual([]);
    });

    it('pages by id, since a time, up to a limit', async () => {
      for (let t = 1; t <= 5; t++) await store.addAudit(entry(t, 'a'));
      const page = await store.listAudit({ namespaces: ['a'], limit: 2 });
      expect(page.map(({ t }) => t)).toEqual([5, 4]);
      const next = await store.listAudit({ namespaces: ['a'], limit: 2, before: page[1]!.id });
      expect(next.map(({ t }) => t)).toEqual([3, 2]);
      expect((await store.listAudit({ namespaces: ['a'], limit: 9, since: 4 })).map(({ t }) => t)).toEqual([5, 4]);
    });

    it('is cut to the newest; an id is not given again', async () => {
      for (let t = 1; t <= 5; t++) await store.addAudit(entry(t, 'a'));
      const [newest] = await store.listAudit({ namespaces: '*', limit: 1 });
      expect([await store.pruneAudit(2), await store.pruneAudit(2)]).toEqual([3, 0]);
      expect((await store.listAudit({ namespaces: '*', limit: 9 })).map(({ t }) => t)).toEqual([5, 4]);
      expect(await store.pruneAudit(0)).toBe(2);
      expect((await store.addAudit(entry(6, 'a'))).id).toBeGreaterThan(newest!.id);
    });
  });

  describe('artifacts', () => {
    it('belong to who uploaded them', async () => {
      const digest = `sha256:${'a'.repeat(64)}`;
      expect(await store.hasArtifact('a', 'bundle', digest)).toBe(false);
      await store.addArtifact('a', 'bundle', digest, 1);
      await store.addArtifact('a', 'bundle', digest, 1);
      expect(await store.hasArtifact('a', 'bundle', digest)).toBe(true);
      expect(await store.hasArtifact('b', 'bundle', digest)).toBe(false);
      expect(await store.hasArtifact('a', 'image', digest)).toBe(false);
    });

    it('are listed by kind, with when each was added last', async () => {
      await store.addArtifact('b', 'image', 'x', 3);
      await store.addArtifact('a', 'image', 'y', 5);
      await store.addArtifact('a', 'image', 'x', 9);
      await store.addArtifact('a', 'image', 'x', 4);
      await store.addArtifact('a', 'bundle', 'z', 1);
      expect(await store.listArtifacts('image')).toEqual([
        { namespace: 'a', digest: 'x', addedAt: 9 },
        { namespace: 'a', digest: 'y', addedAt: 5 },
        { namespace: 'b', digest: 'x', addedAt: 3 },
      ]);
    });

    it('are removed one by one, unless they were added again meanwhile', async () => {
      for (const namespace of ['a', 'b']) await store.addArtifact(namespace, 'image', 'x', 5);
      await store.addArtifact('a', 'bundle', 'x', 5);
      expect(await store.removeArtifact('a', 'image', 'x', 5)).toBe(false);
      expect(await store.hasArtifact('a', 'image', 'x')).toBe(true);
      expect(await store.removeArtifact('a', 'image', 'x', 6)).toBe(true);
      expect(await store.removeArtifact('a', 'image', 'x', 6)).toBe(false);
      expect(await store.hasArtifact('a', 'image', 'x')).toBe(false);
      expect([await store.hasArtifact('b', 'image', 'x'), await store.hasArtifact('a', 'bundle', 'x')]).toEqual([true, true]);
    });
  });

  it('refuses when it is closed, instead of pretending', async () => {
    await store.close();
    for (const call of [
      store.listNamespaces(),
      store.listTokens(),
      store.putSecret(secret(1)),
      store.addAudit(entry(1, 'a')),
      store.addArtifact('a', 'bundle', 'x', 1),
      store.listArtifacts('image'),
      store.removeArtifact('a', 'bundle', 'x', 1),
    ])
      await expect(call).rejects.toMatchObject({ code: 'store-unavailable' });
  });
});

describe.each(STORES.filter(({ lasting }) => lasting))('lasting tenancy store: $name', ({ open }) => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-tenancy-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('keeps everything when opened again', async () => {
    let store = await open(folder);
    await store.putNamespace('team', settings(1));
    await store.addToken(token('a'));
    await store.revokeToken(token('a').id, 5);
    await store.putSecret(secret(await store.reserveSecretVersion('team', 'API_KEY')));
    await store.addAudit(entry(1, 'team'));
    await store.addArtifact('team', 'bundle', 'x', 7);
    await store.close();
    store = await open(folder);
    try {
      expect(await store.listNamespaces()).toHaveLength(1);
      expect(await store.listTokens()).toEqual([token('a', { revokedAt: 5 })]);
      expect(await store.getSecret('team', 'API_KEY')).toMatchObject({ version: 1 });
      expect(await store.reserveSecretVersion('team', 'API_KEY')).toBe(2);
      expect(await store.listAudit({ namespaces: '*', limit: 5 })).toHaveLength(1);
      expect(await store.hasArtifact('team', 'bundle', 'x')).toBe(true);
      expect(await store.listArtifacts('bundle')).toEqual([{ namespace: 'team', digest: 'x', addedAt: 7 }]);
    } finally {
      await store.close();
    }
  });
});
