/** Events: what `fn-event` says becomes a call of the handler that the module has for it, in every runtime alike. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Problem } from '#contract/errors.ts';
import { BatchAnswer, CLOUDEVENTS_BATCH_TYPE, HEADERS } from '#contract/runtime.ts';
import { MAX_BATCH_BYTES } from '#contract/events-link.ts';
import { gatewayHeaders, lineWith, startShim, type Answer, type Shim } from './runtime-harness.ts';
import { RUNTIMES } from './runtime-table.ts';
import { waitFor } from '../helpers/wait.ts';

const TIME = '2026-11-21T12:00:00.250Z';
const SOURCE = 'redis://cache.example/orders';
const ATTRIBUTES = { specversion: '1.0', source: SOURCE, type: 'fn.redis-stream', time: TIME, trigger: 'orders' };

type Kind = 'invocation' | 'queue' | 'schedule' | 'event';
type JsonEvent = Record<string, unknown>;

/** Headers of the gateway with the mark that only it can set. */
const marked = (kind: Kind, more: Record<string, string> = {}) => ({ ...gatewayHeaders('the-request'), [HEADERS.event]: kind, ...more });

/** One event in binary mode. */
const binary = (shim: Shim, kind: Kind, body: string | Buffer, contentType?: string, more: Record<string, string> = {}) => {
  const attributes = Object.fromEntries(
    Object.entries({ ...ATTRIBUTES, id: '1-0', attempt: '1', ...more }).map(([name, value]) => [`ce-${name}`, value]),
  );
  return shim.call('POST', '/', {
    body,
    headers: marked(kind, { ...attributes, ...(contentType === undefined ? {} : { 'content-type': contentType }) }),
  });
};

const batchOf = (shim: Shim, events: unknown, kind: Kind = 'queue') =>
  shim.call('POST', '/', {
    body: typeof events === 'string' ? events : JSON.stringify(events),
    headers: marked(kind, { 'content-type': CLOUDEVENTS_BATCH_TYPE }),
  });

/** Events 1-0, 1-1, … whose data tell the fixture what to do with them. */
const doing = (...actions: string[]): JsonEvent[] =>
  actions.map((action, index) => ({
    ...ATTRIBUTES,
    id: `1-${index}`,
    attempt: 1,
    datacontenttype: 'application/json',
    data: { do: action },
  }));

const failures = (answer: Answer) => {
  expect([answer.status, answer.text]).toEqual([200, answer.text]);
  return BatchAnswer.parse(answer.json()).batchItemFailures;
};

/** What is sent, and what it is to the handler. */
const BODIES: { type: string | undefined; body: string | Buffer; data: unknown }[] = [
  { type: 'application/json', body: '{"grüße":["🦊",1]}', data: { grüße: ['🦊', 1] } },
  { type: 'application/vnd.x+json; charset=utf-8', body: '[1]', data: [1] },
  // It says that it is JSON, and is not.
  { type: 'application/json', body: '{"half', data: '{"half' },
  { type: 'text/plain', body: 'grüße 🦊', data: 'grüße 🦊' },
  // Of no type: what looks like an object or a list in JSON is taken for it.
  { type: undefined, body: '{"a":1}', data: { a: 1 } },
  { type: undefined, body: ' ["ü"]', data: ['ü'] },
  { type: undefined, body: '[half', data: '[half' },
  { type: undefined, body: '12', data: '12' },
  { type: 'application/octet-stream', body: Buffer.from('abc'), data: { bytes: [97, 98, 99] } },
  { type: 'text/plain', body: Buffer.from([0, 255, 128]), data: { bytes: [0, 255, 128] } },
  { type: undefined, body: Buffer.from([0, 255, 128]), data: { bytes: [0, 255, 128] } },
  { type: undefined, body: '', data: null },
];

/** What the handler does with message 1-0, 1-1, …, and what is answered. */
const VERDICTS: { what: string; actions: string[]; failed: BatchAnswer['batchItemFailures'] }[] = [
  { what: 'returning acknowledges all', actions: ['nothing', 'nothing'], failed: [] },
  { what: 'retry is of one', actions: ['ack', 'retry', 'nothing'], failed: [{ itemIdentifier: '1-1' }] },
  { what: 'with a delay', actions: ['nothing', 'later'], failed: [{ itemIdentifier: '1-1', delaySeconds: 30 }] },
  { what: 'the first word holds: ack', actions: ['ackRetry', 'nothing'], failed: [] },
  { what: 'the first word holds: retry, with its last delay', actions: ['retryAck'], failed: [{ itemIdentifier: '1-0', delaySeconds: 2 }] },
  {
    what: 'retryAll leaves those alone that were acknowledged before it',
    actions: ['ack', 'retryAll', 'ack'],
    failed: [
      { itemIdentifier: '1-1', delaySeconds: 5 },
      { itemIdentifier: '1-2', delaySeconds: 5 },
    ],
  },
  {
    what: 'ackAll leaves those alone that were to be retried before it',
    actions: ['retry', 'ackAll', 'retry', 'retryAll'],
    failed: [{ itemIdentifier: '1-0' }],
  },
  {
    what: 'what was acknowledged before a throw stays so',
    actions: ['ack', 'later', 'throw', 'ack'],
    failed: [{ itemIdentifier: '1-1', delaySeconds: 30 }, { itemIdentifier: '1-2' }, { itemIdentifier: '1-3' }],
  },
  { what: 'ackAll before a throw, too', actions: ['ackAll', 'throw'], failed: [] },
];

const MALFORMED = [
  { body: '[{', says: 'not JSON' },
  { body: '{}', says: 'not a JSON array' },
  { body: '[1]', says: 'event 0 of the batch is not an object' },
  { body: JSON.stringify([doing('ack')[0], { ...ATTRIBUTES }]), says: 'event 1 of the batch has no id' },
  { body: JSON.stringify([{ ...doing('ack')[0], data_base64: 'YQ==' }]), says: 'both data and data_base64' },
];

describe.each(RUNTIMES)('$name', (runtime) => {
  async function start(entry: string, form = entry === 'events' ? runtime.form : 'events'): Promise<Shim> {
    const shim = await startShim(runtime);
    expect(await shim.become(entry, { env: { GREETING: 'hello' } })).toMatchObject({ form, slots: form === 'lambda' ? 1 : 50 });
    return shim;
  }
  /** What the fixture has told of messages, at least so many. */
  const messagesOf = async (shim: Shim, count = 0): Promise<JsonEvent[]> =>
    await waitFor(`${count} messages`, () => {
      const lines = shim.lines().filter(({ msg }) => msg.startsWith('{"id"'));
      return lines.length >= count && lines.map(({ msg }) => JSON.parse(msg) as JsonEvent);
    });

  describe('queue', () => {
    it('a body is what it was sent as, alone and in a batch', async () => {
      const shim = await start('events');
      for (const { type, body, data } of BODIES) {
        const seen = (await messagesOf(shim)).length;
        expect(failures(await binary(shim, 'queue', body, type, { attempt: '3', partitionkey: 'k%20%C3%A9%25' }))).toEqual([]);
        const bytes = Buffer.from(body);
        const event = {
          ...ATTRIBUTES,
          id: '1-0',
          attempt: 3,
          partitionkey: 'k é%',
          ...(type === undefined ? {} : { datacontenttype: type }),
        };
        const whole = bytes.length === 0 ? event : { ...event, data_base64: bytes.toString('base64') };
        expect(failures(await batchOf(shim, [whole]))).toEqual([]);
        const told = { id: '1-0', attempts: 3, timestamp: Date.parse(TIME), body: data, queue: 'orders', size: 1, key: 'k é%' };
        const message = { ...told, source: SOURCE, type: 'fn.redis-stream' };
        expect((await messagesOf(shim, seen + 2)).slice(seen)).toEqual([message, message]);
      }
    });

    it('data of a batch that need no Base64: JSON values, text, and bytes that happen to be text', async () => {
      const shim = await start('events');
      const values = [
        { datacontenttype: 'application/json', data: 'text as JSON' },
        { datacontenttype: 'text/plain', data: '{"text":1}' },
        { data: { no: 'type' } },
        { datacontenttype: 'application/octet-stream', data: 'abc' },
        { datacontenttype: 'application/json', data: false },
      ];
      const events = values.map((value, index) => ({ ...ATTRIBUTES, id: `v-${index}`, unknown: { nested: true }, ...value }));
      expect(failures(await batchOf(shim, events))).toEqual([]);
      const bodies = (await messagesOf(shim, 5)).map(({ body }) => body);
      expect(bodies).toEqual(['text as JSON', '{"text":1}', { no: 'type' }, { bytes: [97, 98, 99] }, false]);
    });

    it('what was said of the messages is answered', async () => {
      const shim = await start('events');
      for (const { what, actions, failed } of VERDICTS)
        expect({ what, failed: failures(await batchOf(shim, doing(...actions))) }).toEqual({ what, failed });
      expect(await lineWith(shim, 'no luck with 1-2')).toMatchObject({ level: 'error', stream: 'err', req: 'the-request' });
    });

    it('a handler that throws and has said nothing: all failed', async () => {
      const shim = await start('events');
      for (const actions of [['throw'], ['nothing', 'throw'], ['never']]) {
        const answer = await batchOf(shim, doing(...actions));
        expect(Problem.parse(answer.json())).toMatchObject({ status: 500, code: 'function-error', instance: 'the-request' });
        await lineWith(shim, actions.includes('never') ? 'from 0 to 86400' : `no luck with 1-${actions.length - 1}`);
      }
    });

    it('a thousand messages in their order', async () => {
      const shim = await start('events');
      const events = Array.from({ length: 1_000 }, (_, index) => ({ ...doing(index % 10 === 3 ? 'retry' : 'ack')[0], id: `m-${index}` }));
      expect(failures(await batchOf(shim, events)).map(({ itemIdentifier }) => itemIdentifier)).toEqual(
        Array.from({ length: 100 }, (_, index) => `m-${index * 10 + 3}`),
      );
      expect(failures(await batchOf(shim, []))).toEqual([]);
    });

    it('waitUntil goes on after the answer, under the request’s id', async () => {
      const shim = await start('events');
      expect(failures(await batchOf(shim, doing('waitUntil')))).toEqual([]);
      expect(await lineWith(shim, 'later the-request')).toMatchObject({ req: 'the-request' });
    });

    it.each(['wait', 'stuck'])(
      '%s: when nobody waits for it any more it is told, and past the deadline its slot is free',
      async (action) => {
        const shim = await start('events');
        const deadline = String(Date.now() + 300);
        const headers = marked('queue', { 'content-type': CLOUDEVENTS_BATCH_TYPE, [HEADERS.deadline]: deadline });
        const { outgoing } = shim.open('POST', '/', headers);
        outgoing.end(JSON.stringify(doing(action)));
        await lineWith(shim, `${action}s 1-0`);
        expect((await shim.health()).inFlight).toBe(1);
        outgoing.destroy();
        if (action === 'wait') await waitFor('the abort', async () => (await shim.call('GET', '/aborted')).text === '1-0');
        await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
        expect(failures(await batchOf(shim, doing('ack')))).toEqual([]);
      },
    );
  });

  describe('what is malformed is refused in words, before the handler is called', () => {
    it('batches', async () => {
      const shim = await start('events');
      for (const { body, says } of MALFORMED) {
        const problem = Problem.parse((await batchOf(shim, body)).json());
        expect(problem).toMatchObject({ status: 400, code: 'bad-request', detail: expect.stringContaining(says) as string });
      }
      expect(shim.lines()).toEqual([]);
    });

    it('no event at all, several for one, and one too long', async () => {
      const shim = await start('events');
      const bare = await shim.call('POST', '/', { body: 'x', headers: marked('event', { 'content-type': 'text/plain' }) });
      expect(Problem.parse(bare.json())).toMatchObject({ status: 400, detail: expect.stringContaining('ce-*') as string });
      expect((await batchOf(shim, doing('ack', 'ack'), 'event')).status).toBe(400);
      const full = JSON.stringify([{ ...ATTRIBUTES, id: '1-0', data: { do: 'retry', padding: ' '.repeat(MAX_BATCH_BYTES) } }]);
      expect(failures(await batchOf(shim, full))).toEqual([{ itemIdentifier: '1-0' }]);
      const long = await batchOf(shim, `[${' '.repeat(2 * MAX_BATCH_BYTES)}]`);
      expect(Problem.parse(long.json())).toMatchObject({ status: 413, code: 'body-too-large' });
      expect((await shim.health()).inFlight).toBe(0);
    });
  });

  describe('scheduled', () => {
    const tick = {
      id: 't-1',
      type: 'fn.cron',
      source: '/functions/default/hello/triggers/nightly',
      cron: '0%203%20*%20*%20*',
      timezone: 'Europe/Vienna',
      scheduledtime: '2026-11-21T02:00:00Z',
    };

    it('gets the tick, and its result is the answer', async () => {
      const shim = await start('events');
      const answer = await binary(shim, 'schedule', '{"list":[1]}', 'application/json', tick);
      expect([answer.status, answer.json()]).toEqual([
        200,
        {
          ...{
            cron: '0 3 * * *',
            scheduledTime: Date.parse('2026-11-21T02:00:00Z'),
            timezone: 'Europe/Vienna',
            id: 't-1',
            data: { list: [1] },
          },
          ...{ source: tick.source, requestId: 'the-request', env: 'hello' },
        },
      ]);
      const nothing = await binary(shim, 'schedule', '"quietly"', 'application/json', tick);
      expect([nothing.status, nothing.text]).toEqual([204, '']);
    });
  });

  describe('event', () => {
    it('gets the CloudEvent, and its result is the answer', async () => {
      const shim = await start('events');
      const more = {
        subject: '%22quoted%22%20%E2%82%AC',
        type: 'com.example.done',
        chain: 'a',
        // No name of an attribute.
        data: 'x',
        quoted: '"a \\"b\\""',
        // Not allowed in a header, and sent nevertheless.
        raw: Buffer.from('é').toString('latin1'),
      };
      // As bytes: Node writes the headers of a text body as UTF-8, and `raw` would be encoded twice.
      const answer = await binary(shim, 'event', Buffer.from('{"n":1}'), 'application/json', more);
      expect(answer.json()).toEqual({
        ...{
          id: '1-0',
          source: SOURCE,
          type: 'com.example.done',
          subject: '"quoted" €',
          time: TIME,
          contentType: 'application/json',
          data: { n: 1 },
        },
        rest: { specversion: '1.0', attempt: 1, trigger: 'orders', chain: 'a', quoted: 'a "b"', raw: 'é' },
      });
      const structured = await shim.call('POST', '/', {
        body: JSON.stringify({ ...ATTRIBUTES, id: 's', data: 'x', data_base64: null, flag: true, count: 3, none: null, Bad_Name: 1 }),
        headers: marked('event', { 'content-type': 'application/cloudevents+json; charset=utf-8' }),
      });
      expect(structured.json()).toMatchObject({
        id: 's',
        data: 'x',
        rest: { specversion: '1.0', trigger: 'orders', flag: 'true', count: '3' },
      });
      expect(Object.keys((structured.json() as { rest: object }).rest).toSorted()).toEqual(['count', 'flag', 'specversion', 'trigger']);
      expect((await binary(shim, 'event', '{"do":"nothing"}', 'application/json')).status).toBe(204);
      expect((await binary(shim, 'event', '{"do":"throw"}', 'application/json')).status).toBe(500);
      await lineWith(shim, 'no luck with 1-0');
    });

    it('stands in for queue and scheduled: one after the other, failures by their id', async () => {
      const shim = await start('events-only');
      const events = ['first', 'second', 'third'].map((id) => ({
        ...ATTRIBUTES,
        id,
        datacontenttype: 'text/plain',
        data: id === 'second' ? 'fail' : 'go',
      }));
      expect(failures(await batchOf(shim, events))).toEqual([{ itemIdentifier: 'second' }]);
      await lineWith(shim, 'refused second of the-request');
      const order = shim.lines().filter(({ level }) => level === 'info');
      expect(order.map(({ msg }) => msg)).toEqual(['begins first', 'ends first', 'begins second', 'begins third', 'ends third']);
      expect((await binary(shim, 'queue', 'fail', 'text/plain', { id: 'alone' })).status).toBe(500);
      expect(failures(await binary(shim, 'queue', 'go', 'text/plain'))).toEqual([]);
      expect((await binary(shim, 'schedule', '', undefined, { id: 'tick' })).status).toBe(204);
      await lineWith(shim, 'ends tick');
    });
  });

  describe('what is no event', () => {
    it('goes to the handler of HTTP: an invocation, and what only looks like an event', async () => {
      const shim = await start('events');
      expect((await binary(shim, 'invocation', '{"do":"retry"}', 'application/json')).text).toBe('http POST');
      const fake = await shim.call('POST', '/', { body: JSON.stringify(doing('retry')), headers: { ...gatewayHeaders('x'), 'content-type': CLOUDEVENTS_BATCH_TYPE, 'ce-id': '1', 'ce-type': 'fn.cron' } }); // prettier-ignore
      expect(fake.text).toBe('http POST');
      expect((await shim.call('GET', '/')).text).toBe('http GET');
    });

    it.each(['events-only', 'events-queue'])('%s has no handler of HTTP: 404, and what it does have', async (entry) => {
      const shim = await start(entry);
      const handler = entry === 'events-only' ? 'event' : 'queue';
      for (const answer of [await shim.call('GET', '/'), await binary(shim, 'invocation', '')]) {
        const problem = Problem.parse(answer.json());
        expect(problem).toMatchObject({ status: 404, code: 'not-found' });
        expect(problem.detail).toMatch(
          new RegExp(`handles events only: it (?:exports|has) ${handler}, and nothing that takes HTTP requests`),
        );
      }
      const tick = await binary(shim, 'schedule', '');
      if (handler === 'queue') expect(Problem.parse(tick.json()).detail).toMatch(/an event of the kind schedule/);
      else expect(tick.status).toBe(204);
    });

    it('a function of HTTP alone gets it as a request, with what the platform says of it', async () => {
      const shim = await startShim(runtime);
      await shim.become('probe');
      const answer = await shim.call('POST', '/headers', { body: 'x', headers: marked('queue', { 'ce-id': '1-0', 'ce-type': 'fn.mqtt' }) });
      const headers = answer.json() as [string, string][];
      expect(headers).toEqual(expect.arrayContaining([['ce-id', '1-0'], ['ce-type', 'fn.mqtt'], ['fn-event', 'queue']])); // prettier-ignore
      expect(JSON.stringify(headers)).not.toMatch(/fn-instance|fn-deadline/);
      const batch = JSON.stringify(doing('ack'));
      expect(
        (await shim.call('POST', '/echo', { body: batch, headers: marked('queue', { 'content-type': CLOUDEVENTS_BATCH_TYPE }) })).text,
      ).toBe(batch);
    });
  });

  describe('the Lambda form', () => {
    const records = (...bodies: (string | Buffer)[]): JsonEvent[] =>
      bodies.map((body, index) => ({ ...ATTRIBUTES, id: `1-${index}`, attempt: 2, partitionkey: 'k', ...(typeof body === 'string' ? { data: body } : { data_base64: body.toString('base64') }) })); // prettier-ignore

    it('gets the records of SQS', async () => {
      const shim = await start('events-lambda', 'lambda');
      expect(
        failures(await batchOf(shim, [...records('grüße', Buffer.from([0, 255])), { ...ATTRIBUTES, id: '1-2', data: { a: 1 } }])),
      ).toEqual([]);
      const { Records } = JSON.parse((await lineWith(shim, '"Records"')).msg) as { Records: JsonEvent[] };
      const attribute = (stringValue: string) => ({ stringValue, stringListValues: [], binaryListValues: [], dataType: 'String' });
      const sent = String(Date.parse(TIME));
      expect(Records[0]).toEqual({
        ...{ messageId: '1-0', receiptHandle: '1-0', body: 'grüße', eventSource: 'fn:redis-stream', eventSourceARN: SOURCE, awsRegion: '' },
        attributes: {
          ApproximateReceiveCount: '2',
          SentTimestamp: sent,
          SenderId: SOURCE,
          ApproximateFirstReceiveTimestamp: sent,
          MessageGroupId: 'k',
        },
        messageAttributes: { type: attribute('fn.redis-stream'), trigger: attribute('orders'), partitionkey: attribute('k') },
        md5OfBody: createHash('md5').update('grüße').digest('hex'),
      });
      expect(Records[1]).toMatchObject({ body: 'AP8=', isBase64Encoded: true });
      expect(Records[2]).toMatchObject({ body: '{"a":1}' });
      expect(failures(await binary(shim, 'queue', 'empty', 'text/plain'))).toEqual([]);
    });

    it('what it returns is success of all, failure of some, or, where it cannot be understood, failure of all', async () => {
      const shim = await start('events-lambda', 'lambda');
      for (const answer of ['none', 'null', 'empty', 'other']) expect(failures(await batchOf(shim, records(answer, 'x')))).toEqual([]);
      expect(failures(await batchOf(shim, records('second', 'x')))).toEqual([{ itemIdentifier: '1-1' }]);
      for (const answer of ['unknown', 'nothing', 'wrongKey', 'noList']) {
        const problem = Problem.parse((await batchOf(shim, records(answer, 'x'))).json());
        expect(problem).toMatchObject({
          status: 502,
          code: 'function-bad-response',
          detail: expect.stringContaining('batchItemFailures') as string,
        });
      }
      expect(Problem.parse((await batchOf(shim, records('throw', 'x'))).json())).toMatchObject({ status: 500, code: 'function-error' });
    });

    it('gets the schedule of EventBridge, and other events as they are in JSON', async () => {
      const shim = await start('events-lambda', 'lambda');
      const cron = { id: 't-1', source: '/s', scheduledtime: '2026-11-21T02:00:00.500Z' };
      expect((await binary(shim, 'schedule', '{"a":1}', 'application/json', cron)).json()).toEqual({
        event: {
          ...{ version: '0', id: 't-1', 'detail-type': 'Scheduled Event', source: 'aws.events', account: '', region: '' },
          ...{ time: '2026-11-21T02:00:00Z', resources: ['/s'], detail: { a: 1 } },
        },
        request: 'the-request',
      });
      const event = { ...ATTRIBUTES, id: '1-0', attempt: 1 };
      expect((await binary(shim, 'event', '[1]', 'application/json')).json()).toEqual({ event: { ...event, datacontenttype: 'application/json', data: [1] }, request: 'the-request' }); // prettier-ignore
      const bytes = await binary(shim, 'event', Buffer.from([255]), 'image/png');
      expect(bytes.json()).toMatchObject({ event: { datacontenttype: 'image/png', data_base64: '/w==' } });
      const http = (await binary(shim, 'invocation', 'x', 'text/plain')).json();
      expect(http).toMatchObject({ event: { version: '2.0', body: 'x' } });
    });
  });
});
