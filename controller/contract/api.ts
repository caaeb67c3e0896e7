/**
 * The control API: what the CLI and others say to the controller. Paths begin with /v1.
 */
import { z } from 'zod';
import { FunctionAccess } from './access.ts';
import { CheckedFunctionSettings, Entry, FunctionView, HandlerForm, ImageId, Revision, Traffic } from './function.ts';
import { BundleDigest, InstanceId, Namespace, RevisionKey, RuntimeName } from './names.ts';

/** Limits of a bundle; over them 413. */
export const BUNDLE_LIMITS = {
  /** Bytes as uploaded (gzip-compressed tar). */
  maxUploadBytes: 64 * 1024 * 1024,
  /** Bytes when unpacked. */
  maxUnpackedBytes: 256 * 1024 * 1024,
  maxEntries: 10_000,
  /** Unpacked ÷ uploaded; above it, and above 16 MiB unpacked, it is taken for a bomb. */
  maxRatio: 200,
} as const;

/** Longest JSON body that the API reads. */
export const MAX_API_BODY_BYTES = 1024 * 1024;

/** Body of POST /v1/namespaces/:namespace/functions/:name/revisions */
export const DeployRequest = z.strictObject({
  bundle: BundleDigest,
  entry: Entry,
  settings: CheckedFunctionSettings,
  /** With the runtime `image`: which one. Refused with any other. */
  image: ImageId.nullable().default(null),
  /** In place of the function's; left out, it stays as it is. Takes effect with the traffic. */
  access: FunctionAccess.optional(),
  /** `false`: the revision gets no traffic, only its preview URL. A new function's first revision always gets it. */
  traffic: z.boolean().default(true),
  /** What it is, for `fn revisions`: a commit, say. */
  message: z.string().max(200).optional(),
});
export type DeployRequest = z.infer<typeof DeployRequest>;
export type DeployRequestInput = z.input<typeof DeployRequest>;

/** 201 of it. */
export const DeployResponse = z.object({
  url: z.string(),
  /** Of this revision alone, whatever the traffic. */
  previewUrl: z.string(),
  revision: Revision,
  /** How long each step took, ms. */
  timing: z.object({
    /** Getting an instance: from the pool, or creating it. */
    startMs: z.number(),
    /** Specialising it: limits, code, loading the module. */
    initMs: z.number(),
    /** Commit and telling the gateways. */
    routeMs: z.number(),
  }),
  start: z.enum(['pooled', 'full']),
  /** What the person should know, a sentence each: e.g. that egress is none on this host. */
  notes: z.array(z.string()),
});
export type DeployResponse = z.infer<typeof DeployResponse>;

/** 201 or 200 of PUT /v1/namespaces/:namespace/bundles/:digest; also of GET. HEAD tells only whether it is there. */
export const BundleInfo = z.object({ digest: BundleDigest, bytes: z.number().int(), files: z.number().int() });
export type BundleInfo = z.infer<typeof BundleInfo>;

export const FunctionList = z.object({ functions: z.array(FunctionView) });
export type FunctionList = z.infer<typeof FunctionList>;

/** A revision that is kept, with its share of the traffic (0: none). */
export const RevisionView = Revision.extend({ percent: z.number().int(), previewUrl: z.string(), instances: z.number().int() });
export type RevisionView = z.infer<typeof RevisionView>;
export const RevisionList = z.object({ revisions: z.array(RevisionView) });
export type RevisionList = z.infer<typeof RevisionList>;

/** Body of PUT /v1/namespaces/:namespace/functions/:name/traffic */
export const TrafficRequest = z.strictObject({ traffic: Traffic });
export type TrafficRequest = z.infer<typeof TrafficRequest>;

/** 200 of PUT …/traffic and PUT …/access: the function after it. */
export const PutAccessRequest = FunctionAccess;

/** Answer of POST /v1/namespaces/:namespace/images (a `docker save` archive) and POST …/images/pull. */
export const ImageInfo = z.object({
  id: ImageId,
  reference: z.string().nullable(),
  bytes: z.number().int(),
  port: z.number().int().nullable(),
});
export type ImageInfo = z.infer<typeof ImageInfo>;
export const PullImageRequest = z.strictObject({ reference: z.string().min(1).max(500) });
export type PullImageRequest = z.infer<typeof PullImageRequest>;

export const InstanceView = z.object({
  id: InstanceId,
  /** `busy`: a gateway holds slots of it (until a second after its last request). */
  state: z.enum(['generic', 'starting', 'idle', 'busy', 'frozen', 'draining']),
  runtime: RuntimeName,
  /** Present once it is specialised. */
  namespace: Namespace.optional(),
  function: z.string().optional(),
  revision: RevisionKey.optional(),
  memoryMib: z.number(),
  cpu: z.number(),
  network: z.enum(['none', 'egress']),
  /** Process on this host, where there is one that can be seen. */
  pid: z.number().int().optional(),
  /** Name or id in the engine, e.g. the container's name. */
  handle: z.string().optional(),
  ageSeconds: z.number(),
  /** Of one that nobody uses: when it goes if nobody comes and nobody else needs its memory; null: `min` or a deployment keeps it. */
  goesInSeconds: z.number().nullable().optional(),
});
export type InstanceView = z.infer<typeof InstanceView>;

export const PlatformStatus = z.object({
  version: z.string(),
  home: z.string(),
  gateway: z.object({ pid: z.number().int().nullable(), url: z.string(), tlsUrl: z.string().optional(), connected: z.number().int() }),
  controller: z.object({ pid: z.number().int(), url: z.string(), term: z.number().int(), uptimeSeconds: z.number() }),
  /** Every gateway that is connected, in the order in which they came. `pid` is null where its process is not of this host. */
  gateways: z.array(z.object({ id: z.string(), pid: z.number().int().nullable() })).optional(),
  /** Where functions are kept: `sqlite`, or the address of a Redis, without its password. */
  store: z.string().optional(),
  /** Brings events to functions; no process while there is nothing for it. */
  dispatcher: z.object({ pid: z.number().int().nullable() }),
  driver: z.string(),
  /** What this host can do, a sentence each where something is missing and what it costs. */
  features: z.object({
    freeze: z.boolean(),
    exactLimits: z.boolean(),
    parentCgroup: z.boolean(),
    egress: z.enum(['filtered', 'unfiltered', 'none']),
    notes: z.array(z.string()),
  }),
  budget: z.object({
    memoryMib: z.number(),
    memoryUsedMib: z.number(),
    cpu: z.number(),
    cpuUsed: z.number(),
  }),
  runtimes: z.array(z.object({ name: z.string(), version: z.string(), image: z.string().optional() })),
  functions: z.array(
    z.object({
      namespace: z.string(),
      name: z.string(),
      revision: RevisionKey,
      url: z.string(),
      instances: z.number().int(),
      /** Its events, where it has any: of the event store, and how many triggers bring more. */
      events: z
        .object({ triggers: z.number().int(), waiting: z.number().int(), running: z.number().int(), dead: z.number().int() })
        .optional(),
    }),
  ),
  instances: z.array(InstanceView),
});
export type PlatformStatus = z.infer<typeof PlatformStatus>;

export { LogEntry, LogQuery } from './log.ts';
export { HandlerForm };
