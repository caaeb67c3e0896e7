import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { StubApi } from '../test/helpers/cli-stub-api.ts';
import { createStubApi } from '../test/helpers/cli-stub-api.ts';
import { runCli, stable, temporaryFolder } from '../test/helpers/cli.ts';
import { FnError } from '#contract/errors.ts';
import { homePaths } from '#kit/paths.ts';
import { identify } from './process-identity.ts';
import { writeState } from './state.ts';

const TOKEN = 'a-token';
const PUBLIC_URL = 'http://127.0.0.1:9';

describe('a command line', () => {
  it.each([
    [['frobnicate'], 2],
    [['deploy'], 2],
    [['deploy', ''], 2],
    [['deploy', 'x.ts', '--memory', 'much'], 2],
    [['deploy', 'x.ts', '--memory', '1e18'], 2],
    [['deploy', 'x.ts', '--timeout', '0'], 2],
    [['logs', 'x', '--since', 'yesterday'], 2],
    [['up', '--port', '99999'], 2],
    [['up', '--driver', 'vmware'], 2],
    [['completion', 'tcsh'], 2],
    [['--help'], 0],
    [['runtimes', '--help'], 0],
    [['--version'], 0],
    [['version', '--json'], 0],
  ])('%j ends with %d', async (argv, code) => {
    const result = await runCli(argv);
    expect(result.code).toBe(code);
    // Data on one, talk on the other, never both.
    expect(code === 0 ? result.stderr : result.stdout).toBe('');
    expect(code === 0 ? result.stdout : result.stderr).not.toBe('');
  });

  it('that is wrong says what, and where help is', async () => {
    expect(stable(await runCli(['deploy', 'x.ts', '--memory', '-1']))).toMatchInlineSnapshot(`
      "exit 2
      --- stdout
      --- stderr
      error: these settings are not valid
        --memory "-1": must be whole MiB from 64 to 8192, such as 256, 256Mi or 1Gi
        → fn deploy --help lists what each option takes.
      "
    `);
  });

  it('without a platform says how to start one', async () => {
    const home = join(temporaryFolder(onTestFinished), 'home');
    expect(stable(await runCli(['status', '--json'], { home }))).toMatchInlineSnapshot(`
      "exit 4
      --- stdout
      {
        "running": false
      }
      --- stderr
      error: fn is not running in FOLDER/home
        → Start it: fn up --detach --home FOLDER/home
      "
    `);
    const down = await runCli(['down', '--json'], { home });
    expect(JSON.parse(down.stdout)).toEqual({ running: false, wasRunning: false, home });
    expect(down.stderr).toBe(`fn is not running in ${home}.\n`);
    // Who only looks makes nothing.
    expect(existsSync(home)).toBe(false);
  });

  it('down names the platform that other commands speak to, which it does not stop', async () => {
    const home = join(temporaryFolder(onTestFinished), 'home');
    const { code, stderr } = await runCli(['down'], { home, env: { FN_URL: 'http://127.0.0.1:9' } });
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^note: .*http:\/\/127\.0\.0\.1:9 \(FN_URL\).*runs on$/m)]);
    const said = await runCli(['down', '--home', home], { env: { FN_URL: 'http://127.0.0.1:9' } });
    expect(said.stderr).toBe(`fn is not running in ${home}.\n`);
  });

  it('up on a platform that runs names each option that had no effect', async () => {
    const home = temporaryFolder(onTestFinished);
    const running = {
      ...identify(process.pid)!,
      phase: 'ready',
      version: '0',
      host: '127.0.0.1',
      port: 9,
      url: 'http://127.0.0.1:9',
      driver: 'process',
      started: { host: '127.0.0.1', pool: '2', metrics: '127.0.0.1:9900', runtimes: 'node,python' },
      children: {},
    } as const;
    writeState(homePaths(home), running);
    const up = async (...argv: string[]) =>
      (await runCli(['up', '--detach', '--home', home, ...argv])).stderr.split('\n').slice(1).join('\n');
    expect(await up()).toBe('');
    const same = ['--port', '9', '--host', '127.0.0.1', '--driver', 'process', '--pool', '2', '--metrics', '127.0.0.1:9900'];
    expect(await up(...same, '--runtimes', 'python')).toBe('');
    expect(await up('--driver', 'auto', '--port', '0')).toBe('');
    const other = ['--port', '8080', '--driver', 'docker', '--api', '127.0.0.1:9999', '--pool', '3', '--allow-unfiltered-egress'];
    expect(await up(...other, '--runtimes', 'bun')).toBe(
      'note: --port, --driver, --api, --pool, --allow-unfiltered-egress, --runtimes had no effect: it runs with --port 9, ' +
        'with --driver process, without --api, with --pool 2, without --allow-unfiltered-egress, with --runtimes node,python\n' +
        `  to change that: fn down --home ${home}, then fn up --home ${home} --port 8080 --driver docker --api 127.0.0.1:9999 --pool 3 ` +
        '--allow-unfiltered-egress --runtimes bun\n',
    );
    expect(await up('--tls-listen', '127.0.0.1:0', '--tls-certs', home)).toContain('--tls-listen, --tls-certs had no effect');
  });

  it('with a home that cannot be made names it, and is no bug of fn', async () => {
    const folder = temporaryFolder(onTestFinished);
    writeFileSync(join(folder, 'file'), '');
    const result = await runCli(['status', '--home', join(folder, 'file/home')]);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr).toMatch(/^error: ENOTDIR: not a directory, (?:mkdir|lstat) '.*\/file\/home'\n/);
    expect(result.stderr).not.toContain('bug of fn');
  });

  it('doctor looks at the port that it was asked about, also beside a running platform', async () => {
    const home = join(temporaryFolder(onTestFinished), 'home');
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void taken.close());
    const address = taken.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const state = {
      ...identify(process.pid)!,
      phase: 'ready',
      version: '0',
      host: '127.0.0.1',
      port: 9,
      url: 'http://127.0.0.1:9',
    } as const;
    writeState(homePaths(home), { ...state, driver: 'process', started: {}, children: {} });
    expect((await runCli(['doctor'], { home })).stdout).toContain('9 is the running gateway’s');
    expect((await runCli(['doctor', '--port', '9'], { home })).stdout).toContain('9 is the running gateway’s');
    expect((await runCli(['doctor', '--port', String(port)], { home })).stdout).toContain(`${port} cannot be used (EADDRINUSE)`);
  });

  it('for another home repeats it in what to do next', async () => {
    const home = join(temporaryFolder(onTestFinished), 'my home');
    expect((await runCli(['status', '--home', home])).stderr).toContain(`→ Start it: fn up --detach --home '${home}'\n`);
  });
});

describe('against an API', () => {
  let api: StubApi;
  let url: string;
  let folder: string;

  beforeEach(async () => {
    api = createStubApi({ publicUrl: PUBLIC_URL, token: TOKEN });
    await new Promise<void>((resolve) => api.server.listen(0, '127.0.0.1', resolve));
    const address = api.server.address();
    url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
    folder = temporaryFolder(onTestFinished);
    mkdirSync(join(folder, 'hello'));
    writeFileSync(join(folder, 'hello', 'index.ts'), "export default { fetch: () => new Response('hello') };\n");
  });

  afterEach(() => void api.server.close());

  const run = (argv: string[], token = TOKEN) =>
    runCli(argv, { env: { FN_URL: url, FN_TOKEN: token }, cwd: folder, home: join(folder, 'home') });

  it('deploy prints exactly the URL on stdout and the steps on stderr', async () => {
    expect(stable(await run(['deploy', 'hello']))).toMatchInlineSnapshot(`
      "exit 0
      --- stdout
      http://127.0.0.1:9/hello
      --- stderr
      bundle  SIZE in TIME
      upload  SIZE in TIME
      start   pooled TIME, init TIME, route TIME
      form    fetch (default export with fetch), concurrency 50
      live    hello@1 in TIME total
      "
    `);
  });

  it('an unchanged bundle is not sent again; settings go as they were given', async () => {
    await run(['deploy', 'hello', '-n', 'team']);
    api.requests.length = 0;
    const again = await run([
      'deploy',
      'hello/index.ts',
      '--json',
      '-n',
      'team',
      '--memory',
      '64',
      '--egress',
      '10.0.0.0/8,192.0.2.1',
      '-e',
      'A=1=2',
      '-e',
      'B=',
    ]);
    expect(again.stderr).toContain('upload  skipped, unchanged');
    expect(api.requests.map((line) => line.replace(/[0-9a-f]{64}/, 'DIGEST'))).toEqual([
      'HEAD /v1/namespaces/team/bundles/sha256:DIGEST',
      'POST /v1/namespaces/team/functions/hello/revisions',
    ]);
    expect(JSON.parse(again.stdout)).toMatchObject({
      url: `${PUBLIC_URL}/@team/hello`,
      uploaded: false,
      revision: { settings: { memoryMib: 64, egress: ['10.0.0.0/8', '192.0.2.1'], env: { A: '1=2', B: '' } } },
    });
  });

  it('settings that are wrong are told before anything is sent', async () => {
    const result = await run(['deploy', 'hello', '--min', '3', '--max', '2', '-e', 'FN_X=1', '--egress', '10.0.0.0/99']);
    expect(stable(result)).toMatchInlineSnapshot(`
      "exit 2
      --- stdout
      --- stderr
      error: these settings are not valid
        --egress "10.0.0.0/99": must be none, internet, or hosts and IPv4 networks such as api.example.com and 10.1.2.0/24
        --env FN_X: names that begin with FN_ belong to the platform
        → fn deploy --help lists what each option takes.
      "
    `);
    expect(api.requests).toEqual([]);
  });

  it('what is wrong with a network is told once, by what was typed', async () => {
    expect((await run(['deploy', 'hello', '--egress', '10.0.0.0/8,foo'])).stderr).toBe(
      'error: these settings are not valid\n' +
        '  --egress "foo": must be none, internet, or hosts and IPv4 networks such as api.example.com and 10.1.2.0/24\n' +
        '  → fn deploy --help lists what each option takes.\n',
    );
  });

  it('a name that no function can have is refused before anything is sent', async () => {
    for (const command of ['invoke', 'describe', 'delete', 'logs']) {
      for (const name of ['API', '/api', 'http://127.0.0.1:8080/api']) {
        const result = await run([command, name]);
        expect([result.code, result.stdout]).toEqual([2, '']);
        expect(result.stderr).toContain(`error: ${JSON.stringify(name)} is not a function name: `);
      }
      expect((await run([command, 'api', '-n', 'My team'])).stderr).toContain('error: "My team" is not a namespace: ');
    }
    expect(api.requests).toEqual([]);
  });

  it('a list with nothing in it says of which namespace', async () => {
    expect((await run(['list'])).stderr).toBe('No functions yet: fn deploy FILE\n');
    expect((await run(['list', '-n', 'team'])).stderr).toBe('No functions in namespace team.\n');
  });

  it('a function that does not load is shown with its own error and place', async () => {
    const error = new FnError('deploy-refused', 'TypeError: no url (hello/index.ts:3:7)', {
      functionError: {
        name: 'TypeError',
        message: 'no url',
        at: 'index.ts:3:7',
        stack: 'TypeError: no url\n    at start (index.ts:3:7)\n    at index.ts:9:1',
      },
    });
    api.functions.refuse = { error };
    expect(stable(await run(['deploy', 'hello']))).toMatchInlineSnapshot(`
      "exit 1
      --- stdout
      --- stderr
      bundle  SIZE in TIME
      upload  SIZE in TIME
      error: The function did not load (deploy-refused)
        index.ts:3:7: TypeError: no url
          at start (index.ts:3:7)
          at index.ts:9:1
        → Correct the function. If there is a revision before this one, it keeps serving.
      "
    `);
  });

  it('fields that the API refuses are named as they were typed', async () => {
    const error = new FnError('invalid', 'There is no room for so much.', {
      errors: [{ pointer: '/settings/memoryMib', detail: 'at most 512 here' }],
    });
    api.functions.refuse = { error };
    expect(stable(await run(['deploy', 'hello', '--memory', '1Gi']))).toMatchInlineSnapshot(`
      "exit 2
      --- stdout
      --- stderr
      bundle  SIZE in TIME
      upload  SIZE in TIME
      error: Invalid input: There is no room for so much. (invalid)
        --memory: at most 512 here
        → Correct what is named above.
      "
    `);
  });

  it('a source that does not build sends nothing', async () => {
    writeFileSync(join(folder, 'broken.ts'), 'export default {\n  fetch: () => new Response("x"\n};\n');
    expect(stable(await run(['deploy', 'broken.ts']))).toMatchInlineSnapshot(`
      "exit 1
      --- stdout
      --- stderr
      error: broken.ts does not build
        broken.ts:3:1: Expected ")" but found "}"
          3 │ };
            │ ^
            ╵ )
        → Nothing was deployed.
      "
    `);
    expect(api.requests).toEqual([]);
  });

  it('a wrong token is 3, and nothing of it is shown', async () => {
    const result = await run(['list'], 'wrong-token');
    expect(result.code).toBe(3);
    expect(result.stderr).not.toContain('wrong-token');
    expect(stable(result)).toMatchInlineSnapshot(`
      "exit 3
      --- stdout
      --- stderr
      error: Not authorised: No valid token was sent. (unauthorized)
        → Log in: fn login URL; or set FN_TOKEN to a token that is good (HOME/token of that platform is one, or in Kubernetes the Secret NAME-api-token).
      "
    `);
  });

  it.each([
    [['-f', '--until', '5m'], /^error: --follow goes on/],
    [['--since', '5m', '--until', '1h'], /^error: --until is before --since/],
    [['--revision', '9'], /^error: hello has no revision 9; the newest is 2\n/],
  ])('logs %j is wrong usage, and no silence', async (argv, message) => {
    await run(['deploy', 'hello']);
    await run(['deploy', 'hello', '--memory', '256']);
    expect(await run(['logs', 'hello', ...argv])).toEqual({ code: 2, stdout: '', stderr: expect.stringMatching(message) });
    expect(await run(['logs', 'hello', '--revision', '1'])).toMatchObject({ code: 0, stderr: '' });
  });

  it('a function that is not there is 1', async () => {
    for (const argv of [
      ['describe', 'nobody'],
      ['delete', 'nobody'],
      ['logs', 'nobody'],
      ['invoke', 'nobody'],
    ]) {
      const result = await run(argv);
      expect([result.code, result.stdout]).toEqual([1, '']);
      expect(result.stderr).toContain('There is no function default/nobody. (function-not-found)');
    }
  });

  it('status, list and describe', async () => {
    await run(['deploy', 'hello', '--env', 'SECRET=hidden']);
    const shown = await Promise.all([run(['status']), run(['list']), run(['describe', 'hello'])]);
    expect(shown.map(stable).join('\n')).toMatchSnapshot();
    expect(shown.map(({ stdout }) => stdout).join('')).not.toContain('hidden');
  });

  it('logs, as text and as JSON, cannot control the terminal', async () => {
    await run(['deploy', 'hello']);
    const line = { t: Date.UTC(2026, 0, 1), revision: 'default/hello@1', instance: 'i-abcdefghijkl' } as const;
    api.logs.push(
      { ...line, level: 'info', stream: 'out', msg: 'one\u001b[2J\ntwo', req: 'r-1' },
      { ...line, level: 'error', stream: 'sys', msg: 'killed' },
    );
    expect((await run(['logs', 'hello'])).stdout).toBe(
      '2026-01-01 00:00:00.000 @1 i-abcdef r-1 one\\x1b[2J\n    two\n2026-01-01 00:00:00.000 @1 i-abcdef sys killed\n',
    );
    const json = (await run(['logs', 'hello', '--json'])).stdout.trim().split('\n');
    expect(json.map((text) => JSON.parse(text) as unknown)).toEqual(api.logs);
  });
});
