/** fn.yaml, revisions and traffic as users meet them: through ./fn in a project of theirs, seen over HTTP. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, it } from 'vitest';
import type { CommandResult } from '../helpers/platform.ts';
import { ROOT } from '../helpers/root.ts';
import { drivers, usePlatform } from '../helpers/suite.ts';

const answer = (text: string) =>
  `export default { fetch: () => new Response(${JSON.stringify(text)} + ' ' + (process.env.STAGE ?? 'none')) };\n`;

const MANIFEST = `
defaults: { memory: 64Mi, env: { STAGE: "\${env:E2E_STAGE}" } }
functions:
  m-api: { entry: ./api.ts, routes: [GET /m-users/:id], keepAlive: 2m }
  m-web: { entry: ./web }
environments:
  staging:
    namespace: lab
    env: { STAGE: staging }
    functions: { m-api: { routes: [], timeout: 5s } }
`;

const ENV = { E2E_STAGE: 'local' };

describe.each(drivers('docker'))('a project with fn.yaml (%s)', (driver) => {
  const platform = usePlatform({ driver });
  let folder: string;

  const write = (name: string, text: string) => {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), text);
  };
  const fn = (args: string[], env: Record<string, string> = {}): Promise<CommandResult> =>
    platform().fn(args, { cwd: folder, env: { ...ENV, ...env } });
  const ok = async (args: string[], env: Record<string, string> = {}): Promise<string> => {
    const { code, stdout, stderr } = await fn(args, env);
    expect([code, stderr]).toEqual([0, expect.any(String)]);
    return stdout;
  };
  const results = async (args: string[], env: Record<string, string> = {}): Promise<Record<string, string>> => {
    const { functions } = JSON.parse(await ok([...args, '--json'], env)) as { functions: { name: string; result: string }[] };
    return Object.fromEntries(functions.map(({ name, result }) => [name, result]));
  };
  const body = async (path: string): Promise<string> => {
    const { status, text } = await platform().call(path);
    return status === 200 ? text : String(status);
  };
  const settings = async (name: string, namespace = 'default'): Promise<Record<string, unknown>> => {
    const view = JSON.parse(await ok(['describe', name, '-n', namespace, '--json'])) as { revision: { settings: Record<string, unknown> } };
    return view.revision.settings;
  };

  beforeEach(() => {
    folder = join(platform().home, 'project');
    write('.git/HEAD', 'ref: refs/heads/main\n');
    write('fn.yaml', MANIFEST);
    write('web/index.ts', answer('web'));
    write('api.ts', answer('api'));
  });

  it('is deployed by one command, then only what changed; fn diff tells before', async () => {
    expect((await fn(['diff', '--exit-code'])).stdout).toBe('+ m-api  added\n+ m-web  added\n');
    expect(await results(['deploy'])).toEqual({ 'm-api': 'created', 'm-web': 'created' });
    expect([await body('/m-api'), await body('/m-web'), await body('/m-users/7')]).toEqual(['api local', 'web local', 'api local']);
    expect(await results(['deploy'])).toEqual({ 'm-api': 'unchanged', 'm-web': 'unchanged' });
    expect((await fn(['diff', '--exit-code'])).code).toBe(0);

    write('web/index.ts', answer('web two'));
    write('fn.yaml', MANIFEST.replace('GET /m-users/:id', 'GET /m-people/:id'));
    const shown = await fn(['diff', '--exit-code']);
    expect(shown.code).toBe(1);
    expect(shown.stdout.replace(/[0-9a-f]{12}/g, 'DIGEST')).toBe(
      [
        '~ m-api  changed',
        '    routes  − GET /m-users/:id',
        '    routes  + GET /m-people/:id',
        '~ m-web  changed',
        '    code  DIGEST → DIGEST',
        '',
      ].join('\n'),
    );
    expect(await body('/m-people/7')).toBe('404');
    // From a folder of the project below its root, too.
    const below = await platform().fn(['deploy', '--json'], { cwd: join(folder, 'web'), env: ENV });
    expect(JSON.parse(below.stdout)).toMatchObject({
      functions: [
        { result: 'routed', revision: 1 },
        { result: 'updated', revision: 2 },
      ],
    });
    expect([await body('/m-people/7'), await body('/m-users/7'), await body('/m-web')]).toEqual(['api local', '404', 'web two local']);
    // A route moves from one function to the other.
    write(
      'fn.yaml',
      MANIFEST.replace(' routes: [GET /m-users/:id],', '').replace('entry: ./web', 'entry: ./web, routes: [GET /m-people/:id]'),
    );
    expect(await results(['deploy'])).toEqual({ 'm-api': 'routed', 'm-web': 'routed' });
    expect(await body('/m-people/7')).toBe('web two local');
  });

  it('has environments; options win over variables, and these over the file', async () => {
    expect(await results(['deploy', '--env', 'staging'])).toEqual({ 'm-api': 'created', 'm-web': 'created' });
    expect([await body('/@lab/m-api'), await body('/m-api')]).toEqual(['api staging', 'api local']);
    expect(await settings('m-api', 'lab')).toMatchObject({ memoryMib: 64, timeoutSeconds: 5, keepAliveSeconds: 120 });
    await ok(['deploy', 'm-api', '--timeout', '7s', '-e', 'MORE=1'], { FN_ENVIRONMENT: 'staging', FN_MEMORY: '96Mi', FN_TIMEOUT: '6s' });
    expect(await settings('m-api', 'lab')).toMatchObject({ memoryMib: 96, timeoutSeconds: 7, env: { STAGE: 'staging', MORE: '1' } });
    expect(await settings('m-api')).toMatchObject({ memoryMib: 64, timeoutSeconds: 30, env: { STAGE: 'local' } });
  });

  it('with something wrong is refused with line and column, and changes nothing', async () => {
    // Instances come and go by themselves; revisions and ETags do not.
    const kept = async () => {
      const { functions } = JSON.parse(await ok(['list', '--json'])) as {
        functions: { namespace: string; name: string; etag: string; revisions: number[] }[];
      };
      return functions.map(({ namespace, name, etag, revisions }) => ({ namespace, name, etag, revisions }));
    };
    const before = await kept();
    expect(before.length).toBeGreaterThan(0);
    write('fn.yaml', MANIFEST.replace('64Mi', '1Mi').replace('keepAlive', 'keepalive'));
    const { code, stdout, stderr } = await fn(['deploy']);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('fn.yaml:2:21: defaults.memory: must be whole MiB from 64 to 8192');
    expect(stderr).toContain('fn.yaml:4:57: functions.m-api.keepalive: there is no such field (did you mean keepAlive?)');
    write('fn.yaml', 'functions:\n  m-api: { entry: ./api.ts\n');
    expect((await fn(['deploy'])).stderr).toMatch(/fn\.yaml:\d+:\d+: /);
    expect(await kept()).toEqual(before);
  });

  it('one function that does not load leaves the others be, and its own revision serving', async () => {
    write('api.ts', "throw new Error('not today');\n");
    write('web/index.ts', answer('web three'));
    const { code, stdout, stderr } = await fn(['deploy']);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^m-api +failed/m);
    expect(stdout).toMatch(/^m-web +updated/m);
    expect(stderr).toMatch(/error: m-api: .*\(deploy-refused\)\n.*not today/);
    expect([await body('/m-api'), await body('/m-web')]).toEqual(['api local', 'web three local']);
  });

  it('shares traffic as told, goes back at once, and shows each revision at a URL of its own', async () => {
    write('fn.yaml', 'functions: { m-split: { entry: ./api.ts } }\n');
    for (const text of ['one', 'two']) {
      write('api.ts', answer(text));
      await ok(['deploy', '--message', `it says ${text}`]);
    }
    const bodies = async (count: number, headers: Record<string, string> = {}): Promise<Set<string>> =>
      new Set(await Promise.all(Array.from({ length: count }, async () => (await platform().call('/m-split', { headers })).text)));
    expect(await bodies(20)).toEqual(new Set(['two none']));
    expect([await body('/m-split@1'), await body('/m-split@2')]).toEqual(['one none', 'two none']);

    await ok(['traffic', 'm-split', '1=50', 'latest=50', '--sticky', 'header:x-user']);
    // By chance: that sixty requests all go one way happens once in 2^59 runs.
    expect(await bodies(60)).toEqual(new Set(['one none', 'two none']));
    for (const user of ['ada', 'grace', 'edsger']) expect((await bodies(10, { 'x-user': user })).size).toBe(1);

    expect((await fn(['rollback', 'm-split'])).stderr).toMatch(/^m-split: 1=50 2=50 → 1 in /);
    expect(await bodies(20)).toEqual(new Set(['one none']));
    expect(await ok(['revisions', 'm-split'])).toMatch(/^ +2 +– .*\/m-split@2 +it says two\n +1 +100% .*\/m-split@1 +it says one$/m);
    expect(await results(['deploy'])).toEqual({ 'm-split': 'updated' });
    expect(await bodies(20)).toEqual(new Set(['two none']));
    const refused = await fn(['traffic', 'm-split', '1=90']);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('the shares sum up to 90, not to 100')]);
  });

  it('Ctrl-C leaves no half revision', async () => {
    write('fn.yaml', 'functions: { m-slow: { entry: ./slow.ts } }\n');
    write('slow.ts', answer('first'));
    await ok(['deploy']);
    write('slow.ts', `await new Promise((resolve) => setTimeout(resolve, 60_000));\n${answer('second')}`);
    const run = execa(join(ROOT, 'fn'), ['deploy'], {
      cwd: folder,
      env: { ...ENV, FN_HOME: platform().home },
      reject: false,
      stdin: 'ignore',
    });
    // The upload is told when it is done: what follows is the deployment itself, which waits for the code.
    run.stderr.on('data', (chunk: Buffer) => void (chunk.toString().includes('upload') && run.kill('SIGINT')));
    const { exitCode, stdout } = await run;
    expect(exitCode).toBe(130);
    expect(stdout).toMatch(/^m-slow +abandoned/m);
    expect(await body('/m-slow')).toBe('first none');
    expect(JSON.parse(await ok(['revisions', 'm-slow', '--json']))).toMatchObject({ revisions: [{ number: 1, percent: 100 }] });
  });
});
