/** Streams of server-sent events through a whole gateway. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { open } from '../test/helpers/http.ts';
import { runningClock } from '../test/helpers/running-clock.ts';
import { waitFor } from '../test/helpers/wait.ts';
import { EventStream, isEventStream } from './events.ts';

interface Served {
  /** Ends of the function's, the newest last. */
  streams: ServerResponse[];
  gone: () => number;
}

/** A function whose every answer is a stream of events that begins with one. */
async function serve(harness: Harness, limits: { timeoutMs?: number; maxStreamMs?: number } = {}): Promise<Served> {
  const streams: ServerResponse[] = [];
  let gone = 0;
  const instance = await startInstance(harness.socket('hello'), (_incoming, outgoing) => {
    streams.push(outgoing);
    outgoing.on('close', () => gone++);
    outgoing.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    outgoing.write('data: first\n\n');
  });
  harness.defer(() => instance.stop());
  harness.controller.grantOnDemand(() => instance.address);
  harness.controller.route('hello', limits);
  await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
  return { streams, gone: () => gone };
}

async function read(harness: Harness) {
  const { request, response } = open(`${harness.url}/hello`);
  harness.defer(() => request.destroy());
  request.on('error', () => {});
  request.end();
  const incoming: IncomingMessage = await response;
  let text = '';
  incoming.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  incoming.on('error', () => {});
  await waitFor('the first event', () => text.includes('first'), { everyMs: 2 });
  const ended = new Promise<boolean>((resolve) => incoming.on('close', () => resolve(incoming.complete)));
  return { request, text: () => text, ended };
}

describe('a stream of events', () => {
  it('outlives the timeout of its function, up to its own greatest age, and ends with its last chunk', async () => {
    await withGateway(async (harness) => {
      const { streams, gone } = await serve(harness, { timeoutMs: 2_000, maxStreamMs: 6_000 });
      const begun = runningClock.now();
      const reader = await read(harness);
      // Later than the timeout, as the wheel goes: the stream is still there.
      await waitFor('the timeout to be over', () => runningClock.now() > begun + 2_300);
      streams[0]!.write('data: second\n\n');
      await waitFor('the second event', () => reader.text().includes('second'), { everyMs: 2 });
      expect(await reader.ended).toBe(true);
      await waitFor('the function to hear of it', () => gone() === 1);
      expect(harness.controller.all('timeout')).toEqual([]);
    });
  });

  it('ends at the deadline of a revoke, at the end of the event that is under way', async () => {
    await withGateway(async (harness) => {
      const { streams } = await serve(harness);
      const reader = await read(harness);
      streams[0]!.write('data: sec');
      await waitFor('half an event', () => reader.text().endsWith('sec'), { everyMs: 2 });
      const { lease } = harness.controller.granted.at(-1)!;
      harness.controller.send({ type: 'revoke', lease, slots: 0, deadlineMs: 50 });
      const other = harness.controller.hear('release', (message) => message.lease === lease);
      await waitFor('the deadline', () => harness.gateway.state.leases === 1);
      setTimeout(() => streams[0]!.write('ond\n\n'), 200);
      expect(await reader.ended).toBe(true);
      expect(reader.text()).toBe('data: first\n\ndata: second\n\n');
      await other;
    });
  });

  it('whose event never ends is ended within it', async () => {
    await withGateway(async (harness) => {
      const { streams } = await serve(harness, { maxStreamMs: 2_000 });
      const reader = await read(harness);
      streams[0]!.write('data: for ever');
      expect(await reader.ended).toBe(true);
    });
  });

  it('of a client that goes: the function hears of it, and the slot is free', async () => {
    await withGateway(async (harness) => {
      const { gone } = await serve(harness);
      const reader = await read(harness);
      reader.request.destroy();
      await waitFor('the function to hear of it', () => gone() === 1, { everyMs: 5, timeoutMs: 1_000 });
      expect(await reader.ended).toBe(false);
      await waitFor('the lease back', () => harness.gateway.state.leases === 0);
    });
  });

  it('that the function breaks off looks broken', async () => {
    await withGateway(async (harness) => {
      const { streams } = await serve(harness);
      const reader = await read(harness);
      streams[0]!.destroy();
      expect(await reader.ended).toBe(false);
    });
  });

  it('ends at the end of the gateway, within its deadline', async () => {
    await withGateway(
      async (harness) => {
        await serve(harness);
        const reader = await read(harness);
        const closed = harness.gateway.close();
        expect(await reader.ended).toBe(true);
        await closed;
      },
      { config: { drainDeadlineMs: 3_000 } },
    );
  });

  it('to a client of HTTP/1.0 comes without chunks', async () => {
    await withGateway(async (harness) => {
      await serve(harness, { maxStreamMs: 2_000 });
      const client = new RawClient(harness.port).write('GET /hello HTTP/1.0\r\n\r\n');
      expect(await client.untilClosed()).toMatch(/^HTTP\/1\.1 200 OK\r\n(?![^]*chunked)[^]*\r\n\r\ndata: first\n\n$/);
    });
  });
});

describe('what one is', () => {
  const head = (type: string, contentLength = -1) => ({ flat: ['content-type', type], contentLength, serverTiming: null });
  it.each(['text/event-stream', 'Text/Event-Stream; charset=utf-8', 'text/event-stream ;x'])('%s is', (type) =>
    expect(isEventStream(head(type))).toBe(true),
  );
  it.each(['text/event-streams', 'text/plain', 'application/x-ndjson', ''])('%s is none', (type) =>
    expect(isEventStream(head(type))).toBe(false),
  );
  it('nor is one with a length', () => expect(isEventStream(head('text/event-stream', 20))).toBe(false));

  it.each([['a: b\n\n'], ['a: b\r\n\r\n'], ['a: b\r\r'], ['a: b\n', '\n'], ['a: b\r\n', '\r', '\n'], []])(
    'ends at once between two events: %j %j %j',
    (...chunks) => {
      const told: string[] = [];
      const stream = new EventStream({ onEventsEnd: () => told.push('end'), onEventsEnding: () => told.push('wait') });
      for (const chunk of chunks) stream.follow(Buffer.from(chunk));
      stream.end();
      stream.end();
      expect(told).toEqual(['end']);
    },
  );
});
