/** What is removed when nothing needs it any more: old revisions, bundles, images. */
import type { Changes } from './changes.ts';
import { type EngineContext, messageOf } from './context.ts';
import type { Functions } from './functions.ts';
import { pruneImages } from './prune-images.ts';

/** How often at least it is looked for, ms; and how old bundles must be that go. */
const PRUNE_EVERY_MS = 3_600_000;

export interface HousekeepingParts {
  context: EngineContext;
  functions: Functions;
  changes: Changes;
  /** How long an image stays that no revision is made of, ms after it was brought, or deployed last. */
  imageKeepMs: number;
}

export class Housekeeping {
  readonly #parts: HousekeepingParts;
  #cancel: () => void = () => {};
  #closed = false;

  constructor(parts: HousekeepingParts) {
    this.#parts = parts;
  }

  /** At once, and then every hour at least. */
  start(): void {
    void this.#run();
  }

  close(): void {
    this.#closed = true;
    this.#cancel();
  }

  async #run(): Promise<void> {
    const { context, functions, changes, imageKeepMs } = this.#parts;
    const { store, bundles, clock, log } = context;
    try {
      for (const { namespace, name } of functions.list()) await changes.retire(namespace, name);
      const removed = await bundles.prune(await store.bundlesInUse(), PRUNE_EVERY_MS);
      if (removed > 0) log.info({ removed }, 'removed bundles that no revision refers to');
      // The world also has those that are being deployed.
      const known = [...context.world.revisions.values()].map(({ revision }) => revision);
      const caches = await context.codeCaches.prune([...functions.list().flatMap(({ revisions }) => revisions), ...known]);
      if (caches > 0) log.info({ removed: caches }, 'removed code caches of revisions that are not kept');
      await this.#pruneImages();
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'old revisions, bundles and images could not be removed');
    }
    if (!this.#closed) this.#cancel = clock.after(Math.min(PRUNE_EVERY_MS, imageKeepMs), () => void this.#run());
  }

  async #pruneImages(): Promise<void> {
    const { context, functions, imageKeepMs } = this.#parts;
    const { store, driver, world, clock, log } = context;
    const { images } = driver;
    if (images === null) return;
    const inUse = (namespace: string, image: string) => {
      // Those that are kept; the world also has those that are being deployed, and forgets what gets no traffic.
      const kept = functions.list().flatMap((record) => record.revisions);
      const known = [...world.revisions.values()].map((state) => state.revision);
      return [...kept, ...known].some((revision) => revision.namespace === namespace && revision.image === image);
    };
    await pruneImages({ store, images, inUse, before: clock.wall() - imageKeepMs, log });
  }
}
