/**
 * The inventory after a start: which of the instances that still run may be believed. To adopt: our
 * label (the driver lists no others), our record, and the same start time. A generic one goes back to
 * the pool. Anything else of ours is destroyed.
 */
import { revisionOf, type Instance, type RevisionState } from '../core/world.ts';
import type { DriverInstance } from '../driver/types.ts';
import type { InstanceRecord } from '../store/types.ts';
import { messageOf, type EngineContext, type InstanceEvents } from './context.ts';
import { GATEWAY_LOST_MS } from './gateways.ts';
import { RuntimeUnreachable } from './runtime-client.ts';
import { currentVersions } from './secrets.ts';
import { newInstance } from './start.ts';

/** Instances that are asked at a time: all at once, on a busy host, none would answer within its second. */
const JUDGED_AT_A_TIME = 8;

export interface InventoryEvents {
  follow: InstanceEvents['follow'];
  /** It is not believed and has to go. */
  discard(instance: Instance, why: string): void;
  /** State of a revision that is kept; null where it is not. */
  wake(revision: string): RevisionState | null;
  /** It is believed, but was too busy to answer. */
  verify(instance: Instance): void;
}

/** The functions are known already: what runs none of their revisions is not believed. */
export async function takeInventory(context: EngineContext, events: InventoryEvents): Promise<{ adopted: number; destroyed: number }> {
  const { world, driver, records, log } = context;
  const known = await records.load();
  const versions = await currentVersions(context.store);
  const found = await driver.list();
  const left = [...found];
  let adopted = 0;
  const worker = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const instance = fromRecord(context, next, known.get(next.id));
      const verdict = await judge(context, instance, next, known.get(next.id), events);
      if (verdict.believe) {
        adopted += 1;
        instance.stale = isOutdated(context, instance, versions);
        world.addInstance(instance);
        if (instance.state.kind === 'ready') events.follow(instance, instance.state.revision);
        if (verdict.busy) events.verify(instance);
      } else {
        log.info({ instance: next.id, why: verdict.why }, 'destroying an instance found at start');
        instance.address = null;
        instance.state = { kind: 'draining', revision: null, since: context.clock.now() };
        events.discard(instance, verdict.why);
      }
    }
  };
  await Promise.all(Array.from({ length: JUDGED_AT_A_TIME }, worker));
  await records.prune(new Set(world.instances.keys()));
  return { adopted, destroyed: found.length - adopted };
}

/** What is known of an instance that was found, generic until it has been judged. */
function fromRecord({ clock }: EngineContext, found: DriverInstance, record: InstanceRecord | undefined): Instance {
  const now = clock.now();
  return {
    ...newInstance(found.id, found, record?.nonce ?? '', now),
    memoryMib: record?.memoryMib ?? found.memoryClassMib,
    cpu: record?.cpu ?? 0,
    secrets: record === undefined || record.revision === null ? null : record.secrets,
    state: { kind: 'generic', since: now },
    address: found.address,
    // The wall clock may have jumped; this is for people only.
    createdAt: record ? now - Math.max(0, clock.wall() - record.createdAt) : now,
    genericAt: now,
    handle: found.handle,
    pid: found.pid ?? null,
    startedAt: found.startedAt,
  };
}

/** A secret was changed, and the controller ended before all instances were replaced. */
function isOutdated({ world }: EngineContext, instance: Instance, versions: ReadonlyMap<string, number>): boolean {
  const revision = world.revisions.get(revisionOf(instance) ?? '')?.revision;
  if (!revision) return false;
  return revision.settings.secrets.some((name) => {
    const current = versions.get(`${revision.namespace}/${name}`);
    return current !== undefined && instance.secrets?.[name] !== current;
  });
}

type Verdict = { believe: true; busy: boolean } | { believe: false; why: string };

const not = (why: string): Verdict => ({ believe: false, why });

/** Whether it may be adopted; if so `instance` is in the state in which it goes on. */
async function judge(
  context: EngineContext,
  instance: Instance,
  found: DriverInstance,
  record: InstanceRecord | undefined,
  events: InventoryEvents,
): Promise<Verdict> {
  const { driver, runtime, clock } = context;
  if (!found.running) return not('it has ended');
  if (!record) return not('there is no record of it');
  if (record.startedAt !== found.startedAt) return not('it was started at another time than recorded');
  try {
    const state = record.revision === null ? null : events.wake(record.revision);
    if (record.revision !== null && !state) return not(`revision ${record.revision} is not known any more`);
    // Whether it was frozen is not recorded: thawing what is not frozen does nothing.
    if (driver.features.freeze) await driver.thaw(found.id);
    const health = await runtime.health(found.address).catch((error: unknown) => {
      if (error instanceof RuntimeUnreachable) return null;
      throw error;
    });
    if (health && health.instance !== found.id) return not('it says it is another instance');
    if (state === null) {
      if (health?.status !== 'generic') return not(health ? 'it is not generic, but no init is recorded' : 'it does not answer');
      await driver.seal(found.id);
      return { believe: true, busy: false };
    }
    // One whose init had succeeded says so, though the controller had no time to write it down.
    if (!record.initialised && health?.status !== 'ready') return not('it was being initialised when the controller ended');
    if (health && (health.status !== 'ready' || health.revision !== record.revision))
      return not(`it is ${health.status}, not ready with ${record.revision}`);
    instance.state = { kind: 'ready', revision: state!.key, idleSince: clock.now() };
    // A gateway that has not come back yet may hold it, and send a request at any moment [12, 13].
    instance.notBefore = clock.now() + GATEWAY_LOST_MS;
    instance.served = true;
    return { believe: true, busy: health === null };
  } catch (error) {
    return not(`it could not be looked at: ${messageOf(error)}`);
  }
}
