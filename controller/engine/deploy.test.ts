import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deploy, driven, loaded, Machine, request } from '../../test/helpers/engine-harness.ts';
import { FnError } from '#contract/errors.ts';
import { LimitBusy } from '../driver/types.ts';
import type { Engine } from './engine.ts';

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

const never = () => new AbortController().signal;
const logFiles = async () =>
  existsSync(machine.paths.logs) ? (await readdir(machine.paths.logs, { recursive: true })).filter((file) => file.includes('hello/')) : [];
const revisions = async (engine: Engine) => (await engine.status()).instances.flatMap((view) => view.revision ?? []).sort();

describe('a deployment [15]', () => {
  it('returns when the gateways route by it, and lets the old revision go after', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway({ acknowledge: false });
    const welcome = await gateway.next('welcome');
    gateway.say({ type: 'routed', version: welcome.version });
    const deploying = engine.deploy('default', 'hello', request(), never());
    let returned = false;
    void deploying.then(() => (returned = true));
    const routes = await machine.until('routes', () => gateway.heard.find((message) => message.type === 'routes'));
    expect(routes).toMatchObject({
      set: [{ namespace: 'default', name: 'hello', targets: [{ revision: 'default/hello@1', number: 1, percent: 100, maxSlots: 1_000 }] }],
      remove: [],
    });
    await machine.quiet();
    expect(returned).toBe(false);
    gateway.say({ type: 'routed', version: routes.version });
    const response = await driven(machine, deploying);
    expect(response).toMatchObject({
      url: 'http://fn.test/hello',
      start: 'full',
      revision: { number: 1, form: 'fetch', settings: { concurrency: 10 } },
    });
    expect((await engine.revisions('default', 'hello')).map((revision) => revision.number)).toEqual([1]);
  });

  it('does not wait for ever for a gateway that does not say that it routes', async () => {
    const engine = await machine.start();
    await machine.gateway({ acknowledge: false });
    await deploy(machine, engine, 'hello');
    expect(machine.clock.now()).toBeGreaterThanOrEqual(2_000);
  });

  it('takes the slots from the handler form where nobody said them', async () => {
    const engine = await machine.start();
    const deploying = engine.deploy('default', 'hello', request({ concurrency: null }), never());
    expect((await driven(machine, deploying)).revision.settings.concurrency).toBe(50);
  });

  it('that does not load is refused with the function’s own error; the old revision serves on, and nothing is left', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello');
    const error = { name: 'TypeError', message: 'x is not a function', at: 'handler.ts:3:9', stack: 'TypeError: …' };
    machine.shims.onInit = () => ({ ok: false, error });
    const refused = driven(machine, engine.deploy('default', 'hello', request(), never()));
    await expect(refused).rejects.toMatchObject({ code: 'deploy-refused', options: { functionError: error } });
    machine.shims.onInit = loaded;
    await machine.until('the candidate is gone', async () => (await revisions(engine)).join() === 'default/hello@1');
    expect((await engine.describe('default', 'hello')).revision.number).toBe(1);
    gateway.want('default/hello@1', 1);
    await machine.until('a grant', () => gateway.count('grant') === 1);
    // Its number is not given again.
    expect(await deploy(machine, engine, 'hello')).toBe('default/hello@3');
  });

  it('is refused where the process ends while it loads, and where it does not fit', async () => {
    const engine = await machine.start();
    machine.shims.onInit = (_request, id) => {
      machine.host.end(id, 'exit', 'exit code 7');
      return new Promise(() => {});
    };
    await expect(deploy(machine, engine, 'hello')).rejects.toMatchObject({
      code: 'deploy-refused',
      message: 'The process ended while it was loading: exit code 7',
    });
    machine.shims.onInit = loaded;
    machine.host.failNext('specialise', new LimitBusy('more than 32 MiB are in use'));
    await expect(deploy(machine, engine, 'hello', { memoryMib: 32 })).rejects.toMatchObject({ code: 'deploy-refused' });
    await machine.until('nothing is left', () => machine.host.instances.size === 0);
    await expect(engine.describe('default', 'hello')).rejects.toMatchObject({ code: 'function-not-found' });
  });

  it('survives a start that fails by no fault of its own, and says why where all do', async () => {
    const engine = await machine.start();
    machine.host.failNext('create', new Error('a hiccup'));
    machine.host.failNext('specialise', new Error('a hiccup'));
    await deploy(machine, engine, 'hello');
    for (let n = 0; n < 3; n += 1) machine.host.failNext('create', new Error('no such engine'));
    await expect(deploy(machine, engine, 'other')).rejects.toThrow(/no such engine/);
  });

  it('that is cancelled half-way leaves nothing, whenever that is', async () => {
    machine.host.latencyMs.create = 200;
    machine.host.latencyMs.specialise = 200;
    const engine = await machine.start();
    for (const [what, when] of [
      ['create', () => machine.count('create') === 1],
      ['specialise', () => machine.count('specialise') === 1],
    ] as const) {
      const abort = new AbortController();
      const deploying = engine.deploy('default', 'hello', request(), abort.signal);
      deploying.catch(() => {});
      await machine.until(what, when);
      abort.abort();
      await expect(driven(machine, deploying)).rejects.toMatchObject({ code: 'conflict' });
    }
    await machine.until('nothing is left', async () => (await engine.status()).instances.length === 0, 200);
    expect(machine.host.instances.size).toBe(0);
    expect(await readdir(machine.paths.records)).toEqual([]);
    await expect(engine.describe('default', 'hello')).rejects.toMatchObject({ code: 'function-not-found' });
  });

  it('has as many ready as the present load needs before traffic moves', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { concurrency: 2 });
    gateway.want('default/hello@1', 5);
    await machine.until('three grants', () => gateway.count('grant') === 3);
    gateway.want('default/hello@1', 0, 5);
    await machine.quiet();
    const deploying = engine.deploy('default', 'hello', request({ concurrency: 2 }), never());
    let ready = 0;
    await machine.until(
      'routes',
      async () => {
        const routed = gateway.heard.some(
          (message) => message.type === 'routes' && message.set[0]?.targets[0]?.revision === 'default/hello@2',
        );
        if (!routed)
          ready = (await engine.status()).instances.filter((view) => view.revision === 'default/hello@2' && view.state === 'idle').length;
        return routed;
      },
      1,
    );
    expect(ready).toBe(3);
    await driven(machine, deploying);
    // Only now are the old leases taken back, and with them the instances.
    for (const message of gateway.heard) if (message.type === 'grant') gateway.say({ type: 'release', lease: message.lease.lease });
    await machine.until('the old ones are gone', async () => !(await revisions(engine)).includes('default/hello@1'));
    expect(gateway.count('revoke')).toBe(3);
  });

  it('of one function waits for the one before it', async () => {
    const engine = await machine.start();
    await machine.gateway();
    let loading = 0;
    let most = 0;
    machine.shims.onInit = async (init) => {
      loading += 1;
      most = Math.max(most, loading);
      await machine.quiet();
      loading -= 1;
      return loaded(init);
    };
    const all = Promise.all([1, 2, 3].map(() => engine.deploy('default', 'hello', request({ min: 0 }), never())));
    expect((await driven(machine, all)).map((response) => response.revision.number)).toEqual([1, 2, 3]);
    expect(most).toBe(1);
    await machine.until('only the last is left', async () => (await revisions(engine)).join() === 'default/hello@3');
  });

  it('of what cannot fit is refused at once', async () => {
    const engine = await machine.start({ settings: { memoryBudgetMib: 512, cpuBudget: 2 } });
    for (const settings of [{ memoryMib: 1_024 }, { memoryMib: 200, min: 3 }, { cpu: 3 }, { cpu: 1.5, min: 2 }]) {
      await expect(engine.deploy('default', 'hello', request(settings), never())).rejects.toMatchObject({
        code: 'no-capacity',
        message: expect.stringContaining('can never fit the budget of 512 MiB (FN_MEMORY_BUDGET_MIB)'),
      });
    }
    await expect(engine.deploy('default', 'hello', request({ runtime: 'cobol' }), never())).rejects.toBeInstanceOf(FnError);
    expect(machine.host.instances.size).toBe(0);
  });
});

describe('a function that is deleted', () => {
  it('is gone from the routes first; what is in flight ends, and what it still writes makes no new file', async () => {
    const engine = await machine.start();
    const gateway = await machine.gateway();
    await deploy(machine, engine, 'hello', { timeoutSeconds: 60 });
    gateway.want('default/hello@1', 1);
    const { lease } = await machine.until('a grant', () => gateway.heard.find((message) => message.type === 'grant'));
    machine.host.write(lease.instance, 'stdout', 'before\n');
    await machine.until('the log', async () => (await logFiles()).length > 0);
    await driven(machine, engine.delete('default', 'hello'));
    expect(gateway.heard.findLast((message) => message.type === 'routes')).toMatchObject({ set: [], remove: [{ name: 'hello' }] });
    await gateway.next('revoke');
    await expect(engine.delete('default', 'hello')).rejects.toMatchObject({ code: 'function-not-found' });
    gateway.want('default/hello@1', 3);
    machine.host.write(lease.instance, 'stdout', 'its last words\n');
    await machine.pass(2_000);
    expect(gateway.count('grant')).toBe(1);
    machine.host.end(lease.instance, 'oom', 'out of memory');
    await machine.until('it is gone', () => machine.host.instances.size === 0);
    await machine.quiet();
    expect(await logFiles()).toEqual([]);
    await deploy(machine, engine, 'hello');
    const [id] = [...machine.host.instances.keys()];
    machine.host.write(id!, 'stdout', 'anew\n');
    await machine.until('the new log', async () => (await logFiles()).length > 0);
  });

  it('may be deployed at the same moment: one after the other, and nothing is left of the loser', async () => {
    const engine = await machine.start();
    await machine.gateway();
    await deploy(machine, engine, 'hello');
    const deleting = engine.delete('default', 'hello');
    const deploying = engine.deploy('default', 'hello', request(), never());
    await driven(machine, Promise.all([deleting, deploying]));
    await machine.until('only the new one', async () => (await revisions(engine)).join() === 'default/hello@2');
    expect((await engine.list()).map((view) => view.revision.key)).toEqual(['default/hello@2']);
  });
});
