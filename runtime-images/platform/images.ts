/**
 * The images that fn itself runs in: its gateway and its controller, its CLI for jobs in a cluster, and the Redis
 * that they share, each for clusters that can pull from your registry only.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { INSTANCE_UID } from '../builder/definition.ts';
import { COMMON, type ImageFile, type Program, type RuntimeDefinition } from '../builder/runtime.ts';
import { nodeProgram } from '../node/runtime.ts';
import { bundleFiles } from './bundles.ts';

/** Where the programs are in an image. The controller looks for the dispatcher beside itself. */
const PROGRAMS = 'fn/dist';
/** FN_HOME: what a program keeps beside the store, and the copies of bundles. */
const STATE = 'var/lib/fn';

const Manifest = z.object({ version: z.string(), license: z.string().default('UNLICENSED') });

const manifestOf = (path: string) => Manifest.parse(JSON.parse(readFileSync(path, 'utf8')));

/** Of fn: what the images are tagged with. */
const fnManifest = (root: string) => manifestOf(join(root, '..', 'package.json'));

const COMMON_CONFIG = {
  User: `${INSTANCE_UID}:${INSTANCE_UID}`,
  WorkingDir: '/tmp',
  StopSignal: 'SIGTERM',
} as const;

const NODE_ENV = ['PATH=/usr/local/bin', 'HOME=/tmp', 'LANG=C.UTF-8', 'NODE_ENV=production'] as const;

/** On SIGUSR1 Node would open its debugger, which runs whatever who connects to it says. */
const NO_DEBUGGER = '--disable-sigusr1';

const PLATFORM = {
  ...COMMON,
  kind: 'platform',
  folder: 'platform',
  shim: [],
  entries: {},
  labels: { 'org.opencontainers.image.licenses': 'Apache-2.0', 'org.opencontainers.image.vendor': 'fn' },
  tagVersion: (root) => fnManifest(root).version,
  version: (root) => fnManifest(root).version,
  programs: (root) => [nodeProgram(root)],
} as const satisfies Partial<RuntimeDefinition>;

interface Server {
  name: string;
  title: string;
  /** Bundles that it starts from, the first one first. */
  bundles: readonly [string, ...string[]];
  /** Of Node, and of the libc: see cli/supervisor/programs.ts, where the same programs are started on a host. */
  flags: readonly string[];
  env?: readonly string[];
  ports: readonly number[];
}

/** A long-running program. It writes below FN_HOME and /tmp only: the rest can be read-only. */
function server({ name, title, bundles, flags, env = [], ports }: Server): RuntimeDefinition {
  return {
    ...PLATFORM,
    name,
    title,
    files: (root) => bundleFiles(join(root, '..', 'dist'), bundles, PROGRAMS),
    entries: { [STATE]: { type: 'directory', mode: 0o750, owner: INSTANCE_UID } },
    config: {
      ...COMMON_CONFIG,
      Env: [...NODE_ENV, `FN_HOME=/${STATE}`, ...env],
      Entrypoint: ['/usr/local/bin/node', NO_DEBUGGER, ...flags, `/${PROGRAMS}/${bundles[0]}`],
      Cmd: [],
      Volumes: { [`/${STATE}`]: {}, '/tmp': {} },
      ExposedPorts: Object.fromEntries(ports.map((port) => [`${port}/tcp`, {}])),
    },
  };
}

const gateway = server({
  name: 'gateway',
  title: 'the gateway of fn: takes requests and brings them to instances',
  bundles: ['gateway.mjs', 'telemetry.mjs'],
  // V8's young generation: garbage comes with every request.
  flags: ['--max-semi-space-size=8'],
  ports: [8080, 8443],
});

const controller = server({
  name: 'controller',
  title: 'the controller of fn, with its dispatcher: API, instances, events',
  bundles: ['controller.mjs', 'dispatcher.mjs', 'telemetry.mjs'],
  flags: ['--max-semi-space-size=2'],
  env: ['MALLOC_ARENA_MAX=2'],
  ports: [7070, 7071, 7072],
});

const cli: RuntimeDefinition = {
  ...PLATFORM,
  name: 'cli',
  title: 'the command fn, with esbuild: deploys and invokes from within a cluster',
  files: cliFiles,
  entries: { 'usr/local/bin/fn': { type: 'symlink', target: `/${PROGRAMS}/cli.mjs` } },
  programs: (root) => [nodeProgram(root), esbuildProgram(root)],
  config: {
    ...COMMON_CONFIG,
    Env: [...NODE_ENV],
    Entrypoint: ['/usr/local/bin/fn'],
    Cmd: ['--help'],
    Volumes: { '/tmp': {} },
  },
};

/** The CLI as the kernel starts it, and what it reads beside its bundles: its version, schema and types; esbuild's JavaScript. */
function cliFiles(root: string): ImageFile[] {
  const project = join(root, '..');
  const bundles = bundleFiles(join(project, 'dist'), ['cli.mjs'], PROGRAMS).map((file) =>
    file.target === `${PROGRAMS}/cli.mjs`
      ? { ...file, mode: 0o755, content: Buffer.concat([Buffer.from('#!/usr/local/bin/node\n'), file.content]) }
      : file,
  );
  const { version } = fnManifest(root);
  const esbuild = packageFolder(root, 'esbuild');
  const copied = (from: string, target: string): ImageFile => ({ target: `fn/${target}`, content: readFileSync(from) });
  return [
    ...bundles,
    { target: 'fn/package.json', content: Buffer.from(JSON.stringify({ name: 'fn', version, type: 'module' })) },
    copied(join(project, 'docs', 'fn.schema.json'), 'docs/fn.schema.json'),
    copied(join(root, 'node', 'types.d.ts'), 'runtime-images/node/types.d.ts'),
    ...['package.json', 'LICENSE.md', 'lib/main.js'].map((name) => copied(join(esbuild, name), `node_modules/esbuild/${name}`)),
  ];
}

/** esbuild's own executable, at the place where its JavaScript looks for it. */
function esbuildProgram(root: string): Program {
  const name = `@esbuild/linux-${process.arch}`;
  const { version } = manifestOf(join(packageFolder(root, 'esbuild'), 'package.json'));
  return {
    target: `fn/node_modules/${name}/bin/esbuild`,
    identity: `${name} ${version}`,
    fetch: () => {
      const path = join(packageFolder(root, 'esbuild'), '..', name, 'bin', 'esbuild');
      if (existsSync(path)) return Promise.resolve(path);
      throw new Error(`the npm package ${name} is not installed, which the image of the CLI takes esbuild from: npm install --os=linux`);
    },
  };
}

const packageFolder = (root: string, name: string): string =>
  dirname(createRequire(join(root, 'build.ts')).resolve(`${name}/package.json`));

/** Port and data folder as everywhere; settings are arguments, as of `redis-server`. */
const redis: RuntimeDefinition = {
  ...PLATFORM,
  name: 'redis',
  title: 'Redis, from Debian: the store of an fn of several hosts',
  labels: { 'org.opencontainers.image.licenses': 'BSD-3-Clause' },
  packages: [
    'libcap2',
    'libgcrypt20',
    'libgpg-error0',
    'libjemalloc2',
    'liblz4-1',
    'liblzf1',
    'liblzma5',
    'libssl3',
    'libsystemd0',
    'libzstd1',
    'redis-server',
    'redis-tools',
  ],
  kept: [/^usr\/bin\/redis-(?:server|cli|check-aof|check-rdb)$/],
  entries: { data: { type: 'directory', mode: 0o750, owner: INSTANCE_UID } },
  programs: () => [],
  version: () => ({ package: 'redis-server' }),
  config: {
    ...COMMON_CONFIG,
    Env: ['PATH=/usr/bin', 'HOME=/tmp', 'LANG=C.UTF-8'],
    Entrypoint: ['/usr/bin/redis-server'],
    Cmd: ['--dir', '/data', '--protected-mode', 'no'],
    WorkingDir: '/data',
    Volumes: { '/data': {} },
    ExposedPorts: { '6379/tcp': {} },
  },
};

/** Those that are made of bundles of fn's own programs. */
export const BUNDLED: ReadonlySet<string> = new Set([gateway.name, controller.name, cli.name]);

/** By name. */
export const PLATFORM_IMAGES: Readonly<Record<string, RuntimeDefinition>> = { gateway, controller, cli, redis };
