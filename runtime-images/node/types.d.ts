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
 * `queue` and `scheduled` are called by triggers, where the platform has them; `fetch` by HTTP.
 */
export interface Handler<Env = Environment> {
  fetch?(request: Request, env: Env, ctx: Context): Response | Promise<Response>;
  queue?(batch: MessageBatch, env: Env, ctx: Context): void | Promise<void>;
  scheduled?(event: ScheduledEvent, env: Env, ctx: Context): void | Promise<void>;
}

/** One message of a queue. */
export interface Message<Body = unknown> {
  readonly id: string;
  /** When it was sent. */
  readonly timestamp: Date;
  /** Parsed, where it was sent as JSON; else text or bytes. */
  readonly body: Body;
  /** 1 the first time that it is delivered. */
  readonly attempts: number;
  /** Done, whatever becomes of the others of the batch. */
  ack(): void;
  /** To be delivered again. */
  retry(options?: { delaySeconds?: number }): void;
}

/** Messages that are delivered together. A handler that returns has done all of them; one that throws, none. */
export interface MessageBatch<Body = unknown> {
  /** Name of the queue. */
  readonly queue: string;
  readonly messages: readonly Message<Body>[];
  ackAll(): void;
  retryAll(options?: { delaySeconds?: number }): void;
}

/** A tick of a schedule. */
export interface ScheduledEvent {
  readonly cron: string;
  /** When it was due, milliseconds since 1970. */
  readonly scheduledTime: number;
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
