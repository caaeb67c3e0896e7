/** Makes the platform have what an object says: the same checks, quotas and audit log as for who asks the API. */
import { DEFAULT_ACCESS, type FunctionAccess } from '#contract/access.ts';
import { DeployRequest } from '#contract/api.ts';
import type { FnError } from '#contract/errors.ts';
import { FUNCTION_ANNOTATIONS, FunctionFields, FunctionSpec } from '#contract/function-resource.ts';
import type { Declaration, FunctionView } from '#contract/function.ts';
import { accessOver, SETTINGS_FIELDS, settingsOf } from '#contract/manifest-function.ts';
import { revisionChanges } from '#kit/function-changes.ts';
import { invalid, toFnError } from '../api/problems.ts';
import { checkTriggers } from '../api/trigger-faults.ts';
import { requireBundle } from '../api/uploads.ts';
import type { DeclaredOptions } from './ports.ts';
import { type FunctionObject, type Identified, objectLabel, type WholeFunction } from './resource.ts';
import { locateCode } from './source.ts';

export type ApplyParts = Pick<DeclaredOptions, 'platform' | 'tenants' | 'audit' | 'bundles' | 'store' | 'networks' | 'clock' | 'ca'> & {
  requestId: () => string;
};

/** Where a function is in fn. */
export interface Target {
  namespace: string;
  name: string;
}

/** Who changes something, as the audit log has it. */
export const ACTOR_PREFIX = 'kubernetes:';

export const declarationOf = ({ metadata }: Identified): Declaration => ({
  uid: metadata.uid,
  namespace: metadata.namespace ?? '',
  name: metadata.name,
  generation: metadata.generation ?? 0,
  reapply: metadata.annotations[FUNCTION_ANNOTATIONS.reapply] ?? null,
});

/**
 * How the function is reached: what the object says, and the defaults for the rest. Whether a trigger is paused stays as it
 * is where the object does not say.
 */
export function declaredAccess(fields: FunctionFields, before: FunctionAccess): FunctionAccess {
  return accessOver({ ...fields, triggers: fields.triggers ?? [], async: fields.async ?? DEFAULT_ACCESS.async }, before);
}

/** The fields of an object that was applied, which were right then. null: by the schema of a newer fn they are not. */
export function fieldsOf({ fields }: FunctionObject): FunctionFields | null {
  return FunctionFields.safeParse(fields).data ?? null;
}

/** Throws FnError invalid with a pointer into the object for each thing that is wrong. */
function specOf({ spec }: WholeFunction): FunctionSpec {
  const parsed = FunctionSpec.safeParse(spec);
  if (parsed.success) return parsed.data;
  throw invalid(
    parsed.error.issues.map((issue) => ({ ...issue, path: ['spec', ...issue.path] })),
    '',
  );
}

/** What a change is called in the audit log, and what is said of it there. */
interface Entry {
  action: string;
  detail: Record<string, unknown>;
}

interface Change {
  object: WholeFunction;
  target: Target;
  /** The function as it is; null: there is none. */
  view: FunctionView | null;
  /** It failed before, and that is written down: this attempt is only written down where it succeeds. */
  again: boolean;
}

/** Returns what the person should know, a sentence each. Throws what the API answers with. */
export async function apply({ object, target, view, again }: Change, parts: ApplyParts, signal: AbortSignal): Promise<string[]> {
  const { namespace, name } = target;
  const declaration = declarationOf(object);
  const by = `${ACTOR_PREFIX}${objectLabel(object)}`;
  return audited({ by, target, again }, parts, signal, async (entry) => {
    Object.assign(entry.detail, { uid: declaration.uid, generation: declaration.generation });
    const spec = specOf(object);
    const access = declaredAccess(spec, view?.access ?? DEFAULT_ACCESS);
    checkTriggers(access.triggers, (index) => ['spec', 'triggers', index]);
    const code = await locateCode(namespace, spec, parts, signal);
    const settings = { ...settingsOf(spec), ...(code.runtime === undefined ? {} : { runtime: code.runtime }) };
    const { message } = spec;
    const asked = DeployRequest.safeParse({ bundle: code.digest, entry: code.entry, settings, access, message });
    if (!asked.success) throw invalid(asked.error.issues, '');
    const request = asked.data;
    entry.detail.bundle = request.bundle;
    await requireBundle(namespace, request, { bundles: parts.bundles, artifacts: parts.store });
    if (view !== null && serves(view, request)) {
      Object.assign(entry, { action: 'function.access', detail: { ...entry.detail, revision: view.revision.number } });
      await parts.platform.setAccess(namespace, name, access, view.etag, { ...declaration, revision: view.revision.number });
      return [];
    }
    const { revision, notes } = await parts.platform.deploy(namespace, name, request, signal, declaration);
    entry.detail.revision = revision.number;
    return notes;
  });
}

/** Whether all of the traffic goes to a revision that is what is wanted. */
const serves = ({ traffic, revision }: FunctionView, { bundle, entry, image, settings }: DeployRequest): boolean =>
  traffic.length === 1 && revisionChanges({ bundle, entry, image, settings }, revision).length === 0;

/** The object is gone: so is its function. */
export async function remove(label: string, target: Target, parts: ApplyParts, signal: AbortSignal): Promise<void> {
  await audited({ by: `${ACTOR_PREFIX}${label}`, target, again: false }, parts, signal, async (entry) => {
    entry.action = 'function.delete';
    await parts.platform.delete(target.namespace, target.name);
  });
}

async function audited<T>(
  { by, target, again }: { by: string; target: Target; again: boolean },
  { audit, requestId }: ApplyParts,
  signal: AbortSignal,
  run: (entry: Entry) => Promise<T>,
): Promise<T> {
  const entry: Entry = { action: 'function.deploy', detail: {} };
  const request = requestId();
  const record = (outcome: string) =>
    audit.record({ by: { id: by, name: by }, ...entry, namespace: target.namespace, subject: target.name, request, outcome });
  let result: T;
  try {
    result = await run(entry);
  } catch (error) {
    // What was cut off by the end of this controller is taken up by the next one.
    if (!signal.aborted && !again) await record(toFnError(error).code);
    throw error;
  }
  await record('ok');
  return result;
}

const SPEC_FIELDS: ReadonlyMap<string, string> = new Map(
  Object.entries(SETTINGS_FIELDS).map(([field, setting]) => [`/settings/${setting}`, `/spec/${field}`]),
);

/** Where in the object what the platform complains of is said. */
function inObject(pointer: string): string {
  const [, setting = ''] = /^(\/settings\/[^/]+)/.exec(pointer) ?? [];
  const field = SPEC_FIELDS.get(setting);
  if (field !== undefined) return `${field}${pointer.slice(setting.length)}`;
  if (pointer.startsWith('/access/')) return `/spec${pointer.slice('/access'.length)}`;
  if (pointer === '/bundle') return '/spec/source';
  return pointer === '/entry' ? '/spec/entry' : pointer;
}

/** Longest message of a condition that the API server takes is 32,768 characters; nobody reads so many. */
const MAX_MESSAGE_LENGTH = 2_000;

/** An error for a person who looks at the object. */
export function problemText(error: FnError): string {
  const fields = (error.options.errors ?? []).map(({ pointer, detail }) => ({ at: inObject(pointer), detail }));
  const more = fields.filter(({ at, detail }) => !error.message.includes(detail) || !error.message.includes(at.replace(/^\/spec\//, '')));
  const text = [error.message, ...more.map(({ at, detail }) => `${at}: ${detail}`)].join('; ');
  return text.length > MAX_MESSAGE_LENGTH ? `${text.slice(0, MAX_MESSAGE_LENGTH)}…` : text;
}
