/** What every driver promises (controller/driver/types.ts), as tests. Run by driver.NAME.test.ts. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Egress } from '#contract/function.ts';
import { newInstanceId, newSecret } from '#kit/ids.ts';
import { homePaths, type HomePaths } from '#kit/paths.ts';
import type { CreateSpec, Driver, DriverInstance, Exit } from '../../controller/driver/types.ts';
import { waitFor } from '../helpers/wait.ts';
import { call, healthOf, init, writeBundle } from './driver.instance.ts';

export interface DriverHarness {
  name: string;
  /** A driver over a home. A second one over the same home is a second controller. */
  make(paths: HomePaths): Driver;
  /** SIGKILL that does not come from the driver. */
  killOutside(instance: DriverInstance): Promise<void>;
  /** What is left of a home on this machine; empty after destroyAll(). */
  leftovers(paths: HomePaths): Promise<string[]>;
}

export interface Running {
  instance: DriverInstance;
  nonce: string;
}

/** A driver over a home of its own, with the ends that it reported. */
export class Bench {
  readonly root = mkdtempSync(join(tmpdir(), 'fn-driver-'));
  readonly paths = homePaths(join(this.root, 'home'));
  readonly bundleDir = writeBundle(join(this.root, 'bundle'));
  readonly exits: Exit[] = [];
  readonly driver: Driver;

  constructor(harness: Pick<DriverHarness, 'make'>) {
    this.driver = harness.make(this.paths);
    this.driver.onExit((exit) => void this.exits.push(exit));
  }

  spec(fields: Partial<CreateSpec> = {}): CreateSpec {
    return {
      id: newInstanceId(),
      runtime: 'node',
      memoryClassMib: 128,
      network: 'none',
      image: null,
      sandbox: null,
      nonce: newSecret(),
      ...fields,
    };
  }

  /** An instance that answers health. */
  async boot(fields: Partial<CreateSpec> = {}): Promise<Running> {
    const spec = this.spec(fields);
    const instance = await this.driver.create(spec, new AbortController().signal);
    const { status } = await healthOf(instance);
    if (status !== 'generic') throw new Error(`a new instance says that it is ${status}`);
    return { instance, nonce: spec.nonce };
  }

  /** An instance that is the function of driver.instance.ts. */
  async run(fields: Partial<CreateSpec> & { memoryMib?: number; cpu?: number; egress?: Egress } = {}): Promise<DriverInstance> {
    const { memoryMib = fields.memoryClassMib ?? 128, cpu = 1, egress = 'none', ...spec } = fields;
    const { instance, nonce } = await this.boot(spec);
    await this.driver.seal(instance.id);
    const { code } = await this.driver.specialise(instance.id, {
      bundleDir: this.bundleDir,
      memoryMib,
      cpu,
      egress,
      revision: 'default/suite@1',
      nonce,
    });
    await init(instance, nonce, code, memoryMib);
    return instance;
  }

  /** Ends of one instance, once there is at least one. */
  async endOf(id: string): Promise<Exit[]> {
    await waitFor(`the end of ${id}`, () => this.exits.some((exit) => exit.id === id));
    return this.exits.filter((exit) => exit.id === id);
  }

  async killAll(): Promise<void> {
    for (const { id } of await this.driver.list()) await this.driver.kill(id);
    this.exits.length = 0;
  }

  async dispose(): Promise<void> {
    await this.driver.destroyAll();
    await this.driver.close();
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** For after a suite: throws where something is left. */
export async function nothingLeft(leftovers: DriverHarness['leftovers'], paths: HomePaths): Promise<void> {
  const left = await leftovers(paths);
  if (left.length > 0) throw new Error(`left behind: ${left.join('; ')}`);
}

export function driverSuite(harness: DriverHarness): void {
  describe(`driver ${harness.name}`, () => {
    let bench: Bench;
    beforeAll(async () => {
      bench = new Bench(harness);
      await bench.driver.start();
    });
    afterEach(() => bench.killAll());
    afterAll(async () => {
      await bench.dispose();
      await nothingLeft(harness.leftovers, bench.paths);
    });

    lifecycle(() => bench);
    ends(() => bench, harness);
    output(() => bench);
    creation(() => bench);
    adoption(() => bench, harness);
    usage(() => bench);
    removal(harness);
  });
}

function lifecycle(bench: () => Bench): void {
  it('creates, seals, specialises, serves, kills', async () => {
    const { driver } = bench();
    expect(await driver.runtimes()).toContainEqual(expect.objectContaining({ name: 'node' }));
    const instance = await bench().run();
    expect(instance).toMatchObject({ runtime: 'node', memoryClassMib: 128, network: 'none', running: true });
    expect(await call(instance, '/')).toMatchObject({ status: 200 });
    expect((await healthOf(instance)).status).toBe('ready');

    await driver.kill(instance.id);
    await expect(call(instance, '/')).rejects.toThrow();
    expect((await driver.list()).map(({ id }) => id)).not.toContain(instance.id);
    expect(existsSync(join(bench().paths.instances, instance.id))).toBe(false);
  });

  it('lists what runs, with a start that does not change', async () => {
    const { instance } = await bench().boot();
    const listed = await bench().driver.list();
    expect(listed).toHaveLength(1);
    expect(listed[0]).toEqual(instance);
    expect((await bench().driver.list())[0]?.startedAt).toBe(instance.startedAt);
  });

  it('kills twice, at once and again, and what never was', async () => {
    const { driver } = bench();
    const { instance } = await bench().boot();
    await Promise.all([driver.kill(instance.id), driver.kill(instance.id)]);
    await driver.kill(instance.id);
    await driver.kill(newInstanceId());
    expect(await driver.list()).toEqual([]);
  });

  it('freezes and thaws, and kills what is frozen', async () => {
    const { driver } = bench();
    if (!driver.features.freeze) {
      const { instance } = await bench().boot();
      await expect(driver.freeze(instance.id)).rejects.toThrow();
      return;
    }
    const instance = await bench().run();
    await driver.freeze(instance.id);
    await driver.thaw(instance.id);
    expect((await call(instance, '/')).status).toBe(200);
    await driver.freeze(instance.id);
    await driver.kill(instance.id);
    expect(await driver.list()).toEqual([]);
  });

  it('refuses to work on what is not there', async () => {
    const { driver, bundleDir } = bench();
    const spec = { bundleDir, memoryMib: 128, cpu: 1, egress: 'none' as const, revision: 'default/suite@1', nonce: newSecret() };
    await expect(driver.specialise(newInstanceId(), spec)).rejects.toThrow();
    await expect(driver.seal(newInstanceId())).rejects.toThrow();
  });
}

function ends(bench: () => Bench, harness: DriverHarness): void {
  /** Reports that come late, or twice, come before the end of another instance that ended after. */
  const settled = async () => {
    const last = await bench().run();
    await call(last, '/exit?code=0').catch(() => {}); // The answer breaks off, as it must.
    await bench().endOf(last.id);
  };

  it('reports an exit once, with its code', async () => {
    const instance = await bench().run();
    await expect(call(instance, '/exit?code=3')).rejects.toThrow();
    await bench().endOf(instance.id);
    await settled();
    expect(bench().exits.filter(({ id }) => id === instance.id)).toEqual([{ id: instance.id, cause: 'exit', detail: 'exit code 3' }]);
    expect((await bench().driver.list()).find(({ id }) => id === instance.id)?.running).toBe(false);
  });

  it('tells a full heap from an exit', async () => {
    const instance = await bench().run();
    await expect(call(instance, '/heap')).rejects.toThrow();
    expect(await bench().endOf(instance.id)).toMatchObject([{ cause: 'oom' }]);
  });

  it('reports a kill from outside once, as the signal it was', async () => {
    const instance = await bench().run();
    await harness.killOutside(instance);
    await bench().endOf(instance.id);
    await settled();
    expect(bench().exits.filter(({ id }) => id === instance.id)).toEqual([{ id: instance.id, cause: 'exit', detail: 'signal SIGKILL' }]);
  });

  it('does not report what it killed itself', async () => {
    const { instance } = await bench().boot();
    await bench().driver.kill(instance.id);
    await settled();
    expect(bench().exits.map(({ id }) => id)).not.toContain(instance.id);
  });
}

function usage(bench: () => Bench): void {
  /** What it burns, and what the request around it may take, µs of CPU; and the finest step of any counter. */
  const BURN_US = 1_000_000;
  const AROUND_US = 800_000;
  const STEP_US = 40_000;

  it('tells what an instance has used, by counters that are not its own, and nothing of one that is gone', async () => {
    const { driver } = bench();
    const { id, ...instance } = await bench().run();
    const before = await driver.usage(id);
    const own = Number((await call({ id, ...instance }, `/burn?us=${BURN_US}`)).body);
    const after = await driver.usage(id);
    if (driver.usageSource === 'none') {
      expect([before, after]).toEqual([null, null]);
    } else {
      expect(after?.counter).toBe(before!.counter);
      const told = after!.cpuUs - before!.cpuUs;
      expect(told).toBeGreaterThanOrEqual(own - STEP_US);
      expect(told).toBeLessThanOrEqual(own + AROUND_US);
      expect(after!.peakBytes ?? Infinity).toBeGreaterThanOrEqual(0);
    }
    await driver.kill(id);
    expect(await driver.usage(id)).toBeNull();
  });

  it('goes on from where it was under the next controller', async () => {
    const { driver } = bench();
    const instance = await bench().run();
    await call(instance, `/burn?us=${BURN_US}`);
    const before = await driver.usage(instance.id);
    await driver.close();
    await driver.start();
    await driver.list();
    const after = await driver.usage(instance.id);
    expect(after?.counter).toBe(before?.counter);
    expect(after?.cpuUs ?? 0).toBeGreaterThanOrEqual(before?.cpuUs ?? 0);
  });
}

function output(bench: () => Bench): void {
  /** Texts that were logged with /log, in the order in which they come. */
  const texts = async (id: string, after: string | null, until: string) => {
    const abort = new AbortController();
    let all = '';
    let position = after;
    for await (const chunk of bench().driver.logs(id, after, abort.signal)) {
      all += chunk.data.toString('utf8');
      position = chunk.position;
      if (all.includes(until)) break;
    }
    abort.abort();
    return { found: all.match(/text-\d+/g) ?? [], position };
  };

  it('goes on after a position, with nothing twice and nothing missing', async () => {
    const instance = await bench().run();
    for (const n of [1, 2, 3]) await call(instance, `/log?text=text-${n}`);
    const first = await texts(instance.id, null, 'text-3');
    expect(first.found).toEqual(['text-1', 'text-2', 'text-3']);
    for (const n of [4, 5]) await call(instance, `/log?text=text-${n}`);
    expect((await texts(instance.id, first.position, 'text-5')).found).toEqual(['text-4', 'text-5']);
  });

  it('follows what comes, and ends with the instance', async () => {
    const instance = await bench().run();
    const following = texts(instance.id, null, 'never');
    for (const n of [1, 2]) await call(instance, `/log?text=text-${n}`);
    await call(instance, '/exit?code=0').catch(() => {}); // The answer breaks off, as it must.
    expect((await following).found).toEqual(['text-1', 'text-2']);
  });

  it('ends when it is aborted, and for what is not there', async () => {
    const { instance } = await bench().boot();
    const abort = new AbortController();
    const reading = (async () => {
      for await (const chunk of bench().driver.logs(instance.id, null, abort.signal)) void chunk;
    })();
    abort.abort();
    await reading;
    for await (const chunk of bench().driver.logs(newInstanceId(), null, new AbortController().signal)) expect(chunk).toBeUndefined();
  });
}

function creation(bench: () => Bench): void {
  it('leaves nothing behind when it is aborted, at whatever moment', async () => {
    const { driver, paths } = bench();
    for (const delayMs of [0, 20, 150, 250]) {
      const abort = new AbortController();
      const spec = bench().spec();
      const creating = driver.create(spec, abort.signal);
      setTimeout(() => abort.abort(new Error('not wanted any more')), delayMs);
      // One that was faster than the abort is there, and whoever asked kills it.
      await creating.then(
        () => driver.kill(spec.id),
        (error: unknown) => expect(error).toMatchObject({ message: 'not wanted any more' }),
      );
      expect(await driver.list()).toEqual([]);
      expect(existsSync(join(paths.instances, spec.id))).toBe(false);
    }
    expect(bench().exits).toEqual([]);
  });

  it('refuses a runtime that is not there, and an id that is', async () => {
    const { driver } = bench();
    await expect(driver.create(bench().spec({ runtime: 'cobol' }), new AbortController().signal)).rejects.toThrow(/cobol/);
    const { instance } = await bench().boot();
    await expect(driver.create(bench().spec({ id: instance.id }), new AbortController().signal)).rejects.toThrow();
    expect((await healthOf(instance)).status).toBe('generic');
  });

  it('creates several at a time', async () => {
    const running = await Promise.all([bench().boot(), bench().boot(), bench().boot()]);
    expect((await bench().driver.list()).map(({ id }) => id).toSorted()).toEqual(running.map(({ instance }) => instance.id).toSorted());
  });
}

function adoption(bench: () => Bench, harness: DriverHarness): void {
  it('hands over to the next driver of the home: what runs, what died, what is written', async () => {
    const lives = await bench().run();
    const dies = await bench().run();
    await call(lives, '/log?text=text-1');
    await bench().driver.close();
    await harness.killOutside(dies);
    await waitFor(
      'the end of it',
      async () =>
        await call(dies, '/').then(
          () => false,
          () => true,
        ),
    );

    const exits: Exit[] = [];
    const next = harness.make(bench().paths);
    next.onExit((exit) => void exits.push(exit));
    try {
      await next.start();
      const listed = await next.list();
      expect(listed.find(({ id }) => id === lives.id)).toEqual(lives);
      expect(listed.find(({ id }) => id === dies.id)?.running).toBe(false);
      expect((await call(lives, '/')).status).toBe(200);

      await next.kill(dies.id);
      await harness.killOutside(lives);
      await waitFor('the report', () => exits.length > 0);
      expect(exits).toHaveLength(1);
      expect(exits[0]).toMatchObject({ id: lives.id, cause: 'exit' });
      await next.kill(lives.id);
    } finally {
      await next.close();
      await bench().driver.start();
    }
    expect(await bench().driver.list()).toEqual([]);
  });
}

function removal(harness: DriverHarness): void {
  it('removes its own to the last trace, and leaves another home alone', async () => {
    const [one, other] = [new Bench(harness), new Bench(harness)];
    try {
      await one.driver.start();
      await other.driver.start();
      await one.boot();
      const { instance } = await other.boot();
      expect(await one.driver.list()).toHaveLength(1);
      await one.driver.destroyAll();
      await one.driver.destroyAll();
      expect(await harness.leftovers(one.paths)).toEqual([]);
      expect((await healthOf(instance)).status).toBe('generic');
      expect(other.exits).toEqual([]);
      expect(one.exits).toEqual([]);
    } finally {
      await Promise.all([one.dispose(), other.dispose()]);
    }
    expect(await harness.leftovers(other.paths)).toEqual([]);
  });
}
