/**
 * What every store does with what it reads: it is checked against the contract, since a store can be damaged, restored or
 * written by another version. What cannot be read is named, and is never guessed.
 */
import { FunctionAccess } from '#contract/access.ts';
import { FnError } from '#contract/errors.ts';
import { DeclaredBy, Revision, Traffic } from '#contract/function.ts';
import { revisionKey } from '#contract/names.ts';
import { TokenView } from '#contract/tenancy.ts';
import type { Log } from '#kit/log.ts';
import type { FunctionChange, FunctionRecord, TokenRecord } from './types.ts';

/** A function as it is at rest: JSON that nobody has checked yet. */
export interface StoredFunction {
  namespace: string;
  name: string;
  generation: number;
  traffic: string;
  access: string;
  /** '' where nobody declares it. */
  declaredBy: string;
}

/** undefined where it is not JSON: it fails the schema's check, which then names what it is. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What was read is not what the contract says. */
export class DamagedError extends FnError {
  constructor(what: string, remedy: string) {
    super('store-unavailable', `The stored ${what} cannot be read${remedy}`);
    this.name = 'DamagedError';
  }
}

type Parsed<T> = { success: true; data: T } | { success: false };

/** Throws FnError store-unavailable that names what cannot be read. */
export function readable<T>(parsed: Parsed<T>, what: string): T {
  if (parsed.success) return parsed.data;
  throw new DamagedError(what, ': restore the store from a backup.');
}

/** Numbers that get traffic; none where that cannot be read. */
export function servingNumbers(traffic: string): Set<number> {
  return new Set(Traffic.safeParse(parseJson(traffic)).data?.map((share) => share.revision));
}

/** Throws FnError store-unavailable that names the function. */
export function readFunction(stored: StoredFunction, revisions: Revision[]): FunctionRecord {
  const { namespace, name, generation } = stored;
  const traffic = Traffic.safeParse(parseJson(stored.traffic));
  const access = FunctionAccess.safeParse(parseJson(stored.access));
  // One that cannot be read is none: the object that declares the function says again who it is.
  const declaredBy = DeclaredBy.safeParse(parseJson(stored.declaredBy));
  const kept = new Set(revisions.map((revision) => revision.number));
  if (traffic.success && access.success && traffic.data.every((share) => kept.has(share.revision)))
    return {
      namespace,
      name,
      traffic: traffic.data,
      access: access.data,
      ...(declaredBy.success ? { declaredBy: declaredBy.data } : {}),
      generation,
      revisions,
    };
  throw new DamagedError(`function ${namespace}/${name}`, '. Deploy it again, or restore the store from a backup.');
}

/** Throws FnError store-unavailable that names the revision. */
function readRevision(namespace: string, name: string, number: number, body: string): Revision {
  const key = revisionKey(namespace, name, number);
  const parsed = Revision.safeParse(parseJson(body));
  if (parsed.success && parsed.data.key === key) return parsed.data;
  const issue = parsed.error?.issues[0];
  const why = issue === undefined ? `it says it is ${parsed.data?.key}` : `${issue.path.join('/') || 'the whole'}: ${issue.message}`;
  throw new DamagedError(`revision ${key}`, ` (${why}). Deploy the function again, or restore the store from a backup.`);
}

/**
 * Revisions of a function, in the order of `rows`. One that cannot be read and has no traffic is left out and logged: a damaged
 * old revision must not keep its function from being served. Throws FnError store-unavailable for one that has.
 */
export function readRevisions(
  of: { namespace: string; name: string },
  rows: readonly { number: number; body: string }[],
  serving: ReadonlySet<number>,
  log: Log,
): Revision[] {
  const { namespace, name } = of;
  return rows.flatMap(({ number, body }) => {
    try {
      return readRevision(namespace, name, number, body);
    } catch (error) {
      if (!(error instanceof DamagedError) || serving.has(number)) throw error;
      log.error({ function: `${namespace}/${name}`, err: error.message }, 'a revision without traffic is left out: it cannot be read');
      return [];
    }
  });
}

/** The function that `read` gives; none, and a line in the log, where it cannot be read: one damaged function must not keep all others from being served. */
export async function unlessDamaged<T>(
  of: { namespace: string; name: string },
  log: Log,
  read: () => T | null | Promise<T | null>,
): Promise<T[]> {
  try {
    const found = await read();
    return found === null ? [] : [found];
  } catch (error) {
    // A store that cannot be reached is another matter than a function that cannot be read.
    if (!(error instanceof DamagedError)) throw error;
    log.error({ function: `${of.namespace}/${of.name}`, err: error.message }, 'a function is left out: it cannot be read');
    return [];
  }
}

/** Throws FnError store-unavailable that names the token. */
export function readToken(id: string, body: string, sha256: string, revokedAt: number | null): TokenRecord {
  return { ...readable(TokenView.safeParse(parseJson(body)), `token ${id}`), revokedAt, sha256 };
}

/** A revision that may be written: what cannot be read again must not get in. */
export function writableRevision(revision: Revision): Revision {
  const checked = Revision.parse(revision);
  const { namespace, name, number, key } = checked;
  if (key !== revisionKey(namespace, name, number)) throw new TypeError(`the key ${key} is not that of ${namespace}/${name}@${number}`);
  return checked;
}

/**
 * Traffic, access and who declares a function after a change. Throws FnError precondition-failed, revision-not-found.
 * `before`: null where there is none yet; `kept`: numbers of the revisions that there will be.
 */
export function changed(
  name: string,
  before: Pick<FunctionRecord, 'generation' | 'traffic' | 'access' | 'declaredBy'> | null,
  { traffic, access, declaredBy = before?.declaredBy, ifGeneration }: FunctionChange,
  kept: ReadonlySet<number>,
): Pick<FunctionRecord, 'traffic' | 'access' | 'declaredBy'> {
  if (ifGeneration !== undefined && before?.generation !== ifGeneration)
    throw new FnError(
      'precondition-failed',
      `The function ${name} has changed: it is at ${before?.generation ?? 'nothing'}, not ${ifGeneration}.`,
    );
  const shares = Traffic.parse(traffic ?? before?.traffic);
  for (const { revision } of shares)
    if (!kept.has(revision))
      throw new FnError('revision-not-found', `There is no revision ${revision} of ${name}; there is: ${[...kept].join(', ')}.`);
  return {
    traffic: shares,
    access: FunctionAccess.parse(access ?? before?.access ?? {}),
    ...(declaredBy === undefined ? {} : { declaredBy: DeclaredBy.parse(declaredBy) }),
  };
}

export const functionNotFound = (namespace: string, name: string): FnError =>
  new FnError('function-not-found', `There is no function ${name} in the namespace ${namespace}.`);

export const revisionIsThere = (key: string, cause?: unknown): FnError =>
  new FnError('conflict', `Revision ${key} is there already.`, cause === undefined ? {} : { cause });

export const tokenIsThere = (id: string): FnError => new FnError('conflict', `The token ${id} is there already.`);

/** A controller that was replaced must not write. */
export const replaced = (mine: number, now: number): FnError =>
  new FnError(
    'not-leader',
    `Another controller has taken over: this one has term ${mine}, and the store is at ${now}. Nothing was changed.`,
    {
      retryAfterSeconds: 1,
    },
  );

/** Only who has the lease may raise the term. */
export const leaseLost = (leader: string | null): FnError =>
  new FnError('not-leader', `The lease of the leader is ${leader === null ? 'over' : `held by ${leader}`}: the term was not raised.`, {
    retryAfterSeconds: 1,
  });
