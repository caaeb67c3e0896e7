/** TLS through a whole gateway: which certificate is presented to whom, and what becomes of them. */
import { once } from 'node:events';
import { connect as netConnect } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { describe, expect, it } from 'vitest';
import type { Certificate } from '#contract/link.ts';
import { testAuthority } from '../test/helpers/certificates.ts';
import { startInstance } from '../test/helpers/gateway-instance.ts';
import { type Harness, withGateway } from '../test/helpers/gateway-harness.ts';
import { waitFor } from '../test/helpers/wait.ts';

const authority = testAuthority();
const certificate = (...names: string[]): Certificate => ({ names, ...authority.issue(...names) });
const LISTEN = { config: { tlsListen: { host: '127.0.0.1', port: 0 } } };

function portOf({ gateway }: Harness): number {
  const { tlsAddress } = gateway;
  if (tlsAddress === null || typeof tlsAddress === 'string') throw new Error('no TLS');
  return tlsAddress.port;
}

async function present(harness: Harness, ...certificates: Certificate[]): Promise<void> {
  harness.controller.send({ type: 'certificates', certificates });
  await harness.controller.settled();
}

/** Resolves when the handshake is through; rejects where it fails. */
async function dial(harness: Harness, servername: string, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({
    port: portOf(harness),
    host: '127.0.0.1',
    servername,
    ca: authority.cert,
    ALPNProtocols: ['http/1.1'],
    ...options,
  });
  harness.defer(() => socket.destroy());
  await once(socket, 'secureConnect');
  socket.on('error', () => {});
  return socket;
}

const namesOf = (socket: TLSSocket): string | undefined => socket.getPeerCertificate().subjectaltname;

/** One request on the connection, which is kept. */
async function ask(socket: TLSSocket, path: string, host = 'a.test'): Promise<string> {
  let text = '';
  const onData = (chunk: Buffer) => (text += chunk.toString('latin1'));
  socket.on('data', onData);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await waitFor('an answer', () => /\r\n\r\n./s.test(text), { everyMs: 2 });
  socket.off('data', onData);
  return text;
}

describe('the certificate', () => {
  it('is the one of the name, then that of *., then the first', async () => {
    await withGateway(async (harness) => {
      await present(harness, certificate('first.test'), certificate('*.b.test'), certificate('a.test', 'x.b.test'));
      for (const [name, presented] of [
        ['a.test', 'DNS:a.test, DNS:x.b.test'],
        ['A.TEST', 'DNS:a.test, DNS:x.b.test'],
        ['x.b.test', 'DNS:a.test, DNS:x.b.test'],
        ['y.b.test', 'DNS:*.b.test'],
        ['first.test', 'DNS:first.test'],
      ] as const)
        expect([name, namesOf(await dial(harness, name))]).toEqual([name, presented]);
      const lax = { rejectUnauthorized: false };
      expect(namesOf(await dial(harness, 'z.y.b.test', lax))).toBe('DNS:first.test');
      expect(namesOf(await dial(harness, 'nobody.test', lax))).toBe('DNS:first.test');
      // No name at all.
      expect(namesOf(await dial(harness, '', lax))).toBe('DNS:first.test');
    }, LISTEN);
  });

  it('is replaced for new connections, while those that are open go on', async () => {
    await withGateway(async (harness) => {
      const instance = await startInstance(harness.socket('i'), (_incoming, outgoing) => outgoing.end('ok'));
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      harness.controller.route('f');
      const old = certificate('a.test');
      await present(harness, old);
      const open = await dial(harness, 'a.test');
      expect(await ask(open, '/f')).toMatch(/^HTTP\/1\.1 200 /);
      const renewed = certificate('a.test');
      await present(harness, renewed);
      expect((await dial(harness, 'a.test')).getPeerX509Certificate()?.toString()).toBe(renewed.cert);
      expect(await ask(open, '/f')).toMatch(/^HTTP\/1\.1 200 /);
      // One that cannot be read takes nobody with it.
      await present(harness, { names: ['b.test'], cert: 'junk', key: 'junk' }, { ...certificate('c.test'), key: old.key }, renewed);
      expect(namesOf(await dial(harness, 'a.test'))).toBe('DNS:a.test');
      expect(namesOf(await dial(harness, 'b.test', { rejectUnauthorized: false }))).toBe('DNS:a.test');
      // All taken away: as before the first.
      await present(harness);
      await expect(dial(harness, 'a.test')).rejects.toThrow();
      await expect(dial(harness, '', { rejectUnauthorized: false })).rejects.toThrow();
      expect(await ask(open, '/f')).toMatch(/^HTTP\/1\.1 200 /);
    }, LISTEN);
  });

  it('that has not come yet: the handshake is refused, and works as soon as there is one', async () => {
    await withGateway(async (harness) => {
      await expect(dial(harness, 'a.test')).rejects.toThrow();
      await present(harness, certificate('a.test'));
      expect(namesOf(await dial(harness, 'a.test'))).toBe('DNS:a.test');
    }, LISTEN);
  });
});

describe('a connection over TLS', () => {
  it('is as strict as a plain one, and the function learns of it', async () => {
    await withGateway(async (harness) => {
      await present(harness, certificate('a.test'));
      const instance = await startInstance(harness.socket('i'), ({ headers }, outgoing) =>
        outgoing.end(`${headers['x-forwarded-proto']} ${headers['x-forwarded-host']}`),
      );
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      harness.controller.route('f', { sticky: { by: 'cookie', name: 'stay', maxAgeSeconds: 60 } });
      await harness.controller.settled();
      const socket = await dial(harness, 'a.test');
      expect(socket.alpnProtocol).toBe('http/1.1');
      expect(await ask(socket, '/f')).toMatch(/\r\n\r\nhttps a\.test$/);
      expect(await ask(socket, '/none')).toMatch(/^HTTP\/1\.1 404 [^]*application\/problem\+json/);
      expect(await ask(socket, '/f', 'a.test\r\nContent-Length: 1\r\nContent-Length: 2')).toMatch(/^HTTP\/1\.1 400 [^]*problem\+json/);
      socket.resume();
      await waitFor('its end', () => socket.destroyed, { everyMs: 2 });
    }, LISTEN);
  });

  it('marks cookies as Secure', async () => {
    await withGateway(async (harness) => {
      await present(harness, certificate('a.test'));
      const instance = await startInstance(harness.socket('i'), (_incoming, outgoing) => outgoing.end('ok'));
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      const target = { timeoutMs: 1_000, maxStreamMs: 1_000, maxSlots: 10, percent: 50 };
      harness.controller.put({
        namespace: 'default',
        name: 'f',
        targets: [1, 2].map((number) => ({ ...target, number, revision: `default/f@${number}` })),
        routes: [{ host: 'a.test', path: '/in/:x/*' }],
        cors: null,
        auth: { type: 'public' },
        rateLimit: null,
        sticky: { by: 'cookie', name: 'stay', maxAgeSeconds: 60 },
        async: true,
      });
      await harness.controller.settled();
      const socket = await dial(harness, 'a.test');
      expect(await ask(socket, '/in/a/b')).toMatch(/set-cookie: stay=\d+; Path=\/in; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n/);
    }, LISTEN);
  });

  it('is refused below TLS 1.2, for HTTP/2 alone, and for what is no TLS', async () => {
    await withGateway(async (harness) => {
      await present(harness, certificate('a.test'));
      await expect(
        dial(harness, 'a.test', { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }),
      ).rejects.toThrow();
      await expect(dial(harness, 'a.test', { ALPNProtocols: ['h2'] })).rejects.toThrow();
      expect((await dial(harness, 'a.test', { maxVersion: 'TLSv1.2' })).getProtocol()).toBe('TLSv1.2');
      expect((await dial(harness, 'a.test')).getProtocol()).toBe('TLSv1.3');
      const plain = netConnect(portOf(harness), '127.0.0.1');
      plain.on('error', () => {});
      plain.write('GET /f HTTP/1.1\r\nHost: a\r\n\r\n');
      let text = '';
      plain.on('data', (chunk) => (text += chunk.toString('latin1')));
      await once(plain, 'close');
      expect(text).not.toContain('HTTP/1.1');
    }, LISTEN);
  });

  it('is let end when the gateway is', async () => {
    await withGateway(async (harness) => {
      await present(harness, certificate('a.test'));
      const held: (() => void)[] = [];
      const instance = await startInstance(harness.socket('i'), (_incoming, outgoing) => held.push(() => outgoing.end('last words')));
      harness.defer(() => instance.stop());
      harness.controller.grantOnDemand(() => instance.address);
      harness.controller.route('f');
      await harness.controller.settled();
      const socket = await dial(harness, 'a.test');
      const answer = ask(socket, '/f');
      await waitFor('it to be held', () => held.length === 1, { everyMs: 2 });
      const closed = harness.gateway.close();
      held[0]!();
      expect(await answer).toMatch(/connection: close[^]*last words$/i);
      await closed;
    }, LISTEN);
  });
});
