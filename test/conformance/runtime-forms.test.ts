/** The handler forms of the node runtime, alone and as real frameworks use them, bundled as `fn deploy` bundles. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { describe, expect, it, onTestFinished } from 'vitest';
import { HEADERS } from '#contract/runtime.ts';
import { gatewayHeaders, lineWith, startShim, type Shim } from './runtime-harness.ts';

const ROOT = join(import.meta.dirname, '../..');

async function start(entry: string, expected: string): Promise<Shim> {
  const shim = await startShim();
  expect((await shim.become(entry)).form).toBe(expected);
  return shim;
}

/** Bundles a source as the CLI does and starts it. The folder is inside the project, so that its packages are found. */
async function bundled(source: string, expected: string | null, name = 'handler.ts'): Promise<Shim> {
  const folder = mkdtempSync(join(tmpdir(), 'fn-bundle-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, name), source);
  await build({
    entryPoints: [join(folder, name)],
    outfile: join(folder, 'out', 'index.mjs'),
    absWorkingDir: folder,
    nodePaths: [join(ROOT, 'node_modules')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    sourcemap: 'linked',
    logLevel: 'silent',
    mainFields: ['module', 'main'],
    banner: { js: "import { createRequire as __r } from 'node:module';\nconst require = __r(import.meta.url);" },
  });
  const shim = await startShim();
  if (expected !== null) expect((await shim.become('index.mjs', { code: join(folder, 'out') })).form).toBe(expected);
  else await shim.fails('index.mjs', { code: join(folder, 'out') });
  return shim;
}

describe('methods', () => {
  it('are called by name; HEAD is GET without body; others are 405 with Allow', async () => {
    const shim = await start('methods.mjs', 'methods');
    expect((await shim.call('GET', '/x', { headers: gatewayHeaders('m-1') })).json()).toEqual({ id: 'm-1', path: '/x' });
    expect((await shim.call('POST', '/', { body: 'data' })).json()).toEqual({ posted: 'data' });
    expect((await shim.call('HEAD', '/')).text).toBe('');
    const wrong = await shim.call('DELETE', '/');
    expect([wrong.status, wrong.headers.allow]).toEqual([405, 'GET, HEAD, POST, OPTIONS']);
    const options = await shim.call('OPTIONS', '/');
    expect([options.status, options.headers.allow]).toEqual([204, 'GET, HEAD, POST, OPTIONS']);
  });
});

describe('lambda', () => {
  it('has one slot, and API Gateway’s event, version 2.0', async () => {
    const shim = await startShim();
    expect(await shim.become('lambda.mjs')).toMatchObject({ form: 'lambda', slots: 1 });
    const headers = {
      ...gatewayHeaders('l-1'),
      cookie: 'a=1; b=2',
      'content-type': 'application/json',
      'x-many': ['1', '2'],
      'user-agent': 'test',
    };
    const event = (await shim.call('POST', '/event?q=1&q=2&e=%20x&__proto__=p', { headers, body: '{"a":1}' })).json();
    expect(event).toMatchObject({
      version: '2.0',
      routeKey: '$default',
      rawPath: '/event',
      rawQueryString: 'q=1&q=2&e=%20x&__proto__=p',
      cookies: ['a=1', 'b=2'],
      headers: { 'x-many': '1,2', 'content-type': 'application/json' },
      queryStringParameters: { q: '1,2', e: ' x' },
      requestContext: {
        domainName: 'fn.example:8443',
        http: { method: 'POST', path: '/event', protocol: 'HTTP/1.1', sourceIp: '203.0.113.9', userAgent: 'test' },
        requestId: 'l-1',
        stage: '$default',
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
    const shim = await start('lambda.mjs', 'lambda');
    const full = await shim.call('GET', '/full');
    expect([full.status, full.text, full.headers['x-one'], full.headers['set-cookie'], full.headers['x-many']]).toEqual([
      201,
      'made',
      '1',
      ['a=1', 'b=2'],
      '1, 2',
    ]);
    const binary = await shim.call('GET', '/binary');
    expect([...binary.body, binary.headers['content-type']]).toEqual([0, 255, 1, 'image/png']);
    const text = await shim.call('GET', '/text');
    expect([text.status, text.text, text.headers['content-type']]).toEqual([200, 'plain', 'application/json']);
    expect((await shim.call('GET', '/nothing')).text).toBe('null');
    expect((await shim.call('GET', '/bad')).json()).toMatchObject({ status: 502, code: 'function-bad-response' });
    expect((await shim.call('GET', '/throws')).status).toBe(500);
    expect((await shim.call('GET', '/context', { headers: gatewayHeaders('l-2') })).json()).toMatchObject({
      awsRequestId: 'l-2',
      functionName: 'hello',
      functionVersion: '7',
      memoryLimitInMB: '128',
      left: true,
    });
    expect((await shim.call('POST', '/event', { body: Buffer.alloc(7 * 1024 * 1024) })).status).toBe(413);
  });

  it('answers by callback and by context.succeed', async () => {
    const callback = await start('lambda-callback.cjs', 'lambda');
    expect((await callback.call('GET', '/')).text).toBe('called back');
    expect((await callback.call('GET', '/fails')).status).toBe(500);
    const succeed = await start('lambda-succeed.cjs', 'lambda');
    expect((await succeed.call('GET', '/')).json()).toEqual({ done: true });
  });
});

describe('function', () => {
  it('of one parameter gets a Request, and may return anything sensible', async () => {
    const shim = await start('function-web.mjs', 'function');
    expect((await shim.call('GET', '/string')).text).toBe('text');
    expect((await shim.call('GET', '/object')).json()).toEqual({ an: 'object' });
    expect((await shim.call('GET', '/nothing')).status).toBe(204);
    expect((await shim.call('GET', '/buffer')).headers['content-type']).toBe('application/octet-stream');
    expect((await shim.call('GET', '/response')).status).toBe(202);
  });

  it('of two gets Node’s own pair', async () => {
    const shim = await start('function-node.mjs', 'function');
    const answer = await shim.call('PUT', '/path?x', { headers: gatewayHeaders('f-1') });
    expect([answer.text, answer.headers['fn-refused'], answer.headers['x-address']]).toEqual(['PUT /path?x', undefined, '203.0.113.9']);
    expect((await shim.call('GET', '/throws')).status).toBe(500);
    await expect(shim.call('GET', '/late')).rejects.toThrow(/aborted|hang up/);
    await lineWith(shim, 'after the head');
  });

  it('in CommonJS, and a default in a default', async () => {
    expect((await (await start('function.cjs', 'function')).call('GET', '/a')).text).toBe('cjs /a');
    expect((await (await start('typescript-cjs.cjs', 'fetch')).call('GET', '/')).text).toBe('from a default in a default');
  });
});

describe('server', () => {
  it('listens without a port, some time after it was loaded', async () => {
    const shim = await start('server.mjs', 'server');
    expect((await shim.call('GET', '/a?b', { headers: gatewayHeaders('s-1') })).json()).toEqual({
      url: '/a?b',
      seen: ['event', 'callback'],
      address: { address: '0.0.0.0', family: 'IPv4', port: 3000 },
      listening: true,
      client: '203.0.113.9',
    });
    expect((await shim.call('GET', '/close')).json()).toMatchObject({ listening: false, address: null });
    expect((await shim.call('GET', '/')).status).toBe(502);
  });

  it('may be exported without being told to listen', async () => {
    const shim = await start('exported-server.mjs', 'server');
    expect((await shim.call('GET', '/')).text).toBe('exported');
  });

  it('may take over a connection', async () => {
    const shim = await start('upgrade.mjs', 'server');
    const said = await new Promise<string>((resolve, reject) => {
      let text = '';
      const socket = shim.connect(() => socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n'));
      socket.on('error', reject).on('close', () => resolve(text));
      socket.on('data', (data) => {
        if (text === '') socket.write('marco');
        text += data.toString();
        if (text.endsWith('marco')) socket.end();
      });
    });
    expect(said).toMatch(/^HTTP\/1\.1 101 .*marco$/s);
    expect((await shim.call('GET', '/')).text).toBe('plain');
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

  it('are methods of an instance of a class, with its `this`; what is beside fetch goes before what is exported by name', async () => {
    const shim = await bundled(
      `class Api {
         #n = 40;
         fetch() { return new Response(String(this.#n)); }
         async queue(batch: { messages: { body: { n: number } }[] }) { this.#n += batch.messages[0].body.n; }
       }
       export const queue = () => { throw new Error('not this one'); };
       export default new Api();`,
      'fetch',
    );
    expect((await shim.call('POST', '/', message)).json()).toEqual({ batchItemFailures: [] });
    expect((await shim.call('GET', '/')).text).toBe('41');
  });

  it('are found in CommonJS', async () => {
    const shim = await bundled(`exports.event = async (event) => ({ got: event.data });`, 'events', 'handler.cjs');
    const answer = await shim.call('POST', '/', { ...message, headers: { ...message.headers, [HEADERS.event]: 'event' } });
    expect(answer.json()).toEqual({ got: { n: 1 } });
  });

  it('a router that answers to every name has none: its events are requests', async () => {
    const shim = await bundled(
      `const routes = [];
       const anything = new Proxy({}, { get: (_target, name) => (path) => routes.push([name, path]) });
       export default Object.assign(Object.create(anything), { fetch: (request) => new Response('routed ' + request.headers.get('fn-event')) });`,
      'fetch',
    );
    expect((await shim.call('POST', '/', message)).text).toBe('routed queue');
  });

  it('do not wait for a server: one that listens some turns later gets what is HTTP', async () => {
    const shim = await bundled(
      `import { createServer } from 'node:http';
       setTimeout(() => createServer((req, res) => res.end('served')).listen(3000), 20);
       export function queue() {}`,
      'events',
    );
    expect((await shim.call('GET', '/')).text).toBe('served');
    expect((await shim.call('POST', '/', message)).json()).toEqual({ batchItemFailures: [] });
  });

  it('a generator has run no line, and is not taken for done', async () => {
    const shim = await bundled(`export async function* queue() {}`, 'events');
    expect((await shim.call('POST', '/', message)).status).toBe(500);
    await lineWith(shim, 'queue is a generator');
  });

  it('beside a server that listens at once', async () => {
    const shim = await bundled(
      `import express from 'express';
       express().get('/', (req, res) => res.json({ framework: 'express' })).listen(3000);
       export function queue(batch) { batch.retryAll({ delaySeconds: 1 }); }`,
      'server',
    );
    expect((await shim.call('GET', '/')).json()).toEqual({ framework: 'express' });
    expect((await shim.call('POST', '/', message)).json()).toEqual({ batchItemFailures: [{ itemIdentifier: '1-0', delaySeconds: 1 }] });
  });
});

describe('frameworks from npm, unmodified', () => {
  it('Hono', async () => {
    const shim = await bundled(
      `import { Hono } from 'hono';
       import { cors } from 'hono/cors';
       import { streamText } from 'hono/streaming';
       const app = new Hono<{ Bindings: { GREETING: string } }>();
       app.use(cors());
       app.get('/hi/:name', (c) => c.json({ name: c.req.param('name'), q: c.req.query('q'), id: c.executionCtx.requestId }));
       app.post('/json', async (c) => c.json(await c.req.json(), 201));
       app.post('/form', async (c) => c.text(String((await c.req.parseBody()).a)));
       app.get('/stream', (c) => streamText(c, async (s) => { await s.write('a'); await s.sleep(5); await s.write('b'); }));
       app.mount('/mounted', (request) => new Response(new URL(request.url).pathname));
       app.get('/throw', () => { throw new Error('hono throws'); });
       export default app;`,
      'fetch',
    );
    const hi = await shim.call('GET', '/hi/ann?q=1', { headers: gatewayHeaders('h-1') });
    expect([hi.json(), hi.headers['access-control-allow-origin']]).toEqual([{ name: 'ann', q: '1', id: 'h-1' }, '*']);
    const posted = await shim.call('POST', '/json', { body: '{"a":1}', headers: { 'content-type': 'application/json' } });
    expect([posted.status, posted.json()]).toEqual([201, { a: 1 }]);
    expect((await shim.call('POST', '/form', { body: 'a=7', headers: { 'content-type': 'application/x-www-form-urlencoded' } })).text).toBe(
      '7',
    );
    expect((await shim.call('GET', '/stream')).text).toBe('ab');
    expect((await shim.call('GET', '/mounted/deep')).text).toBe('/deep');
    expect((await shim.call('GET', '/throw')).status).toBe(500);
    expect((await lineWith(shim, 'hono throws')).msg).toMatch(/handler\.ts:\d+:\d+/);
  });

  const express = `app.set('trust proxy', true);
    app.use(express.json());
    app.get('/hi/:name', (req, res) => res.json({ name: req.params.name, ip: req.ip, protocol: req.protocol, host: req.hostname }));
    app.post('/json', (req, res) => res.status(201).send(req.body));
    app.get('/throw', async () => { throw new Error('express throws'); });
    app.listen(process.env.PORT, () => console.log('express listens on', process.env.PORT));`;

  it.each([
    { kind: 'ES module', name: 'handler.ts', source: `import express from 'express';\nconst app = express();\n${express}` },
    { kind: 'CommonJS', name: 'handler.cjs', source: `const express = require('express');\nconst app = express();\n${express}` },
    {
      kind: 'exported',
      name: 'handler.mjs',
      source: `import express from 'express';\nconst app = express();\n${express}\nexport default app;`,
      form: 'function',
    },
  ])('Express 5, $kind', async ({ name, source, form }) => {
    const shim = await bundled(source, form ?? 'server', name);
    expect((await shim.call('GET', '/hi/ann', { headers: gatewayHeaders('e-1') })).json()).toEqual({
      name: 'ann',
      ip: '203.0.113.9',
      protocol: 'https',
      host: 'fn.example',
    });
    const posted = await shim.call('POST', '/json', { body: '{"a":1}', headers: { 'content-type': 'application/json' } });
    expect([posted.status, posted.json()]).toEqual([201, { a: 1 }]);
    expect((await shim.call('GET', '/throw')).status).toBe(500);
    expect((await shim.call('GET', '/missing')).status).toBe(404);
    await lineWith(shim, 'express listens on 8080');
  });

  it.each([
    { kind: 'ES module', name: 'handler.ts', head: "import Fastify from 'fastify';" },
    { kind: 'CommonJS', name: 'handler.cjs', head: "const Fastify = require('fastify');" },
  ])('Fastify 5, $kind', async ({ name, head }) => {
    const shim = await bundled(
      `${head}
       const app = Fastify({ logger: false });
       app.get('/hi/:name', async (request) => ({ name: request.params.name, ip: request.ip }));
       app.post('/json', { schema: { body: { type: 'object', required: ['a'] } } }, async (request, reply) => reply.code(201).send(request.body));
       app.listen({ port: 3000 }).then((address) => console.log('fastify listens', address));`,
      'server',
      name,
    );
    expect((await shim.call('GET', '/hi/ann', { headers: gatewayHeaders('y-1') })).json()).toEqual({ name: 'ann', ip: '203.0.113.9' });
    const posted = await shim.call('POST', '/json', { body: '{"a":1}', headers: { 'content-type': 'application/json' } });
    expect([posted.status, posted.json()]).toEqual([201, { a: 1 }]);
    expect((await shim.call('POST', '/json', { body: '{}', headers: { 'content-type': 'application/json' } })).status).toBe(400);
    await lineWith(shim, 'fastify listens');
  });
});

describe('positions in errors are those of the source', () => {
  it('thrown while loading', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fn-bundle-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    writeFileSync(
      join(folder, 'handler.ts'),
      "interface A {\n  url: string;\n}\nconst a: A = { url: '' };\n\n  throw new TypeError('no url in ' + JSON.stringify(a));\n",
    );
    await build({
      entryPoints: [join(folder, 'handler.ts')],
      outfile: join(folder, 'out/index.mjs'),
      bundle: true,
      format: 'esm',
      platform: 'node',
      sourcemap: true,
    });
    const shim = await startShim();
    const error = await shim.fails('index.mjs', { code: join(folder, 'out') });
    expect(error).toMatchObject({ name: 'TypeError', message: 'no url in {"url":""}', at: 'handler.ts:6:9' });
    expect(error.stack).toMatch(/^TypeError: no url[^\n]*\n {4}at .*handler\.ts:6:9/);
    expect(error.stack).not.toMatch(/shim|node:internal/);
  });

  it('thrown later, logged by the function itself, and with a cause', async () => {
    const shim = await bundled(
      `type Q = string;

export default (request: Request): Response => {
  try {
    throw new RangeError('inner');
  } catch (cause) {
    console.error(new Error('outer', { cause }));
  }
  throw new Error('thrown');
};`,
      'function',
    );
    expect((await shim.call('GET', '/')).status).toBe(500);
    const logged = await lineWith(shim, 'outer');
    expect(logged.msg).toMatch(/handler\.ts:7:19/);
    expect(logged.msg).toMatch(/handler\.ts:5:11/);
    expect((await lineWith(shim, 'Error: thrown')).msg).toMatch(/handler\.ts:9:9/);
  });
});
