/** Bundles over the API: what is kept of an upload, and what is not. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BundleInfo } from '#contract/api.ts';
import { ApiFixture, bundleOf } from '../../test/helpers/api-fixture.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
});
afterAll(() => api.close());
afterEach(() => {
  api.logged.length = 0;
});

describe('a bundle', () => {
  it('PUT, then HEAD and GET', async () => {
    const { digest, data } = await bundleOf({ 'index.mjs': 'x', 'b.txt': 'y' });
    const path = `/v1/namespaces/default/bundles/${digest}`;
    expect((await api.call({ path })).problem.code).toBe('not-found');
    expect((await api.call({ method: 'HEAD', path })).status).toBe(404);
    const headers = { 'content-type': 'application/gzip' };
    const put = await api.call({ method: 'PUT', path, headers, body: data });
    expect([put.status, BundleInfo.parse(put.json)]).toEqual([201, { digest, bytes: data.length, files: 2 }]);
    const again = await api.call({ method: 'PUT', path, headers, body: data });
    expect([again.status, again.json]).toEqual([200, put.json]);
    expect((await api.call({ path })).json).toEqual(put.json);
    const head = await api.call({ method: 'HEAD', path });
    expect([head.status, head.text]).toEqual([200, '']);
    expect((await api.call({ path: `/v1/namespaces/default/bundles/${encodeURIComponent(digest)}` })).json).toEqual(put.json);
  });

  it.each([
    ['another digest', { 'content-type': 'application/gzip' }, Buffer.from('x'), 422],
    ['no content type', {}, Buffer.from('x'), 415],
    ['JSON', { 'content-type': 'application/json' }, Buffer.from('{}'), 415],
    ['nothing', { 'content-type': 'application/gzip' }, Buffer.alloc(0), 422],
  ])('PUT of %s', async (_name, headers, body, status) => {
    const answer = await api.call({
      method: 'PUT',
      path: `/v1/namespaces/default/bundles/sha256:${'0'.repeat(64)}`,
      headers: headers as Record<string, string>,
      body,
    });
    expect(answer.problem.status).toBe(status);
    expect((await api.call({ path: `/v1/namespaces/default/bundles/sha256:${'0'.repeat(64)}` })).status).toBe(404);
  });

  it('an upload declared too large is refused before it is sent', async () => {
    const answer = await api.raw(
      `PUT /v1/namespaces/default/bundles/sha256:${'0'.repeat(64)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/gzip\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).not.toContain('100 Continue');
  });

  it('Expect: 100-continue is answered where the body is wanted', async () => {
    const { digest, data } = await bundleOf({ 'index.mjs': 'expected' });
    const request = httpRequest({
      socketPath: api.socketPath,
      method: 'PUT',
      path: `/v1/namespaces/default/bundles/${digest}`,
      headers: { 'content-type': 'application/gzip', 'content-length': data.length, expect: '100-continue' },
    });
    request.flushHeaders();
    await once(request, 'continue');
    request.end(data);
    const [response] = await once(request, 'response');
    response.resume();
    expect(response.statusCode).toBe(201);
  });

  it("an upload that breaks off leaves nothing, and is nobody's error", async () => {
    const { digest, data } = await bundleOf({ 'index.mjs': 'broken off' });
    const request = httpRequest({
      socketPath: api.socketPath,
      method: 'PUT',
      path: `/v1/namespaces/default/bundles/${digest}`,
      headers: { 'content-type': 'application/gzip', 'content-length': data.length },
    });
    request.on('error', () => {});
    request.write(data.subarray(0, 20));
    await expect.poll(() => request.socket?.bytesWritten).toBeGreaterThan(100);
    request.destroy();
    await expect.poll(() => api.logged.some(({ message }) => message.includes('client was gone'))).toBe(true);
    expect((await api.call({ method: 'HEAD', path: `/v1/namespaces/default/bundles/${digest}` })).status).toBe(404);
    expect(api.logged.filter(({ level }) => level === 'error')).toEqual([]);
  });
});

describe('a bundle that is not what it should be: nothing of it is kept', () => {
  /** A bundle of one entry, whatever it is. */
  async function oddBundle(entry: Partial<Header> & { name: string }, content = ''): Promise<Buffer> {
    const tar = pack();
    tar.entry(entry, content);
    tar.finalize();
    const chunks: Uint8Array[] = [];
    for await (const chunk of tar) if (chunk instanceof Uint8Array) chunks.push(chunk);
    return gzipSync(Buffer.concat(chunks));
  }

  it.each<[string, () => Promise<Buffer>, number]>([
    ['a path that leads out', () => oddBundle({ name: '../x' }, 'x'), 422],
    ['an absolute path', () => oddBundle({ name: '/etc/x' }, 'x'), 422],
    ['a symbolic link', () => oddBundle({ name: 'x', type: 'symlink', linkname: '/etc/passwd' }), 422],
    ['a hard link', () => oddBundle({ name: 'x', type: 'link', linkname: '/etc/passwd' }), 422],
    ['a device', () => oddBundle({ name: 'x', type: 'character-device', devmajor: 1, devminor: 3 }), 422],
    ['a setuid file', () => oddBundle({ name: 'x', mode: 0o4755 }, 'x'), 422],
    ['no archive', async () => gzipSync('nonsense'.repeat(100)), 422],
    ['no gzip', async () => Buffer.from('nonsense'.repeat(100)), 422],
    ['a bomb', () => oddBundle({ name: 'x' }, '0'.repeat(64 * 1024 * 1024)), 413],
  ])('%s', async (_name, make, status) => {
    const data = await make();
    const path = `/v1/namespaces/default/bundles/sha256:${createHash('sha256').update(data).digest('hex')}`;
    const answer = await api.call({ method: 'PUT', path, headers: { 'content-type': 'application/gzip' }, body: data });
    expect(answer.problem.status).toBe(status);
    expect((await api.call({ method: 'HEAD', path })).status).toBe(404);
  });

  it('cut short', async () => {
    const { digest, data } = await bundleOf({ 'index.mjs': 'export default () => {}' });
    const path = `/v1/namespaces/cut/bundles/${digest}`;
    const answer = await api.call({ method: 'PUT', path, headers: { 'content-type': 'application/gzip' }, body: data.subarray(0, -5) });
    expect(answer.problem).toMatchObject({ status: 422, errors: [{ pointer: 'path/digest' }] });
    expect((await api.call({ method: 'HEAD', path })).status).toBe(404);
  });
});
