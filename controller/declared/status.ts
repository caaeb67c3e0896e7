/** The status of an object: what the platform says of it. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { FUNCTION_ANNOTATIONS, type FunctionCondition, type FunctionStatus } from '#contract/function-resource.ts';
import type { FunctionView } from '#contract/function.ts';
import { revisionKey } from '#contract/names.ts';
import type { FunctionObject, Identified } from './resource.ts';

type Said = Pick<FunctionCondition, 'status' | 'reason' | 'message'>;

/** What is said of an object. `ready`: of its function; `synced`: of whether that is what the object says. */
export interface Verdict {
  ready: Said;
  synced: Said;
}

export const yes = (reason: string, message: string): Said => ({ status: 'True', reason, message });
export const no = (reason: string, message: string): Said => ({ status: 'False', reason, message });
export const unknown = (reason: string, message: string): Said => ({ status: 'Unknown', reason, message });

/** `deploy-refused` → DeployRefused: conditions have words for programs. */
export const reasonOf = (code: string): string =>
  code
    .split('-')
    .map((word) => `${word.slice(0, 1).toUpperCase()}${word.slice(1)}`)
    .join('');

/** What was applied of an object, and where its function is. */
export interface Applied {
  view: FunctionView;
  /** Of the revision that it was applied as, where it is kept. */
  digest: string | undefined;
  installation: string;
}

/** Fields about what was applied last; none where nothing of this object is there. */
export function appliedFields(applied: Applied | null): Partial<FunctionStatus> {
  const declaredBy = applied?.view.declaredBy;
  if (applied === null || declaredBy === undefined) return {};
  const { namespace, name, url } = applied.view;
  return {
    namespace,
    revision: revisionKey(namespace, name, declaredBy.revision),
    url,
    digest: applied.digest,
    appliedGeneration: declaredBy.generation,
    appliedReapply: declaredBy.reapply ?? undefined,
    installation: applied.installation,
  };
}

/** The status after a verdict; a condition keeps the time of its last change. `wall`: ms since 1970. */
export function statusAfter(
  { metadata }: Identified,
  before: FunctionStatus,
  { ready, synced }: Verdict,
  fields: Partial<FunctionStatus>,
  wall: number,
): FunctionStatus {
  const observedGeneration = metadata.generation ?? 0;
  const now = new Date(wall).toISOString().replace(/\.\d+Z$/, 'Z');
  const condition = (type: FunctionCondition['type'], said: Said): FunctionCondition => {
    const was = before.conditions.find((one) => one.type === type);
    const lastTransitionTime = was !== undefined && was.status === said.status ? was.lastTransitionTime : now;
    return { type, ...said, lastTransitionTime, observedGeneration };
  };
  return { observedGeneration, conditions: [condition('Ready', ready), condition('Synced', synced)], ...defined(fields) };
}

const defined = <T extends object>(fields: T): T =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;

/** A merge patch that makes `before` into `after`; null: they are the same, and nothing is written. */
export function statusPatch(before: FunctionStatus, after: FunctionStatus): Record<string, unknown> | null {
  const [from, to] = [defined(before), defined(after)];
  if (isDeepStrictEqual(from, to)) return null;
  const gone = Object.keys(from).filter((key) => !Object.hasOwn(to, key));
  return { status: { ...to, ...Object.fromEntries(gone.map((key) => [key, null])) } };
}

/**
 * Whether the object, as it is now, was applied by this installation before: then a function that is not there was deleted
 * elsewhere. A new installation with an empty store applies all there is.
 */
export function wasApplied({ metadata, status }: FunctionObject, installation: string): boolean {
  return (
    status.installation === installation &&
    status.appliedGeneration === metadata.generation &&
    (status.appliedReapply ?? null) === (metadata.annotations[FUNCTION_ANNOTATIONS.reapply] ?? null)
  );
}
