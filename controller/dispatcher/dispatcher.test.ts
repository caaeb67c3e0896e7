/** The dispatcher whole, with gateways that the test plays: accept → commit → deliver → settle. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { InvocationView, MAX_EVENT_BYTES } from '#contract/events.ts';
import { newEventId } from '#kit/ids.ts';
import { DispatcherHarness, functionEvents } from '../../test/helpers/dispatcher-harness.ts';
import type { Deliver, FakeGateway, Played } from '../../test/helpers/dispatcher-gateway.ts';
import { range, waitFor } from '../../test/helpers/wait.ts';
import type { EventStore } from '../store/events.ts';
import { headerOf } from './headers.ts';
import { encodePayload } from './payload.ts';

let harness: DispatcherHarness;
beforeEach(() => {
  harness = new DispatcherHarness();
});
afterEach(() => harness.close());

async function viewOf(gateway: FakeGateway, id: string): Promise<InvocationView | null> {
  const answer = await gateway.invocation(id, 'read');
  if (answer.type !== 'invocation') throw new Error(`not answered: ${JSON.stringify(answer)}`);
  return answer.found === null ? null : InvocationView.parse(JSON.parse(answer.found.view));
}

const inState = (gateway: FakeGateway, id: string, state: InvocationView['state']) =>
  waitFor(`${id} to be ${state}`, async () => {
    const view = await viewOf(gateway, id);
    if (view?.state !== state) throw new Error(`it is ${JSON.stringify(view)}`);
    return view;
  });

const codeOf = (answer: Awaited<ReturnType<FakeGateway['accept']>>) => (answer.type === 'refused' ? answer.problem.code : answer.type);
const header = (delivery: Deliver | undefined, name: string) => headerOf(delivery?.request.headers ?? [], name);

describe('an invocation that is answered later', () => {
  it('is delivered as it was sent, as a CloudEvent, and its answer can be read', async () => {
    const { gateway } = await harness.ready(() => ({ status: 201, headers: ['content-type', 'text/plain', 'x-mine', '1'], body: 'made' }));
    const id = await gateway.accepted('hello', { body: 'some', path: '/a?b=1', headers: ['content-type', 'text/x', 'x-own', 'v'] });
    const view = await inState(gateway, id, 'succeeded');
    expect(view).toMatchObject({ attempts: 1, error: null, request: 'r-1', revision: 'default/hello@1', dueAt: null });
    expect(view.result).toEqual({ status: 201, bytes: 4, truncated: false });
    const [delivery] = gateway.deliveries;
    expect(delivery).toMatchObject({ kind: 'invocation', request: { method: 'POST', path: '/a?b=1', body: { text: 'some' } } });
    expect(header(delivery, 'x-own')).toBe('v');
    const names = ['ce-id', 'ce-type', 'ce-source', 'ce-specversion', 'ce-attempt'];
    expect(names.map((name) => header(delivery, name))).toEqual([id, 'fn.invocation', '/functions/default/hello', '1.0', '1']);
    expect(await gateway.invocation(id, 'result')).toMatchObject({
      type: 'answer',
      status: 201,
      headers: ['content-type', 'text/plain'],
      body: { text: 'made' },
    });
  });

  it("that is a client's own CloudEvent stays that event", async () => {
    const { gateway } = await harness.ready();
    const own = ['ce-specversion', '1.0', 'ce-id', 'mine', 'ce-source', '/me', 'ce-type', 'order'];
    await inState(gateway, await gateway.accepted('hello', { headers: own }), 'succeeded');
    await inState(gateway, await gateway.accepted('hello', { headers: ['content-type', 'application/cloudevents+json'] }), 'succeeded');
    expect(gateway.deliveries[0]!.request.headers).toEqual([...own, 'ce-attempt', '1']);
    expect(gateway.deliveries[1]!.request.headers).toEqual(['content-type', 'application/cloudevents+json']);
  });

  it('says which attempt it is and which event, whatever a client says of them', async () => {
    const { gateway } = await harness.ready();
    const own = ['ce-specversion', '1.0', 'ce-id', 'mine', 'ce-source', '/me', 'ce-type', 'order'];
    await inState(gateway, await gateway.accepted('hello', { headers: [...own, 'ce-attempt', '7'] }), 'succeeded');
    const id = await gateway.accepted('hello', { headers: ['ce-id', 'forged', 'ce-partitionkey', 'forged', 'x-own', '1'] });
    await inState(gateway, id, 'succeeded');
    expect(gateway.deliveries[0]!.request.headers).toEqual([...own, 'ce-attempt', '1']);
    const { headers } = gateway.deliveries[1]!.request;
    expect(headers.filter((_, index) => headers[index - 1] === 'ce-id')).toEqual([id]);
    expect([headers.includes('ce-partitionkey'), headers.includes('x-own')]).toEqual([false, true]);
  });

  it('is tried again until it succeeds', async () => {
    let calls = 0;
    const { gateway } = await harness.ready(() => ({ status: (calls += 1) < 3 ? 500 : 200 }));
    const view = await inState(gateway, await gateway.accepted('hello'), 'succeeded');
    expect(view.attempts).toBe(3);
    expect(gateway.deliveries.map((delivery) => header(delivery, 'ce-attempt'))).toEqual(['1', '2', '3']);
  });

  it('that fails each time is a dead letter, which can be redriven and purged', async () => {
    let answer: Played = { status: 500, body: 'no' };
    const { gateway, dispatcher } = await harness.ready(() => answer);
    const { questions } = dispatcher;
    const id = await gateway.accepted('hello', { body: 'x' });
    const view = await inState(gateway, id, 'failed');
    expect([view.attempts, view.error]).toEqual([3, { code: 'function-error', detail: 'The function answered 500.', status: 500 }]);
    const list = await questions.listDeadLetters('default', 'hello', {});
    expect(list).toMatchObject({
      total: 1,
      deadLetters: [{ id, reason: 'attempts', attempts: 3, event: { type: 'fn.invocation', bytes: 1 } }],
    });
    expect(await questions.getDeadLetter('default', 'hello', id)).toMatchObject({ body: Buffer.from('x').toString('base64') });
    answer = { status: 200 };
    expect(await questions.redrive('default', 'hello', { ids: [id] })).toEqual({ count: 1 });
    await inState(gateway, id, 'succeeded');
    answer = { status: 500 };
    const others = await Promise.all(range(5).map(() => gateway.accepted('hello')));
    for (const other of others) await inState(gateway, other, 'failed');
    expect(await questions.purge('default', 'hello', { all: true })).toEqual({ count: 5 });
    expect((await questions.listDeadLetters('default', 'hello', {})).total).toBe(0);
    await expect(questions.purge('default', 'hello', { ids: [id] })).rejects.toMatchObject({ code: 'dead-letter-not-found' });
  });

  it('that the platform could not deliver is tried again without counting', async () => {
    let calls = 0;
    const { gateway } = await harness.ready(() => ((calls += 1) <= 6 ? { code: 'no-capacity' } : { status: 200 }));
    const view = await inState(gateway, await gateway.accepted('hello'), 'succeeded');
    expect([view.attempts, gateway.deliveries.length]).toEqual([1, 7]);
  });

  it('of a trigger whose function says that it failed has failed, however its id is written', async () => {
    let calls = 0;
    const { gateway, triggers } = await harness.ready(() => {
      const failed = (calls += 1) === 1;
      return { status: 200, body: failed ? '{"batchItemFailures":[{"itemIdentifier":"ü 1"}]}' : '{"batchItemFailures":[]}' };
    });
    const at = Date.now();
    const headers = ['ce-specversion', '1.0', 'ce-id', '%C3%BC%201', 'ce-source', '/s', 'ce-type', 't'];
    const id = newEventId();
    await triggers.host?.enqueue([
      {
        id,
        lane: 'default/hello',
        namespace: 'default',
        name: 'hello',
        trigger: 'hook',
        dedup: null,
        orderKey: null,
        createdAt: at,
        dueAt: at,
        expiresAt: at + 60_000,
        payload: encodePayload({
          kind: 'queue',
          revision: null,
          traceparent: null,
          method: 'POST',
          path: '/',
          headers,
          body: Buffer.alloc(0),
        }),
      },
    ]);
    expect((await inState(gateway, id, 'succeeded')).attempts).toBe(2);
  });

  it('with the same Idempotency-Key runs once; with another body the key is refused', async () => {
    const { gateway } = await harness.ready();
    const first = await gateway.accept('hello', { idempotencyKey: 'k', body: 'a' });
    const again = await gateway.accept('hello', { idempotencyKey: 'k', body: 'a' });
    expect(first).toMatchObject({ type: 'accepted', duplicate: false });
    expect(again).toMatchObject({ type: 'accepted', duplicate: true, id: first.type === 'accepted' ? first.id : '' });
    expect(codeOf(await gateway.accept('hello', { idempotencyKey: 'k', body: 'b' }))).toBe('idempotency-mismatch');
    const together = await Promise.all(range(10).map(() => gateway.accept('hello', { idempotencyKey: 'many' })));
    expect(new Set(together.map((answer) => (answer.type === 'accepted' ? answer.id : answer.type))).size).toBe(1);
    await waitFor('both to run', () => gateway.deliveries.length === 2);
  });

  it('is told to nobody who guesses its Idempotency-Key', async () => {
    const { gateway } = await harness.ready();
    const headers = ['authorization', 'Bearer of the first'];
    const id = await gateway.accepted('hello', { idempotencyKey: '1', body: 'a', headers });
    const guesses = [
      { body: 'b', headers },
      { body: 'a', headers: ['authorization', 'Bearer of the second'] },
      { body: 'a', headers: [...headers, 'cookie', 'session=2'] },
    ];
    for (const guess of guesses) {
      const answer = await gateway.accept('hello', { idempotencyKey: '1', ...guess });
      expect(codeOf(answer)).toBe('idempotency-mismatch');
      expect(JSON.stringify(answer)).not.toContain(id);
    }
  });

  it('with a delay waits for it', async () => {
    const { gateway } = await harness.ready();
    const from = Date.now();
    const id = await gateway.accepted('hello', { delayMs: 2_000 });
    expect((await viewOf(gateway, id))?.state).toBe('queued');
    const view = await inState(gateway, id, 'succeeded');
    expect((view.finishedAt ?? 0) - from).toBeGreaterThanOrEqual(2_000);
  });

  it('with an order key runs after those before it, however they fail', async () => {
    const running = new Map<string, number>();
    let most = 0;
    const attempts = new Map<string, number>();
    const { gateway } = await harness.ready(async (delivery) => {
      const key = header(delivery, 'ce-partitionkey') ?? '';
      const now = (running.get(key) ?? 0) + 1;
      running.set(key, now);
      most = Math.max(most, now);
      await new Promise((resolve) => setImmediate(resolve));
      running.set(key, now - 1);
      const id = header(delivery, 'ce-id') ?? '';
      attempts.set(id, (attempts.get(id) ?? 0) + 1);
      return { status: attempts.get(id) === 1 && Number(delivery.request.path.slice(2)) % 3 === 0 ? 500 : 200 };
    });
    const ids = await Promise.all(range(24).map((n) => gateway.accepted('hello', { orderKey: `k${n % 2}`, path: `/${n % 2}${n}` })));
    for (const id of ids) await inState(gateway, id, 'succeeded');
    expect(most).toBe(1);
    for (const key of ['0', '1']) {
      const order = gateway.deliveries.map(({ request }) => request.path).filter((path) => path[1] === key);
      const once = order.filter((path, index) => order.indexOf(path) === index);
      expect(once).toEqual([...once].sort((a, b) => Number(a.slice(2)) - Number(b.slice(2))));
      expect(once).toHaveLength(12);
    }
  });

  it('can be cancelled while it waits and while it runs', async () => {
    const { gateway } = await harness.ready(() => null);
    const waits = await gateway.accepted('hello', { delayMs: 60_000 });
    expect(await gateway.invocation(waits, 'cancel')).toMatchObject({ type: 'answer', status: 200 });
    const runs = await gateway.accepted('hello');
    await inState(gateway, runs, 'running');
    expect(await gateway.invocation(runs, 'cancel')).toMatchObject({ status: 200 });
    await waitFor('the delivery to be abandoned', () => gateway.abandoned.length === 1);
    expect((await viewOf(gateway, runs))?.state).toBe('cancelled');
    gateway.play = () => ({ status: 200 });
    const over = await gateway.accepted('hello');
    await inState(gateway, over, 'succeeded');
    expect(await gateway.invocation(over, 'cancel')).toMatchObject({ status: 409 });
    expect(await gateway.invocation(waits, 'cancel')).toMatchObject({ status: 200 });
  });

  it('that nobody knows is not there; one that is not over has no result yet', async () => {
    const { gateway } = await harness.ready(() => null);
    const unknown = `e-${'0'.repeat(24)}`;
    expect(await gateway.invocation(unknown, 'read')).toMatchObject({ found: null });
    expect(await gateway.invocation(unknown, 'result')).toMatchObject({ status: 404 });
    const id = await gateway.accepted('hello');
    const answer = await gateway.invocation(id, 'result');
    expect(answer).toMatchObject({ status: 404, headers: ['content-type', 'application/problem+json', 'retry-after', '1'] });
    await gateway.invocation(id, 'cancel');
    // Not as if there were no such invocation.
    const cancelled = await gateway.invocation(id, 'result');
    expect([cancelled]).toEqual([expect.objectContaining({ status: 404, body: { text: expect.stringContaining('is over (cancelled)') } })]);
  });

  it('is refused where too many wait, where it is too long, and where the function is not known', async () => {
    const { gateway } = await harness.ready(() => null, { functions: [functionEvents('hello', { maxQueued: 2, concurrency: 1 })] });
    const answers = [];
    for (const _ of range(5)) answers.push(codeOf(await gateway.accept('hello')));
    expect(answers).toEqual(['accepted', 'accepted', 'accepted', 'backlog-full', 'backlog-full']);
    expect(codeOf(await gateway.accept('hello', { body: Buffer.alloc(MAX_EVENT_BYTES + 1) }))).toBe('body-too-large');
    expect(codeOf(await gateway.accept('other'))).toBe('events-unavailable');
  });

  it('runs no more at a time than the function says, and all of them in the end', async () => {
    let running = 0;
    let most = 0;
    const { gateway } = await harness.ready(
      async () => {
        most = Math.max(most, (running += 1));
        await new Promise((resolve) => setTimeout(resolve, 1));
        running -= 1;
        return { status: 200 };
      },
      { functions: [functionEvents('hello', { concurrency: 3 })] },
    );
    await Promise.all(range(200).map(() => gateway.accepted('hello')));
    await waitFor('all to run', () => gateway.deliveries.length === 200);
    expect(most).toBe(3);
  });

  it('of one function is not held up by another one that is stuck', async () => {
    const functions = [functionEvents('stuck', { concurrency: 2 }), functionEvents('hello')];
    const { gateway } = await harness.ready(({ name }) => (name === 'stuck' ? null : { status: 200 }), { functions });
    await Promise.all(range(50).map(() => gateway.accepted('stuck')));
    await inState(gateway, await gateway.accepted('hello'), 'succeeded');
    expect(gateway.deliveries.filter(({ name }) => name === 'stuck')).toHaveLength(2);
  });

  it('goes with its function when that is deleted', async () => {
    const { gateway, dispatcher } = await harness.ready(() => null);
    const ids = await Promise.all([gateway.accepted('hello'), gateway.accepted('hello', { delayMs: 60_000 })]);
    await waitFor('the delivery', () => gateway.deliveries.length === 1);
    dispatcher.change({ type: 'change', set: [], remove: [{ namespace: 'default', name: 'hello', deleted: true }], secrets: {} });
    for (const id of ids) await waitFor('it to be gone', async () => (await viewOf(gateway, id)) === null);
    expect(gateway.abandoned).toHaveLength(1);
  });
});

describe('gateways', () => {
  it('that go while they deliver: it is tried again through another, and counts for nothing', async () => {
    const { gateway, path } = await harness.ready(() => null);
    const id = await gateway.accepted('hello');
    await waitFor('the delivery', () => gateway.deliveries.length === 1);
    const other = await harness.gateway(path);
    gateway.close();
    expect((await inState(other, id, 'succeeded')).attempts).toBe(1);
  });

  it('share deliveries; one that drains gets none', async () => {
    const { gateway, path } = await harness.ready(() => null);
    const other = await harness.gateway(path, () => null);
    await inState(other, `${await other.accepted('hello')}`, 'running');
    await Promise.all(range(7).map(() => gateway.accepted('hello')));
    await waitFor('all', () => gateway.deliveries.length + other.deliveries.length === 8);
    expect(gateway.deliveries).toHaveLength(4);
    other.send({ type: 'draining' });
    await viewOf(other, `e-${'0'.repeat(24)}`);
    await Promise.all(range(2).map(() => gateway.accepted('hello')));
    await waitFor('the rest', () => gateway.deliveries.length === 6);
    expect(other.deliveries).toHaveLength(4);
  });

  it('that say what the link does not allow are cut off', async () => {
    const { gateway, path } = await harness.ready();
    const other = await harness.gateway(path);
    other.raw('{"type":"accept"}\n');
    await waitFor('the cut', () => other.closed);
    await inState(gateway, await gateway.accepted('hello'), 'succeeded');
    expect([other.deliveries.length, gateway.deliveries.length]).toEqual([0, 1]);
  });
});

describe('a dispatcher that dies', () => {
  it('between claim and settle: the next one delivers, and a late answer comes to nothing', async () => {
    let answerLate: (played: Played) => void = () => {};
    const first = await harness.ready(() => new Promise((resolve) => (answerLate = resolve)), { owner: 'one' });
    const id = await first.gateway.accepted('hello');
    await waitFor('the delivery', () => first.gateway.deliveries.length === 1);
    const second = await harness.ready(() => ({ status: 200, body: 'second' }), { owner: 'two', retired: ['one'] });
    await inState(second.gateway, id, 'succeeded');
    answerLate({ status: 200, body: 'first' });
    await waitFor('the late answer to be settled', () => first.dispatcher.stats()[0]?.running === 0);
    expect(await second.gateway.invocation(id, 'result')).toMatchObject({ body: { text: 'second' } });
    // It was frozen, not dead: it goes on under a new name.
    first.gateway.play = () => ({ status: 200 });
    await waitFor('it to accept again', async () => (await first.gateway.accept('hello')).type === 'accepted');
  });

  it('in order: what runs may end, and what waits is the next one’s', async () => {
    const first = await harness.ready(() => null, { functions: [functionEvents('hello', { concurrency: 1 })] });
    const ids = await Promise.all(range(3).map(() => first.gateway.accepted('hello')));
    await first.dispatcher.close(50);
    const second = await harness.ready();
    for (const id of ids) await inState(second.gateway, id, 'succeeded');
    expect(second.gateway.deliveries).toHaveLength(3);
  });
});

describe('two dispatchers at one place', () => {
  it('the first one’s end leaves the second one reachable', async () => {
    const first = await harness.ready(undefined, { path: 'same' });
    const second = await harness.ready(undefined, { path: 'same' });
    await first.dispatcher.close(0);
    const gateway = await harness.gateway(second.path);
    await inState(gateway, await gateway.accepted('hello'), 'succeeded');
    expect(first.gateway.closed).toBe(true);
  });
});

describe('a store that is away', () => {
  const away = () => new FnError('store-unavailable', 'Redis is away');
  /** As the store, but that `around` decides what becomes of a call. */
  function intercepted(store: EventStore, around: (name: string, call: () => unknown) => unknown): EventStore {
    return new Proxy(store, {
      get(target, name, receiver) {
        const value: unknown = Reflect.get(target, name, receiver);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => around(String(name), () => Reflect.apply(value, target, args) as unknown);
      },
    });
  }

  it('is 503 for who wants something accepted, and what ran meanwhile is settled when it is back', async () => {
    const down = { now: false };
    let answer: (played: Played) => void = () => {};
    const { gateway } = await harness.ready(() => new Promise((resolve) => (answer = resolve)), {
      wrap: (store) =>
        intercepted(store, (name, call) => (down.now && name !== 'close' && name !== 'hasRoom' ? Promise.reject(away()) : call())),
    });
    const id = await gateway.accepted('hello');
    await waitFor('the delivery', () => gateway.deliveries.length === 1);
    down.now = true;
    answer({ status: 200, body: 'done' });
    expect(codeOf(await gateway.accept('hello'))).toBe('events-unavailable');
    expect(codeOf(await gateway.invocation(id, 'read'))).toBe('events-unavailable');
    down.now = false;
    await inState(gateway, id, 'succeeded');
    expect(gateway.deliveries).toHaveLength(1);
    gateway.play = () => ({ status: 200 });
    await waitFor('it to accept again', async () => (await gateway.accept('hello')).type === 'accepted');
  });

  it('whose disk is nearly full takes nothing new, and works off what waits', async () => {
    const disk = { full: false };
    const { gateway, dispatcher } = await harness.ready(() => ({ status: 200 }), {
      wrap: (store) => intercepted(store, (name, call) => (name === 'hasRoom' ? !disk.full : call())),
    });
    const id = await gateway.accepted('hello', { delayMs: 300 });
    disk.full = true;
    expect(await gateway.accept('hello')).toMatchObject({
      problem: { code: 'events-unavailable', detail: expect.stringContaining('nothing was accepted') as string },
      retryAfterSeconds: 30,
    });
    await inState(gateway, id, 'succeeded');
    expect(dispatcher.stats()[0]).toMatchObject({ waiting: 0, succeeded: 1 });
    disk.full = false;
    await gateway.accepted('hello');
  });

  it('that committed what it could not answer: the event runs all the same', async () => {
    const lose = { next: false };
    const { gateway } = await harness.ready(() => ({ status: 200 }), {
      wrap: (store) =>
        intercepted(store, async (name, call) => {
          const answer = await call();
          if (name !== 'enqueue' || !lose.next) return answer;
          lose.next = false;
          throw away();
        }),
    });
    lose.next = true;
    const lost = await gateway.accept('hello', { idempotencyKey: 'k' });
    expect(codeOf(lost)).toBe('events-unavailable');
    // Who would take it for not accepted would send it without its key.
    expect(lost).toMatchObject({ problem: { detail: expect.stringContaining('may have accepted it') as string } });
    const again = await waitFor('the repetition to be accepted', async () => {
      const answered = await gateway.accept('hello', { idempotencyKey: 'k' });
      return answered.type === 'accepted' ? answered : null;
    });
    expect(again.duplicate).toBe(true);
    await inState(gateway, again.id, 'succeeded');
    expect(gateway.deliveries).toHaveLength(1);
  });
});
