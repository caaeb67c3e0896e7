/**
 * The pod of the controller that leads has a label, and Services select it: the API, the link and the events of a platform
 * lead to that pod. Who begins to lead takes the label from the others of its release, then, when it listens, takes it itself.
 * It looks again from time to time: what somebody took away, or a leader that was frozen still has, is put right.
 */
import { backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { type Pod, PODS } from './resources.ts';
import { type KubeApi, KubeError } from './types.ts';

export const ROLE_LABEL = 'fn.dev/role';
export const LEADER = 'leader';
/** By these a pod finds the others of its release: what the chart, and whoever follows Kubernetes' advice, sets. */
const RELEASE_LABELS = ['app.kubernetes.io/instance', 'app.kubernetes.io/component'];

/** It was right when it was looked at last; again after this, ms. */
const LOOK_EVERY_MS = 30_000;
/** At the end the API server is waited for as long, ms: who leads next takes the label away where this one could not. */
const CLOSE_TIMEOUT_MS = 2_000;
/** The API server did not answer, or refused. */
const AGAIN = { baseMs: 200, maxMs: 10_000, jitter: 0.3 };

export interface LeaderLabelOptions {
  api: Pick<KubeApi, 'get' | 'list' | 'patch'>;
  self: { namespace: string; pod: string };
  /** Whether this controller leads still; asked before a label is changed. Where it throws, nobody knows. */
  leads: () => Promise<boolean>;
  clock: Clock;
  log: Log;
}

export class LeaderLabel {
  readonly #options: LeaderLabelOptions;
  #working: Promise<void> = Promise.resolve();
  #cancel: () => void = () => {};
  #listens = false;
  #closed = false;
  #failures = 0;

  constructor(options: LeaderLabelOptions) {
    this.#options = options;
  }

  /** Takes it from the others, and goes on until close(). Does not wait for the API server. */
  start(): void {
    this.#look();
  }

  /** From now on it may be sent requests. */
  listens(): void {
    this.#listens = true;
    this.#look();
  }

  /** Takes the label off this pod. Where the API server cannot be told, whoever leads next does it. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancel();
    const { self, log, clock } = this.#options;
    let cancel = () => {};
    const late = new Promise<void>((_resolve, reject) => {
      cancel = clock.after(CLOSE_TIMEOUT_MS, () => reject(new Error(`no answer within ${CLOSE_TIMEOUT_MS} ms`)));
    });
    const done = this.#working.then(() => (this.#listens ? this.#mark(self.pod, false) : undefined));
    await Promise.race([done, late])
      .catch((error: unknown) => log.warn({ pod: self.pod, error: messageOf(error) }, 'the label of the leader could not be taken off'))
      .finally(cancel);
  }

  /** One look after the other. */
  #look(): void {
    this.#cancel();
    this.#working = this.#working.then(async () => {
      if (this.#closed) return;
      const { log, clock } = this.#options;
      let nextMs = LOOK_EVERY_MS;
      try {
        await this.#putRight();
        if (this.#failures > 0) log.info({}, 'the label of the leader is right again');
        this.#failures = 0;
      } catch (error) {
        this.#failures += 1;
        nextMs = backoffMs(this.#failures, AGAIN);
        if (this.#failures === 1)
          log.warn({ error: messageOf(error) }, 'the label of the leader could not be set: Services may lead elsewhere; trying again');
      }
      this.#cancel();
      if (!this.#closed) this.#cancel = clock.after(nextMs, () => this.#look());
    });
  }

  async #putRight(): Promise<void> {
    const { api, self, leads, log } = this.#options;
    const own = await api.get(PODS, self.namespace, self.pod);
    const found = await this.#others(own);
    if (this.#closed || !(await leads())) return;
    for (const { metadata } of found) {
      log.warn({ pod: metadata.name }, 'another controller has the label of the leader: taking it away');
      await this.#mark(metadata.name, false);
    }
    if (this.#listens && own.metadata.labels[ROLE_LABEL] !== LEADER) await this.#mark(self.pod, true);
  }

  /** Those of the release that have the label. A pod without the labels of a release knows no others. */
  async #others({ metadata }: Pod): Promise<Pod[]> {
    const { api, self } = this.#options;
    const release = RELEASE_LABELS.map((label) => [label, metadata.labels[label]] as const);
    if (release.some(([, value]) => value === undefined)) return [];
    const labels = [...release, [ROLE_LABEL, LEADER]].map(([label, value]) => `${label}=${value}`).join(',');
    const { items } = await api.list(PODS, self.namespace, { labels });
    return items.filter((pod) => pod.metadata.name !== self.pod);
  }

  async #mark(pod: string, leader: boolean): Promise<void> {
    const { api, self } = this.#options;
    const body = { metadata: { labels: { [ROLE_LABEL]: leader ? LEADER : null } } };
    await api.patch(PODS, self.namespace, pod, { type: 'merge', body }).catch((error: unknown) => {
      // Gone meanwhile, and its label with it.
      if (!(error instanceof KubeError) || error.status !== 404) throw error;
    });
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
