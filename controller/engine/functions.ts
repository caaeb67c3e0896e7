/**
 * The functions as they are now: which revisions are kept, which share of the traffic each has, and
 * how the world reaches them. A copy of what the store has, so that nothing is read to serve; changed
 * only by what the store returned. What it says about revisions is carried over to the world, which
 * holds those with traffic, and those of which anything runs or is asked.
 */
import type { Revision } from '#contract/function.ts';
import type { Route } from '#contract/link.ts';
import { FnError } from '#contract/errors.ts';
import { parseRevisionKey } from '#contract/names.ts';
import { newRevisionState, type RevisionState, type World } from '../core/world.ts';
import type { FunctionRecord } from '../store/types.ts';

const nameOf = (namespace: string, name: string): string => `${namespace}/${name}`;

export class Functions {
  readonly #world: World;
  readonly #records = new Map<string, FunctionRecord>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Hears what a function is now; null: it was deleted. */
  onChange: (namespace: string, name: string, record: FunctionRecord | null) => void = () => {};

  get(namespace: string, name: string): FunctionRecord | null {
    return this.#records.get(nameOf(namespace, name)) ?? null;
  }

  /** Throws FnError function-not-found. */
  require(namespace: string, name: string): FunctionRecord {
    const record = this.get(namespace, name);
    if (!record) throw notFound(namespace, name);
    return record;
  }

  /** By namespace, then name; of all namespaces without one. */
  list(namespace?: string): FunctionRecord[] {
    return [...this.#records.values()]
      .filter((record) => namespace === undefined || record.namespace === namespace)
      .sort((a, b) => (nameOf(a.namespace, a.name) < nameOf(b.namespace, b.name) ? -1 : 1));
  }

  /** Takes over what the store has now. Returns the revisions that lost all of their share, or are kept no more. */
  apply(record: FunctionRecord, now: number): RevisionState[] {
    const before = this.get(record.namespace, record.name);
    this.#records.set(nameOf(record.namespace, record.name), record);
    const lost: RevisionState[] = [];
    for (const revision of record.revisions) {
      const percent = shareOf(record, revision.number);
      // Nine of ten sleep: nothing is known of them until somebody asks for one.
      if (percent === 0 && !this.#world.revisions.has(revision.key)) continue;
      const state = this.stateOf(revision);
      // One that was being deployed had a history of its own until now.
      state.use = this.#world.useOf(record.namespace, record.name);
      if (state.percent > 0 && percent === 0) {
        state.lostShareAt = now;
        lost.push(state);
      } else if (percent > 0) state.lostShareAt = null;
      state.routed = true;
      state.percent = percent;
    }
    const kept = new Set(record.revisions.map((revision) => revision.key));
    for (const { key } of before?.revisions ?? []) if (!kept.has(key)) lost.push(...this.#unroute(key));
    this.onChange(record.namespace, record.name, record);
    return lost;
  }

  /** It is no more. Returns its revisions. */
  remove(namespace: string, name: string): RevisionState[] {
    const record = this.get(namespace, name);
    this.#records.delete(nameOf(namespace, name));
    this.#world.uses.delete(nameOf(namespace, name));
    if (record !== null) this.onChange(namespace, name, null);
    return record?.revisions.flatMap(({ key }) => this.#unroute(key)) ?? [];
  }

  #unroute(key: string): RevisionState[] {
    const state = this.#world.revisions.get(key);
    if (!state) return [];
    Object.assign(state, { routed: false, percent: 0, lostShareAt: null, floor: 0 });
    state.demand.clear();
    return [state];
  }

  /** A revision that is kept; null where there is none such. */
  revision(key: string): Revision | null {
    const { namespace, name } = parseRevisionKey(key);
    return this.get(namespace, name)?.revisions.find((revision) => revision.key === key) ?? null;
  }

  /** State of a kept revision, asleep until now or not; null where it is not kept. */
  wake(key: string): RevisionState | null {
    const revision = this.revision(key);
    return revision && this.stateOf(revision);
  }

  /** State of a revision that is kept. */
  stateOf(revision: Revision): RevisionState {
    const known = this.#world.revisions.get(revision.key);
    if (known) return known;
    const state = newRevisionState(revision, revision.settings.concurrency, this.#world.useOf(revision.namespace, revision.name));
    // It may have served before this controller: who knows.
    Object.assign(state, { granted: true, routed: true });
    this.#world.revisions.set(revision.key, state);
    return state;
  }
}

/** Percent of the requests that a revision gets. */
export const shareOf = (record: FunctionRecord, number: number): number =>
  record.traffic.find((share) => share.revision === number)?.percent ?? 0;

/** The revision that people mean by the function's name: the first of its traffic. */
export function currentRevision(record: FunctionRecord): Revision {
  const number = record.traffic[0]?.revision;
  const revision = record.revisions.find((candidate) => candidate.number === number);
  if (!revision) throw new Error(`${record.namespace}/${record.name} has traffic for revision ${number}, which is not kept`);
  return revision;
}

/** All that a gateway needs to know of a function. The current revision first, the others from the newest. */
export function routeOf(record: FunctionRecord): Route {
  const { namespace, name, access } = record;
  const current = currentRevision(record);
  return {
    namespace,
    name,
    targets: [current, ...record.revisions.filter((revision) => revision !== current)].map(({ key, number, settings }) => ({
      revision: key,
      number,
      percent: shareOf(record, number),
      timeoutMs: Math.round(settings.timeoutSeconds * 1_000),
      maxStreamMs: Math.round(settings.maxStreamSeconds * 1_000),
      maxSlots: settings.max * settings.concurrency,
    })),
    routes: access.routes,
    cors: access.cors,
    auth: access.auth,
    rateLimit: access.rateLimit,
    sticky: access.sticky,
    async: access.async.enabled,
  };
}

export function notFound(namespace: string, name: string): FnError {
  return new FnError('function-not-found', `There is no function ${name} in namespace ${namespace}.`);
}
