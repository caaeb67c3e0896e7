import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { postSigned, signature } from './signed-post.ts';

let server: Server | null = null;
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server === null ? resolve(null) : server.close(resolve)));
  server = null;
});

async function listening(handle: RequestListener): Promise<string> {
  const started = createServer(handle);
  server = started;
  await new Promise<void>((resolve) => {
    started.listen(0, '127.0.0.1', resolve);
  });
  return `http://name.test:${(started.address() as AddressInfo).port}/`;
}

const post = (url: string, timeoutMs = 5_000) =>
  postSigned({
    url,
    secret: null,
    event: { attributes: { id: '1', source: '/s', type: 't', specversion: '1.0' }, data: Buffer.from('x') },
    resolve: async () => ({ host: '127.0.0.1', servername: 'name.test' }),
    at: 0,
    timeoutMs,
  });

describe('a signature', () => {
  it('is that of Standard Webhooks', () => {
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
    const body = Buffer.from('{"test": 2432232314}');
    expect(signature(secret, 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1_614_265_330, body)).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  });
});

describe('a webhook that is sent', () => {
  it('dials the address that was checked, under the name', async () => {
    let host: string | undefined;
    let signed: unknown;
    const url = await listening((request, response) => {
      host = request.headers.host;
      signed = request.headers['webhook-signature'];
      response.end();
    });
    await post(url);
    expect([host, signed]).toEqual([new URL(url).host, undefined]);
  });

  it('is taken with the head of the answer, however long its body', async () => {
    const url = await listening((_request, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write('x'.repeat(10_000)), 1);
      response.on('close', () => clearInterval(timer));
    });
    await expect(post(url)).resolves.toBeUndefined();
  });

  it.each([301, 400, 410, 500])('is not taken with %i', async (status) => {
    const url = await listening((_request, response) => response.writeHead(status, { location: '/', 'retry-after': '7' }).end());
    await expect(post(url)).rejects.toMatchObject({ name: 'PostRefused', status, retryAfterSeconds: 7 });
  });

  it('is given up where nobody answers, or hangs up', async () => {
    await expect(post(await listening(() => {}), 200)).rejects.toThrow('no answer within 200 ms');
    server?.closeAllConnections();
    server?.close();
    await expect(post(await listening((request) => request.socket.destroy()))).rejects.toThrow(/socket hang up|ECONNRESET/);
  });
});
