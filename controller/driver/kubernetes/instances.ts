/** What is known of the instances of an installation, kept by one list-and-watch of their pods; and how one is killed. */
import { sleep, type Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { PODS, type Pod } from '../../kube/resources.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import { KubeError, type KubeApi } from '../../kube/types.ts';
import { ListWatch } from '../../kube/watch.ts';
import { Exits } from './exits.ts';
import { hasEnded, instanceIdOf, newKnown, type Known } from './instance.ts';
import { instancesOf, podName } from './labels.ts';
import type { LogSource } from './logs.ts';

/** From SIGTERM to SIGKILL, seconds: the shortest that has the kubelet confirm the end. 0 would forget the pod, not end it. */
const KILL_GRACE_SECONDS = 1;
/** A kubelet that has not confirmed by then is gone with its node, ms: the pod is forgotten, as nothing else depends on its end. */
const FORCE_AFTER_MS = 120_000;
/** So long a kill is waited for; then it is told as failed, and tried again by whoever wants it, ms. */
const KILL_TIMEOUT_MS = 150_000;
/** While the watch is broken, or in case it missed something, a pod that is killed is looked at so often, ms. */
const LOOK_EVERY_MS = 5_000;
/** Ids of killed instances that are remembered: a creation that nobody knew the end of may still come true. */
const MAX_REMEMBERED = 10_000;

export interface InstancesOptions {
  api: KubeApi;
  settings: KubernetesSettings;
  clock: Clock;
  log: Log;
}

export class Instances {
  readonly exits: Exits;
  readonly #options: InstancesOptions;
  readonly #known = new Map<string, Known>();
  readonly #kills = new Map<string, Promise<void>>();
  readonly #killed = new Set<string>();
  #watch: ListWatch<Pod> | null = null;
  #synced = false;
  #connection = new AbortController();

  constructor(options: InstancesOptions) {
    this.#options = options;
    this.exits = new Exits({ log: options.log, clock: options.clock, source: (known) => this.source(known) });
  }

  /** Resolves when all of them are known. Throws KubeError, KubeUnreachable. */
  async start(): Promise<void> {
    const { api, settings, clock, log } = this.#options;
    // What was known before a close() may have ended under another controller.
    this.#known.clear();
    this.exits.forget();
    this.#synced = false;
    this.#watch = new ListWatch({
      api,
      resource: PODS,
      namespace: settings.namespace,
      selector: { labels: instancesOf(settings) },
      clock,
      log,
      onChange: (pod) => this.#changed(pod),
      onDelete: (pod) => this.#deleted(pod),
      onSync: () => (this.#synced = true),
      onCurrent: (current) => {
        if (current) return;
        this.#connection.abort(new Error('the way to the API server was lost'));
        this.#connection = new AbortController();
      },
    });
    await this.#watch.start();
  }

  async close(): Promise<void> {
    await this.#watch?.close();
    this.#watch = null;
  }

  get all(): Iterable<Known> {
    return this.#known.values();
  }

  get(id: string): Known | undefined {
    return this.#known.get(id);
  }

  /** One that is about to be created. */
  add(id: string): Known {
    if (this.#known.has(id)) throw new Error(`the instance ${id} is there already`);
    const known = newKnown(id, 'creating');
    this.#known.set(id, known);
    return known;
  }

  /** A creation that made nothing. */
  forget(known: Known): void {
    if (this.#known.get(known.id) === known) this.#known.delete(known.id);
  }

  /** A creation of which it is not known what it made, and which cannot be undone now: it is ended when it shows. */
  doom(id: string): void {
    const known = this.#known.get(id);
    if (known !== undefined && known.pod === null) this.#known.delete(id);
    this.#remember(id);
  }

  /** What the API server says of a pod in an answer; the watch may have told more already. */
  heard(known: Known, pod: Pod): void {
    if (known.pod === null || known.pod.metadata.uid !== pod.metadata.uid) this.#update(known, pod);
  }

  /** Resolves when something of it changes, and after so long at the latest. Rejects where it is aborted. */
  async change(known: Known, ms: number, signal?: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    known.waiters.add(wake);
    try {
      const either = signal === undefined ? woken.signal : AbortSignal.any([signal, woken.signal]);
      await sleep(ms, either).catch(() => {}); // Woken or aborted, which is told apart next.
      signal?.throwIfAborted();
    } finally {
      known.waiters.delete(wake);
    }
  }

  source(known: Known): LogSource {
    const { api, settings } = this.#options;
    return {
      api,
      namespace: settings.namespace,
      pod: podName(settings.installation, known.id),
      ended: () => known.gone || (known.pod !== null && hasEnded(known.pod)),
      connection: () => this.#connection.signal,
    };
  }

  #changed(pod: Pod): void {
    const id = instanceIdOf(pod, this.#options.settings);
    if (id === null) return;
    let known = this.#known.get(id);
    if (known === undefined) {
      if (this.#killed.has(id) && this.#synced) {
        this.#killLate(id, pod);
        return;
      }
      // One that is dead when the driver begins is told by list(), not as an end that happened now.
      known = newKnown(id, hasEnded(pod) && !this.#synced ? 'ended' : 'running');
      this.#known.set(id, known);
    }
    this.#update(known, pod);
  }

  #update(known: Known, pod: Pod): void {
    known.pod = pod;
    if (known.phase === 'running') {
      if (hasEnded(pod)) void this.exits.ended(known);
      else if (pod.metadata.deletionTimestamp !== undefined) this.exits.leaving(known);
    }
    wakeAll(known);
  }

  #deleted(pod: Pod): void {
    const id = instanceIdOf(pod, this.#options.settings);
    const known = id === null ? undefined : this.#known.get(id);
    if (known === undefined || (known.pod !== null && known.pod.metadata.uid !== pod.metadata.uid)) return;
    this.#gone(known, pod);
  }

  #gone(known: Known, pod: Pod | null): void {
    known.pod = pod ?? known.pod;
    known.gone = true;
    if (known.phase === 'running') void this.exits.ended(known);
    // Who creates or kills it takes it out.
    if (known.phase === 'ended') this.#known.delete(known.id);
    wakeAll(known);
  }

  #killLate(id: string, pod: Pod): void {
    const known = newKnown(id, 'killing');
    known.pod = pod;
    this.#known.set(id, known);
    this.#options.log.info({ instance: id }, 'a creation that was given up came true; it is undone');
    this.kill(id).catch((error: unknown) =>
      this.#options.log.warn({ instance: id, error: String(error) }, 'a creation that was given up could not be undone; it is tried again'),
    );
  }

  /** Those whose end is wanted and is not under way: tried again from time to time. Does not wait: a node that is gone takes minutes. */
  killLeft(): void {
    for (const { id, phase } of this.#known.values()) {
      if (phase !== 'killing' || !this.#killed.has(id) || this.#kills.has(id)) continue;
      this.kill(id).catch((error: unknown) =>
        this.#options.log.warn({ instance: id, error: String(error) }, 'an instance could not be killed; it is tried again'),
      );
    }
  }

  /** Resolves when it is gone. */
  kill(id: string): Promise<void> {
    const running = this.#kills.get(id);
    if (running) return running;
    const killing = this.#kill(id).finally(() => this.#kills.delete(id));
    this.#kills.set(id, killing);
    return killing;
  }

  async #kill(id: string): Promise<void> {
    const known = this.#known.get(id) ?? (await this.#lookUp(id));
    if (known === null) return;
    known.phase = 'killing';
    const begun = this.#options.clock.now();
    for (let graceSeconds = KILL_GRACE_SECONDS; !known.gone;) {
      if (!(await this.#delete(known, graceSeconds))) break;
      const forced = graceSeconds === 0;
      await this.#untilGone(known, begun + (forced ? KILL_TIMEOUT_MS : FORCE_AFTER_MS));
      if (known.gone) break;
      if (forced) throw new Error(`the pod ${this.source(known).pod} is still there ${KILL_TIMEOUT_MS / 1_000} s after it was deleted`);
      this.#options.log.warn({ instance: id }, 'the node of an instance does not confirm its end: its pod is forgotten');
      graceSeconds = 0;
    }
    this.#remember(id);
    this.forget(known);
  }

  /** One that is not known: of another controller, or from before. null: there is none of ours. */
  async #lookUp(id: string): Promise<Known | null> {
    const { api, settings } = this.#options;
    const pod = await api.get(PODS, settings.namespace, podName(settings.installation, id)).catch(ifGone);
    if (pod === null || instanceIdOf(pod, settings) !== id) return null;
    const known = this.#known.get(id) ?? newKnown(id, 'killing');
    known.pod ??= pod;
    this.#known.set(id, known);
    return known;
  }

  /** False where there is nothing to delete, or what is there is another pod. */
  async #delete(known: Known, graceSeconds: number): Promise<boolean> {
    const { api, settings } = this.#options;
    const uid = known.pod?.metadata.uid;
    try {
      await api.delete(PODS, settings.namespace, podName(settings.installation, known.id), {
        graceSeconds,
        ...(uid === undefined ? {} : { uid }),
      });
      return true;
    } catch (error) {
      if (error instanceof KubeError && (error.reason === 'NotFound' || error.reason === 'Conflict')) return false;
      throw error;
    }
  }

  async #untilGone(known: Known, until: number): Promise<void> {
    const { api, settings, clock } = this.#options;
    while (!known.gone && clock.now() < until) {
      await this.change(known, Math.min(LOOK_EVERY_MS, Math.max(1, until - clock.now())));
      if (known.gone || this.#watch?.current === true) continue;
      const pod = await api.get(PODS, settings.namespace, podName(settings.installation, known.id)).catch(ifGone);
      if (pod === null || pod.metadata.uid !== known.pod?.metadata.uid) known.gone = true;
    }
  }

  #remember(id: string): void {
    for (const oldest of this.#killed) {
      if (this.#killed.size < MAX_REMEMBERED) break;
      this.#killed.delete(oldest);
    }
    this.#killed.add(id);
  }
}

function ifGone(error: unknown): null {
  if (error instanceof KubeError && error.reason === 'NotFound') return null;
  throw error;
}

function wakeAll(known: Known): void {
  for (const wake of known.waiters) wake();
}
