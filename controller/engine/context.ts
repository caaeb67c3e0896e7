/** What the parts of the engine share. */
import type { CoreSettings } from '../core/settings.ts';
import type { Instance, World } from '../core/world.ts';
import type { Driver } from '../driver/types.ts';
import type { BundleStore, Store } from '../store/types.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { Records } from './records.ts';
import type { RuntimeClient } from './runtime-client.ts';

export interface EngineContext {
  readonly world: World;
  readonly settings: CoreSettings;
  readonly driver: Driver;
  readonly store: Store;
  readonly bundles: BundleStore;
  readonly runtime: RuntimeClient;
  readonly records: Records;
  readonly clock: Clock;
  readonly log: Log;
}

/** Why an instance is taken away, as gateways are told. */
export type GoneCause = 'exit' | 'oom' | 'timeout' | 'stopped' | 'lost';

/** What happens to instances, for the parts that have to react. */
export interface InstanceEvents {
  /** Something that the plan depends on has changed. */
  changed(): void;
  /** A generic instance is up. */
  created(): void;
  /** The code was loaded for the first time: how many slots, which form. */
  ready(instance: Instance): void;
  /** An instance could not be started or did not load. */
  failed(revision: string | null, failure: StartFailure): void;
  /** An instance is no more; `holders` are the gateways that had leases of it. */
  gone(instance: Instance, holders: Set<string>, cause: GoneCause, detail: string): void;
  /** A claim was made: refills wait. */
  claimed(): void;
  /** A specialised instance writes logs from now on. */
  follow(instance: Instance, revision: string): void;
  /** It is about to be killed; resolves when what it wrote has been read. */
  unfollow(instance: Instance, cause: GoneCause): Promise<void>;
}

/** Why a start failed: the function's own doing, or the platform's. */
export interface StartFailure {
  code: 'function-init-failed' | 'function-oom' | 'function-crashed' | 'start-failed';
  detail: string;
  functionError?: { name: string; message: string; at?: string | undefined; stack?: string | undefined };
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
