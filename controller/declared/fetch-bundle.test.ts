import { createHash } from 'node:crypto';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { FnError } from '#contract/errors.ts';
import { testAuthority } from '../../test/helpers/certificates.ts';
import { fetchBundle } from './fetch-bundle.ts';

const BYTES = Buffer.from('what is there');
const DIGEST = `sha256:${createHash('sha256').update(BYTES).digest('hex')}`;
const authority = testAuthority();

let server: Server | null = null;
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server === null ? resolve(null) : server.close(resolve)));
  server = null;
});

/** What is asked for is asked of this server, whatever its name; `private.test` may not be dialled. */
async function fetching(handle: RequestListener, more: { maxBytes?: number; timeoutMs?: number; digest?: string } = {}): Promise<Buffer> {
  const started = createServer(authority.issue('name.test', 'other.test'), handle);
  server = started;
  await new Promise<void>((resolve) => {
    started.listen(0, '127.0.0.1', resolve);
  });
  const { port } = started.address() as AddressInfo;
  const chunks = await fetchBundle({
    url: `https://name.test:${port}/bundle.tgz?v=1`,
    digest: DIGEST,
    maxBytes: 1_000,
    resolve: async (host) => {
      if (host === 'private.test') throw new FnError('forbidden', `${host} has no address that may be dialled`);
      return { host: '127.0.0.1', servername: host };
    },
    signal: new AbortController().signal,
    ca: authority.cert,
    ...more,
  });
  return Buffer.concat(chunks);
}

const portOf = (host: string | undefined): string => (host ?? '').split(':')[1] ?? '';

it('takes what has the digest, also behind a redirect', async () => {
  const found = await fetching((request, response) => {
    if (request.url === '/bundle.tgz?v=1')
      response.writeHead(302, { location: `https://other.test:${portOf(request.headers.host)}/there` }).end();
    else response.end(request.url === '/there' ? BYTES : 'no');
  });
  expect(found).toEqual(BYTES);
});

it.each<[string, RequestListener, object, string, string]>([
  ['another digest', (_, response) => response.end('other'), {}, 'invalid', 'what is there has the digest sha256:'],
  ['a refusal', (_, response) => response.writeHead(404).end(), {}, 'invalid', 'answered 404'],
  ['too much', (_, response) => response.end(Buffer.alloc(2_000)), {}, 'body-too-large', 'more than 1000 bytes'],
  [
    'a redirect to http',
    (_, response) => response.writeHead(301, { location: 'http://name.test/' }).end(),
    {},
    'invalid',
    'which is not https',
  ],
  [
    'a redirect to what may not be dialled',
    (_, response) => response.writeHead(301, { location: 'https://private.test/' }).end(),
    {},
    'forbidden',
    'private.test',
  ],
  ['redirects without end', (_, response) => response.writeHead(301, { location: '/again' }).end(), {}, 'invalid', 'more than 5 redirects'],
  ['an answer without end', (_, response) => void response.write('x'), { timeoutMs: 300 }, 'invalid', 'not all of it came within 300 ms'],
  ['a connection that breaks', (_, response) => response.destroy(), {}, 'invalid', 'The bundle cannot be fetched'],
])('refuses %s', async (_what, handle, more, code, message) => {
  const error = await fetching(handle, more).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code, message: expect.stringContaining(message) });
});
