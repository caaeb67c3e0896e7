/**
 * Changes of a function: one at a time, in the order in which they came. Each is committed, then
 * routed, then acknowledged by the gateways; only then is what it replaced let go [15].
 */
import type { FunctionAccess } from '#contract/access.ts';
import { FnError } from '#contract/errors.ts';
import { previewPath } from '#contract/names.ts';
import type { DeclaredBy, Traffic } from '#contract/function.ts';
import type { RevisionState } from '../core/world.ts';
import type { FunctionRecord } from '../store/types.ts';
import { quotaOf, type EngineContext } from './context.ts';
import { routeOf, shareOf, type Functions } from './functions.ts';
import type { Gateways } from './gateways.ts';
import type { Planner } from './planner.ts';
import type { Load, Rollout } from './rollout.ts';
import { checkRoutes, type PlatformHosts } from './routes.ts';

/**
 * Longest that a function's access may be as JSON, bytes: a gateway that comes is told of all functions in one line,
 * and no tenant may make that longer than a line can be. 64 routes, or a hundred keys, are a third of it.
 */
const MAX_ACCESS_BYTES = 65_536;

export interface ChangeParts {
  context: EngineContext;
  functions: Functions;
  gateways: Gateways;
  planner: Planner;
  rollout: Rollout;
}

/** How many revisions are kept of a function, and for how long, beside those that traffic needs. */
export interface Retention {
  count: number;
  maxAgeMs: number;
}

export class Changes {
  readonly #parts: ChangeParts;
  readonly #retention: Retention;
  readonly #platformHosts: PlatformHosts;
  readonly #queues = new Map<string, Promise<unknown>>();
  #commits: Promise<unknown> = Promise.resolve();

  constructor(parts: ChangeParts, retention: Retention, platformHosts: PlatformHosts) {
    this.#parts = parts;
    this.#retention = retention;
    this.#platformHosts = platformHosts;
  }

  /** Runs one change of a function after those before it have ended, however they ended. */
  serialise<T>(namespace: string, name: string, change: () => Promise<T>): Promise<T> {
    const key = `${namespace}/${name}`;
    const before = this.#queues.get(key) ?? Promise.resolve();
    const mine = before.then(change, change);
    this.#queues.set(key, mine);
    const forget = () => {
      if (this.#queues.get(key) === mine) this.#queues.delete(key);
    };
    mine.then(forget, forget);
    return mine;
  }

  /**
   * Throws FnError invalid, forbidden, route-conflict. What was fine a moment ago may be somebody
   * else's by now: commit() asks again.
   */
  checkAccess(namespace: string, name: string, access: FunctionAccess): void {
    const { functions, context } = this.#parts;
    const bytes = Buffer.byteLength(JSON.stringify(access));
    if (bytes > MAX_ACCESS_BYTES)
      throw new FnError(
        'invalid',
        `Routes, CORS, auth and limits of ${name} are ${bytes} bytes as JSON, and ${MAX_ACCESS_BYTES} is the most.`,
      );
    checkRoutes({ namespace, name, access }, functions.list(), context.tenancy.namespaces(), this.#platformHosts);
  }

  /** Throws FnError quota-exceeded where the function would be one too many of its namespace. */
  checkCount(namespace: string, name: string): void {
    const { functions, context } = this.#parts;
    const most = quotaOf(context.tenancy, namespace).functions;
    if (most === null || functions.get(namespace, name) || functions.list(namespace).length < most) return;
    throw new FnError('quota-exceeded', `The namespace ${namespace} may have ${most} functions, and has them.`);
  }

  /**
   * Checks the routes, where they are new, and writes, with no other commit between the two; then the gateways are told,
   * and what lost its traffic is let go when they have acknowledged.
   */
  async commit(
    namespace: string,
    name: string,
    access: FunctionAccess | null,
    write: () => Promise<FunctionRecord>,
  ): Promise<FunctionRecord> {
    const { functions, context } = this.#parts;
    const attempt = async () => {
      // What is in force already must not stand in the way of a rollback.
      if (access) this.checkAccess(namespace, name, access);
      this.checkCount(namespace, name);
      const record = await write();
      return { record, lost: functions.apply(record, context.clock.now()) };
    };
    const mine = this.#commits.then(attempt, attempt);
    this.#commits = mine;
    const { record, lost } = await mine;
    await this.#parts.gateways.route([routeOf(record)], []);
    this.#release(lost);
    return record;
  }

  /** Its leases go back; what is in flight ends on it. */
  #release(lost: readonly RevisionState[]): void {
    for (const { key } of lost) this.#parts.gateways.revokeRevision(key);
    this.#parts.planner.kick();
  }

  /** Throws FnError function-not-found, revision-not-found, precondition-failed, and what a deployment throws. */
  setTraffic(namespace: string, name: string, traffic: Traffic, ifMatch: string | null, signal: AbortSignal): Promise<FunctionRecord> {
    return this.serialise(namespace, name, async () => {
      const { context, functions, rollout } = this.#parts;
      const before = functions.require(namespace, name);
      const ifGeneration = checkGeneration(before, ifMatch);
      const more = traffic
        .filter((share) => share.percent > shareOf(before, share.revision))
        .map(({ revision, percent }) => ({ state: this.#keptState(before, revision), percent }));
      for (const { revision } of traffic) this.#keptState(before, revision);
      try {
        const requests = this.load(before);
        // All at once: what it takes is what the slowest takes. None may go on bringing instances up when another has failed.
        const attempts = await Promise.allSettled(
          more.map(({ state, percent }) => this.#bringUp(state, { requests: (requests * percent) / 100, percent }, signal)),
        );
        const failed = attempts.find((attempt) => attempt.status === 'rejected');
        if (failed) throw failed.reason;
        rollout.goOn(signal);
        const write = () => context.store.changeFunction(namespace, name, { traffic, ...(ifGeneration === null ? {} : { ifGeneration }) });
        return await this.commit(namespace, name, null, write);
      } finally {
        for (const { state } of more) rollout.done(state);
      }
    });
  }

  async #bringUp(state: RevisionState, load: Load, signal: AbortSignal): Promise<void> {
    // Somebody asks for it now: that it failed a while ago is no reason to wait.
    Object.assign(state, { failures: 0, notBefore: 0, problem: null });
    await this.#parts.rollout.firstInstance(state, signal);
    await this.#parts.rollout.readyForLoad(state, load, signal);
  }

  /** Throws FnError revision-not-found. */
  #keptState(record: FunctionRecord, number: number): RevisionState {
    const revision = record.revisions.find((candidate) => candidate.number === number);
    if (revision) return this.#parts.functions.stateOf(revision);
    const kept = record.revisions.map((candidate) => candidate.number).join(', ');
    throw new FnError('revision-not-found', `There is no revision ${number} of ${record.name}; there is: ${kept}.`);
  }

  /** Requests of a function that are in flight or wait, previews aside. */
  load(record: FunctionRecord | null): number {
    let load = 0;
    for (const { key } of record?.revisions ?? []) {
      const state = this.#parts.context.world.revisions.get(key);
      if (state && state.percent > 0) load += requestsOf(state);
    }
    return load;
  }

  /** What one revision has to do now. */
  loadOf(state: RevisionState): Load {
    return { requests: requestsOf(state), percent: state.percent };
  }

  /** Throws FnError function-not-found, invalid, forbidden, route-conflict, precondition-failed. */
  setAccess(
    namespace: string,
    name: string,
    access: FunctionAccess,
    ifMatch: string | null,
    declaredBy?: DeclaredBy,
  ): Promise<FunctionRecord> {
    return this.serialise(namespace, name, async () => {
      const ifGeneration = checkGeneration(this.#parts.functions.require(namespace, name), ifMatch);
      const { store } = this.#parts.context;
      const change = { access, ...(declaredBy ? { declaredBy } : {}), ...(ifGeneration === null ? {} : { ifGeneration }) };
      return this.commit(namespace, name, access, () => store.changeFunction(namespace, name, change));
    });
  }

  /** Returns the highest revision that is no more; null where there was no such function. */
  delete(namespace: string, name: string): Promise<number | null> {
    return this.serialise(namespace, name, async () => {
      const { context, functions, gateways } = this.#parts;
      const numbers = functions.get(namespace, name)?.revisions.map((revision) => revision.number) ?? [];
      if (!(await context.store.deleteFunction(namespace, name))) return null;
      const old = functions.remove(namespace, name);
      await gateways.route([], [{ namespace, name }]);
      this.#release(old);
      context.log.info({ function: `${namespace}/${name}` }, 'function deleted');
      return Math.max(0, ...numbers);
    });
  }

  /** Removes revisions beyond count and age. What is in flight on them ends. Returns how many went. */
  async retire(namespace: string, name: string): Promise<number> {
    return this.serialise(namespace, name, async () => {
      const { context, functions, gateways } = this.#parts;
      const record = functions.get(namespace, name);
      const numbers = record ? expired(record, this.#retention, context.clock.wall()) : [];
      if (numbers.length === 0) return 0;
      const removed = await context.store.removeRevisions(namespace, name, numbers);
      const after = await context.store.getFunction(namespace, name);
      if (!after) return 0;
      const lost = functions.apply(after, context.clock.now());
      await gateways.route([routeOf(after)], []);
      this.#release(lost);
      context.log.info(
        { function: `${namespace}/${name}`, revisions: removed, previews: removed.map((n) => previewPath(namespace, name, n)) },
        'removed old revisions',
      );
      return removed.length;
    });
  }
}

function requestsOf(state: RevisionState): number {
  let requests = 0;
  for (const demand of state.demand.values()) requests += demand.inFlight + demand.waiting;
  return requests;
}

/** The generation that the store must find; null where the caller does not mind. Throws FnError precondition-failed. */
function checkGeneration({ name, generation }: FunctionRecord, ifMatch: string | null): number | null {
  if (ifMatch === null) return null;
  if (ifMatch === String(generation)) return generation;
  throw new FnError('precondition-failed', `The function ${name} has changed: its ETag is "${generation}" now, not "${ifMatch}".`);
}

/**
 * Revisions to remove: older than the age, or more than the count, the oldest first. Never one with
 * traffic, nor what a rollback goes back to: the newest before the current one, and before the newest with traffic.
 */
export function expired(record: FunctionRecord, { count, maxAgeMs }: Retention, wallMs: number): number[] {
  const serving = record.traffic.map((share) => share.revision);
  const before = (number: number) => record.revisions.find((revision) => revision.number < number)?.number;
  const needed = new Set([before(serving[0] ?? 0), before(Math.max(...serving)), ...serving]);
  return record.revisions
    .filter(({ number, createdAt }, index) => !needed.has(number) && (index >= count || wallMs - createdAt > maxAgeMs))
    .map((revision) => revision.number);
}
