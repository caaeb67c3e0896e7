/** What the API needs of the engine; the engine implements it. */
import type { DeployRequest, DeployResponse, LogEntry, PlatformStatus } from '#contract/api.ts';
import type { FunctionView, Revision } from '#contract/function.ts';

export interface Platform {
  status(): Promise<PlatformStatus>;
  /** Throws FnError: deploy-refused with the function's own error, invalid, no-capacity, … */
  deploy(namespace: string, name: string, request: DeployRequest, signal: AbortSignal): Promise<DeployResponse>;
  /** Throws FnError function-not-found. */
  describe(namespace: string, name: string): Promise<FunctionView>;
  list(namespace?: string): Promise<FunctionView[]>;
  revisions(namespace: string, name: string): Promise<Revision[]>;
  /** Resolves when the routes are gone from the gateways; instances drain after. Throws function-not-found. */
  delete(namespace: string, name: string): Promise<void>;
  /** Ends when the newest line was given, or with `follow` when aborted. Throws function-not-found. */
  logs(
    namespace: string,
    name: string,
    options: { follow: boolean; since?: number; limit?: number },
    signal: AbortSignal,
  ): AsyncIterable<LogEntry>;
  /** Ends every instance and then the controller; resolves when no instance is left. */
  shutdown(): Promise<void>;
}
