/**
 * The port to a Kubernetes API server: as much of it as fn needs. Who decides (driver, lease, declared functions)
 * knows this file only; api.ts has the connection, fake.ts one for tests of logic.
 */
import { z } from 'zod';

export const ObjectMeta = z.looseObject({
  name: z.string(),
  namespace: z.string().optional(),
  uid: z.string().default(''),
  resourceVersion: z.string().default(''),
  generation: z.number().optional(),
  labels: z.record(z.string(), z.string()).default({}),
  annotations: z.record(z.string(), z.string()).default({}),
  creationTimestamp: z.string().optional(),
  deletionTimestamp: z.string().optional(),
  deletionGracePeriodSeconds: z.number().optional(),
});
export type ObjectMeta = z.infer<typeof ObjectMeta>;

export interface KubeObject {
  metadata: ObjectMeta;
}

/** A kind of object: where the API has it, and what of it is read. */
export interface Resource<T extends KubeObject> {
  /** '' for the core group. */
  group: string;
  version: string;
  plural: string;
  kind: string;
  schema: z.ZodType<T>;
  /** A single object is waited for so long, ms; else as long as requests are in general. */
  timeoutMs?: number;
}

/** An object to be sent, as the API documents it. */
export type Manifest = { apiVersion: string; kind: string; metadata: Record<string, unknown> } & Record<string, unknown>;

export interface Selector {
  labels?: string;
  fields?: string;
}

/** RFC 7396, RFC 6902; `strategic` is Kubernetes' own, not for custom resources. */
export type Patch =
  | { type: 'merge' | 'strategic'; body: Record<string, unknown> }
  | { type: 'json'; body: { op: 'add' | 'replace' | 'remove' | 'test'; path: string; value?: unknown }[] };

export type WatchEvent<T> = { type: 'added' | 'modified' | 'deleted'; object: T } | { type: 'bookmark'; resourceVersion: string };

/**
 * What the API server answered, other than success. `reason` is the API's (`NotFound`, `Conflict`, `AlreadyExists`, `Forbidden`, `Expired`,
 * `Invalid`, `TooManyRequests`, …).
 */
export class KubeError extends Error {
  readonly status: number;
  readonly reason: string;
  /** As the server asks, ms. */
  readonly retryAfterMs: number | null;

  constructor(message: string, status: number, reason: string, retryAfterMs: number | null = null) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The API server did not answer: refused, reset, or over the time. Nothing is known of what was asked. */
export class KubeUnreachable extends Error {}

export interface DeleteOptions {
  /** Seconds from SIGTERM to SIGKILL; absent: as the object says. */
  graceSeconds?: number;
  /** Refused with Conflict where the object is another one, or has been changed. */
  uid?: string;
  resourceVersion?: string;
}

/** All throw KubeError and KubeUnreachable. Each has a time of its own within which it ends. */
export interface KubeApi {
  /** `1.20`; asked once. */
  version(): Promise<{ major: number; minor: number }>;
  get<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string): Promise<T>;
  /** All pages. `resourceVersion` is where a watch goes on. */
  list<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    selector?: Selector,
  ): Promise<{ items: T[]; resourceVersion: string }>;
  create<T extends KubeObject>(resource: Resource<T>, namespace: string, manifest: Manifest): Promise<T>;
  /** PUT: `manifest.metadata.resourceVersion` fences it. */
  replace<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, manifest: Manifest): Promise<T>;
  /** `subresource`: status, resize. A `resourceVersion` in the patch's metadata fences it: Conflict. */
  patch<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, patch: Patch, subresource?: string): Promise<T>;
  delete<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, options?: DeleteOptions): Promise<void>;
  /** Ends by itself from time to time; throws KubeError `Expired` where the version is too old. Servers that can send bookmarks. */
  watch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    from: { resourceVersion: string; selector?: Selector },
    signal: AbortSignal,
  ): AsyncIterable<WatchEvent<T>>;
  /** `GET …/pods/NAME/log?follow=true&timestamps=true`: bytes, until the container ends, the server ends it, or it is aborted. */
  podLog(
    namespace: string,
    name: string,
    options: { container: string; sinceTime: string | null },
    signal: AbortSignal,
  ): AsyncIterable<Buffer>;
  /** Requests made so far, by verb: for the bench and /metrics. Watches and logs count once. */
  readonly requests: ReadonlyMap<string, number>;
  /** Ends all connections. Idempotent. */
  close(): Promise<void>;
}
