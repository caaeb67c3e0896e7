/** Makes the node image: two layers, configuration and manifest, as an archive that `docker load` reads. */
import { createHash } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { MOUNT_POINTS, NODE_IMAGE_CONFIG } from './definition.ts';
import type { BaseLayer } from './base.ts';
import { buildImage, loadImage } from './engine.ts';
import type { ImageInputs } from './inputs.ts';
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
  contentDigest: string,
  packages: 'locked' | 'drifted' | 'base-image',
): Record<string, string> {
  return {
    'fn.digest': `sha256:${contentDigest}`,
    'fn.inputs': `sha256:${inputs.digest}`,
    'fn.packages': packages,
    'fn.runtime': 'node',
    'fn.version': inputs.node.version,
  };
}

/** The layer over the base: the Node binary and the shim. */
function nodeLayer(inputs: ImageInputs): Layer {
  const layer: Layer = new Map();
  const { size } = statSync(inputs.node.path);
  layer.set('usr/local/bin/node', { type: 'file', mode: 0o755, content: { path: inputs.node.path, size } });
  for (const file of inputs.shim) layer.set(file.target, { type: 'file', mode: 0o644, content: file.content });
  for (const path of MOUNT_POINTS) layer.set(path, { type: 'directory', mode: 0o755 });
  return layer;
}

/** Writes the archive's parts below `cacheDir`, loads it, and cleans up. Returns the digest of the configuration: the image's id. */
export async function loadNodeImage(inputs: ImageInputs, base: BaseLayer, tag: string, cacheDir: string): Promise<string> {
  mkdirSync(cacheDir, { recursive: true });
  const work = await mkdtemp(join(cacheDir, 'build-'));
  try {
    const nodePath = join(work, 'node.tar');
    const node = await writeLayer(nodeLayer(inputs), nodePath);
    const layers = [
      { name: `${base.sha256}.tar`, path: base.path, bytes: base.bytes, sha256: base.sha256, from: 'fn runtimes build: base' },
      {
        name: `${node.sha256}.tar`,
        path: nodePath,
        bytes: node.bytes,
        sha256: node.sha256,
        from: `fn runtimes build: node ${inputs.node.version} and its shim`,
      },
    ];
    const contentDigest = sha256(JSON.stringify([NODE_IMAGE_CONFIG, layers.map((layer) => layer.sha256)]));
    const config = Buffer.from(
      JSON.stringify({
        architecture: ARCHITECTURES[process.arch] ?? process.arch,
        config: { ...NODE_IMAGE_CONFIG, Labels: imageLabels(inputs, contentDigest, base.drifted ? 'drifted' : 'locked') },
        created: EPOCH.toISOString(),
        history: layers.map((layer) => ({ created: EPOCH.toISOString(), created_by: layer.from })),
        os: 'linux',
        rootfs: { diff_ids: layers.map((layer) => `sha256:${layer.sha256}`), type: 'layers' },
      }),
    );
    const id = sha256(config);
    const manifest = [{ Config: `${id}.json`, Layers: layers.map((layer) => layer.name), RepoTags: [tag] }];
    const archive = pack();
    const loaded = loadImage(archive);
    loaded.catch(() => {}); // awaited below; a failure there also ends the writing
    const write = async () => {
      archive.entry({ name: `${id}.json`, mtime: EPOCH, mode: 0o644 }, config);
      for (const layer of layers)
        await addFile(archive, { name: layer.name, mtime: EPOCH, mode: 0o644 }, { path: layer.path, size: layer.bytes });
      archive.entry({ name: 'manifest.json', mtime: EPOCH, mode: 0o644 }, JSON.stringify(manifest));
      archive.finalize();
    };
    await Promise.all([loaded, write()]);
    return `sha256:${id}`;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The same upon an image of a registry, by the Dockerfile and the engine's own build. */
export async function buildNodeImageOn(inputs: ImageInputs, baseImage: string, tag: string): Promise<void> {
  const context = pack();
  const labels = imageLabels(inputs, sha256(JSON.stringify([NODE_IMAGE_CONFIG, baseImage, inputs.digest])), 'base-image');
  const built = buildImage(context, { tag, args: { BASE: baseImage }, labels });
  built.catch(() => {}); // as above
  const write = async () => {
    context.entry({ name: 'Dockerfile', mtime: EPOCH, mode: 0o644 }, inputs.dockerfile);
    for (const file of inputs.shim) context.entry({ name: file.target, mtime: EPOCH, mode: 0o644 }, file.content);
    await addFile(context, { name: 'node', mtime: EPOCH, mode: 0o755 }, { path: inputs.node.path, size: statSync(inputs.node.path).size });
    context.finalize();
  };
  await Promise.all([built, write()]);
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
