/** Instances that crash, refuse, overrun or attack: what the client gets, and who is not harmed. */
import { once } from 'node:events';
import { renameSync, rmSync, symlinkSync } from 'node:fs';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { newInstanceId } from '#kit/ids.ts';
import { problem } from '#contract/errors.ts';
import { BlackHole } from '../test/helpers/black-hole.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, RawClient, withGateway } from '../test/helpers/gateway-harness.ts';
import { call, open } from '../test/helpers/http.ts';
import { waitFor } from '../test/helpers/wait.ts';

/** Routes `hello` and waits until the gateway routes by it. */
async function routed(harness: Harness, options: Parameters<Harness['controller']['route']>[1] = {}): Promise<string> {
  const revision = harness.controller.route('hello', options);
  await harness.controller.hear('routed', (message) => message.version === harness.controller.version);
  return revision;
}

const codeOf = (answer: { json: <T>() => T }): string => answer.json<{ code: string }>().code;

describe('an instance that goes away', () => {
  it.each([
    ['oom', 502, 'function-oom'],
    ['exit', 502, 'function-crashed'],
    ['timeout', 502, 'instance-lost'],
    ['lost', 502, 'instance-lost'],
    [null, 502, 'instance-lost'],
  ] as const)('by %s under a request: %i %s, sent once', async (cause, status, code) => {
    await withGateway(async (harness) => {
      let seen = 0;
      const instance = newInstanceId();
      const server = await startInstance(harness.socket('one'), (incoming) => {
        seen++;
        incoming.socket.destroy();
        if (cause !== null) harness.controller.send({ type: 'gone', instance, cause, detail: 'as the test says' });
      });
      harness.defer(() => server.stop());
      const revision = await routed(harness);
      harness.controller.grant(revision, server.address, { slots: 5, instance });
      const answer = await call(`${harness.url}/hello`, { method: 'POST', body: 'x' });
      expect([answer.status, codeOf(answer)]).toEqual([status, code]);
      expect(seen).toBe(1);
    });
  });

  it('before a byte was sent: another one serves, the controller is asked to look, and clear brings it back', async () => {
    await withGateway(async (harness) => {
      const live = await startInstance(harness.socket('live'), (_incoming, outgoing) => outgoing.end('live'));
      harness.defer(() => live.stop());
      const revision = await routed(harness);
      harness.controller.grant(revision, live.address, { slots: 5 });
      const dead = harness.controller.grant(revision, { kind: 'unix', path: harness.socket('dead') }, { slots: 5 });
      await waitFor('both', () => harness.gateway.state.leases === 2, { everyMs: 2 });
      expect((await call(`${harness.url}/hello`, { method: 'POST', body: 'x' })).text).toBe('live');
      expect((await harness.controller.hear('suspect')).instance).toBe(dead.instance);
      // It is back, says the controller.
      await live.stop();
      const back = await startInstance(harness.socket('dead'), (_incoming, outgoing) => outgoing.end('back'));
      harness.defer(() => back.stop());
      harness.controller.send({ type: 'clear', instance: dead.instance });
      expect((await call(`${harness.url}/hello`)).text).toBe('back');
    });
  });

  it('before a byte was sent: what comes of the body while it waits for another one is not lost', async () => {
    await withGateway(async (harness) => {
      let came = '';
      const live = await startInstance(harness.socket('live'), (incoming, outgoing) => {
        incoming.on('data', (bytes: Buffer) => (came += bytes.toString()));
        incoming.on('end', () => outgoing.end('all of it'));
      });
      harness.defer(() => live.stop());
      const revision = await routed(harness);
      harness.controller.grant(revision, { kind: 'unix', path: harness.socket('dead') }, { slots: 5 });
      await waitFor('the lease', () => harness.gateway.state.leases === 1, { everyMs: 2 });
      const pieces = Array.from({ length: 20 }, (_, n) => String(n).padStart(10_000, '.'));
      const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;
      const head = 'POST /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n';
      const client = new RawClient(harness.port).write(head + chunk(pieces[0]!));
      await harness.controller.hear('suspect');
      client.write(`${pieces.slice(1).map(chunk).join('')}0\r\n\r\n`);
      // More than is kept for sending again: it has been here for some turns when there is somebody to take it.
      for (let n = 0; n < 3; n++) expect((await call(`${harness.url}/.fn/ready`)).status).toBe(200);
      harness.controller.grant(revision, live.address, { slots: 5 });
      await client.until('all of it');
      expect(came === pieces.join('')).toBe(true);
    });
  });

  it('without a word: another one serves, body and all, and the controller is asked to look', async () => {
    await withGateway(async (harness) => {
      const live = await startInstance(harness.socket('live'), (incoming, outgoing) => incoming.pipe(outgoing));
      harness.defer(() => live.stop());
      const hole = await BlackHole.start();
      harness.defer(() => hole.close());
      await hole.stop();
      const revision = await routed(harness);
      const instance = newInstanceId();
      const address = { kind: 'tcp' as const, host: '127.0.0.1', port: hole.port, instance };
      harness.controller.grant(revision, address, { slots: 5, instance });
      await waitFor('the lease', () => harness.gateway.state.leases === 1, { everyMs: 2 });
      // Whoever waits for it asks for another slot once it is out of use.
      harness.controller.onMessage = (message) => {
        if (message.type === 'want' && message.waiting > 0) harness.controller.grant(revision, live.address, { slots: 5 });
      };
      expect((await call(`${harness.url}/hello`, { method: 'POST', body: 'x'.repeat(60_000) })).text).toHaveLength(60_000);
      expect(await harness.controller.hear('suspect')).toMatchObject({ instance, reason: 'no connection within 1000 ms' });
      // Until somebody says that it is well again nobody has to wait for it.
      harness.controller.heard.length = 0;
      for (let n = 0; n < 5; n++) expect((await call(`${harness.url}/hello`, { method: 'POST', body: 'y' })).text).toBe('y');
      expect(harness.controller.all('suspect')).toEqual([]);
    });
  });
});

describe('a refusal', () => {
  it.each(['full', 'draining', 'not-me'] as const)('%s: the request, body and all, goes to another instance', async (why) => {
    await withGateway(async (harness) => {
      let refused = 0;
      const unwilling = await startInstance(harness.socket('unwilling'), (incoming, outgoing) => {
        refused++;
        incoming.resume();
        outgoing.writeHead(503, { 'fn-refused': why }).end();
      });
      const willing = await startInstance(harness.socket('willing'), (incoming, outgoing) => incoming.pipe(outgoing));
      harness.defer(() => unwilling.stop());
      harness.defer(() => willing.stop());
      const revision = await routed(harness);
      harness.controller.grant(revision, willing.address, { slots: 5 });
      const { lease, instance } = harness.controller.grant(revision, unwilling.address, { slots: 5 });
      await waitFor('both', () => harness.gateway.state.leases === 2, { everyMs: 2 });
      expect((await call(`${harness.url}/hello`, { method: 'POST', body: 'x'.repeat(60_000) })).text).toHaveLength(60_000);
      expect(refused).toBe(1);
      if (why === 'draining') await harness.controller.hear('release', (message) => message.lease === lease);
      // Nobody told it to drain, so the controller is to look.
      if (why !== 'full') await harness.controller.hear('suspect', (message) => message.instance === instance);
    });
  });

  it('of a streamed body that is still held: sent again; of a longer one: 503', async () => {
    await withGateway(async (harness) => {
      let refuse = true;
      const instance = await startInstance(harness.socket('one'), (incoming, outgoing) => {
        if (!refuse) {
          incoming.pipe(outgoing);
          return;
        }
        refuse = false;
        let seen = 0;
        incoming.on('data', (chunk: Buffer) => {
          seen += chunk.length;
          if (seen >= (incoming.url === '/long' ? 200_000 : 10_000) && !outgoing.writableEnded)
            outgoing.writeHead(503, { 'fn-refused': 'full' }).end();
        });
      });
      harness.defer(() => instance.stop());
      const revision = await routed(harness);
      harness.controller.grant(revision, instance.address, { slots: 5 });
      const body = (size: number): Readable => Readable.from([Buffer.alloc(10_000, 1), Buffer.alloc(size - 10_000, 2)]);
      const again = await call(`${harness.url}/hello`, { method: 'POST', body: body(50_000) });
      expect([again.status, again.body.length]).toEqual([200, 50_000]);
      refuse = true;
      const long = await call(`${harness.url}/hello/long`, { method: 'POST', body: body(400_000) });
      expect([long.status, codeOf(long)]).toEqual([503, 'no-capacity']);
    });
  });

  it('again and again: 503 in the end; user code that says so in a 200 is believed nothing', async () => {
    await withGateway(async (harness) => {
      let count = 0;
      const instance = await startInstance(harness.socket('one'), (incoming, outgoing) => {
        count++;
        if (incoming.url === '/lie') outgoing.writeHead(200, { 'fn-refused': 'full' }).end('mine');
        else outgoing.writeHead(503, { 'fn-refused': 'full' }).end();
      });
      harness.defer(() => instance.stop());
      const revision = await routed(harness);
      harness.controller.grant(revision, instance.address, { slots: 5 });
      const answer = await call(`${harness.url}/hello`);
      expect([answer.status, codeOf(answer), answer.headers['retry-after']]).toEqual([503, 'no-capacity', '5']);
      expect(count).toBe(10);
      const lie = await call(`${harness.url}/hello/lie`);
      expect([lie.status, lie.text, lie.headers['fn-refused']]).toEqual([200, 'mine', undefined]);
    });
  });
});

describe('a function that takes too long', () => {
  it('never answers: 504, the controller is told, the function sees the abort', async () => {
    await withGateway(async (harness) => {
      let aborted = 0;
      const instance = await startInstance(harness.socket('one'), (incoming, outgoing) => {
        if (incoming.url === '/ok') outgoing.end('ok');
        else outgoing.on('close', () => aborted++);
      });
      harness.defer(() => instance.stop());
      const revision = await routed(harness, { timeoutMs: 200 });
      const granted = harness.controller.grant(revision, instance.address, { slots: 1 });
      const answer = await call(`${harness.url}/hello`, { headers: { 'x-request-id': 'slow-1' } });
      expect([answer.status, codeOf(answer)]).toEqual([504, 'function-timeout']);
      expect(await harness.controller.hear('timeout')).toMatchObject({ instance: granted.instance, request: 'slow-1' });
      await waitFor('the abort', () => aborted === 1, { everyMs: 2 });
      // The controller is about to end it: the lease goes back, and the next request waits for another.
      expect(await harness.controller.hear('release')).toMatchObject({ lease: granted.lease });
      const next = call(`${harness.url}/hello/ok`);
      await harness.controller.hear(
        'want',
        (message) => message.waiting === 1 && message.inFlight === 0 && harness.controller.all('release').length === 1,
      );
      harness.controller.grant(revision, instance.address, { slots: 1 });
      expect((await next).text).toBe('ok');
    });
  });

  it('streams for ever: cut at its deadline, and it looks cut', async () => {
    await withGateway(async (harness) => {
      const instance = await startInstance(harness.socket('one'), (_incoming, outgoing) => {
        const timer = setInterval(() => outgoing.write('x'), 10);
        outgoing.on('close', () => clearInterval(timer));
      });
      harness.defer(() => instance.stop());
      const revision = await routed(harness, { timeoutMs: 2_000 });
      harness.controller.grant(revision, instance.address);
      const { request, response } = open(`${harness.url}/hello`);
      request.end();
      const incoming = await response;
      expect(incoming.statusCode).toBe(200);
      incoming.resume();
      await expect(once(incoming, 'end')).rejects.toThrow();
      await harness.controller.hear('timeout');
    });
  });
});

describe('waiting', () => {
  it('ends at the queue deadline, when the controller says fail, and when the queue is full', async () => {
    await withGateway(
      async (harness) => {
        const revision = await routed(harness, { maxSlots: 1 });
        const late = await call(`${harness.url}/hello`);
        expect([late.status, codeOf(late), late.headers['retry-after']]).toEqual([503, 'queue-timeout', '5']);
        const failed = call(`${harness.url}/hello`);
        await waitFor('a waiter', () => harness.gateway.state.waiting === 1, { everyMs: 2 });
        harness.controller.send({
          type: 'fail',
          revision,
          problem: problem('function-init-failed', 'it threw', { functionError: { name: 'Error', message: 'boom' } }),
          retryAfterSeconds: 3,
        });
        const answer = await failed;
        expect([answer.status, codeOf(answer), answer.headers['retry-after']]).toEqual([502, 'function-init-failed', '3']);
        expect(answer.json()).toMatchObject({ functionError: { message: 'boom' }, instance: answer.headers['x-request-id'] });
        const instance = await startInstance(harness.socket('one'), () => {});
        harness.defer(() => instance.stop());
        harness.controller.grant(revision, instance.address);
        const clients = Array.from({ length: 3 }, () => new RawClient(harness.port).write('GET /hello HTTP/1.1\r\nHost: a\r\n\r\n'));
        await waitFor('a full queue', () => harness.gateway.state.waiting === 2, { everyMs: 2 });
        const full = await call(`${harness.url}/hello`);
        expect([full.status, codeOf(full), full.headers['retry-after']]).toEqual([429, 'too-many-requests', '1']);
        for (const client of clients) client.close();
      },
      { config: { queueTimeoutMs: 3_000, maxWaitingPerFunction: 2 } },
    );
  });
});

describe('the socket of an instance', () => {
  it('replaced by a link to another is not followed, neither before it was dialled nor after', async () => {
    await withGateway(async (harness) => {
      let stolen = 0;
      const docker = await startInstance(harness.socket('docker'), (_incoming, outgoing) => {
        stolen++;
        outgoing.end('docker');
      });
      const own = await startInstance(harness.socket('own'), (_incoming, outgoing) =>
        outgoing.writeHead(200, { connection: 'close' }).end('own'),
      );
      harness.defer(() => docker.stop());
      harness.defer(() => own.stop());
      const revision = await routed(harness);
      harness.controller.grant(revision, own.address);
      expect((await call(`${harness.url}/hello`)).text).toBe('own');
      // Dialled already: the new connection still goes to the socket that was there.
      renameSync(harness.socket('own'), harness.socket('aside'));
      symlinkSync(harness.socket('docker'), harness.socket('own'));
      expect((await call(`${harness.url}/hello`)).text).toBe('own');
      // Not dialled before: the link is seen, and refused.
      const other = harness.controller.route('hello', { number: 2 });
      harness.controller.grantOnDemand(() => own.address);
      const client = new RawClient(harness.port).write('GET /hello HTTP/1.1\r\nHost: a\r\n\r\n');
      expect((await harness.controller.hear('suspect')).reason).toContain('not a socket');
      expect(harness.controller.all('want').at(-1)?.revision).toBe(other);
      client.close();
      expect(stolen).toBe(0);
      rmSync(harness.socket('own'));
    });
  });
});
