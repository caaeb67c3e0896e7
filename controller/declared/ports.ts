/** What declared functions need of the controller; lead.ts puts it together. */
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { Audit, Platform, Tenants } from '../api/platform.ts';
import type { KubernetesSettings } from '../kube/settings.ts';
import type { KubeApi } from '../kube/types.ts';
import type { BundleStore, Store } from '../store/types.ts';

export interface DeclaredOptions {
  api: KubeApi;
  /** Which namespaces of the cluster are watched, and which namespace of fn each is. */
  settings: Pick<KubernetesSettings, 'declared'>;
  platform: Pick<Platform, 'deploy' | 'setAccess' | 'delete' | 'describe' | 'list' | 'revisions'>;
  tenants: Pick<Tenants, 'quota'>;
  audit: Audit;
  bundles: BundleStore;
  store: Pick<Store, 'installationId' | 'addArtifact' | 'hasArtifact'>;
  /** Networks that functions of a namespace may dial beside public addresses; null: any. The rule of webhooks and triggers. */
  networks: (namespace: string) => readonly string[] | null;
  clock: Clock;
  log: Log;
  /** Authorities to trust where bundles are fetched, PEM; default: those that Node knows. */
  ca?: string;
}
