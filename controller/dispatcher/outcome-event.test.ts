import { describe, expect, it } from 'vitest';
import { MAX_EVENT_BYTES } from '#contract/events.ts';
import { binaryHeaders } from './cloudevents.ts';
import { type Ended, MAX_HOPS, nextHops, outcomeEvent, outgoingOf } from './outcome-event.ts';
import type { EventPayload } from './payload.ts';

const payload = (more: Partial<EventPayload> = {}): EventPayload => ({
  kind: 'invocation',
  revision: null,
  traceparent: null,
  method: 'POST',
  path: '/a',
  headers: ['content-type', 'application/json'],
  body: Buffer.from('{"n":1}'),
  ...more,
});

const ended = (more: Partial<Ended> = {}): Ended => ({
  event: {
    id: `e-${'1'.repeat(24)}`,
    lane: 'default/hello',
    namespace: 'default',
    name: 'hello',
    trigger: null,
    dedup: null,
    orderKey: null,
    createdAt: 1,
    dueAt: 1,
    expiresAt: 2,
    payload: new Uint8Array(),
  },
  payload: payload(),
  state: 'succeeded',
  attempts: 1,
  reason: null,
  error: null,
  result: { status: 200, headers: ['content-type', 'text/plain'], body: Buffer.from('ok'), truncated: false },
  request: 'r-1',
  revision: 'default/hello@1',
  at: Date.UTC(2026, 0, 1),
  ...more,
});

const dataOf = (of: Ended) => JSON.parse(Buffer.from(outcomeEvent(of, 1).data).toString('utf8')) as unknown;

describe('the event of an outcome', () => {
  it('tells what was asked, by whom, and what came of it', () => {
    const { attributes } = outcomeEvent(ended(), 1);
    expect(attributes).toEqual({
      specversion: '1.0',
      id: `e-${'1'.repeat(24)}.succeeded`,
      source: '/functions/default/hello',
      type: 'fn.invocation.succeeded',
      time: '2026-01-01T00:00:00.000Z',
      subject: `e-${'1'.repeat(24)}`,
      datacontenttype: 'application/json',
      hops: '1',
    });
    expect(dataOf(ended())).toEqual({
      invocation: {
        id: `e-${'1'.repeat(24)}`,
        namespace: 'default',
        function: 'hello',
        state: 'succeeded',
        trigger: null,
        attempts: 1,
        createdAt: 1,
        finishedAt: Date.UTC(2026, 0, 1),
        request: 'r-1',
        revision: 'default/hello@1',
      },
      request: { method: 'POST', path: '/a', contentType: 'application/json', body: { n: 1 } },
      response: { status: 200, contentType: 'text/plain', truncated: false, body: 'ok' },
      error: null,
    });
  });

  it.each([
    ['application/json', '{no', { body: '{no' }],
    [null, '', { body: null }],
    ['image/png', Buffer.from([0xff, 0xfe]), { bodyBase64: '//4=' }],
  ])('has a body of %s as what it is', (type, body, expected) => {
    const headers = type === null ? [] : ['content-type', type];
    expect(dataOf(ended({ payload: payload({ headers, body: Buffer.from(body) }) }))).toMatchObject({ request: expected });
  });

  it('leaves out a body with which it would be longer than an event may be', () => {
    const { data } = outcomeEvent(ended({ payload: payload({ headers: [], body: Buffer.alloc(MAX_EVENT_BYTES, 'a') }) }), 1);
    expect(data.length).toBeLessThan(MAX_EVENT_BYTES);
    expect(JSON.parse(Buffer.from(data).toString('utf8'))).toMatchObject({ request: { bodyOmitted: true }, response: { body: 'ok' } });
  });

  it('is the same after it was kept in binary mode, whatever its text', () => {
    const { attributes, data } = outcomeEvent(ended(), 3);
    const event = { attributes: { ...attributes, subject: 'ü "%" 😀' }, data };
    expect(outgoingOf({ headers: binaryHeaders(event.attributes), body: Buffer.from(data) })).toEqual({
      ...event,
      data: Buffer.from(data),
    });
  });
});

describe('outcomes of outcomes', () => {
  it('are counted, and end', () => {
    const after = (hops: string) => nextHops(payload({ kind: 'event', headers: ['ce-hops', hops] }));
    expect([after('1'), after(String(MAX_HOPS - 1)), after(String(MAX_HOPS)), after('x'), after('1e9')]).toEqual([
      2,
      MAX_HOPS,
      null,
      null,
      null,
    ]);
    // Who writes to a broker writes what he likes.
    expect(after('-9007199254740991')).toBe(null);
  });

  it('begin anew with a client’s request, whatever it says', () => {
    expect(nextHops(payload({ headers: ['ce-hops', '99'] }))).toBe(1);
  });
});
