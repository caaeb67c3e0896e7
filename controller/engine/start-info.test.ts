/** Why a request had to wait for a start, as gateways are told with the grant. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { deploy, Machine } from '../../test/helpers/engine-harness.ts';
import type { TestGateway } from '../../test/helpers/test-gateway.ts';

const KEY = 'default/hello@1';

let machine: Machine;
let gateway: TestGateway;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine.close());

/** Asks for an instance and returns what came of it. */
async function ask(waiting = 1, inFlight = 0) {
  const before = gateway.count('grant');
  gateway.want(KEY, waiting, inFlight);
  await machine.until('a grant', () => gateway.count('grant') > before);
  return gateway.next('grant', before + 1);
}

async function giveBack(lease: string): Promise<void> {
  gateway.want(KEY, 0, 0);
  gateway.say({ type: 'release', lease });
  await machine.until('nothing runs', () => machine.host.instances.size === 0);
}

it('tells a first start from one after idleness, after a death, and under a burst', async () => {
  const engine = await machine.start();
  gateway = await machine.gateway();
  await deploy(machine, engine, 'hello', { keepAliveSeconds: 0, concurrency: 1 });
  await machine.until('it is stopped', () => machine.host.instances.size === 0);
  const first = await ask();
  expect(first.start.reason).toBe('new-revision');
  await giveBack(first.lease.lease);
  const second = await ask();
  expect(second.start.reason).toBe('scaled-to-zero');
  gateway.want(KEY, 0, 1);
  const third = await ask(1, 1);
  expect(third.start.reason).toBe('burst');
  for (const { lease } of [second, third]) machine.host.end(lease.instance, 'exit', 'exit code 1');
  gateway.want(KEY, 0, 0);
  await machine.until('both are gone', () => machine.host.instances.size === 0);
  expect((await ask()).start.reason).toBe('replaced');
});

it('gives no reason where an instance was ready', async () => {
  const engine = await machine.start();
  gateway = await machine.gateway();
  await deploy(machine, engine, 'hello');
  expect((await ask()).start).toEqual({ kind: 'warm', startMs: 0, initMs: 0 });
});
