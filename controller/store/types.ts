/**
 * The store port: what must outlive the controller. Every write has reached the disk when its
 * promise resolves. SQLite and Redis implement it; both pass test/conformance/store.
 */
import { z } from 'zod';
import type { FunctionAccess } from '#contract/access.ts';
import type { DeclaredBy, Revision, Traffic } from '#contract/function.ts';
import { InstanceId, RevisionKey } from '#contract/names.ts';
import type { AuditEntry, NamespaceSettings, TokenView } from '#contract/tenancy.ts';

export interface FunctionRecord {
  namespace: string;
  name: string;
  traffic: Traffic;
  access: FunctionAccess;
  /** Absent: it is declared by nobody. */
  declaredBy?: DeclaredBy;
  /** Raised by each change of traffic or access; its text is the ETag. */
  generation: number;
  /** All that are kept, the newest first; those of `traffic` are among them. */
  revisions: Revision[];
}

/** What a change of a function sets; what is left out stays. */
export interface FunctionChange {
  traffic?: Traffic;
  access?: FunctionAccess;
  declaredBy?: DeclaredBy;
  /** Throws FnError precondition-failed where the function's generation is another. */
  ifGeneration?: number;
}

/** A secret as it is at rest: sealed with a key that the store does not have. */
export interface SealedSecret {
  namespace: string;
  name: string;
  version: number;
  updatedAt: number;
  sealed: Uint8Array;
}

/** A token as it is at rest: SHA-256 (hex) of it, never itself. */
export interface TokenRecord extends TokenView {
  sha256: string;
}

/** What a namespace may refer to: bundles and images that were uploaded or pulled for it. */
export type ArtifactKind = 'bundle' | 'image';

export interface TenancyStore {
  /** In the order of their names; only those that were set. */
  listNamespaces(): Promise<{ name: string; settings: NamespaceSettings }[]>;
  putNamespace(name: string, settings: NamespaceSettings): Promise<void>;
  /** False where there was none. */
  deleteNamespace(name: string): Promise<boolean>;
  addToken(token: TokenRecord): Promise<void>;
  /** Newest first, revoked and expired ones too. */
  listTokens(): Promise<TokenRecord[]>;
  /** Returns the token as it is then; null where there is none. Idempotent: the first time counts. */
  revokeToken(id: string, at: number): Promise<TokenRecord | null>;
  /** Next version of a name, never used again even after deleteSecret: reserved, so that it can be sealed in. */
  reserveSecretVersion(namespace: string, name: string): Promise<number>;
  /** Keeps the higher version where two writers race. */
  putSecret(secret: SealedSecret): Promise<void>;
  getSecret(namespace: string, name: string): Promise<SealedSecret | null>;
  /** By namespace, then name; of all namespaces without one. */
  listSecrets(namespace?: string): Promise<SealedSecret[]>;
  deleteSecret(namespace: string, name: string): Promise<boolean>;
  addAudit(entry: Omit<AuditEntry, 'id'>): Promise<AuditEntry>;
  /** Newest first. `namespaces`: entries of these only (`*`: all, also those of none). */
  listAudit(query: { namespaces: '*' | readonly string[]; since?: number; before?: number; limit: number }): Promise<AuditEntry[]>;
  /** Removes the oldest beyond `keep` entries. */
  pruneAudit(keep: number): Promise<number>;
  /** Idempotent. `at`: milliseconds since 1970; of one that is there already, the latest counts. */
  addArtifact(namespace: string, kind: ArtifactKind, digest: string, at: number): Promise<void>;
  hasArtifact(namespace: string, kind: ArtifactKind, digest: string): Promise<boolean>;
  /** All of a kind, by namespace, then digest, with when each was added last. */
  listArtifacts(kind: ArtifactKind): Promise<{ namespace: string; digest: string; addedAt: number }[]>;
  /** False where there is none, or it was added again at `before` or later. */
  removeArtifact(namespace: string, kind: ArtifactKind, digest: string, before: number): Promise<boolean>;
}

/**
 * Who of several controllers leads: by a lease that it renews. It says who may raise the term; that a leader that was
 * replaced writes no more is the term's doing.
 */
export interface Leadership {
  /** Takes the lease where nobody has it, or renews one's own, for `ttlMs`. False: another has it. */
  campaign(candidate: string, ttlMs: number): Promise<boolean>;
  /** Gives it up, where it is one's own. Idempotent. */
  resign(candidate: string): Promise<void>;
  /** Who has it now; null: nobody. */
  leader(): Promise<string | null>;
}

/** What functions have used: rows of text that the accounting reads once, when it starts, and writes from time to time. */
export interface UsageStore {
  loadUsage(): Promise<Map<string, string>>;
  /** All of it or nothing. */
  saveUsage(change: { set: ReadonlyMap<string, string>; remove: readonly string[] }): Promise<void>;
}

/** When functions were used, for how long they are kept: rows of text by `NAMESPACE/NAME`, read at the start and written from time to time. */
export interface IdleTimeStore {
  loadIdleTimes(): Promise<Map<string, string>>;
  /** All of it or nothing. */
  saveIdleTimes(change: { set: ReadonlyMap<string, string>; remove: readonly string[] }): Promise<void>;
}

export interface Store extends TenancyStore, Leadership, UsageStore, IdleTimeStore {
  /**
   * Raises the term by one and returns it: it fences one controller from the next. From then on this store
   * writes under that term: once another has raised it, every write throws FnError not-leader, and nothing is changed.
   */
  raiseTerm(): Promise<number>;
  /** Whether the term that this store writes under is still the newest; false where it has raised none. */
  holdsTerm(): Promise<boolean>;
  /** The lasting id of this installation, made at the first call. */
  installationId(): Promise<string>;
  /** Takes the next number of a function. Never given twice, not even after deleteFunction. */
  reserveRevision(namespace: string, name: string): Promise<number>;
  /**
   * Writes the revision and, in the same transaction, what changes about its function; makes the
   * function where there is none (then `traffic` must be given). Returns it as it is then.
   */
  commitRevision(revision: Revision, change: FunctionChange): Promise<FunctionRecord>;
  /** Throws FnError function-not-found, revision-not-found (a share for one that is not kept), precondition-failed. */
  changeFunction(namespace: string, name: string, change: FunctionChange): Promise<FunctionRecord>;
  /** Removes revisions that get no traffic; those that do are left, and so is what is not there. Returns the numbers removed. */
  removeRevisions(namespace: string, name: string, numbers: readonly number[]): Promise<number[]>;
  getFunction(namespace: string, name: string): Promise<FunctionRecord | null>;
  /** In the order of namespace, then name. */
  listFunctions(namespace?: string): Promise<FunctionRecord[]>;
  /** Removes the function and its revisions; false where there was none. */
  deleteFunction(namespace: string, name: string): Promise<boolean>;
  /** Digests that any revision refers to. */
  bundlesInUse(): Promise<Set<string>>;
  /** Idempotent. */
  close(): Promise<void>;
}

/**
 * A record of each instance, outside what any instance can see: what it is and whose. Written before what it describes
 * happens, so that a controller that starts after a crash knows what it may believe.
 */
export const InstanceRecord = z.object({
  id: InstanceId,
  nonce: z.string(),
  /** The start as the driver told it: an id that was used again has another. */
  startedAt: z.string(),
  /** Milliseconds since 1970; for people only. */
  createdAt: z.number(),
  /** null: generic. Set before init is sent. */
  revision: RevisionKey.nullable(),
  memoryMib: z.number(),
  cpu: z.number(),
  /** Versions of the secrets that init gave it; never a value. */
  secrets: z.record(z.string(), z.number()).default({}),
  /** False from before init until its answer: such an instance is destroyed [14]. */
  initialised: z.boolean(),
});
export type InstanceRecord = z.infer<typeof InstanceRecord>;

export interface InstanceRecords {
  /** All records by instance id. One that cannot be read is left out: its instance counts as unrecorded. */
  load(): Promise<Map<string, InstanceRecord>>;
  write(record: InstanceRecord): Promise<void>;
  /** Where the log reader is in what the instance writes, in the reader's own words. */
  writeLogPosition(id: string, position: string): Promise<void>;
  logPosition(id: string): Promise<string | null>;
  /** Removes what is left of instances that are not named. */
  prune(keep: ReadonlySet<string>): Promise<void>;
  /** Idempotent. */
  remove(id: string): Promise<void>;
}

/** A file of a function's log. */
export interface LogFile {
  name: string;
  bytes: number;
  /** Of its last write, milliseconds since 1970. */
  changedAt: number;
}

/**
 * Where logs of functions are kept: of each log (`NAMESPACE/NAME`) some files of bytes that are appended to, renamed and removed.
 * One process writes; what concerns one log is asked for one after the other. A method that throws may have done its work, or a part
 * of it: truncate() says how much of the file counts. What is not there is no error.
 */
export interface LogFiles {
  /** There is more than may be kept of all logs together. Never, where nobody counts. */
  readonly overfull: boolean;
  /** Before a log is opened first: brings what an older version left into this form. */
  prepare(log: string): Promise<void>;
  /** All that have files. */
  logs(): Promise<string[]>;
  /** By name. */
  list(log: string): Promise<LogFile[]>;
  /** null: it is not there. */
  read(log: string, name: string): Promise<Buffer | null>;
  /** Makes the file where there is none. `at`: milliseconds since 1970. */
  append(log: string, name: string, data: Buffer, at: number): Promise<void>;
  /** To so many bytes, which is where an append() had ended. */
  truncate(log: string, name: string, bytes: number): Promise<void>;
  rename(log: string, from: string, to: string): Promise<void>;
  remove(log: string, name: string): Promise<void>;
  removeLog(log: string): Promise<void>;
  /** Of all files, that which was written to the longest time ago. */
  oldest(): Promise<{ log: string; name: string } | null>;
}

/** Bundles by digest. A bundle is a gzip-compressed tar of regular files and folders. */
export interface BundleStore {
  has(digest: string): Promise<boolean>;
  /** Checks, unpacks and keeps a bundle. Throws FnError: 413 over a limit, 422 for anything else that is wrong with it. */
  put(digest: string, data: AsyncIterable<Uint8Array>): Promise<{ created: boolean; bytes: number; files: number }>;
  info(digest: string): Promise<{ bytes: number; files: number } | null>;
  /** Folder of the unpacked files. Throws where the bundle is not there. */
  dir(digest: string): Promise<string>;
  /** Removes what `keep` does not name and is older than `olderThanMs`. Returns how many. */
  prune(keep: Set<string>, olderThanMs: number): Promise<number>;
}
