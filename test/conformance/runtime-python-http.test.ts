/** The HTTP server of the python runtime: what it refuses, and that it answers in order. */
import { describe, expect, it } from 'vitest';
import { waitFor } from '../helpers/wait.ts';
import type { Shim } from './runtime-harness.ts';
import { startSource } from './runtime-python.fixture.ts';

describe('its HTTP server', () => {
  /** Sends bytes as they are; all that comes until the connection ends. */
  const raw = (shim: Shim, bytes: string) =>
    new Promise<string>((resolve, reject) => {
      let text = '';
      const socket = shim.connect(() => socket.write(bytes));
      socket
        .on('data', (data) => (text += data.toString()))
        .on('error', reject)
        .on('close', () => resolve(text));
    });
  const echo = 'def main(request): return request.method + " " + request.text()';

  it.each([
    ['both lengths', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', 400],
    ['two lengths', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc', 400],
    ['a signed length', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n\r\nabc', 400],
    ['two hosts', 'GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n', 400],
    ['another encoding', 'POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n', 501],
    ['a folded header', 'GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n', 400],
    ['a space before the colon', 'GET / HTTP/1.1\r\nhost : x\r\n\r\n', 400],
    ['LF alone', 'GET / HTTP/1.1\nhost: x\n\n', 400],
    ['a bare CR', 'GET / HTTP/1.1\r\nhost: x\ry\r\n\r\n', 400],
    ['NUL', 'GET / HTTP/1.1\r\nhost: x\0\r\n\r\n', 400],
    ['no version', 'GET /\r\n\r\n', 400],
    ['HTTP/2.0', 'GET / HTTP/2.0\r\n\r\n', 505],
    ['an absolute target', 'GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n', 400],
    ['headers without end', `GET / HTTP/1.1\r\na: ${'x'.repeat(70_000)}`, 431],
  ])('refuses %s, and closes', async (_what, bytes, status) => {
    const shim = await startSource(echo, 'function');
    const answer = await raw(shim, bytes);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} .*application/problem\\+json`, 's'));
    expect(answer.match(/HTTP\/1\.1 \d/g)).toHaveLength(1);
    expect((await shim.call('POST', '/', { body: 'on' })).text).toBe('POST on');
  });

  it('answers requests that came at once in their order, and drops one whose chunks are wrong', async () => {
    const shim = await startSource(echo, 'function');
    const two = await raw(
      shim,
      'POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\ntrailer: 1\r\n\r\nPUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\nd',
    );
    expect(two.indexOf('POST abc')).toBeGreaterThan(0);
    expect(two.indexOf('PUT d')).toBeGreaterThan(two.indexOf('POST abc'));
    const wrong = await raw(shim, 'POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n');
    expect(wrong).not.toContain('POST ab');
    await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
  });
});
