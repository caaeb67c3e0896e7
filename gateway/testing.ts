/** Makers of requests, and of who gets their answers, for the gateway's tests. */
import type { ResponseHandler } from './instance-connection.ts';
import type { EndedCall } from './journal.ts';
import type { InstanceRequest } from './request-writer.ts';

/** A request for `default/hello` that is over at `now` (monotonic ms): answered with 200, 10 ms after it came. */
export const endedCall = (now: number, overrides: Partial<EndedCall> = {}): EndedCall => ({
  id: 'r-1',
  namespace: 'default',
  name: 'hello',
  desk: null,
  revision: 'default/hello@1',
  instance: 'i-aaaaaaaaaaaa',
  method: 'GET',
  secure: false,
  path: '/hello?secret=1',
  arrivedAt: now - 10,
  askedAt: now - 10,
  sentAt: now - 9,
  headAt: now - 2,
  start: null,
  status: 200,
  problem: null,
  traceparent: null,
  trace: { traceId: 't', parent: null, flags: '00', span: null, spare: null },
  tries: null,
  aborted: false,
  stream: null,
  event: null,
  ...overrides,
});

/** A GET without a body, as an instance is sent it. */
export const instanceRequest = (overrides: Partial<InstanceRequest> = {}): InstanceRequest => ({
  method: 'GET',
  path: '/',
  headers: ['host', 'a'],
  body: null,
  bodyLength: -1,
  upgrade: null,
  ...overrides,
});

/** Takes of an answer what is named, and nothing else. */
export const responseHandler = (heard: Partial<ResponseHandler>): ResponseHandler => ({
  onSending: () => {},
  onHead: () => {},
  onData: () => {},
  onQuiet: () => {},
  onEnd: () => {},
  onUpgrade: () => {},
  onError: () => {},
  ...heard,
});
