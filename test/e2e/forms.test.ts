/** Every way to write a handler, from the examples as users copy them, and each form's fine print. */
import { describe, expect, it } from 'vitest';
import { FunctionView } from '#contract/function.ts';
import { open } from '../helpers/http.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

/** Example, the form that it must be taken for, and its concurrency. */
const EXAMPLES: [folder: string, form: string, concurrency: number][] = [
  ['hello', 'fetch|function', 50],
  ['methods', 'methods', 50],
  ['lambda', 'lambda', 1],
  ['node-http', 'function|server', 50],
  ['hono-app', 'fetch', 50],
  ['express-app', 'server', 50],
  ['fastify-app', 'server', 50],
  ['workers-style', 'fetch', 50],
  ['streaming', 'fetch|function|methods', 50],
  ['commonjs', '.*', 50],
];

/** A stream of two pieces, and another request that lets the second one out. */
const GATED = `
let open = () => {};
const opened = new Promise<void>((resolve) => (open = resolve));
export default (request: Request) => {
  if (new URL(request.url).pathname === '/on') {
    open();
    return new Response('on');
  }
  const text = new TextEncoder();
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue(text.encode('first'));
      await opened;
      controller.enqueue(text.encode('second'));
      controller.close();
    },
  });
  return new Response(body);
};
`;

const LAMBDA = `
import type { IncomingMessage } from 'node:http';
import { drivers, usePlatform } from '../helpers/suite.ts';
export const handler = async (event: Record<string, any>, context: Record<string, any>) => ({
  statusCode: 201,
  headers: { 'x-kind': 'lambda', 'content-type': 'application/json' },
  cookies: ['a=1', 'b=2'],
  body: JSON.stringify({
    version: event.version,
    routeKey: event.routeKey,
    rawPath: event.rawPath,
    rawQueryString: event.rawQueryString,
    query: event.queryStringParameters,
    cookies: event.cookies,
    method: event.requestContext?.http?.method,
    body: event.body,
    base64: event.isBase64Encoded,
    awsRequestId: context.awsRequestId,
    functionName: context.functionName,
    remaining: context.getRemainingTimeInMillis(),
  }),
});
`;

for (const driver of drivers('docker')) {
  describe(`handler forms (${driver})`, () => {
    const platform = usePlatform({ driver });
    const view = async (name: string) =>
      FunctionView.parse(JSON.parse((await platform().fnOk(['describe', name, '--json'])).stdout)).revision;

    it.each(EXAMPLES)('example %s is taken for %s', async (folder, form, concurrency) => {
      const { stderr } = await platform().deploy(folder, `examples/${folder}`);
      const revision = await view(folder);
      expect(revision.form).toMatch(new RegExp(`^(?:${form})$`));
      expect(revision.settings.concurrency).toBe(concurrency);
      expect(stderr).toMatch(new RegExp(revision.form));
      const response = await platform().call(`/${folder}`);
      expect(response.status).toBe(200);
      expect(response.body.length).toBeGreaterThan(0);
    });

    it('Lambda: API Gateway v2 events and results', async () => {
      await platform().deploy('aws', LAMBDA);
      const response = await platform().call('/aws/a/b?x=1&y=2&x=3', {
        method: 'POST',
        body: 'text',
        headers: { cookie: 'c=3; d=4', 'content-type': 'text/plain' },
      });
      expect(response.status).toBe(201);
      expect(response.headers['x-kind']).toBe('lambda');
      expect(response.headers['set-cookie']).toEqual(['a=1', 'b=2']);
      const event = response.json();
      expect(event).toMatchObject({
        version: '2.0',
        rawPath: '/a/b',
        rawQueryString: 'x=1&y=2&x=3',
        query: { x: '1,3', y: '2' },
        cookies: ['c=3', 'd=4'],
        method: 'POST',
        body: 'text',
        base64: false,
        functionName: 'aws',
      });
      expect(event.awsRequestId).toBe(response.headers['x-request-id']);
      expect(event.remaining).toBeGreaterThan(0);
      const binary = await platform().call('/aws', {
        method: 'POST',
        body: Buffer.from([0xff, 0x00, 0xfe]),
        headers: { 'content-type': 'application/octet-stream' },
      });
      expect(binary.json()).toMatchObject({ base64: true, body: Buffer.from([0xff, 0x00, 0xfe]).toString('base64') });
    });

    it('Lambda: a value that is no response is the body; callbacks work', async () => {
      await platform().deploy(
        'plain',
        `export const handler = (event: unknown, context: unknown, done: (e: null, v: unknown) => void) => { done(null, { hello: 'there' }); };`,
      );
      const response = await platform().call('/plain');
      expect(response.status).toBe(200);
      expect(response.json()).toEqual({ hello: 'there' });
    });

    it('methods: HEAD comes from GET, what is not exported is 405 with Allow', async () => {
      await platform().deploy(
        'verbs',
        `export const GET = () => new Response('got');\nexport const PUT = async (r: Request) => new Response('put ' + (await r.text()));\n`,
      );
      expect((await platform().call('/verbs')).text).toBe('got');
      expect((await platform().call('/verbs', { method: 'PUT', body: 'x' })).text).toBe('put x');
      expect((await platform().call('/verbs', { method: 'HEAD' })).status).toBe(200);
      const refused = await platform().call('/verbs', { method: 'DELETE' });
      expect(refused.status).toBe(405);
      expect(refused.headers.allow).toMatch(/GET/);
      expect(refused.headers.allow).toMatch(/PUT/);
    });

    it('a default function of two parameters gets Node requests and responses', async () => {
      await platform().deploy(
        'node',
        `import type { IncomingMessage, ServerResponse } from 'node:http';
         export default (req: IncomingMessage, res: ServerResponse) => { res.writeHead(202, { 'x-url': req.url! }); res.end('node ' + req.method); };`,
      );
      const response = await platform().call('/node/p?q=1', { method: 'PATCH' });
      expect([response.status, response.text, response.headers['x-url']]).toEqual([202, 'node PATCH', '/p?q=1']);
    });

    it('CommonJS files work in each of the forms', async () => {
      await platform().deploy(
        'cjs',
        `exports.handler = async () => ({ statusCode: 200, body: require('node:path').basename('/a/cjs') });\n`,
        { file: 'index.cjs' },
      );
      expect((await platform().call('/cjs')).text).toBe('cjs');
      await platform().deploy('cjs-default', `module.exports = (request) => new Response('default ' + new URL(request.url).pathname);\n`, {
        file: 'index.cjs',
      });
      expect((await platform().call('/cjs-default/x')).text).toBe('default /x');
      await platform().deploy('cjs-server', `require('node:http').createServer((q, s) => s.end('server ' + q.url)).listen(3000);\n`, {
        file: 'index.cjs',
      });
      expect((await platform().call('/cjs-server/x')).text).toBe('server /x');
    });

    it('ctx has request id, deadline, waitUntil, function name and revision', async () => {
      await platform().deploy(
        'ctx',
        `export default { fetch: (r: Request, env: Record<string, string>, ctx: Record<string, unknown>) =>
           Response.json({ env, ctx, waitUntil: typeof ctx.waitUntil }) };`,
        { flags: ['--env', 'GREETING=hi', '--timeout', '60'] },
      );
      const from = Date.now();
      const response = await platform().call('/ctx');
      const to = Date.now();
      const { env, ctx, waitUntil } = response.json<{ env: Record<string, string>; ctx: Record<string, unknown>; waitUntil: string }>();
      expect(env.GREETING).toBe('hi');
      expect(waitUntil).toBe('function');
      const text = JSON.stringify(ctx);
      expect(text).toContain(String(response.headers['x-request-id']));
      expect(text).toContain('"ctx"');
      expect(text).toMatch(/ctx@1|"revision":1/);
      const deadline = Object.entries(ctx).find(([key]) => /deadline/i.test(key))?.[1];
      const at = new Date(deadline as string | number).getTime();
      // A minute from when it came, in whole milliseconds.
      expect(at - 60_000).toBeGreaterThanOrEqual(from - 1);
      expect(at - 60_000).toBeLessThanOrEqual(to + 1);
    });

    it('the first byte of a streamed response arrives when it is written', async () => {
      await platform().deploy('gated', GATED, { flags: ['--max', '1', '--timeout', '300'] });
      const { request, response } = open(`${platform().url}/gated`);
      request.end();
      const pieces = (await response)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
      // The second piece is written when the client says that it has the first: had that been kept back, neither would come.
      expect(String((await pieces.next()).value)).toBe('first');
      expect((await platform().call('/gated/on')).text).toBe('on');
      expect(String((await pieces.next()).value)).toBe('second');
      expect((await pieces.next()).done).toBe(true);
    });

    it('an error thrown in a handler is a 5xx of the function with its place in the source in the log', async () => {
      await platform().deploy(
        'thrower',
        `interface A { a: string }\n\nexport default () => {\n  throw new RangeError('out of cheese');\n};\n`,
      );
      const response = await platform().call('/thrower');
      expect(response.status).toBeGreaterThanOrEqual(500);
      expect(response.text).not.toMatch(/\n\s+at /);
      expect((await platform().call('/thrower')).status).toBe(response.status);
      const stdout = await waitFor('its log', async () => {
        const said = (await platform().fnOk(['logs', 'thrower'])).stdout;
        return said.includes('out of cheese') && /handler\.ts:/.test(said) && said;
      });
      expect(stdout).toMatch(/handler\.ts:4:\d+/);
    });
  });
}
