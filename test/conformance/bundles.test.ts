/** What every store of bundles must do, wherever it keeps them. */
import { mkdtemp, readFile, readdir, rm, stat, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openBundleStore } from '../../controller/store/bundles.ts';
import { openRedisBundleStore } from '../../controller/store/redis/bundles.ts';
import { RedisTerm } from '../../controller/store/redis/term.ts';
import type { BundleStore } from '../../controller/store/types.ts';
import { digestOf, pax, pieces, tar } from '../helpers/tar.ts';
import { openRedisFor, useRedis } from './store.adapters.ts';

const redis = useRedis();

interface Opened {
  store: BundleStore;
  close?(): void;
}

interface Adapter {
  name: string;
  /** The same folder, the same store. */
  open(folder: string): Promise<Opened>;
  /** As if it had been asked for an hour ago. */
  age(opened: Opened, folder: string, digest: string): Promise<void>;
}

const HOUR_MS = 3_600_000;
const hexOf = (digest: string) => digest.slice('sha256:'.length);

async function openRedisBundles(folder: string, cache = join(folder, 'bundles')) {
  const connection = await openRedisFor(folder);
  const term = new RedisTerm(connection);
  return {
    store: openRedisBundleStore({ term, cache: await openBundleStore({ folder: cache }) }),
    connection,
    term,
    close: () => connection.close(),
  };
}

const ADAPTERS: Adapter[] = [
  {
    name: 'a folder',
    open: async (folder) => ({ store: await openBundleStore({ folder: join(folder, 'bundles') }) }),
    async age(_opened, folder, digest) {
      const then = new Date(Date.now() - HOUR_MS);
      await utimes(join(folder, 'bundles', hexOf(digest)), then, then);
    },
  },
  {
    name: 'redis, unpacked into a folder',
    open: openRedisBundles,
    async age(_opened, folder, digest) {
      const connection = await openRedisFor(folder);
      await connection.call('ZADD', connection.key('bundle-times'), Date.now() - HOUR_MS, hexOf(digest));
      connection.close();
    },
  },
];

const put = (store: BundleStore, data: Buffer) => store.put(digestOf(data), pieces(data));

/** Of its own content, so that it is not another test's. */
const small = (content: string) => gzipSync(tar({ name: 'f', content }));

let folder: string;
const opened: Opened[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fn-bundles-'));
});
afterEach(async () => {
  for (const one of opened.splice(0)) one.close?.();
  await rm(folder, { recursive: true, force: true });
});

describe.each(ADAPTERS)('bundles in $name', ({ open, age }) => {
  let store: BundleStore;
  const another = async () => {
    const one = await open(folder);
    opened.push(one);
    return one.store;
  };
  beforeEach(async () => {
    store = await another();
  });

  const data = gzipSync(
    tar(
      { name: 'index.mjs', content: 'export default 1' },
      { name: 'lib/', type: '5' },
      { name: 'lib/deep/a.json', content: '{}', mode: 0o600 },
      { name: './empty' },
    ),
  );
  const digest = digestOf(data);

  it('are kept under their digest', async () => {
    expect(await store.has(digest)).toBe(false);
    expect(await store.info(digest)).toBeNull();
    await expect(store.dir(digest)).rejects.toMatchObject({ code: 'not-found' });
    expect(await put(store, data)).toEqual({ created: true, bytes: data.length, files: 3 });
    expect(await store.has(digest)).toBe(true);
    expect(await store.info(digest)).toEqual({ bytes: data.length, files: 3 });
    const dir = await store.dir(digest);
    expect(await readFile(join(dir, 'index.mjs'), 'utf8')).toBe('export default 1');
    expect(await readFile(join(dir, 'lib/deep/a.json'), 'utf8')).toBe('{}');
    expect(await readFile(join(dir, 'empty'), 'utf8')).toBe('');
    expect(await readdir(join(folder, 'bundles', '.tmp'))).toEqual([]);
  });

  it('can be read by another uid and written by none, whatever the umask and the modes in them', async () => {
    await put(store, data);
    const dir = await store.dir(digest);
    const names = ['', 'index.mjs', 'lib', 'lib/deep', 'lib/deep/a.json'];
    const modes = await Promise.all(names.map(async (name) => [name, (await stat(join(dir, name))).mode & 0o7777]));
    expect(Object.fromEntries(modes)).toEqual({ '': 0o755, 'index.mjs': 0o644, lib: 0o755, 'lib/deep': 0o755, 'lib/deep/a.json': 0o644 });
    expect((await stat(join(dir, '..'))).mode & 0o777).toBe(0o755);
  });

  it('sent again: not created again, and the same answer; other bytes are refused', async () => {
    await put(store, data);
    expect(await put(store, data)).toEqual({ created: false, bytes: data.length, files: 3 });
    await expect(store.put(digest, pieces(Buffer.from('other')))).rejects.toMatchObject({ code: 'invalid' });
    expect(await store.has(digest)).toBe(true);
  });

  it('sent ten times at once: one of them makes it', async () => {
    const results = await Promise.all(Array.from({ length: 10 }, () => put(store, data)));
    expect(results.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(results.map(({ files }) => files))).toEqual(new Set([3]));
    expect(await readdir(join(folder, 'bundles', '.tmp'))).toEqual([]);
  });

  it('are there when the store is opened again', async () => {
    await put(store, data);
    const again = await another();
    expect(await again.has(digest)).toBe(true);
    expect(await readFile(join(await again.dir(digest), 'index.mjs'), 'utf8')).toBe('export default 1');
  });

  it('with long names, as pax writes them, keep them', async () => {
    const name = `${'d'.repeat(120)}/${'ü'.repeat(60)}.mjs`;
    const long = gzipSync(tar(pax({ path: name }), { name: 'short', content: 'x' }));
    await put(store, long);
    expect(await readFile(join(await store.dir(digestOf(long)), name), 'utf8')).toBe('x');
  });

  it.each(['sha256:../../etc', `sha256:${'A'.repeat(64)}`, `sha512:${'a'.repeat(64)}`, ''])('%j is no digest', async (bad) => {
    await expect(store.has(bad)).rejects.toThrow();
    await expect(store.info(bad)).rejects.toThrow();
    await expect(store.dir(bad)).rejects.toThrow();
    await expect(store.put(bad, pieces(Buffer.from('x')))).rejects.toThrow();
  });

  it.each<[string, Buffer, string]>([
    [
      'with a link',
      gzipSync(tar({ name: 'l', type: '2', link: '/etc/passwd' })),
      digestOf(gzipSync(tar({ name: 'l', type: '2', link: '/etc/passwd' }))),
    ],
    ['whose digest is another', data, `sha256:${'0'.repeat(64)}`],
  ])('%s is refused and leaves nothing', async (_name, bytes, claimed) => {
    await expect(store.put(claimed, pieces(bytes))).rejects.toMatchObject({ code: 'invalid' });
    expect(await store.has(claimed)).toBe(false);
    expect(await store.info(claimed)).toBeNull();
    expect(await readdir(join(folder, 'bundles'))).toEqual(['.tmp']);
    expect(await readdir(join(folder, 'bundles', '.tmp'))).toEqual([]);
  });

  it('that nobody keeps go when they are old, and nothing else', async () => {
    const [kept, old, young] = ['kept', 'old', 'young'].map(small) as [Buffer, Buffer, Buffer];
    for (const one of [kept, old, young]) await put(store, one);
    for (const one of [kept, old]) await age(opened[0]!, folder, digestOf(one));
    expect(await store.prune(new Set([digestOf(kept)]), 60_000)).toBe(1);
    expect([await store.has(digestOf(old)), await store.has(digestOf(kept)), await store.has(digestOf(young))]).toEqual([
      false,
      true,
      true,
    ]);
  });

  it('that were asked for a moment ago are spared: a deployment of them is under way', async () => {
    await put(store, data);
    await age(opened[0]!, folder, digest);
    await store.has(digest);
    expect(await store.prune(new Set(), 60_000)).toBe(0);
  });
});

describe('bundles in redis', () => {
  const openHere = async (cache?: string) => {
    const one = await openRedisBundles(folder, cache);
    opened.push(one);
    return one;
  };
  // Some pieces of 1 MiB, and one that is not full.
  const big = gzipSync(
    tar(
      { name: 'index.mjs', content: 'x' },
      { name: 'blob', content: Buffer.from(Array.from({ length: 2_600_000 }, (_, i) => (i * 7_919 + (i >> 8) * 104_729) & 0xff)) },
    ),
    { level: 0 },
  );

  it('reach a host that has never seen them, once for all who ask', async () => {
    await put((await openHere()).store, big);
    const other = await openHere(join(folder, 'elsewhere'));
    const dirs = await Promise.all(Array.from({ length: 5 }, () => other.store.dir(digestOf(big))));
    expect(new Set(dirs).size).toBe(1);
    expect((await stat(join(dirs[0]!, 'blob'))).size).toBe(2_600_000);
    expect(await readdir(join(folder, 'elsewhere', '.tmp'))).toEqual([]);
  });

  it('that are unpacked here serve while Redis is away; a new one says so', async () => {
    const { store, connection } = await openHere();
    await put(store, big);
    connection.close();
    expect(await readFile(join(await store.dir(digestOf(big)), 'index.mjs'), 'utf8')).toBe('x');
    await expect(put(store, small('late'))).rejects.toMatchObject({ code: 'store-unavailable' });
  });

  it('leave no piece behind: not of a refused upload, and not once they are removed', async () => {
    const { store, connection } = await openHere();
    await expect(store.put(`sha256:${'0'.repeat(64)}`, pieces(big))).rejects.toMatchObject({ code: 'invalid' });
    await put(store, big);
    await put(store, big);
    const pattern = async () => {
      const client = redis().client();
      return (await client.keys(`${connection.prefix.replaceAll(/[{}]/g, '?')}*`))
        .map((key) => key.slice(connection.prefix.length))
        .filter((key) => /^(?:upload|bundle):/.test(key));
    };
    expect((await pattern()).toSorted()).toEqual([0, 1, 2].map((index) => `bundle:${hexOf(digestOf(big))}:${index}`));
    await connection.call('ZADD', connection.key('bundle-times'), 1, hexOf(digestOf(big)));
    expect(await store.prune(new Set(), 60_000)).toBe(1);
    expect(await pattern()).toEqual([]);
  });

  it('that are damaged there are not unpacked', async () => {
    const { store, connection } = await openHere();
    await put(store, big);
    await connection.call('SET', connection.key(`bundle:${hexOf(digestOf(big))}:1`), 'rubbish');
    const other = await openHere(join(folder, 'elsewhere'));
    await expect(other.store.dir(digestOf(big))).rejects.toMatchObject({
      code: 'store-unavailable',
      message: expect.stringContaining('damaged') as string,
    });
    expect(await readdir(join(folder, 'elsewhere'))).toEqual(['.tmp']);
  });

  it('are written and removed by the leader only', async () => {
    const old = await openHere();
    const young = await openHere(join(folder, 'elsewhere'));
    await old.term.raiseTerm();
    await put(old.store, big);
    await young.term.raiseTerm();
    await expect(put(old.store, small('late'))).rejects.toMatchObject({ code: 'not-leader' });
    await old.connection.call('ZADD', old.connection.key('bundle-times'), 1, hexOf(digestOf(big)));
    await expect(old.store.prune(new Set(), 60_000)).rejects.toMatchObject({ code: 'not-leader' });
    expect(await young.store.info(digestOf(big))).toMatchObject({ files: 2 });
  });
});
