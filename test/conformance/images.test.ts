/** The images that fn itself runs in, as an engine has them: what is in them, what they may do, how they travel. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { PLATFORM_IMAGES } from '../../runtime-images/platform/images.ts';
import { buildPlatformImages, imagesProgram, type PlatformImage } from '../helpers/platform-images.ts';
import { type Registry, startRegistry } from '../helpers/registry.ts';
import { ROOT } from '../helpers/root.ts';
import { BUILD_TIMEOUT_MS } from '../helpers/runtime-images.ts';

const OWN = ['gateway', 'controller', 'cli', 'redis'] as const;

const docker = async (...args: string[]) => {
  const { exitCode, stdout, stderr } = await execa('docker', args, { reject: false, timeout: 60_000 });
  return { code: exitCode, stdout, stderr };
};

/** As a pod with the restricted pod security has it. */
const RESTRICTED = ['--rm', '--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges', '--network=none', '--pids-limit=64'];

const Inspected = z.tuple([
  z.object({
    Id: z.string(),
    Config: z.object({ User: z.string(), StopSignal: z.string(), Labels: z.record(z.string(), z.string()) }),
    RootFS: z.object({ Layers: z.array(z.string()) }),
  }),
]);
const inspect = async (image: string) => Inspected.parse(JSON.parse((await docker('image', 'inspect', image)).stdout))[0];

let images: Record<(typeof OWN)[number], string>;

beforeAll(async () => {
  images = await buildPlatformImages(...OWN);
}, BUILD_TIMEOUT_MS);

describe('each image of fn itself', () => {
  it.each(OWN)('%s: runs as nobody in particular, ends at SIGTERM, says what it is', async (name) => {
    const { Config } = await inspect(images[name]);
    expect(Config).toMatchObject({ User: '65532:65532', StopSignal: 'SIGTERM' });
    expect(Config.Labels).toMatchObject({ 'fn.program': name, 'org.opencontainers.image.title': `fn/${name}` });
    const { version } = z.object({ version: z.string() }).parse(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')));
    expect(images[name]).toMatch(new RegExp(`^fn/${name}:${version.replaceAll('.', '\\.')}-[0-9a-f]{12}$`));
  });

  it.each(OWN)('%s: has no shell and no package manager', async (name) => {
    const { stdout: container } = await docker('create', images[name]);
    try {
      const list = await execa('sh', ['-c', `docker export ${container} | tar -t`]);
      const paths = list.stdout.split('\n');
      expect(paths).toContain('etc/ssl/certs/ca-certificates.crt');
      expect(paths.filter((path) => /(?:^|\/)(?:sh|bash|dash|busybox|npm|npx|corepack|apt|apt-get|dpkg|perl)$/.test(path))).toEqual([]);
    } finally {
      await docker('rm', '--force', '--volumes', container);
    }
  });

  it('those on Node share the base and Node: a node of a cluster pulls both once', async () => {
    const [gateway, controller, cli] = await Promise.all([images.gateway, images.controller, images.cli].map(inspect));
    expect(controller!.RootFS.Layers.slice(0, 2)).toEqual(gateway!.RootFS.Layers.slice(0, 2));
    expect(cli!.RootFS.Layers.slice(0, 2)).toEqual(gateway!.RootFS.Layers.slice(0, 2));
    expect(controller!.RootFS.Layers[2]).not.toBe(gateway!.RootFS.Layers[2]);
  });

  it('is the same bytes when it is built again', async () => {
    const before = await inspect(images.gateway);
    expect((await docker('rmi', images.gateway)).code).toBe(0);
    expect((await buildPlatformImages('gateway')).gateway).toBe(images.gateway);
    expect((await inspect(images.gateway)).Id).toBe(before.Id);
  });
});

describe('the programs', () => {
  const run = (name: PlatformImage & keyof typeof images, entrypoint: string | null, ...args: string[]) =>
    docker('run', ...RESTRICTED, ...(entrypoint === null ? [] : ['--entrypoint', entrypoint]), images[name], ...args);

  it('the gateway starts, and says what it misses; nothing of the controller is in it', async () => {
    const { code, stderr, stdout } = await run('gateway', null);
    expect({ code, said: `${stdout}${stderr}` }).toEqual({ code: 78, said: expect.stringContaining('FN_LINK') });
    const text = Buffer.concat(PLATFORM_IMAGES.gateway!.files(join(ROOT, 'runtime-images')).map(({ content }) => content)).toString();
    const folders = new Set(
      [...text.matchAll(/^\/\/ (controller|cli|gateway)\/([a-z-]+)\//gm)].map(([, part, folder]) => `${part}/${folder}`),
    );
    expect([...folders].filter((folder) => folder.startsWith('controller/')).toSorted()).toEqual(['controller/contract', 'controller/kit']);
  });

  it('the controller starts, and says what it misses', async () => {
    const { code, stderr, stdout } = await run('controller', null);
    expect({ code, said: `${stdout}${stderr}` }).toEqual({ code: 1, said: expect.stringContaining('settings are wrong') });
  });

  it('write below FN_HOME and /tmp, and nowhere else', async () => {
    const script = `
      const { writeFileSync } = require('node:fs');
      const tried = (path) => { try { writeFileSync(path, ''); return 'written'; } catch (error) { return error.code; } };
      console.log(['/tmp/x', process.env.FN_HOME + '/x', '/fn/dist/x', '/x'].map(tried).join(' '));`;
    expect((await run('controller', '/usr/local/bin/node', '-e', script)).stdout).toBe('written written EROFS EROFS');
  });

  it('the CLI bundles what it deploys, and says that nothing answers', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fn-images-'));
    try {
      writeFileSync(join(folder, 'hello.ts'), 'export default (): Response => new Response("hello");\n', { mode: 0o644 });
      const args = [...RESTRICTED, '--volume', `${folder}/hello.ts:/code/hello.ts:ro`, images.cli, 'deploy', '/code/hello.ts'];
      const { code, stderr } = await docker('run', ...args);
      expect({ code, stderr }).toEqual({ code: 4, stderr: expect.stringMatching(/bundle .*\n.*error: fn is not running/s) });
    } finally {
      rmSync(folder, { recursive: true });
    }
    expect((await run('cli', 'node', '--print', 'require("child_process").execFileSync("fn", ["--version"]).toString()')).code).toBe(0);
  });

  it('Redis is there with its command line', async () => {
    expect((await run('redis', 'redis-server', '--version')).stdout).toMatch(/^Redis server v=7\./);
    expect((await run('redis', 'redis-cli', '--version')).stdout).toMatch(/^redis-cli 7\./);
  });
});

describe('on their way to a cluster', () => {
  const LOGIN = { user: 'robot', password: 'pass:word', bcrypt: '$2b$04$zsuDtYb/1frcHadYmO5vS.jydesfKW9q/vkIF2tmAShbmOwFTgd9G' };
  let folder: string;
  let registry: Registry;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'fn-images-'));
    registry = await startRegistry(folder, `${LOGIN.user}:${LOGIN.bcrypt}`);
  });
  afterAll(async () => {
    await registry?.close();
    const { stdout } = await docker('images', '--format', '{{.Repository}}:{{.Tag}}', `${registry?.address}/team/fn/redis`);
    if (stdout !== '') await docker('rmi', ...stdout.split('\n'));
    rmSync(folder, { recursive: true, force: true });
  });

  const loggedIn = (password: string) => {
    const home = mkdtempSync(join(folder, 'docker-'));
    const auth = Buffer.from(`${LOGIN.user}:${password}`).toString('base64');
    writeFileSync(join(home, 'config.json'), JSON.stringify({ auths: { [registry.address]: { auth } } }));
    return { DOCKER_CONFIG: home };
  };
  const push = (password: string) =>
    imagesProgram(['push', '--name', 'redis', '--repository', `${registry.address}/team/fn`], loggedIn(password));

  it('they are pushed with the login of docker login, and are there by the digest that is said', async () => {
    const tag = images.redis.split(':')[1]!;
    const pushed = z
      .object({ redis: z.object({ kind: z.string(), repository: z.string(), tag: z.string(), digest: z.string() }) })
      .parse(await push(LOGIN.password));
    expect(pushed).toMatchObject({ redis: { kind: 'platform', repository: `${registry.address}/team/fn/redis`, tag } });
    const authorization = `Basic ${Buffer.from(`${LOGIN.user}:${LOGIN.password}`).toString('base64')}`;
    const answer = await fetch(`http://${registry.address}/v2/team/fn/redis/manifests/${pushed.redis.digest}`, {
      method: 'HEAD',
      headers: { authorization, accept: 'application/vnd.docker.distribution.manifest.v2+json' },
    });
    expect(answer.status).toBe(200);
  });

  it('a wrong login is an error that names the image', async () => {
    await expect(push('wrong')).rejects.toThrow(/team\/fn\/redis:\S+ could not be pushed: .*unauthorized/i);
  });

  it('they are saved to one file, by rename', async () => {
    const file = join(folder, 'images.tar');
    await imagesProgram(['save', '--name', 'redis', '--file', file]);
    const { stdout } = await execa('tar', ['-xOf', file, 'manifest.json']);
    expect(JSON.parse(stdout)).toMatchObject([{ RepoTags: [images.redis] }]);
    mkdirSync(join(folder, 'taken'));
    await expect(imagesProgram(['save', '--name', 'redis', '--file', join(folder, 'taken')])).rejects.toThrow(/EISDIR|directory/);
  });
});
