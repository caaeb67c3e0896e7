import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deploy, driven, Machine, request } from '../../test/helpers/engine-harness.ts';
import { silentLog } from '#kit/log.ts';
import type { ImageStore } from '../driver/types.ts';
import { openSqliteStore } from '../store/sqlite/store.ts';
import type { Store } from '../store/types.ts';
import type { Engine } from './engine.ts';

const IMAGE = `sha256:${'1'.repeat(64)}`;
const OTHER = `sha256:${'2'.repeat(64)}`;
const HOUR = 3_600_000;

let machine: Machine;
let store: Store;
/** What the engine has let go of, and what it cannot, or not without an error. */
let released: string[];
let busy: Set<string>;
let broken: Set<string>;

beforeEach(async () => {
  machine = await Machine.create();
  store = openSqliteStore({ path: machine.paths.database, log: silentLog });
  released = [];
  busy = new Set();
  broken = new Set();
});
afterEach(async () => {
  await store.close();
  await machine.close();
});

const found = async (id: string) => ({ id, reference: null, bytes: 1, port: null });
const images: ImageStore = {
  find: found,
  load: () => found(IMAGE),
  pull: found,
  hold: async () => {},
  release: async (id) => {
    if (broken.has(id)) throw new Error('the engine is away');
    if (busy.has(id)) return false;
    released.push(id);
    return true;
  },
};

const start = (): Promise<Engine> => machine.start({ retention: { count: 1, maxAgeMs: 1 }, images });
const brought = (namespace: string, image: string) => store.addArtifact(namespace, 'image', image, machine.clock.wall());
const owners = async () => (await store.listArtifacts('image')).map(({ namespace, digest }) => [namespace, digest]);
const deployImage = (engine: Engine, name: string, image: string) =>
  driven(machine, engine.deploy('default', name, { ...request({ runtime: 'image' }), image }, new AbortController().signal));
/** Nobody calls: hours go by at once. */
const pass = (ms: number) => machine.pass(ms, HOUR / 4);

describe('images that nothing is made of', () => {
  it('go an hour after they were brought, not before', async () => {
    await start();
    await brought('default', IMAGE);
    await pass(HOUR - 1_000);
    expect([released, await owners()]).toEqual([[], [['default', IMAGE]]]);
    await pass(HOUR);
    expect([released, await owners()]).toEqual([[IMAGE], []]);
  });

  it('stay while a revision is kept that is made of them, and go after it', async () => {
    const engine = await start();
    await brought('default', IMAGE);
    await deployImage(engine, 'web', IMAGE);
    await pass(4 * HOUR);
    expect([released, await owners()]).toEqual([[], [['default', IMAGE]]]);
    await driven(machine, engine.delete('default', 'web'));
    await pass(2 * HOUR);
    expect([released, await owners()]).toEqual([[IMAGE], []]);
  });

  it('stay for a revision that a rollback goes back to, although nothing is known of it but what is stored', async () => {
    const engine = await start();
    for (const image of [IMAGE, OTHER]) {
      await brought('default', image);
      await deployImage(engine, 'web', image);
    }
    await pass(4 * HOUR);
    expect((await engine.revisions('default', 'web')).map(({ image }) => image)).toEqual([OTHER, IMAGE]);
    expect(released).toEqual([]);
  });

  it('go from a namespace that has none of them, and stay in the engine for one that has', async () => {
    const engine = await start();
    await brought('default', IMAGE);
    await brought('other', IMAGE);
    await deployImage(engine, 'web', IMAGE);
    await pass(2 * HOUR);
    expect([released, await owners()]).toEqual([[], [['default', IMAGE]]]);
  });

  it('of two namespaces go from the engine once', async () => {
    await start();
    for (const namespace of ['default', 'other']) await brought(namespace, IMAGE);
    await pass(2 * HOUR);
    expect([released, await owners()]).toEqual([[IMAGE], []]);
  });

  it('that the engine cannot let go of are tried again, and keep no other one', async () => {
    await start();
    for (const image of [IMAGE, OTHER]) await brought('default', image);
    busy.add(IMAGE);
    await pass(2 * HOUR);
    expect([released, await owners()]).toEqual([[OTHER], [['default', IMAGE]]]);
    busy.clear();
    broken.add(IMAGE);
    await pass(HOUR);
    expect(await owners()).toEqual([['default', IMAGE]]);
    broken.clear();
    await pass(HOUR);
    expect([released, await owners()]).toEqual([[OTHER, IMAGE], []]);
  });

  it('and bundles do not keep functions of other runtimes from going on', async () => {
    const engine = await start();
    await brought('default', IMAGE);
    const key = await deploy(machine, engine, 'hello');
    await pass(2 * HOUR);
    expect([released, key, (await engine.list()).length]).toEqual([[IMAGE], 'default/hello@1', 1]);
  });
});
