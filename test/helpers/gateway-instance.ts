/** Instances for tests of the gateway: one that speaks HTTP, and one that writes whatever a test wants. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server as HttpServer } from 'node:http';
import { createServer as createRawServer, type Socket } from 'node:net';
import type { Address } from '#contract/runtime.ts';

export interface FakeInstance {
  readonly address: Address;
  /** Connections open now. */
  readonly connections: ReadonlySet<Socket>;
  /** Ends it and every connection, as a crash does. */
  stop(): Promise<void>;
}

async function listen(server: ReturnType<typeof createRawServer>, path: string): Promise<FakeInstance> {
  rmSync(path, { force: true });
  const connections = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    connections.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => connections.delete(socket));
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    address: { kind: 'unix', path },
    connections,
    async stop() {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      for (const socket of connections) socket.destroy();
      await closed;
    },
  };
}

/** An instance whose function is a Node request listener; `prepare` may add what takes upgrades. */
export function startInstance(
  path: string,
  listener: RequestListener,
  prepare: (server: HttpServer) => unknown = () => {},
): Promise<FakeInstance> {
  const server = createHttpServer({ keepAliveTimeout: 0, requestTimeout: 0, maxHeaderSize: 65_536 }, listener);
  prepare(server);
  return listen(server, path);
}

/** A hostile instance: `serve` is called with each connection, `onRequest` with each chunk that comes. */
export function startRawInstance(
  path: string,
  onData: (socket: Socket, text: string, chunk: number) => void,
  onConnection: (socket: Socket) => void = () => {},
): Promise<FakeInstance> {
  const server = createRawServer((socket) => {
    let count = 0;
    socket.on('data', (data) => onData(socket, data.toString('latin1'), count++));
    onConnection(socket);
  });
  return listen(server, path);
}
