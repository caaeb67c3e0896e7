import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { FakeGateway } from '../../test/helpers/dispatcher-gateway.ts';
import { range, waitFor } from '../../test/helpers/wait.ts';
import { Gateways } from './gateways.ts';
import type { Delivery } from './types.ts';

let folder: string;
let gateways: Gateways;
const connected: FakeGateway[] = [];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fn-gateways-'));
  const path = join(folder, 'd', 's');
  gateways = new Gateways({ path, gid: null, clock: systemClock, log: silentLog, onAsked: () => {}, noGatewayWaitMs: 50 });
  await gateways.start();
});
afterEach(async () => {
  for (const gateway of connected.splice(0)) gateway.close();
  await gateways.close();
  rmSync(folder, { recursive: true, force: true });
});

const connect = async (play?: FakeGateway['play']) => {
  const gateway = await FakeGateway.connect(join(folder, 'd', 's'), play);
  connected.push(gateway);
  await waitFor('the hello', () => gateways.connected);
  return gateway;
};

const delivery = (text = ''): Delivery => ({
  namespace: 'default',
  name: 'hello',
  revision: null,
  kind: 'invocation',
  request: { method: 'POST', path: '/', headers: [], body: { text } },
  traceparent: null,
  maxResponseBytes: 10,
});

describe('a delivery', () => {
  it('with no gateway waits a moment, and is then not ready', async () => {
    expect(await gateways.deliver(delivery())).toMatchObject({ response: null, problem: { code: 'not-ready' }, retryAfterSeconds: 2 });
    const waits = gateways.deliver(delivery());
    await connect();
    expect(await waits).toMatchObject({ response: { status: 200 }, problem: null });
  });

  it('whose gateway goes may have run', async () => {
    const gateway = await connect(() => null);
    const lost = gateways.deliver(delivery());
    await waitFor('it', () => gateway.deliveries.length === 1);
    gateway.close();
    expect(await lost).toMatchObject({ problem: { code: 'instance-lost' }, requestId: null });
  });

  it('of one namespace waits behind none of another’s', async () => {
    const gateway = await connect(({ namespace }) => (namespace === 'a' ? null : { status: 200 }));
    const large = 'x'.repeat(10 * 1024 * 1024);
    const abort = new AbortController();
    const stuck = range(8).map(() => gateways.deliver({ ...delivery(large), namespace: 'a' }, abort.signal));
    expect(await gateways.deliver({ ...delivery(large), namespace: 'b' })).toMatchObject({ response: { status: 200 } });
    expect(gateway.deliveries.map(({ namespace }) => namespace)).toEqual([...range(6).map(() => 'a'), 'b']);
    abort.abort();
    await Promise.all(stuck);
  });

  it('that is aborted is abandoned, and its late answer is nobody’s', async () => {
    let answer: () => void = () => {};
    const gateway = await connect(() => new Promise((resolve) => (answer = () => resolve({ status: 200 }))));
    const abort = new AbortController();
    const aborted = gateways.deliver(delivery(), abort.signal);
    await waitFor('it', () => gateway.deliveries.length === 1);
    abort.abort();
    expect(await aborted).toMatchObject({ response: null });
    await waitFor('the gateway to hear of it', () => gateway.abandoned.length === 1);
    answer();
    gateway.play = () => ({ status: 201 });
    expect(await gateways.deliver(delivery())).toMatchObject({ response: { status: 201 } });
    expect(await gateways.deliver(delivery(), abort.signal)).toMatchObject({ response: null });
  });

  it('waits where the gateway has as much as it takes, by number and by bytes', async () => {
    const open: (() => void)[] = [];
    const gateway = await connect(() => new Promise((resolve) => open.push(() => resolve({ status: 200 }))));
    const large = 'x'.repeat(10 * 1024 * 1024);
    const results = range(8).map(() => gateways.deliver(delivery(large)));
    await waitFor('six of them', () => open.length === 6);
    // What is small has to wait behind what is large: it would never get through otherwise.
    results.push(gateways.deliver(delivery()));
    open[0]!();
    await waitFor('the seventh', () => open.length === 7);
    expect(gateway.deliveries).toHaveLength(7);
    open[1]!();
    await waitFor('the rest', () => open.length === 9);
    for (const answer of open) answer();
    expect((await Promise.all(results)).map(({ response }) => response?.status)).toEqual(range(9).map(() => 200));
  });
});
