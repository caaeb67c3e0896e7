/** Removes images of ours that a newer one has taken the place of. */
import { imageTags, inspectImage, removeImageTag } from './engine.ts';
import { kindLabel } from './image.ts';
import type { RuntimeDefinition } from './runtime.ts';

/** A platform of another checkout may have been started with it, and make its first container in a moment. */
const KEPT_MS = 60 * 60_000;

/**
 * Of the images of a definition all but `current`: those tagged within the last hour stay, and those that a
 * container is made of (the engine refuses). Returns the tags that are gone.
 */
export async function removeStale({ kind, name }: RuntimeDefinition, current: string, now: number): Promise<string[]> {
  const removed: string[] = [];
  for (const { tags } of await imageTags(kindLabel(kind), name)) {
    for (const tag of tags) {
      // What somebody else called by another name is theirs.
      if (tag === current || !tag.startsWith(`fn/${name}:`)) continue;
      // Without a time it was built by an fn that wrote none down.
      const taggedAt = (await inspectImage(tag))?.taggedAt ?? 0;
      if (now - taggedAt < KEPT_MS) continue;
      if (await removeImageTag(tag)) removed.push(tag);
    }
  }
  return removed;
}
