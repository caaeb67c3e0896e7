import { afterEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { waitFor } from '../../test/helpers/wait.ts';
import { FakeKube } from './fake.ts';
import { CONFIG_MAPS, type ConfigMap } from './resources.ts';
import { KubeUnreachable } from './types.ts';
import { ListWatch, type ListWatchOptions } from './watch.ts';

const NS = 'here';
const STALL_MS = 50_000;

const manifest = (name: string, labels: Record<string, string> = { app: 'x' }) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, labels },
});

class Bench {
  readonly kube = new FakeKube();
  readonly clock = new VirtualClock();
  /** What was told, in its order. */
  readonly told: string[] = [];
  readonly watch: ListWatch<ConfigMap>;

  constructor(options: Partial<ListWatchOptions<ConfigMap>> = {}) {
    this.watch = new ListWatch({
      api: this.kube,
      resource: CONFIG_MAPS,
      namespace: NS,
      selector: { labels: 'app=x' },
      log: silentLog,
      clock: this.clock,
      stallMs: STALL_MS,
      onChange: ({ metadata, data }) => void this.told.push(`${metadata.name}${data.v === undefined ? '' : ` ${data.v}`}`),
      onDelete: ({ metadata }) => void this.told.push(`-${metadata.name}`),
      onSync: () => void this.told.push('sync'),
      onCurrent: (current) => void this.told.push(current ? 'current' : 'lost'),
      ...options,
    });
  }

  create = (name: string, labels?: Record<string, string>) => this.kube.create(CONFIG_MAPS, NS, manifest(name, labels));

  tells = (text: string) => waitFor(`"${text}"`, () => this.told.includes(text), { everyMs: 1 });

  watching = () => waitFor('a watch', () => this.kube.watching === 1, { everyMs: 1 });
}

const benches: Bench[] = [];
const start = async (prepare?: (bench: Bench) => Promise<unknown>): Promise<Bench> => {
  const bench = new Bench();
  benches.push(bench);
  await prepare?.(bench);
  await bench.watch.start();
  await bench.watching();
  bench.told.length = 0;
  return bench;
};

afterEach(async () => {
  for (const { watch } of benches.splice(0)) await watch.close();
});

describe('list and watch', () => {
  it('tells what is there, and what comes, changes and goes', async () => {
    const bench = new Bench();
    benches.push(bench);
    await bench.create('a');
    await bench.watch.start();
    expect(bench.told).toEqual(['a', 'current', 'sync']);
    await bench.watching();
    await bench.create('b');
    await bench.create('foreign', { app: 'y' });
    await bench.tells('b');
    bench.kube.change(CONFIG_MAPS, NS, 'a', { data: { v: '2' } });
    await bench.tells('a 2');
    await bench.kube.delete(CONFIG_MAPS, NS, 'b');
    await bench.tells('-b');
    expect(bench.told).toEqual(['a', 'current', 'sync', 'b', 'a 2', '-b']);
    expect([...bench.watch.objects.keys()]).toEqual(['a']);
  });

  it('fails where the first list cannot be read', async () => {
    const bench = new Bench();
    bench.kube.fault = () => Promise.reject(new KubeUnreachable('down'));
    await expect(bench.watch.start()).rejects.toBeInstanceOf(KubeUnreachable);
  });

  it('goes on where it was when the server ends a watch, without another list', async () => {
    const bench = await start((it) => it.create('a'));
    bench.kube.endWatches('end');
    await bench.create('b');
    await bench.tells('b');
    expect(bench.kube.requests.get('list')).toBe(1);
    expect(bench.told).toEqual(['b']);
  });

  it('takes nothing for deleted while the server is away, and tells afterwards what has changed, once', async () => {
    const bench = await start(async (it) => {
      await it.create('stays');
      await it.create('goes');
    });
    let away = true;
    bench.kube.fault = (verb) => (away && verb !== 'create' && verb !== 'delete' ? Promise.reject(new KubeUnreachable('away')) : undefined);
    bench.kube.endWatches('cut');
    await bench.tells('lost');
    bench.kube.remove(CONFIG_MAPS, NS, 'goes');
    await bench.create('new');
    bench.kube.expire();
    expect(bench.told).toEqual(['lost']);
    expect([...bench.watch.objects.keys()]).toEqual(['stays', 'goes']);
    expect(bench.watch.current).toBe(false);
    away = false;
    await bench.tells('sync');
    expect(bench.told.filter((text) => text !== 'lost' && text !== 'current')).toEqual(['-goes', 'new', 'sync']);
    expect(bench.watch.current).toBe(true);
  });

  it('reads the list again where its version has expired', async () => {
    const bench = await start((it) => it.create('a'));
    bench.kube.expire();
    bench.kube.endWatches('end');
    await bench.create('b');
    await bench.tells('b');
    await bench.tells('sync');
    expect(bench.kube.requests.get('list')).toBe(2);
  });

  it('drops a watch that is silent for too long, and reads the list again', async () => {
    const bench = await start((it) => it.create('a'));
    bench.kube.endWatches('stall');
    await bench.create('b');
    bench.clock.advance(STALL_MS - 1);
    expect(bench.told).toEqual([]);
    bench.clock.advance(1);
    await bench.tells('sync');
    expect(bench.told).toEqual(['lost', 'b', 'current', 'sync']);
  });

  it('takes a bookmark for a sign of life, and goes on after it', async () => {
    const bench = await start((it) => it.create('a'));
    for (let round = 0; round < 4; round += 1) {
      bench.clock.advance(STALL_MS / 2);
      const before = bench.kube.bookmarksTaken;
      bench.kube.bookmark();
      await waitFor('the bookmark', () => bench.kube.bookmarksTaken > before, { everyMs: 1 });
    }
    bench.kube.expireBeforeLast();
    bench.kube.endWatches('end');
    await bench.create('b');
    await bench.tells('b');
    expect(bench.kube.requests.get('list')).toBe(1);
  });

  it('tells an object of the same name that is another one as an end and a beginning', async () => {
    const bench = await start((it) => it.create('a'));
    bench.kube.endWatches('stall');
    await bench.kube.delete(CONFIG_MAPS, NS, 'a');
    await bench.create('a');
    bench.clock.advance(STALL_MS);
    await bench.tells('sync');
    expect(bench.told).toEqual(['lost', '-a', 'a', 'current', 'sync']);
  });

  it('tells nothing after it was closed', async () => {
    const bench = await start();
    await bench.watch.close();
    await bench.watch.close();
    await bench.create('late');
    expect(bench.told).toEqual(['lost']);
    expect(bench.kube.watching).toBe(0);
  });
});
