/**
 * The "bundler" of the runtime `image`: sees to it that the platform has the image, however it was named,
 * and pins it by its id. The bundle itself holds only that id.
 */
import { createReadStream, existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type Dockerode from 'dockerode';
import { archive } from '../archive.ts';
import { CliError, usageError } from '../errors.ts';
import { buildImage } from './dockerfile.ts';
import type { Bundle, BundleRequest } from './types.ts';

const ENTRY = 'image.json';

export async function bundleImage(request: BundleRequest): Promise<Bundle> {
  if (request.assets.length > 0) throw usageError('an image takes no assets', 'Put the files into the image: COPY in its Dockerfile.');
  const { id, bytes } = await provide(request);
  const packed = await archive([{ name: ENTRY, contents: Buffer.from(`${JSON.stringify({ id })}\n`) }]);
  return { ...packed, entry: ENTRY, codeBytes: bytes, warnings: [], image: id };
}

type Provided = { id: string; bytes: number };

/** A tar, a Dockerfile, or else a reference for a registry. */
async function provide(request: BundleRequest): Promise<Provided> {
  const { source, image, client, namespace, say } = request;
  const path = image === undefined ? source.entry : resolve(source.folder, image);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (image !== undefined && stats === undefined) {
    if (/^[./]/.test(image) || image.endsWith('.tar')) throw usageError(`there is no file or folder ${path}`);
    say(`image   ${image}: asking the platform to have it`);
    return await client.pullImage(namespace, image);
  }
  if (stats?.isFile() && path.endsWith('.tar')) {
    say(`image   sending ${path}`);
    return await client.putImage(namespace, createReadStream(path));
  }
  return await build(dockerfileOf(path, stats?.isDirectory() === true), request);
}

function dockerfileOf(path: string, isFolder: boolean): string {
  if (!isFolder) return path;
  const found = ['Dockerfile', 'Containerfile'].map((name) => join(path, name)).find((file) => existsSync(file));
  if (found === undefined) throw usageError(`there is no Dockerfile in ${path}`, 'Name an image: fn deploy --image REF --name NAME');
  return found;
}

/** Built here, by this machine's engine; sent, unless the platform's engine is the same or has it by now. */
async function build(dockerfile: string, { client, namespace, say, signal }: BundleRequest): Promise<Provided> {
  const { default: Docker } = await import('dockerode');
  const docker: Dockerode = new Docker();
  try {
    await docker.ping();
  } catch (error) {
    throw new CliError(
      `${dockerfile} needs a Docker engine on this machine to be built (${error instanceof Error ? error.message : String(error)})`,
      {
        hint: 'Start one; or build the image elsewhere, and deploy the archive of docker save or a reference: fn deploy --image REF.',
      },
    );
  }
  say(`image   building ${dockerfile}`);
  const id = (await docker.getImage(await buildImage(docker, dockerfile, say, signal)).inspect()).Id;
  try {
    return await client.pullImage(namespace, id);
  } catch (error) {
    if (!(error instanceof CliError) || error.code !== 'image-not-found') throw error;
  }
  say('image   sending it to the platform');
  const saved = await docker.getImage(id).get();
  const { Readable } = await import('node:stream');
  return await client.putImage(namespace, new Readable().wrap(saved));
}
