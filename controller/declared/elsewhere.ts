/** What somebody changed past the object: what differs, who did it, when, and how to get back. */
import type { FunctionView, Revision } from '#contract/function.ts';
import { type Principal } from '#contract/tenancy.ts';
import { accessChanges, revisionChanges } from '#kit/function-changes.ts';
import { FUNCTION_ANNOTATIONS } from '#contract/function-resource.ts';
import type { Audit, Platform } from '../api/platform.ts';
import { ACTOR_PREFIX, declaredAccess, fieldsOf, type Target } from './apply.ts';
import type { FunctionObject } from './resource.ts';

/** Entries of the audit log that are looked through for who it was. */
const MAX_ENTRIES = 200;
/** Most fields that one message names. */
const MAX_FIELDS = 8;

/** It is the operator's own log that is read. */
const READER: Principal = { id: 'kubernetes', name: 'kubernetes', scopes: ['read'], namespaces: '*' };

/** Fields in which the function is not what was applied, as fn.yaml calls them; none: it is. */
export async function differences(object: FunctionObject, view: FunctionView, platform: Pick<Platform, 'revisions'>): Promise<string[]> {
  const { declaredBy, traffic, revision, access } = view;
  if (declaredBy === undefined) return [];
  const fields = fieldsOf(object);
  const ofAccess = fields === null ? [] : accessChanges(declaredAccess(fields, access), access).map(({ field }) => field);
  if (traffic.length > 1)
    return [`traffic (${traffic.map((share) => `${view.name}@${share.revision} ${share.percent} %`).join(', ')})`, ...ofAccess];
  if (revision.number === declaredBy.revision) return ofAccess;
  const kept = await platform.revisions(view.namespace, view.name);
  const applied = kept.find(({ number }) => number === declaredBy.revision);
  if (applied === undefined)
    return [`revision (${view.name}@${revision.number} in place of ${view.name}@${declaredBy.revision})`, ...ofAccess];
  return [...between(applied, revision), ...ofAccess];
}

const between = ({ bundle, entry, image, settings }: Revision, is: Revision): string[] =>
  revisionChanges({ bundle, entry, image, settings }, is).map(({ field }) => field);

/** `by anna (function.deploy) at 2026-01-02T03:04:05Z`; what is known of who changed the function last. */
async function whoChanged({ namespace, name }: Target, audit: Audit): Promise<string> {
  const entries = await audit.list(READER, { namespace, limit: MAX_ENTRIES });
  const found = entries.find(
    ({ outcome, subject, action, detail, by }) =>
      outcome === 'ok' &&
      !by.id.startsWith(ACTOR_PREFIX) &&
      ((action.startsWith('function.') && subject === name) || (action.startsWith('trigger.') && detail.function === name)),
  );
  if (found === undefined) return 'by somebody of whom the audit log knows nothing any more';
  return `by ${found.by.name} (${found.action}) at ${new Date(found.t).toISOString().replace(/\.\d+Z$/, 'Z')}`;
}

const wayBack = ({ metadata: { namespace, name } }: FunctionObject): string =>
  `Nothing is set back by itself: change the object, or kubectl -n ${namespace} annotate functions.fn.dev/${name} ${FUNCTION_ANNOTATIONS.reapply}="$(date +%s)" --overwrite`;

export async function changedText(object: FunctionObject, target: Target, fields: readonly string[], audit: Audit): Promise<string> {
  const named = fields.slice(0, MAX_FIELDS).join(', ');
  const more = fields.length > MAX_FIELDS ? ` and ${fields.length - MAX_FIELDS} more` : '';
  return `What is served is not what this object says: ${named}${more}. Changed ${await whoChanged(target, audit)}. ${wayBack(object)}`;
}

export async function deletedText(object: FunctionObject, target: Target, audit: Audit): Promise<string> {
  return `The function ${target.namespace}/${target.name} was deleted ${await whoChanged(target, audit)}. ${wayBack(object)}`;
}
