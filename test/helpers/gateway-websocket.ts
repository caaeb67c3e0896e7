/** WebSockets for tests of the gateway: an instance with `ws`, and clients with and without it. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { WebSocket, WebSocketServer } from 'ws';
import type { Auth } from '#contract/access.ts';
import type { Harness } from './gateway-harness.ts';
import { type FakeInstance, startInstance } from './gateway-instance.ts';
import { waitFor } from './wait.ts';
import { openWebSocket, type RawConnection } from './websocket.ts';

export interface Routed {
  /** The function's ends of what is open. */
  sockets: WebSocket[];
  /** Requests that asked. */
  requests: IncomingMessage[];
  instance: FakeInstance;
}

export interface ServeOptions {
  slots?: number;
  maxStreamMs?: number;
  timeoutMs?: number;
  auth?: Auth;
  /** What is done with a socket; echo without. */
  onSocket?: (socket: WebSocket, request: IncomingMessage) => void;
}

/** Says back what it hears. */
export const echo = (socket: WebSocket) => void socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));

/** Routes an instance as `hello`, and waits until the gateway knows. */
export async function route(harness: Harness, instance: FakeInstance, options: Omit<ServeOptions, 'onSocket'> = {}): Promise<void> {
  const { slots = 50, ...rest } = options;
  harness.defer(() => instance.stop());
  harness.controller.grantOnDemand(() => instance.address, slots);
  harness.controller.route('hello', rest);
  await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
}

/** An instance with `ws`, routed as `hello`. */
export async function serve(harness: Harness, { onSocket = echo, ...options }: ServeOptions = {}): Promise<Routed> {
  const sockets: WebSocket[] = [];
  const requests: IncomingMessage[] = [];
  const instance = await startInstance(
    harness.socket('hello'),
    (_incoming, outgoing) => outgoing.end('plain'),
    (server) => {
      const accepting = new WebSocketServer({ server, handleProtocols: () => 'chat' });
      accepting.on('connection', (socket, request) => {
        sockets.push(socket);
        requests.push(request);
        socket.on('error', () => {});
        onSocket(socket, request);
      });
    },
  );
  await route(harness, instance, options);
  return { sockets, requests, instance };
}

/** A client with `ws`. */
export async function connect(harness: Harness, path = '/hello', protocols: string[] = []): Promise<WebSocket> {
  const socket = new WebSocket(`${harness.url.replace('http', 'ws')}${path}`, protocols);
  harness.defer(() => socket.terminate());
  await once(socket, 'open');
  return socket;
}

/** The next message. */
export const said = async (socket: WebSocket): Promise<string> => String(((await once(socket, 'message')) as [Buffer])[0]);
/** The close, as this end sees it. */
export const ended = async (socket: WebSocket): Promise<{ code: number; reason: string }> => {
  const [code, reason] = (await once(socket, 'close')) as [number, Buffer];
  return { code, reason: String(reason) };
};
/** A client whose bytes are made by hand. */
export const raw = async (harness: Harness, headers: Record<string, string | null> = {}): Promise<RawConnection> => {
  const connection = await openWebSocket({ port: harness.port, host: '127.0.0.1' }, '/hello/x', headers);
  harness.defer(() => connection.destroy());
  return connection;
};
/** Leases go back a second after nothing is in flight on them any more. */
export const allReleased = (harness: Harness) => waitFor('every lease back', () => harness.gateway.state.leases === 0);
