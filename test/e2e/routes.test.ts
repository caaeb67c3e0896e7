/** Routes with hosts and patterns, preview URLs, CORS and TLS, from the manifest to the wire. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, describe, expect, it } from 'vitest';
import type { FunctionAccessInput } from '#contract/access.ts';
import { testAuthority } from '../helpers/certificates.ts';
import { type Answer, call, readAll } from '../helpers/http.ts';
import { freePort, RUN_FOLDER, type TestPlatform } from '../helpers/platform.ts';
import { usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const TELL = (name: string) => `
export default (request) => Response.json({
  by: ${JSON.stringify(name)},
  url: new URL(request.url).pathname,
  prefix: request.headers.get('x-forwarded-prefix'),
  proto: request.headers.get('x-forwarded-proto'),
});
`;

mkdirSync(RUN_FOLDER, { recursive: true });
const certificates = mkdtempSync(join(RUN_FOLDER, 'certs-'));
afterAll(() => rmSync(certificates, { recursive: true, force: true }));
const authority = testAuthority();
const tlsPort = await freePort();

function writeCertificate(file: string, ...names: string[]): string {
  const { cert, key } = authority.issue(...names);
  writeFileSync(join(certificates, `${file}.key`), key, { mode: 0o600 });
  writeFileSync(join(certificates, `${file}.crt`), cert);
  return cert;
}

const setAccess = (platform: TestPlatform, name: string, access: FunctionAccessInput): Promise<Answer> =>
  call(`http://fn/v1/namespaces/default/functions/${name}/access`, {
    socketPath: join(platform.runDir, 'control', 's'),
    method: 'PUT',
    body: JSON.stringify(access),
    headers: { 'content-type': 'application/json' },
  });

/** Over TLS, to a host that this port stands in for. */
async function secure(host: string, path: string): Promise<{ status: number; body: string }> {
  const request = httpsRequest({
    host: '127.0.0.1',
    port: tlsPort,
    servername: host,
    ca: authority.cert,
    path,
    headers: { host },
    agent: false,
  });
  request.end();
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  return { status: response.statusCode ?? 0, body: (await readAll(response)).toString() };
}

/** The certificate that is presented for a name, PEM; null where the handshake fails. */
const presented = (servername: string): Promise<string | null> =>
  new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: tlsPort, servername, ca: authority.cert });
    socket.once('secureConnect', () => {
      resolve(socket.getPeerX509Certificate()?.toString() ?? null);
      socket.destroy();
    });
    socket.once('error', () => resolve(null));
  });

describe('routes', () => {
  writeCertificate('shop', 'shop.test', '*.shop.test');
  const platform = usePlatform({ driver: 'process', env: { FN_TLS_LISTEN: `127.0.0.1:${tlsPort}`, FN_TLS_CERTS: certificates } });

  it('of hosts and patterns lead to the function; one that is taken is refused and names both', async () => {
    await platform().deploy('shop', TELL('shop'));
    await platform().deploy('users', TELL('users'));
    const set = await setAccess(platform(), 'shop', {
      routes: [{ host: 'shop.test' }, { host: '*.shop.test', path: '/v1/*', stripPrefix: '/v1' }],
    });
    expect([set.status, set.status === 200 ? '' : set.text]).toEqual([200, '']);
    expect(
      (await setAccess(platform(), 'users', { routes: [{ path: '/api/users/:id', methods: ['GET'], stripPrefix: '/api' }] })).status,
    ).toBe(200);
    const clash = await setAccess(platform(), 'users', { routes: [{ host: 'shop.test', path: '/*' }] });
    expect(clash.status).toBe(409);
    expect(clash.json<{ code: string; detail: string }>()).toMatchObject({
      code: 'route-conflict',
      detail: expect.stringMatching(/shop.*users|users.*shop/s),
    });
    const to = async (path: string, host: string) => (await platform().call(path, { headers: { host } })).json();
    expect(await to('/cart/7', 'shop.test')).toMatchObject({ by: 'shop', url: '/cart/7', prefix: null, proto: 'http' });
    expect(await to('/', `shop.test:${tlsPort}`)).toMatchObject({ by: 'shop', url: '/' });
    expect(await to('/v1/cart', 'eu.shop.test')).toMatchObject({ by: 'shop', url: '/cart', prefix: '/v1' });
    expect(await to('/api/users/7', 'localhost')).toMatchObject({ by: 'users', url: '/users/7', prefix: '/api' });
    expect(await to('/users/x', 'localhost')).toMatchObject({ by: 'users', url: '/x', prefix: '/users' });
    const refused = await platform().call('/api/users/7', { method: 'DELETE' });
    expect([refused.status, refused.headers.allow]).toEqual([405, 'GET, HEAD']);
  });

  it('with a number lead to one revision, whatever the traffic', async () => {
    await platform().deploy('two', TELL('one'));
    await platform().deploy('two', TELL('two'));
    const of = async (path: string) => {
      const answer = await platform().call(path);
      return [answer.status, answer.status === 200 ? answer.json().by : answer.json().code, answer.headers['fn-revision']];
    };
    expect(await of('/two')).toEqual([200, 'two', undefined]);
    expect(await of('/two@1/a')).toEqual([200, 'one', '1']);
    expect(await of('/two@2')).toEqual([200, 'two', '2']);
    expect(await of('/two@3')).toEqual([404, 'revision-not-found', undefined]);
  });

  it('that take requests of other origins: preflights start no instance', async () => {
    await platform().deploy('cors', TELL('cors'));
    expect((await setAccess(platform(), 'cors', { cors: { origins: ['https://app.test'] }, auth: { type: 'token' } })).status).toBe(200);
    const headers = {
      origin: 'https://app.test',
      'access-control-request-method': 'PUT',
      'access-control-request-headers': 'authorization',
    };
    const preflight = await platform().call('/cors', { method: 'OPTIONS', headers });
    expect([preflight.status, preflight.headers['access-control-allow-origin'], preflight.headers['access-control-allow-headers']]).toEqual(
      [204, 'https://app.test', 'authorization'],
    );
    const refused = await platform().call('/cors', { headers: { origin: 'https://app.test' } });
    expect([refused.status, refused.headers['access-control-allow-origin']]).toEqual([401, 'https://app.test']);
  });

  it('over TLS: by name, renewed without a restart, and fn status says where', async () => {
    const first = await presented('shop.test');
    expect(first).not.toBeNull();
    expect(JSON.parse((await secure('shop.test', '/cart')).body)).toMatchObject({ by: 'shop', url: '/cart', proto: 'https' });
    expect(await presented('other.test')).toBeNull();
    writeCertificate('other', 'other.test');
    const renewed = writeCertificate('shop', 'shop.test', '*.shop.test');
    await waitFor(
      'the new certificates',
      async () => (await presented('shop.test')) === renewed && (await presented('other.test')) !== null,
      { everyMs: 100 },
    );
    expect((await secure('eu.shop.test', '/v1/cart')).status).toBe(200);
    expect((await platform().fnOk(['status'])).stdout).toContain(`https://127.0.0.1:${tlsPort}`);
    // A gateway that is started anew presents them again, and refused nobody meanwhile.
    process.kill(await platform().pid('gateway'), 'SIGKILL');
    expect((await secure('shop.test', '/cart')).status).toBe(200);
  });
});
