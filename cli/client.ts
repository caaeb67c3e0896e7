/**
 * A typed client of the control API: over the unix socket in the home, or over TCP with a token. Every answer is checked against the contract before it is believed. Names are
 * checked before anything is sent.
 */
import type { Readable } from 'node:stream';
import type { FunctionAccess } from '#contract/access.ts';
import { BundleInfo, DeployResponse, FunctionList, ImageInfo, LogEntry, PlatformStatus, RevisionList } from '#contract/api.ts';
import type { DeployRequestInput, RevisionView } from '#contract/api.ts';
import { CallList, Why } from '#contract/call.ts';
import type { CallRecord } from '#contract/call.ts';
import type { Traffic } from '#contract/function.ts';
import { FunctionView } from '#contract/function.ts';
import type { LogLevel } from '#contract/log.ts';
import { LogStats } from '#contract/log.ts';
import { FunctionStats, StatsList } from '#contract/stats.ts';
import type { AuditEntry, AuditQuery, CreateTokenRequestInput, NamespaceSettingsInput } from '#contract/tenancy.ts';
import {
  AuditList,
  CreateTokenResponse,
  NamespaceList,
  NamespaceView,
  SecretList,
  SecretView,
  TokenList,
  TokenView,
  WhoAmI,
} from '#contract/tenancy.ts';
import { LineSplitter } from '#kit/ndjson.ts';
import { plannedPaths } from '#kit/paths.ts';
import { ApiConnection } from './api-connection.ts';
import { functionRoute, namespaceRoute, queryText } from './api-routes.ts';
import type { Context } from './context.ts';
import { homeFlag } from './context.ts';
import type { Remote } from './contexts.ts';
import { checkedToken, checkedUrl, remoteOf } from './contexts.ts';
import { EventsClient } from './events-client.ts';
import { checkedSecretName } from './names.ts';
import { runningState } from './state.ts';

/** Longest line of a log. */
const MAX_LOG_LINE_BYTES = 1024 * 1024;
/** An image may have a gigabyte, and the engine unpacks it before it answers. */
const IMAGE_TIMEOUT_MS = 1_800_000;

/** Which lines of a log; see LogQuery of the contract. */
export interface LogOptions {
  follow: boolean;
  /** Milliseconds since 1970: from, inclusive, and to, exclusive. */
  since?: number;
  until?: number;
  limit?: number;
  request?: string;
  level?: LogLevel;
  revision?: number;
  grep?: string;
}

/** Which calls; see CallQuery of the contract. */
export interface CallOptions {
  failed?: boolean;
  slow?: boolean;
  cold?: boolean;
  since?: number;
  limit?: number;
}

export class ApiClient {
  readonly #api: ApiConnection;
  /** Triggers, invocations that are answered later, dead letters. */
  readonly events: EventsClient;

  constructor(api: ApiConnection) {
    this.#api = api;
    this.events = new EventsClient(api);
  }

  /** Whether the platform is on this machine, and started by who asks. */
  get isLocal(): boolean {
    return this.#api.isLocal;
  }

  async status(): Promise<PlatformStatus> {
    return this.#api.json({ method: 'GET', path: '/v1/status' }, PlatformStatus);
  }

  async whoami(): Promise<WhoAmI> {
    return this.#api.json({ method: 'GET', path: '/v1/whoami' }, WhoAmI);
  }

  /** Answers when the controller has begun to end. */
  async shutdown(): Promise<void> {
    await this.#api.done({ method: 'POST', path: '/v1/shutdown' });
  }

  async list(namespace?: string): Promise<FunctionView[]> {
    return (await this.#api.json({ method: 'GET', path: `/v1/functions${queryText({ namespace })}` }, FunctionList)).functions;
  }

  async describe(namespace: string, name: string): Promise<FunctionView> {
    return this.#api.json({ method: 'GET', path: functionRoute(namespace, name) }, FunctionView);
  }

  /** The newest first. */
  async revisions(namespace: string, name: string): Promise<RevisionView[]> {
    return (await this.#api.json({ method: 'GET', path: `${functionRoute(namespace, name)}/revisions` }, RevisionList)).revisions;
  }

  async delete(namespace: string, name: string): Promise<void> {
    await this.#api.done({ method: 'DELETE', path: functionRoute(namespace, name) });
  }

  async deploy(namespace: string, name: string, body: DeployRequestInput): Promise<DeployResponse> {
    return this.#api.json({ method: 'POST', path: `${functionRoute(namespace, name)}/revisions`, json: body }, DeployResponse);
  }

  /** Resolves when all gateways have heard. `etag`: of the view that the change was made from. */
  async setTraffic(namespace: string, name: string, traffic: Traffic, etag?: string): Promise<FunctionView> {
    const path = `${functionRoute(namespace, name)}/traffic`;
    return this.#api.json({ method: 'PUT', path, json: { traffic }, ifMatch: etag }, FunctionView);
  }

  /** Replaces the whole of it. `etag`: of the view that the change was made from. */
  async setAccess(namespace: string, name: string, access: FunctionAccess, etag?: string): Promise<FunctionView> {
    return this.#api.json({ method: 'PUT', path: `${functionRoute(namespace, name)}/access`, json: access, ifMatch: etag }, FunctionView);
  }

  async hasBundle(namespace: string, digest: string): Promise<boolean> {
    return this.#api.exists(`${namespaceRoute(namespace)}/bundles/${digest}`);
  }

  async putBundle(namespace: string, digest: string, archive: Uint8Array): Promise<BundleInfo> {
    const path = `${namespaceRoute(namespace)}/bundles/${digest}`;
    return this.#api.json({ method: 'PUT', path, body: archive, contentType: 'application/gzip' }, BundleInfo);
  }

  /** Sends an archive as `docker save` makes it, e.g. a stream of its standard output. */
  async putImage(namespace: string, archive: Uint8Array | Readable): Promise<ImageInfo> {
    const path = `${namespaceRoute(namespace)}/images`;
    return this.#api.json(
      { method: 'POST', path, body: archive, contentType: 'application/x-tar', timeoutMs: IMAGE_TIMEOUT_MS },
      ImageInfo,
    );
  }

  /** Has the engine take an image that it has, or get it from its registry, and tells its id. */
  async pullImage(namespace: string, reference: string): Promise<ImageInfo> {
    const path = `${namespaceRoute(namespace)}/images/pull`;
    return this.#api.json({ method: 'POST', path, json: { reference }, timeoutMs: IMAGE_TIMEOUT_MS }, ImageInfo);
  }

  /** Lines as they come; with `follow` until the signal is aborted. */
  async *logs(namespace: string, name: string, { follow, since, until, ...selection }: LogOptions): AsyncIterable<LogEntry> {
    const whole = (ms: number | undefined) => (ms === undefined ? undefined : Math.floor(ms));
    const query = queryText({ follow: follow ? 'true' : undefined, since: whole(since), until: whole(until), ...selection });
    const reply = await this.#api.call({ method: 'GET', path: `${functionRoute(namespace, name)}/logs${query}` });
    const lines = new LineSplitter(MAX_LOG_LINE_BYTES);
    for await (const chunk of reply.body) for (const line of lines.push(chunk)) yield this.#api.parse(LogEntry, line, 'a log line');
  }

  async logStats(namespace: string, name: string): Promise<LogStats> {
    return this.#api.json({ method: 'GET', path: `${functionRoute(namespace, name)}/logs/stats` }, LogStats);
  }

  /** Calls that a record is kept of, the newest first. */
  async listCalls(namespace: string, name: string, options: CallOptions): Promise<CallRecord[]> {
    const flags = (['failed', 'slow', 'cold'] as const).filter((flag) => options[flag] === true).map((flag) => [flag, 'true']);
    const query = queryText({ ...Object.fromEntries(flags), since: options.since, limit: options.limit });
    return (await this.#api.json({ method: 'GET', path: `${functionRoute(namespace, name)}/calls${query}` }, CallList)).calls;
  }

  /** Explains one call, by its x-request-id. */
  async why(namespace: string, requestId: string): Promise<Why> {
    return this.#api.json({ method: 'GET', path: `${namespaceRoute(namespace)}/calls/${encodeURIComponent(requestId)}` }, Why);
  }

  /** What functions have used: of all namespaces that one may see, or of one. */
  async stats(namespace?: string): Promise<StatsList> {
    return this.#api.json({ method: 'GET', path: `/v1/stats${queryText({ namespace })}` }, StatsList);
  }

  async functionStats(namespace: string, name: string): Promise<FunctionStats> {
    return this.#api.json({ method: 'GET', path: `${functionRoute(namespace, name)}/stats` }, FunctionStats);
  }

  async secrets(namespace: string): Promise<SecretView[]> {
    return (await this.#api.json({ method: 'GET', path: `${namespaceRoute(namespace)}/secrets` }, SecretList)).secrets;
  }

  async setSecret(namespace: string, name: string, value: string): Promise<SecretView> {
    return this.#api.json({ method: 'PUT', path: secretRoute(namespace, name), json: { value } }, SecretView);
  }

  async deleteSecret(namespace: string, name: string): Promise<void> {
    await this.#api.done({ method: 'DELETE', path: secretRoute(namespace, name) });
  }

  async tokens(): Promise<TokenView[]> {
    return (await this.#api.json({ method: 'GET', path: '/v1/tokens' }, TokenList)).tokens;
  }

  /** The answer holds the token itself, the one time that it is shown. */
  async createToken(body: CreateTokenRequestInput): Promise<CreateTokenResponse> {
    return this.#api.json({ method: 'POST', path: '/v1/tokens', json: body }, CreateTokenResponse);
  }

  /** A token that was revoked before stays as it was then. */
  async revokeToken(id: string): Promise<TokenView> {
    return this.#api.json({ method: 'DELETE', path: `/v1/tokens/${encodeURIComponent(id)}` }, TokenView);
  }

  async namespaces(): Promise<NamespaceView[]> {
    return (await this.#api.json({ method: 'GET', path: '/v1/namespaces' }, NamespaceList)).namespaces;
  }

  async namespace(name: string): Promise<NamespaceView> {
    return this.#api.json({ method: 'GET', path: namespaceRoute(name) }, NamespaceView);
  }

  async putNamespace(name: string, settings: NamespaceSettingsInput): Promise<NamespaceView> {
    return this.#api.json({ method: 'PUT', path: namespaceRoute(name), json: settings }, NamespaceView);
  }

  async deleteNamespace(name: string): Promise<void> {
    await this.#api.done({ method: 'DELETE', path: namespaceRoute(name) });
  }

  /** The newest first; `before` the id of the last one gives the page after it. */
  async audit(query: AuditQuery): Promise<AuditEntry[]> {
    return (await this.#api.json({ method: 'GET', path: `/v1/audit${queryText(query)}` }, AuditList)).entries;
  }
}

const secretRoute = (namespace: string, name: string): string => `${namespaceRoute(namespace)}/secrets/${checkedSecretName(name)}`;

/** The client that the surroundings ask for: see contexts.ts. */
export function connect(ctx: Context): ApiClient {
  const remote = remoteOf(ctx);
  if (remote !== null) return clientOf(remote, ctx.signal);
  const paths = plannedPaths(ctx.home);
  const unreachable = { message: `fn is not running in ${paths.home}`, hint: `Start it: fn up --detach${homeFlag(ctx)}` };
  const takenOver = () => runningState(paths)?.phase === 'ready';
  return new ApiClient(new ApiConnection({ socketPath: paths.controlSocket }, { signal: ctx.signal, unreachable, takenOver }));
}

/** The client of a control API over TCP. */
export function clientOf({ url, token, from }: Remote, signal: AbortSignal): ApiClient {
  const unreachable = {
    message: `no control API answers at ${url} (${from})`,
    hint: 'Check the address, and that the platform was started with --api. A port that kubectl forwards is closed when its pod goes: forward it again.',
  };
  return new ApiClient(new ApiConnection({ url: checkedUrl(url, from) }, { token: checkedToken(token, from), signal, unreachable }));
}
