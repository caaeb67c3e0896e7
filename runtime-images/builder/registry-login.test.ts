import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { registryLogin, registryOf } from './registry-login.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');

function environment(config: unknown): NodeJS.ProcessEnv {
  const folder = mkdtempSync(join(tmpdir(), 'fn-login-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
  return { ...process.env, DOCKER_CONFIG: folder, PATH: `${folder}:${process.env.PATH}` };
}

/** A credential helper as Docker has them, which knows one registry. */
function helper(env: NodeJS.ProcessEnv, name: string, script: string): void {
  const path = join(env.DOCKER_CONFIG!, `docker-credential-${name}`);
  writeFileSync(path, `#!/bin/sh\nread -r host || true\n${script}\n`);
  chmodSync(path, 0o755);
}

describe('the registry of a repository', () => {
  it.each([
    ['registry.example.com/team/fn', 'registry.example.com'],
    ['127.0.0.1:5000/fn', '127.0.0.1:5000'],
    ['localhost/fn', 'localhost'],
    ['team/fn', 'docker.io'],
    ['fn', 'docker.io'],
  ])('of %s is %s', (repository, registry) => expect(registryOf(repository)).toBe(registry));
});

describe('the login for a registry', () => {
  it('is the one of docker login, a password with colons too', async () => {
    const env = environment({
      auths: { 'registry.example.com': { auth: base64('robot:pass:word') }, 'other.example': { auth: base64('a:b') } },
    });
    expect(await registryLogin('registry.example.com/fn', env)).toEqual({
      serveraddress: 'registry.example.com',
      username: 'robot',
      password: 'pass:word',
    });
  });

  it('of Docker’s own registry is under the name that Docker gives it', async () => {
    const env = environment({ auths: { 'https://index.docker.io/v1/': { identitytoken: 'a-token' } } });
    expect(await registryLogin('team/fn', env)).toEqual({ serveraddress: 'https://index.docker.io/v1/', identitytoken: 'a-token' });
  });

  it('is nothing where nobody logged in', async () => {
    const env = environment({ auths: { 'other.example': { auth: base64('a:b') } } });
    expect(await registryLogin('registry.example.com/fn', env)).toEqual({});
    expect(await registryLogin('registry.example.com/fn', { DOCKER_CONFIG: '/nowhere' })).toEqual({});
  });

  it('comes from the helper that the file names', async () => {
    const env = environment({ auths: { 'registry.example.com': {} }, credsStore: 'box' });
    helper(env, 'box', `printf '{"Username":"me","Secret":"of %s"}' "$host"`);
    expect(await registryLogin('registry.example.com/fn', env)).toMatchObject({ username: 'me', password: 'of registry.example.com' });
  });

  it('a helper’s <token> is an identity token', async () => {
    const env = environment({ credHelpers: { 'registry.example.com': 'cloud' } });
    helper(env, 'cloud', `printf '{"Username":"<token>","Secret":"t"}'`);
    expect(await registryLogin('registry.example.com/fn', env)).toEqual({ serveraddress: 'registry.example.com', identitytoken: 't' });
  });

  it('a helper that fails is told, with its words; one that knows of none is not', async () => {
    const env = environment({ credHelpers: { 'broken.example': 'broken', 'empty.example': 'empty' } });
    helper(env, 'broken', 'echo "the keychain is locked" >&2; exit 1');
    helper(env, 'empty', 'echo "credentials not found in native keychain"; exit 1');
    await expect(registryLogin('broken.example/fn', env)).rejects.toThrow('docker-credential-broken failed: the keychain is locked');
    expect(await registryLogin('empty.example/fn', env)).toEqual({});
  });

  it('a file that is none of Docker’s is told by its path', async () => {
    const env = environment('{');
    await expect(registryLogin('registry.example.com/fn', env)).rejects.toThrow(`${env.DOCKER_CONFIG}/config.json is not a configuration`);
    const wrong = environment({ auths: { 'registry.example.com': { auth: base64('no colon') } } });
    await expect(registryLogin('registry.example.com/fn', wrong)).rejects.toThrow('run docker login again');
  });
});
