/** What the API needs of the engine and of those beside it, by resource; main.ts puts them together. */
import type { DeployRequest, DeployResponse, PlatformStatus, RevisionView } from '#contract/api.ts';
import type { FunctionAccess } from '#contract/access.ts';
import type { CallList, CallQuery, Why } from '#contract/call.ts';
import type { Declaration, DeclaredBy, FunctionView, Traffic } from '#contract/function.ts';
import type { LogEntry, LogStats } from '#contract/log.ts';
import type { FunctionStats, StatsList } from '#contract/stats.ts';
import type { Trigger, TriggerView } from '#contract/trigger.ts';
import type { EventQuestions } from '../dispatcher/types.ts';
import type {
  AuditEntry,
  CreateTokenRequest,
  CreateTokenResponse,
  NamespaceSettings,
  NamespaceView,
  Principal,
  Quota,
  SecretView,
  TokenView,
} from '#contract/tenancy.ts';

/** What lines are asked for; see LogQuery. */
export interface LogSelection {
  follow: boolean;
  since?: number;
  until?: number;
  limit?: number;
  request?: string;
  level?: LogEntry['level'];
  revision?: number;
  grep?: string;
  /** Lines of one instance, and of one of the streams: the engine's own questions. */
  instance?: string;
  stream?: LogEntry['stream'];
}

/** Functions, as the engine runs them. Every method throws FnError function-not-found where there is none. */
export interface Platform {
  status(): Promise<PlatformStatus>;
  /**
   * `declaration`: the object of Kubernetes that asks for it; without, who declares the function stays as it is. Throws
   * FnError: deploy-refused with the function's own error, invalid, no-capacity, quota-exceeded, route-conflict, …
   */
  deploy(namespace: string, name: string, request: DeployRequest, signal: AbortSignal, declaration?: Declaration): Promise<DeployResponse>;
  describe(namespace: string, name: string): Promise<FunctionView>;
  list(namespace?: string): Promise<FunctionView[]>;
  /** The newest first. */
  revisions(namespace: string, name: string): Promise<RevisionView[]>;
  /**
   * Shifts traffic once the revisions that get more of it have an instance ready. Throws FnError
   * revision-not-found, precondition-failed (`ifMatch` is an ETag), and what a deployment throws.
   */
  setTraffic(namespace: string, name: string, traffic: Traffic, ifMatch: string | null, signal: AbortSignal): Promise<FunctionView>;
  /** Throws FnError route-conflict, forbidden (a host that the namespace may not use), precondition-failed. */
  setAccess(
    namespace: string,
    name: string,
    access: FunctionAccess,
    ifMatch: string | null,
    declaredBy?: DeclaredBy,
  ): Promise<FunctionView>;
  /** Resolves when the routes are gone from the gateways; instances drain after. */
  delete(namespace: string, name: string): Promise<void>;
  /** Ends when the newest line was given, or with `follow` when aborted. */
  logs(namespace: string, name: string, selection: LogSelection, signal: AbortSignal): AsyncIterable<LogEntry>;
  logStats(namespace: string, name: string): Promise<LogStats>;
  /** What functions of these namespaces have used, or of all; those too that were deleted not long ago. */
  stats(namespaces?: readonly string[]): Promise<StatsList>;
  /** Also of one that was deleted not long ago. */
  functionStats(namespace: string, name: string): Promise<FunctionStats>;
  /** Calls that a record is kept of, the newest first. */
  listCalls(namespace: string, name: string, query: CallQuery): Promise<CallList>;
  /** `requestId` may also be the id of a trace. Throws FnError call-not-found. */
  why(namespace: string, requestId: string): Promise<Why>;
  /** Ends every instance and then the controller; resolves when no instance is left. */
  shutdown(): Promise<void>;
}

/** Secrets: what is set is sealed, and no method gives a value. */
export interface Secrets {
  /** Resolves when it is durable; instances that have the old value are replaced after, without losing a request. */
  set(namespace: string, name: string, value: string): Promise<SecretView>;
  /** By name. */
  list(namespace: string): Promise<SecretView[]>;
  /** Throws FnError secret-not-found. */
  get(namespace: string, name: string): Promise<SecretView>;
  /** Throws FnError secret-not-found; conflict where a revision with traffic names it. */
  delete(namespace: string, name: string): Promise<void>;
}

/** Tokens and namespaces. */
export interface Tenants {
  /** Who presents this Authorization header; null: nobody (missing, wrong, expired, revoked: all alike). In constant time. */
  authenticate(authorization: string | undefined): Principal | null;
  /** Throws FnError forbidden where `by` may not give what the token would have. */
  createToken(by: Principal, request: CreateTokenRequest): Promise<CreateTokenResponse>;
  /** Those that `by` could have made. */
  listTokens(by: Principal): Promise<TokenView[]>;
  /** Throws FnError token-not-found. Resolves when gateways have heard. */
  revokeToken(by: Principal, id: string): Promise<TokenView>;
  /** Limits of a namespace as they are now, from memory; none where nobody set any. */
  quota(namespace: string): Quota;
  listNamespaces(by: Principal): Promise<NamespaceView[]>;
  /** Throws FnError namespace-not-found. */
  getNamespace(name: string): Promise<NamespaceView>;
  /** Throws FnError conflict where a route of another namespace has the host. */
  putNamespace(name: string, settings: NamespaceSettings): Promise<NamespaceView>;
  /** Throws FnError namespace-not-found; conflict where it has functions or secrets. */
  deleteNamespace(name: string): Promise<void>;
}

export interface Audit {
  /** Resolves when it is durable. */
  record(entry: Omit<AuditEntry, 'id' | 't'>): Promise<void>;
  /** Newest first; of the namespaces that `by` may read. */
  list(by: Principal, query: { namespace?: string; since?: number; before?: number; limit: number }): Promise<AuditEntry[]>;
}

/** Events of functions: invocations that are answered later, dead letters, triggers. Each throws FnError function-not-found. */
export interface Events extends EventQuestions {
  /** Of the namespace, or of one function; with how each does. */
  listTriggers(namespace: string, name: string | null): Promise<TriggerView[]>;
  /** Throws FnError trigger-not-found. */
  getTrigger(namespace: string, name: string, trigger: string): Promise<TriggerView>;
  /** Adds one, or replaces that of its name. Throws FnError invalid (also where it may not dial its broker), secret-not-found. */
  putTrigger(namespace: string, name: string, trigger: Trigger): Promise<TriggerView>;
  /** Pauses or resumes it; nothing else changes. */
  enableTrigger(namespace: string, name: string, trigger: string, enabled: boolean): Promise<TriggerView>;
  removeTrigger(namespace: string, name: string, trigger: string): Promise<void>;
}
