import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { runCli } from '../test/helpers/cli.ts';
import { chartValues } from './images.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

describe('the chart’s values for images', () => {
  it('of a registry name its host, and the digest; runtimes that were not pushed are off', async () => {
    const values = chartValues({
      gateway: { kind: 'platform', repository: 'registry.example.com:5000/team/fn/gateway', tag: '0.4.0-abc', digest: DIGEST },
      node: { kind: 'runtime', repository: 'registry.example.com:5000/team/fn/node', tag: 'def', digest: DIGEST },
    });
    expect(parse(values)).toEqual({
      images: { gateway: { registry: 'registry.example.com:5000', repository: 'team/fn/gateway', tag: '0.4.0-abc', digest: DIGEST } },
      runtimes: {
        node: { enabled: true, registry: 'registry.example.com:5000', repository: 'team/fn/node', tag: 'def', digest: DIGEST },
        python: { enabled: false },
        bun: { enabled: false },
        deno: { enabled: false },
        binary: { enabled: false },
      },
    });
  });

  it('of images that nodes import have no registry and no digest, and leave runtimes alone where there is none', async () => {
    const values = chartValues({ redis: { kind: 'platform', repository: 'fn/redis', tag: '0.4.0-abc' } });
    expect(parse(values)).toEqual({ images: { redis: { registry: '', repository: 'fn/redis', tag: '0.4.0-abc', digest: '' } } });
  });
});

describe('fn images', () => {
  it('refuses what is no name before anything is built', async () => {
    const { code, stdout, stderr } = await runCli(['images', 'build', 'gateway,../x']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('"../x" is not the name of an image');
  });

  it('says which images there are where one is unknown, and what a repository looks like', async () => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME };
    const unknown = await runCli(['images', 'list', 'nope'], { env });
    expect(unknown).toMatchObject({ code: 2, stdout: '' });
    expect(unknown.stderr).toBe(
      'error: no image is called nope; there is: gateway, controller, cli, redis, node, python, bun, deno, binary\n',
    );
    const { code, stderr } = await runCli(['images', 'push', 'Registry.example.com/FN!'], { env });
    expect(code).toBe(2);
    expect(stderr).toBe('error: "Registry.example.com/FN!" is not a repository; for example: registry.example.com/fn\n');
  });

  it('without an engine says where it looked and what to do', async () => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, DOCKER_HOST: 'unix:///nowhere/docker.sock' };
    const { code, stdout, stderr } = await runCli(['images', 'push', 'registry.example.com/fn', 'redis'], { env });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /^error: no Docker engine answers at unix:\/\/\/nowhere\/docker\.sock .*correct DOCKER_HOST, which names it\n {2}→ fn doctor/,
    );
  });
});
