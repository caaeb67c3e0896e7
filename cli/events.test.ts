/** Commands about events: what is typed of a trigger, what is asked for later, and what is told of it. */
import { createServer, type IncomingMessage } from 'node:http';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { FunctionAccess } from '#contract/access.ts';
import { problem } from '#contract/errors.ts';
import { InvocationState } from '#contract/events.ts';
import { Trigger, WebhookVerification } from '#contract/trigger.ts';
import { EVENT_ID, cannedAnswers } from '../test/helpers/cli-stub-answers.ts';
import { type StubApi, createStubApi, listenStubApi } from '../test/helpers/cli-stub-api.ts';
import { type CliResult, runCli } from '../test/helpers/cli.ts';
import { exampleInvocation, statusOfTrigger } from '../test/helpers/fake-events.ts';
import { INVOCATION_STATES } from './commands/invocation-list.ts';
import { TRIGGER_TYPES, WEBHOOK_SCHEMES } from './commands/trigger-add.ts';

const HELLO = '/v1/namespaces/default/functions/hello';
let api: StubApi;
let url: string;
beforeEach(async () => {
  api = createStubApi({ publicUrl: 'http://127.0.0.1:9' });
  url = await listenStubApi(api);
  api.functions.deploy('default', 'hello', { bundle: `sha256:${'a'.repeat(64)}`, entry: 'i.mjs', settings: {} });
});
afterEach(() => void api.server.close());

const run = (...argv: string[]): Promise<CliResult> => runCli(argv, { env: { FN_URL: url } });

it('choices are those of the contract', () => {
  expect([...INVOCATION_STATES]).toEqual(InvocationState.options);
  expect([...TRIGGER_TYPES].toSorted()).toEqual(Trigger.def.options.map((option) => option.shape.type.value).toSorted());
  const schemes = WebhookVerification.def.options.map((option) => option.shape.scheme.value);
  expect([...WEBHOOK_SCHEMES, 'hmac'].toSorted()).toEqual(schemes.toSorted());
});

it('fn why of an event says what has the id of its request', async () => {
  api.canned.set(`GET /v1/namespaces/default/calls/${EVENT_ID}`, {
    status: 404,
    json: problem('call-not-found', 'There is no record of it.'),
  });
  expect(await run('why', EVENT_ID)).toMatchObject({ code: 2, stderr: expect.stringContaining(`fn invocation show NAME ${EVENT_ID}`) });
});

it('fn trigger list of none says how one is added, as it can be typed', async () => {
  for (const [argv, path] of [
    [['trigger', 'list'], '/v1/namespaces/default/triggers'],
    [['trigger', 'list', 'hello'], `${HELLO}/triggers`],
  ] as const) {
    api.canned.set(`GET ${path}`, { status: 200, json: { triggers: [] } });
    expect((await run(...argv)).stderr).toMatch(/fn trigger add (NAME|hello) --cron '@daily' \(others: fn trigger add --help\)/);
  }
});

describe('fn trigger add', () => {
  /** Those that are there, by their names; the stub takes what is put. */
  function having(...names: string[]): void {
    const triggers = names.map((name) => Trigger.parse({ type: 'cron', name, schedule: '@daily' }));
    const view = (trigger: Trigger) => ({ namespace: 'default', function: 'hello', trigger, status: statusOfTrigger(trigger), url: null });
    api.canned.set(`GET ${HELLO}/triggers`, { status: 200, json: { triggers: triggers.map(view) } });
    for (const name of ['cron', 'cron-2', 'orders', 'redis-stream', 'webhook'])
      api.canned.set(`PUT ${HELLO}/triggers/${name}`, {
        status: 200,
        json: view(triggers[0] ?? Trigger.parse({ type: 'cron', name, schedule: '@daily' })),
      });
  }

  it('sends what was typed as fn.yaml would read it', async () => {
    having();
    const argv = ['--type', 'redis-stream', '--url', 'redis://:${secret:R}@x', '--set', 'stream=007', '--set', 'batchSize=10'];
    const more = [
      '--set',
      'retry.max=5m',
      '--set',
      'maxAge=1h',
      '--set',
      'filter={"data":{"a":[1]}}',
      '--set',
      'deadLetter=bury',
      '--as',
      'orders',
    ];
    expect(await run('trigger', 'add', 'hello', ...argv, ...more)).toMatchObject({ code: 0 });
    expect(api.bodies.get(`PUT ${HELLO}/triggers/orders`)).toMatchObject({
      name: 'orders',
      url: 'redis://:${secret:R}@x',
      stream: '007',
      batchSize: 10,
      retryMaxSeconds: 300,
      maxAgeSeconds: 3_600,
      filter: { data: { a: [1] } },
      deadLetter: { type: 'function', name: 'bury' },
    });
    await run('trigger', 'add', 'hello', '--type', 'webhook', '--set', 'verify.scheme=github', '--set', 'verify.secret=S');
    expect(api.bodies.get(`PUT ${HELLO}/triggers/webhook`)).toMatchObject({ verify: { scheme: 'github', secret: 'S' } });
  });

  it('says how a list is typed where one is wanted', async () => {
    having();
    const { code, stderr } = await run('trigger', 'add', 'hello', '--type', 'kafka', '--set', 'topic=t', '--set', 'brokers=one:9092');
    expect(code).toBe(2);
    expect(stderr).toContain(`--set brokers: must be a list, as JSON: --set 'brokers=["…"]'`);
  });

  it.each(WEBHOOK_SCHEMES)('--webhook %s is the short form of fn.yaml', async (scheme) => {
    having();
    const signed = scheme === 'none' ? [] : ['--secret', 'S'];
    expect(await run('trigger', 'add', 'hello', '--webhook', scheme, ...signed, '--set', 'maxAge=1h')).toMatchObject({ code: 0 });
    expect(api.bodies.get(`PUT ${HELLO}/triggers/webhook`)).toMatchObject({
      type: 'webhook',
      name: 'webhook',
      verify: scheme === 'none' ? { scheme } : { scheme, secret: 'S' },
      maxAgeSeconds: 3_600,
    });
  });

  it('--webhook and --secret are completed', async () => {
    const { stdout } = await runCli(['completion', 'bash'], {});
    expect(stdout).toContain(WEBHOOK_SCHEMES.join(' '));
  });

  it('--webhook --replace replaces the one that is called as its type', async () => {
    having('webhook');
    expect((await run('trigger', 'add', 'hello', '--webhook', 'none', '--replace')).stderr).toContain(
      'Replaced the trigger webhook of hello.',
    );
  });

  it('takes a name that is free, and one that is taken only with --replace', async () => {
    having('cron');
    expect((await run('trigger', 'add', 'hello', '--cron', '@hourly')).stderr).toContain('Added the trigger cron-2 of hello.');
    const taken = await run('trigger', 'add', 'hello', '--cron', '@hourly', '--as', 'cron');
    expect(taken).toMatchObject({ code: 2, stderr: expect.stringContaining('there is a trigger cron already') });
    expect((await run('trigger', 'add', 'hello', '--cron', '@hourly', '--as', 'cron', '--replace')).stderr).toContain(
      'Replaced the trigger cron',
    );
    expect((await run('trigger', 'add', 'hello', '--cron', '@daily', '--replace')).stderr).toContain('Replaced the trigger cron of hello.');
  });

  it.each([
    [[], 'say what triggers it: --type TYPE, --cron SCHEDULE or --webhook SCHEME'],
    [['--webhook', 'github'], '--secret: is missing: the name of the secret that github signs with'],
    [['--webhook', 'none', '--secret', 'S'], '--secret: --webhook none checks no signature'],
    [['--webhook', 'none', '--set', 'verify.scheme=github', '--set', 'verify.secret=S'], '--webhook none and --set verify both say'],
    [['--webhook', 'gitlab', '--secret', 'S'], 'Allowed choices are standard, github, stripe, slack, none'],
    [['--webhook', 'github', '--secret', 'not a name'], '--secret: '],
    [['--webhook', 'github', '--secret', 'S', '--cron', '@daily'], 'give one of --cron and --webhook'],
    [['--type', 'cron', '--cron', '@daily'], 'give one of --type and --cron'],
    [['--type', 'webhook', '--secret', 'S', '--set', 'verify=none'], '--secret: there is no such field'],
    [['--type', 'redis-stream', '--set', 'stream=s'], '--url: is missing'],
    [['--type', 'redis-stream', '--url', 'redis://:hunter2@x', '--set', 'stream=s'], '--url: holds a password'],
    [['--cron', '61 * * * *'], '--cron: it cannot be read'],
    [['--cron', '@daily', '--timezone', 'Nowhere/Here'], '--timezone: Nowhere/Here is no time zone'],
    [['--cron', '@daily', '--set', 'maxAttempts=0'], '--set maxAttempts: must be at least 1'],
    [['--cron', '@daily', '--set', 'frequency=5'], '--set frequency: there is no such field'],
    [['--cron', '@daily', '--set', 'x'], 'is not FIELD=VALUE'],
    [['--cron', '@daily', '--set', '__proto__.x=1'], 'this cannot be a field'],
    [['--cron', '@daily', '--set', 'retry=5', '--set', 'retry.max=1'], 'retry has a value already'],
  ])('%j is refused before anything is asked', async (argv, words) => {
    const { code, stderr } = await run('trigger', 'add', 'hello', ...argv);
    expect([code, stderr]).toEqual([2, expect.stringContaining(words)]);
    expect(api.requests).toEqual([]);
  });
});

it.each([
  [['trigger', 'show', 'hello'], 'trigger', 'triggers', 'orders', 'redis-stream, failing'],
  [['dlq', 'redrive', 'hello', EVENT_ID], 'dead-letter', 'dead-letters', EVENT_ID, 'attempts: function-error'],
  [['invocation', 'show', 'hello'], 'invocation', 'invocations', EVENT_ID, 'succeeded, '],
])('%j <Tab> offers what there is', async (words, kind, path, value, description) => {
  cannedAnswers(api);
  const { code, stdout } = await runCli(['complete', kind, '--', ...words], { env: { FN_URL: url } });
  expect([code, stdout]).toEqual([0, expect.stringMatching(new RegExp(`^${value}\\t.*${description}`, 'm'))]);
  expect(api.requests.some((request) => request.startsWith(`GET ${HELLO}/${path}`))).toBe(true);
});

describe('fn dlq', () => {
  it.each([
    [['redrive', 'hello'], 'say which: ids, or --all'],
    [['redrive', 'hello', EVENT_ID, '--all'], 'not both'],
    [['purge', 'hello', EVENT_ID, '--trigger', 'x'], 'not both'],
    [['purge', 'hello', 'e-1'], 'is not an id'],
    [['list', '--before', EVENT_ID], '--before goes with the name of a function'],
  ])('%j: 2, and nothing is asked', async (argv, words) => {
    const { code, stderr } = await run('dlq', ...argv);
    expect([code, stderr]).toEqual([2, expect.stringContaining(words)]);
    expect(api.requests).toEqual([]);
  });

  it('sends what is meant', async () => {
    api.canned.set(`POST ${HELLO}/dead-letters/redrive`, { status: 200, json: { count: 3 } });
    await run('dlq', 'redrive', 'hello', '--all', '--trigger', 'orders');
    expect(api.bodies.get(`POST ${HELLO}/dead-letters/redrive`)).toEqual({ all: true, trigger: 'orders' });
    await run('dlq', 'redrive', 'hello', EVENT_ID);
    expect(api.bodies.get(`POST ${HELLO}/dead-letters/redrive`)).toEqual({ ids: [EVENT_ID] });
  });
});

describe('fn invoke --async', () => {
  const seen: IncomingMessage[] = [];

  interface GatewayOptions {
    accepts?: boolean;
    result?: string;
    /** What it answers to each call. */
    refusal?: { status: number };
  }

  /** A gateway that accepts, and tells these states one after the other; the last of them again and again. */
  async function gateway(
    states: readonly object[],
    { accepts = true, result = 'the result', refusal }: GatewayOptions = {},
  ): Promise<void> {
    seen.length = 0;
    let looks = 0;
    const server = createServer((request, response) => {
      seen.push(request);
      if (request.url === `/.fn/invocations/${EVENT_ID}/result`) response.end(result);
      else if (request.url === `/.fn/invocations/${EVENT_ID}`) {
        const state = states[Math.min(looks, states.length - 1)];
        looks += 1;
        response.writeHead('status' in state! ? Number(state.status) : 200).end(JSON.stringify(exampleInvocation(EVENT_ID, state)));
      } else if (refusal !== undefined) {
        response.writeHead(refusal.status, { 'content-type': 'application/problem+json' }).end(JSON.stringify(refusal));
      } else if (accepts) {
        const replayed = request.headers['idempotency-key'] === 'again' ? { 'idempotency-replayed': 'true' } : {};
        response.writeHead(202, { location: `/.fn/invocations/${EVENT_ID}`, 'preference-applied': 'respond-async', ...replayed }).end('{}');
      } else response.end('at once');
    });
    onTestFinished(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const base = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/hello`;
    const access = FunctionAccess.parse({ async: { enabled: accepts } });
    api.canned.set(`GET ${HELLO}`, { status: 200, json: { ...api.functions.view('default', 'hello'), access, url: base } });
  }

  const waiting = { state: 'queued', finishedAt: null, result: null } as const;

  it('prints the id, and says where to ask', async () => {
    await gateway([]);
    const { code, stdout, stderr } = await run(
      'invoke',
      'hello',
      '--async',
      '--idempotency-key',
      'k',
      '--order-key',
      'o',
      '--delay',
      '90s',
    );
    expect([code, stdout]).toEqual([0, `${EVENT_ID}\n`]);
    expect(stderr).toMatch(new RegExp(`^accepted: .*/.fn/invocations/${EVENT_ID}$`, 'm'));
    expect((await run('invoke', 'hello', '--async', '--idempotency-key', 'again')).stderr).toContain('accepted before, under the same');
    expect(stderr).toContain(`fn invocation show hello ${EVENT_ID}\n`);
    expect(seen[0]!.headers).toMatchObject({ prefer: 'respond-async', 'idempotency-key': 'k', 'fn-order-key': 'o', 'fn-delay': '90' });
    expect(JSON.parse((await run('invoke', 'hello', '--async', '--json')).stdout)).toMatchObject({
      id: EVENT_ID,
      url: expect.stringMatching(/^http:/),
    });
  });

  it('--wait waits until it is over, also over a gateway that cannot say for a moment, and prints the result', async () => {
    await gateway([waiting, { ...waiting, status: 503 }, { ...waiting, state: 'running' }, {}]);
    const { code, stdout, stderr } = await run('invoke', 'hello', '--async', '--wait');
    expect([code, stdout]).toEqual([0, 'the result']);
    expect(stderr).toContain('succeeded after 1 attempt');
  });

  it('--wait is 1 where it failed, with the reason and what to do', async () => {
    const error = { code: 'function-error', detail: 'it threw', status: 500 };
    await gateway([{ state: 'failed', result: null, attempts: 3, error }]);
    const { code, stdout, stderr } = await run('invoke', 'hello', '--async', '--wait');
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain('function-error: it threw');
    expect(stderr).toContain(`fn dlq show hello ${EVENT_ID}`);
    expect((await run('invoke', 'hello', '--async', '--wait', '--json')).code).toBe(1);
  });

  it('--wait says so where the state is gone', async () => {
    await gateway([{ status: 404 }]);
    expect(await run('invoke', 'hello', '--async', '--wait')).toMatchObject({ code: 1, stderr: expect.stringContaining('answered 404') });
  });

  it('of a function that is never called later prints its answer, with a note', async () => {
    await gateway([], { accepts: false });
    const stderr = expect.stringContaining('note: it was answered at once: async is off for hello');
    expect(await run('invoke', 'hello', '--async')).toMatchObject({ code: 0, stdout: 'at once', stderr });
  });

  it.each([
    [problem('bad-request', 'fn-delay must be seconds, up to 14d'), 2, 'Bad request: --delay must be seconds, up to 14d (bad-request)'],
    [problem('backlog-full', 'hello has 5 that wait.'), 1, 'hello has 5 that wait. (backlog-full)'],
  ])('what the platform refuses is told as any problem of it: %j', async (refusal, exitCode, words) => {
    await gateway([], { refusal });
    for (const more of [[], ['--json'], ['--include']]) {
      const { code, stdout, stderr } = await run('invoke', 'hello', '--async', '--delay', '30d', ...more);
      expect([code, stdout]).toEqual([exitCode, '']);
      expect(stderr).toContain(words);
      expect(stderr).toMatch(/^error: .*\n {2}→ /);
    }
  });

  it('what the function itself answers at once stays its answer, also a problem', async () => {
    const own = { type: 'about:blank', status: 409, title: 'Sold out' };
    await gateway([], { refusal: own });
    expect(await run('invoke', 'hello', '--async')).toMatchObject({ code: 1, stdout: JSON.stringify(own) });
  });

  it.each([['--wait'], ['--delay', '3s'], ['--idempotency-key', 'x'], ['--order-key', 'x']])('%s goes with --async', async (...argv) => {
    const { code, stderr } = await run('invoke', 'hello', ...argv);
    expect([code, stderr]).toEqual([2, expect.stringContaining(`${argv[0]} goes with --async`)]);
  });
});

it('fn describe tells the rest where nobody can say what waits', async () => {
  api.canned.set(`GET ${HELLO}/backlog`, {
    status: 503,
    json: {
      type: 'urn:fn:error:events-unavailable',
      title: 'Events cannot be accepted now',
      status: 503,
      detail: 'It is starting.',
      code: 'events-unavailable',
      instance: 'r',
    },
  });
  const { code, stdout } = await run('describe', 'hello');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^backlog +unknown: Events cannot be accepted now: It is starting/m);
});
