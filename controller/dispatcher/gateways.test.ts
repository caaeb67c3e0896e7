import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#kit/clock.ts';
import { silentLog } from '#kit/log.ts';
import { FakeGateway } from '../../test/helpers/dispatcher-gateway.ts';
import { LinkFiles } from '../../test/helpers/link-files.ts';
import { range, waitFor } from '../../test/helpers/wait.ts';
import { Gateways } from './gateways.ts';
import type { Delivery } from './types.ts';

let folder: string;
let files: LinkFiles;
/** How gateways dial. */
let over: 'unix' | 'tcp' = 'unix';
let gateways: Gateways;
const connected: FakeGateway[] = [];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fn-gateways-'));
  const path = join(folder, 'd', 's');
  files = new LinkFiles(folder);
  const tcp = over === 'tcp' ? files.listen('tcp') : null;
  gateways = listening(path, tcp, CONNECTS_WITHIN_MS);
  await gateways.start();
});
/** How long a delivery waits for a gateway: as long as one may take to connect where the machine is busy. */
const CONNECTS_WITHIN_MS = 30_000;
const listening = (path: string, tcp: ReturnType<LinkFiles['listen']> | null, noGatewayWaitMs: number) =>
  new Gateways({ path, gid: null, tcp, clock: systemClock, log: silentLog, onAsked: () => {}, noGatewayWaitMs });
afterEach(async () => {
  for (const gateway of connected.splice(0)) gateway.close();
  await gateways.close();
  rmSync(folder, { recursive: true, force: true });
});

const connect = async (play?: FakeGateway['play'], boot?: string) => {
  const at = over === 'unix' ? join(folder, 'd', 's') : { port: gateways.tcpAddress!.port, token: files.token };
  const gateway = await FakeGateway.connect(at, play, boot);
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

describe.each(['unix', 'tcp'] as const)('a delivery over %s', (kind) => {
  beforeAll(() => {
    over = kind;
  });

  it('with no gateway waits a moment, and is then not ready', async () => {
    const hasty = listening(join(folder, 'hasty', 's'), null, 50);
    await hasty.start();
    expect(await hasty.deliver(delivery())).toMatchObject({ response: null, problem: { code: 'not-ready' }, retryAfterSeconds: 2 });
    await hasty.close();
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

  it('whose gateway has dialled anew, before anybody knew that it had to, may have run', async () => {
    const before = await connect(() => null, 'boot');
    const lost = gateways.deliver(delivery());
    await waitFor('it', () => before.deliveries.length === 1);
    await connect(undefined, 'boot');
    expect(await lost).toMatchObject({ problem: { code: 'instance-lost' }, requestId: null });
    await waitFor('the one before to be closed', () => before.closed);
    expect(await gateways.deliver(delivery())).toMatchObject({ response: { status: 200 } });
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
});

describe('a large delivery', () => {
  beforeAll(() => {
    over = 'unix';
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
