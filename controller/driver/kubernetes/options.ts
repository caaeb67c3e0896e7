/** What the kubernetes driver is made of. */
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import type { KubeApi } from '../../kube/types.ts';

export interface KubernetesDriverOptions {
  /** Closed by whoever made it, after the driver. */
  api: KubeApi;
  settings: KubernetesSettings;
  /** Image of each runtime as the cluster's nodes find it, e.g. `{ node: 'fn/node:0a1b2c3d4e5f' }`. */
  images: Readonly<Record<string, string>>;
  /** The platform's, for the label fn.dev/version. */
  version: string;
  log: Log;
  /** Default: the machine's. */
  clock?: Clock;
}
