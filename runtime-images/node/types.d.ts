/**
 * Types of what a function gets from the node runtime.
 *
 *     import type { Context } from 'fn';
 *     export default { fetch(request: Request, env: Env, ctx: Context) { … } };
 *
 * Types only: nothing is imported at run time.
 */

// WebSockets

/** Options of `ctx.upgradeWebSocket`. */
export interface UpgradeWebSocketOptions {
  /** One of those that the client offers (Sec-WebSocket-Protocol). Another one throws. */
  protocol?: string;
  /** Longest message of the client, bytes; a longer one closes the WebSocket with 1009. Default 16 MiB, at most 256 MiB. */
  maxMessageBytes?: number;
}

/**
 * The server's end of a WebSocket: the standard's interface, connected as soon as the response was
 * returned. `binaryType` is `'blob'` at first, as in the standard; `'arraybuffer'` costs no further await.
 */
export interface ServerWebSocket extends EventTarget {
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
  readonly readyState: 0 | 1 | 2 | 3;
  readonly url: string;
  readonly protocol: string;
  readonly extensions: '';
  binaryType: 'blob' | 'arraybuffer';
  /** Bytes that were given to `send` and have not left: wait while it is high, or a slow client fills the memory. */
  readonly bufferedAmount: number;
  onopen: ((event: Event) => unknown) | null;
  onmessage: ((event: MessageEvent) => unknown) | null;
  onclose: ((event: CloseEvent) => unknown) | null;
  onerror: ((event: Event & { readonly message: string }) => unknown) | null;
  /** Throws InvalidStateError before `open`; does nothing once it closes. */
  send(data: string | ArrayBufferLike | ArrayBufferView | Blob): void;
  /** A code from 1000 to 1014, as far as it may be sent, or from 3000 to 4999; a reason of at most 123 bytes. */
  close(code?: number, reason?: string): void;
  addEventListener(type: 'open', listener: (event: Event) => unknown, options?: AddEventListenerOptions | boolean): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => unknown, options?: AddEventListenerOptions | boolean): void;
  addEventListener(type: 'close', listener: (event: CloseEvent) => unknown, options?: AddEventListenerOptions | boolean): void;
  addEventListener(
    type: 'error',
    listener: (event: Event & { readonly message: string }) => unknown,
    options?: AddEventListenerOptions | boolean,
  ): void;
}

/** What `ctx.upgradeWebSocket` gives: return the response, listen on the socket. */
export interface UpgradedWebSocket {
  response: Response;
  socket: ServerWebSocket;
}

// The context

/** What a handler knows of its request beside the request itself. Its functions may be taken off it. */
export interface Context {
  /** x-request-id: also the tag of its log lines. */
  readonly requestId: string;
  /** When the platform gives up, milliseconds since 1970. Of a WebSocket or event stream: on its beginning. */
  readonly deadline: number;
  readonly functionName: string;
  readonly namespace: string;
  /** Number of the revision. */
  readonly revision: number;
  /** Aborted when the client goes away before the response is complete. */
  readonly signal: AbortSignal;
  /** Milliseconds until the deadline; 0 once it has passed. */
  remainingMs(): number;
  /** The instance is neither frozen nor stopped until this settles or the function's timeout has passed. */
  waitUntil(promise: unknown): void;
  /** As of Workers; does nothing here. */
  passThroughOnException(): void;
  /**
   * Makes this request a WebSocket. Throws TypeError where it does not ask for one (`upgrade: websocket`).
   *
   *     const { response, socket } = ctx.upgradeWebSocket(request);
   *     socket.onmessage = ({ data }) => socket.send(data);
   *     return response;
   */
  upgradeWebSocket(request: Request, options?: UpgradeWebSocketOptions): UpgradedWebSocket;
}

// Handlers: a default export with fetch, and what else it may have

/** Variables and secrets of the function. */
export type Environment = Readonly<Record<string, string>>;

/**
 *     export default { fetch: (request) => new Response('hello') } satisfies Handler;
 *
 * `fetch` answers HTTP. The others are called by triggers, schedules and destinations, and by nobody else: an event
 * without a handler of its own goes to `event`, and where there is none, to the handler of HTTP as a POST.
 */
export interface Handler<Env = Environment, Body = unknown> extends EventHandlers<Env, Body> {
  fetch?(request: Request, env: Env, ctx: Context): Response | Promise<Response>;
}

// Events

/**
 * Handlers for events, as methods of the default export or as exports by name. A module may have these alone; HTTP
 * requests are then answered with 404.
 *
 *     export const queue: EventHandlers['queue'] = async (batch) => { … };
 */
export interface EventHandlers<Env = Environment, Body = unknown> {
  /** Messages of a broker, or of a webhook. Returning acknowledges all of which nothing else was said; throwing, none. What it returns does not matter. */
  queue?(batch: MessageBatch<Body>, env: Env, ctx: Context): unknown;
  /** A tick of a schedule. What it returns is kept as the result of the invocation, as JSON. */
  scheduled?(event: ScheduledEvent<Body>, env: Env, ctx: Context): unknown;
  /**
   * The outcome of another function (destinations), and each event for which there is no handler of its own; of a
   * batch one after the other. What it returns is kept as the result of the invocation, as JSON.
   */
  event?(event: CloudEvent<Body>, env: Env, ctx: Context): unknown;
}

/**
 * A CloudEvent (1.0), attributes and extensions side by side. All are text but `attempt`, which is a number.
 *
 * `data` is parsed where it was sent as JSON; without a type, where it looks like an object or a list in JSON. Other
 * text is a string, all else a Uint8Array; undefined where there is none.
 */
export interface CloudEvent<Data = unknown> {
  readonly specversion: string;
  /** The same when it is delivered again: with `source`, what to know duplicates by. */
  readonly id: string;
  /** Where it is from: `redis://host/stream`, `/functions/NAMESPACE/NAME`. */
  readonly source: string;
  /** What it is: `fn.redis-stream`, `fn.schedule`, … or what its sender says. */
  readonly type: string;
  readonly subject?: string;
  /** When it happened, RFC 3339. */
  readonly time?: string;
  readonly datacontenttype?: string;
  readonly dataschema?: string;
  readonly data?: Data;
  /** How often it was tried, this time included. */
  readonly attempt?: number;
  /** Name of the trigger that brought it. */
  readonly trigger?: string;
  /** Events with the same key are in order. */
  readonly partitionkey?: string;
  readonly [extension: string]: unknown;
}

/** One message of a queue. */
export interface Message<Body = unknown> {
  /** The same when it is delivered again. */
  readonly id: string;
  /** When it was sent. */
  readonly timestamp: Date;
  /** Parsed where it was sent as JSON, else text, or a Uint8Array: the `data` of `event`. */
  readonly body: Body;
  /** 1 the first time that it is delivered. */
  readonly attempts: number;
  /** The whole event: where it is from, its key, what its broker told beside it. */
  readonly event: CloudEvent<Body>;
  /** Done, whatever becomes of the others of the batch, and also where the handler throws later. */
  ack(): void;
  /** To be delivered again, after its function's usual pause or after so long (0 to 86,400 s). The first word about a message holds. */
  retry(options?: RetryOptions): void;
}

export interface RetryOptions {
  /** Seconds, from 0 to 86,400; anything else throws RangeError. */
  delaySeconds?: number;
}

/**
 * Messages that are delivered together, in their order. A handler that returns has done all of which it did not say
 * otherwise; one that throws, only those that it acknowledged before. What is said after that (in waitUntil) counts no more.
 */
export interface MessageBatch<Body = unknown> {
  /** Name of the trigger. */
  readonly queue: string;
  readonly messages: readonly Message<Body>[];
  /** Those of which nothing was said yet. The first of ackAll and retryAll holds. */
  ackAll(): void;
  retryAll(options?: RetryOptions): void;
}

/** A tick of a schedule. */
export interface ScheduledEvent<Data = unknown> {
  /** The schedule, as it was written. */
  readonly cron: string;
  /** When it was due, milliseconds since 1970; it may run later. */
  readonly scheduledTime: number;
  /** IANA name of the zone that the schedule is meant in. */
  readonly timezone: string;
  /** The same for the same tick, however often it is tried. */
  readonly id: string;
  /** What the trigger gives along (`data` of fn.yaml). */
  readonly data?: Data;
  readonly event: CloudEvent<Data>;
}

// The Lambda form: handler(event, context)

/** An HTTP request as AWS has it: API Gateway payload 2.0. */
export interface HttpEvent {
  readonly version: '2.0';
  readonly routeKey: string;
  readonly rawPath: string;
  readonly rawQueryString: string;
  readonly cookies?: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  readonly queryStringParameters?: Readonly<Record<string, string>>;
  readonly requestContext: {
    readonly requestId: string;
    readonly timeEpoch: number;
    readonly http: {
      readonly method: string;
      readonly path: string;
      readonly protocol: string;
      readonly sourceIp: string;
      readonly userAgent: string;
    };
  };
  readonly body?: string;
  readonly isBase64Encoded: boolean;
}

/** What a Lambda handler answers with; anything that has no `statusCode` becomes JSON with 200. */
export interface HttpResult {
  statusCode: number;
  headers?: Record<string, string | number | boolean>;
  cookies?: string[];
  body?: string;
  isBase64Encoded?: boolean;
}

/** The second argument of a Lambda handler. */
export interface LambdaContext {
  readonly awsRequestId: string;
  readonly functionName: string;
  readonly functionVersion: string;
  readonly memoryLimitInMB: string;
  getRemainingTimeInMillis(): number;
}

// Events of the Lambda form

/** Messages of a trigger, as SQS brings them. Answered by nothing, or by a BatchResult. */
export interface RecordsEvent {
  readonly Records: readonly EventRecord[];
}

export interface EventRecord {
  readonly messageId: string;
  readonly receiptHandle: string;
  /** As it was sent; Base64 where it is no UTF-8, which `isBase64Encoded` says. */
  readonly body: string;
  readonly isBase64Encoded?: true;
  readonly attributes: {
    readonly ApproximateReceiveCount: string;
    /** Milliseconds since 1970. */
    readonly SentTimestamp: string;
    readonly SenderId: string;
    readonly ApproximateFirstReceiveTimestamp: string;
    /** The `partitionkey`, where there is one. */
    readonly MessageGroupId?: string;
  };
  /** The other attributes of the CloudEvent, `type` and `datacontenttype` among them. */
  readonly messageAttributes: Readonly<Record<string, { readonly stringValue: string; readonly dataType: 'String' }>>;
  readonly md5OfBody: string;
  /** `fn:` and the type of the trigger: `fn:redis-stream`. */
  readonly eventSource: string;
  /** The `source` of the CloudEvent. */
  readonly eventSourceARN: string;
  readonly awsRegion: string;
}

/** Those that failed. An id that is not in the batch, or none, makes all of it failed, as with AWS. */
export interface BatchResult {
  batchItemFailures: { itemIdentifier: string }[];
}

/** A tick of a schedule, as EventBridge brings it. */
export interface ScheduleEvent<Detail = unknown> {
  readonly version: '0';
  readonly id: string;
  readonly 'detail-type': 'Scheduled Event';
  readonly source: 'aws.events';
  readonly account: string;
  /** When it was due: `2026-11-21T02:00:00Z`. */
  readonly time: string;
  readonly region: string;
  readonly resources: readonly string[];
  /** The `data` of the trigger; else {}. */
  readonly detail: Detail;
}
