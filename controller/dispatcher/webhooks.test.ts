import { createHmac } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { AsyncSettings } from '#contract/events.ts';
import { type TriggerOf, WebhookTrigger } from '#contract/trigger.ts';
import { encodeBody } from '#kit/event-body.ts';
import { VirtualClock } from '#kit/clock.ts';
import { decodePayload } from './payload.ts';
import { TestHost, functionOf } from './trigger-testing.ts';
import { Webhooks } from './webhooks.ts';

const SECRET = 'the shared secret';
const of = functionOf({}, AsyncSettings.parse({}));
const now = Date.UTC(2026, 10, 21, 12);
const seconds = now / 1_000;
const hmac = (key: string | Buffer, text: string, encoding: 'hex' | 'base64' = 'hex') =>
  createHmac('sha256', key).update(text).digest(encoding);

let host: TestHost;
let webhooks: Webhooks;

beforeEach(() => {
  host = new TestHost(new VirtualClock(now));
  host.secrets['default/HOOK'] = SECRET;
  webhooks = new Webhooks(host);
});

const shape = (verify: object, more: object = {}) => WebhookTrigger.parse({ type: 'webhook', name: 'hook', verify, ...more });
const triggers = {
  standard: shape({ scheme: 'standard', secret: 'HOOK' }),
  github: shape({ scheme: 'github', secret: 'HOOK' }),
  stripe: shape({ scheme: 'stripe', secret: 'HOOK' }),
  slack: shape({ scheme: 'slack', secret: 'HOOK' }),
  hex: shape({ scheme: 'hmac', secret: 'HOOK', header: 'x-signature', prefix: 'v=' }),
  base64: shape({ scheme: 'hmac', secret: 'HOOK', header: 'x-signature', encoding: 'base64' }),
  none: shape({ scheme: 'none' }),
};

/** Headers of a genuine delivery by each scheme. */
function signed(scheme: keyof typeof triggers, body: string, key: string | Buffer = SECRET, at = seconds): Record<string, string> {
  switch (scheme) {
    case 'standard': {
      const signature = hmac(key, `msg_1.${at}.${body}`, 'base64');
      return { 'webhook-id': 'msg_1', 'webhook-timestamp': String(at), 'webhook-signature': `v1,AAAA v1,${signature}` };
    }
    case 'github':
      return { 'x-hub-signature-256': `sha256=${hmac(key, body)}`, 'x-github-delivery': 'd-1' };
    case 'stripe':
      return { 'stripe-signature': `t=${at},v1=${hmac(key, `${at}.${body}`)},v0=abc` };
    case 'slack':
      return { 'x-slack-request-timestamp': String(at), 'x-slack-signature': `v0=${hmac(key, `v0:${at}:${body}`)}` };
    case 'hex':
      return { 'x-signature': `v=${hmac(key, body)}` };
    case 'base64':
      return { 'x-signature': hmac(key, body, 'base64') };
    case 'none':
      return {};
  }
}

async function send(trigger: TriggerOf<'webhook'> | null, body: string, headers: Record<string, string>, more: object = {}) {
  const request = { method: 'POST', path: '/', headers: Object.entries(headers).flat(), body: encodeBody(Buffer.from(body)), ...more };
  const message = {
    type: 'webhook' as const,
    seq: 1,
    namespace: 'default',
    name: 'orders',
    trigger: 'hook',
    request,
    requestId: 'r-1',
    traceparent: null,
  };
  const answer = await webhooks.receive(message, trigger === null ? null : { of, trigger });
  const header = (name: string) => answer.headers[answer.headers.indexOf(name) + 1];
  return { status: answer.status, json: JSON.parse(answer.body.toString()) as Record<string, unknown>, header };
}

const BODY = '{"id":"evt_1","event_id":"Ev1","n":1}';

describe.each(Object.keys(triggers) as (keyof typeof triggers)[])('a webhook by %s', (scheme) => {
  const trigger = triggers[scheme];

  it('is accepted where it is genuine, and is an event with what the sender sent', async () => {
    const headers = {
      ...signed(scheme, BODY),
      'content-type': 'application/json',
      'x-topic': 'a',
      'ce-id': 'forged',
      'fn-event': 'forged',
    };
    const { status, json } = await send(trigger, BODY, headers, { path: '/?a=1' });
    expect(status).toBe(202);
    const [event] = host.enqueued;
    expect(json).toEqual({ id: event!.id });
    expect(event).toMatchObject({ lane: 'default/orders', trigger: 'hook' });
    const payload = decodePayload(event!.payload);
    expect([payload.kind, payload.path, payload.body.toString()]).toEqual(['queue', '/?a=1', BODY]);
    const given = new Map(
      payload.headers.flatMap((name, index) => (index % 2 === 0 ? [[name, payload.headers[index + 1]!] as const] : [])),
    );
    expect(given.get('ce-type')).toBe('fn.webhook');
    expect([given.get('content-type'), given.get('x-topic'), given.has('fn-event')]).toEqual(['application/json', 'a', false]);
    expect(payload.headers.filter((name) => name === 'ce-id').length).toBe(1);
    expect(given.get('ce-id')).not.toBe('forged');
  });

  if (scheme === 'none') return;

  it('is refused where its signature is missing, another key’s, or of another body', async () => {
    const answers = [
      await send(trigger, BODY, {}),
      await send(trigger, BODY, signed(scheme, BODY, 'another key')),
      await send(trigger, `${BODY} `, signed(scheme, BODY)),
      await send(trigger, BODY, Object.fromEntries(Object.keys(signed(scheme, BODY)).map((name) => [name, ''] as const))),
    ];
    expect(answers.map(({ status, json }) => [status, json.code])).toEqual(answers.map(() => [401, 'unauthorized']));
    for (const { json } of answers) expect(JSON.stringify(json)).not.toContain(SECRET);
    expect(host.enqueued).toEqual([]);
  });

  it('is refused where it was recorded and is played back', async () => {
    const stale = await Promise.all([-301, 301].map((off) => send(trigger, BODY, signed(scheme, BODY, SECRET, seconds + off))));
    const dated = scheme === 'standard' || scheme === 'stripe' || scheme === 'slack';
    expect(stale.map(({ status }) => status)).toEqual(dated ? [401, 401] : [202, 202]);
  });
});

describe('a webhook', () => {
  it.each(['standard', 'github', 'stripe', 'slack'] as const)('that is delivered twice is one event: %s', async (scheme) => {
    const first = await send(triggers[scheme], BODY, signed(scheme, BODY));
    const second = await send(triggers[scheme], BODY, signed(scheme, BODY));
    expect([second.status, second.json]).toEqual([202, first.json]);
    expect(host.enqueued.length).toBe(1);
  });

  it('has the id that its header names', async () => {
    const trigger = shape({ scheme: 'none' }, { idHeader: 'x-id' });
    for (const id of ['1', '1', '2']) await send(trigger, BODY, { 'x-id': id });
    await send(trigger, BODY, {});
    await send(trigger, BODY, {});
    expect(host.enqueued.length).toBe(4);
  });

  it('of Standard Webhooks takes a secret in Base64', async () => {
    const key = Buffer.from('0123456789abcdef01234567');
    host.secrets['default/HOOK'] = `whsec_${key.toString('base64')}`;
    expect((await send(triggers.standard, BODY, signed('standard', BODY, key))).status).toBe(202);
  });

  it.each(['', 'whsec_', 'whsec_='])('is never accepted with a secret that is no key: "%s"', async (secret) => {
    host.secrets['default/HOOK'] = secret;
    const schemes = secret === '' ? (['standard', 'github', 'stripe', 'slack', 'hex', 'base64'] as const) : (['standard'] as const);
    for (const scheme of schemes)
      expect([scheme, (await send(triggers[scheme], BODY, signed(scheme, BODY, ''))).status]).toEqual([scheme, 401]);
    expect(host.enqueued).toEqual([]);
  });

  it('of Slack answers the challenge, where it is signed', async () => {
    const body = JSON.stringify({ type: 'url_verification', challenge: 'abc' });
    expect(await send(triggers.slack, body, signed('slack', body))).toMatchObject({ status: 200, json: { challenge: 'abc' } });
    expect((await send(triggers.slack, body, signed('slack', body, 'other'))).status).toBe(401);
    expect(host.enqueued).toEqual([]);
  });

  it('that nobody has is a path that leads nowhere', async () => {
    expect(await send(null, BODY, {})).toMatchObject({ status: 404, json: { code: 'not-found', detail: 'there is nothing here' } });
  });

  it('is refused where it is paused, too large, or not sent with POST', async () => {
    const paused = await send(shape({ scheme: 'none' }, { enabled: false }), BODY, {});
    const large = await send(shape({ scheme: 'none' }, { maxPayloadBytes: 5 }), BODY, {});
    const read = await send(triggers.none, BODY, {}, { method: 'GET' });
    expect([paused.status, large.status, read.status, read.header('allow')]).toEqual([409, 413, 405, 'POST']);
    expect(host.enqueued).toEqual([]);
  });

  it('that the filter does not want is accepted and dropped', async () => {
    const trigger = shape({ scheme: 'none' }, { filter: { data: { n: [2] } } });
    expect(await send(trigger, BODY, { 'content-type': 'application/json' })).toMatchObject({ status: 202, json: { filtered: true } });
    expect((await send(trigger, '{"n":2}', { 'content-type': 'application/json' })).status).toBe(202);
    expect(host.enqueued.length).toBe(1);
    expect(webhooks.status(of, trigger)).toMatchObject({ filtered: 1, succeeded: 1 });
  });

  it('is never accepted falsely', async () => {
    host.away = new FnError('store-unavailable', 'the disk /x is full');
    const away = await send(triggers.none, BODY, {});
    expect([away.status, away.json.code, away.header('retry-after')]).toEqual([503, 'events-unavailable', '5']);
    expect(JSON.stringify(away.json)).not.toContain('/x');
    host.away = new FnError('backlog-full', 'too many wait', { retryAfterSeconds: 9 });
    const full = await send(triggers.none, BODY, {});
    expect([full.status, full.json.code, full.header('retry-after')]).toEqual([429, 'backlog-full', '9']);
    delete host.secrets['default/HOOK'];
    expect((await send(triggers.github, BODY, signed('github', BODY))).status).toBe(503);
  });
});
