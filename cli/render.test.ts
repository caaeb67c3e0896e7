import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { FunctionSpec } from '#contract/function-resource.ts';
import { accessOf, settingsOf } from '#contract/manifest-function.ts';
import { runCli, temporaryFolder } from '../test/helpers/cli.ts';

const Rendered = z.object({
  apiVersion: z.literal('fn.dev/v1alpha1'),
  kind: z.literal('Function'),
  metadata: z.object({ name: z.string(), namespace: z.string().optional() }),
  spec: FunctionSpec,
});

let folder: string;
const write = (name: string, text: string): void => {
  mkdirSync(join(folder, name, '..'), { recursive: true });
  writeFileSync(join(folder, name), text);
};
const run = (...argv: string[]) => runCli(['render', ...argv], { env: {}, cwd: folder, home: join(folder, 'home') });
const render = async (...argv: string[]) => {
  const { code, stdout, stderr } = await run(...argv);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return parseAllDocuments(stdout).map((document) => Rendered.parse(document.toJS()));
};

beforeEach(() => {
  folder = temporaryFolder(onTestFinished);
  write('api.js', "export const GET = () => new Response('api');\n");
  write('web/index.js', "export const GET = () => new Response('web');\n");
  write('fn.yaml', 'namespace: shop\nfunctions:\n  api: { entry: ./api.js, cpu: 500m }\n  web: { entry: ./web, memory: 1Gi }\n');
});

describe('fn render', () => {
  it('prints an object with the code inside, the same bytes each time', async () => {
    const [one, two] = [
      await run('./api.js', '--memory', '256Mi', '--route', 'GET /x'),
      await run('./api.js', '--memory', '256Mi', '--route', 'GET /x'),
    ];
    expect(one.stdout).toBe(two.stdout);
    const [object] = await render('./api.js', '--memory', '256Mi', '--route', 'GET /x', '--kube-namespace', 'team');
    expect(object).toMatchObject({
      metadata: { name: 'api', namespace: 'team' },
      spec: { entry: 'index.mjs', memory: 256, runtime: 'node', routes: [{ path: '/x', methods: ['GET'] }] },
    });
    expect(object!.spec).not.toHaveProperty('namespace');
    expect(Buffer.from(object!.spec.source.archive ?? '', 'base64').subarray(0, 2)).toEqual(Buffer.from([0x1f, 0x8b]));
  });

  it('says what the manifest says, and it is read as the same', async () => {
    const fields = `
    memory: 256Mi
    cpu: 500m
    timeout: 1.5s
    concurrency: 3
    egress: 10.1.2.0/24
    env: { A: 1 }
    secrets: [TOKEN]
    routes: ['GET,post api.example.com/users/:id', /static/*]
    auth: { jwt: { issuer: https://id.example.com, audience: shop } }
    cors: { origins: [https://app.example.com], maxAge: 1h }
    rateLimit: 600/m
    sticky: header:X-User
    logs: { maxBytes: 1Mi, maxAge: 30d }
    async: { maxAttempts: 7, onFailure: report, retry: { base: 2s } }
    triggers:
      - { cron: '@daily' }
      - { cron: '@hourly', name: off, enabled: false, maxAge: 2h }
      - { webhook: github, secret: TOKEN }
`;
    write('fn.yaml', `functions:\n  api:\n    entry: ./api.js${fields}`);
    const [object] = await render('api');
    const { spec } = object!;
    expect(settingsOf(spec)).toEqual({
      runtime: 'node',
      memoryMib: 256,
      cpu: 0.5,
      timeoutSeconds: 1.5,
      concurrency: 3,
      egress: ['10.1.2.0/24'],
      env: { A: '1' },
      secrets: ['TOKEN'],
    });
    expect(accessOf(spec)).toMatchObject({
      cors: { origins: ['https://app.example.com'], maxAgeSeconds: 3_600 },
      rateLimit: { requestsPerSecond: 10 },
      logs: { maxBytes: 1_048_576, maxAgeSeconds: 2_592_000 },
      async: { maxAttempts: 7, retryBaseSeconds: 2, onFailure: [{ type: 'function', name: 'report' }] },
    });
    // Of what the file does not say, whether it is paused is left to who operates it.
    expect(spec.triggers?.map(({ name, enabled }) => [name, enabled])).toEqual([
      ['cron', undefined],
      ['off', false],
      ['webhook', undefined],
    ]);
  });

  it('of several functions prints those that are named, or all', async () => {
    expect((await render('--all')).map(({ metadata, spec }) => [metadata.name, spec.namespace])).toEqual([
      ['api', 'shop'],
      ['web', 'shop'],
    ]);
    expect((await render('web')).map(({ metadata }) => metadata.name)).toEqual(['web']);
    const { code, stderr } = await run();
    expect(code).toBe(2);
    expect(stderr).toContain('fn.yaml has 2 functions: api, web');
  });

  it('puts the bundle into a file, for a URL', async () => {
    const [object] = await render('./api.js', '--bundle', 'api.tgz', '--url', 'https://artifacts.example.com/api.tgz');
    const sha256 = createHash('sha256')
      .update(readFileSync(join(folder, 'api.tgz')))
      .digest('hex');
    expect(object!.spec.source).toEqual({ url: 'https://artifacts.example.com/api.tgz', sha256 });
  });

  it.each([
    [['./api.js', '--url', 'http://x/y'], 'is no https URL'],
    [['--name', 'x', '--image', 'nginx:1'], 'made of an image'],
    [['--all', '--bundle', 'x.tgz'], '--bundle is for one function'],
  ])('%s is refused', async (argv, message) => {
    const { code, stderr, stdout } = await run(...argv);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });
});
