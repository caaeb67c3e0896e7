/** Events of Kubernetes about an object: what `kubectl describe` shows. For people only, so that one that cannot be written is let go. */
import { FUNCTION_API_VERSION, FUNCTION_KIND } from '#contract/function-resource.ts';
import type { Clock } from '#kit/clock.ts';
import { shortHash } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import { KubeError, type KubeApi } from '../kube/types.ts';
import { type Identified, NOTED_EVENTS } from './resource.ts';

/** What the API takes, characters. */
const MAX_MESSAGE_LENGTH = 1_024;
const SOURCE = 'fn';

export interface Note {
  type: 'Normal' | 'Warning';
  /** One word. */
  reason: string;
  message: string;
}

export class EventRecorder {
  readonly #api: KubeApi;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor(api: KubeApi, clock: Clock, log: Log) {
    this.#api = api;
    this.#clock = clock;
    this.#log = log;
  }

  /** The same note about the same object is one event with a count, whichever controller writes it. Does not throw. */
  async note({ metadata }: Identified, { type, reason, message: all }: Note): Promise<void> {
    const { namespace = '', name, uid, resourceVersion } = metadata;
    const message = all.length > MAX_MESSAGE_LENGTH ? `${all.slice(0, MAX_MESSAGE_LENGTH - 1)}…` : all;
    const event = `${name}.${shortHash(`${uid} ${type} ${reason} ${message}`, 16)}`;
    const at = new Date(this.#clock.wall()).toISOString().replace(/\.\d+Z$/, 'Z');
    try {
      await this.#api.create(NOTED_EVENTS, namespace, {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: event, namespace },
        involvedObject: { apiVersion: FUNCTION_API_VERSION, kind: FUNCTION_KIND, namespace, name, uid, resourceVersion },
        type,
        reason,
        message,
        count: 1,
        firstTimestamp: at,
        lastTimestamp: at,
        source: { component: SOURCE },
        reportingComponent: SOURCE,
        reportingInstance: SOURCE,
      });
    } catch (error) {
      if (error instanceof KubeError && error.reason === 'AlreadyExists') await this.#again(namespace, event, at);
      else this.#failed(error);
    }
  }

  async #again(namespace: string, event: string, at: string): Promise<void> {
    try {
      const { count } = await this.#api.get(NOTED_EVENTS, namespace, event);
      await this.#api.patch(NOTED_EVENTS, namespace, event, { type: 'merge', body: { count: (count ?? 1) + 1, lastTimestamp: at } });
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#log.debug({ error: error instanceof Error ? error.message : String(error) }, 'an event could not be written to the cluster');
  }
}
