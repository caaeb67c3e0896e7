/**
 * Types of what a function gets from the node runtime.
 *
 *     import type { Context } from 'fn/types';
 *     export default { fetch(request: Request, env: Env, ctx: Context) { … } };
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
