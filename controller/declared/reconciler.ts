/**
 * Brings one function and the objects that declare it together. It decides by what there is now, never by what happened:
 * so it does not matter what was missed while nobody watched.
 */
import { FUNCTION_ANNOTATIONS, type FunctionStatus } from '#contract/function-resource.ts';
import { FnError } from '#contract/errors.ts';
import type { Declaration, DeclaredBy, FunctionView } from '#contract/function.ts';
import { revisionLabel } from '#contract/names.ts';
import { toFnError } from '../api/problems.ts';
import { KubeError } from '../kube/types.ts';
import { apply, type ApplyParts, declarationOf, problemText, remove, type Target } from './apply.ts';
import { changedText, deletedText, differences } from './elsewhere.ts';
import { type DeclaredObjects, targetOf } from './objects.ts';
import type { DeclaredOptions } from './ports.ts';
import { EventRecorder, type Note } from './recorder.ts';
import { type FunctionObject, FUNCTIONS, type Identified, objectLabel, WHOLE_FUNCTIONS, type WholeFunction } from './resource.ts';
import { appliedFields, no, reasonOf, statusAfter, statusPatch, unknown, type Verdict, wasApplied, yes } from './status.ts';

export interface ReconcilerParts extends ApplyParts, Pick<DeclaredOptions, 'api' | 'log'> {
  objects: DeclaredObjects;
  /** Whether all objects of a namespace of the cluster are known. `unwatched`: none of ours. */
  knows: (kubeNamespace: string) => 'all' | 'not yet' | 'unwatched';
  signal: AbortSignal;
}

const isApplied = (own: DeclaredBy | undefined, { uid, generation, reapply }: Declaration): own is DeclaredBy =>
  own !== undefined && own.uid === uid && own.generation === generation && own.reapply === reapply;

export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #recorder: EventRecorder;
  /** What we wrote last, by uid: what the watch has heard may be older. */
  readonly #written = new Map<string, FunctionStatus>();
  #installation: string | null = null;

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#recorder = new EventRecorder(parts.api, parts.clock, parts.log);
  }

  /** The object is no more. */
  forget(uid: string): void {
    this.#written.delete(uid);
  }

  /** `failures`: in a row, of this key. Throws where it is to be tried again; it was told then. */
  async reconcile(key: string, failures: number): Promise<void> {
    const claims = this.#parts.objects.claims(key);
    const target = targetOf(key);
    if (target === null) {
      for (const object of claims) await this.#refuse(object);
      return;
    }
    const view = await this.#view(target);
    const [first, ...others] = claims;
    if (first === undefined) {
      await this.#gone(key, target, view);
      return;
    }
    for (const other of others) {
      const message = `${objectLabel(first)}, which is older, declares the function ${key}. Delete one of the two, or give it another name.`;
      await this.#settle(other, { ready: no('DeclaredTwice', message), synced: no('DeclaredTwice', message) }, null);
    }
    await this.#bring(first, target, view, failures);
  }

  async #view({ namespace, name }: Target): Promise<FunctionView | null> {
    try {
      return await this.#parts.platform.describe(namespace, name);
    } catch (error) {
      if (error instanceof FnError && error.code === 'function-not-found') return null;
      throw error;
    }
  }

  async #refuse(object: FunctionObject): Promise<void> {
    const claim = this.#parts.objects.claimOf(object);
    if ('target' in claim) return;
    const { reason, message } = claim.refused;
    await this.#settle(object, { ready: no(reason, message), synced: no(reason, message) }, null);
  }

  /** No object declares it. Where one did that we would know of, it was deleted. */
  async #gone(key: string, target: Target, view: FunctionView | null): Promise<void> {
    const own = view?.declaredBy;
    const { objects, knows, api, log, signal } = this.#parts;
    if (own === undefined || knows(own.namespace) !== 'all' || !objects.allowed(own.namespace).includes(target.namespace)) return;
    // Asked again before anything is deleted. A list, since it fails where the kind itself is gone: then nobody deleted this object.
    const { items } = await api.list(FUNCTIONS, own.namespace, { fields: `metadata.name=${own.name}` });
    const there = items.find(({ metadata }) => metadata.uid === own.uid && metadata.deletionTimestamp === undefined);
    if (there !== undefined && objects.keyOf(there) === key) return;
    await remove(`${own.namespace}/${own.name}`, target, this.#parts, signal);
    log.info({ function: key, object: `${own.namespace}/${own.name}` }, 'a function was deleted: the object that declared it is gone');
  }

  async #bring(object: FunctionObject, target: Target, view: FunctionView | null, failures: number): Promise<void> {
    const { audit, knows } = this.#parts;
    const own = view?.declaredBy;
    if (view !== null && own === undefined && object.metadata.annotations[FUNCTION_ANNOTATIONS.adopt] !== 'true') {
      const message = `The function ${target.namespace}/${target.name} is there already, and was not declared: this object leaves it alone. To make it this object's: kubectl -n ${object.metadata.namespace} annotate functions.fn.dev/${object.metadata.name} ${FUNCTION_ANNOTATIONS.adopt}=true`;
      await this.#settle(object, { ready: no('ExistsAlready', message), synced: no('ExistsAlready', message) }, null);
      return;
    }
    if (view === null && wasApplied({ ...object, status: this.#statusOf(object) }, await this.#installationId())) {
      const message = await deletedText(object, target, audit);
      await this.#settle(
        object,
        { ready: no('Deleted', message), synced: no('ChangedElsewhere', message) },
        null,
        keptFields(this.#statusOf(object)),
      );
      return;
    }
    // Whether the object that declared it until now is gone, is not known yet.
    if (own !== undefined && own.uid !== object.metadata.uid && knows(own.namespace) === 'not yet') return;
    if (view !== null && isApplied(own, declarationOf(object))) await this.#compare(object, target, view);
    else await this.#apply(object, target, view, failures);
  }

  /** It was applied: is it still so? */
  async #compare(object: FunctionObject, target: Target, view: FunctionView): Promise<void> {
    const changed = await differences(object, view, this.#parts.platform);
    const serving = `${revisionLabel(view.revision.key)} is served at ${view.url}`;
    const synced =
      changed.length === 0
        ? yes('Applied', `What this object says is what is served.`)
        : no('ChangedElsewhere', await changedText(object, target, changed, this.#parts.audit));
    await this.#settle(object, { ready: yes('Serving', serving), synced }, view);
  }

  async #apply(known: FunctionObject, target: Target, view: FunctionView | null, failures: number): Promise<void> {
    const { log, signal } = this.#parts;
    const object = await this.#whole(known);
    if (object === null) return;
    if (view !== null && isApplied(view.declaredBy, declarationOf(object))) return;
    const own = view?.declaredBy?.uid === object.metadata.uid ? view : null;
    const label = objectLabel(object);
    // What is tried again was told of.
    if (failures === 0) {
      const message = `Generation ${object.metadata.generation} is being deployed.`;
      await this.#settle(object, { ready: unknown('Deploying', message), synced: unknown('Deploying', message) }, own);
    }
    let notes: string[];
    try {
      notes = await apply({ object, target, view, again: failures > 0 }, this.#parts, signal);
    } catch (error) {
      signal.throwIfAborted();
      await this.#failed(object, target, own, toFnError(error));
      if (!(error instanceof FnError))
        log.error({ object: label, err: error instanceof Error ? error.stack : error }, 'a declared function could not be applied');
      throw error;
    }
    const now = await this.#view(target);
    if (now === null) return;
    log.info({ object: label, revision: now.revision.key }, 'a declared function was applied');
    const told = `${revisionLabel(now.revision.key)} is served at ${now.url}${notes.length === 0 ? '' : `. ${notes.join(' ')}`}`;
    const verdict = { ready: yes('Serving', told), synced: yes('Applied', 'What this object says is what is served.') };
    await this.#settle(object, verdict, now, {}, { type: 'Normal', reason: 'Applied', message: told });
  }

  /** All of the object, as it is now; null where it is gone. */
  async #whole({ metadata: { namespace = '', name, uid } }: FunctionObject): Promise<WholeFunction | null> {
    try {
      const object = await this.#parts.api.get(WHOLE_FUNCTIONS, namespace, name);
      return object.metadata.uid === uid && object.metadata.deletionTimestamp === undefined ? object : null;
    } catch (error) {
      if (error instanceof KubeError && error.reason === 'NotFound') return null;
      throw error;
    }
  }

  async #failed(object: WholeFunction, target: Target, own: FunctionView | null, error: FnError): Promise<void> {
    const text = problemText(error);
    const hint = hintFor(object, error);
    const still = own === null ? '' : ` ${revisionLabel(own.revision.key)} keeps serving.`;
    const message = `${text}${/[.!?…]$/.test(text) ? '' : '.'}${hint}${still}`;
    const reason = reasonOf(error.code);
    this.#parts.log.warn(
      { object: objectLabel(object), function: `${target.namespace}/${target.name}`, code: error.code, detail: error.message },
      'a declared function was refused',
    );
    await this.#settle(object, { ready: no(reason, message), synced: no(reason, message) }, own, {}, { type: 'Warning', reason, message });
  }

  #statusOf({ metadata, status }: Pick<FunctionObject, 'metadata' | 'status'>): FunctionStatus {
    return this.#written.get(metadata.uid) ?? status;
  }

  async #installationId(): Promise<string> {
    this.#installation ??= await this.#parts.store.installationId();
    return this.#installation;
  }

  /** Writes the status where it says anything new. `view`: the function, where it is this object's. */
  async #settle(
    object: Identified & { status: FunctionStatus },
    verdict: Verdict,
    view: FunctionView | null,
    fields: Partial<FunctionStatus> = {},
    note: Note | null = null,
  ): Promise<void> {
    const { namespace = '', name, uid } = object.metadata;
    const before = this.#written.get(uid) ?? object.status;
    const applied = view === null ? null : { view, digest: await this.#digest(view), installation: await this.#installationId() };
    const after = statusAfter(object, before, verdict, { ...appliedFields(applied), ...fields }, this.#parts.clock.wall());
    const patch = statusPatch(before, after);
    if (patch !== null) {
      try {
        await this.#parts.api.patch(FUNCTIONS, namespace, name, { type: 'merge', body: { metadata: { uid }, ...patch } }, 'status');
      } catch (error) {
        // It is gone, or another one of its name is there: nobody is left to be told.
        if (error instanceof KubeError && (error.reason === 'NotFound' || error.reason === 'Conflict')) return;
        throw error;
      }
      this.#written.set(uid, after);
    }
    const turned =
      before.conditions.find(({ type }) => type === 'Synced')?.reason !== verdict.synced.reason && verdict.synced.status === 'False';
    const told = note ?? (turned ? { type: 'Warning' as const, reason: verdict.synced.reason, message: verdict.synced.message } : null);
    if (told !== null) await this.#recorder.note(object, told);
  }

  /** Of the revision that the object was applied as. */
  async #digest({ namespace, name, declaredBy, revision }: FunctionView): Promise<string | undefined> {
    if (declaredBy === undefined || declaredBy.revision === revision.number) return revision.bundle;
    const kept = await this.#parts.platform.revisions(namespace, name);
    return kept.find(({ number }) => number === declaredBy.revision)?.bundle;
  }
}

/** What says that this object was applied: it stays when the function is gone. */
const keptFields = ({ appliedGeneration, appliedReapply, installation }: FunctionStatus): Partial<FunctionStatus> => ({
  appliedGeneration,
  appliedReapply,
  installation,
});

/** Packages are what inline code cannot have; the runtime's own words do not say so. */
function hintFor({ spec }: WholeFunction, { message }: FnError): string {
  const { source } = spec;
  const inline = typeof source === 'object' && source !== null && 'inline' in source;
  if (!inline || !/Cannot find (?:package|module)|No module named/.test(message)) return '';
  return ' Inline code has no packages: fn render makes an object with all that is imported.';
}
