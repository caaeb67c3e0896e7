/** What every Store must do, whatever it writes to. Which stores: store.adapters.ts. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS, FunctionAccess } from '#contract/access.ts';
import { FnError } from '#contract/errors.ts';
import { Revision } from '#contract/function.ts';
import type { FunctionChange, FunctionRecord, Store } from '../../controller/store/types.ts';
import { STORES, useRedis } from './store.adapters.ts';

useRedis();

function revision(number: number, { namespace = 'default', name = 'hello', bundle = 'a' } = {}): Revision {
  return Revision.parse({
    key: `${namespace}/${name}@${number}`,
    namespace,
    name,
    number,
    bundle: `sha256:${bundle.repeat(64)}`,
    entry: 'index.mjs',
    settings: { concurrency: 50, egress: ['10.0.0.0/8'], env: { A: 'ünïcødé ✓ "quoted"', B: '' }, memoryMib: 256 },
    form: 'fetch',
    createdAt: 1_790_000_000_000 + number,
  });
}

/** All of the traffic for one revision. */
const all = (number: number): FunctionChange => ({ traffic: [{ revision: number, percent: 100 }] });
const numbers = (record: FunctionRecord | null): number[] => (record?.revisions ?? []).map((kept) => kept.number);

describe.each(STORES)('store: $name', ({ open }) => {
  let folder: string;
  let store: Store;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-store-'));
    store = await open(folder);
  });

  afterEach(async () => {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('raises the term by one each time', async () => {
    expect([await store.raiseTerm(), await store.raiseTerm(), await store.raiseTerm()]).toEqual([1, 2, 3]);
  });

  it('makes an installation id once, different for each installation', async () => {
    const id = await store.installationId();
    expect(id.length).toBeGreaterThan(20);
    expect(await store.installationId()).toBe(id);
    const otherFolder = await mkdtemp(join(tmpdir(), 'fn-store-'));
    const other = await open(otherFolder);
    try {
      expect(await other.installationId()).not.toBe(id);
    } finally {
      await other.close();
      await rm(otherFolder, { recursive: true });
    }
  });

  it('counts revisions per function', async () => {
    expect(await store.reserveRevision('default', 'hello')).toBe(1);
    expect(await store.reserveRevision('default', 'hello')).toBe(2);
    expect(await store.reserveRevision('default', 'other')).toBe(1);
    expect(await store.reserveRevision('team', 'hello')).toBe(1);
  });

  it('never gives the same number to two that ask at once', async () => {
    const given = await Promise.all(Array.from({ length: 50 }, () => store.reserveRevision('default', 'hello')));
    expect(new Set(given).size).toBe(50);
  });

  it('a reserved number alone makes no function', async () => {
    await store.reserveRevision('default', 'hello');
    expect(await store.getFunction('default', 'hello')).toBeNull();
    expect(await store.listFunctions()).toEqual([]);
    expect(await store.deleteFunction('default', 'hello')).toBe(false);
  });

  it('returns what was committed, unchanged', async () => {
    const written = revision(await store.reserveRevision('default', 'hello'));
    const access = FunctionAccess.parse({ routes: [{ path: '/x' }], auth: { type: 'token' } });
    const record = {
      namespace: 'default',
      name: 'hello',
      traffic: [{ revision: 1, percent: 100 }],
      access,
      generation: 1,
      revisions: [written],
    };
    expect(await store.commitRevision(written, { ...all(1), access })).toEqual(record);
    expect(await store.getFunction('default', 'hello')).toEqual(record);
  });

  it('adds a revision without traffic where nothing is said of it; a new function needs some', async () => {
    await expect(store.commitRevision(revision(1), {})).rejects.toThrow();
    expect(await store.getFunction('default', 'hello')).toBeNull();
    await store.commitRevision(revision(1), all(1));
    await store.commitRevision(revision(3), {});
    const record = await store.commitRevision(revision(2), {});
    expect(record).toMatchObject({ traffic: [{ revision: 1, percent: 100 }], access: DEFAULT_ACCESS, generation: 3 });
    expect(numbers(record)).toEqual([3, 2, 1]);
  });

  it('changes traffic and access, each alone, and raises the generation', async () => {
    await store.commitRevision(revision(1), all(1));
    await store.commitRevision(revision(2), all(2));
    const traffic = [
      { revision: 2, percent: 90 },
      { revision: 1, percent: 10 },
    ];
    expect(await store.changeFunction('default', 'hello', { traffic })).toMatchObject({ traffic, access: DEFAULT_ACCESS, generation: 3 });
    const access = FunctionAccess.parse({ sticky: { by: 'cookie' } });
    expect(await store.changeFunction('default', 'hello', { access })).toMatchObject({ traffic, access, generation: 4 });
    expect(await store.getFunction('default', 'hello')).toMatchObject({ traffic, access, generation: 4 });
  });

  it('knows who declares a function until another does, or it is deleted', async () => {
    const declaredBy = { uid: 'u-1', namespace: 'shop', name: 'hello', generation: 3, reapply: null, revision: 1 };
    expect(await store.commitRevision(revision(1), { ...all(1), declaredBy })).toMatchObject({ declaredBy });
    expect(await store.commitRevision(revision(2), all(2))).toMatchObject({ declaredBy });
    const next = { ...declaredBy, generation: 4, reapply: 'again', revision: 2 };
    expect(await store.changeFunction('default', 'hello', { declaredBy: next })).toMatchObject({ ...all(2), declaredBy: next });
    expect(await store.getFunction('default', 'hello')).toMatchObject({ declaredBy: next });
    await store.deleteFunction('default', 'hello');
    expect(await store.commitRevision(revision(3), all(3))).not.toHaveProperty('declaredBy');
    expect(await store.getFunction('default', 'hello')).not.toHaveProperty('declaredBy');
  });

  it('refuses a change that is wrong, stale, or of nothing, and changes nothing', async () => {
    const before = await store.commitRevision(revision(1), all(1));
    const refused = async (change: FunctionChange, code: string) =>
      expect(store.changeFunction('default', 'hello', change)).rejects.toMatchObject({ code });
    await refused(all(7), 'revision-not-found');
    await refused({ ...all(1), ifGeneration: 2 }, 'precondition-failed');
    await expect(store.changeFunction('default', 'hello', { traffic: [{ revision: 1, percent: 99 }] })).rejects.toThrow();
    await expect(store.changeFunction('default', 'other', all(1))).rejects.toMatchObject({ code: 'function-not-found' });
    await expect(store.commitRevision(revision(2), { ...all(2), ifGeneration: 9 })).rejects.toMatchObject({ code: 'precondition-failed' });
    expect(await store.getFunction('default', 'hello')).toEqual(before);
    expect(await store.changeFunction('default', 'hello', { ...all(1), ifGeneration: 1 })).toMatchObject({ generation: 2 });
  });

  it('of two changes with the same generation one wins', async () => {
    await store.commitRevision(revision(1), all(1));
    const both = await Promise.allSettled([1, 2].map(() => store.changeFunction('default', 'hello', { ...all(1), ifGeneration: 1 })));
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('removes revisions, never one with traffic', async () => {
    for (const number of [1, 2, 3, 4]) await store.commitRevision(revision(number, { bundle: String(number) }), all(number));
    await store.changeFunction('default', 'hello', {
      traffic: [
        { revision: 4, percent: 50 },
        { revision: 1, percent: 50 },
      ],
    });
    expect(await store.removeRevisions('default', 'hello', [1, 2, 4, 9])).toEqual([2]);
    expect(numbers(await store.getFunction('default', 'hello'))).toEqual([4, 3, 1]);
    expect((await store.bundlesInUse()).size).toBe(3);
    expect(await store.removeRevisions('default', 'nothing', [1])).toEqual([]);
    expect(await store.reserveRevision('default', 'hello')).toBe(5);
  });

  it('refuses the same revision a second time, and changes nothing', async () => {
    await store.commitRevision(revision(1), all(1));
    await store.commitRevision(revision(2), all(2));
    const again = store.commitRevision(revision(1, { bundle: 'b' }), all(1));
    await expect(again).rejects.toBeInstanceOf(FnError);
    await expect(again).rejects.toMatchObject({ code: 'conflict' });
    expect((await store.getFunction('default', 'hello'))?.traffic).toEqual(all(2).traffic);
    expect(await store.bundlesInUse()).toEqual(new Set([`sha256:${'a'.repeat(64)}`]));
  });

  it('does not take what it could not read again', async () => {
    await expect(store.commitRevision({ ...revision(1), entry: '../x' }, all(1))).rejects.toThrow();
    await expect(store.commitRevision({ ...revision(1), key: 'default/hello@2' }, all(1))).rejects.toThrow();
    expect(await store.listFunctions()).toEqual([]);
  });

  it('lists functions by namespace, then name; or those of one namespace', async () => {
    for (const [namespace, name] of [
      ['team', 'b'],
      ['default', 'z'],
      ['team', 'a'],
      ['default', 'a-1'],
      ['default', 'a'],
    ] as const) {
      await store.commitRevision(revision(1, { namespace, name }), all(1));
    }
    const names = async (namespace?: string) =>
      (await store.listFunctions(namespace)).map((record) => `${record.namespace}/${record.name}`);
    expect(await names()).toEqual(['default/a', 'default/a-1', 'default/z', 'team/a', 'team/b']);
    expect(await names('team')).toEqual(['team/a', 'team/b']);
    expect(await names('nobody')).toEqual([]);
  });

  it('deletes a function with its revisions, and none of its neighbours', async () => {
    await store.commitRevision(revision(1), all(1));
    await store.commitRevision(revision(1, { namespace: 'team' }), all(1));
    expect(await store.deleteFunction('default', 'hello')).toBe(true);
    expect(await store.deleteFunction('default', 'hello')).toBe(false);
    expect(await store.getFunction('default', 'hello')).toBeNull();
    expect((await store.listFunctions()).map((record) => record.namespace)).toEqual(['team']);
  });

  it('goes on counting after a function was deleted', async () => {
    await store.commitRevision(revision(await store.reserveRevision('default', 'hello')), all(1));
    await store.reserveRevision('default', 'hello');
    await store.deleteFunction('default', 'hello');
    expect(await store.reserveRevision('default', 'hello')).toBe(3);
  });

  it('does not give a number again that was committed without being reserved', async () => {
    await store.commitRevision(revision(7), all(7));
    expect(await store.reserveRevision('default', 'hello')).toBe(8);
  });

  it('knows the bundles that any revision refers to, old ones too', async () => {
    expect(await store.bundlesInUse()).toEqual(new Set());
    await store.commitRevision(revision(1, { bundle: 'a' }), all(1));
    await store.commitRevision(revision(2, { bundle: 'b' }), all(2));
    await store.commitRevision(revision(1, { bundle: 'c', name: 'other' }), all(1));
    await store.deleteFunction('default', 'other');
    expect(await store.bundlesInUse()).toEqual(new Set(['a', 'b'].map((digit) => `sha256:${digit.repeat(64)}`)));
  });

  it('may be closed twice, and then refuses instead of pretending', async () => {
    await store.close();
    await store.close();
    await expect(store.raiseTerm()).rejects.toMatchObject({ code: 'store-unavailable' });
    await expect(store.listFunctions()).rejects.toMatchObject({ code: 'store-unavailable' });
  });

  it('keeps when functions were used apart from what they have used, until it is removed', async () => {
    await store.saveUsage({ set: new Map([['default/a', 'usage']]), remove: [] });
    await store.saveIdleTimes({
      set: new Map([
        ['default/a', '{"1":"ü"}'],
        ['team/b', 'b'],
      ]),
      remove: [],
    });
    await store.saveIdleTimes({ set: new Map([['default/a', 'more']]), remove: ['team/b', 'never/was'] });
    expect(await store.loadIdleTimes()).toEqual(new Map([['default/a', 'more']]));
    expect(await store.loadUsage()).toEqual(new Map([['default/a', 'usage']]));
  });

  describe('what functions have used', () => {
    it('is there as it was written last, until it is removed', async () => {
      expect(await store.loadUsage()).toEqual(new Map());
      await store.saveUsage({
        set: new Map([
          ['', 'pool'],
          ['default/a', '{"1":"ü"}'],
          ['team/b', 'b'],
        ]),
        remove: [],
      });
      await store.saveUsage({ set: new Map([['default/a', 'more']]), remove: ['team/b', 'never/was'] });
      expect(await store.loadUsage()).toEqual(
        new Map([
          ['', 'pool'],
          ['default/a', 'more'],
        ]),
      );
      await store.saveUsage({ set: new Map(), remove: [] });
      expect((await store.loadUsage()).size).toBe(2);
    });
  });
});

describe.each(STORES.filter(({ lasting }) => lasting))('lasting store: $name', ({ open }) => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'fn-store-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('keeps everything when opened again', async () => {
    let store = await open(folder);
    const id = await store.installationId();
    await store.raiseTerm();
    await store.commitRevision(revision(await store.reserveRevision('default', 'hello')), all(1));
    await store.reserveRevision('default', 'hello');
    await store.close();

    store = await open(folder);
    try {
      expect(await store.installationId()).toBe(id);
      expect(await store.raiseTerm()).toBe(2);
      expect((await store.getFunction('default', 'hello'))?.revisions).toEqual([revision(1)]);
      expect(await store.reserveRevision('default', 'hello')).toBe(3);
    } finally {
      await store.close();
    }
  });

  it('shows each write to a second reader at once', async () => {
    const first = await open(folder);
    const second = await open(folder);
    try {
      await first.commitRevision(revision(1), all(1));
      expect((await second.getFunction('default', 'hello'))?.revisions).toEqual([revision(1)]);
      expect([await first.raiseTerm(), await second.raiseTerm(), await first.raiseTerm()]).toEqual([1, 2, 3]);
    } finally {
      await first.close();
      await second.close();
    }
  });
});
