/** The handler forms of the python runtime. As real frameworks use them: runtime-python-frameworks.test.ts. */
import { once } from 'node:events';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HEADERS } from '#contract/runtime.ts';
import { waitFor } from '../helpers/wait.ts';
import { gatewayHeaders, lineWith, readAnswer, startShim } from './runtime-harness.ts';
import { folderOf, startSource } from './runtime-python.fixture.ts';
import { PYTHON } from './runtime-table.ts';

describe('detection', () => {
  it.each([
    { what: 'handler(event, context)', source: 'def handler(event, context): return {}', form: 'lambda', slots: 1 },
    { what: 'lambda_handler', source: 'def lambda_handler(event, context): return {}', form: 'lambda', slots: 1 },
    { what: 'async handler', source: 'async def handler(event, context): return {}', form: 'lambda', slots: 1 },
    {
      what: 'handler before app',
      source: 'async def app(scope, receive, send): pass\ndef handler(event, context): return {}',
      form: 'lambda',
      slots: 1,
    },
    { what: 'an async app', source: 'async def app(scope, receive, send): pass', form: 'asgi', slots: 50 },
    { what: 'application', source: 'def application(environ, start_response): return []', form: 'wsgi', slots: 10 },
    {
      what: 'an app that is an object',
      source: 'class A:\n  async def __call__(self, scope, receive, send): pass\napp = A()',
      form: 'asgi',
      slots: 50,
    },
    { what: 'handler(request)', source: 'def handler(request): return "x"', form: 'function', slots: 50 },
    { what: 'a function by the function’s name', source: 'def hello(request): return "x"', form: 'function', slots: 50 },
  ])('$what is $form', async ({ source, form, slots }) => {
    const shim = await startShim(PYTHON);
    expect(await shim.become('main.py', { code: folderOf({ 'main.py': source }) })).toMatchObject({ form, slots });
  });

  it('takes the object that fn.json names', async () => {
    const source =
      'def other(environ, start_response):\n  start_response("200 OK", [])\n  return [b"other"]\ndef main(request): return "main"';
    expect((await (await startSource(source, 'wsgi', { 'fn.json': '{"object":"other"}' })).call('GET', '/')).text).toBe('other');
    const shim = await startShim(PYTHON);
    const code = folderOf({ 'main.py': 'x = 1', 'fn.json': '{"object":"app"}' });
    expect(await shim.fails('main.py', { code })).toMatchObject({ name: 'NoHandler', message: 'the module has no app: it has x' });
  });

  it('an entry whose name is one of the standard library’s hides nothing from it', async () => {
    const code = folderOf({ 'json.py': 'import csv\ndef main(request): return {"a": 1}' });
    const shim = await startShim(PYTHON);
    await shim.become('json.py', { code });
    expect((await shim.call('GET', '/')).json()).toEqual({ a: 1 });
  });
});

describe('lambda', () => {
  const source = `
import base64, os, sys, time
def handler(event, context):
    path = event["rawPath"]
    if path == "/event": return event
    if path == "/context":
        return {k: getattr(context, k) for k in ("aws_request_id", "function_name", "function_version", "memory_limit_in_mb")} | {"left": context.get_remaining_time_in_millis() > 0}
    if path == "/full": return {"statusCode": 201, "headers": {"X-One": 1}, "cookies": ["a=1", "b=2"], "multiValueHeaders": {"x-many": ["1", "2"]}, "body": "made"}
    if path == "/binary": return {"statusCode": 200, "headers": {"content-type": "image/png"}, "body": base64.b64encode(bytes([0, 255, 1])).decode(), "isBase64Encoded": True}
    if path == "/text": return "plain"
    if path == "/nothing": return None
    if path == "/bad": return {"statusCode": "teapot"}
    if path == "/crlf": return {"statusCode": 200, "headers": {"a": "b\\r\\nc: d"}}
    if path == "/set": return {1, 2}
    raise ValueError("no luck")
`;

  it('has API Gateway’s event, version 2.0', async () => {
    const shim = await startSource(source, 'lambda');
    const headers = {
      ...gatewayHeaders('l-1'),
      cookie: 'a=1; b=2',
      'content-type': 'application/json',
      'x-many': ['1', '2'],
      'user-agent': 'test',
    };
    const event = (await shim.call('POST', '/event?q=1&q=2&e=%20x', { headers, body: '{"a":1}' })).json();
    expect(event).toMatchObject({
      version: '2.0',
      rawPath: '/event',
      rawQueryString: 'q=1&q=2&e=%20x',
      cookies: ['a=1', 'b=2'],
      headers: { 'x-many': '1,2', 'content-type': 'application/json' },
      queryStringParameters: { q: '1,2', e: ' x' },
      requestContext: {
        domainName: 'fn.example:8443',
        http: { method: 'POST', path: '/event', protocol: 'HTTP/1.1', sourceIp: '203.0.113.9', userAgent: 'test' },
        requestId: 'l-1',
      },
      body: '{"a":1}',
      isBase64Encoded: false,
    });
    expect(JSON.stringify(event)).not.toContain('fn-instance');
    const binary = await shim.call('POST', '/event', { headers: { 'content-type': 'image/png' }, body: Buffer.from([0, 255]) });
    expect(binary.json()).toMatchObject({ body: 'AP8=', isBase64Encoded: true });
    expect((await shim.call('GET', '/event')).json()).not.toHaveProperty('body');
  });

  it('answers of every shape', async () => {
    const shim = await startSource(source, 'lambda');
    const full = await shim.call('GET', '/full');
    expect([full.status, full.text, full.headers['x-one'], full.headers['set-cookie'], full.headers['x-many']]).toEqual([
      201,
      'made',
      '1',
      ['a=1', 'b=2'],
      '1, 2',
    ]);
    expect([...(await shim.call('GET', '/binary')).body]).toEqual([0, 255, 1]);
    expect((await shim.call('GET', '/text')).text).toBe('plain');
    expect((await shim.call('GET', '/nothing')).text).toBe('null');
    for (const path of ['/bad', '/crlf'])
      expect((await shim.call('GET', path)).json()).toMatchObject({ status: 502, code: 'function-bad-response' });
    expect((await shim.call('GET', '/throws')).status).toBe(500);
    expect(await lineWith(shim, 'no luck')).toMatchObject({ level: 'error', msg: expect.stringContaining('File "main.py"') as string });
    expect((await shim.call('GET', '/set')).status).toBe(500);
    expect((await shim.call('GET', '/context', { headers: gatewayHeaders('l-2') })).json()).toEqual({
      aws_request_id: 'l-2',
      function_name: 'hello',
      function_version: '7',
      memory_limit_in_mb: '128',
      left: true,
    });
    expect((await shim.call('POST', '/event', { body: Buffer.alloc(7 * 1024 * 1024) })).status).toBe(413);
  });
});

describe('a plain function', () => {
  const source = `
import threading, time, logging, warnings, sys
gates = {}
def slowly():
    yield "first\\n"
    gates.setdefault("x", threading.Event()).wait(5)
    yield "second\\n"
class Count:
    ended = []
def endless():
    count = 0
    try:
        while True:
            count += 1
            yield bytes(65536)
    finally:
        Count.ended.append(count)
def main(request, ctx):
    match request.path:
        case "/str": return "text"
        case "/dict": return {"an": "object"}
        case "/none": return None
        case "/tuple": return "made", 202, {"x-one": "1", "set-cookie": ["a=1", "b=2"]}
        case "/json": return request.json()
        case "/form": return request.form()
        case "/stream": return slowly()
        case "/go": gates.setdefault("x", threading.Event()).set()
        case "/endless": return endless()
        case "/ended": return Count.ended
        case "/echo": return request.stream(), 200, {"content-type": "application/x-echo"}
        case "/args": return [request.args, request.query, request.headers.get("X-Two"), request.method, request.client, ctx.request_id]
        case "/later":
            ctx.wait_until(lambda: print("worked later"))
            return "answered"
        case "/threads":
            gates.setdefault("threads", threading.Event()).wait(30)
            print("on a thread")
        case "/goThreads": gates.setdefault("threads", threading.Event()).set()
        case "/log":
            logging.getLogger("mine").error("logged error"); warnings.warn("beware"); print("a", "b"); print("two\\nlines"); sys.stdout.buffer.write(b"bytes\\n")
        case "/sse": return sse(), 200, {"content-type": "text/event-stream"}
        case "/exit": sys.exit(3)
def sse():
    gates.setdefault("sse", threading.Event()).wait(5)
    yield "data: x\\n\\n"
`;

  it('returns anything sensible', async () => {
    const shim = await startSource(source, 'function');
    const text = await shim.call('GET', '/str');
    expect([text.text, text.headers['content-type']]).toEqual(['text', 'text/plain; charset=utf-8']);
    expect((await shim.call('GET', '/dict')).json()).toEqual({ an: 'object' });
    expect((await shim.call('GET', '/none')).status).toBe(204);
    const tuple = await shim.call('GET', '/tuple');
    expect([tuple.status, tuple.text, tuple.headers['x-one'], tuple.headers['set-cookie']]).toEqual([202, 'made', '1', ['a=1', 'b=2']]);
    expect((await shim.call('POST', '/json', { body: '{"a":[1]}' })).json()).toEqual({ a: [1] });
    expect((await shim.call('POST', '/form', { body: 'a=1&a=2&b=' })).json()).toEqual({ a: ['1', '2'], b: [''] });
    const multipart = { ...gatewayHeaders('m-1'), 'content-type': 'Multipart/form-data; boundary=b' };
    expect((await shim.call('POST', '/form', { headers: multipart, body: '--b--' })).status).toBe(500);
    await lineWith(shim, 'this body is multipart');
    const args = (await shim.call('GET', '/args?q=1&q=2', { headers: { ...gatewayHeaders('a-1'), 'x-two': '2' } })).json();
    expect(args).toEqual([{ q: '1' }, { q: ['1', '2'] }, '2', 'GET', '203.0.113.9', 'a-1']);
  });

  it('a generator streams, with its first piece at once, and ends with its client', async () => {
    const shim = await startSource(source, 'function');
    const { outgoing, response } = shim.open('GET', '/stream');
    outgoing.end();
    const incoming = await response;
    expect(String((await once(incoming, 'data'))[0])).toBe('first\n');
    const rest = readAnswer(incoming);
    await shim.call('GET', '/go');
    expect((await rest).text).toBe('second\n');
    const endless = shim.open('GET', '/endless');
    endless.outgoing.end();
    const stream = await endless.response;
    await once(stream, 'readable');
    stream.destroy();
    await waitFor('its end', async () => ((await shim.call('GET', '/ended')).json() as number[])[0]);
    expect(((await shim.call('GET', '/ended')).json() as number[])[0]).toBeLessThan(200);
    await waitFor('the slot', async () => (await shim.health()).inFlight === 0);
  });

  it('a head goes out though the first event takes its time', async () => {
    const shim = await startSource(source, 'function');
    const { outgoing, response } = shim.open('GET', '/sse');
    outgoing.end();
    expect((await response).headers['content-type']).toBe('text/event-stream');
    outgoing.destroy();
  });

  it('reads its body as it comes', async () => {
    const shim = await startSource(source, 'function');
    const { outgoing, response } = shim.open('POST', '/echo');
    outgoing.write('one');
    const incoming = await response;
    expect(String((await once(incoming, 'data'))[0])).toBe('one');
    outgoing.end(Buffer.alloc(3 * 1024 * 1024, 'x'));
    expect((await readAnswer(incoming)).body).toHaveLength(3 * 1024 * 1024);
  });

  it('runs beside others, and answers health while all of them wait', async () => {
    const shim = await startSource(source, 'function');
    const calls = Array.from({ length: 20 }, (_, index) => shim.call('GET', '/threads', { headers: gatewayHeaders(`t-${index}`) }));
    await waitFor('all to be in flight', async () => (await shim.health()).inFlight === 20);
    await shim.call('GET', '/goThreads');
    for (const answer of await Promise.all(calls)) expect(answer.status).toBe(204);
    await waitFor('all lines', () => shim.lines().length === 20);
    expect(new Set(shim.lines().map(({ req }) => req)).size).toBe(20);
  });

  it('logging, warnings, print and bytes are lines of the request', async () => {
    const shim = await startSource(source, 'function');
    await shim.call('GET', '/log', { headers: gatewayHeaders('log-1') });
    await lineWith(shim, 'bytes');
    const lines = shim.lines();
    expect(lines.every(({ req }) => req === 'log-1')).toBe(true);
    expect(lines.map(({ level, stream, msg }) => [level, stream, msg.replace(/^\/.*main\.py/, 'main.py')])).toEqual([
      ['error', 'err', 'logged error'],
      ['warn', 'err', expect.stringContaining('UserWarning: beware') as string],
      ['info', 'out', 'a b'],
      ['info', 'out', 'two\nlines'],
      ['info', 'out', 'bytes'],
    ]);
  });

  it('may leave work for later, and end the process', async () => {
    const shim = await startSource(source, 'function');
    expect((await shim.call('GET', '/later', { headers: gatewayHeaders('w-1') })).text).toBe('answered');
    expect(await lineWith(shim, 'worked later')).toMatchObject({ req: 'w-1' });
    await waitFor('it to settle', async () => (await shim.health()).waitUntil === 0);
    await expect(shim.call('GET', '/exit')).rejects.toThrow(/hang up|ECONNRESET/);
    expect((await shim.exited).code).toBe(3);
  });
});

describe('wsgi', () => {
  const source = `
import sys
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written "); return [b"and returned"]
    if path == "/lines":
        start_response("200 OK", []); return [repr(list(environ["wsgi.input"])).encode()]
    if path == "/late":
        def body():
            yield b""
            start_response("201 Made", [("x-late", "1")])
            yield b"late"
        return body()
    if path == "/broken":
        start_response("200 OK", [("content-length", "10")]); return iter([b"short"])
    if path == "/none": return []
    if path == "/exc":
        try: raise KeyError("x")
        except KeyError: start_response("500 Oops", [], sys.exc_info()); return [b"handled"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    keys = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "wsgi.url_scheme", "HTTP_X_TWO", "CONTENT_LENGTH", "HTTP_X_EVIL")
    return [repr([environ.get(key) for key in keys]).encode()]
`;

  it('is PEP 3333', async () => {
    const shim = await startSource(source, 'wsgi');
    const headers = { ...gatewayHeaders('w-1'), 'x-forwarded-prefix': '/hello', 'x-two': ['1', '2'], x_evil: '1' };
    expect((await shim.call('POST', '/a%20b/%C3%A9?q=1', { headers, body: 'abc' })).text).toBe(
      `['POST', '/hello', '/a b/Ã©', 'q=1', 'fn.example', '8443', '203.0.113.9', 'https', '1,2', '3', None]`,
    );
    expect((await shim.call('GET', '/write')).text).toBe('written and returned');
    expect((await shim.call('POST', '/lines', { body: 'a\nbc\nd' })).text).toBe(`[b'a\\n', b'bc\\n', b'd']`);
    const late = await shim.call('GET', '/late');
    expect([late.status, late.headers['x-late'], late.text]).toEqual([201, '1', 'late']);
    await expect(shim.call('GET', '/broken')).rejects.toThrow(/aborted|ECONNRESET/);
    expect((await shim.call('GET', '/none')).status).toBe(500);
    expect((await shim.call('GET', '/exc')).text).toBe('handled');
    expect((await shim.call('HEAD', '/')).text).toBe('');
  });
});

describe('modules of a bundle', () => {
  it('find each other, from a folder within it too, and what was vendored', async () => {
    const code = folderOf({});
    cpSync(join(PYTHON.fixtures, 'packages'), code, { recursive: true });
    const shim = await startShim(PYTHON);
    await shim.become('app/main.py', { code });
    expect((await shim.call('GET', '/')).json()).toEqual(['beside', 'top', 'vendored', 'site', true]);
  });
});

describe('handlers for events', () => {
  const message = {
    body: '{"n":1}',
    headers: {
      ...gatewayHeaders('ev-1'),
      [HEADERS.event]: 'queue',
      'ce-id': '1-0',
      'ce-source': '/s',
      'ce-type': 't',
      'content-type': 'application/json',
    },
  };

  it('that are plain functions run on a thread, with ctx where they take it', async () => {
    const shim = await startSource(
      'import time\ndef queue(batch, ctx):\n  print(f"took {batch.messages[0].body}")\n  time.sleep(3)\n  batch.retry_all(delay_seconds=ctx.revision)',
      'events',
    );
    const answer = shim.call('POST', '/', message);
    await lineWith(shim, "took {'n': 1}");
    expect((await shim.health()).inFlight).toBe(1);
    expect((await answer).json()).toEqual({ batchItemFailures: [{ itemIdentifier: '1-0', delaySeconds: 7 }] });
  });

  it('one with a yield has run no line, and is not taken for done', async () => {
    for (const source of ['async def queue(batch):\n  yield', 'def queue(batch):\n  yield']) {
      const shim = await startSource(source, 'events');
      expect((await shim.call('POST', '/', message)).status).toBe(500);
      await lineWith(shim, 'queue has a yield');
    }
  });

  it('are no routes, classes or modules of these names', async () => {
    const app =
      'def app(environ, start_response):\n  start_response("200 OK", [])\n  return [environ.get("HTTP_FN_EVENT", "none").encode()]\n';
    const wsgi = await startSource(`${app}def queue(order): raise TypeError("a route of the app")`, 'wsgi');
    expect((await wsgi.call('POST', '/', message)).text).toBe('queue');
    const others = await startSource(
      'import queue\nfrom threading import Event as event\ndef main(request): return request.headers["fn-event"]',
      'function',
    );
    expect((await others.call('POST', '/', message)).text).toBe('queue');
  });

  it('sys.exit in one ends the process with its code', async () => {
    const shim = await startSource('import sys\nasync def queue(batch): sys.exit(3)', 'events');
    await expect(shim.call('POST', '/', message)).rejects.toThrow(/hang up|ECONNRESET/);
    expect((await shim.exited).code).toBe(3);
  });
});
