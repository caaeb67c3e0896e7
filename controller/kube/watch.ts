/**
 * All objects of a kind in a namespace, as they are: a list, then a watch from there on. A watch that ends goes on where it
 * was; one that has expired begins with a new list; one that says nothing for too long is dropped and the list read again.
 * An object counts as deleted by its delete event or by its absence from a complete new list, never because nothing was heard.
 */
import { backoffMs } from '#kit/backoff.ts';
import { sleep, systemClock, type Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { KubeError, type KubeApi, type KubeObject, type Resource, type Selector } from './types.ts';

/**
 * A watch that neither tells anything nor ends for so long is dead, ms. Servers end ours after 40 s (api.ts) and send a
 * bookmark before, so that one that works is never so quiet.
 */
const STALL_MS = 50_000;
const RECONNECT = { baseMs: 100, maxMs: 10_000 } as const;
/** A watch that lived so long was none that fails at once: what ends then is taken up again without a pause, ms. */
const HEALTHY_MS = 1_000;
/** After so many failures in a row the list is read again: the server's memory may be another one (a backup was restored). */
const RELIST_AFTER_FAILURES = 3;
/** Failures in a row that are logged one by one, so that an API server that is away for an hour does not fill the log. */
const LOGGED_FAILURES = 3;

export interface ListWatchOptions<T extends KubeObject> {
  api: KubeApi;
  resource: Resource<T>;
  namespace: string;
  selector?: Selector;
  log: Log;
  /** An object that is new or has changed. Must not throw. */
  onChange: (object: T) => void;
  /** As it was last known. Must not throw. */
  onDelete: (object: T) => void;
  /** After each complete list, when all that it told has been told. */
  onSync?: () => void;
  /** It became current, or is no more. */
  onCurrent?: (current: boolean) => void;
  stallMs?: number;
  clock?: Clock;
}

export class ListWatch<T extends KubeObject> {
  readonly #options: ListWatchOptions<T>;
  readonly #objects = new Map<string, T>();
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  #version = '';
  #current = false;

  constructor(options: ListWatchOptions<T>) {
    this.#options = options;
  }

  /** By name, as last heard. */
  get objects(): ReadonlyMap<string, T> {
    return this.#objects;
  }

  /** Whether what is known is followed at this moment; where not, it is what was known last. */
  get current(): boolean {
    return this.#current;
  }

  /** Resolves when the first list was told. Throws where it cannot be read; later ones are tried for ever. */
  async start(): Promise<void> {
    await this.#list();
    this.#loop = this.#run();
  }

  /** Nothing is told from here on. Idempotent. */
  async close(): Promise<void> {
    this.#stop.abort(new Error('the watch is closed'));
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let failures = 0;
    let relist = false;
    while (!signal.aborted) {
      const begun = this.#clock.now();
      try {
        if (relist) await this.#list();
        relist = false;
        await this.#follow();
        if (this.#clock.now() - begun >= HEALTHY_MS) {
          failures = 0;
          continue;
        }
        failures += 1;
      } catch (error) {
        if (signal.aborted) break;
        failures = this.#clock.now() - begun >= HEALTHY_MS && !relist ? 1 : failures + 1;
        relist ||=
          error instanceof WatchStalled || (error instanceof KubeError && error.reason === 'Expired') || failures >= RELIST_AFTER_FAILURES;
        this.#failed(error, failures);
        // Nothing is wrong with the server: it forgets what is old.
        if (error instanceof KubeError && error.reason === 'Expired' && failures === 1) continue;
      }
      await sleep(backoffMs(failures, RECONNECT), signal).catch(() => {}); // Closed: the loop ends.
    }
    this.#setCurrent(false);
  }

  #failed(error: unknown, failures: number): void {
    this.#setCurrent(false);
    if (failures > LOGGED_FAILURES) return;
    const { log, resource } = this.#options;
    log.warn(
      { kind: resource.kind, error: error instanceof Error ? error.message : String(error) },
      'the cluster cannot be followed; trying again',
    );
  }

  /** Reads the whole list, and tells in what it differs from what was known. */
  async #list(): Promise<void> {
    const { api, resource, namespace, selector, onDelete, onSync } = this.#options;
    const { items, resourceVersion } = await api.list(resource, namespace, selector);
    if (this.#stop.signal.aborted) return;
    const found = new Map(items.map((item) => [item.metadata.name, item]));
    for (const [name, object] of this.#objects) {
      if (found.get(name)?.metadata.uid === object.metadata.uid) continue;
      this.#objects.delete(name);
      onDelete(object);
    }
    for (const item of items) this.#changed(item);
    this.#version = resourceVersion;
    this.#setCurrent(true);
    onSync?.();
  }

  /** Until the server ends it. Throws where it breaks off or is quiet for too long. */
  async #follow(): Promise<void> {
    const { api, resource, namespace, selector, stallMs = STALL_MS } = this.#options;
    const stalled = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, stalled.signal]);
    const watchdog = () => this.#clock.after(stallMs, () => stalled.abort(new WatchStalled(stallMs)));
    let calm = watchdog();
    try {
      const from = { resourceVersion: this.#version, ...(selector === undefined ? {} : { selector }) };
      for await (const event of api.watch(resource, namespace, from, signal)) {
        if (this.#stop.signal.aborted) return;
        calm();
        calm = watchdog();
        this.#setCurrent(true);
        if (event.type === 'bookmark') this.#version = event.resourceVersion;
        else {
          this.#version = event.object.metadata.resourceVersion;
          if (event.type === 'deleted') this.#deleted(event.object);
          else this.#changed(event.object);
        }
      }
      // It ended as servers end it: it was connected all the time.
      this.#setCurrent(true);
    } finally {
      calm();
    }
  }

  #changed(object: T): void {
    const { name, uid, resourceVersion } = object.metadata;
    const before = this.#objects.get(name);
    if (before?.metadata.uid === uid && before.metadata.resourceVersion === resourceVersion) return;
    if (before !== undefined && before.metadata.uid !== uid) this.#options.onDelete(before);
    this.#objects.set(name, object);
    this.#options.onChange(object);
  }

  #deleted(object: T): void {
    const before = this.#objects.get(object.metadata.name);
    if (before?.metadata.uid !== object.metadata.uid) return;
    this.#objects.delete(object.metadata.name);
    // Its last state is said with the event.
    this.#options.onDelete(object);
  }

  #setCurrent(current: boolean): void {
    if (this.#current === current) return;
    this.#current = current;
    this.#options.onCurrent?.(current);
  }

  get #clock(): Clock {
    return this.#options.clock ?? systemClock;
  }
}

class WatchStalled extends Error {
  constructor(ms: number) {
    super(`nothing was heard for ${Math.round(ms / 1_000)} s`);
  }
}
