import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { BlockList } from 'node:net';
import { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import { testAuthority } from '../../test/helpers/certificates.ts';
import { fetchDocument, MAX_DOCUMENT_BYTES } from './fetch.ts';
import { mayDial } from '#kit/public-address.ts';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');

/** A server on the loopback address, which a test has to allow. */
async function serve(listener: (incoming: IncomingMessage, outgoing: ServerResponse) => void): Promise<number> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** As if names led to these addresses. */
const resolver = (names: Record<string, string[]>) => (host: string) =>
  names[host] === undefined
    ? Promise.reject(new Error(`no such name: ${host}`))
    : Promise.resolve(names[host].map((address) => ({ address })));

describe('an address', () => {
  it.each([
    ...['127.0.0.1', '10.1.2.3', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1', '0.0.0.0', '224.0.0.1'],
    ...['255.255.255.255', '192.0.2.1', '198.18.0.1', '240.0.0.1', '::1', '::', 'fe80::1', 'fc00::1', 'fd12::1', 'ff02::1'],
    ...['::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:8.8.8.8', '64:ff9b::7f00:1', '2002:7f00:1::', '2001::1', '2001:db8::1', '::127.0.0.1'],
    ...['localhost', '', '1.2.3', '0x7f.1'],
  ])('%s is not dialled', (address) => expect(mayDial(address, new BlockList())).toBe(false));

  it.each(['8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700::1', '2a00:1450::1'])('%s is', (address) =>
    expect(mayDial(address, new BlockList())).toBe(true),
  );

  it('that the operator lists is, and no other', () => {
    expect([mayDial('127.0.0.9', loopback), mayDial('10.0.0.1', loopback), mayDial('::1', loopback)]).toEqual([true, false, false]);
  });
});

describe('fetchDocument', () => {
  it('dials the address that was checked, and names the host', async () => {
    const port = await serve(({ headers, url }, outgoing) => outgoing.end(`${headers.host} ${url}`));
    const options = { allowed: loopback, resolve: resolver({ 'keys.test': ['10.0.0.1', '127.0.0.1'] }) };
    expect(await fetchDocument(`http://keys.test:${port}/a?b`, options)).toBe(`keys.test:${port} /a?b`);
  });

  it.each([
    ['http://127.0.0.1/', /has no public address/],
    ['http://2130706433/', /has no public address/],
    ['http://0x7f.1/', /has no public address/],
    ['http://[::1]/', /has no public address/],
    ['http://[::ffff:127.0.0.1]/', /has no public address/],
    ['http://169.254.169.254/latest/meta-data', /has no public address/],
    ['http://inside.test/', /has no public address/],
    ['http://nowhere.test/', /no such name/],
    ['https://user:secret@keys.test/', /with a name or password/],
    ['file:///etc/passwd', /neither http nor https/],
    ['not a url', /Invalid URL/],
  ])('%s is refused', async (url, message) => {
    const fetched = fetchDocument(url, { allowed: new BlockList(), resolve: resolver({ 'inside.test': ['10.0.0.1', '::1'] }) });
    await expect(fetched).rejects.toThrow(message);
  });

  it('follows redirects, each checked again', async () => {
    const port = await serve(({ url }, outgoing) => {
      if (url === '/end') outgoing.end('found');
      else if (url === '/to-private') outgoing.writeHead(302, { location: 'http://10.0.0.1/' }).end();
      else if (url === '/loop') outgoing.writeHead(302, { location: '/loop' }).end();
      else if (url === '/nowhere') outgoing.writeHead(302).end();
      else if (url === '/bad') outgoing.writeHead(302, { location: 'http://[' }).end();
      else outgoing.writeHead(307, { location: '/end' }).end();
    });
    const get = (path: string) => fetchDocument(`http://127.0.0.1:${port}${path}`, { allowed: loopback });
    expect(await get('/start')).toBe('found');
    await expect(get('/to-private')).rejects.toThrow(/10\.0\.0\.1 has no public address/);
    await expect(get('/loop')).rejects.toThrow(/more than 3 redirects/);
    await expect(get('/nowhere')).rejects.toThrow(/answered 302/);
    await expect(get('/bad')).rejects.toThrow(/no URL/);
  });

  it('over TLS checks the certificate against the name, not the address that it dials', async () => {
    const authority = testAuthority();
    const certificate = authority.issue('keys.test');
    const asked: (string | false | null | undefined)[] = [];
    const server = createTlsServer(certificate, ({ headers, socket }, outgoing) => {
      asked.push(socket instanceof TLSSocket ? Reflect.get(socket, 'servername') : null);
      outgoing.end(headers.host);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const resolve = resolver({ 'keys.test': ['127.0.0.1'], 'other.test': ['127.0.0.1'] });
    const get = (host: string, ca: string | undefined = authority.cert) =>
      fetchDocument(`https://${host}:${port}/`, { allowed: loopback, resolve, ca });
    expect(await get('keys.test')).toBe(`keys.test:${port}`);
    expect(asked).toEqual(['keys.test']);
    await expect(get('other.test')).rejects.toThrow(/altnames/);
    await expect(get('127.0.0.1')).rejects.toThrow(/altnames/);
    await expect(fetchDocument(`https://keys.test:${port}/`, { allowed: loopback, resolve })).rejects.toThrow(/verify|self-signed|issuer/);
  });

  it('takes no document that is too long, and no other status', async () => {
    const port = await serve(({ url }, outgoing) => {
      if (url === '/long') outgoing.end('x'.repeat(MAX_DOCUMENT_BYTES + 1));
      else outgoing.writeHead(404).end();
    });
    const get = (path: string) => fetchDocument(`http://127.0.0.1:${port}${path}`, { allowed: loopback });
    await expect(get('/long')).rejects.toThrow(/over 131072 bytes/);
    await expect(get('/none')).rejects.toThrow(/answered 404/);
  });
});
