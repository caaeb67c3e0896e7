/** What is recorded of one request to a function, and what `fn why` makes of it. */
import { z } from 'zod';
import { EventKind } from './events-link.ts';
import { LogEntry } from './log.ts';
import { InstanceId, Namespace, RevisionKey } from './names.ts';

/** Why a request had to wait for a start. */
export const ColdReason = z.enum([
  /** No instance ran: the function had scaled to zero, or was never called. */
  'scaled-to-zero',
  /** All slots of the instances that ran were taken. */
  'burst',
  /** The first start of this revision. */
  'new-revision',
  /** The instance before it died. */
  'replaced',
]);
export type ColdReason = z.infer<typeof ColdReason>;

/** How a start went. Times in milliseconds. */
export const StartInfo = z.object({
  /** `warm`: the instance was ready. `pooled`: a generic one was specialised. `full`: one was created. */
  kind: z.enum(['warm', 'pooled', 'full']),
  /** Creating the instance, until it answered health. 0 where it was not waited for. */
  startMs: z.number(),
  /** Specialising it: limits, code, init. */
  initMs: z.number(),
  /** Of that, until limits and code were in place; and what loading the module took, as the shim says. Absent where it was warm. */
  placeMs: z.number().optional(),
  loadMs: z.number().optional(),
  /** Absent where it was warm. */
  reason: ColdReason.optional(),
  /** Of a large bundle: its code was not compiled anew (`hit`), or it was, and a code cache made of it (`made`). */
  codeCache: z.enum(['hit', 'made']).optional(),
  /** It was brought up before anybody asked, and this is its first request. */
  prewarmed: z.boolean().optional(),
});
export type StartInfo = z.infer<typeof StartInfo>;

/** One request, as the gateway that had it saw it. Times in milliseconds; absent is: did not come to it. */
export const CallRecord = z.object({
  /** x-request-id. A client may have chosen it, so two calls may have the same. */
  id: z.string().max(200),
  /** When its head had been read, milliseconds since 1970. */
  t: z.number(),
  gateway: z.string().max(100),
  namespace: Namespace,
  name: z.string().max(63),
  /** Revision and instance that answered, or that it was with last. */
  revision: RevisionKey.optional(),
  instance: InstanceId.optional(),
  method: z.string().max(20),
  /** Without its query, which may hold secrets; cut. */
  path: z.string().max(512),
  /** Status that the client got; 0 where it went away before. */
  status: z.number().int(),
  /** Code of the problem that the gateway answered with, and its detail. */
  code: z.string().max(100).optional(),
  detail: z.string().max(1_000).optional(),
  traceId: z.string().max(32).optional(),
  start: StartInfo.optional(),
  /** Reading the body before a slot was asked for; waiting for a slot, start included; to the response's head; the rest of it. */
  bodyMs: z.number().optional(),
  queueMs: z.number().optional(),
  handlerMs: z.number().optional(),
  streamMs: z.number().optional(),
  totalMs: z.number(),
  /** Instances that it was sent to before, and why each did not take it. */
  tries: z
    .array(z.object({ instance: InstanceId, why: z.string().max(100) }))
    .max(10)
    .optional(),
  /** The client went away before the end. */
  aborted: z.boolean().optional(),
  /** An event that was delivered: what it was to the handler. */
  event: EventKind.optional(),
  /** `websocket`, `events` where it was one. */
  stream: z.enum(['websocket', 'events']).optional(),
});
export type CallRecord = z.infer<typeof CallRecord>;

export const Why = z.object({
  call: CallRecord,
  /** In words: what happened, in order, with its time. */
  phases: z.array(z.object({ name: z.string(), ms: z.number(), note: z.string().optional() })),
  /** Warm or cold, and why. */
  temperature: z.string(),
  fault: z.enum(['none', 'caller', 'function', 'platform']),
  /** What happened, in one sentence, and what to do, if anything. */
  summary: z.string(),
  advice: z.array(z.string()),
  /** The platform's words about the instance around that time: its start, its end. */
  instance: z.object({ id: InstanceId, notes: z.array(LogEntry) }).nullable(),
  /** What the function wrote for this request. */
  logs: z.array(LogEntry),
  /** Lines that the limits dropped around that time, if any were. */
  dropped: z.number().int(),
  /** Other calls with the same id. */
  others: z.number().int(),
});
export type Why = z.infer<typeof Why>;

/** Query of GET …/functions/:name/calls: the newest first. */
export const CallQuery = z.strictObject({
  /** Those that failed: answered by the platform with a problem, or by the function with 500 or above, or left by the client. */
  failed: z.stringbool().optional(),
  slow: z.stringbool().optional(),
  cold: z.stringbool().optional(),
  /** Milliseconds since 1970, inclusive. */
  since: z.coerce.number().int().min(0).optional(),
  limit: z.coerce.number().int().min(1).max(1_000).optional(),
});
export type CallQuery = z.infer<typeof CallQuery>;

/** Those that a record is kept of: all that failed, were slow or waited for a start, and a sample of the others. */
export const CallList = z.object({ calls: z.array(CallRecord) });
export type CallList = z.infer<typeof CallList>;

/** Did it fail, whoever was at fault? */
export const hasFailed = (call: CallRecord): boolean => call.code !== undefined || call.status >= 500 || call.aborted === true;
/** Did it wait for a start? */
export const wasCold = (call: CallRecord): boolean => call.start !== undefined && call.start.kind !== 'warm';
/** How long until the answer began, for a stream; until its end for any other. */
export const answerMs = (call: CallRecord): number => call.totalMs - (call.stream === undefined ? 0 : (call.streamMs ?? 0));
