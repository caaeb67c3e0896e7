/** What every Store must do, whatever it writes to. A new adapter adds a line to STORES. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { Revision } from '#contract/function.ts';
import { silentLog } from '#kit/log.ts';
import { IN_MEMORY, openSqliteStore } from '../../controller/store/sqlite/store.ts';
import type { Store } from '../../controller/store/types.ts';

interface Adapter {
  name: string;
  /** What was written is there when it is opened again. */
  lasting: boolean;
  open(folder: string): Promise<Store>;
}

const STORES: Adapter[] = [
  { name: 'sqlite, file', lasting: true, open: async (folder) => openSqliteStore({ path: join(folder, 'fn.db'), log: silentLog }) },
  { name: 'sqlite, memory', lasting: false, open: async () => openSqliteStore({ path: IN_MEMORY, log: silentLog }) },
];

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
    const numbers = await Promise.all(Array.from({ length: 50 }, () => store.reserveRevision('default', 'hello')));
    expect(new Set(numbers).size).toBe(50);
  });

  it('a reserved number alone makes no function', async () => {
    await store.reserveRevision('default', 'hello');
    expect(await store.getFunction('default', 'hello')).toBeNull();
    expect(await store.listFunctions()).toEqual([]);
    expect(await store.listRevisions('default', 'hello')).toEqual([]);
    expect(await store.deleteFunction('default', 'hello')).toBe(false);
  });

  it('returns what was committed, unchanged', async () => {
    const written = revision(await store.reserveRevision('default', 'hello'));
    await store.commitRevision(written);
    expect(await store.getFunction('default', 'hello')).toEqual({ namespace: 'default', name: 'hello', revision: written });
    expect(await store.listRevisions('default', 'hello')).toEqual([written]);
  });

  it('routes to what was committed last, and lists the newest first', async () => {
    await store.commitRevision(revision(1));
    await store.commitRevision(revision(3));
    expect((await store.getFunction('default', 'hello'))?.revision.number).toBe(3);
    await store.commitRevision(revision(2));
    expect((await store.getFunction('default', 'hello'))?.revision.number).toBe(2);
    expect((await store.listRevisions('default', 'hello')).map(({ number }) => number)).toEqual([3, 2, 1]);
  });

  it('refuses the same revision a second time, and changes nothing', async () => {
    await store.commitRevision(revision(1));
    await store.commitRevision(revision(2));
    const again = store.commitRevision(revision(1, { bundle: 'b' }));
    await expect(again).rejects.toBeInstanceOf(FnError);
    await expect(again).rejects.toMatchObject({ code: 'conflict' });
    expect((await store.getFunction('default', 'hello'))?.revision.number).toBe(2);
    expect(await store.bundlesInUse()).toEqual(new Set([`sha256:${'a'.repeat(64)}`]));
  });

  it('does not take what it could not read again', async () => {
    await expect(store.commitRevision({ ...revision(1), entry: '../x' })).rejects.toThrow();
    await expect(store.commitRevision({ ...revision(1), key: 'default/hello@2' })).rejects.toThrow();
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
      await store.commitRevision(revision(1, { namespace, name }));
    }
    const names = async (namespace?: string) =>
      (await store.listFunctions(namespace)).map((record) => `${record.namespace}/${record.name}`);
    expect(await names()).toEqual(['default/a', 'default/a-1', 'default/z', 'team/a', 'team/b']);
    expect(await names('team')).toEqual(['team/a', 'team/b']);
    expect(await names('nobody')).toEqual([]);
  });

  it('deletes a function with its revisions, and none of its neighbours', async () => {
    await store.commitRevision(revision(1));
    await store.commitRevision(revision(1, { namespace: 'team' }));
    expect(await store.deleteFunction('default', 'hello')).toBe(true);
    expect(await store.deleteFunction('default', 'hello')).toBe(false);
    expect(await store.getFunction('default', 'hello')).toBeNull();
    expect(await store.listRevisions('default', 'hello')).toEqual([]);
    expect((await store.listFunctions()).map((record) => record.namespace)).toEqual(['team']);
  });

  it('goes on counting after a function was deleted', async () => {
    await store.commitRevision(revision(await store.reserveRevision('default', 'hello')));
    await store.reserveRevision('default', 'hello');
    await store.deleteFunction('default', 'hello');
    expect(await store.reserveRevision('default', 'hello')).toBe(3);
  });

  it('does not give a number again that was committed without being reserved', async () => {
    await store.commitRevision(revision(7));
    expect(await store.reserveRevision('default', 'hello')).toBe(8);
  });

  it('knows the bundles that any revision refers to, old ones too', async () => {
    expect(await store.bundlesInUse()).toEqual(new Set());
    await store.commitRevision(revision(1, { bundle: 'a' }));
    await store.commitRevision(revision(2, { bundle: 'b' }));
    await store.commitRevision(revision(1, { bundle: 'c', name: 'other' }));
    await store.deleteFunction('default', 'other');
    expect(await store.bundlesInUse()).toEqual(new Set(['a', 'b'].map((digit) => `sha256:${digit.repeat(64)}`)));
  });

  it('may be closed twice, and then refuses instead of pretending', async () => {
    await store.close();
    await store.close();
    await expect(store.raiseTerm()).rejects.toMatchObject({ code: 'store-unavailable' });
    await expect(store.listFunctions()).rejects.toMatchObject({ code: 'store-unavailable' });
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
    await store.commitRevision(revision(await store.reserveRevision('default', 'hello')));
    await store.reserveRevision('default', 'hello');
    await store.close();

    store = await open(folder);
    try {
      expect(await store.installationId()).toBe(id);
      expect(await store.raiseTerm()).toBe(2);
      expect((await store.getFunction('default', 'hello'))?.revision).toEqual(revision(1));
      expect(await store.reserveRevision('default', 'hello')).toBe(3);
    } finally {
      await store.close();
    }
  });

  it('shows each write to a second reader at once', async () => {
    const first = await open(folder);
    const second = await open(folder);
    try {
      await first.commitRevision(revision(1));
      expect((await second.getFunction('default', 'hello'))?.revision).toEqual(revision(1));
      expect([await first.raiseTerm(), await second.raiseTerm(), await first.raiseTerm()]).toEqual([1, 2, 3]);
    } finally {
      await first.close();
      await second.close();
    }
  });
});
