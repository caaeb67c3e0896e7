import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { Readable } from 'node:stream';
import { expect, it, onTestFinished } from 'vitest';
import { readBody, request } from './http.ts';

async function serve(listener: RequestListener): Promise<URL> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return new URL(`http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`);
}

const put = (url: URL, body: Readable | Uint8Array) => request({ url }, { method: 'PUT', path: '/', body, timeoutMs: 10_000 });

it('a stream goes as it comes, without a length', async () => {
  const url = await serve((incoming, outgoing) => {
    outgoing.setHeader('coding', incoming.headers['transfer-encoding'] ?? 'none');
    incoming.pipe(outgoing);
  });
  const reply = await put(url, Readable.from([Buffer.from('one '), Buffer.from('two')]));
  expect([reply.headers.coding, (await readBody(reply, 100)).toString()]).toEqual(['chunked', 'one two']);
  const whole = await put(url, Buffer.from('three'));
  expect([whole.headers.coding, (await readBody(whole, 100)).toString()]).toEqual(['none', 'three']);
});

it('a stream that breaks ends the request, with what broke it', async () => {
  const url = await serve((incoming) => incoming.on('error', () => undefined).resume());
  const broken = Readable.from(
    (async function* () {
      yield Buffer.from('x');
      await Promise.resolve();
      throw new Error('the disk is gone');
    })(),
  );
  await expect(put(url, broken)).rejects.toThrow('the disk is gone');
});

it('an answer before the end of the stream is an answer', async () => {
  const url = await serve((_, outgoing) => void outgoing.writeHead(413).end('too much'));
  const endless = new Readable({ read: () => undefined });
  endless.push('x');
  const reply = await put(url, endless);
  expect([reply.status, (await readBody(reply, 100)).toString()]).toEqual([413, 'too much']);
  endless.destroy();
});
