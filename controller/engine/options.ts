/** What the engine is made of, and whom it tells. */
import type { FunctionAccess } from '#contract/access.ts';
import type { LogEntry } from '#contract/api.ts';
import type { Clock } from '#kit/clock.ts';
import type { TcpListen } from '#kit/link-endpoint.ts';
import type { Log } from '#kit/log.ts';
import type { HomePaths } from '#kit/paths.ts';
import type { AccountingPort } from '../accounting/types.ts';
import type { CallsPort } from '../calls/types.ts';
import type { CoreSettings } from '../core/settings.ts';
import type { FunctionEventStats } from '../dispatcher/types.ts';
import type { Driver } from '../driver/types.ts';
import type { BundleStore, FunctionRecord, InstanceRecords, LogFiles, Store } from '../store/types.ts';
import type { Retention } from './changes.ts';
import type { InstanceStart, SecretValues, Tenancy } from './context.ts';
import type { RuntimeClient } from './runtime-client.ts';

/** What the engine tells those who bring events to functions, and asks them. */
export interface EngineEvents {
  /** Of the dispatcher; null: none runs. */
  readonly dispatcherPid: number | null;
  /** As it told last; none where none runs. */
  readonly stats: readonly FunctionEventStats[];
  /** What a function is now; null: it was deleted. From the start on, of every function. Must not throw. */
  functionChanged(namespace: string, name: string, record: FunctionRecord | null): void;
  /** A gateway has an event, and cannot reach a dispatcher. */
  wanted(): void;
  /** Throws FnError secret-not-found, invalid: what a function's triggers and destinations must not be. */
  check(namespace: string, access: FunctionAccess, before: FunctionAccess | null): Promise<void>;
}

/** One pass of the planner: how long it took, ms, and how many revisions it looked at and decisions it made. */
export interface PlannerPass {
  ms: number;
  revisions: number;
  decisions: number;
}

export interface EngineOptions {
  paths: HomePaths;
  settings: CoreSettings;
  driver: Driver;
  store: Store;
  bundles: BundleStore;
  /** What is known of each instance; default: files of the home. */
  records?: InstanceRecords | undefined;
  /** Where logs of functions are kept; default: files of the home. */
  logFiles?: LogFiles | undefined;
  runtime: RuntimeClient;
  clock: Clock;
  log: Log;
  version: string;
  /** Where the store is, for people: without a password. */
  storeAddress?: string;
  /** http://HOST:PORT of the gateways, without a slash at the end. */
  publicUrl: string;
  /** https://HOST:PORT of the gateways, where they serve TLS. */
  tlsUrl?: string | undefined;
  /** Hosts by which the gateways are reached beside those of the URLs; `*.example.com`: all one label longer. */
  publicHosts?: readonly string[];
  secrets: SecretValues;
  tenancy: Tenancy;
  retention: Retention;
  /** How long an image stays that no revision is made of, ms after it was brought, or deployed last. */
  imageKeepMs: number;
  /** Folder with certificates of custom domains; null: none. */
  certificates: string | null;
  /** Hears of every start that has ended well. Must not throw. */
  onStart?: ((start: InstanceStart) => void) | undefined;
  calls: CallsPort;
  accounting: AccountingPort;
  /** Hears every line of every function once it is kept. Must not throw, and must not wait. */
  onLogEntries?: ((entries: readonly LogEntry[]) => void) | undefined;
  /** Hears of each function that is changed or deleted. Must not throw, and must not wait. */
  onFunctionChange?: ((namespace: string, name: string) => void) | undefined;
  /** Those who bring events to functions. */
  events?: EngineEvents | undefined;
  /** Hears the code of each start that failed. Must not throw. */
  onStartFailure?: ((code: string) => void) | undefined;
  /** Hears of every pass of the planner. Must not throw. */
  onPass?: ((pass: PlannerPass) => void) | undefined;
  /** Group of the gateway's process, where it has a uid of its own. */
  gatewayGid: number | null;
  /** Where gateways of other hosts dial the link, beside its socket; null: nowhere. */
  linkListen?: TcpListen | null | undefined;
  /** What people should know of the settings that the platform runs with, a sentence each; shown with what the driver lacks. */
  notes?: readonly string[];
  /** Raised already, when this process began to lead: raised once more, by one that was frozen since, it would depose who leads by now. Default: it is raised at the start. */
  term?: number | null | undefined;
  /** Whether this process certainly leads, at this moment; default: nobody else could. */
  leads?: (() => boolean) | undefined;
  /** Called by close() when nothing is written any more, before the store is closed: another may lead from then on. */
  resign?: (() => Promise<void>) | undefined;
  /** Ends the process after shutdown(). */
  onShutdown: () => void;
}
