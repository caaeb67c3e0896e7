/**
 * The store port: what must outlive the controller. Every write has reached the disk when its
 * promise resolves. SQLite implements it (Redis to come); both pass test/conformance/store.
 */
import type { Revision } from '#contract/function.ts';

export interface FunctionRecord {
  namespace: string;
  name: string;
  /** The revision that requests go to. */
  revision: Revision;
}

export interface Store {
  /** Raises the term by one and returns it: it fences one controller from the next. */
  raiseTerm(): Promise<number>;
  /** The lasting id of this installation, made at the first call. */
  installationId(): Promise<string>;
  /** Takes the next number of a function. Never given twice, not even after deleteFunction. */
  reserveRevision(namespace: string, name: string): Promise<number>;
  /** Writes the revision and routes the function to it, in one transaction. */
  commitRevision(revision: Revision): Promise<void>;
  getFunction(namespace: string, name: string): Promise<FunctionRecord | null>;
  /** In the order of namespace, then name. */
  listFunctions(namespace?: string): Promise<FunctionRecord[]>;
  /** Newest first. Empty where there is no such function. */
  listRevisions(namespace: string, name: string): Promise<Revision[]>;
  /** Removes the function and its revisions; false where there was none. */
  deleteFunction(namespace: string, name: string): Promise<boolean>;
  /** Digests that any revision refers to. */
  bundlesInUse(): Promise<Set<string>>;
  /** Idempotent. */
  close(): Promise<void>;
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
