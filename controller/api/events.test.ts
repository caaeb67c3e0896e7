/** Invocations, dead letters and triggers over the API: what they answer, what they refuse, what the audit log has of them. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { AuditEntry } from '#contract/tenancy.ts';
import type { TriggerView } from '#contract/trigger.ts';
import { ApiFixture } from '../../test/helpers/api-fixture.ts';
import { exampleDeadLetter, exampleInvocation } from '../../test/helpers/fake-events.ts';

const HELLO = '/v1/namespaces/default/functions/hello';
const id = (digit: string): string => `e-${digit.repeat(24)}`;
const CANARY = 'hunter2';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
});
afterAll(() => api.close());

beforeEach(async () => {
  api.platform.functions.clear();
  api.events.invocations.clear();
  api.events.deadLetters.clear();
  api.events.secrets = null;
  const bundle = await api.upload();
  await api.json('POST', `${HELLO}/revisions`, { bundle, entry: 'index.mjs', settings: {} });
  api.platform.calls.length = 0;
});

/** The newest entry of the audit log. */
async function newest(): Promise<AuditEntry> {
  const { json } = await api.call({ path: '/v1/audit?limit=1' });
  return (json as { entries: AuditEntry[] }).entries[0]!;
}

const stream = { type: 'redis-stream', name: 'orders', url: 'redis://redis.example.com:6379', stream: 'orders' };
const put = (body: Record<string, unknown>, name = String(body.name)) => api.json('PUT', `${HELLO}/triggers/${name}`, body);

describe('invocations', () => {
  beforeEach(() => {
    for (const [digit, state] of [
      ['1', 'queued'],
      ['2', 'failed'],
    ] as const)
      api.events.invocations.set(
        `default/hello ${id(digit)}`,
        exampleInvocation(id(digit), { state, finishedAt: state === 'failed' ? 1 : null }),
      );
  });

  it('are listed, by state and number', async () => {
    const ids = async (query: string) => {
      const { json } = await api.call({ path: `${HELLO}/invocations${query}` });
      return (json as { invocations: { id: string }[] }).invocations.map((view) => view.id);
    };
    expect(await ids('')).toEqual([id('1'), id('2')]);
    expect(await ids('?state=failed')).toEqual([id('2')]);
    expect(await ids('?limit=1')).toEqual([id('1')]);
  });

  it.each(['state=lost', 'limit=0', 'limit=1001', 'limit=x', 'page=2', 'state=failed&state=queued'])('?%s is refused', async (query) => {
    const { problem } = await api.call({ path: `${HELLO}/invocations?${query}` });
    expect(problem).toMatchObject({ status: 422, errors: [{ pointer: expect.stringMatching(/^query\//) }] });
    expect(api.platform.calls).toEqual([]);
  });

  it.each(['e-1', `e-${'A'.repeat(24)}`, 'x'])('the id %s is none that there can be', async (wrong) => {
    expect((await api.call({ path: `${HELLO}/invocations/${wrong}` })).problem).toMatchObject({
      status: 422,
      errors: [{ pointer: 'path/id' }],
    });
  });

  it('one is called off once; the second time it is over', async () => {
    const cancel = () => api.call({ method: 'DELETE', path: `${HELLO}/invocations/${id('1')}` });
    expect((await cancel()).json).toMatchObject({ id: id('1'), state: 'cancelled' });
    expect(await newest()).toMatchObject({ action: 'invocation.cancel', subject: id('1'), outcome: 'ok', namespace: 'default' });
    expect((await cancel()).problem).toMatchObject({ status: 409, code: 'conflict' });
    expect(await newest()).toMatchObject({ action: 'invocation.cancel', outcome: 'conflict' });
  });

  it('the result is the function’s own answer, in JSON', async () => {
    const { json } = await api.call({ path: `${HELLO}/invocations/${id('2')}/result` });
    expect(json).toEqual({ status: 200, headers: ['content-type', 'text/plain'], body: Buffer.from('hello').toString('base64') });
  });

  it('who may only read sees states, and not what was answered or sent', async () => {
    const { token } = await api.tokenFor(['default'], 'read');
    api.events.deadLetters.set(`default/hello ${id('3')}`, exampleDeadLetter(id('3'), { body: Buffer.from(CANARY).toString('base64') }));
    const list = await api.call({ path: `${HELLO}/dead-letters`, token });
    expect(list.status).toBe(200);
    expect(list.text).not.toContain(Buffer.from(CANARY).toString('base64'));
    for (const path of [`invocations/${id('2')}/result`, `dead-letters/${id('3')}`])
      expect((await api.call({ path: `${HELLO}/${path}`, token })).problem.code).toBe('forbidden');
  });
});

describe('dead letters', () => {
  beforeEach(() => {
    for (const digit of ['1', '2', '3'])
      api.events.deadLetters.set(
        `default/hello ${id(digit)}`,
        exampleDeadLetter(id(digit), { trigger: digit === '3' ? null : 'orders', body: Buffer.from(CANARY).toString('base64') }),
      );
  });

  it('are listed by page and trigger, with how many there are', async () => {
    const list = async (query: string) => (await api.call({ path: `${HELLO}/dead-letters${query}` })).json;
    expect(await list('')).toMatchObject({ total: 3, deadLetters: [{ id: id('1') }, { id: id('2') }, { id: id('3') }] });
    expect(await list('?trigger=orders&limit=1')).toMatchObject({ total: 2, deadLetters: [{ id: id('1') }] });
    expect(await list(`?before=${id('2')}`)).toMatchObject({ deadLetters: [{ id: id('3') }] });
  });

  it('some, or all of a trigger, are redriven or purged, and the audit log says how many and no payload', async () => {
    expect((await api.json('POST', `${HELLO}/dead-letters/redrive`, { ids: [id('1'), id('9')] })).json).toEqual({ count: 1 });
    expect(await newest()).toMatchObject({ action: 'dead-letter.redrive', subject: 'hello', detail: { asked: 2, count: 1 } });
    expect((await api.json('POST', `${HELLO}/dead-letters/purge`, { all: true, trigger: 'orders' })).json).toEqual({ count: 1 });
    expect(await newest()).toMatchObject({ action: 'dead-letter.purge', detail: { all: true, trigger: 'orders', count: 1 } });
    const { text } = await api.call({ path: '/v1/audit?limit=1000' });
    expect(text).not.toContain(CANARY);
    expect([...api.events.deadLetters.keys()]).toEqual([`default/hello ${id('3')}`]);
  });

  it.each([{}, { ids: [] }, { all: false }, { ids: [id('1')], all: true }, { ids: ['x'] }, { ids: [id('1')], trigger: 'orders' }])(
    'the selection %j is refused, and nothing is touched',
    async (selection) => {
      for (const verb of ['redrive', 'purge'])
        expect((await api.json('POST', `${HELLO}/dead-letters/${verb}`, selection)).problem.code).toBe('invalid');
      expect(api.events.deadLetters.size).toBe(3);
    },
  );
});

describe('triggers', () => {
  it('are added, shown, listed, paused and removed', async () => {
    const added = await put(stream);
    expect(added.json).toMatchObject({
      function: 'hello',
      trigger: { name: 'orders', enabled: true, batchSize: 1 },
      status: { state: 'running' },
    });
    expect(await newest()).toMatchObject({ action: 'trigger.set', subject: 'orders', detail: { function: 'hello', type: 'redis-stream' } });
    await put({ type: 'webhook', name: 'github', verify: { scheme: 'github', secret: 'GITHUB' } });
    const shown = (await api.call({ path: `${HELLO}/triggers/github` })).json as TriggerView;
    expect(shown.url).toBe('http://localhost:8080/.fn/webhooks/hello/github');
    for (const path of [`${HELLO}/triggers`, '/v1/namespaces/default/triggers'])
      expect((await api.call({ path })).json).toMatchObject({
        triggers: [{ trigger: { name: 'orders' } }, { trigger: { name: 'github' } }],
      });
    const paused = await api.json('PATCH', `${HELLO}/triggers/orders`, { enabled: false });
    expect(paused.json).toMatchObject({ trigger: { enabled: false, stream: 'orders' }, status: { state: 'paused' } });
    expect(await newest()).toMatchObject({ action: 'trigger.enable', detail: { enabled: false } });
    expect((await api.call({ method: 'DELETE', path: `${HELLO}/triggers/orders` })).status).toBe(204);
    expect((await api.call({ path: `${HELLO}/triggers/orders` })).problem.code).toBe('trigger-not-found');
  });

  it.each<[string, string, Record<string, unknown>]>([
    ['a schedule that nobody understands', '/schedule', { type: 'cron', name: 'orders', schedule: 'bad' }],
    ['a time zone that there is not', '/timezone', { type: 'cron', name: 'orders', schedule: '* * * * *', timezone: 'Nowhere/Bad' }],
    ['a filter that nobody understands', '/filter', { ...stream, filter: { data: { paid: 'yes' } } }],
    ['another name than that of the path', '/name', { ...stream, name: 'others' }],
    ['an unknown field', '/strem', { ...stream, strem: 'orders' }],
    ['a field of another type', '/schedule', { ...stream, schedule: '* * * * *' }],
    ['an unknown type', '/type', { ...stream, type: 'pigeon' }],
    ['a URL with a password', '/url', { ...stream, url: `redis://:${CANARY}@redis.example.com` }],
    ['a URL of another kind', '/url', { ...stream, url: 'http://redis.example.com' }],
    ['a pause that grows shorter', '/retryBaseSeconds', { ...stream, retryBaseSeconds: 10, retryMaxSeconds: 1 }],
    ['a path of the runtime', '/path', { ...stream, path: '/.fn/x' }],
    ['a batch of none', '/batchSize', { ...stream, batchSize: 0 }],
  ])('%s is refused at %s', async (_what, pointer, body) => {
    const { problem, text } = await put(body, 'orders');
    expect(problem).toMatchObject({ status: 422, code: 'invalid', errors: [{ pointer }] });
    expect(text).not.toContain(CANARY);
    expect(api.platform.functions.get('default/hello')!.access.triggers).toEqual([]);
  });

  it('a secret that is not there is told', async () => {
    api.events.secrets = new Set();
    const { problem } = await put({ ...stream, url: 'redis://:${secret:REDIS}@redis.example.com' });
    expect(problem).toMatchObject({ status: 404, code: 'secret-not-found' });
  });

  it('the same is checked where the access or a deployment brings them, with the pointer of each', async () => {
    const triggers = [
      stream,
      { type: 'cron', name: 'ticks', schedule: '61 * * * *' },
      { type: 'cron', name: 'tocks', schedule: '@daily', timezone: 'Nowhere/Bad' },
    ];
    const access = await api.json('PUT', `${HELLO}/access`, { triggers });
    expect(access.problem.errors?.map(({ pointer }) => pointer)).toEqual(['/triggers/1/schedule', '/triggers/2/timezone']);
    expect(access.problem.detail).toMatch(/^\/triggers\/1\/schedule: it cannot be read: .* \(and 1 more\)$/);
    const body = { bundle: await api.upload(), entry: 'index.mjs', settings: {}, access: { triggers } };
    const deployed = await api.json('POST', `${HELLO}/revisions`, body);
    expect(deployed.problem.errors?.map(({ pointer }) => pointer)).toEqual(['/access/triggers/1/schedule', '/access/triggers/2/timezone']);
    const twice = await api.json('PUT', `${HELLO}/access`, { triggers: [stream, stream] });
    expect(twice.problem).toMatchObject({ errors: [{ pointer: '/triggers', detail: 'two triggers have the same name' }] });
  });

  it('PATCH takes what it says and nothing else', async () => {
    await put(stream);
    for (const body of [{}, { enabled: 'yes' }, { enabled: true, stream: 'x' }])
      expect((await api.json('PATCH', `${HELLO}/triggers/orders`, body)).problem.code).toBe('invalid');
  });
});
