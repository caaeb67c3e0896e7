/** What the parts of the engine share. */
import { FnError } from '#contract/errors.ts';
import type { InvokeToken, NamespaceLimits } from '#contract/link.ts';
import { NO_QUOTA, type NamespaceSettings, type Quota } from '#contract/tenancy.ts';
import type { CoreSettings } from '../core/settings.ts';
import type { Instance, RevisionState, World } from '../core/world.ts';
import type { Driver } from '../driver/types.ts';
import type { BundleStore, InstanceRecords, Store } from '../store/types.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { CodeCaches } from './code-cache.ts';
import type { SecretDelivery } from './secrets.ts';
import type { RuntimeClient } from './runtime-client.ts';

/** Secrets in clear, at the moment in which an instance is to get them. */
export interface SecretValues {
  /** All that are named, with the version that each value is of. Throws FnError secret-not-found, which names the missing one. */
  reveal(namespace: string, names: readonly string[]): Promise<Map<string, { value: string; version: number }>>;
}

/** What the engine asks of the part that knows tenants. Answers are at hand: nothing is read for them. */
export interface Tenancy {
  /** Namespaces that were set; what another one may is NamespaceSettings' defaults. */
  namespaces(): readonly { name: string; settings: NamespaceSettings }[];
  /** What gateways keep for us. */
  gatewaySettings(): { limits: NamespaceLimits[]; tokens: InvokeToken[] };
  /** The listener is called after any of this has changed; its promise resolves when the gateways have heard. */
  onChange(listener: () => void | Promise<void>): void;
}

export const quotaOf = (tenancy: Tenancy, namespace: string): Quota =>
  tenancy.namespaces().find((one) => one.name === namespace)?.settings.quota ?? NO_QUOTA;

/** A platform with one tenant and no secrets. */
export const NO_SECRETS: SecretValues = {
  reveal: (_namespace, [first]) =>
    first === undefined ? Promise.resolve(new Map()) : Promise.reject(new FnError('secret-not-found', `There is no secret ${first}.`)),
};
export const ONE_TENANT: Tenancy = { namespaces: () => [], gatewaySettings: () => ({ limits: [], tokens: [] }), onChange: () => {} };

/** A start that has ended well, for whoever makes spans of it. Times in ms. */
export interface InstanceStart {
  instance: Instance;
  revision: string;
  /** Since 1970, when the claim was made. */
  claimedAt: number;
  initMs: number;
  /** W3C context of whoever waited longest for it; null where nobody did. */
  traceparent: string | null;
}

export interface EngineContext {
  readonly world: World;
  readonly settings: CoreSettings;
  readonly driver: Driver;
  readonly store: Store;
  readonly bundles: BundleStore;
  readonly runtime: RuntimeClient;
  readonly records: InstanceRecords;
  readonly clock: Clock;
  readonly log: Log;
  readonly secrets: SecretDelivery;
  readonly codeCaches: CodeCaches;
  readonly tenancy: Tenancy;
  /** Whether this controller certainly leads, at this moment: where not, instances are another's, and it is about to end. */
  readonly leads: () => boolean;
}

/** Why an instance is taken away, as gateways are told. */
export type GoneCause = 'exit' | 'oom' | 'timeout' | 'stopped' | 'lost';

/** What happens to instances, for the parts that have to react. */
export interface InstanceEvents {
  /** Something that the plan depends on has changed, and the world was told of what (World.touch, where nothing else tells). */
  changed(): void;
  /** A generic instance is up. */
  created(): void;
  /** The code was loaded for the first time: how many slots, which form. */
  ready(instance: Instance): void;
  /** An instance could not be started or did not load. */
  failed(revision: string | null, failure: StartFailure): void;
  /** An instance is no more; `holders` are the gateways that had leases of it. */
  gone(instance: Instance, holders: Set<string>, cause: GoneCause, detail: string): void;
  /** A claim was made: refills wait, and what the instance uses from now on is the function's. */
  claimed(instance: Instance, revision: RevisionState): void;
  /** An instance has loaded its code. */
  started(start: InstanceStart): void;
  /** A specialised instance writes logs from now on. */
  follow(instance: Instance, revision: string): void;
  /** It is about to be killed, or has ended; resolves when what it wrote, and what it used, has been read. */
  unfollow(instance: Instance, cause: GoneCause): Promise<void>;
}

/** Why a start failed: the function's own doing, or the platform's. */
export interface StartFailure {
  code: 'function-init-failed' | 'function-oom' | 'function-crashed' | 'start-failed' | 'no-capacity' | 'quota-exceeded';
  detail: string;
  functionError?: { name: string; message: string; at?: string | undefined; stack?: string | undefined };
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
