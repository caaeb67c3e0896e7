import { memoryClass, networkClass, type Revision } from '#contract/function.ts';
import type { CoreSettings } from './settings.ts';
import { poolKeyText, type PoolKey, type RevisionState, type World } from './world.ts';

/** By revision, which never changes: a pass over a thousand functions must not work it out a thousand times. */
const pools = new WeakMap<Revision, { pool: PoolKey; text: string }>();

function poolAndText({ revision }: RevisionState): { pool: PoolKey; text: string } {
  let known = pools.get(revision);
  if (!known) {
    const { settings } = revision;
    const pool = {
      runtime: settings.runtime,
      memoryClassMib: memoryClass(settings.memoryMib),
      network: networkClass(settings.egress),
      image: revision.image,
      sandbox: settings.sandbox,
    };
    pools.set(revision, (known = { pool, text: poolKeyText(pool) }));
  }
  return known;
}

/** The pool that a revision's instances are claimed from. */
export const poolOf = (revision: RevisionState): PoolKey => poolAndText(revision).pool;

/** The same as text. */
export const poolText = (revision: RevisionState): string => poolAndText(revision).text;

/** How many generic instances each pool should hold. */
export type PoolTargets = ReadonlyMap<string, { pool: PoolKey; count: number }>;

/**
 * How many generic instances each pool should hold: `poolSize` of the default pool, one of every
 * other that a revision with a share of traffic uses, within a share of the memory budget. The default pool first.
 */
export function poolTargets(world: World, settings: CoreSettings): PoolTargets {
  const targets = new Map<string, { pool: PoolKey; count: number }>();
  if (settings.poolSize === 0) return targets;
  let left = settings.memoryBudgetMib * settings.poolShare;
  const add = (pool: PoolKey, want: number) => {
    const count = Math.min(want, Math.floor(left / pool.memoryClassMib));
    if (count <= 0) return;
    left -= count * pool.memoryClassMib;
    targets.set(poolKeyText(pool), { pool, count });
  };
  const used = new Map<string, PoolKey>();
  for (const revision of world.revisions.values()) {
    if (revision.percent === 0) continue;
    const { pool, text } = poolAndText(revision);
    used.set(text, pool);
  }
  add(settings.defaultPool, settings.poolSize);
  for (const key of [...used.keys()].sort()) {
    if (key !== poolKeyText(settings.defaultPool)) add(used.get(key)!, 1);
  }
  return targets;
}
