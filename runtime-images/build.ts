/**
 * Builds the runtime images that are missing. Run by `fn runtimes build` and `fn up`, or by hand:
 *
 *   node runtime-images/build.ts [--runtime NAME]… [--all] [--force] [--base IMAGE] [--locked]
 *                                [--update-lock] [--rootfs FILE] [--tags] [--json]
 *
 * stdout: the images' tags, or with --json `{"node":"fn/node:TAG"}`; stderr: what is going on. With
 * --tags nothing is built beyond what is named, and the answer also holds the tags that the other
 * runtimes' images have, or would have: `{"built":{…},"tags":{…}}`.
 * Exit codes: 0, 1 failed, 2 wrong arguments.
 */
import { copyFileSync, existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BASE_PACKAGES } from './builder/definition.ts';
import { inspectImage, tagImage } from './builder/engine.ts';
import { imageInputs, imageTag, type ImageInputs } from './builder/inputs.ts';
import type { PackageLayer } from './builder/packages.ts';
import { DEFAULT_RUNTIME, RUNTIMES } from './builder/runtimes.ts';
import type { RuntimeDefinition } from './builder/runtime.ts';

interface Options {
  force: boolean;
  base: string | null;
  locked: boolean;
  updateLock: boolean;
  rootfs: string | null;
}

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** The folder of the runtimes' sources: said by the environment where this is bundled, else this file's own. */
function runtimeImagesDir(): string {
  const candidates = [process.env.FN_RUNTIME_IMAGES_DIR, import.meta.dirname, join(import.meta.dirname, '..', 'runtime-images')];
  for (const folder of candidates) if (folder && existsSync(join(folder, 'node', 'shim.mjs'))) return folder;
  throw new Error('the folder runtime-images is not found: set FN_RUNTIME_IMAGES_DIR to it');
}

/** Returns the tag. What is slow is imported only where something has to be built. */
async function build(root: string, definition: RuntimeDefinition, options: Options): Promise<string> {
  const inputs = imageInputs(root, definition, options.base);
  if (!options.force && !options.updateLock && options.rootfs === null) {
    const image = await inspectImage(imageTag(inputs));
    const usable =
      image && image.labels['fn.inputs'] === `sha256:${inputs.digest}` && !(options.locked && image.labels['fn.packages'] === 'drifted');
    if (usable) return imageTag(inputs);
  }
  const started = performance.now();
  const made = options.base === null ? await buildOnDebian(root, inputs, options) : await buildOn(root, inputs, options.base);
  const tag = imageTag(made.inputs);
  const image = await inspectImage(tag);
  if (!image) throw new Error(`the engine took ${tag} but does not have it`);
  await tagImage(image.id, tag);
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  say(`${definition.name}: ${tag} (version ${made.version}, ${image.id.slice(0, 19)}) built in ${seconds} s`);
  const { removeStale } = await import('./builder/stale.ts');
  const stale = await removeStale(definition.name, tag, Date.now());
  if (stale.length > 0) say(`${definition.name}: removed ${stale.length} older image${stale.length === 1 ? '' : 's'} that nothing uses`);
  return tag;
}

interface Made {
  inputs: ImageInputs;
  version: string;
}

async function buildOn(root: string, inputs: ImageInputs, base: string): Promise<Made> {
  const { definition } = inputs;
  const { defaultCacheDir } = await import('./builder/packages.ts');
  const { buildRuntimeImageOn } = await import('./builder/image.ts');
  const known = definition.version(root);
  const version = typeof known === 'string' ? known : `of ${base}`;
  say(`${definition.name}: building upon ${base}`);
  await buildRuntimeImageOn(inputs, base, version, { root, cacheDir: defaultCacheDir(), say });
  return { inputs, version };
}

async function buildOnDebian(root: string, before: ImageInputs, options: Options): Promise<Made> {
  const { definition, lockPaths } = before;
  const { defaultCacheDir, packageLayer } = await import('./builder/packages.ts');
  const { packagesLayer, refuseForbidden, rootfsLayer } = await import('./builder/rootfs.ts');
  const { loadRuntimeImage } = await import('./builder/image.ts');
  const cacheDir = defaultCacheDir();
  await mkdir(cacheDir, { recursive: true });
  const again = () => imageInputs(root, definition, null);
  say(`${definition.name}: building the runtime image (${definition.title})`);
  const common = { ...options, cacheDir, say };
  const base = await packageLayer({
    ...common,
    name: 'base',
    packages: BASE_PACKAGES,
    lockPath: lockPaths.base,
    inputsDigest: () => again().baseDigest,
    make: rootfsLayer,
  });
  const layers = [base];
  if (definition.packages.length > 0) {
    const own = await packageLayer({
      ...common,
      name: definition.name,
      packages: definition.packages,
      lockPath: lockPaths.own,
      inputsDigest: () => again().packagesDigest,
      make: async (debs, work) => {
        const layer = await packagesLayer(debs, definition, definition.links);
        refuseForbidden(layer, definition.allowed);
        await definition.complete?.(layer, [base.path], work);
        return layer;
      },
    });
    layers.push(own);
  }
  warnOfDrift(layers);
  if (options.rootfs !== null) copyFileSync(base.path, options.rootfs);
  const inputs = options.updateLock ? again() : before;
  const version = versionOf(root, definition, layers);
  await loadRuntimeImage(inputs, version, layers, { root, cacheDir, say });
  return { inputs, version };
}

function versionOf(root: string, definition: RuntimeDefinition, layers: PackageLayer[]): string {
  const version = definition.version(root);
  if (typeof version === 'string') return version;
  const found = layers.map((layer) => layer.versions[version.package]).find((one) => one !== undefined);
  if (found === undefined) throw new Error(`${definition.name} takes its version of ${version.package}, which is none of its packages`);
  // Debian's `3.11.2-6+deb12u6` is version 3.11.2 of the language.
  return found.replace(/^\d+:/, '').replace(/-[^-]*$/, '');
}

function warnOfDrift(layers: PackageLayer[]): void {
  const drift = layers.filter((layer) => layer.drifted).flatMap((layer) => layer.drift);
  if (drift.length === 0) return;
  say(`warning: Debian has other packages than packages.lock names: ${drift.join('; ')}`);
  say('warning: the image is built with what there is; --update-lock writes it down, --locked fails instead');
}

/** Tags of all runtimes' images as their inputs are now, whether they are there or not. */
function allTags(root: string): Record<string, string> {
  const tags: Record<string, string> = {};
  for (const [name, definition] of Object.entries(RUNTIMES)) tags[name] = imageTag(imageInputs(root, definition, null));
  return tags;
}

async function main(): Promise<number> {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        runtime: { type: 'string', multiple: true },
        all: { type: 'boolean', default: false },
        force: { type: 'boolean', default: false },
        base: { type: 'string' },
        locked: { type: 'boolean', default: false },
        'update-lock': { type: 'boolean', default: false },
        rootfs: { type: 'string' },
        tags: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    return 2;
  }
  const names = values.runtime ?? (values.all ? Object.keys(RUNTIMES) : [DEFAULT_RUNTIME]);
  const unknown = names.find((name) => !Object.hasOwn(RUNTIMES, name));
  if (unknown !== undefined) {
    say(`no runtime is called ${unknown}; there is: ${Object.keys(RUNTIMES).join(', ')}`);
    return 2;
  }
  const options: Options = {
    force: values.force,
    base: values.base ?? null,
    locked: values.locked,
    updateLock: values['update-lock'],
    rootfs: values.rootfs ?? null,
  };
  const root = runtimeImagesDir();
  const built: Record<string, string> = {};
  for (const name of new Set(names)) built[name] = await build(root, RUNTIMES[name]!, options);
  const lines = Object.values(built).map((tag) => `${tag}\n`);
  if (values.tags) process.stdout.write(`${JSON.stringify({ built, tags: { ...allTags(root), ...built } })}\n`);
  else process.stdout.write(values.json ? `${JSON.stringify(built)}\n` : lines.join(''));
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
