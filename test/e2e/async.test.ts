/** Invocations that are answered later, on a whole platform: 202 only once it is durable, and what was promised is kept. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { InvocationView } from '#contract/events.ts';
import type { CallOptions } from '../helpers/http.ts';
import { usePlatform } from '../helpers/suite.ts';
import { parallel, range, sleep, waitFor } from '../helpers/wait.ts';

/** Answers as its path says, and counts. */
const SOURCE = `
let count = 0;
const tries = new Map();
export default async (request) => {
  const { pathname } = new URL(request.url);
  const body = await request.text();
  const id = request.headers.get('ce-id');
  const attempt = Number(request.headers.get('ce-attempt'));
  count += 1;
  if (pathname === '/fail') return new Response('no', { status: 500 });
  if (pathname === '/third' && attempt < 3) throw new Error('not yet');
  if (pathname === '/hang') await new Promise((resolve) => request.signal.addEventListener('abort', resolve));
  return Response.json({ body, id, attempt, count, event: request.headers.get('fn-event') }, { status: 201 });
};
`;

/** Events under load, for the dispatcher's death. */
const LOAD = 2_000;

describe('an invocation that is answered later', () => {
  const platform = usePlatform({ driver: 'process' });

  async function deployed(): Promise<void> {
    if ((await platform().call('/later/ok')).status === 201) return;
    const entry = platform().write(SOURCE);
    const manifest = join(entry, '..', 'fn.yaml');
    writeFileSync(
      manifest,
      'functions:\n  later:\n    entry: ./handler.ts\n    max: 1\n    timeout: 20s\n    async: { retry: { base: 50ms, max: 100ms } }\n',
    );
    await platform().fnOk(['deploy', '--file', manifest]);
  }

  const send = async (path: string, options: CallOptions = {}) => {
    const headers = { prefer: 'respond-async', ...options.headers };
    return platform().call(`/later${path}`, { method: 'POST', timeoutMs: 60_000, ...options, headers });
  };

  /** The path at which it can be asked for. */
  async function accepted(path: string, options: CallOptions = {}): Promise<string> {
    const answer = await send(path, options);
    expect([answer.status, answer.text]).toEqual([202, expect.any(String)]);
    const { location } = answer.headers;
    expect(location).toMatch(/^\/\.fn\/invocations\/e-[0-9a-z]{24}$/);
    return location!;
  }

  const viewOf = async (location: string) => InvocationView.parse((await platform().call(location)).json());
  const ended = (location: string, state: InvocationView['state']) =>
    waitFor(`${location} to be ${state}`, async () => {
      const view = await viewOf(location);
      if (view.state !== state) throw new Error(JSON.stringify(view));
      return view;
    });

  /** What the test left in flight. */
  const hanging: string[] = [];
  afterEach(async () => {
    for (const location of hanging.splice(0)) await platform().call(location, { method: 'DELETE' });
  });

  it('is 202, runs, and its answer can be read', async () => {
    await deployed();
    const location = await accepted('/ok', { body: 'some' });
    const view = await ended(location, 'succeeded');
    expect(view).toMatchObject({ function: 'later', state: 'succeeded', attempts: 1, result: { status: 201 } });
    const result = await platform().call(`${location}/result`);
    expect([result.status, result.headers['content-type']]).toEqual([201, 'application/json']);
    expect(result.json()).toMatchObject({ body: 'some', id: location.split('/').pop(), attempt: 1, event: 'invocation' });
  });

  it('is tried again; what fails each time is a dead letter that can be redriven', async () => {
    await deployed();
    expect((await ended(await accepted('/third'), 'succeeded')).attempts).toBe(3);
    const location = await accepted('/fail', { body: 'poison' });
    const view = await ended(location, 'failed');
    expect([view.attempts, view.error?.code]).toEqual([3, 'function-error']);
    const { stdout } = await platform().fnOk(['dlq', 'list', 'later', '--json']);
    expect(stdout).toContain(view.id);
    await platform().fnOk(['dlq', 'redrive', 'later', view.id]);
    await ended(location, 'failed');
    await platform().fnOk(['dlq', 'purge', 'later', view.id]);
    expect((await platform().fnOk(['dlq', 'list', 'later', '--json'])).stdout).not.toContain(view.id);
  });

  it('with an Idempotency-Key runs once; with another body the key is refused', async () => {
    await deployed();
    const headers = { 'idempotency-key': 'order-1' };
    const locations = await Promise.all(range(5).map(() => accepted('/ok', { headers, body: 'a' })));
    expect(new Set(locations).size).toBe(1);
    const other = await send('/ok', { headers, body: 'b' });
    expect([other.status, other.json().code]).toEqual([422, 'idempotency-mismatch']);
    await ended(locations[0]!, 'succeeded');
  });

  it('with a delay waits for it, and with an order key for those before it', async () => {
    await deployed();
    const from = Date.now();
    const delayed = await accepted('/ok', { headers: { 'fn-delay': '4s' } });
    expect((await viewOf(delayed)).state).toBe('queued');
    const ordered: string[] = [];
    for (const number of range(8)) {
      const path = number === 2 ? '/third' : '/ok';
      ordered.push(await accepted(path, { headers: { 'fn-order-key': 'k' } }));
    }
    for (const location of ordered) await ended(location, 'succeeded');
    const counts = await Promise.all(
      ordered.map(async (location) => (await platform().call(`${location}/result`)).json<{ count: number }>().count),
    );
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    const view = await ended(delayed, 'succeeded');
    expect((view.finishedAt ?? 0) - from).toBeGreaterThanOrEqual(4_000);
  });

  it('can be cancelled while it runs: the function sees it', async () => {
    await deployed();
    const location = await accepted('/hang');
    hanging.push(location);
    await ended(location, 'running');
    const cancelled = await platform().call(location, { method: 'DELETE' });
    expect([cancelled.status, cancelled.json().state]).toEqual([200, 'cancelled']);
    expect((await platform().call(location, { method: 'DELETE' })).status).toBe(200);
    const after = await accepted('/ok');
    await ended(after, 'succeeded');
    expect((await platform().call(after, { method: 'DELETE' })).status).toBe(409);
  });

  it('is never lost: not when the dispatcher is killed under load, again and again', async () => {
    await deployed();
    const killed = new Set<number>();
    const killing = (async () => {
      for (const _ of range(3)) {
        await sleep(400);
        const pid = await waitFor('another dispatcher', async () => {
          const { dispatcher } = await platform().status();
          return dispatcher.pid !== null && !killed.has(dispatcher.pid) && dispatcher.pid;
        });
        killed.add(pid);
        process.kill(pid, 'SIGKILL');
      }
    })();
    const locations = await parallel(range(LOAD), 32, async (number) => {
      for (;;) {
        const answer = await send('/ok', { headers: { 'idempotency-key': `load-${number}` }, body: String(number) });
        if (answer.status === 202) return answer.headers.location!;
        expect([answer.status, answer.json().code]).toEqual([503, 'events-unavailable']);
        await sleep(50);
      }
    });
    await killing;
    expect(killed.size).toBe(3);
    expect(new Set(locations).size).toBe(LOAD);
    // One by one, so that the last of them has had its time when it is asked for.
    const states = await parallel(locations, 16, async (location) => (await ended(location, 'succeeded')).state);
    expect(states).toHaveLength(LOAD);
  });
});
