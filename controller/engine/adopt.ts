/**
 * The inventory after a start: which of the instances that still run may be believed. To adopt: our
 * label (the driver lists no others), our record, and the same start time. A generic one goes back to
 * the pool. Anything else of ours is destroyed.
 */
import { FnError } from '#contract/errors.ts';
import type { Revision } from '#contract/function.ts';
import { parseRevisionKey } from '#contract/names.ts';
import type { Instance, RevisionState } from '../core/world.ts';
import type { DriverInstance } from '../driver/types.ts';
import { messageOf, type EngineContext, type InstanceEvents } from './context.ts';
import type { InstanceRecord } from './records.ts';

/** State of a revision as the store knows it. */
export function storedRevision(revision: Revision, routed: boolean): RevisionState {
  return {
    key: revision.key,
    revision,
    slots: revision.settings.concurrency,
    routed,
    floor: 0,
    demand: new Map(),
    failures: 0,
    deaths: 0,
    notBefore: 0,
    problem: null,
  };
}

export async function takeInventory(context: EngineContext, events: Pick<InstanceEvents, 'follow'>): Promise<{ adopted: number; destroyed: number }> {
  const { world, driver, records, store, log } = context;
  for (const { revision } of await store.listFunctions()) world.revisions.set(revision.key, storedRevision(revision, true));
  const known = await records.load();
  const found = await driver.list();
  let adopted = 0;
  const results = await Promise.all(
    found.map(async (instance) => {
      const record = known.get(instance.id);
      const verdict = await judge(context, instance, record);
      if (typeof verdict === 'string') {
        log.info({ instance: instance.id, why: verdict }, 'destroying an instance found at start');
        await driver.kill(instance.id);
        await records.remove(instance.id);
        return null;
      }
      return verdict;
    }),
  );
  for (const instance of results) {
    if (!instance) continue;
    adopted += 1;
    world.addInstance(instance);
    if (instance.state.kind === 'ready') events.follow(instance, instance.state.revision);
  }
  for (const id of known.keys()) if (!world.instances.has(id)) await records.remove(id);
  return { adopted, destroyed: found.length - adopted };
}

/** The instance as it may be adopted, or why it must be destroyed. */
async function judge(context: EngineContext, found: DriverInstance, record: InstanceRecord | undefined): Promise<Instance | string> {
  const { driver, runtime, clock, world } = context;
  if (!found.running) return 'it has ended';
  if (!record) return 'there is no record of it';
  if (record.startedAt !== found.startedAt) return 'it was started at another time than recorded';
  const now = clock.now();
  const instance: Instance = {
    id: found.id,
    runtime: found.runtime,
    memoryClassMib: found.memoryClassMib,
    network: found.network,
    memoryMib: record.memoryMib,
    cpu: record.cpu,
    state: { kind: 'generic', since: now },
    address: found.address,
    nonce: record.nonce,
    createdAt: now - Math.max(0, clock.wall() - record.createdAt),
    genericAt: now,
    specialisedAt: null,
    initMs: 0,
    notBefore: 0,
    busySince: null,
    leases: new Map(),
    served: false,
    suspicions: 0,
    suspect: false,
    handle: found.handle,
    pid: found.pid ?? null,
    startedAt: found.startedAt,
  };
  if (record.revision !== null && !record.initialised) return 'it was being initialised when the controller ended';
  try {
    // Whether it was frozen is not recorded: thawing what is not frozen does nothing.
    if (driver.features.freeze) await driver.thaw(found.id);
    const health = await runtime.health(found.address);
    if (health.instance !== found.id) return 'it says it is another instance';
    if (record.revision === null) {
      if (health.status !== 'generic') return 'it is not generic, but no init is recorded';
      await driver.seal(found.id);
      return instance;
    }
    if (health.status !== 'ready' || health.revision !== record.revision) return `it is ${health.status}, not ready with ${record.revision}`;
    const state = world.revisions.get(record.revision) ?? (await oldRevision(context, record.revision));
    if (!state) return `revision ${record.revision} is not known any more`;
    instance.state = { kind: 'ready', revision: state.key, idleSince: now };
    return instance;
  } catch (error) {
    return `it does not answer: ${messageOf(error)}`;
  }
}

/** A revision that was replaced while requests were in flight on it: kept until they have ended. */
async function oldRevision(context: EngineContext, key: string): Promise<RevisionState | null> {
  const { namespace, name } = parseRevisionKey(key);
  try {
    const revision = (await context.store.listRevisions(namespace, name)).find((candidate) => candidate.key === key);
    if (!revision) return null;
    const state = storedRevision(revision, false);
    context.world.revisions.set(key, state);
    return state;
  } catch (error) {
    if (error instanceof FnError && error.code === 'function-not-found') return null;
    throw error;
  }
}
