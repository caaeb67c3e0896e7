/** What a deployment would change: the function as it is wanted against the function as it is. Pure. */
import type { FunctionAccess } from '#contract/access.ts';
import type { RevisionView } from '#contract/api.ts';
import type { FunctionView } from '#contract/function.ts';
import type { Change, WantedRevision } from '#kit/function-changes.ts';
import { accessChanges, revisionChanges } from '#kit/function-changes.ts';

export type { Change } from '#kit/function-changes.ts';

export interface Wanted extends WantedRevision {
  /** Undefined: it may stay as it is. */
  access: FunctionAccess | undefined;
}

/** A function as the platform has it. */
export interface Deployed {
  view: FunctionView;
  revisions: readonly RevisionView[];
}

export interface Comparison {
  state: 'added' | 'changed' | 'unchanged';
  changes: Change[];
  /** Whether it takes a new revision, and whether routes and the like change. */
  needs: { revision: boolean; access: boolean };
  /** Number of the revision that is what is wanted already, if one is. */
  same: number | null;
}

/**
 * Compares with the revisions that get traffic: where one of them is what is wanted, nothing is to be
 * deployed, and shares that somebody set stay. `anyKept`: with all that are kept, for a revision that
 * shall get no traffic anyway.
 */
export function compare(wanted: Wanted, deployed: Deployed | null, { anyKept = false } = {}): Comparison {
  if (!deployed) return { state: 'added', changes: [], needs: { revision: true, access: wanted.access !== undefined }, same: null };
  const { view, revisions } = deployed;
  const candidates = revisions.filter(({ percent }) => anyKept || percent > 0);
  const same = candidates.find((revision) => revisionChanges(wanted, revision).length === 0)?.number ?? null;
  const ofRevision = same === null ? revisionChanges(wanted, view.revision) : [];
  const ofAccess = wanted.access === undefined ? [] : accessChanges(wanted.access, view.access);
  const changes = [...ofRevision, ...ofAccess];
  const needs = { revision: same === null, access: ofAccess.length > 0 };
  return { state: needs.revision || needs.access ? 'changed' : 'unchanged', changes, needs, same };
}
