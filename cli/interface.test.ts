/** What every command that speaks to the platform has in common: JSON, exit codes, colours, prompts, signals. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { EVENT_ID, REQUEST_ID, TOKEN_ID, cannedAnswers } from '../test/helpers/cli-stub-answers.ts';
import { type StubApi, createStubApi, listenStubApi } from '../test/helpers/cli-stub-api.ts';
import { type CliOptions, type CliResult, runCli, stable, temporaryFolder } from '../test/helpers/cli.ts';
import { FnError } from '#contract/errors.ts';
import { COMMANDS } from './commands/index.ts';
import { CONTEXT_OPTION } from './command.ts';
import { root } from './root.ts';

const TOKEN = 'a-token';

/** A line for each command that speaks to the control API; `URL` is the stub's. */
const LINES: Readonly<Record<string, readonly string[]>> = {
  deploy: ['hello'],
  diff: [],
  list: [],
  describe: ['hello'],
  invoke: ['hello'],
  delete: ['hello'],
  revisions: ['hello'],
  rollback: ['hello', '1'],
  traffic: ['hello', '1=100'],
  logs: ['hello'],
  why: [REQUEST_ID],
  calls: ['hello'],
  stats: [],
  'trigger add': ['hello', '--cron', '@daily'],
  'trigger list': [],
  'trigger show': ['hello', 'orders'],
  'trigger pause': ['hello', 'orders'],
  'trigger resume': ['hello', 'orders'],
  'trigger remove': ['hello', 'orders'],
  'invocation list': ['hello'],
  'invocation show': ['hello', EVENT_ID],
  'invocation result': ['hello', EVENT_ID],
  'invocation cancel': ['hello', EVENT_ID],
  'dlq list': ['hello'],
  'dlq show': ['hello', EVENT_ID],
  'dlq redrive': ['hello', '--all'],
  'dlq purge': ['hello', EVENT_ID],
  'secret set': ['API_KEY'],
  'secret list': [],
  'secret delete': ['API_KEY'],
  'token create': ['ci', '--scope', 'deploy'],
  'token list': [],
  'token revoke': [TOKEN_ID],
  'namespace set': ['shop', '--max-functions', '20'],
  'namespace list': [],
  'namespace delete': ['shop'],
  audit: [],
  status: [],
  'runtimes list': [],
  login: ['URL'],
  whoami: [],
};

/** Commands of this machine alone that print data without changing anything beyond a folder of their own. */
const LOCAL_LINES: readonly (readonly string[])[] = [
  ['version'],
  ['init', '--list'],
  ['init'],
  ['init', 'hello', 'made'],
  ['context', 'list'],
  ['context', 'show'],
  ['context', 'use', '-'],
  ['schema'],
];

const lines = Object.entries(LINES).map(([name, rest]) => ({ name, argv: [...name.split(' '), ...rest] }));

let api: StubApi;
let url: string;
let folder: string;

beforeEach(async () => {
  api = createStubApi({ publicUrl: 'http://127.0.0.1:9', token: TOKEN });
  url = await listenStubApi(api);
  cannedAnswers(api);
  folder = temporaryFolder(onTestFinished);
  mkdirSync(join(folder, 'hello'));
  writeFileSync(join(folder, 'hello', 'index.ts'), "export default { fetch: () => new Response('hello') };\n");
  writeFileSync(join(folder, 'fn.yaml'), 'functions:\n  hello: { entry: hello/index.ts }\n');
});
afterEach(() => void api.server.close());

const run = (argv: readonly string[], options: CliOptions & { token?: string; at?: string } = {}): Promise<CliResult> => {
  const { token = TOKEN, at = url, env = {}, ...rest } = options;
  const words = argv.map((word) => (word === 'URL' ? at : word));
  const stdin = words[0] === 'login' ? token : words[1] === 'set' ? 'a value' : '';
  return runCli(words, {
    env: { HOME: folder, FN_URL: at, FN_TOKEN: token, ...env },
    cwd: folder,
    home: join(folder, 'home'),
    stdin,
    ...rest,
  });
};

/** With a function there, as most commands want it. */
async function deployed(): Promise<void> {
  await run(['deploy', 'hello']);
  api.logs.push({ t: 1, revision: 'default/hello@1', instance: 'i-abcdefghijkl', level: 'info', stream: 'out', msg: 'a line' });
  api.requests.length = 0;
}

it('every command that can be told a platform is in the table', () => {
  const remote = COMMANDS.filter(
    ({ name, options = [] }) => name !== 'context show' && options.some(({ flags }) => flags === CONTEXT_OPTION.flags),
  );
  expect(Object.keys(LINES).toSorted()).toEqual(remote.map(({ name }) => name).toSorted());
});

describe('what a person reads', () => {
  it.each(lines)('of fn $name', async ({ argv }) => {
    await deployed();
    expect(stable(await run(argv))).toMatchSnapshot();
  });
});

describe('--json', () => {
  it.each(lines.filter(({ name }) => name !== 'invoke'))('of fn $name is one document and nothing else', async ({ name, argv }) => {
    await deployed();
    const { code, stdout } = await run([...argv, '--json']);
    expect(code).toBe(0);
    const documents = name === 'logs' ? stdout.trim().split('\n') : [stdout];
    for (const text of documents) expect(JSON.parse(text)).toBeTypeOf('object');
    expect(stdout).toMatch(/\n$/);
  });

  it.each(LOCAL_LINES)('of fn %s %s %s is one document and nothing else', async (...words) => {
    const argv = words.filter((word) => word !== undefined);
    const { code, stdout } = await run(argv[0] === 'schema' ? argv : [...argv, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toBeTypeOf('object');
  });

  it('of fn invoke has status, headers, body and times; a body that is no text is in base64', async () => {
    await deployed();
    const bytes = Buffer.from([0xff, 0xfe, 0]);
    const { createServer } = await import('node:http');
    const gateway = createServer((request, response) => {
      response.setHeader('server-timing', 'warm, handler;dur=4');
      if (request.url?.endsWith('/bytes') === true) response.writeHead(201).end(bytes);
      else response.writeHead(404, { 'x-a': 'b' }).end('{"no": 1}');
    });
    onTestFinished(() => void gateway.close());
    await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve));
    const address = gateway.address();
    const base = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/hello`;
    api.canned.set('GET /v1/namespaces/default/functions/hello', {
      status: 200,
      json: { ...api.functions.view('default', 'hello'), url: base },
    });
    const text = await run(['invoke', 'hello', '--json']);
    expect(text.code).toBe(1);
    expect(JSON.parse(text.stdout)).toMatchObject({
      status: 404,
      headers: { 'x-a': 'b' },
      body: '{"no": 1}',
      start: 'warm',
      phases: { handler: 4 },
    });
    const binary = await run(['invoke', 'hello', '--path', '/bytes', '--json']);
    expect([binary.code, JSON.parse(binary.stdout)]).toMatchObject([0, { status: 201, bodyBase64: bytes.toString('base64') }]);
  });
});

describe('fn invoke of a function that asks for a token', () => {
  const seen: (string | undefined)[] = [];

  /** A gateway that lets `TOKEN` in; the function behind it answers 401 where the path says so. */
  async function gateway(auth: object): Promise<void> {
    await deployed();
    seen.length = 0;
    const { createServer } = await import('node:http');
    const server = createServer((request, response) => {
      seen.push(request.headers.authorization);
      if (request.url?.endsWith('/own') === true) response.writeHead(401).end('mine');
      else if (request.headers.authorization === `Bearer ${TOKEN}`) response.end('in');
      else response.writeHead(401, { 'content-type': 'application/problem+json' }).end('{"code": "unauthorized"}');
    });
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const base = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/hello`;
    const view = api.functions.view('default', 'hello');
    const canned = { ...view, url: base, access: { ...view.access, auth } };
    api.canned.set('GET /v1/namespaces/default/functions/hello', { status: 200, json: canned });
  }

  it('sends the token that the platform is spoken to with, but where another was given or none is asked for', async () => {
    await gateway({ type: 'token' });
    expect(await run(['invoke', 'hello'])).toMatchObject({ code: 0, stdout: 'in' });
    const other = await run(['invoke', 'hello', '-H', 'Authorization: Bearer other']);
    expect(other).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/→ hello asks for a token with the scope invoke: fn token create /),
    });
    await gateway({ type: 'public' });
    await run(['invoke', 'hello']);
    expect(seen).toEqual([undefined]);
  });

  it('is 3 where the gateway says no, 1 where the function does', async () => {
    await gateway({ type: 'token' });
    expect(await run(['invoke', 'hello', '--path', '/own'])).toMatchObject({ code: 1, stdout: 'mine' });
    await gateway({ type: 'jwt', issuer: 'https://id.example.com', audience: 'api', jwksUrl: 'https://id.example.com/jwks' });
    expect(await run(['invoke', 'hello'])).toMatchObject({ code: 3, stderr: expect.stringContaining('(JWT) of https://id.example.com') });
    expect(seen).toEqual([undefined]);
  });
});

describe('exit codes', () => {
  it.each(lines)('fn $name: 4 where nothing answers', async ({ argv }) => {
    const { code, stderr } = await run(argv, { at: 'http://127.0.0.1:9' });
    expect([code, stderr]).toEqual([4, expect.stringMatching(/error: .*(?:answers|answer)/)]);
  });

  it.each(lines)('fn $name: 3 where the token is wrong, or may not', async ({ argv }) => {
    const wrong = await run(argv, { token: 'wrong-token' });
    expect([wrong.code, wrong.stderr]).toEqual([3, expect.stringContaining('error: ')]);
    expect(wrong.stdout + wrong.stderr).not.toContain('wrong-token');
    api.canned.clear();
    api.refuse = new FnError('forbidden', 'This token may not.');
    expect((await run(argv)).code).toBe(3);
  });

  // fn diff: what is not there would be added. fn deploy: a bundle that is not there is sent.
  it.each(lines.filter(({ name }) => !['diff', 'deploy'].includes(name)))(
    'fn $name: 1 where it is not there, or over a quota',
    async ({ argv }) => {
      api.canned.clear();
      api.refuse = new FnError('function-not-found', 'There is no such thing.');
      expect((await run(argv)).code).toBe(1);
      api.refuse = new FnError('quota-exceeded', 'The namespace has no room.');
      const over = await run(argv);
      expect([over.code, over.stderr]).toEqual([1, expect.stringContaining('(quota-exceeded)')]);
    },
  );

  it.each(COMMANDS.map(({ name }) => name))('fn %s: 2 for an option that it does not have', async (name) => {
    const { code, stdout, stderr } = await run([...name.split(' '), '--frobnicate']);
    expect([code, stdout, api.requests]).toEqual([2, '', []]);
    expect(stderr).toContain("error: unknown option '--frobnicate'");
  });

  it('fn deploy: 1 over a quota', async () => {
    api.functions.refuse = { error: new FnError('quota-exceeded', 'The namespace has no room.') };
    expect((await run(['deploy', 'hello'])).code).toBe(1);
  });
});

describe('on a terminal or not', () => {
  // oxlint-disable-next-line no-control-regex -- escape sequences are what is looked for
  const escapes = /\u001b/;
  it.each([
    ['no terminal', {}],
    ['NO_COLOR', { tty: true, env: { NO_COLOR: '1' } }],
    ['NO_COLOR over FORCE_COLOR', { tty: true, env: { NO_COLOR: '1', FORCE_COLOR: '1' } }],
    ['TERM=dumb', { tty: true, env: { TERM: 'dumb' } }],
  ] satisfies [string, CliOptions][])('%s: no escape sequences', async (_name, options) => {
    await deployed();
    for (const { argv } of lines) {
      const { stdout, stderr } = await run(argv, options);
      expect(stdout + stderr).not.toMatch(escapes);
    }
  });

  it('FORCE_COLOR, or a terminal: colours', async () => {
    expect((await run(['list'], { token: 'x', env: { FORCE_COLOR: '1' } })).stderr).toMatch(escapes);
    expect((await run(['list'], { token: 'x', tty: true })).stderr).toMatch(escapes);
  });

  it.each([
    [['secret', 'set', 'API_KEY'], 'fn … < FILE'],
    [['login', 'http://127.0.0.1:9'], 'fn … < FILE'],
    [['init'], 'fn init TEMPLATE [DIR]'],
  ])('%j asks nothing where there is no terminal: 2, and what to do', async (argv, words) => {
    const { code, stderr } = await run(argv, { stdin: '' });
    expect([code, stderr]).toEqual([2, expect.stringContaining(words)]);
    expect(api.requests).toEqual([]);
  });
});

describe('as a process', () => {
  const start = (argv: string[]) =>
    execa(process.execPath, [join(root, 'cli/main.ts'), ...argv], {
      cwd: folder,
      env: { HOME: folder, FN_URL: url, FN_TOKEN: TOKEN },
      reject: false,
    });

  it('Ctrl-C ends it with 130', async () => {
    await deployed();
    const child = start(['logs', 'hello', '--follow']);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGINT');
    expect((await child).exitCode).toBe(130);
  });

  it('a reader that leaves early is no error', async () => {
    const child = start(['schema']);
    child.stdout.destroy();
    const { exitCode, stderr } = await child;
    expect([exitCode, stderr]).toEqual([0, '']);
  });
});
