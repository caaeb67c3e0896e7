/** WebSockets and server-sent events through a whole platform: in the forms that people write them in, and over deployments. */
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { io } from 'socket.io-client';
import { describe, expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { open } from '../helpers/http.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import type { TestPlatform } from '../helpers/platform.ts';
import { parallel, range, waitFor } from '../helpers/wait.ts';

const WEB = 'test/e2e/fixtures/streams-web.ts';

/** A client's socket with all that it heard. */
interface Client {
  socket: WebSocket;
  heard: string[];
  closed: Promise<{ code: number; reason: string }>;
}

async function connect(platform: TestPlatform, path: string): Promise<Client> {
  const socket = new WebSocket(`${platform.url.replace('http', 'ws')}${path}`);
  onTestFinished(() => socket.terminate());
  const heard: string[] = [];
  socket.on('message', (data) => heard.push(String(data)));
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.on('close', (code, reason) => resolve({ code, reason: String(reason) })),
  );
  await once(socket, 'open');
  return { socket, heard, closed };
}

const hears = (client: Client, text: string) => waitFor(`to hear ${text}`, () => client.heard.includes(text), { everyMs: 10 });

/** Events as they come. `ended` is how it ended: `complete`, or cut. */
interface Events {
  text: () => string;
  ended: Promise<'complete' | 'cut'>;
  leave: () => void;
}

async function listen(platform: TestPlatform, path: string): Promise<Events> {
  const { request, response } = open(`${platform.url}${path}`);
  onTestFinished(() => void request.destroy());
  request.on('error', () => {});
  request.end();
  const incoming: IncomingMessage = await response;
  expect(incoming.headers['content-type']).toBe('text/event-stream');
  let text = '';
  incoming.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const ended = new Promise<'complete' | 'cut'>((resolve) => {
    incoming.on('error', () => {});
    incoming.on('close', () => resolve(incoming.complete ? 'complete' : 'cut'));
  });
  return { text: () => text, ended, leave: () => void request.destroy() };
}

for (const driver of drivers('docker')) {
  describe(`streams (${driver})`, () => {
    const platform = usePlatform({ driver, env: { FN_STREAM_DRAIN_MS: '12000', FN_STREAM_GRACE_MS: '500' } });

    it('a WebSocket by ctx.upgradeWebSocket; its lines have the id of its request', async () => {
      await platform().deploy('web', WEB);
      const client = await connect(platform(), '/web/room');
      await hears(client, 'version 1');
      client.socket.send('hello');
      await hears(client, '1: hello');
      client.socket.close(4000, 'enough');
      expect(await client.closed).toEqual({ code: 4000, reason: '' });
      expect((await platform().call('/web')).text).toBe('version 1');
      await waitFor('its log', async () => (await platform().fnOk(['logs', 'web'])).stdout.includes('closed with 4000'));
    });

    it('a server with ws, unmodified', async () => {
      await platform().deploy('server', 'test/e2e/fixtures/streams-server.ts');
      const client = await connect(platform(), '/server/chat?a=1');
      client.socket.send('hello');
      await hears(client, '/chat?a=1 hello');
      client.socket.send(Buffer.alloc(1_000_000, 'b'));
      await waitFor('a megabyte', () => client.heard.some((text) => text.length === 1_000_000), { everyMs: 20 });
      expect((await platform().call('/server')).text).toBe('plain');
      client.socket.close();
      expect((await client.closed).code).toBe(1005);
    });

    it('Socket.IO, unmodified, from its first request on', async () => {
      await platform().deploy('socketio', 'test/e2e/fixtures/streams-socketio.ts', { flags: ['--max', '1'] });
      const client = io(platform().url, { path: '/socketio/socket.io' });
      onTestFinished(() => void client.disconnect());
      const ask = () => client.timeout(60_000).emitWithAck('ask', 'hi') as Promise<string>;
      expect(await ask()).toMatch(/^hi, by (?:polling|websocket)$/);
      expect(await waitFor('the WebSocket', async () => (await ask()) === 'hi, by websocket')).toBe(true);
    });

    it('events come one by one, and the function hears of a reader that goes', async () => {
      await platform().deploy('events', WEB);
      const reader = await listen(platform(), '/events/events');
      await waitFor('the first', () => reader.text() === 'data: version 1\n\n', { everyMs: 10 });
      await platform().call('/events/say?word=one');
      await waitFor('the second', () => reader.text().endsWith('data: one\n\n'), { everyMs: 10 });
      expect(reader.text()).toBe('data: version 1\n\ndata: one\n\n');
      reader.leave();
      await waitFor('nobody listens', async () => (await platform().call('/events/say?word=two')).text === '0', { everyMs: 100 });
    });

    it('a deployment under 50 sockets and streams of events: they go on until they have drained, new ones get the new revision', async () => {
      await platform().deploy('moving', WEB, { flags: ['--concurrency', '30', '--timeout', '5'] });
      const old = await parallel(range(50), 10, () => connect(platform(), '/moving'));
      const readers = await parallel(range(3), 3, () => listen(platform(), '/moving/events'));
      let ended = 0;
      for (const { closed } of old) void closed.then(() => ended++);
      for (const { ended: end } of readers) void end.then(() => ended++);
      await platform().deploy('moving', WEB, { flags: ['--concurrency', '30', '--timeout', '5', '--env', 'VERSION=2'] });
      const fresh = await connect(platform(), '/moving');
      await hears(fresh, 'version 2');
      for (const { socket } of old) socket.send('still here');
      await Promise.all(old.map((client) => hears(client, '1: still here')));
      expect(ended).toBe(0);
      const codes = (await Promise.all(old.map(({ closed }) => closed))).map(({ code, reason }) => `${code} ${reason}`);
      expect(new Set(codes)).toEqual(new Set(['1001 going away']));
      expect(await Promise.all(readers.map((reader) => reader.ended))).toEqual(['complete', 'complete', 'complete']);
      expect(readers.every((reader) => reader.text().startsWith('data: version 1\n\n'))).toBe(true);
      fresh.socket.send('on');
      await hears(fresh, '2: on');
      expect(fresh.socket.readyState).toBe(WebSocket.OPEN);
      fresh.socket.close();
      await fresh.closed;
    });

    it('at their greatest age both end in order', async () => {
      await platform().deploy('aged', WEB, { flags: ['--max-stream', '1s'] });
      const client = await connect(platform(), '/aged');
      const reader = await listen(platform(), '/aged/events');
      expect(await client.closed).toEqual({ code: 1001, reason: 'maximum age' });
      expect(await reader.ended).toBe('complete');
      await waitFor('the function to have heard', async () =>
        (await platform().fnOk(['logs', 'aged'])).stdout.includes('closed with 1001'),
      );
      await connect(platform(), '/aged');
    });

    it('a gateway that is replaced ends them in order, and its successor takes them up at once', async () => {
      await platform().deploy('replaced', WEB);
      const client = await connect(platform(), '/replaced');
      const reader = await listen(platform(), '/replaced/events');
      const before = await platform().pid('gateway');
      process.kill(before, 'SIGTERM');
      expect(await client.closed).toEqual({ code: 1001, reason: 'going away' });
      expect(await reader.ended).toBe('complete');
      const next = await connect(platform(), '/replaced');
      await hears(next, 'version 1');
      next.socket.close();
      await next.closed;
      await waitFor('another gateway', async () => (await platform().pid('gateway')) !== before);
    });

    it('an instance that is killed ends them, and the next ones get another', async () => {
      await platform().deploy('killed', WEB);
      const client = await connect(platform(), '/killed');
      const reader = await listen(platform(), '/killed/events');
      await hears(client, 'version 1');
      await platform().killInstance(await platform().servingInstance('killed'));
      expect((await client.closed).code).toBe(1011);
      expect(await reader.ended).toBe('cut');
      const next = await connect(platform(), '/killed');
      await hears(next, 'version 1');
      next.socket.close();
      await next.closed;
    });
  });
}
