/** Images that nothing is made of any more: they go, from the engine and from whose they are. */
import type { Log } from '#kit/log.ts';
import type { ImageStore } from '../driver/types.ts';
import type { TenancyStore } from '../store/types.ts';
import { messageOf } from './context.ts';

export interface ImagePruning {
  store: Pick<TenancyStore, 'listArtifacts' | 'removeArtifact'>;
  images: ImageStore;
  /** Whether a revision of the namespace that is kept, or is being deployed, is made of it: asked just before it goes. */
  inUse: (namespace: string, image: string) => boolean;
  /** What was brought or deployed at this time or later stays: it may be about to be deployed. Milliseconds since 1970. */
  before: number;
  log: Log;
}

/**
 * Takes images from namespaces that have nothing made of them, and has the engine let go of those that are nobody's
 * then. One that it cannot let go of yet stays on record, for the next time. Returns how many were taken.
 */
export async function pruneImages({ store, images, inUse, before, log }: ImagePruning): Promise<number> {
  const owners = new Map<string, Set<string>>();
  const artifacts = await store.listArtifacts('image');
  for (const { namespace, digest } of artifacts) owners.set(digest, (owners.get(digest) ?? new Set()).add(namespace));
  let taken = 0;
  for (const { namespace, digest, addedAt } of artifacts) {
    if (addedAt >= before || inUse(namespace, digest)) continue;
    try {
      const others = (owners.get(digest)?.size ?? 0) > 1;
      // First the engine, then the record: whatever happens in between is done again.
      if (!others && !(await images.release(digest))) continue;
      if (!(await store.removeArtifact(namespace, 'image', digest, before))) continue;
      owners.get(digest)?.delete(namespace);
      taken += 1;
      log.info({ namespace, image: digest }, 'removed an image that no revision is made of');
    } catch (error) {
      log.warn({ namespace, image: digest, error: messageOf(error) }, 'an image that no revision is made of could not be removed');
    }
  }
  return taken;
}
