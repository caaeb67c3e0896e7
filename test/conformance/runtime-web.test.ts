/** What the JavaScript runtimes owe the web standards: Request, Response and URLs; and Node its --permission. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lineWith, startShim, type Shim } from './runtime-harness.ts';
import { NODE } from './runtime-table.ts';

async function probe(): Promise<Shim> {
  const shim = await startShim();
  await shim.become('probe.mjs');
  return shim;
}

describe('web objects', () => {
  it.each([
    ['/a/../ctx', '/ctx'],
    ['/ctx?q=<>"', '/ctx?q=%3C%3E%22'],
    ['/%2e/ctx', '/ctx'],
    ['//ctx/x', '//ctx/x'],
  ])('URL %s is normalised to %s as by the URL parser', async (path, expected) => {
    const shim = await probe();
    const answer = await shim.call('GET', path, { headers: { host: 'fn.example' } });
    if (answer.status === 200) expect((answer.json() as { url: string }).url).toBe(`http://fn.example${expected}`);
    else expect(expected).toBe('//ctx/x');
  });

  it('text, json, bytes, formData, and reading twice', async () => {
    const shim = await probe();
    const post = async (path: string, body: string, type = 'text/plain') =>
      await shim.call('POST', path, { body, headers: { 'content-type': type } });
    expect((await post('/text', '\ufeffgrüße')).text).toBe('grüße');
    expect((await post('/json', '{"a":1}')).json()).toEqual({ got: { a: 1 } });
    expect((await post('/json', '{')).status).toBe(500);
    expect((await post('/bytes', 'abc')).json()).toEqual({ bytes: 3, buffer: 0 });
    expect((await post('/form', 'a=1&b=2', 'application/x-www-form-urlencoded')).json()).toEqual([['a', '1'], ['b', '2']]); // prettier-ignore
    expect((await post('/twice', 'abc')).json()).toEqual({ used: true, second: 'TypeError' });
    expect((await shim.call('GET', '/text')).text).toBe('');
  });

  it('is a Request to instanceof, new Request and clone', async () => {
    const shim = await probe();
    expect((await shim.call('POST', '/copies', { body: 'data' })).json()).toEqual([true, true, true, 'POST', '1', 'data', 'data']);
  });

  it('is a Response to instanceof, extends, clone and the constructor’s own checks', async () => {
    const shim = await probe();
    expect((await shim.call('GET', '/inherits')).json()).toEqual([true, 1, 201, true, true]);
    expect((await shim.call('GET', '/invalid')).json()).toEqual(['RangeError', 'TypeError', 'TypeError', 'TypeError', 'TypeError']);
    const [text, used, headers, again] = (await shim.call('GET', '/readBack')).json() as [string, boolean, [string, string][], string];
    expect([text, used, again]).toEqual(['body', true, 'body']);
    expect(headers).toEqual([['content-type', 'text/plain;charset=UTF-8'], ['x-one', '1'], ['x-two', '2']]); // prettier-ignore
  });

  it('env of fetch is what the function was given, and bytes have no content type that nobody gave', async () => {
    const shim = await startShim();
    await shim.become('probe', { env: { GREETING: 'hi', NODE_ENV: 'test' } });
    expect((await shim.call('GET', '/ctx')).json()).toMatchObject({ envArgument: { GREETING: 'hi', NODE_ENV: 'test' } });
    expect((await shim.call('GET', '/bare')).headers['content-type']).toBeUndefined();
  });
});

describe('node', () => {
  it('runs under --permission with no more than its files and its socket', async () => {
    const code = join(import.meta.dirname, 'fixtures', 'runtime');
    const allowed = [
      `--allow-fs-read=${join(import.meta.dirname, '../../runtime-images')}`,
      `--allow-fs-read=${code}`,
      `--allow-fs-read=${tmpdir()}`,
    ];
    const args = ['--permission', ...allowed, `--allow-fs-write=${tmpdir()}`, ...NODE.command.args];
    const shim = await startShim({ ...NODE, command: { file: NODE.command.file, args } });
    await shim.become('probe');
    expect((await shim.call('GET', '/log/permitted')).text).toBe('logged');
    await lineWith(shim, 'log permitted');
  });
});
