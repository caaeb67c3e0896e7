/** A gateway behind a load balancer: ready when it knows its routes, and seen to end before it does. */
import { Agent } from 'node:http';
import { describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '#kit/clock.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { call } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

const DELAY_MS = 3_600_000;
const healthListen = { host: '127.0.0.1', port: 0 };

/** The system's, but for the delay of the drain, which ends when a test says so. */
function stoppedDelay(): { clock: Clock; end: () => void } {
  let end = () => {};
  const after: Clock['after'] = (ms, run) => {
    if (ms !== DELAY_MS) return systemClock.after(ms, run);
    end = run;
    return () => {};
  };
  return { clock: { ...systemClock, after }, end: () => end() };
}

/** Status and words of a probe. */
async function probe({ gateway }: Harness, path = '/readyz'): Promise<[number, string]> {
  const { port } = await waitFor('the probes', () => gateway.healthAddress, { everyMs: 2 });
  const { status, text } = await call(`http://127.0.0.1:${port}${path}`);
  return [status, text.trim()];
}

describe('the probes of a gateway', () => {
  it('say that it is ready once it knows the routes, and still when the link is lost', async () => {
    await withGateway(
      async (harness) => {
        expect(await probe(harness)).toEqual([503, 'the routes are not known yet']);
        expect(await probe(harness, '/livez')).toEqual([200, 'ok']);
        await harness.controller.start();
        await waitFor('the link', () => harness.gateway.state.connected, { everyMs: 2 });
        expect(await probe(harness)).toEqual([200, 'ok']);
        await harness.controller.stop();
        await waitFor('the loss', () => !harness.gateway.state.connected, { everyMs: 2 });
        expect(await probe(harness)).toEqual([200, 'ok']);
      },
      { linked: false, config: { healthListen } },
    );
  });

  it('wait for the certificates, too, where it listens for TLS', async () => {
    await withGateway(
      async (harness) => {
        expect(await probe(harness)).toEqual([503, 'the routes are not known yet']);
        harness.controller.send({ type: 'certificates', certificates: [] });
        await harness.controller.settled();
        expect(await probe(harness)).toEqual([200, 'ok']);
      },
      { config: { healthListen, tlsListen: { host: '127.0.0.1', port: 0 } } },
    );
  });
});

describe('the end of a gateway', () => {
  it('is told at once; for the delay it takes what still comes, and has its clients go elsewhere', async () => {
    const { clock, end } = stoppedDelay();
    await withGateway(
      async (harness) => {
        const { gateway, controller, dispatcher, url, port } = harness;
        const held: (() => void)[] = [];
        const instance = await startInstance(harness.socket('one'), (incoming, outgoing) => {
          if (incoming.url === '/hold') held.push(() => outgoing.end('held'));
          else outgoing.end('ok');
        });
        harness.defer(() => instance.stop());
        controller.grantOnDemand(() => instance.address);
        controller.route('hello');
        await controller.settled();
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        harness.defer(() => agent.destroy());
        expect((await call(`${url}/hello`, { agent })).headers.connection).toBe('keep-alive');
        const running = call(`${url}/hello/hold`);
        await waitFor('it to be held', () => held.length === 1, { everyMs: 2 });
        const closing = gateway.close();
        expect(await probe(harness)).toEqual([503, 'this gateway is about to end']);
        expect(await probe(harness, '/livez')).toEqual([200, 'ok']);
        expect((await call(`${url}/.fn/ready`)).status).toBe(503);
        await dispatcher.hear('draining');
        // A connection that was there, and new ones: served, and closed after.
        for (const options of [{ agent }, {}, {}]) {
          const answer = await call(`${url}/hello`, options);
          expect([answer.status, answer.text, answer.headers.connection]).toEqual([200, 'ok', 'close']);
        }
        end();
        await waitFor('nobody to be let in', async () => {
          const client = new RawClient(port);
          await client.untilClosed(500);
          return client.socket.bytesRead === 0;
        });
        held[0]!();
        expect((await running).text).toBe('held');
        await closing;
        expect(controller.all('release').length).toBeGreaterThan(0);
        expect(gateway.healthAddress).toBeNull();
      },
      { clock, events: 'up', config: { healthListen, drainDelayMs: DELAY_MS, drainDeadlineMs: 10_000 } },
    );
  });
});
