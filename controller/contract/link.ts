/**
 * The link between a gateway (G) and the controller (C): newline-delimited JSON over a stream.
 * The rules are in docs/leases.md; the numbers in brackets are its sections.
 */
import { z } from 'zod';
import { Auth, Cors, RateLimit, RouteSpec, Sticky } from './access.ts';
import { CallRecord, StartInfo } from './call.ts';
import { Problem } from './errors.ts';
import { FunctionName, InstanceId, LeaseId, Namespace, RevisionKey } from './names.ts';
import { Address } from './runtime.ts';
import { CountsBatch } from './stats.ts';
import { TokenNamespaces } from './tenancy.ts';

export { StartInfo };

/**
 * Longest line either side accepts, bytes: the controller's snapshot of all routes. 10,000 functions with ten revisions
 * each are some 20 MB.
 */
export const MAX_LINK_LINE_BYTES = 64 * 1024 * 1024;
/** Longest line of a gateway's, bytes: it faces the network, and what it says is believed less. 10,000 leases are some 2.5 MB. */
export const MAX_GATEWAY_LINE_BYTES = 4 * 1024 * 1024;
/** Leases that a gateway may hold. */
const MAX_HELD = 10_000;

export const Lease = z.object({
  lease: LeaseId,
  instance: InstanceId,
  revision: RevisionKey,
  address: Address,
  slots: z.number().int().positive(),
});
export type Lease = z.infer<typeof Lease>;

/** What a gateway needs to know of one revision. */
export const RouteTarget = z.object({
  revision: RevisionKey,
  number: z.number().int().positive(),
  /** Share of the requests, percent; 0: reached by its preview URL only. Those of a route sum up to 100. */
  percent: z.number().int().min(0).max(100),
  timeoutMs: z.number(),
  /** Longest life of a WebSocket or stream of events, ms. */
  maxStreamMs: z.number(),
  /** Most slots over all instances (max × concurrency): demand beyond it queues in the gateway. */
  maxSlots: z.number().int(),
});
export type RouteTarget = z.infer<typeof RouteTarget>;

/** All that a gateway needs to serve a function. */
export const Route = z.object({
  namespace: Namespace,
  name: FunctionName,
  /** Every revision that is kept; the current one first. */
  targets: z.array(RouteTarget).min(1),
  routes: z.array(RouteSpec),
  cors: Cors.nullable(),
  auth: Auth,
  rateLimit: RateLimit.nullable(),
  sticky: Sticky.nullable(),
  /** `Prefer: respond-async` is the platform's to answer. */
  async: z.boolean(),
});
export type Route = z.infer<typeof Route>;

/** The limits of a namespace that gateways keep; absent is none. Each gateway keeps its share: limit ÷ gateways. */
export const NamespaceLimits = z.object({
  namespace: Namespace,
  concurrency: z.number().int().nullable(),
  requestsPerSecond: z.number().nullable(),
});
export type NamespaceLimits = z.infer<typeof NamespaceLimits>;

/** A token that may invoke, as a gateway knows it: by its SHA-256 (hex), never by itself. */
export const InvokeToken = z.object({
  id: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  namespaces: TokenNamespaces,
  expiresAt: z.number().nullable(),
});
export type InvokeToken = z.infer<typeof InvokeToken>;

/** A certificate of a custom domain: PEM chain and key, and the names that it is for. */
export const Certificate = z.object({ names: z.array(z.string()), cert: z.string(), key: z.string() });
export type Certificate = z.infer<typeof Certificate>;

/** Calls that one message may bring. */
export const MAX_CALLS_PER_MESSAGE = 1_000;

/** The id of a `recall` that asks for the waiting `calls` only: no request has it. */
export const FLUSH_ONLY = '';

export const GatewayMessage = z.discriminatedUnion('type', [
  /** [3] First message. `gateway` lives as long as the installation, `boot` as long as the process. */
  z.object({
    type: z.literal('hello'),
    gateway: z.string().max(100),
    boot: z.string().max(100),
    pid: z.number().int(),
    term: z.number().int(),
    // Counted before it is looked into: each wrong item is an issue of its own, and millions of them are all of the memory.
    held: z.array(z.unknown()).max(MAX_HELD).pipe(z.array(Lease)),
  }),
  /** [5] Demand for a revision; replaces the last one. All zero: no demand. */
  z.object({
    type: z.literal('want'),
    revision: RevisionKey,
    waiting: z.number().int().min(0),
    inFlight: z.number().int().min(0),
    /** When the oldest waiter gives up: milliseconds since 1970; null without waiters. */
    oldestDeadline: z.number().nullable(),
    /** W3C context of the oldest waiter: the start that it brings about belongs to its trace. */
    traceparent: z.string().max(100).optional(),
    /** Moving average of the time a slot is taken by a request, ms; 0 where unknown. */
    serviceMs: z.number().min(0),
  }),
  /**
   * [7] The gateway has forgotten the lease, with no request in flight on it. With `slots`: it keeps
   * so many and will use no more, as a partial revoke asked [8].
   */
  z.object({ type: z.literal('release'), lease: LeaseId, slots: z.number().int().min(0).optional() }),
  /** [10] Connections to it fail, or it answers nonsense. */
  z.object({ type: z.literal('suspect'), instance: InstanceId, reason: z.string().max(500) }),
  /** [11] A request overran its timeout. */
  z.object({ type: z.literal('timeout'), instance: InstanceId, request: z.string().max(200) }),
  /** [15] The gateway routes by this version. */
  z.object({ type: z.literal('routed'), version: z.number().int() }),
  /**
   * Requests that are over: all that failed, waited for a start or were slow, and a sample of the others.
   * `skipped`: those since the last message that no record was kept of.
   */
  z.object({
    type: z.literal('calls'),
    calls: z.array(z.unknown()).max(MAX_CALLS_PER_MESSAGE).pipe(z.array(CallRecord)),
    skipped: z.number().int().min(0),
    /** What was counted of all of them, sampled or not, since the batch before. Sent again after each welcome, until it is acknowledged. */
    counted: CountsBatch.optional(),
  }),
  /** Somebody wants an event accepted, and there is no dispatcher to be reached: it is to be started. */
  z.object({ type: z.literal('events') }),
  /** Answer to `recall`: what this gateway still remembers of it, sampled or not. */
  z.object({ type: z.literal('recalled'), id: z.string().max(200), calls: z.array(CallRecord).max(10) }),
]);
export type GatewayMessage = z.infer<typeof GatewayMessage>;

const term = z.number().int().positive();

export const ControllerMessage = z.discriminatedUnion('type', [
  /** [3] Answer to hello. Leases in neither list are dropped too. */
  z.object({
    type: z.literal('welcome'),
    term,
    keep: z.array(LeaseId),
    drop: z.array(LeaseId),
    version: z.number().int(),
    routes: z.array(Route),
  }),
  /** [15] Change of routes. */
  z.object({
    type: z.literal('routes'),
    term,
    version: z.number().int(),
    set: z.array(Route),
    remove: z.array(z.object({ namespace: Namespace, name: FunctionName })),
  }),
  /** Settings of all gateways; sent after welcome, and whole again at each change. */
  z.object({
    type: z.literal('settings'),
    term,
    /** Gateways that are connected: each keeps its share of a limit. */
    gateways: z.number().int().positive(),
    limits: z.array(NamespaceLimits),
    tokens: z.array(InvokeToken),
  }),
  /** Certificates for custom domains; sent after welcome, and whole again at each change. */
  z.object({ type: z.literal('certificates'), term, certificates: z.array(Certificate) }),
  /**
   * Asks for what is remembered of a request. The gateway first sends the `calls` that wait to be sent,
   * and then answers `recalled`; with the id FLUSH_ONLY it remembers nothing of it.
   */
  z.object({ type: z.literal('recall'), term, id: z.string().max(200) }),
  /** The batch of counts with this number is kept for good. */
  z.object({ type: z.literal('counted'), term, seq: z.number().int().positive() }),
  /** [6] */
  z.object({ type: z.literal('grant'), term, lease: Lease, start: StartInfo }),
  /** [8] `slots` is what the lease keeps (0: all is revoked). No new use beyond it from receipt. */
  z.object({ type: z.literal('revoke'), term, lease: LeaseId, slots: z.number().int().min(0), deadlineMs: z.number() }),
  /** [9] The instance is dead; every lease of it is void. */
  z.object({
    type: z.literal('gone'),
    term,
    instance: InstanceId,
    cause: z.enum(['exit', 'oom', 'timeout', 'stopped', 'lost']),
    detail: z.string(),
  }),
  /** [10] The instance answered: use it again. */
  z.object({ type: z.literal('clear'), term, instance: InstanceId }),
  /** No instance of this revision can be had: its waiters fail now, with this problem. */
  z.object({ type: z.literal('fail'), term, revision: RevisionKey, problem: Problem, retryAfterSeconds: z.number().optional() }),
]);
export type ControllerMessage = z.infer<typeof ControllerMessage>;
