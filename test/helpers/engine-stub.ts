/** A Docker engine for tests: answers of its API on a socket of its own, as a real one gives them only now and then. */
import { createServer } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

export interface StubAnswer {
  status: number;
  body?: unknown;
}

/** What is asked (`DELETE /networks/fn-1`, without the API's version) and what is answered; what is not expected is 500. */
export async function stubEngine(answer: (asked: string) => StubAnswer | undefined): Promise<{ socketPath: string; asked: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'fn-engine-'));
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const what = `${request.method} ${request.url?.replace(/^\/v[\d.]+/, '')}`;
    asked.push(what);
    const { status, body } =
      what === 'GET /_ping' ? { status: 200, body: 'OK' } : (answer(what) ?? { status: 500, body: { message: what } });
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  });
  const socketPath = join(folder, 's');
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  });
  return { socketPath, asked };
}
