/**
 * The images that fn needs in a cluster: those of its own programs, and those of runtimes. Run by `fn images …`, or by hand:
 *
 *   node runtime-images/images.ts build|list|save|push [--name NAME]… [--all] [--force] [--base IMAGE] [--locked]
 *                                 [--update-lock] [--file FILE] [--repository REPOSITORY]
 *
 * build, save and push build what is missing. stdout, JSON by the images' names:
 *   build  {"gateway":"fn/gateway:TAG"}
 *   list   {"gateway":{"image":"fn/gateway:TAG","kind":"platform","built":true,"bytes":1}}
 *   save   as list; the archive, as of `docker save`, is at --file
 *   push   {"gateway":{"kind":"platform","repository":"REPOSITORY/gateway","tag":"TAG","digest":"sha256:…"}}
 * stderr: what is going on. Exit codes: 0, 1 failed, 2 wrong arguments.
 */
import { execFile } from 'node:child_process';
import { createWriteStream, existsSync, readdirSync, statSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs, promisify } from 'node:util';
import { buildImageOf, type BuildOptions } from './builder/build-image.ts';
import { inspectImage, pushImage, saveImages, tagImage } from './builder/engine.ts';
import { imageInputs, imageTag } from './builder/inputs.ts';
import { registryLogin } from './builder/registry-login.ts';
import { runtimeImagesDir } from './builder/root.ts';
import { DEFAULT_RUNTIME, RUNTIMES } from './builder/runtimes.ts';
import type { ImageKind, RuntimeDefinition } from './builder/runtime.ts';
import { BUNDLED, PLATFORM_IMAGES } from './platform/images.ts';

/** fn's own programs take seconds to bundle. */
const BUNDLE_TIMEOUT_MS = 120_000;

/** What the chart's default values run, and a runtime for the first function. */
const DEFAULT_IMAGES = [...Object.keys(PLATFORM_IMAGES), DEFAULT_RUNTIME];
const ALL: Readonly<Record<string, RuntimeDefinition>> = { ...PLATFORM_IMAGES, ...RUNTIMES };

class UsageError extends Error {}

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** Where the sources of bundles are, as the launcher `fn` has them. */
const SOURCES = ['cli', 'controller', 'gateway', 'runtime-images'] as const;

/** Whether a source is newer than the bundles. */
function isStale(project: string): boolean {
  const stamp = join(project, 'dist', '.stamp');
  if (!existsSync(stamp)) return true;
  const { mtimeMs } = statSync(stamp);
  const isNewer = (path: string) => existsSync(path) && statSync(path).mtimeMs >= mtimeMs;
  const sources = SOURCES.flatMap((folder) =>
    readdirSync(join(project, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(?:ts|json)$/.test(name) && !name.endsWith('.test.ts'))
      .map((name) => join(project, folder, name)),
  );
  return [...sources, join(project, 'package.json'), join(project, 'node_modules', '.package-lock.json')].some(isNewer);
}

/** Out of sources the bundles are made anew where they are old: the launcher `fn`, which sees to it else, did not start this. */
async function bundlePrograms(root: string): Promise<void> {
  const project = join(root, '..');
  const script = join(project, 'cli', 'build.ts');
  if (!import.meta.filename.endsWith('.ts') || !existsSync(script) || !isStale(project)) return;
  await promisify(execFile)(process.execPath, [script], { timeout: BUNDLE_TIMEOUT_MS });
}

async function buildAll(names: readonly string[], options: BuildOptions): Promise<Record<string, string>> {
  const built: Record<string, string> = {};
  for (const name of names) built[name] = await buildImageOf(ALL[name]!, options);
  return built;
}

interface Listed {
  image: string;
  kind: ImageKind;
  built: boolean;
  /** Of all layers, unpacked; null: not built. */
  bytes: number | null;
}

async function listAll(names: readonly string[], { root, base }: BuildOptions): Promise<Record<string, Listed>> {
  const listed: Record<string, Listed> = {};
  for (const name of names) {
    const image = imageTag(imageInputs(root, ALL[name]!, base));
    const info = await inspectImage(image);
    listed[name] = { image, kind: ALL[name]!.kind, built: info !== null, bytes: info?.bytes ?? null };
  }
  return listed;
}

/** Writes an archive of all images, in which what they share is once. A file comes by rename: never half of one. */
async function saveAll(images: Readonly<Record<string, string>>, file: string): Promise<void> {
  const archive = await saveImages(Object.values(images));
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    await pipeline(archive, createWriteStream(temporary));
    await rename(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
}

interface Pushed {
  kind: ImageKind;
  repository: string;
  tag: string;
  digest: string;
}

async function pushAll(images: Readonly<Record<string, string>>, repository: string): Promise<Record<string, Pushed>> {
  const login = await registryLogin(`${repository}/fn`, process.env);
  const pushed: Record<string, Pushed> = {};
  for (const [name, image] of Object.entries(images)) {
    const tag = image.slice(image.lastIndexOf(':') + 1);
    const target = `${repository}/${name}`;
    const info = await inspectImage(image);
    if (!info) throw new Error(`the engine no longer has ${image}`);
    await tagImage(info.id, `${target}:${tag}`);
    say(`${name}: pushing ${target}:${tag}`);
    pushed[name] = { kind: ALL[name]!.kind, repository: target, tag, digest: await pushImage(`${target}:${tag}`, login) };
  }
  return pushed;
}

/** As an image's name has it: lower case, a host with a port at most at the start. */
const REPOSITORY = /^(?:[a-z0-9.-]+(?::\d{1,5})?|\[[0-9a-f:]+\](?::\d{1,5})?)(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*$/;

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string', multiple: true },
      all: { type: 'boolean', default: false },
      force: { type: 'boolean', default: false },
      base: { type: 'string' },
      locked: { type: 'boolean', default: false },
      'update-lock': { type: 'boolean', default: false },
      file: { type: 'string' },
      repository: { type: 'string' },
    },
  });
  const [action] = positionals;
  if (positionals.length !== 1 || action === undefined || !['build', 'list', 'save', 'push'].includes(action))
    throw new UsageError('images.ts build|list|save|push');
  const names = [...new Set(values.name ?? (values.all ? Object.keys(ALL) : DEFAULT_IMAGES))];
  const unknown = names.find((name) => !Object.hasOwn(ALL, name));
  if (unknown !== undefined) throw new UsageError(`no image is called ${unknown}; there is: ${Object.keys(ALL).join(', ')}`);
  const repository = values.repository?.replace(/\/+$/, '');
  if (action === 'save' && values.file === undefined) throw new UsageError('save needs --file');
  if (action === 'push' && !REPOSITORY.test(repository ?? ''))
    throw new UsageError(`${JSON.stringify(repository ?? '')} is not a repository; for example: registry.example.com/fn`);
  return { action, names, values, repository: repository ?? '' };
}

async function main(): Promise<void> {
  const { action, names, values, repository } = readArguments();
  const root = runtimeImagesDir(import.meta.dirname, process.env);
  const options: BuildOptions = {
    root,
    force: values.force,
    base: values.base ?? null,
    locked: values.locked,
    updateLock: values['update-lock'],
    rootfs: null,
    say,
  };
  const print = (answer: object): void => void process.stdout.write(`${JSON.stringify(answer)}\n`);
  if (names.some((name) => BUNDLED.has(name))) await bundlePrograms(root);
  if (action === 'list') return print(await listAll(names, options));
  const images = await buildAll(names, options);
  if (action === 'build') return print(images);
  if (action === 'push') return print(await pushAll(images, repository));
  await saveAll(images, values.file!);
  return print(await listAll(names, options));
}

try {
  await main();
} catch (error) {
  const wrong =
    error instanceof UsageError || (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS'));
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = wrong ? 2 : 1;
}
