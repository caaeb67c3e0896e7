/**
 * Between a gateway and the dispatcher: newline-delimited JSON over a stream, which the gateway dials.
 * On it invocations come in that are answered later, and events go out to be delivered. `seq` is the
 * asker's own counter; each asker counts for itself. See docs/events.md.
 */
import { z } from 'zod';
import { EventId, MAX_EVENT_BYTES, MAX_KEY_LENGTH } from './events.ts';
import { Problem } from './errors.ts';
import { FunctionName, InstanceId, Namespace, RevisionKey } from './names.ts';

/** Longest line, bytes: a batch of events and its headers as text, each of whose quotes takes two bytes. */
export const MAX_EVENTS_LINE_BYTES = 32 * 1024 * 1024;
/** Longest body of one delivery, bytes: a batch is as large as ten events may be. */
export const MAX_BATCH_BYTES = 10 * MAX_EVENT_BYTES;

/** A body on the wire: as text where it is UTF-8, else Base64. Use encodeBody and decodeBody of #kit/event-body.ts. */
export const WireBody = z.union([z.object({ text: z.string() }), z.object({ base64: z.string() })]);
export type WireBody = z.infer<typeof WireBody>;

/** Names in lower case and values, one after the other. */
const FlatHeaders = z.array(z.string());

const seq = z.number().int().min(1);

/**
 * A request that a function is to get: what a client sent, or what the dispatcher makes of an event. The gateway
 * adds what it adds to any request (x-request-id, deadline, traceparent), and `fn-event`.
 */
export const EventRequest = z.object({
  method: z.string().max(20),
  /** Path and query as the function sees it. */
  path: z.string().max(8_192),
  headers: FlatHeaders,
  body: WireBody,
});
export type EventRequest = z.infer<typeof EventRequest>;

/**
 * What an event is to the handler, header `fn-event`: `invocation` is a client's request, to be handled
 * like any other; `queue` one message (binary mode) or several (batch format) of a broker or a webhook; `schedule` a tick;
 * `event` the outcome of another invocation.
 */
export const EventKind = z.enum(['invocation', 'queue', 'schedule', 'event']);
export type EventKind = z.infer<typeof EventKind>;

export const GatewayEventMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('hello'), gateway: z.string().max(100), boot: z.string().max(100) }),
  /** A client's request with `Prefer: respond-async`, checked and let in. Answered `accepted` or `refused`. */
  z.object({
    type: z.literal('accept'),
    seq,
    namespace: Namespace,
    name: FunctionName,
    /** The one that its preview URL named; null: as the traffic is when it is delivered. */
    revision: RevisionKey.nullable(),
    request: EventRequest,
    /** x-request-id and traceparent of the client's own request. */
    requestId: z.string().max(200),
    traceparent: z.string().max(100).nullable(),
    idempotencyKey: z.string().min(1).max(MAX_KEY_LENGTH).nullable(),
    delayMs: z.number().min(0),
    orderKey: z.string().min(1).max(MAX_KEY_LENGTH).nullable(),
  }),
  /** A webhook, unchecked. Answered `answer`. */
  z.object({
    type: z.literal('webhook'),
    seq,
    namespace: Namespace,
    name: FunctionName,
    trigger: z.string().max(63),
    request: EventRequest,
    requestId: z.string().max(200),
    traceparent: z.string().max(100).nullable(),
  }),
  /** `read` is answered by `invocation`, so that the gateway can check who asks; `result` and `cancel` by `answer`. */
  z.object({ type: z.literal('invocation'), seq, id: EventId, action: z.enum(['read', 'result', 'cancel']) }),
  /** The gateway is about to end: it finishes what it was given, and is to be given no more. */
  z.object({ type: z.literal('draining') }),
  /** What came of `deliver`. */
  z.object({
    type: z.literal('delivered'),
    seq,
    requestId: z.string(),
    instance: InstanceId.nullable(),
    revision: RevisionKey.nullable(),
    /** Of the function's own answer; null where there is none, and `problem` says why. */
    response: z.object({ status: z.number().int(), headers: FlatHeaders, body: WireBody, truncated: z.boolean() }).nullable(),
    problem: Problem.nullable(),
    retryAfterSeconds: z.number().nullable(),
    /** From the gateway's receipt to the slot, and from there to the end of the answer, ms. */
    waitedMs: z.number(),
    ranMs: z.number(),
  }),
]);
export type GatewayEventMessage = z.infer<typeof GatewayEventMessage>;

export const DispatcherMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('welcome') }),
  /** It is durable. `duplicate`: there was one with this Idempotency-Key, and this is its id. */
  z.object({ type: z.literal('accepted'), seq, id: EventId, duplicate: z.boolean() }),
  /** Of `accept`; and of `invocation`, where nothing can be looked up now. */
  z.object({ type: z.literal('refused'), seq, problem: Problem, retryAfterSeconds: z.number().nullable() }),
  /** Of whom the invocation is, for the gateway's check, and InvocationView as JSON text. null: there is none. */
  z.object({
    type: z.literal('invocation'),
    seq,
    found: z.object({ namespace: Namespace, name: FunctionName, view: z.string() }).nullable(),
  }),
  z.object({ type: z.literal('answer'), seq, status: z.number().int(), headers: FlatHeaders, body: WireBody }),
  z.object({
    type: z.literal('deliver'),
    seq,
    namespace: Namespace,
    name: FunctionName,
    revision: RevisionKey.nullable(),
    kind: EventKind,
    request: EventRequest,
    /** W3C context that the delivery belongs to; null: it begins its own. */
    traceparent: z.string().max(100).nullable(),
    /** Longest answer that is of interest, bytes; the rest is read and dropped. */
    maxResponseBytes: z.number().int().min(0),
  }),
  /** The outcome is of no interest any more: as if a client had gone. No `delivered` need come. */
  z.object({ type: z.literal('abandon'), seq }),
]);
export type DispatcherMessage = z.infer<typeof DispatcherMessage>;
