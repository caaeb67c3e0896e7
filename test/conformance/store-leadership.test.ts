/** Who leads, and that who was replaced writes no more: the same on every store that several controllers can share. Which: store.adapters.ts. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS } from '#contract/access.ts';
import { Revision } from '#contract/function.ts';
import { NamespaceSettings } from '#contract/tenancy.ts';
import type { Store } from '../../controller/store/types.ts';
import { waitFor } from '../helpers/wait.ts';
import { STORES, useRedis } from './store.adapters.ts';

useRedis();

/** Long enough that none ends by itself while a test looks. */
const TTL_MS = 60_000;
const DIGEST = `sha256:${'a'.repeat(64)}`;

const revision = (number: number) =>
  Revision.parse({
    key: `default/hello@${number}`,
    namespace: 'default',
    name: 'hello',
    number,
    bundle: DIGEST,
    entry: 'index.mjs',
    settings: { concurrency: 1, egress: 'none' },
    form: 'fetch',
    createdAt: number,
  });

const token = (id: string) => ({
  id: `t-${id.padEnd(12, '0')}`,
  name: id,
  scopes: ['deploy' as const],
  namespaces: ['team'],
  createdAt: 1,
  expiresAt: null,
  revokedAt: null,
  sha256: id.charCodeAt(0).toString(16).repeat(32),
});

const secret = (version: number) => ({ namespace: 'team', name: 'KEY', version, updatedAt: 1, sealed: new Uint8Array([version]) });

const entry = {
  t: 1,
  by: { id: 't-000000000000', name: 'ci' },
  action: 'function.deploy',
  namespace: 'team',
  subject: 'hello',
  request: 'r-1',
  outcome: 'ok',
  detail: {},
};

const all = (number: number) => ({ traffic: [{ revision: number, percent: 100 }] });

/** Every write that there is, by name: one that is added to the port and not here is not fenced by any test. */
const WRITES: [string, (store: Store) => Promise<unknown>][] = [
  ['reserveRevision', (store) => store.reserveRevision('default', 'hello')],
  ['commitRevision', (store) => store.commitRevision(revision(3), all(3))],
  ['changeFunction', (store) => store.changeFunction('default', 'hello', { ...all(1), access: DEFAULT_ACCESS })],
  ['removeRevisions', (store) => store.removeRevisions('default', 'hello', [1])],
  ['deleteFunction', (store) => store.deleteFunction('default', 'hello')],
  ['putNamespace', (store) => store.putNamespace('team', NamespaceSettings.parse({ quota: { functions: 9 } }))],
  ['deleteNamespace', (store) => store.deleteNamespace('team')],
  ['addToken', (store) => store.addToken(token('b'))],
  ['revokeToken', (store) => store.revokeToken(token('a').id, 9)],
  ['reserveSecretVersion', (store) => store.reserveSecretVersion('team', 'KEY')],
  ['putSecret', (store) => store.putSecret(secret(9))],
  ['deleteSecret', (store) => store.deleteSecret('team', 'KEY')],
  ['addAudit', (store) => store.addAudit(entry)],
  ['pruneAudit', (store) => store.pruneAudit(0)],
  ['addArtifact', (store) => store.addArtifact('team', 'bundle', 'other', 9)],
  ['saveUsage', (store) => store.saveUsage({ set: new Map([['default/hello', 'other']]), remove: ['team/gone'] })],
  ['removeArtifact', (store) => store.removeArtifact('team', 'bundle', DIGEST, 9)],
];

const contents = async (store: Store) => ({
  functions: await store.listFunctions(),
  namespaces: await store.listNamespaces(),
  tokens: await store.listTokens(),
  secrets: (await store.listSecrets()).map(({ sealed, ...rest }) => ({ ...rest, sealed: [...sealed] })),
  audit: await store.listAudit({ namespaces: '*', limit: 99 }),
  artifacts: await store.listArtifacts('bundle'),
  usage: [...(await store.loadUsage())].toSorted(),
});

describe.each(STORES.filter(({ lasting }) => lasting))('leadership: $name', ({ open }) => {
  let folder: string;
  const opened: Store[] = [];
  const another = async () => {
    const store = await open(folder);
    opened.push(store);
    return store;
  };
  let one: Store;
  let two: Store;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-lead-'));
    one = await another();
    two = await another();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((store) => store.close()));
    await rm(folder, { recursive: true, force: true });
  });

  it('is of one at a time, who may renew it; nobody leads at first', async () => {
    expect(await one.leader()).toBeNull();
    expect([await one.campaign('a', TTL_MS), await two.campaign('b', TTL_MS), await one.campaign('a', TTL_MS)]).toEqual([
      true,
      false,
      true,
    ]);
    expect([await one.leader(), await two.leader()]).toEqual(['a', 'a']);
  });

  it('of many that campaign at once, one wins', async () => {
    const stores = await Promise.all(Array.from({ length: 8 }, another));
    const won = await Promise.all(stores.map((store, index) => store.campaign(`c-${index}`, TTL_MS)));
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(await one.leader()).toBe(`c-${won.indexOf(true)}`);
  });

  it('is given up by who has it, and by no other', async () => {
    await one.campaign('a', TTL_MS);
    await two.resign('b');
    expect(await two.leader()).toBe('a');
    await one.resign('a');
    await one.resign('a');
    expect(await two.leader()).toBeNull();
    expect(await two.campaign('b', TTL_MS)).toBe(true);
  });

  it('ends by itself when it is not renewed', async () => {
    await one.campaign('a', 50);
    await waitFor('the lease to end', async () => (await two.campaign('b', TTL_MS)) && (await one.leader()) === 'b');
    expect(await one.campaign('a', TTL_MS)).toBe(false);
  });

  it('the term is raised by who has the lease only', async () => {
    await one.campaign('a', 50);
    await waitFor('the lease to end', () => two.campaign('b', TTL_MS));
    expect(await two.raiseTerm()).toBe(1);
    await expect(one.raiseTerm()).rejects.toMatchObject({ code: 'not-leader', message: expect.stringContaining('held by b') as string });
    await two.addArtifact('team', 'bundle', DIGEST, 1);
    await two.resign('b');
    await expect(two.raiseTerm()).rejects.toMatchObject({ code: 'not-leader' });
  });

  it('says whether its term is still the newest, and that of one that raised none is not', async () => {
    expect(await one.holdsTerm()).toBe(false);
    await one.raiseTerm();
    expect([await one.holdsTerm(), await two.holdsTerm()]).toEqual([true, false]);
    await two.raiseTerm();
    expect([await one.holdsTerm(), await two.holdsTerm()]).toEqual([false, true]);
    await one.raiseTerm();
    expect([await one.holdsTerm(), await two.holdsTerm()]).toEqual([true, false]);
  });

  describe('once another has raised the term', () => {
    beforeEach(async () => {
      await one.raiseTerm();
      await one.commitRevision(revision(1), all(1));
      await one.commitRevision(revision(2), all(2));
      await one.putNamespace('team', NamespaceSettings.parse({}));
      await one.addToken(token('a'));
      await one.putSecret(secret(await one.reserveSecretVersion('team', 'KEY')));
      await one.addAudit(entry);
      await one.addArtifact('team', 'bundle', DIGEST, 1);
      await one.saveUsage({ set: new Map([['team/gone', 'some']]), remove: [] });
      await two.raiseTerm();
    });

    it.each(WRITES)('%s of the one before says not-leader and changes nothing; of the new one it works', async (_name, write) => {
      const before = await contents(two);
      await expect(write(one)).rejects.toMatchObject({ code: 'not-leader', options: { retryAfterSeconds: 1 } });
      expect(await contents(two)).toEqual(before);
      await write(two);
    });

    it('the one before gives no number, reads on, and writes again under a new term', async () => {
      await expect(one.reserveRevision('default', 'x')).rejects.toMatchObject({ code: 'not-leader' });
      await expect(one.reserveSecretVersion('team', 'OTHER')).rejects.toMatchObject({ code: 'not-leader' });
      expect([await two.reserveRevision('default', 'x'), await two.reserveSecretVersion('team', 'OTHER')]).toEqual([1, 1]);
      expect((await one.listFunctions()).map(({ name }) => name)).toEqual(['hello']);
      expect(await one.raiseTerm()).toBe(3);
      expect(await one.deleteFunction('default', 'hello')).toBe(true);
      await expect(two.deleteFunction('default', 'hello')).rejects.toMatchObject({ code: 'not-leader' });
    });
  });
});
