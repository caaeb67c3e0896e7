/** The connection to a Kubernetes API server: KubeApi over HTTPS with connections that are kept. */
import { setTimeout as pause } from 'node:timers/promises';
import { request, type Dispatcher } from 'undici';
import { z } from 'zod';
import type { Log } from '#kit/log.ts';
import { Connections } from './connections.ts';
import { loadCredentials, type Credentials } from './credentials.ts';
import { resourcePath } from './resources.ts';
import {
  KubeError,
  KubeUnreachable,
  type DeleteOptions,
  type KubeApi,
  type KubeObject,
  type Manifest,
  type Patch,
  type Resource,
} from './types.ts';
import { type Selector, type WatchEvent } from './types.ts';
import { readWatch } from './watch-stream.ts';

/** For one object. An API server gives itself 60 s, but one that takes so long is of no use to whoever waits. */
const REQUEST_TIMEOUT_MS = 15_000;
/** For one page of a list. */
const LIST_TIMEOUT_MS = 30_000;
const PAGE_ITEMS = 500;
/** A list that expires while its pages are read is begun again so often. */
const LIST_ATTEMPTS = 3;
/** The server ends a watch after this: what it did not tell by then it has not to tell. Watches go on from where they were. */
export const WATCH_SECONDS = 40;
/** A server that asks to be left alone (429) is asked so often, and for so long it is left alone, ms. It has done nothing of what was asked. */
const BUSY_ATTEMPTS = 3;
const MAX_RETRY_AFTER_MS = 5_000;
const DEFAULT_RETRY_AFTER_MS = 1_000;

const PATCH_TYPES = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
} as const;

/** What the API says where it does not do what was asked. */
const Status = z.object({
  message: z.string().default(''),
  reason: z.string().default(''),
  code: z.number().optional(),
  details: z.object({ retryAfterSeconds: z.number().optional() }).nullish(),
});

const ListPage = z.object({
  metadata: z.object({ resourceVersion: z.string().default(''), continue: z.string().default('') }),
  items: z.array(z.unknown()).nullish(),
});

const Version = z.object({ major: z.string(), minor: z.string() });

export interface KubeApiOptions {
  /** File to reach the cluster by; null: the service account of the pod, else what kubectl would use. */
  kubeconfig: string | null;
  log: Log;
}

/** Makes the connection; nothing is sent before the first request. Throws Error where there is nothing to reach a cluster by. */
export async function createKubeApi({ kubeconfig, log }: KubeApiOptions): Promise<KubeApi> {
  return connectKubeApi(await loadCredentials(kubeconfig), log);
}

export function connectKubeApi(credentials: Credentials, log: Log): KubeApi {
  return new HttpKubeApi(credentials, log);
}

interface Call {
  verb: string;
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  path: string;
  query?: Record<string, string | undefined>;
  body?: unknown;
  contentType?: string;
  timeoutMs?: number;
}

interface StreamCall {
  verb: string;
  path: string;
  query: Record<string, string | undefined>;
  signal: AbortSignal;
}

class HttpKubeApi implements KubeApi {
  readonly requests = new Map<string, number>();
  readonly #credentials: Credentials;
  readonly #connections: Connections;
  #version: Promise<{ major: number; minor: number }> | null = null;
  #closed = false;

  constructor(credentials: Credentials, log: Log) {
    this.#credentials = credentials;
    this.#connections = new Connections(credentials.proxy, log, REQUEST_TIMEOUT_MS);
  }

  version(): Promise<{ major: number; minor: number }> {
    this.#version ??= this.#call({ verb: 'version', method: 'GET', path: '/version' }).then(
      (answer) => {
        const { major, minor } = Version.parse(answer);
        // Providers write `20+`.
        return { major: Number.parseInt(major, 10), minor: Number.parseInt(minor, 10) };
      },
      (error: unknown) => {
        this.#version = null;
        throw error;
      },
    );
    return this.#version;
  }

  async get<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string): Promise<T> {
    return read(
      resource,
      await this.#call({ verb: 'get', method: 'GET', path: resourcePath(resource, namespace, name), ...patience(resource) }),
    );
  }

  async list<T extends KubeObject>(resource: Resource<T>, namespace: string, selector: Selector = {}) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#list(resource, namespace, selector);
      } catch (error) {
        if (!(error instanceof KubeError) || error.reason !== 'Expired' || attempt >= LIST_ATTEMPTS) throw error;
      }
    }
  }

  async #list<T extends KubeObject>(resource: Resource<T>, namespace: string, selector: Selector) {
    const items: T[] = [];
    let next = '';
    for (;;) {
      const query = { ...selectorQuery(selector), limit: String(PAGE_ITEMS), continue: next || undefined };
      const path = resourcePath(resource, namespace);
      const page = ListPage.parse(await this.#call({ verb: 'list', method: 'GET', path, query, timeoutMs: LIST_TIMEOUT_MS }));
      for (const item of page.items ?? []) items.push(read(resource, item));
      next = page.metadata.continue;
      if (next === '') return { items, resourceVersion: page.metadata.resourceVersion };
    }
  }

  async create<T extends KubeObject>(resource: Resource<T>, namespace: string, manifest: Manifest): Promise<T> {
    return read(
      resource,
      await this.#call({ verb: 'create', method: 'POST', path: resourcePath(resource, namespace), body: manifest, ...patience(resource) }),
    );
  }

  async replace<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, manifest: Manifest): Promise<T> {
    return read(
      resource,
      await this.#call({
        verb: 'replace',
        method: 'PUT',
        path: resourcePath(resource, namespace, name),
        body: manifest,
        ...patience(resource),
      }),
    );
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    name: string,
    patch: Patch,
    subresource?: string,
  ): Promise<T> {
    const path = `${resourcePath(resource, namespace, name)}${subresource === undefined ? '' : `/${subresource}`}`;
    return read(
      resource,
      await this.#call({ verb: 'patch', method: 'PATCH', path, body: patch.body, contentType: PATCH_TYPES[patch.type] }),
    );
  }

  async delete<T extends KubeObject>(resource: Resource<T>, namespace: string, name: string, options: DeleteOptions = {}): Promise<void> {
    const { graceSeconds, uid, resourceVersion } = options;
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      propagationPolicy: 'Background',
      ...(graceSeconds === undefined ? {} : { gracePeriodSeconds: graceSeconds }),
      ...(uid === undefined && resourceVersion === undefined ? {} : { preconditions: { uid, resourceVersion } }),
    };
    await this.#call({ verb: 'delete', method: 'DELETE', path: resourcePath(resource, namespace, name), body });
  }

  async *watch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    from: { resourceVersion: string; selector?: Selector },
    signal: AbortSignal,
  ): AsyncIterable<WatchEvent<T>> {
    const query = {
      ...selectorQuery(from.selector ?? {}),
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: from.resourceVersion,
      timeoutSeconds: String(WATCH_SECONDS),
    };
    const body = await this.#stream({ verb: 'watch', path: resourcePath(resource, namespace), query, signal });
    yield* readWatch(
      bytesOf(body, signal),
      (object) => read(resource, object),
      (status) => kubeError(0, status),
    );
  }

  async *podLog(
    namespace: string,
    name: string,
    { container, sinceTime }: { container: string; sinceTime: string | null },
    signal: AbortSignal,
  ): AsyncIterable<Buffer> {
    const query = { container, follow: 'true', timestamps: 'true', sinceTime: sinceTime ?? undefined };
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/log`;
    yield* bytesOf(await this.#stream({ verb: 'log', path, query, signal }), signal);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#connections.destroy();
  }

  /** One request and its JSON. Tried again where the server is too busy, and once where it does not know us any more. */
  async #call(call: Call): Promise<unknown> {
    for (let attempt = 1, known = true; ; attempt += 1) {
      try {
        return await this.#once(call);
      } catch (error) {
        if (!(error instanceof KubeError)) throw error;
        if (error.status === 401 && known) {
          known = false;
          this.#credentials.refused();
        } else if (error.status === 429 && attempt < BUSY_ATTEMPTS) {
          await pause(Math.min(error.retryAfterMs ?? DEFAULT_RETRY_AFTER_MS, MAX_RETRY_AFTER_MS));
        } else throw error;
      }
    }
  }

  async #once({
    verb,
    method,
    path,
    query,
    body,
    contentType = 'application/json',
    timeoutMs = REQUEST_TIMEOUT_MS,
  }: Call): Promise<unknown> {
    const what = `${method} ${path}`;
    const late = AbortSignal.timeout(timeoutMs);
    let dispatcher: Dispatcher | undefined;
    try {
      const ready = await this.#ready('requests');
      ({ dispatcher } = ready);
      const { headers } = ready;
      this.#count(verb);
      const answer = await request(this.#url(path, query), {
        method,
        dispatcher,
        headers: { ...headers, accept: 'application/json', ...(body === undefined ? {} : { 'content-type': contentType }) },
        body: body === undefined ? null : JSON.stringify(body),
        signal: late,
      });
      const text = await answer.body.text();
      if (answer.statusCode >= 200 && answer.statusCode < 300) return parseJson(text, what);
      throw statusError(answer.statusCode, answer.headers, text);
    } catch (error) {
      if (late.aborted && dispatcher !== undefined) this.#connections.distrust(dispatcher);
      throw error instanceof KubeError ? error : this.#unreachable(what, error);
    }
  }

  /** A stream's body, once the server has said 200. */
  async #stream({ verb, path, query, signal }: StreamCall): Promise<Dispatcher.ResponseData['body']> {
    for (let known = true; ; known = false) {
      const { statusCode, headers, body } = await this.#open({ verb, path, query, signal });
      if (statusCode === 200) return body;
      const text = await body.text().catch(() => '');
      if (statusCode !== 401 || !known) throw statusError(statusCode, headers, text);
      this.#credentials.refused();
    }
  }

  async #open({ verb, path, query, signal }: StreamCall): Promise<Dispatcher.ResponseData> {
    try {
      const { dispatcher, headers } = await this.#ready('streams');
      this.#count(verb);
      // headersTimeout of the agent holds until the answer begins; from then on whoever reads knows what silence means.
      return await request(this.#url(path, query), { method: 'GET', dispatcher, headers, signal });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw this.#unreachable(`GET ${path}`, error);
    }
  }

  #url(path: string, query: Record<string, string | undefined> = {}): string {
    const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const text = new URLSearchParams(given).toString();
    return `${this.#credentials.server}${path}${text === '' ? '' : `?${text}`}`;
  }

  async #ready(purpose: 'requests' | 'streams'): Promise<{ dispatcher: Dispatcher; headers: Record<string, string> }> {
    if (this.#closed) throw new Error('the connection is closed');
    const { tls, headers } = await this.#credentials.current();
    return { dispatcher: this.#connections.of(purpose, tls), headers: { 'user-agent': 'fn', ...headers } };
  }

  #count(verb: string): void {
    this.requests.set(verb, (this.requests.get(verb) ?? 0) + 1);
  }

  #unreachable(what: string, cause: unknown): KubeUnreachable {
    return new KubeUnreachable(`The Kubernetes API server at ${this.#credentials.server} did not answer ${what}: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

const patience = ({ timeoutMs }: { timeoutMs?: number }): { timeoutMs?: number } => (timeoutMs === undefined ? {} : { timeoutMs });

/** Reads an object of the API. Who manages which of its fields is most of it, and nothing to us. */
function read<T extends KubeObject>({ schema, kind }: Resource<T>, value: unknown): T {
  if (typeof value === 'object' && value !== null && 'metadata' in value && typeof value.metadata === 'object' && value.metadata !== null)
    Reflect.deleteProperty(value.metadata, 'managedFields');
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path = [], message = '' } = parsed.error.issues[0] ?? {};
  throw new Error(`The API server sent a ${kind} that is not understood: ${path.join('.')}: ${message}`);
}

function selectorQuery({ labels, fields }: Selector): Record<string, string | undefined> {
  return { labelSelector: labels, fieldSelector: fields };
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Error(`the answer to ${what} is no JSON`, { cause });
  }
}

function statusError(status: number, headers: Record<string, string | string[] | undefined>, text: string): KubeError {
  let body: unknown = {};
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy between us and the server says what it likes.
    body = { message: text.slice(0, 500) };
  }
  const error = kubeError(status, body);
  const seconds = Number(headers['retry-after']);
  const retryAfterMs = Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : error.retryAfterMs;
  return new KubeError(error.message, status, error.reason, retryAfterMs);
}

const REASONS: Readonly<Record<number, string>> = {
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  410: 'Expired',
  429: 'TooManyRequests',
};

/** From the Status that the API sent, also within a watch. */
function kubeError(status: number, body: unknown): KubeError {
  const { message, reason, code, details } = Status.catch({ message: '', reason: '' }).parse(body);
  const known = status || (code ?? 500);
  // `Gone` is what servers before 1.17 called it.
  const told = known === 410 || reason === 'Gone' ? 'Expired' : reason || (REASONS[known] ?? 'Unknown');
  const seconds = details?.retryAfterSeconds;
  return new KubeError(message || `the API server answered ${known}`, known, told, seconds === undefined ? null : seconds * 1_000);
}

/** Nothing is read ahead of who reads. Throws KubeUnreachable where it breaks off, and the signal's reason where it is aborted. */
async function* bytesOf(body: Dispatcher.ResponseData['body'], signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) yield Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw new KubeUnreachable(`a stream of the API server broke off: ${reasonOf(error)}`, { cause: error });
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : '';
  return `${error.message || error.name}${code}`;
}
