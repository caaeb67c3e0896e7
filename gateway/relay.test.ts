/** What a client is handed, and what becomes of what it does not take. */
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { Outgoing } from './context.ts';
import { readResponseHead } from './headers.ts';
import { ResponseRelay } from './relay.ts';

it('has the instance pause once, however many pieces come of what was read already, and go on once', () => {
  const outgoing = new Outgoing(new IncomingMessage(new Socket()));
  const relay = new ResponseRelay(outgoing);
  const head = readResponseHead(['content-type', 'text/plain'], false);
  if (typeof head === 'string') throw new Error(head);
  relay.begin(200, 'OK', head);
  let paused = 0;
  let resumed = 0;
  const flow = { pause: () => void (paused += 1), resume: () => void (resumed += 1) };
  // Nobody reads it. A function may say each byte in a chunk of its own.
  relay.data(flow, Buffer.alloc(128 * 1_024));
  for (let piece = 0; piece < 100; piece += 1) relay.data(flow, Buffer.from('x'));
  expect([paused, relay.paused, outgoing.listenerCount('drain')]).toEqual([1, true, 1]);
  outgoing.emit('drain');
  expect([resumed, relay.paused, outgoing.listenerCount('drain')]).toEqual([1, false, 0]);
});
