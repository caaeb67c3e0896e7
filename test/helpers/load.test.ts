import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { judge, Load, type LedgerEntry, unexplained } from './load.ts';
import { waitFor } from './wait.ts';

it('the tail of a load comes after what hung when it was asked for: that fails later, and all connections may hang at once', async () => {
  const hanging: ServerResponse[] = [];
  let hang = false;
  const server = createServer((_request, response) => {
    if (hang) hanging.push(response);
    else response.end('well');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const load = new Load({ url: (id) => `http://127.0.0.1:${port}/?id=${id}`, connections: 3, pauseMs: 1 });
  onTestFinished(async () => {
    for (const response of hanging) response.destroy();
    await load.stop();
    server.closeAllConnections();
    server.close();
  });
  const faultAt = performance.now();
  await waitFor('many good answers', () => judge(load.entries, { faultAt }).goodTail > 50);
  hang = true;
  await waitFor('all to hang', () => hanging.length === 3);
  const tail = load.tail(20, faultAt);
  hang = false;
  for (const response of hanging.splice(0)) response.writeHead(502).end();
  await tail;
  const verdict = judge(load.entries, { faultAt });
  expect(verdict.failed).toEqual({ '502': 3 });
  expect(verdict.goodTail).toBeGreaterThanOrEqual(20);
});

it('failures that no blow accounts for are those of requests that had ended before it, or were sent when it was over', () => {
  const entry = (from: number, to: number, status = 502): LedgerEntry => ({ id: `${from}`, from, to, status, code: '', body: '' });
  const entries = [entry(0, 5), entry(0, 15), entry(12, 14), entry(19, 40), entry(21, 22), entry(0, 5, 200), entry(50, 61)];
  const blows = [
    { from: 10, to: 20 },
    { from: 60, to: 70 },
  ];
  expect(unexplained(entries, blows).map(({ from, to }) => [from, to])).toEqual([
    [0, 5],
    [21, 22],
  ]);
});
