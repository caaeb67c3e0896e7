/**
 * Declared functions: objects of Kubernetes that the leading controller brings its functions in line with. It watches the
 * namespaces of the settings for as long as it leads; what happened before is found by the lists at the start.
 */
import { backoffMs } from '#kit/backoff.ts';
import { sleep } from '#kit/clock.ts';
import { requestIds } from '#kit/ids.ts';
import { ListWatch } from '../kube/watch.ts';
import { DeclaredObjects } from './objects.ts';
import type { DeclaredOptions } from './ports.ts';
import { WorkQueue } from './queue.ts';
import { Reconciler } from './reconciler.ts';
import { type FunctionObject, FUNCTIONS } from './resource.ts';

/** A change by the API is in the audit log a moment after it is made; who looks at once does not find who it was, ms. */
const AUDIT_DELAY_MS = 1_000;
/** Pauses between attempts to read the first list: the definition may not be installed yet. */
const FIRST_LIST = { baseMs: 1_000, maxMs: 60_000 } as const;

export interface Declared {
  /** A function was changed or deleted, by whomever. Does not wait. */
  functionChanged(namespace: string, name: string): void;
  /** Ends watching; resolves when what was being applied has ended or was cut off. Before the engine is closed. Idempotent. */
  close(): Promise<void>;
}

/** Begins; what cannot be reached yet is tried until it can. */
export function startDeclared(options: DeclaredOptions): Declared {
  const { settings, platform, api, clock, log } = options;
  const stop = new AbortController();
  const { signal } = stop;
  const objects = new DeclaredObjects(settings.declared);
  const watched = new Set(settings.declared.map(({ kubeNamespace }) => kubeNamespace));
  const synced = new Set<string>();
  const reconciler = new Reconciler({
    ...options,
    objects,
    knows: (namespace) => (synced.has(namespace) ? 'all' : watched.has(namespace) ? 'not yet' : 'unwatched'),
    requestId: requestIds(),
    signal,
  });
  const queue = new WorkQueue(clock, async (key, failures) => {
    try {
      await reconciler.reconcile(key, failures);
    } catch (error) {
      if (!signal.aborted) log.warn({ key, failures, error: messageOf(error) }, 'a declared function waits for the next attempt');
      throw error;
    }
  });
  const changed = (object: FunctionObject) => {
    const before = objects.get(object.metadata.uid);
    const keys = objects.set(object);
    // Our own writing of its status is no news.
    if (before !== undefined && sameWish(before, object)) return;
    if (synced.has(object.metadata.namespace ?? '')) for (const key of keys) queue.addNew(key);
  };
  const deleted = (object: FunctionObject) => {
    reconciler.forget(object.metadata.uid);
    for (const key of objects.delete(object)) queue.addNew(key);
  };
  const first = async (namespace: string) => {
    if (synced.has(namespace)) return;
    synced.add(namespace);
    for (const key of objects.keysIn(namespace)) queue.add(key);
    // Those whose object was deleted while nobody watched; and those that waited to know.
    for (const { declaredBy, namespace: of, name } of await platform.list())
      if (declaredBy?.namespace === namespace) queue.add(`${of}/${name}`);
  };
  const watches = [...watched].map((namespace) => {
    const watch = new ListWatch({ api, resource: FUNCTIONS, namespace, log, clock, onChange: changed, onDelete: deleted });
    return { namespace, watch };
  });
  const begin = async ({ namespace, watch }: (typeof watches)[number]) => {
    for (let failures = 1; !signal.aborted; failures += 1) {
      try {
        await watch.start();
        await first(namespace);
        return;
      } catch (error) {
        if (failures === 1)
          log.warn(
            { namespace, error: messageOf(error) },
            'declared functions cannot be read: is functions.fn.dev installed, and may this controller list it?',
          );
        await sleep(backoffMs(failures, FIRST_LIST), signal).catch(() => {}); // Closed: the loop ends.
      }
    }
  };
  const begun = watches.map(begin);
  return {
    functionChanged: (namespace, name) => {
      const key = `${namespace}/${name}`;
      if (objects.claims(key).length > 0) queue.add(key, AUDIT_DELAY_MS);
    },
    close: async () => {
      stop.abort(new Error('the controller ends'));
      await Promise.all(watches.map(({ watch }) => watch.close()));
      await Promise.all([...begun, queue.close()]);
    },
  };
}

/** Whether two states of an object ask for the same. */
function sameWish(before: FunctionObject, after: FunctionObject): boolean {
  const of = ({ metadata: { generation, annotations, deletionTimestamp } }: FunctionObject) =>
    JSON.stringify([generation, deletionTimestamp !== undefined, Object.entries(annotations).toSorted()]);
  return of(before) === of(after);
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
