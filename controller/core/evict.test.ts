/** Whose idle instances go on a host that is full: between tenants their shares decide, within one what its instances are worth. */
import { describe, expect, it } from 'vitest';
import { planHost } from './plan.ts';
import { addInstance, testRevision, testSettings } from './testing.ts';
import { World } from './world.ts';

const NOW = 100_000;

/** A host of eight instances of 128 MiB. */
function host() {
  const world = new World();
  const settings = testSettings({ memoryBudgetMib: 1_024, poolSize: 0 });
  const revisionOf = (key: string) => {
    const known = world.revisions.get(key) ?? testRevision(key, { memoryMib: 128 });
    world.revisions.set(key, known);
    return known;
  };
  /** Idle instances; how often they were used, and how long their code says it takes to load, are their function's to say. */
  const idle = (key: string, count: number, { uses = 1, initMs = 50, cpu = 1 } = {}) => {
    revisionOf(key).use.uses = uses;
    return Array.from({ length: count }, (_, index) =>
      addInstance(world, { kind: 'ready', revision: key, idleSince: index }, { initMs, cpu }),
    ).map(({ id }) => id);
  };
  const evicted = (key: string, limits = {}) => {
    const need = { revision: revisionOf(key), claims: 1, deadline: 0 };
    return planHost(world, [need], { ...settings, ...limits }, NOW, 0).actions.flatMap((action) =>
      action.do === 'stop' && action.reason === 'evicted' ? [action.instance] : [],
    );
  };
  return { world, idle, evicted };
}

const NEVER_ENDS = { uses: 1_000_000, initMs: 59_000 };

describe('on a host that is full', () => {
  it('a tenant that calls itself all day, and loads as slowly as it may, pushes out its own instances, not those of others', () => {
    const { idle, evicted } = host();
    const greedy = idle('greedy/a@1', 6, NEVER_ENDS);
    idle('shop/cart@1', 1);
    idle('blog/feed@1', 1);
    expect(evicted('shop/pay@1')).toEqual([greedy[0]]);
    expect(evicted('greedy/b@1')).toEqual([greedy[0]]);
  });

  it('within its share a tenant has no advantage of what others hold beyond theirs: what is over goes, no more', () => {
    const { world, idle, evicted } = host();
    // Two tenants: four instances each are their share.
    const greedy = idle('greedy/a@1', 5, NEVER_ENDS);
    const shop = idle('shop/cart@1', 3);
    expect(evicted('shop/pay@1')).toEqual([greedy[0]]);
    world.removeInstance(greedy[0]!);
    idle('shop/pay@1', 1, { uses: 2 });
    expect(evicted('shop/more@1')).toEqual([shop[0]]);
  });

  it('of one tenant goes who is worth least', () => {
    const { idle, evicted } = host();
    idle('shop/cart@1', 4, { uses: 50 });
    const [rare] = idle('shop/report@1', 4, { uses: 2 });
    expect(evicted('shop/pay@1')).toEqual([rare]);
  });

  it('of CPU as of memory: a tenant that holds most of it goes first', () => {
    const { world, idle, evicted } = host();
    idle('shop/cart@1', 1, { cpu: 1 });
    const greedy = idle('greedy/a@1', 1, { ...NEVER_ENDS, cpu: 3 });
    addInstance(world, { kind: 'generic', since: 0 });
    expect(evicted('shop/pay@1', { cpuBudget: 4 })).toEqual(greedy);
  });
});
