/** The link through a whole gateway: lost and found, leases kept and taken, routes that change under load. */
import { describe, expect, it } from 'vitest';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { call } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

/** An instance that answers what it is told, and holds requests to /hold until it is let go. */
async function serve(harness: Harness, name: string) {
  const held: (() => void)[] = [];
  const instance = await startInstance(harness.socket(name), (incoming, outgoing) => {
    const answer = () => outgoing.end(name);
    if (incoming.url === '/hold') held.push(answer);
    else answer();
  });
  harness.defer(() => instance.stop());
  return { instance, held };
}

async function route(harness: Harness, number = 1): Promise<string> {
  const revision = harness.controller.route('hello', { number });
  await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
  return revision;
}

const leases = (harness: Harness, count: number) =>
  waitFor(`${count} leases`, () => harness.gateway.state.leases === count, { everyMs: 2 });

describe.each(['unix', 'tcp', 'tls'] as const)('the link over %s', (link) => {
  it('says who it is, what it holds, and by what it routes', async () => {
    await withGateway(
      async (harness) => {
        expect(harness.controller.all('hello')).toMatchObject([{ gateway: 'gw-1', pid: process.pid, term: 0, held: [] }]);
        await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
        expect(harness.controller.all('hello')[0]!.boot).toMatch(/^\S{16}$/);
      },
      { link, config: { gatewayId: 'gw-1' } },
    );
  });

  it('lost: what is held serves on, new demand waits; found: held leases are named, demand is told again', async () => {
    await withGateway(
      async (harness) => {
        const one = await serve(harness, 'one');
        const two = await serve(harness, 'two');
        const revision = await route(harness);
        const granted = harness.controller.grant(revision, one.instance.address, { slots: 1 });
        await leases(harness, 1);
        await harness.controller.stop();
        await waitFor('the loss', () => !harness.gateway.state.connected, { everyMs: 2 });
        for (let i = 0; i < 20; i++) expect((await call(`${harness.url}/hello`)).text).toBe('one');
        const running = call(`${harness.url}/hello/hold`);
        await waitFor('it to be held', () => one.held.length === 1, { everyMs: 2 });
        const waiting = call(`${harness.url}/hello`);
        await waitFor('a waiter', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
        harness.controller.term = 2;
        harness.controller.heard.length = 0;
        await harness.controller.start();
        const hello = await harness.controller.hear('hello');
        expect(hello).toMatchObject({ term: 1, held: [{ lease: granted.lease, instance: granted.instance, revision, slots: 1 }] });
        await harness.controller.hear('want', (want) => want.waiting === 1 && want.inFlight === 1);
        harness.controller.grant(revision, two.instance.address);
        expect((await waiting).text).toBe('two');
        one.held[0]!();
        expect((await running).text).toBe('one');
      },
      { link },
    );
  });

  it('lost for longer than a request waits: 503 with Retry-After', async () => {
    await withGateway(
      async (harness) => {
        await route(harness);
        await harness.controller.stop();
        const answer = await call(`${harness.url}/hello`);
        expect([answer.status, answer.json<{ code: string }>().code, answer.headers['retry-after']]).toEqual([503, 'queue-timeout', '5']);
      },
      { link, config: { queueTimeoutMs: 150 } },
    );
  });

  it('a controller that keeps nothing: no new use, what is in flight ends', async () => {
    await withGateway(
      async (harness) => {
        const one = await serve(harness, 'one');
        const two = await serve(harness, 'two');
        const revision = await route(harness);
        harness.controller.grant(revision, one.instance.address, { slots: 5 });
        await leases(harness, 1);
        const running = call(`${harness.url}/hello/hold`);
        await waitFor('it to be held', () => one.held.length === 1, { everyMs: 2 });
        await harness.controller.stop();
        harness.controller.keep = () => [];
        await harness.controller.start();
        await leases(harness, 0);
        const next = call(`${harness.url}/hello`);
        await waitFor('a waiter', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
        harness.controller.grant(revision, two.instance.address);
        expect((await next).text).toBe('two');
        one.held[0]!();
        expect((await running).text).toBe('one');
        expect(harness.controller.all('release').filter((release) => release.lease.startsWith('l-')).length).toBeLessThanOrEqual(1);
      },
      { link },
    );
  });

  it('with an older term is dropped, and so is what is no message', async () => {
    await withGateway(
      async (harness) => {
        const hellos = () => harness.controller.all('hello').length;
        harness.controller.send({ type: 'routes', version: 9, set: [], remove: [] }, 4);
        await waitFor('another hello', () => hellos() === 2 && harness.gateway.state.connected, { everyMs: 2 });
        // A controller that was there before: never welcome, however often it is met.
        await harness.controller.stop();
        harness.controller.heard.length = 0;
        harness.controller.term = 4;
        await harness.controller.start();
        await harness.controller.hear('hello', (hello) => hello.term === 5);
        await waitFor('some attempts', () => hellos() > 2, { everyMs: 2 });
        expect(harness.gateway.state.connected).toBe(false);
        expect(harness.controller.all('routed')).toEqual([]);
        harness.controller.term = 5;
        await waitFor('the link', () => harness.gateway.state.connected, { everyMs: 2 });
      },
      { link, prepare: (controller) => (controller.term = 5) },
    );
  });
});

describe('revoke', () => {
  it('ends what is in flight, lets nothing new in, and is answered with release', async () => {
    await withGateway(async (harness) => {
      const one = await serve(harness, 'one');
      const revision = await route(harness);
      const { lease } = harness.controller.grant(revision, one.instance.address, { slots: 5 });
      await leases(harness, 1);
      const running = call(`${harness.url}/hello/hold`);
      await waitFor('it to be held', () => one.held.length === 1, { everyMs: 2 });
      harness.controller.send({ type: 'revoke', lease, slots: 0, deadlineMs: 5_000 });
      harness.controller.route('other');
      await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
      const next = new RawClient(harness.port).write('GET /hello HTTP/1.1\r\nHost: a\r\n\r\n');
      await harness.controller.hear('want', (want) => want.waiting === 1);
      expect(harness.controller.all('release')).toEqual([]);
      one.held[0]!();
      expect((await running).text).toBe('one');
      await harness.controller.hear('release', (message) => message.lease === lease);
      next.close();
    });
  });
});

describe('a deployment', () => {
  it('moves new requests and those that wait to the new revision; what is in flight ends on the old', async () => {
    await withGateway(async (harness) => {
      const old = await serve(harness, 'old');
      const fresh = await serve(harness, 'fresh');
      const first = await route(harness, 1);
      harness.controller.grant(first, old.instance.address, { slots: 1 });
      await leases(harness, 1);
      const running = call(`${harness.url}/hello/hold`);
      await waitFor('it to be held', () => old.held.length === 1, { everyMs: 2 });
      const waiting = [call(`${harness.url}/hello`, { method: 'POST', body: 'x' }), call(`${harness.url}/hello`)];
      await waitFor('two waiters', () => harness.gateway.state.waiting === 2, { everyMs: 2 });
      const second = await route(harness, 2);
      await harness.controller.hear('want', (want) => want.revision === second && want.waiting > 0);
      harness.controller.grant(second, fresh.instance.address, { slots: 5 });
      for (const answer of await Promise.all(waiting)) expect(answer.text).toBe('fresh');
      expect((await call(`${harness.url}/hello`)).text).toBe('fresh');
      old.held[0]!();
      expect((await running).text).toBe('old');
    });
  });

  it('of a hundred, under load: every request is answered by a revision that was routed when it came', async () => {
    await withGateway(async (harness) => {
      const instances = await Promise.all(['0', '1', '2'].map((name) => serve(harness, name)));
      harness.controller.grantOnDemand((revision) => instances[Number(revision.split('@')[1]) % 3]!.instance.address, 10);
      await route(harness, 1);
      const deploying = { on: true };
      let number = 1;
      const load = Array.from({ length: 8 }, async () => {
        let count = 0;
        while (deploying.on) {
          const before = number;
          const answer = await call(`${harness.url}/hello`);
          expect(answer.status).toBe(200);
          const routed = Array.from({ length: number + 1 - before }, (_, index) => String((before + index) % 3));
          // The version on its way when it was sent counts as well.
          expect([...routed, String((number + 1) % 3)]).toContain(answer.text);
          count++;
        }
        return count;
      });
      for (let next = 2; next <= 100; next++) {
        await route(harness, next);
        number = next;
      }
      deploying.on = false;
      expect((await Promise.all(load)).reduce((sum, count) => sum + count)).toBeGreaterThan(100);
    });
  });

  it('that removes the function: those who wait get 404', async () => {
    await withGateway(async (harness) => {
      await route(harness);
      const waiting = call(`${harness.url}/hello`);
      await waitFor('a waiter', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
      harness.controller.send({ type: 'routes', version: 99, set: [], remove: [{ namespace: 'default', name: 'hello' }] });
      const answer = await waiting;
      expect([answer.status, answer.json<{ code: string }>().code]).toEqual([404, 'function-not-found']);
    });
  });
});
