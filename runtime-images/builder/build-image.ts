/** Builds the image of a definition, unless the engine has it with the inputs as they are now. */
import { copyFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { BASE_PACKAGES } from './definition.ts';
import { inspectImage, tagImage } from './engine.ts';
import { imageInputs, imageTag, type ImageInputs } from './inputs.ts';
import type { PackageLayer } from './packages.ts';
import type { RuntimeDefinition } from './runtime.ts';

export interface BuildOptions {
  /** Folder runtime-images. */
  root: string;
  /** Build also what is up to date. */
  force: boolean;
  /** An image of a registry in the place of our own base. */
  base: string | null;
  /** Fail where Debian has other versions of packages than packages.lock names. */
  locked: boolean;
  /** Write down the versions that there are, and use them. */
  updateLock: boolean;
  /** A copy of the base's layer goes to this file. */
  rootfs: string | null;
  say: (line: string) => void;
}

/** Returns the tag. What is slow is imported only where something has to be built. */
export async function buildImageOf(definition: RuntimeDefinition, options: BuildOptions): Promise<string> {
  const { root, base, say } = options;
  const inputs = imageInputs(root, definition, base);
  if (!options.force && !options.updateLock && options.rootfs === null) {
    const image = await inspectImage(imageTag(inputs));
    const usable =
      image && image.labels['fn.inputs'] === `sha256:${inputs.digest}` && !(options.locked && image.labels['fn.packages'] === 'drifted');
    if (usable) return imageTag(inputs);
  }
  const started = performance.now();
  const made = base === null ? await buildOnDebian(inputs, options) : await buildUpon(inputs, base, options);
  const tag = imageTag(made.inputs);
  const image = await inspectImage(tag);
  if (!image) throw new Error(`the engine took ${tag} but does not have it`);
  await tagImage(image.id, tag);
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  say(`${definition.name}: ${tag} (version ${made.version}, ${image.id.slice(0, 19)}) built in ${seconds} s`);
  const { removeStale } = await import('./stale.ts');
  const stale = await removeStale(definition, tag, Date.now());
  if (stale.length > 0) say(`${definition.name}: removed ${stale.length} older image${stale.length === 1 ? '' : 's'} that nothing uses`);
  return tag;
}

interface Made {
  inputs: ImageInputs;
  version: string;
}

async function buildUpon(inputs: ImageInputs, base: string, { root, say }: BuildOptions): Promise<Made> {
  const { definition } = inputs;
  if (definition.kind === 'platform' && definition.packages.length > 0)
    throw new Error(`${definition.name} is made of Debian packages alone, and cannot be built upon ${base}: take one from a registry`);
  const { defaultCacheDir } = await import('./packages.ts');
  const { buildImageUpon } = await import('./image.ts');
  const known = definition.version(root);
  const version = typeof known === 'string' ? known : `of ${base}`;
  say(`${definition.name}: building upon ${base}`);
  await buildImageUpon(inputs, base, version, { root, cacheDir: defaultCacheDir(), say });
  return { inputs, version };
}

async function buildOnDebian(before: ImageInputs, options: BuildOptions): Promise<Made> {
  const { root, say } = options;
  const { definition, lockPaths } = before;
  const { defaultCacheDir, packageLayer } = await import('./packages.ts');
  const { packagesLayer, refuseForbidden, rootfsLayer } = await import('./rootfs.ts');
  const { loadImageOf } = await import('./image.ts');
  const cacheDir = defaultCacheDir();
  await mkdir(cacheDir, { recursive: true });
  const again = () => imageInputs(root, definition, null);
  say(`${definition.name}: building the image (${definition.title})`);
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
  warnOfDrift(layers, say);
  if (options.rootfs !== null) copyFileSync(base.path, options.rootfs);
  const inputs = options.updateLock ? again() : before;
  const version = versionOf(root, definition, layers);
  await loadImageOf(inputs, version, layers, { root, cacheDir, say });
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

function warnOfDrift(layers: PackageLayer[], say: (line: string) => void): void {
  const drift = layers.filter((layer) => layer.drifted).flatMap((layer) => layer.drift);
  if (drift.length === 0) return;
  say(`warning: Debian has other packages than packages.lock names: ${drift.join('; ')}`);
  say('warning: the image is built with what there is; --update-lock writes it down, --locked fails instead');
}
