/** An instance that really listens, in this process, and answers the runtime protocol as a shim would. */
import { createServer } from 'node:http';
import { chmodSync, rmSync } from 'node:fs';
import { InitRequest, RUNTIME_PATHS, type Health, type InitResponse } from '#contract/runtime.ts';
import type { FakeHandler, FakeHost, FakeInstance } from './host.ts';

export interface FakeServer {
  close(): Promise<void>;
}

/** Listens before it resolves, which a real instance does a little later. */
export async function serveFakeInstance(path: string, instance: FakeInstance, host: FakeHost, handler?: FakeHandler): Promise<FakeServer> {
  let revision: string | null = null;
  let draining = false;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const answer = (status: number, body: unknown) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(typeof body === 'string' ? body : JSON.stringify(body));
      };
      const url = request.url ?? '/';
      if (url === RUNTIME_PATHS.health) {
        const health: Health = {
          status: draining ? 'draining' : revision === null ? 'generic' : 'ready',
          instance: instance.spec.id,
          revision,
          inFlight: 0,
          waitUntil: 0,
        };
        return answer(200, health);
      }
      if (url === RUNTIME_PATHS.init) {
        const init = InitRequest.safeParse(JSON.parse(Buffer.concat(chunks).toString('utf8')));
        if (!init.success || init.data.nonce !== instance.spec.nonce || revision !== null) return answer(403, {});
        revision = init.data.revision;
        const initialised: InitResponse = { form: 'fetch', slots: init.data.slots ?? 50, loadMs: 0 };
        return answer(200, initialised);
      }
      if (url === RUNTIME_PATHS.drain) {
        draining = true;
        return answer(200, {});
      }
      const { status, body } = handler?.({ method: request.method ?? 'GET', url }, instance, host) ?? { status: 200, body: 'fake' };
      answer(status, body);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o666);
  return {
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => {
          rmSync(path, { force: true });
          resolve();
        });
      }),
  };
}
