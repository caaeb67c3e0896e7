import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../test/helpers/cli.ts';
import { engineSocket, readConfig, settingsNotes } from './config.ts';

const NEEDED = { FN_HOME: '/home', FN_DRIVER: 'process', FN_PUBLIC_URL: 'http://localhost:8080' };
const hosts = (FN_PUBLIC_HOSTS?: string) =>
  readConfig({ ...NEEDED, ...(FN_PUBLIC_HOSTS === undefined ? {} : { FN_PUBLIC_HOSTS }) }).FN_PUBLIC_HOSTS;

it('a start with settings that are wrong says which, and shows no stack', async () => {
  const folder = temporaryFolder(onTestFinished);
  const env = { FN_HOME: join(folder, 'home'), FN_DRIVER: 'kubernetes', FN_PUBLIC_URL: 'http://localhost:8080' };
  const started = async (more: Record<string, string>) => {
    const main = fileURLToPath(new URL('main.ts', import.meta.url));
    const child = spawn(process.execPath, [main], { env: { ...env, ...more }, stdio: ['ignore', 'ignore', 'pipe'] });
    const [said] = await Promise.all([text(child.stderr), once(child, 'close')]);
    expect(said.trim().split('\n')).toHaveLength(1);
    return JSON.parse(said) as { msg: string; stack?: string };
  };
  const [typo, cluster] = await Promise.all([
    started({ FN_KUBERNETES: '{"namespce":"x"}' }),
    started({ KUBECONFIG: join(folder, 'none') }),
  ]);
  expect(typo).toMatchObject({ msg: 'settings are wrong:\n  FN_KUBERNETES: Unrecognized key: "namespce"' });
  expect(cluster).toMatchObject({ msg: expect.stringContaining(`There is no kubeconfig at ${join(folder, 'none')}`) });
  expect([typo.stack, cluster.stack]).toEqual([undefined, undefined]);
});

describe('FN_PUBLIC_HOSTS', () => {
  it.each([
    [undefined, []],
    ['', []],
    ['gateway.corp', ['gateway.corp']],
    [' Gateway.Corp, *.apps.corp ,', ['gateway.corp', '*.apps.corp']],
  ])('%j is %j', (text, expected) => expect(hosts(text)).toEqual(expected));

  it.each(['http://gateway.corp', 'gateway.corp:8080', 'a b', '*'])('%j is no list of hosts', (text) => {
    expect(() => hosts(text)).toThrow(/FN_PUBLIC_HOSTS.*must be a host name/);
  });
});

describe('links over TCP', () => {
  it('need a token', () => {
    const listens = (env: NodeJS.ProcessEnv) => () => readConfig({ ...NEEDED, ...env });
    expect(listens({ FN_LINK_LISTEN: '0.0.0.0:7071' })).toThrow(/FN_LINK_TOKEN_FILE: must be given/);
    expect(listens({ FN_EVENTS_LISTEN: '[::]:7072' })).toThrow(/FN_LINK_TOKEN_FILE: must be given/);
    expect(listens({ FN_LINK_LISTEN: '0.0.0.0:7071', FN_LINK_TOKEN_FILE: '/etc/fn/link' })).not.toThrow();
  });
});

describe('DOCKER_HOST', () => {
  const ON = { ...NEEDED, FN_DRIVER: 'docker' };

  it.each([
    [undefined, undefined],
    ['', undefined],
    ['unix:///run/user/1000/docker.sock', '/run/user/1000/docker.sock'],
    ['/run/docker.sock', '/run/docker.sock'],
  ])('%j is %j', (DOCKER_HOST, expected) => expect(engineSocket(readConfig({ ...ON, DOCKER_HOST }))).toBe(expected));

  it('an engine of another host is refused, where one is used', () => {
    expect(() => readConfig({ ...ON, DOCKER_HOST: 'tcp://10.0.0.1:2375' })).toThrow(/DOCKER_HOST: must be unix:\/\/\/PATH/);
    expect(() => readConfig({ ...NEEDED, DOCKER_HOST: 'tcp://10.0.0.1:2375' })).not.toThrow();
  });
});

describe('on Kubernetes', () => {
  const LEASE = JSON.stringify({ lease: { namespace: 'fn', name: 'fn-controller' } });
  const ON = { ...NEEDED, FN_DRIVER: 'kubernetes' };
  const SEVERAL = { ...ON, FN_KUBERNETES: LEASE, FN_STORE: 'redis://redis:6379/0', FN_SECRET_KEY_FILE: '/etc/fn/secret.key' };

  it('what this machine has says nothing of what there is room for; what is not said is told', () => {
    expect(readConfig(ON)).toMatchObject({ FN_MEMORY_BUDGET_MIB: 4_096, FN_MAX_CREATES: 10, FN_CPU_BUDGET: 100_000 });
    expect(readConfig({ ...ON, FN_MEMORY_BUDGET_MIB: '65536', FN_MAX_CREATES: '4' })).toMatchObject({
      FN_MEMORY_BUDGET_MIB: 65_536,
      FN_MAX_CREATES: 4,
    });
    expect(settingsNotes(readConfig(ON), ON)).toEqual([expect.stringMatching(/FN_MEMORY_BUDGET_MIB is not set: .* 4096 MiB/)]);
    expect(settingsNotes(readConfig(ON), { ...ON, FN_MEMORY_BUDGET_MIB: '1' })).toEqual([]);
    expect(settingsNotes(readConfig(NEEDED), NEEDED)).toEqual([]);
  });

  it('controllers without a home in common have store, key and token in common', () => {
    expect(readConfig(SEVERAL).FN_KUBERNETES.lease?.name).toBe('fn-controller');
    const faults = (env: NodeJS.ProcessEnv) => () => readConfig(env);
    expect(faults({ ...ON, FN_KUBERNETES: LEASE, FN_API_LISTEN: '0.0.0.0:7070' })).toThrow(
      /FN_STORE: must be a Redis.*\n.*FN_SECRET_KEY_FILE: must be given.*\n.*FN_API_TOKEN_FILE: must be given/,
    );
    expect(faults({ ...SEVERAL, FN_API_LISTEN: '0.0.0.0:7070', FN_API_TOKEN_FILE: '/etc/fn/token' })).not.toThrow();
    expect(faults({ ...SEVERAL, FN_DRIVER: 'docker', FN_STORE: 'sqlite' })).not.toThrow();
  });
});
