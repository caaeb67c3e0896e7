/**
 * The controller's side of the runtime protocol: health, init, drain. What answers is user code, so
 * every answer is capped in size and time and checked against the contract.
 */
import { Agent, request as httpRequest } from 'node:http';
import {
  DrainRequest,
  Health,
  HEADERS,
  InitFailure,
  InitResponse,
  MAX_CODE_CACHE_BYTES,
  RUNTIME_PATHS,
  type Address,
  type InitRequest,
} from '#contract/runtime.ts';
import type { FunctionError } from '#contract/errors.ts';

/** Longest answer that is read, bytes. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** How long health may take before the instance counts as not answering [10]. */
export const HEALTH_TIMEOUT_MS = 1_000;
/** How long loading the code may take; the shim itself gives up at 10 s with a better message. */
export const INIT_TIMEOUT_MS = 15_000;

/** How long an instance may hand over its code cache: some MB over a socket of this host, or a network. */
const CODE_CACHE_TIMEOUT_MS = 2_000;

/**
 * Connections by which instances that wait in a pool said that they are there: init goes by the same, and does not wait for another.
 * On this host only: an address on a network may be another instance's by then.
 */
const KEPT = new Agent({ keepAlive: true, maxFreeSockets: 1 });

export type InitResult = { ok: true; response: InitResponse } | { ok: false; error: FunctionError };

/** The instance did not answer, or not as the protocol says. */
export class RuntimeUnreachable extends Error {}

/** Nobody listens where it listened: its process has ended. */
export class RuntimeGone extends RuntimeUnreachable {}

/** It took the request and did not answer in time. */
class RuntimeTimeout extends RuntimeUnreachable {}

/** What the engine needs of an instance; tests put a simulated one in its place. */
export interface RuntimeClient {
  /** `keep`: init will follow, on the same connection. Throws RuntimeUnreachable; RuntimeGone where nobody listens. */
  health(address: Address, options?: { timeoutMs?: number; keep?: boolean }): Promise<Health>;
  /**
   * An instance of this host hears at once that an init comes, so that it is awake, and of what when `request` resolves; where that
   * rejects, init does with its error. Throws RuntimeUnreachable; a function that fails to load is a result.
   */
  init(address: Address, request: Promise<InitRequest>, signal: AbortSignal): Promise<InitResult>;
  /** Fetches the code cache that an instance has made; null where it has none. Throws RuntimeUnreachable. */
  codeCache(address: Address, nonce: string): Promise<Buffer | null>;
  /** Throws RuntimeUnreachable. */
  drain(address: Address, deadlineMs: number): Promise<void>;
}

interface Answer {
  status: number;
  body: Buffer;
}

interface CallOptions {
  timeoutMs: number;
  signal?: AbortSignal;
  headers?: Record<string, string>;
  /** Longest answer that is read; default: MAX_ANSWER_BYTES. */
  maxBytes?: number;
  /** `keep`: the connection is kept for what follows. `last`: by one that was kept, which is then closed. Default: one of its own. */
  connection?: 'keep' | 'last' | 'own';
}

/** A body that comes when it is there: in chunks, since nobody knows how long it will be. */
class Later {
  readonly value: Promise<unknown>;

  constructor(value: Promise<unknown>) {
    this.value = value;
  }
}

/** The connection that was kept broke, perhaps before the request: it may be sent once more, since a shim that has taken an init refuses another. */
class ConnectionStale extends RuntimeUnreachable {}

async function call(address: Address, method: string, path: string, body: unknown, options: CallOptions): Promise<Answer> {
  try {
    return await callOnce(address, method, path, body, options);
  } catch (error) {
    if (!(error instanceof ConnectionStale)) throw error;
    return callOnce(address, method, path, body, { ...options, connection: 'own' });
  }
}

function callOnce(address: Address, method: string, path: string, body: unknown, options: CallOptions): Promise<Answer> {
  const { timeoutMs, signal, headers = {}, maxBytes = MAX_ANSWER_BYTES } = options;
  const connection = address.kind === 'unix' ? (options.connection ?? 'own') : 'own';
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new RuntimeUnreachable(`${method} ${path}: ${why}`));
    const payload = body === undefined || body instanceof Later ? undefined : JSON.stringify(body);
    const timeout = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    // It has all of its time from when it has all of the request.
    const timed = () => {
      timer = setTimeout(() => timeout.abort(), timeoutMs).unref();
    };
    const request = httpRequest(
      {
        ...(address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port }),
        method,
        path,
        agent: connection === 'own' ? false : KEPT,
        signal: signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal,
        headers: {
          ...headers,
          ...(connection === 'last' ? { connection: 'close' } : {}),
          // Addresses on a network are used again: whoever has this one now is to know whether it is meant.
          ...(address.kind === 'tcp' ? { [HEADERS.instance]: address.instance } : {}),
          ...(body instanceof Later ? { 'content-type': 'application/json' } : {}),
          ...(payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxBytes) {
            request.destroy();
            fail(`the answer is longer than ${maxBytes} bytes`);
          } else chunks.push(chunk);
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
        response.on('error', (error) => fail(error.message));
      },
    );
    request.on('error', (error) => {
      if (request.reusedSocket && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE'))
        reject(new ConnectionStale(`${method} ${path}: ${error.message}`));
      else if (timeout.signal.aborted) reject(new RuntimeTimeout(`${method} ${path}: no answer within ${timeoutMs} ms`));
      else if ('code' in error && error.code === 'ECONNREFUSED') reject(new RuntimeGone(`${method} ${path}: ${error.message}`));
      else fail(error.message);
    });
    // Without a listener Node ends the request without an error, and after that not even the timeout ends it.
    request.on('upgrade', (_response, socket) => {
      socket.destroy();
      fail('it wants to change the protocol');
    });
    request.on('close', () => clearTimeout(timer));
    if (!(body instanceof Later)) {
      timed();
      request.end(payload);
      return;
    }
    request.flushHeaders();
    body.value.then(
      (value) => {
        timed();
        request.end(JSON.stringify(value));
      },
      (error: unknown) => {
        reject(error instanceof Error ? error : new Error(String(error)));
        request.destroy();
      },
    );
  });
}

function parse<T>(schema: { safeParse(value: unknown): { success: true; data: T } | { success: false } }, answer: Answer, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(answer.body.toString('utf8'));
  } catch (cause) {
    throw new RuntimeUnreachable(`${what}: the answer is not JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new RuntimeUnreachable(`${what}: the answer is not what the protocol says`);
  return parsed.data;
}

/** Over HTTP. `initTimeoutMs`: see INIT_TIMEOUT_MS. */
export const createRuntimeClient = ({ initTimeoutMs = INIT_TIMEOUT_MS } = {}): RuntimeClient => ({
  async health(address, { timeoutMs = HEALTH_TIMEOUT_MS, keep = false } = {}) {
    const answer = await call(address, 'GET', RUNTIME_PATHS.health, undefined, { timeoutMs, connection: keep ? 'keep' : 'own' });
    if (answer.status !== 200) throw new RuntimeUnreachable(`health: status ${answer.status}`);
    return parse(Health, answer, 'health');
  },

  async init(address, request, signal) {
    // Over a network the code comes before it, by another connection, and while it does an init is refused.
    const body = address.kind === 'unix' ? new Later(request) : await request;
    let answer: Answer;
    try {
      answer = await call(address, 'POST', RUNTIME_PATHS.init, body, {
        timeoutMs: initTimeoutMs,
        signal,
        connection: 'last',
      });
    } catch (error) {
      if (!(error instanceof RuntimeTimeout)) throw error;
      // The shim answered health a moment ago: what keeps it now is the code that it loads.
      const message = `the module did not finish loading within ${initTimeoutMs / 1_000} s, and nothing else could run meanwhile: does it loop for ever?`;
      return { ok: false, error: { name: 'LoadTimeout', message } };
    }
    if (answer.status === 200) return { ok: true, response: parse(InitResponse, answer, 'init') };
    if (answer.status === 422) return { ok: false, error: parse(InitFailure, answer, 'init').error };
    throw new RuntimeUnreachable(`init: status ${answer.status}`);
  },

  async drain(address, deadlineMs) {
    await call(address, 'POST', RUNTIME_PATHS.drain, DrainRequest.parse({ deadlineMs }), { timeoutMs: HEALTH_TIMEOUT_MS });
  },

  async codeCache(address, nonce) {
    const answer = await call(address, 'GET', RUNTIME_PATHS.codeCache, undefined, {
      timeoutMs: CODE_CACHE_TIMEOUT_MS,
      headers: { [HEADERS.nonce]: nonce },
      maxBytes: MAX_CODE_CACHE_BYTES,
    });
    if (answer.status === 404) return null;
    if (answer.status !== 200) throw new RuntimeUnreachable(`code cache: status ${answer.status}`);
    return answer.body;
  },
});

export const httpRuntimeClient = createRuntimeClient();
