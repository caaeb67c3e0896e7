/** Makes an image: layers, configuration and manifest, as an archive that `docker load` reads. */
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { EMPTY_FOLDER } from './dockerfile.ts';
import { buildImage, loadImage } from './engine.ts';
import { imageTag, type ImageInputs } from './inputs.ts';
import type { PackageLayer } from './packages.ts';
import { refuseForbidden } from './rootfs.ts';
import type { FetchContext, ImageKind } from './runtime.ts';
import { addFile, type Layer, writeLayer } from './tar.ts';

const EPOCH = new Date(0);
const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm',
  ppc64: 'ppc64le',
  s390x: 's390x',
};

/** Labels that every image of ours carries; the drivers and `fn status` read them. */
export function imageLabels(
  inputs: ImageInputs,
  version: string,
  contentDigest: string,
  packages: 'locked' | 'drifted' | 'base-image',
): Record<string, string> {
  const { kind, name, title, labels } = inputs.definition;
  return {
    'fn.digest': `sha256:${contentDigest}`,
    'fn.inputs': `sha256:${inputs.digest}`,
    'fn.packages': packages,
    [kindLabel(kind)]: name,
    'fn.version': version,
    'org.opencontainers.image.title': `fn/${name}`,
    'org.opencontainers.image.description': title,
    'org.opencontainers.image.version': version,
    ...labels,
  };
}

/** Of a runtime's image `fn.runtime`, of fn's own `fn.program`, each with its name. */
export const kindLabel = (kind: ImageKind): string => (kind === 'runtime' ? 'fn.runtime' : 'fn.program');

/** A layer for each program, which all images that have it share: Node is some 125 MB. */
async function programLayers(inputs: ImageInputs, context: FetchContext): Promise<Layer[]> {
  return (await fetchPrograms(inputs, context)).map(({ target, path, size }) => {
    const layer: Layer = new Map([[target, { type: 'file', mode: 0o755, content: { path, size } }]]);
    refuseForbidden(layer, inputs.definition.allowed);
    return layer;
  });
}

/** The topmost layer: the shim, or the bundles. */
async function topLayer(inputs: ImageInputs, below: readonly PackageLayer[], context: FetchContext): Promise<Layer> {
  const layer: Layer = new Map();
  for (const { target, content, mode = 0o644 } of inputs.files) layer.set(target, { type: 'file', mode, content });
  for (const [path, entry] of Object.entries(inputs.definition.entries)) layer.set(path, entry);
  refuseForbidden(layer, inputs.definition.allowed);
  await inputs.definition.complete?.(
    layer,
    below.map(({ path }) => path),
    context.work,
  );
  return layer;
}

async function fetchPrograms(inputs: ImageInputs, context: FetchContext): Promise<{ target: string; path: string; size: number }[]> {
  const fetched: { target: string; path: string; size: number }[] = [];
  for (const program of inputs.programs) {
    const path = await program.fetch(context);
    fetched.push({ target: program.target, path, size: statSync(path).size });
  }
  return fetched;
}

/** Runs `use` with a folder of its own below the cache, and removes it. */
async function inWorkFolder<T>(cacheDir: string, use: (work: string) => Promise<T>): Promise<T> {
  await mkdir(cacheDir, { recursive: true });
  const work = await mkdtemp(join(cacheDir, 'build-'));
  try {
    return await use(work);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** What both ways of building are told beside the inputs. */
export type BuildContext = Omit<FetchContext, 'work'>;

/** Writes the archive's parts below the cache, loads it, and cleans up. Returns the digest of the configuration: the image's id. */
export function loadImageOf(inputs: ImageInputs, version: string, below: readonly PackageLayer[], context: BuildContext): Promise<string> {
  const { kind, name, config } = inputs.definition;
  return inWorkFolder(context.cacheDir, async (work) => {
    const written = async (file: string, layer: Layer) => ({ ...(await writeLayer(layer, join(work, file))), path: join(work, file) });
    const command = kind === 'runtime' ? 'fn runtimes build' : 'fn images build';
    const programs = [];
    for (const layer of await programLayers(inputs, { ...context, work }))
      programs.push({ ...(await written(`program-${programs.length}.tar`, layer)), from: `${command}: a program of ${name}` });
    const layers = [
      ...below.map((layer, index) => ({ ...layer, from: `${command}: ${index === 0 ? 'base' : `packages of ${name}`}` })),
      ...programs,
      { ...(await written('top.tar', await topLayer(inputs, below, { ...context, work }))), from: `${command}: ${name} ${version}` },
    ];
    const contentDigest = sha256(JSON.stringify([config, layers.map((layer) => layer.sha256)]));
    const packages = below.some((layer) => layer.drifted) ? 'drifted' : 'locked';
    const configuration = Buffer.from(
      JSON.stringify({
        architecture: ARCHITECTURES[process.arch] ?? process.arch,
        config: { ...config, Labels: imageLabels(inputs, version, contentDigest, packages) },
        created: EPOCH.toISOString(),
        history: layers.map((layer) => ({ created: EPOCH.toISOString(), created_by: layer.from })),
        os: 'linux',
        rootfs: { diff_ids: layers.map((layer) => `sha256:${layer.sha256}`), type: 'layers' },
      }),
    );
    const id = sha256(configuration);
    const manifest = [{ Config: `${id}.json`, Layers: layers.map((layer) => `${layer.sha256}.tar`), RepoTags: [imageTag(inputs)] }];
    const archive = pack();
    const loaded = loadImage(archive);
    loaded.catch(() => {}); // awaited below; a failure there also ends the writing
    const write = async () => {
      archive.entry({ name: `${id}.json`, mtime: EPOCH, mode: 0o644 }, configuration);
      for (const layer of layers)
        await addFile(archive, { name: `${layer.sha256}.tar`, mtime: EPOCH, mode: 0o644 }, { path: layer.path, size: layer.bytes });
      archive.entry({ name: 'manifest.json', mtime: EPOCH, mode: 0o644 }, JSON.stringify(manifest));
      archive.finalize();
    };
    await Promise.all([loaded, write()]);
    return `sha256:${id}`;
  });
}

/** The same upon an image of a registry, by a Dockerfile and the engine's own build. */
export function buildImageUpon(inputs: ImageInputs, baseImage: string, version: string, context: BuildContext): Promise<void> {
  return inWorkFolder(context.cacheDir, async (work) => {
    const programs = await fetchPrograms(inputs, { ...context, work });
    const build = pack();
    const labels = imageLabels(inputs, version, sha256(JSON.stringify([inputs.definition.config, baseImage, inputs.digest])), 'base-image');
    const built = buildImage(build, { tag: imageTag(inputs), args: { BASE: baseImage }, labels });
    built.catch(() => {}); // as above
    const write = async () => {
      build.entry({ name: 'Dockerfile', mtime: EPOCH, mode: 0o644 }, inputs.dockerfile);
      const place = inputs.definition.kind === 'runtime' ? '' : 'root/';
      for (const { target, content, mode = 0o644 } of inputs.files) build.entry({ name: `${place}${target}`, mtime: EPOCH, mode }, content);
      for (const [path, entry] of Object.entries(inputs.definition.entries))
        if (entry.type === 'symlink') build.entry({ name: `root/${path}`, mtime: EPOCH, type: 'symlink', linkname: entry.target });
      build.entry({ name: `${EMPTY_FOLDER}/`, mtime: EPOCH, mode: 0o755, type: 'directory' });
      for (const { target, path, size } of programs)
        await addFile(build, { name: `root/${target}`, mtime: EPOCH, mode: 0o755 }, { path, size });
      build.finalize();
    };
    await Promise.all([built, write()]);
  });
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
