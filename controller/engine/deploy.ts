/**
 * Deployments [15]: the new revision is loaded and ready for the load that the old one carries,
 * then committed, then routed, then acknowledged by the gateways; only then is the old one let go.
 */
import type { DeployRequest, DeployResponse } from '#contract/api.ts';
import { FnError } from '#contract/errors.ts';
import { memoryClass, networkClass, type Egress, type Revision } from '#contract/function.ts';
import type { Route } from '#contract/link.ts';
import { revisionKey, revisionLabel } from '#contract/names.ts';
import type { Instance, RevisionState } from '../core/world.ts';
import type { EngineContext, StartFailure } from './context.ts';
import type { Gateways } from './gateways.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { Planner } from './planner.ts';

/** Longest wait for the first instance of a new revision: a full start and its init, on a busy host. */
const FIRST_INSTANCE_TIMEOUT_MS = 60_000;
/** Longest wait for the rest of the instances that the present load asks for; after it, traffic moves all the same. */
const LOAD_TIMEOUT_MS = 10_000;

interface Waiting {
  resolve: (instance: Instance) => void;
  reject: (error: FnError) => void;
}

export class Deployer {
  readonly #context: EngineContext;
  readonly #lifecycle: Lifecycle;
  readonly #gateways: Gateways;
  readonly #planner: Planner;
  readonly #publicUrl: (namespace: string, name: string) => string;
  readonly #waiting = new Map<string, Waiting>();
  /** One change of a function at a time, in the order in which they came. */
  readonly #queues = new Map<string, Promise<unknown>>();
  #closed = false;

  constructor(parts: {
    context: EngineContext;
    lifecycle: Lifecycle;
    gateways: Gateways;
    planner: Planner;
    publicUrl: (namespace: string, name: string) => string;
  }) {
    this.#context = parts.context;
    this.#lifecycle = parts.lifecycle;
    this.#gateways = parts.gateways;
    this.#planner = parts.planner;
    this.#publicUrl = parts.publicUrl;
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

  /** The controller ends: what waits is refused, and what comes. */
  close(): void {
    this.#closed = true;
    for (const waiting of this.#waiting.values()) waiting.reject(ending());
  }

  /** Throws where the deployment is not to go on. */
  #goOn(signal: AbortSignal): void {
    if (this.#closed) throw ending();
    if (signal.aborted) throw cancelled();
  }

  ready(instance: Instance): void {
    const key = 'revision' in instance.state ? instance.state.revision : null;
    if (key !== null) this.#waiting.get(key)?.resolve(instance);
  }

  failed(revision: string, failure: StartFailure): void {
    const error =
      failure.code === 'start-failed'
        ? new FnError('start-failed', failure.detail)
        : new FnError('deploy-refused', failure.detail, { functionError: failure.functionError });
    this.#waiting.get(revision)?.reject(error);
  }

  /** A start of the pool failed: whoever waits for a first instance should hear of it only if none comes; so the last reason is kept. */
  lastStartFailure: StartFailure | null = null;

  async deploy(namespace: string, name: string, request: DeployRequest, signal: AbortSignal): Promise<DeployResponse> {
    return this.serialise(namespace, name, () => this.#deploy(namespace, name, request, signal));
  }

  async #deploy(namespace: string, name: string, request: DeployRequest, signal: AbortSignal): Promise<DeployResponse> {
    this.#goOn(signal);
    const { store, world, clock } = this.#context;
    const notes: string[] = [];
    const egress = this.#resolveEgress(request.settings.egress, notes);
    await this.#check(request);
    const number = await store.reserveRevision(namespace, name);
    const draft: Revision = {
      key: revisionKey(namespace, name, number),
      namespace,
      name,
      number,
      bundle: request.bundle,
      entry: request.entry,
      // The two that the first load decides are filled in below, before anything is stored.
      settings: { ...request.settings, egress, concurrency: request.settings.concurrency ?? 1 },
      form: 'function',
      createdAt: clock.wall(),
    };
    const state: RevisionState = {
      key: draft.key,
      revision: draft,
      slots: request.settings.concurrency,
      routed: false,
      floor: 1,
      demand: new Map(),
      failures: 0,
      deaths: 0,
      notBefore: 0,
      problem: null,
    };
    world.revisions.set(state.key, state);
    try {
      const begun = clock.now();
      const first = await this.#firstInstance(state, signal);
      const readyAt = clock.now();
      const revision: Revision = {
        ...draft,
        form: this.#lifecycle.forms.get(state.key) ?? draft.form,
        settings: { ...draft.settings, concurrency: state.slots ?? 1 },
      };
      state.revision = revision;
      await this.#readyForLoad(state, namespace, name, signal);
      this.#goOn(signal);
      await store.commitRevision(revision);
      await this.#switch(state, namespace, name);
      return {
        url: this.#publicUrl(namespace, name),
        revision,
        timing: { startMs: Math.max(0, readyAt - begun - first.initMs), initMs: first.initMs, routeMs: clock.now() - readyAt },
        start: (first.genericAt ?? 0) > begun ? 'full' : 'pooled',
        notes,
      };
    } finally {
      state.floor = 0;
      this.#planner.kick();
    }
  }

  /** Resolved once, here, so that a revision means the same for as long as it lives. */
  #resolveEgress(wanted: Egress | null, notes: string[]): Egress {
    const { egress: can, limits, notes: why } = this.#context.driver.features;
    if (wanted === null) {
      if (can !== 'none') return this.#resolveEgress('internet', notes);
      notes.push('Egress is none: this host cannot filter what functions dial (see `fn status`); `sudo fn host-setup` changes that.');
      return 'none';
    }
    if (wanted !== 'none' && can === 'none') {
      throw new FnError('invalid', `This host cannot give a function egress. ${why.join(' ')}`, {
        errors: [
          {
            pointer: '/settings/egress',
            detail: 'only none is possible on this host; `sudo fn host-setup`, or `fn up --allow-unfiltered-egress`',
          },
        ],
      });
    }
    if (wanted === 'none' && !limits) notes.push('Egress none is not enforced by this driver: the function runs as a plain process.');
    if (Array.isArray(wanted) && wanted.some((network) => /^(?:127|169\.254)\./.test(network)))
      notes.push('Loopback and link-local addresses stay out of reach, listed or not.');
    if (wanted !== 'none' && can === 'unfiltered')
      notes.push('Egress is not filtered on this host: the function can dial whatever this host can.');
    return wanted;
  }

  async #check(request: DeployRequest): Promise<void> {
    const { settings, driver, bundles } = this.#context;
    const wanted = request.settings;
    const runtimes = await driver.runtimes();
    if (!runtimes.some((runtime) => runtime.name === wanted.runtime)) {
      const known = runtimes.map((runtime) => runtime.name).join(', ') || 'none';
      const remedy = driver.name === 'docker' ? ` If it is one of fn's own, build its image: fn runtimes build ${wanted.runtime}.` : '';
      throw new FnError('invalid', `There is no runtime ${wanted.runtime} here; there is: ${known}.${remedy}`, {
        errors: [{ pointer: '/settings/runtime', detail: `one of: ${known}` }],
      });
    }
    if (!(await bundles.has(request.bundle))) {
      throw new FnError('invalid', 'The bundle has not been uploaded.', {
        errors: [{ pointer: '/bundle', detail: 'PUT /v1/bundles/DIGEST first' }],
      });
    }
    const count = Math.max(1, wanted.min);
    if (
      Math.max(count * wanted.memoryMib, memoryClass(wanted.memoryMib)) > settings.memoryBudgetMib ||
      count * wanted.cpu > settings.cpuBudget
    ) {
      throw new FnError(
        'no-capacity',
        `${count} × ${wanted.memoryMib} MiB and ${wanted.cpu} CPU do not fit this host's budget of ${settings.memoryBudgetMib} MiB and ${settings.cpuBudget} CPU.`,
      );
    }
  }

  /** Floor 1 makes the plan bring one up; this waits for it, or for the reason why not. */
  async #firstInstance(state: RevisionState, signal: AbortSignal): Promise<Instance> {
    const { clock } = this.#context;
    const { promise, resolve, reject } = Promise.withResolvers<Instance>();
    this.#waiting.set(state.key, { resolve, reject });
    this.lastStartFailure = null;
    const cancel = clock.after(FIRST_INSTANCE_TIMEOUT_MS, () => {
      const detail =
        this.lastStartFailure?.detail ??
        `No instance could be had within ${FIRST_INSTANCE_TIMEOUT_MS / 1_000} s: the budget is in use, or the host is too busy.`;
      reject(new FnError(this.lastStartFailure ? 'start-failed' : 'no-capacity', detail, { retryAfterSeconds: 5 }));
    });
    const onAbort = () => reject(cancelled());
    // Either may have happened before there was anything to refuse.
    if (signal.aborted || this.#closed) reject(signal.aborted ? cancelled() : ending());
    signal.addEventListener('abort', onAbort, { once: true });
    this.#planner.kick();
    try {
      return await promise;
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
      this.#waiting.delete(state.key);
    }
  }

  /** At least ceil(in flight on the old one ÷ slots) ready, and `min`; as far as budget and time allow. */
  async #readyForLoad(state: RevisionState, namespace: string, name: string, signal: AbortSignal): Promise<void> {
    const { world, clock } = this.#context;
    const old = [...world.revisions.values()].find(
      (other) => other.routed && other.revision.namespace === namespace && other.revision.name === name,
    );
    let load = 0;
    for (const demand of old?.demand.values() ?? []) load += demand.inFlight + demand.waiting;
    const { min, max } = state.revision.settings;
    const wanted = Math.min(max, Math.max(1, min, Math.ceil(load / (state.slots ?? 1))));
    if (wanted <= 1) return;
    state.floor = wanted;
    this.#planner.kick();
    const end = clock.now() + LOAD_TIMEOUT_MS;
    const ready = () => [...world.instancesOf(state.key)].filter((instance) => instance.state.kind === 'ready').length;
    while (ready() < wanted && clock.now() < end && !signal.aborted && !this.#closed && state.failures === 0) {
      await new Promise<void>((resolve) => {
        clock.after(20, resolve);
      });
    }
  }

  async #switch(state: RevisionState, namespace: string, name: string): Promise<void> {
    const { world } = this.#context;
    const old = [...world.revisions.values()].filter(
      (other) => other.routed && other.revision.namespace === namespace && other.revision.name === name,
    );
    state.routed = true;
    for (const other of old) {
      other.routed = false;
      other.demand.clear();
    }
    await this.#gateways.route([routeOf(state.revision)], []);
    for (const other of old) this.#release(other);
  }

  /** The old revision's leases go back; what is in flight ends on it. */
  #release(old: RevisionState): void {
    this.#gateways.revokeRevision(old.key, old.revision.settings.timeoutSeconds * 1_000);
    this.#planner.kick();
  }

  /** Returns the highest revision that is no more; null where there was no such function. */
  async delete(namespace: string, name: string): Promise<number | null> {
    return this.serialise(namespace, name, async () => {
      const { store, world, log } = this.#context;
      if (!(await store.deleteFunction(namespace, name))) return null;
      const old = [...world.revisions.values()].filter((state) => state.revision.namespace === namespace && state.revision.name === name);
      for (const state of old) {
        state.routed = false;
        state.floor = 0;
        state.demand.clear();
      }
      await this.#gateways.route([], [{ namespace, name }]);
      for (const state of old) this.#release(state);
      log.info({ function: `${namespace}/${name}` }, 'function deleted');
      return Math.max(0, ...old.map((state) => state.revision.number));
    });
  }
}

const ending = () => new FnError('shutting-down', 'The platform is shutting down.', { retryAfterSeconds: 5 });
const cancelled = () => new FnError('conflict', 'The deployment was cancelled.');

/** All that a gateway needs to know of a revision. */
export function routeOf(revision: Revision): Route {
  return {
    namespace: revision.namespace,
    name: revision.name,
    revision: revision.key,
    timeoutMs: Math.round(revision.settings.timeoutSeconds * 1_000),
    maxSlots: revision.settings.max * revision.settings.concurrency,
  };
}

export const deployedLabel = (revision: Revision): string =>
  `${revisionLabel(revision.key)} (${revision.form}, ${revision.settings.memoryMib} MiB, ${networkClass(revision.settings.egress)})`;
