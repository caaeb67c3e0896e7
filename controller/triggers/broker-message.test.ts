import { describe, expect, it } from 'vitest';
import { type Received, toSourceMessage, toStructured } from './broker-message.ts';

const plain: Received = {
  ...{ id: 'q:1', source: 'amqp://h:5672/q', type: 'fn.rabbitmq', subject: 'key', time: 5, contentType: 'text/plain' },
  ...{ data: Buffer.from('x'), deliveries: 2, orderKey: null, attributes: {} },
};
const text = (data: Uint8Array) => Buffer.from(data).toString('utf8');

describe('CloudEvents in messages', () => {
  it('gives any other message what its broker tells', () => {
    expect(toSourceMessage(plain)).toEqual({
      ...{ id: 'q:1', source: 'amqp://h:5672/q', type: 'fn.rabbitmq', subject: 'key', time: 5, contentType: 'text/plain' },
      ...{ data: Buffer.from('x'), deliveries: 2, orderKey: null, extensions: {} },
    });
  });

  it('keeps the attributes of one in binary mode, and not those of half of one', () => {
    const attributes = { specversion: '1.0', id: 'a', source: '/s', type: 't', time: '2026-01-01T00:00:00Z', region: 'eu', 'not-one': 'x' };
    expect(toSourceMessage({ ...plain, attributes })).toMatchObject({
      ...{
        id: 'a',
        source: '/s',
        type: 't',
        subject: null,
        time: Date.UTC(2026, 0, 1),
        contentType: 'text/plain',
        extensions: { region: 'eu' },
      },
    });
    expect(toSourceMessage({ ...plain, attributes: { id: 'a', type: 't' } }).id).toBe('q:1');
  });

  it.each([
    [{ data: { a: 1 } }, '{"a":1}', 'application/json'],
    [{ data: 'hello', datacontenttype: 'text/plain' }, 'hello', 'text/plain'],
    [{ data_base64: 'AAE=', datacontenttype: 'application/octet-stream' }, '\0\u0001', 'application/octet-stream'],
    [{}, '', null],
  ])('reads structured mode: %j', (part, data, contentType) => {
    const event = { specversion: '1.0', id: 'a', source: '/s', type: 't', n: 7, ...part };
    const message = toSourceMessage({
      ...plain,
      contentType: 'application/cloudevents+json; charset=utf-8',
      data: Buffer.from(JSON.stringify(event)),
    });
    expect(message).toMatchObject({ id: 'a', contentType, extensions: { n: '7' } });
    expect(text(message.data)).toBe(data);
  });

  it('takes what only says that it is structured as it is', () => {
    for (const data of ['{', '[]', '{"id":"a"}', 'null']) {
      const message = toSourceMessage({ ...plain, contentType: 'application/cloudevents+json', data: Buffer.from(data) });
      expect([message.id, text(message.data)]).toEqual(['q:1', data]);
    }
  });

  it('reads what it writes, for brokers without properties', () => {
    for (const [contentType, data] of [
      ['application/json', '{"a":1}'],
      ['application/json', 'not JSON'],
      ['text/plain', 'ü'],
    ] as const) {
      const attributes = { specversion: '1.0', id: 'a', source: '/s', type: 't', datacontenttype: contentType };
      const read = toSourceMessage({
        ...plain,
        contentType: null,
        untyped: true,
        data: toStructured({ attributes, data: Buffer.from(data) }),
      });
      expect([read.id, read.contentType, text(read.data)]).toEqual(['a', contentType, data]);
    }
  });
});

it('a long number keeps its digits in a structured event', () => {
  const attributes = { specversion: '1.0', id: '1', source: '/s', type: 't', datacontenttype: 'application/json' };
  const text = toStructured({ attributes, data: Buffer.from('{"n":12345678901234567890}') }).toString('utf8');
  expect(text).toContain('"data":{"n":12345678901234567890}');
});
