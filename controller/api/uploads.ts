/** What was uploaded, and by which namespace: what a deployment may name, and how large a bundle may be. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { BUNDLE_LIMITS, type DeployRequest } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import type { BundleStore, TenancyStore } from '../store/types.ts';
import type { Tenants } from './platform.ts';

export interface Uploads {
  bundles: BundleStore;
  artifacts: Pick<TenancyStore, 'addArtifact' | 'hasArtifact'>;
}

/** Throws FnError invalid where the namespace has not uploaded the bundle or the image, or the entry is not in the bundle. */
export async function requireBundle(
  namespace: string,
  { bundle, entry, image }: Pick<DeployRequest, 'bundle' | 'entry' | 'image'>,
  { bundles, artifacts }: Uploads,
): Promise<void> {
  if (!(await artifacts.hasArtifact(namespace, 'bundle', bundle)) || !(await bundles.has(bundle))) {
    throw new FnError('invalid', `The bundle ${bundle} is not here: upload it first.`, {
      errors: [{ pointer: '/bundle', detail: 'is not in the store; PUT it first' }],
    });
  }
  if (image !== null && !(await artifacts.hasArtifact(namespace, 'image', image))) {
    throw new FnError('invalid', `The image ${image} is not here: upload or pull it first.`, {
      errors: [{ pointer: '/image', detail: 'is not in the store; POST it first' }],
    });
  }
  if (image !== null) {
    // Young again: it is not removed while it is deployed. A function made of it has nothing in its bundle.
    await artifacts.addArtifact(namespace, 'image', image, Date.now());
    return;
  }
  // The store lets no links in, and the contract no `..`.
  const found = await lstat(join(await bundles.dir(bundle), entry)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    throw error;
  });
  if (found?.isFile() !== true)
    throw new FnError('invalid', `The bundle has no file ${entry}.`, {
      errors: [{ pointer: '/entry', detail: 'is not a file of the bundle' }],
    });
}

/** The smaller of the platform's limit (413) and the namespace's quota (403). */
export async function uploadLimit(
  tenants: Pick<Tenants, 'quota'>,
  namespace: string,
): Promise<{ maxBytes: number; tooLarge: () => FnError }> {
  const { bundleBytes } = tenants.quota(namespace);
  const { maxUploadBytes } = BUNDLE_LIMITS;
  if (bundleBytes === null || bundleBytes >= maxUploadBytes) {
    return {
      maxBytes: maxUploadBytes,
      tooLarge: () => new FnError('body-too-large', `A bundle may have at most ${maxUploadBytes} bytes.`),
    };
  }
  const detail = `A bundle of the namespace ${namespace} may have at most ${bundleBytes} bytes (quota bundleBytes).`;
  return { maxBytes: bundleBytes, tooLarge: () => new FnError('quota-exceeded', detail) };
}
