/**
 * Deployments [15]: the new revision is loaded and ready for the load that the function carries, then
 * committed and routed; see changes.ts for what comes after.
 */
import type { DeployRequest, DeployResponse } from '#contract/api.ts';
import { DEFAULT_ACCESS } from '#contract/access.ts';
import { type Declaration, type DeclaredBy, networkClass, type Revision } from '#contract/function.ts';
import { revisionKey, revisionLabel } from '#contract/names.ts';
import { newRevisionState, type RevisionState } from '../core/world.ts';
import type { FunctionChange, FunctionRecord } from '../store/types.ts';
import type { Changes } from './changes.ts';
import type { EngineContext } from './context.ts';
import { checkHosts, checkRequest, resolveEgress } from './deploy-checks.ts';
import type { Functions } from './functions.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { Rollout } from './rollout.ts';
import type { Urls } from './status.ts';

export class Deployer {
  readonly #context: EngineContext;
  readonly #lifecycle: Lifecycle;
  readonly #functions: Functions;
  readonly #changes: Changes;
  readonly #rollout: Rollout;
  readonly #urls: Urls;

  constructor(parts: {
    context: EngineContext;
    lifecycle: Lifecycle;
    functions: Functions;
    changes: Changes;
    rollout: Rollout;
    urls: Urls;
  }) {
    this.#context = parts.context;
    this.#lifecycle = parts.lifecycle;
    this.#functions = parts.functions;
    this.#changes = parts.changes;
    this.#rollout = parts.rollout;
    this.#urls = parts.urls;
  }

  deploy(namespace: string, name: string, request: DeployRequest, signal: AbortSignal, declaration?: Declaration): Promise<DeployResponse> {
    return this.#changes.serialise(namespace, name, () => this.#deploy(namespace, name, request, { signal, declaration }));
  }

  async #deploy(
    namespace: string,
    name: string,
    request: DeployRequest,
    { signal, declaration }: { signal: AbortSignal; declaration: Declaration | undefined },
  ): Promise<DeployResponse> {
    this.#rollout.goOn(signal);
    const { store, world, clock, driver } = this.#context;
    const notes: string[] = [];
    const egress = resolveEgress(driver.features, request.settings.egress, notes);
    await checkRequest(this.#context, namespace, request);
    await checkHosts(driver, egress, notes);
    this.#changes.checkCount(namespace, name);
    const before = this.#functions.get(namespace, name);
    const change = changeOf(request, before, notes);
    if (change.newAccess) this.#changes.checkAccess(namespace, name, change.newAccess);
    if (before?.declaredBy !== undefined && declaration === undefined) notes.push(declaredNote(name, before.declaredBy));
    const number = await store.reserveRevision(namespace, name);
    const draft: Revision = {
      key: revisionKey(namespace, name, number),
      namespace,
      name,
      number,
      bundle: request.bundle,
      entry: request.entry,
      image: request.image,
      // The two that the first load decides are filled in below, before anything is stored.
      settings: { ...request.settings, egress, concurrency: request.settings.concurrency ?? 1 },
      form: 'function',
      createdAt: clock.wall(),
      ...(request.message === undefined ? {} : { message: request.message }),
    };
    const state = newRevisionState(draft, request.settings.concurrency);
    state.floor = 1;
    world.revisions.set(state.key, state);
    try {
      const begun = clock.now();
      const first = await this.#rollout.firstInstance(state, signal);
      const readyAt = clock.now();
      const revision = this.#loaded(draft, state);
      state.revision = revision;
      if (change.takesTraffic) await this.#rollout.readyForLoad(state, { requests: this.#changes.load(before), percent: 100 }, signal);
      this.#rollout.goOn(signal);
      const written: FunctionChange = {
        ...(change.takesTraffic ? { traffic: [{ revision: number, percent: 100 }] } : {}),
        ...(change.newAccess ? { access: change.newAccess } : {}),
        ...(declaration ? { declaredBy: { ...declaration, revision: number } } : {}),
      };
      await this.#changes.commit(namespace, name, change.newAccess, () => store.commitRevision(revision, written));
      return {
        url: this.#urls.function(namespace, name),
        previewUrl: this.#urls.preview(namespace, name, number),
        revision,
        timing: { startMs: Math.max(0, readyAt - begun - first.initMs), initMs: first.initMs, routeMs: clock.now() - readyAt },
        start: (first.genericAt ?? 0) > begun ? 'full' : 'pooled',
        notes,
      };
    } finally {
      this.#rollout.done(state);
    }
  }

  /** The revision with what its first load has decided. */
  #loaded(draft: Revision, state: RevisionState): Revision {
    return {
      ...draft,
      form: this.#lifecycle.forms.get(state.key) ?? draft.form,
      settings: { ...draft.settings, concurrency: state.slots ?? 1 },
    };
  }
}

/** What a deployment does to its function, beside adding a revision. What the person should know goes to `notes`. */
function changeOf({ traffic, access }: DeployRequest, before: FunctionRecord | null, notes: string[]) {
  const takesTraffic = traffic || before === null;
  if (!traffic && before === null) notes.push('The first revision of a function gets its traffic all the same.');
  if (!takesTraffic && access !== undefined)
    notes.push('Routes, CORS, auth and limits stay as they are: they go with the traffic, and this revision gets none.');
  const split = before?.traffic ?? [];
  if (takesTraffic && split.length > 1) {
    const shares = split.map(({ revision, percent }) => `${revision}=${percent}`).join(' ');
    notes.push(`Traffic was split (${shares}); this revision has all of it now.`);
  }
  // A new function takes a path, so that is checked whatever its access says.
  const newAccess = (takesTraffic ? access : undefined) ?? (before === null ? DEFAULT_ACCESS : null);
  return { takesTraffic, newAccess };
}

const declaredNote = (name: string, by: DeclaredBy): string =>
  `${name} is declared by Function ${by.namespace}/${by.name} of Kubernetes: its status tells of this deployment, and the next change of the object replaces it.`;

export const deployedLabel = (revision: Revision): string =>
  `${revisionLabel(revision.key)} (${revision.form}, ${revision.settings.memoryMib} MiB, ${networkClass(revision.settings.egress)})`;
