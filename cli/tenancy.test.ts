/** Commands about secrets, tokens, namespaces and contexts, against the real API over TCP. */
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { homePaths } from '#kit/paths.ts';
import { ApiFixture } from '../test/helpers/api-fixture.ts';
import { type CliOptions, type CliResult, runCli, temporaryFolder } from '../test/helpers/cli.ts';

let api: ApiFixture;
let url: string;
beforeAll(async () => {
  api = await ApiFixture.start();
  url = `http://127.0.0.1:${api.port}`;
});
afterAll(() => api.close());

let folder: string;
let env: NodeJS.ProcessEnv;
beforeEach(() => {
  folder = temporaryFolder(onTestFinished);
  env = { HOME: folder, FN_URL: url, FN_TOKEN: api.token };
  api.logged.length = 0;
  api.changedSecrets.length = 0;
});

const fn = (argv: string[], options: CliOptions = {}): Promise<CliResult> => runCli(argv, { env, cwd: folder, ...options });
const requests = () => api.logged.filter(({ message }) => message === 'request').length;
const valueOf = async (namespace: string, name: string) => (await api.reveal(namespace, [name])).get(name)?.value;

describe('fn secret', () => {
  it.each<[string, string, string]>([
    ['as it is', 's3cret', 's3cret'],
    ['without the end of its last line', 'two\nlines\n', 'two\nlines'],
    ['with what looks like a variable', '$HOME `id` "x"', '$HOME `id` "x"'],
  ])('set takes stdin %s', async (_name, stdin, value) => {
    const { code, stdout, stderr } = await fn(['secret', 'set', 'API_KEY'], { stdin });
    expect([code, stdout]).toEqual([0, '']);
    expect(stderr).toMatch(/^Set default\/API_KEY, version \d+\.\n$/);
    expect(stderr).not.toContain(value);
    expect(await valueOf('default', 'API_KEY')).toBe(value);
  });

  it('set says that nothing changed where the value is the same', async () => {
    await fn(['secret', 'set', 'SAME', '-n', 'fresh'], { stdin: 'one' });
    expect((await fn(['secret', 'set', 'SAME', '-n', 'fresh'], { stdin: 'one' })).stderr).toBe(
      'fresh/SAME has this value already, version 1: nothing changed.\n',
    );
    expect((await fn(['secret', 'set', 'SAME', '-n', 'fresh'], { stdin: 'two' })).stderr).toBe('Set fresh/SAME, version 2.\n');
  });

  it('set takes a file byte by byte, and an env file with all its names', async () => {
    writeFileSync(join(folder, 'key.pem'), '-----BEGIN\nünï\n');
    expect((await fn(['secret', 'set', 'PEM', '--file', 'key.pem'])).code).toBe(0);
    expect(await valueOf('default', 'PEM')).toBe('-----BEGIN\nünï\n');
    writeFileSync(join(folder, '.env'), '# comment\nONE=1\nTWO="two words"\n');
    const { code, stdout } = await fn(['secret', 'set', '--env-file', '.env', '-n', 'team', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ secrets: [{ name: 'ONE', namespace: 'team' }, { name: 'TWO' }] });
    expect([await valueOf('team', 'ONE'), await valueOf('team', 'TWO')]).toEqual(['1', 'two words']);
    expect(stdout).not.toContain('two words');
  });

  it.each<[string, string[], CliOptions]>([
    ['a value after =', ['API_KEY=hunter2'], {}],
    ['a value after a space', ['API_KEY', 'hunter2'], {}],
    ['nothing on stdin', ['API_KEY'], { stdin: '' }],
    ['only the end of a line', ['API_KEY'], { stdin: '\n' }],
    ['no name', [], { stdin: 'hunter2' }],
    ['a name that none can have', ['9LIVES'], { stdin: 'hunter2' }],
    ["the platform's name", ['FN_TOKEN'], { stdin: 'hunter2' }],
    ['a file that is not there', ['API_KEY', '--file', 'missing'], {}],
    ['NUL', ['API_KEY'], { stdin: 'hunter2\0' }],
    ['too much', ['API_KEY'], { stdin: 'hunter2'.repeat(10_000) }],
    ['two sources', ['API_KEY', '--env-file', 'x'], {}],
  ])('set refuses %s: exit 2, nothing is sent, the value is not shown', async (_name, args, options) => {
    const { code, stdout, stderr } = await fn(['secret', 'set', ...args], options);
    expect([code, stdout, requests()]).toEqual([2, '', 0]);
    expect(stderr).not.toContain('hunter2');
    expect(stderr).toMatch(/^error: /);
  });

  it('set of an env file with one bad name sets none', async () => {
    writeFileSync(join(folder, '.env'), 'FIRST=1\nFN_BAD=2\n');
    expect((await fn(['secret', 'set', '--env-file', '.env', '-n', 'partly'])).code).toBe(2);
    expect(requests()).toBe(0);
  });

  it('list and delete', async () => {
    expect((await fn(['secret', 'list', '-n', 'empty'])).stderr).toBe('No secrets in namespace empty.\n');
    await fn(['secret', 'set', 'GONE', '-n', 'one'], { stdin: 'x' });
    const { stdout } = await fn(['secret', 'list', '-n', 'one']);
    expect(
      stdout
        .replace(/\d+s/, 'AGE')
        .split('\n')
        .map((line) => line.trim().split(/\s{2,}/)),
    ).toEqual([['NAME', 'VERSION', 'AGE', 'USED BY'], ['GONE', '1', 'AGE', '–'], ['']]);
    expect((await fn(['secret', 'delete', 'GONE', '-n', 'one', '--json'])).stdout).toBe(
      '{\n  "deleted": true,\n  "namespace": "one",\n  "name": "GONE"\n}\n',
    );
    const again = await fn(['secret', 'delete', 'GONE', '-n', 'one']);
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('secret-not-found')]);
  });
});

describe('fn token', () => {
  it('create prints the token alone; list never does; revoke ends it', async () => {
    const made = await fn(['token', 'create', 'ci', '--scope', 'deploy', '--scope', 'invoke', '-n', 'shop', '--expires', '90d']);
    expect(made.code).toBe(0);
    const token = made.stdout.trim();
    expect(token).toMatch(/^fn_[a-z0-9]{12}_[\w-]{43}$/);
    expect(made.stderr).not.toContain(token);
    const as = { env: { HOME: folder, FN_URL: url, FN_TOKEN: token } };
    expect(JSON.parse((await fn(['whoami', '--json'], as)).stdout)).toMatchObject({
      name: 'ci',
      scopes: ['deploy', 'invoke'],
      namespaces: ['shop'],
    });

    const { stdout } = await fn(['token', 'list']);
    const id = /t-[a-z0-9]{12}/.exec(stdout)![0];
    expect(stdout).toContain('good for 89d');
    expect(stdout + (await fn(['token', 'list', '--json'])).stdout).not.toContain(token.slice(-43));

    expect((await fn(['token', 'revoke', id])).stderr).toBe(`Revoked ${id}.\n`);
    expect((await fn(['whoami'], as)).code).toBe(3);
    expect((await fn(['token', 'list'])).stdout).toContain('revoked');
    expect((await fn(['token', 'revoke', 't-zzzzzzzzzzzz'])).code).toBe(1);
  });

  it.each([
    ['no scope', ['token', 'create', 'x']],
    ['a scope that is none', ['token', 'create', 'x', '--scope', 'root']],
    ['both kinds of namespaces', ['token', 'create', 'x', '--scope', 'read', '-n', 'a', '--all-namespaces']],
    ['no duration', ['token', 'create', 'x', '--scope', 'read', '--expires', 'soon']],
    ['a token as an id', ['token', 'revoke', `fn_${'a'.repeat(12)}_${'b'.repeat(43)}`]],
  ])('refuses %s', async (_name, argv) => {
    const { code, stderr } = await fn(argv);
    expect([code, requests()]).toEqual([2, 0]);
    expect(stderr).not.toContain('b'.repeat(43));
  });
});

describe('fn namespace', () => {
  it('set changes what is named and keeps the rest; list shows it; delete', async () => {
    expect((await fn(['namespace', 'set', 'shop', '--max-functions', '20', '--max-rps', '5.5', '--host', 'shop.example.com'])).code).toBe(
      0,
    );
    const set = await fn(['namespace', 'set', 'shop', '--max-rps', 'none', '--max-bundle', '1000', '--json']);
    expect(JSON.parse(set.stdout)).toMatchObject({
      name: 'shop',
      hosts: ['shop.example.com'],
      quota: { functions: 20, requestsPerSecond: null, bundleBytes: 1000 },
    });
    expect((await fn(['namespace', 'list'])).stdout).toMatch(/^shop\s+0\/20\s+0 MiB\s+–\s+–\s+1\.0 kB\s+shop\.example\.com\s+default$/m);
    expect(JSON.parse((await fn(['namespace', 'set', 'shop', '--no-hosts', '--json'])).stdout)).toMatchObject({ hosts: [] });
    const networks = async (...argv: string[]): Promise<unknown> =>
      (JSON.parse((await fn(['namespace', 'set', 'shop', ...argv, '--json'])).stdout) as { networks: unknown }).networks;
    expect(await networks('--networks', '10.1.2.0/24, 192.0.2.7/32')).toEqual(['10.1.2.0/24', '192.0.2.7/32']);
    expect(await networks('--max-functions', '21')).toEqual(['10.1.2.0/24', '192.0.2.7/32']);
    expect(await networks('--networks', 'none')).toEqual([]);
    expect(await networks('--networks', 'default')).toBeNull();
    expect(await fn(['namespace', 'set', 'shop', '--networks', '10.0.0.0/99'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('networks.0: '),
    });
    expect((await fn(['namespace', 'delete', 'shop'])).code).toBe(0);
    expect((await fn(['namespace', 'delete', 'shop'])).code).toBe(1);
  });

  it.each([
    ['--max-functions', 'many'],
    ['--max-functions', '-1'],
    ['--max-functions', '1.5'],
    ['--host', 'UPPER.example.com'],
  ])('set %s %s: exit 2', async (flag, value) => {
    expect((await fn(['namespace', 'set', 'shop', flag, value])).code).toBe(2);
  });
});

it('fn audit tells who did what, never a value', async () => {
  await fn(['secret', 'set', 'CANARY', '-n', 'audited'], { stdin: 'canary-value' });
  await fn(['secret', 'delete', 'MISSING', '-n', 'audited', '-y']);
  const { stdout } = await fn(['audit', '-n', 'audited']);
  expect(stdout.split('\n')[1]).toMatch(/owner\s+secret\.delete\s+audited\s+MISSING\s+secret-not-found$/);
  expect(stdout.split('\n')[2]).toMatch(/owner\s+secret\.set\s+audited\s+CANARY\s+ok$/);
  const json = (await fn(['audit', '-n', 'audited', '--since', '1h', '--limit', '1', '--json'])).stdout;
  expect(JSON.parse(json)).toMatchObject({ entries: [{ action: 'secret.delete' }] });
  expect((await fn(['audit', '--json'])).stdout).not.toContain('canary-value');
  expect((await fn(['audit', '-n', 'nobody'])).stderr).toBe('Nothing was changed.\n');
});

describe('fn login and fn context', () => {
  /** A user who has set nothing in the environment. */
  const plainUser = () => ({ env: { HOME: folder } });
  const file = () => join(folder, '.config/fn/contexts.json');

  it('checks the token, keeps it for its owner only, and speaks to that platform from then on', async () => {
    const { token } = await api.tokenFor(['shop'], 'deploy');
    const made = await fn(['login', url], { ...plainUser(), stdin: `${token}\n` });
    expect([made.code, made.stdout]).toEqual([0, '']);
    expect(made.stderr).toContain('deploy for shop');
    expect(made.stderr).not.toContain(token);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(file(), 'utf8'))).toMatchObject({ current: `127.0.0.1:${api.port}` });

    expect((await fn(['context', 'show'], plainUser())).stdout).toBe(`${url} (context 127.0.0.1:${api.port})\n`);
    // Its one namespace is what commands are about.
    expect((await fn(['secret', 'set', 'FROM_CONTEXT'], { ...plainUser(), stdin: 'x' })).stderr).toContain('Set shop/FROM_CONTEXT');
    expect((await fn(['context', 'list', '--json'], plainUser())).stdout).not.toContain(token);
  });

  it('keeps nothing where the token is wrong: exit 3', async () => {
    const { code, stderr } = await fn(['login', url], { ...plainUser(), stdin: 'wrong-token' });
    expect(code).toBe(3);
    expect(stderr).not.toContain('wrong-token');
    expect(existsSync(file())).toBe(false);
  });

  it.each([
    ['a URL that is none', ['login', 'fn.example.com'], 'x'],
    ['another protocol', ['login', 'ftp://fn.example.com'], 'x'],
    ['a password in the URL', ['login', 'http://me:hunter2@127.0.0.1:9'], 'x'],
    ['a token with a line in it', ['login', 'http://127.0.0.1:9'], 'hunter2\nhunter2'],
    ['no token', ['login', 'http://127.0.0.1:9'], ''],
    ['no URL', ['login'], 'x'],
    ['a name that is none', ['login', 'http://127.0.0.1:9', '--context', '../x'], 'x'],
  ])('refuses %s: exit 2', async (_name, argv, stdin) => {
    const { code, stderr } = await fn(argv, { ...plainUser(), stdin });
    expect(code).toBe(2);
    expect(stderr).not.toContain('hunter2');
  });

  it('with a token that is not good says what may be wrong with it: exit 3, and nothing is kept', async () => {
    const { code, stderr } = await fn(['login', url], { ...plainUser(), stdin: 'hunter2' });
    expect([code, stderr]).toEqual([3, expect.stringMatching(/does not take this token \(unauthorized\)\n {2}→ It is mistyped, revoked/)]);
    expect(stderr).not.toMatch(/hunter2|fn login/);
    expect(existsSync(file())).toBe(false);
  });

  it('at an address that is no control API says so', async () => {
    const { createServer } = await import('node:http');
    const other = createServer((_, response) => response.writeHead(404).end('nothing here'));
    onTestFinished(() => void other.close());
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const address = other.address();
    const at = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
    const { code, stderr } = await fn(['login', at], { ...plainUser(), stdin: 'x' });
    expect([code, stderr]).toEqual([1, expect.stringContaining('does not answer as a control API')]);
  });

  it('keeps where functions are called from here, and fn invoke calls them there, also for later', async () => {
    const { createServer } = await import('node:http');
    const paths: string[] = [];
    const gateway = createServer(({ url: path = '', headers }, response) => {
      paths.push(path);
      if (headers.prefer !== 'respond-async') return void response.end('from the forwarded port');
      response
        .writeHead(202, {
          location: 'http://localhost:8080/hello/.fn/invocations/e-0123456789abcdefghijklmn',
          'preference-applied': 'respond-async',
        })
        .end();
    });
    onTestFinished(() => void gateway.close());
    await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve));
    const address = gateway.address();
    const at = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
    const bundle = await api.upload();
    await api.json('POST', '/v1/namespaces/default/functions/hello/revisions', { bundle, entry: 'index.mjs', settings: {} });

    const login = (...more: string[]) => fn(['login', url, '--context', 'pods', ...more], { ...plainUser(), stdin: api.token });
    expect((await login('--gateway', 'not a url')).code).toBe(2);
    expect((await login('--gateway', `${at}/`)).code).toBe(0);
    expect(JSON.parse((await fn(['context', 'show', '--json'], plainUser())).stdout)).toMatchObject({ gateway: at });
    expect((await fn(['invoke', 'hello', '--path', '/a?b=1'], plainUser())).stdout).toBe('from the forwarded port');
    expect(paths).toEqual(['/hello/a?b=1']);
    // A new token leaves the place as it is.
    expect((await login()).code).toBe(0);
    expect((await fn(['invoke', 'hello'], plainUser())).stdout).toBe('from the forwarded port');
    const later = await fn(['invoke', 'hello', '--async'], plainUser());
    expect(later.stderr).toContain(`accepted: ${at}/hello/.fn/invocations/e-0123456789abcdefghijklmn`);

    gateway.close();
    gateway.closeAllConnections();
    const gone = await fn(['invoke', 'hello'], plainUser());
    expect([gone.code, gone.stderr]).toEqual([4, expect.stringContaining('Is its port still forwarded?')]);
  });

  it('where nothing answers: exit 4', async () => {
    expect((await fn(['login', 'http://127.0.0.1:9'], { ...plainUser(), stdin: 'x' })).code).toBe(4);
  });

  it('uses, shows and forgets contexts', async () => {
    const user = plainUser();
    for (const name of ['one', 'two']) await fn(['login', url, '--context', name], { ...user, stdin: api.token });
    expect((await fn(['context', 'list'], user)).stdout).toMatch(/^\*\s+two\s+http/m);
    expect((await fn(['context', 'use', 'one'], user)).code).toBe(0);
    expect((await fn(['context', 'show', '--json'], user)).stdout).toContain('context one');
    expect((await fn(['context', 'delete', 'one'], user)).code).toBe(0);
    expect((await fn(['context', 'show'], user)).stdout).toMatch(/^the home /);
    expect((await fn(['context', 'use', 'one'], user)).code).toBe(2);
    expect((await fn(['context', 'use', 'two'], user)).code).toBe(0);
    expect((await fn(['context', 'use', '-'], user)).code).toBe(0);
    expect((await fn(['context', 'show'], user)).stdout).toMatch(/^the home /);
  });

  it('the first that is said counts: --context, --home, FN_URL, FN_HOME, the current one, the home', async () => {
    await fn(['login', url, '--context', 'current'], { ...plainUser(), stdin: api.token });
    await fn(['login', url, '--context', 'other'], { ...plainUser(), stdin: api.token });
    await fn(['context', 'use', 'current'], plainUser());
    const home = homePaths(join(folder, 'home')).home;
    const shown = async (more: NodeJS.ProcessEnv, ...flags: string[]) => {
      const { code } = await fn(['whoami', ...flags], { env: { HOME: folder, ...more }, home });
      return code;
    };
    const nowhere = { FN_URL: 'http://127.0.0.1:9', FN_TOKEN: 'x' };
    expect(await shown({})).toBe(0);
    expect(await shown({ FN_HOME: home })).toBe(4);
    expect(await shown({ ...nowhere })).toBe(4);
    expect(await shown({ ...nowhere }, '--context', 'other')).toBe(0);
    expect(await shown({}, '--home', home)).toBe(4);
    expect(await shown({}, '--home', home, '--context', 'other')).toBe(0);
    expect(await shown({}, '--context', 'nobody')).toBe(2);
  });

  it('a token goes only where it came from', async () => {
    const { token: mine } = await api.tokenFor(['shop'], 'read');
    await fn(['login', url, '--context', 'mine'], { ...plainUser(), stdin: mine });
    // FN_TOKEN belongs to FN_URL: neither is it sent to the context's, nor the context's to FN_URL.
    expect((await fn(['whoami', '--context', 'mine', '--json'], { env: { HOME: folder, FN_TOKEN: api.token } })).stdout).toContain(
      '"shop"',
    );
    expect((await fn(['whoami'], { env: { HOME: folder, FN_URL: url } })).code).toBe(3);
  });

  it('a file that others can read is refused, and so is one that holds something else', async () => {
    await fn(['login', url], { ...plainUser(), stdin: api.token });
    chmodSync(file(), 0o644);
    expect(await fn(['whoami'], plainUser())).toMatchObject({ code: 2, stderr: expect.stringContaining('chmod 600') });
    chmodSync(file(), 0o600);
    writeFileSync(file(), '{"current": 5}');
    expect(await fn(['whoami'], plainUser())).toMatchObject({ code: 2, stderr: expect.stringContaining('log in again') });
  });
});

it('a deployment to a namespace that the token is not for advises to look at the token', async () => {
  const { token } = await api.tokenFor(['shop'], 'deploy');
  writeFileSync(join(folder, 'rev.mjs'), "export default () => 'x';\n");
  const { code, stderr } = await fn(['deploy', 'rev.mjs', '-n', 'theirs'], { env: { HOME: folder, FN_URL: url, FN_TOKEN: token } });
  expect([code, stderr]).toEqual([1, expect.stringMatching(/nothing can be deployed to the namespace theirs \(not-found\)\n.*fn whoami/)]);
});

it('what a token may not is exit 3; what it may not see is exit 1, as what is not there', async () => {
  const { token } = await api.tokenFor(['shop'], 'read');
  const as = { env: { HOME: folder, FN_URL: url, FN_TOKEN: token } };
  expect((await fn(['secret', 'set', 'X', '-n', 'shop'], { ...as, stdin: 'x' })).code).toBe(3);
  expect((await fn(['status'], as)).code).toBe(3);
  const theirs = await fn(['secret', 'delete', 'X', '-n', 'theirs'], as);
  const nobodys = await fn(['secret', 'delete', 'X', '-n', 'nobody'], as);
  expect(theirs.code).toBe(1);
  expect(theirs.stderr.replaceAll('theirs', 'NS')).toBe(nobodys.stderr.replaceAll('nobody', 'NS'));
});
