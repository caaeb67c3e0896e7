/** Two tenants on one platform, each with a token, through the CLI over TCP: the other's is as if it were not there. */
import { existsSync, mkdirSync, mkdtempSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { freePort, RUN_FOLDER, type CommandOptions } from '../helpers/platform.ts';
import { usePlatform } from '../helpers/suite.ts';
import { waitFor } from '../helpers/wait.ts';

const apiPort = await freePort();
mkdirSync(RUN_FOLDER, { recursive: true });
/** Where an operator keeps it who backs the home up. */
const keyFile = join(mkdtempSync(join(RUN_FOLDER, 'key-')), 'fn.key');
const HELLO = 'export default () => new Response(`hello ${process.env.KEY ?? "nobody"}`);\n';

describe('two tenants', () => {
  const platform = usePlatform({ driver: 'process', upFlags: ['--api', `127.0.0.1:${apiPort}`], env: { FN_SECRET_KEY_FILE: keyFile } });
  const tokens = new Map<string, string>();

  /** Runs the CLI as a tenant does: over TCP, with a token. */
  const as = (tenant: string, args: string[], options: CommandOptions = {}) => {
    const env = { FN_URL: `http://127.0.0.1:${apiPort}`, FN_TOKEN: tokens.get(tenant) ?? 'none', FN_NAMESPACE: tenant };
    return platform().fn(args, { ...options, env });
  };
  const owner = (args: string[], options: CommandOptions = {}) => platform().fnOk(args, options);

  it('get a token each from the owner, and deploy', async () => {
    for (const tenant of ['shop', 'blog']) {
      const { stdout } = await owner(['token', 'create', `admin of ${tenant}`, '--scope', 'admin', '-n', tenant]);
      tokens.set(tenant, stdout.trim());
      expect((await as(tenant, ['secret', 'set', 'KEY'], { input: `of ${tenant}` })).code).toBe(0);
      const deployed = await as(tenant, ['deploy', platform().write(HELLO), '--name', 'hello', '--secret', 'KEY']);
      expect({ ...deployed, stderr: '' }).toEqual({ code: 0, stdout: `${platform().url}/@${tenant}/hello\n`, stderr: '' });
      expect((await platform().call(`/@${tenant}/hello`)).text).toBe(`hello of ${tenant}`);
    }
  });

  it('the key of their secrets is where the operator wants it', () => {
    expect(statSync(keyFile)).toMatchObject({ size: 32 });
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(existsSync(join(platform().home, 'secret.key'))).toBe(false);
  });

  it('each lists and reads its own', async () => {
    const { stdout } = await as('shop', ['list', '--json']);
    const { functions } = JSON.parse(stdout) as { functions: { namespace: string; name: string }[] };
    expect(functions.map(({ namespace, name }) => `${namespace}/${name}`)).toEqual(['shop/hello']);
    const outputs = await Promise.all(
      ['list', 'secret list', 'namespace list', 'token list', 'audit'].map((line) => as('shop', line.split(' '))),
    );
    for (const { code, stdout: shown } of outputs) {
      expect(code).toBe(0);
      expect(shown).toMatch(/shop|KEY/);
      expect(shown).not.toContain('blog');
    }
  });

  it.each<[string, string[], string?]>([
    ['describe', ['describe', 'hello']],
    ['logs', ['logs', 'hello']],
    ['revisions', ['revisions', 'hello']],
    ['rollback', ['rollback', 'hello', '1']],
    ['traffic', ['traffic', 'hello', '1=100']],
    ['delete', ['delete', 'hello', '-y']],
    ['secret set', ['secret', 'set', 'KEY'], 'stolen'],
    ['secret list', ['secret', 'list']],
    ['secret delete', ['secret', 'delete', 'KEY', '-y']],
  ])('%s of the other’s ends as that of nobody’s: exit 1', async (_name, args, input) => {
    const options = input === undefined ? {} : { input };
    const [theirs, nobodys] = await Promise.all([
      as('shop', [...args, '-n', 'blog'], options),
      as('shop', [...args, '-n', 'none'], options),
    ]);
    expect(theirs.code).toBe(1);
    expect(theirs.stderr).toContain('-not-found');
    expect({ ...theirs, stderr: theirs.stderr.replaceAll('blog', 'none') }).toEqual(nobodys);
  });

  it('a deployment into the other’s namespace makes nothing there', async () => {
    const { code, stderr } = await as('shop', ['deploy', platform().write(HELLO), '--name', 'intruder', '-n', 'blog']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('not-found')]);
    const { functions } = JSON.parse((await owner(['list', '-n', 'blog', '--json'])).stdout) as { functions: { name: string }[] };
    expect(functions.map(({ name }) => name)).toEqual(['hello']);
    expect((await platform().call('/@blog/hello')).text).toBe('hello of blog');
  });

  it('a secret of the other cannot be named', async () => {
    await as('blog', ['secret', 'set', 'THEIRS'], { input: 'x' });
    const run = (name: string) => as('shop', ['deploy', platform().write(HELLO), '--name', 'hello', '--secret', name]);
    const [theirs, nobodys] = [await run('THEIRS'), await run('NOBODY')];
    expect(theirs.code).toBe(2);
    const plain = (text: string) => text.replaceAll(/THEIRS|NOBODY/g, 'NAME').replaceAll(/\d+(?:\.\d+)? (?:ms|s|B)/g, 'N');
    expect(plain(theirs.stderr)).toBe(plain(nobodys.stderr));
  });

  it('a host of the other cannot be routed', async () => {
    await owner(['namespace', 'set', 'blog', '--host', 'blog.example.com']);
    const path = `http://127.0.0.1:${apiPort}/v1/namespaces/shop/functions/hello/access`;
    const put = async (host: string) => {
      const body = JSON.stringify({ routes: [{ host }] });
      const headers = { authorization: `Bearer ${tokens.get('shop')}`, 'content-type': 'application/json' };
      const answer = await fetch(path, { method: 'PUT', headers, body });
      return `${answer.status} ${await answer.text()}`.replaceAll(host, 'HOST').replace(/"instance":"[^"]*"/, '');
    };
    const [theirs, nobodys] = [await put('blog.example.com'), await put('none.example.com')];
    expect(theirs).toMatch(/^403 /);
    expect(theirs).toBe(nobodys);
  });

  it('what the token may not at all is exit 3', async () => {
    for (const args of [
      ['status'],
      ['namespace', 'set', 'shop', '--max-functions', '9'],
      ['token', 'create', 'x', '--scope', 'read', '--all-namespaces'],
    ])
      expect(await as('shop', args)).toMatchObject({ code: 3, stdout: '' });
    expect(await as('nobody', ['list'])).toMatchObject({ code: 3, stdout: '' });
  });

  it('a quota holds: functions and bundles', async () => {
    await owner(['namespace', 'set', 'shop', '--max-functions', '1', '--max-bundle', '2000']);
    const another = await as('shop', ['deploy', platform().write(HELLO), '--name', 'another']);
    expect(another).toMatchObject({ code: 1, stderr: expect.stringContaining('quota-exceeded') });
    const long = `${HELLO}export const noise = ${JSON.stringify(Array.from({ length: 1_000 }, () => Math.random()))};\n`;
    const large = await as('shop', ['deploy', platform().write(long), '--name', 'hello']);
    expect(large).toMatchObject({ code: 1, stderr: expect.stringContaining('bundleBytes') });
    expect((await platform().call('/@shop/hello')).text).toBe('hello of shop');
  });

  it('a token that is revoked is none, at the API and at the gateway', async () => {
    const access = { auth: { type: 'token' } };
    const put = (token: string) =>
      fetch(`http://127.0.0.1:${apiPort}/v1/namespaces/blog/functions/hello/access`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(access),
      });
    const caller = JSON.parse((await as('blog', ['token', 'create', 'caller', '--scope', 'invoke', '--json'])).stdout) as {
      id: string;
      token: string;
    };
    expect((await put(caller.token)).status).toBe(403);
    expect((await put(tokens.get('blog')!)).status).toBe(200);
    const call = async (token?: string) =>
      (await platform().call('/@blog/hello', token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } })).status;
    expect(await call()).toBe(401);
    expect(await call(caller.token)).toBe(200);
    // The other tenant's admin is nobody here.
    expect(await call(tokens.get('shop'))).toBe(401);
    expect((await as('blog', ['token', 'revoke', caller.id])).code).toBe(0);
    await waitFor('the gateway to have heard', async () => (await call(caller.token)) === 401);
    expect((await put(caller.token)).status).toBe(401);
  });

  it('all of it is in the audit log', async () => {
    const { stdout } = await owner(['audit', '--limit', '1000', '--json']);
    const { entries } = JSON.parse(stdout) as { entries: { action: string; outcome: string; by: { name: string } }[] };
    const of = (action: string, outcome: string) => entries.filter((entry) => entry.action === action && entry.outcome === outcome);
    expect(of('function.deploy', 'ok').map(({ by }) => by.name)).toEqual(['admin of blog', 'admin of shop']);
    expect(of('function.deploy', 'quota-exceeded').length + of('bundle.upload', 'quota-exceeded').length).toBeGreaterThanOrEqual(2);
    expect(of('function.delete', 'function-not-found').length).toBeGreaterThan(0);
    expect(of('token.create', 'forbidden').map(({ by }) => by.name)).toEqual(['admin of shop']);
    expect(of('token.revoke', 'ok')).toHaveLength(1);
    expect(stdout).not.toMatch(/stolen|of shop"\s*,\s*"value/);
  });
});
