import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { StubApi } from '../test/helpers/cli-stub-api.ts';
import { createStubApi, listenStubApi } from '../test/helpers/cli-stub-api.ts';
import { runCli, temporaryFolder } from '../test/helpers/cli.ts';
import { FnError } from '#contract/errors.ts';
import { formWords } from './deploy.ts';

let api: StubApi;
let url: string;
let folder: string;

beforeEach(async () => {
  api = createStubApi({ publicUrl: 'http://127.0.0.1:9' });
  url = await listenStubApi(api);
  folder = temporaryFolder(onTestFinished);
  write('api.js', "export const GET = () => new Response('api');\n");
  write('web/index.js', "export const GET = () => new Response('web');\n");
  write('fn.yaml', 'defaults: { memory: 64 }\nfunctions:\n  api: { entry: ./api.js, env: { SECRET: hidden } }\n  web:\n    entry: ./web\n');
});

afterEach(() => void api.server.close());

function write(name: string, text: string): void {
  mkdirSync(join(folder, name, '..'), { recursive: true });
  writeFileSync(join(folder, name), text);
}

const run = (argv: string[], env: NodeJS.ProcessEnv = {}, signal?: AbortSignal) =>
  runCli(argv, { env: { FN_URL: url, ...env }, cwd: folder, home: join(folder, 'home'), ...(signal ? { signal } : {}) });

const json = async (argv: string[], env: NodeJS.ProcessEnv = {}): Promise<unknown> =>
  JSON.parse((await run([...argv, '--json'], env)).stdout);

/** Name and result of each function. */
async function results(argv: string[], env: NodeJS.ProcessEnv = {}): Promise<Record<string, string>> {
  const { functions } = (await json(argv, env)) as { functions: { name: string; result: string }[] };
  return Object.fromEntries(functions.map(({ name, result }) => [name, result]));
}

const settings = (name: string, namespace = 'default') => api.functions.view(namespace, name).revision.settings;
const changes = (): string[] => api.requests.filter((line) => !line.startsWith('GET') && !line.startsWith('HEAD'));

describe('fn deploy of a manifest', () => {
  it('deploys all of it, then only what changed', async () => {
    const first = await run(['deploy']);
    expect(first.code).toBe(0);
    expect(first.stdout.replace(/\d+(?:\.\d)? m?s/g, 'TIME').replace(/ +/g, ' ')).toBe(
      'FUNCTION RESULT REVISION TIME URL\napi created 1 TIME http://127.0.0.1:9/api\nweb created 1 TIME http://127.0.0.1:9/web\n',
    );
    expect(settings('api')).toMatchObject({ memoryMib: 64, env: { SECRET: 'hidden' } });
    api.requests.length = 0;
    expect(await results(['deploy'])).toEqual({ api: 'unchanged', web: 'unchanged' });
    expect(changes()).toEqual([]);

    write('web/index.js', "export const GET = () => new Response('changed');\n");
    expect(await results(['deploy'])).toEqual({ api: 'unchanged', web: 'updated' });
    write('fn.yaml', 'functions:\n  api: { entry: ./api.js, env: { SECRET: hidden } }\n  web: { entry: ./web, memory: 64 }\n');
    expect(await results(['deploy'])).toEqual({ api: 'updated', web: 'unchanged' });
    expect(settings('api').memoryMib).toBe(128);
    expect(await results(['deploy', '--force'])).toEqual({ api: 'updated', web: 'updated' });
  });

  it('changes routes and who may call it without a new revision', async () => {
    await run(['deploy']);
    write(
      'fn.yaml',
      'defaults: { memory: 64 }\nfunctions:\n  api: { entry: ./api.js, env: { SECRET: hidden }, auth: token, routes: [GET /users] }\n  web: { entry: ./web }\n',
    );
    expect(await results(['deploy'])).toEqual({ api: 'routed', web: 'unchanged' });
    const view = api.functions.view('default', 'api');
    expect(view).toMatchObject({ revisions: [1], access: { auth: { type: 'token' }, routes: [{ path: '/users', methods: ['GET'] }] } });
    expect(await results(['deploy'])).toEqual({ api: 'unchanged', web: 'unchanged' });
  });

  it('one that fails does not stop the others, and ends with 1', async () => {
    api.functions.refuse = {
      name: 'api',
      error: new FnError('deploy-refused', 'TypeError: no', { functionError: { name: 'TypeError', message: 'no', at: 'api.js:1:1' } }),
    };
    const result = await run(['deploy']);
    expect(result.code).toBe(1);
    expect(result.stdout).toMatch(/^api +failed +– /m);
    expect(result.stdout).toMatch(/^web +created +1 /m);
    expect(result.stderr).toContain('error: api: The function did not load (deploy-refused)\n  api.js:1:1: TypeError: no\n');
    write('api.js', 'export const GET = (\n');
    const broken = (await json(['deploy'])) as { functions: unknown[] };
    expect(broken.functions[0]).toMatchObject({ name: 'api', result: 'failed', error: { message: 'api.js does not build' } });
  });

  it('a route that moves to another function may clash at first: it is tried once more, after the others', async () => {
    const clash = () => new FnError('route-conflict', 'GET /users of default/api is a route of default/web.');
    api.functions.refuse = { name: 'api', error: clash() };
    const moved = await run(['deploy']);
    expect(moved.code).toBe(0);
    expect(moved.stdout).toMatch(/^api +created/m);
    expect(moved.stderr).not.toContain('error:');
    // Where it clashes for good, that is told, once.
    write('api.js', "export const GET = () => new Response('again');\n");
    api.functions.refuse = { name: 'api', error: clash(), times: 2 };
    const refused = await run(['deploy']);
    expect(refused.code).toBe(1);
    expect(refused.stderr.match(/error: api: .*\(route-conflict\)/g)).toHaveLength(1);
  });

  it('names choose, also from a folder below', async () => {
    mkdirSync(join(folder, '.git'));
    mkdirSync(join(folder, 'deep/er'), { recursive: true });
    const below = await runCli(['deploy', 'web', '--json'], {
      env: { FN_URL: url },
      cwd: join(folder, 'deep/er'),
      home: join(folder, 'home'),
    });
    expect(below.code).toBe(0);
    expect(api.functions.size).toBe(1);
    // The folder of that name is there too: the manifest knows the function better.
    expect(await results(['deploy', 'web'])).toEqual({ web: 'unchanged' });
    expect((await run(['deploy', 'wep'])).stderr).toBe(
      'error: fn.yaml has no function wep (did you mean web?), and there is no such file or folder\n  → It has: api, web.\n',
    );
    expect((await run(['deploy', 'api', './web'])).stderr).toContain('./web is a path: one path alone');
    // A path is deployed as it ever was.
    expect((await run(['deploy', './web', '--name', 'other'])).stdout).toBe('http://127.0.0.1:9/other\n');
    expect(settings('other').memoryMib).toBe(128);
  });

  it('flag over variable over file; the environment is chosen by --env or FN_ENVIRONMENT', async () => {
    write(
      'fn.yaml',
      'defaults: { memory: 64, cpu: 1 }\nfunctions:\n  api: { entry: ./api.js, timeout: 5 }\nenvironments:\n  staging: { namespace: lab, env: { STAGE: staging } }\n  other: { namespace: elsewhere }\n',
    );
    await run(['deploy', '--env', 'staging', '--env', 'MORE=1', '--timeout', '1m'], {
      FN_MEMORY: '256Mi',
      FN_TIMEOUT: '2m',
      FN_ENVIRONMENT: 'other',
      FN_CPU: '',
    });
    expect(settings('api', 'lab')).toMatchObject({ memoryMib: 256, cpu: 1, timeoutSeconds: 60, env: { STAGE: 'staging', MORE: '1' } });
    await run(['deploy'], { FN_ENVIRONMENT: 'other' });
    expect(settings('api', 'elsewhere')).toMatchObject({ memoryMib: 64, timeoutSeconds: 5, env: {} });
    await run(['deploy', '-n', 'mine'], { FN_ENVIRONMENT: 'other', FN_NAMESPACE: 'theirs' });
    expect(api.functions.views('mine')).toHaveLength(1);
    expect((await run(['deploy', '--env', 'a', '--env', 'b'])).stderr).toContain('more than one environment: --env a --env b');
    expect((await run(['deploy', '--env', 'prod'])).stderr).toContain('fn.yaml has no environment prod');
    expect((await run(['deploy', './api.js', '--env', 'staging'])).stderr).toContain('--env staging names an environment of fn.yaml');
  });

  it('wrong settings outside of the file are named as they were said, all at once', async () => {
    const result = await run(['deploy', '--memory', '12', '--route', 'nowhere', '--secret', 'a-b'], { FN_CPU: 'many' });
    expect([result.code, api.requests]).toEqual([2, []]);
    expect(result.stderr).toContain('  FN_CPU "many": must be cores from 0.05 to 64');
    expect(result.stderr).toContain('  --memory "12": must be whole MiB from 64 to 8192');
    expect(result.stderr).toContain('  --route "nowhere": must be such as');
    expect(result.stderr).toContain('  --secret "a-b": a secret name is letters');
    expect((await run(['deploy', '--min', '3', '--max', '2', './api.js'])).stderr).toContain('  --min: min must not be greater than max\n');
    expect((await run(['deploy', '--route', '/x'])).stderr).toContain('--route is for one function, and 2 are deployed');
  });

  it('a wrong file is 2 with line and column, before anything is sent', async () => {
    write('fn.yaml', 'functions:\n  api: { entry: ./api.js, memory: 1 }\n  web: { entry: ./nowhere }\n');
    const wrong = await run(['deploy']);
    expect([wrong.code, wrong.stdout, api.requests]).toEqual([2, '', []]);
    expect(wrong.stderr).toContain('  fn.yaml:2:35: functions.api.memory: must be whole MiB');
    write('fn.yaml', 'functions:\n  api: { entry: ./api.js }\n  web: { entry: ./nowhere }\n');
    const missing = await run(['deploy']);
    expect([missing.code, api.requests]).toEqual([2, []]);
    expect(missing.stderr).toContain(`  fn.yaml:3:17: functions.web: there is no file or folder ${folder}/nowhere`);
    rmSync(join(folder, 'fn.yaml'));
    expect((await run(['deploy'])).stderr).toMatch(/^error: there is no fn\.yaml in .*\n {2}→ Name a source: fn deploy FILE\|DIR/);
  });

  it('where nothing answers it is 4, told once', async () => {
    const result = await run(['deploy'], { FN_URL: 'http://127.0.0.1:1' });
    expect([result.code, result.stdout]).toEqual([4, '']);
    expect(result.stderr.match(/no control API answers/g)).toHaveLength(1);
  });

  it('Ctrl-C abandons what is not committed, and says so', async () => {
    const controller = new AbortController();
    const aborted = new Promise<void>((resolve) => {
      api.server.on('request', (incoming) => {
        if (incoming.method !== 'PUT' || controller.signal.aborted) return;
        controller.abort(new Error('interrupted'));
        resolve();
      });
    });
    const result = await run(['deploy'], {}, controller.signal);
    await aborted;
    expect(result.code).toBe(130);
    expect(result.stdout).toMatch(/^api +abandoned/m);
    expect(result.stdout).toMatch(/^web +abandoned/m);
    expect(changes().some((line) => line.startsWith('POST'))).toBe(false);
  });

  it('--no-traffic makes revisions that only their preview URL leads to, once', async () => {
    await run(['deploy']);
    write('web/index.js', "export const GET = () => new Response('next');\n");
    const { functions } = (await json(['deploy', 'web', '--no-traffic', '--message', 'try this'])) as {
      functions: { previewUrl: string }[];
    };
    expect(functions[0]).toMatchObject({ result: 'updated', revision: 2, previewUrl: 'http://127.0.0.1:9/web@2' });
    expect(api.functions.view('default', 'web').traffic).toEqual([{ revision: 1, percent: 100 }]);
    expect(await results(['deploy', 'web', '--no-traffic'])).toEqual({ web: 'unchanged' });
    expect((await run(['revisions', 'web'])).stdout).toMatch(/^ +2 +– .* http:\/\/127\.0\.0\.1:9\/web@2 +try this$/m);
    expect(await results(['deploy', 'web'])).toEqual({ web: 'updated' });
  });
});

describe('fn deploy of a path', () => {
  it('takes every setting as an option', async () => {
    const result = await run([
      'deploy',
      './api.js',
      '--memory',
      '1Gi',
      '--timeout',
      '5m',
      '--cpu',
      '500m',
      '--keep-alive',
      '0',
      '--max-stream',
      '2h',
      '--concurrency',
      '3',
      '--secret',
      'ONE',
      '--secret',
      'TWO',
      '--auth',
      '{"jwt": {"issuer": "me", "audience": "you"}}',
      '--route',
      'GET api.example.com/users/:id',
      '--message',
      'commit 1',
    ]);
    expect([result.code, result.stdout]).toEqual([0, 'http://127.0.0.1:9/api\n']);
    const view = api.functions.view('default', 'api');
    expect(view.revision).toMatchObject({
      message: 'commit 1',
      settings: {
        memoryMib: 1024,
        timeoutSeconds: 300,
        cpu: 0.5,
        keepAliveSeconds: 0,
        maxStreamSeconds: 7200,
        concurrency: 3,
        secrets: ['ONE', 'TWO'],
      },
    });
    expect(view.access).toMatchObject({
      auth: { type: 'jwt', issuer: 'me' },
      routes: [{ host: 'api.example.com', path: '/users/:id', methods: ['GET'] }],
    });
  });

  it('leaves what its options do not name of routes and auth as it was', async () => {
    await run(['deploy', './api.js', '--auth', 'token']);
    await run(['deploy', './api.js', '--route', '/users']);
    expect(api.functions.view('default', 'api').access).toMatchObject({ auth: { type: 'token' }, routes: [{ path: '/users' }] });
    await run(['deploy', './api.js']);
    expect(api.functions.view('default', 'api')).toMatchObject({
      revisions: [3, 2, 1],
      access: { auth: { type: 'token' }, routes: [{ path: '/users' }] },
    });
  });

  it('--no-traffic prints the preview URL; the first revision gets the traffic all the same', async () => {
    const first = await run(['deploy', './api.js', '--no-traffic']);
    expect(first.stdout).toBe('http://127.0.0.1:9/api\n');
    expect(first.stderr).toContain('the first revision of a function gets the traffic');
    expect((await run(['deploy', './api.js', '--no-traffic'])).stdout).toBe('http://127.0.0.1:9/api@2\n');
    expect(api.functions.view('default', 'api').traffic).toEqual([{ revision: 1, percent: 100 }]);
  });
});

describe('fn diff', () => {
  it('shows what would change, and changes nothing', async () => {
    await run(['deploy', 'api']);
    await run(['deploy', './api.js', '--name', 'stranger']);
    api.requests.length = 0;
    write(
      'fn.yaml',
      'defaults: { memory: 256 }\nfunctions:\n  api: { entry: ./api.js, env: { SECRET: shown, NEW: "1" }, auth: token, routes: [GET /users] }\n  web:\n    entry: ./web\n',
    );
    const shown = await run(['diff']);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toBe(
      [
        '~ api  changed',
        '    memory      64 MiB → 256 MiB',
        '    env.NEW     added',
        '    env.SECRET  changed',
        '    routes      + GET /users',
        '    auth        {"type":"public"} → {"type":"token"}',
        '+ web  added',
        '',
      ].join('\n'),
    );
    expect(shown.stderr).toBe('note  deployed, and not in fn.yaml: stranger\n');
    expect(changes()).toEqual([]);
    expect((await run(['diff', '--exit-code'])).code).toBe(1);
    await run(['deploy']);
    const after = await run(['diff', '--exit-code']);
    expect([after.code, after.stdout]).toEqual([0, '  api  unchanged\n  web  unchanged\n']);
    write('api.js', "export const GET = () => new Response('other');\n");
    expect((await run(['diff', 'api'])).stdout).toMatch(/^~ api {2}changed\n {4}code {2}[0-9a-f]{12} → [0-9a-f]{12}\n$/);
    expect(await json(['diff', 'api'])).toMatchObject({
      environment: null,
      functions: [
        {
          name: 'api',
          state: 'changed',
          changes: [{ field: 'code', from: expect.stringMatching(/^sha256:/), to: expect.stringMatching(/^sha256:/) }],
        },
      ],
      others: [{ name: 'stranger' }],
    });
  });

  it('a function that does not build is told, and ends with 1', async () => {
    write('api.js', 'export const GET = (\n');
    const result = await run(['diff']);
    expect(result.code).toBe(1);
    expect(result.stdout).toBe('! api  failed\n+ web  added\n');
    expect(result.stderr).toContain('error: api: api.js does not build');
    expect((await run(['diff', './api.js'])).stderr).toContain('./api.js is no function of an fn.yaml');
  });
});

describe('revisions and traffic', () => {
  beforeEach(async () => {
    for (const text of ['one', 'two', 'three']) {
      write('api.js', `export const GET = () => new Response('${text}');\n`);
      await run(['deploy', './api.js']);
    }
  });

  const traffic = () => api.functions.view('default', 'api').traffic;

  it('rollback goes to the revision before, or to one that is named; builds nothing', async () => {
    api.requests.length = 0;
    const back = await run(['rollback', 'api']);
    expect([back.code, back.stdout]).toEqual([0, 'http://127.0.0.1:9/api\n']);
    expect(back.stderr).toMatch(/^api: 3 → 2 in /);
    expect(changes()).toEqual(['PUT /v1/namespaces/default/functions/api/traffic']);
    expect(traffic()).toEqual([{ revision: 2, percent: 100 }]);
    expect(await json(['rollback', 'api', '3'])).toMatchObject({
      from: [{ revision: 2 }],
      to: [{ revision: 3 }],
      function: { traffic: [{ revision: 3, percent: 100 }] },
    });
    await run(['rollback', 'api', '1']);
    expect((await run(['rollback', 'api'])).stderr).toBe('error: no revision before 1 is kept\n  → Kept are: 3, 2, 1. See fn revisions.\n');
    const stranger = await run(['rollback', 'api', '9']);
    expect([stranger.code, stranger.stderr]).toEqual([2, 'error: revision 9 is not kept\n  → Kept are: 3, 2, 1. See fn revisions.\n']);
    expect((await run(['rollback', 'api', 'x'])).code).toBe(2);
  });

  it('rollback of a split takes back its newest part', async () => {
    await run(['traffic', 'api', '2=90', '3=10']);
    expect((await run(['rollback', 'api'])).stderr).toMatch(/^api: 2=90 3=10 → 2 in /);
    expect(traffic()).toEqual([{ revision: 2, percent: 100 }]);
  });

  it('shares are shown and set; who is sticky stays', async () => {
    expect((await run(['traffic', 'api', '2=90', 'latest=10', '--sticky', 'cookie'])).stdout).toMatch(
      /^ +3 +10% [^]*^ +2 +90% [^]*^ +1 +– /m,
    );
    expect(traffic()).toEqual([
      { revision: 2, percent: 90 },
      { revision: 3, percent: 10 },
    ]);
    const shown = await run(['traffic', 'api']);
    expect(shown.stderr).toBe('sticky  by the cookie fn-revision, for 86400 s\n');
    expect(await json(['traffic', 'api', '--sticky', 'header:X-User'])).toMatchObject({
      sticky: { by: 'header', name: 'x-user' },
      traffic: [{ revision: 2 }, { revision: 3 }],
    });
    expect((await run(['traffic', 'api', 'latest=100', '3=0', '--sticky', 'none'])).stderr).toContain('none: by chance');
    expect((await run(['list'])).stdout).toMatch(/^default +api +3 /m);
  });

  it.each([
    [['2=90'], 'the shares sum up to 90, not to 100'],
    [['2=50', '2=50'], 'a revision is named twice'],
    [['2=100', '7=0'], 'revision 7 is not kept'],
    [['two=100'], '"two=100" is not REVISION=PERCENT'],
    [['2'], '"2" is not REVISION=PERCENT'],
    [['2=101'], 'the shares sum up to 101, not to 100'],
    [['--sticky', 'cookies'], '--sticky "cookies" is not cookie, header:NAME or none'],
  ])('%j is refused', async (words, expected) => {
    api.requests.length = 0;
    const result = await run(['traffic', 'api', ...words]);
    expect([result.code, changes()]).toEqual([2, []]);
    expect(result.stderr).toContain(`error: ${expected}`);
  });

  it('what was changed meanwhile is not overwritten', async () => {
    api.server.prependListener('request', (incoming) => {
      if (incoming.method === 'PUT') api.functions.setTraffic('default', 'api', { traffic: [{ revision: 1, percent: 100 }] }, undefined);
    });
    const result = await run(['rollback', 'api']);
    expect(result.code).toBe(1);
    expect(result.stderr).toContain('It has changed meanwhile');
    expect(traffic()).toEqual([{ revision: 1, percent: 100 }]);
  });

  it('shares that somebody set are left alone while what is deployed is what the manifest says', async () => {
    await run(['traffic', 'api', '2=90', '3=10']);
    write('fn.yaml', 'functions:\n  api: { entry: ./api.js }\n');
    expect(await results(['deploy'])).toEqual({ api: 'unchanged' });
    await run(['rollback', 'api', '1']);
    expect(await results(['deploy'])).toEqual({ api: 'updated' });
    expect(traffic()).toEqual([{ revision: 4, percent: 100 }]);
  });
});

it.each<[Parameters<typeof formWords>[0], string, string]>([
  ['function', 'node', 'default export that is a function'],
  ['function', 'python', 'a plain function: main, handle or handler'],
  ['lambda', 'python', 'handler(event, context), as AWS Lambda has it'],
  ['asgi', 'python', 'an ASGI application'],
])('the form %s of %s is told in words of that language', (form, runtime, words) => expect(formWords(form, runtime)).toBe(words));
