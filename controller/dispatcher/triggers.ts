/** All triggers of all functions: those that take from brokers, schedules and webhooks. */
import { type BrokerTrigger, type Trigger, type TriggerOf, type TriggerStatus, restingStatus, secretsNeeded } from '#contract/trigger.ts';
import type { OpenSource } from '../triggers/types.ts';
import { CronRunner, cronStateKey } from './cron.ts';
import { TriggerRunner } from './trigger-runner.ts';
import type { FunctionEvents, TriggerHost, Triggers } from './types.ts';
import { Webhooks } from './webhooks.ts';

/** What is in flight of a trigger that is changed has as long as its function may take, and this beside, ms. */
const CHANGE_GRACE_MS = 10_000;

type BrokerType = BrokerTrigger['type'];
/** Each is loaded, with its client library, when the first trigger of its type begins. */
export type SourceAdapters = { [Type in BrokerType]: () => Promise<{ openSource: OpenSource<TriggerOf<Type>> }> };

export interface TriggerAdapters {
  source: SourceAdapters;
}

interface Running {
  start(): void;
  update(of: FunctionEvents): void;
  status(): TriggerStatus;
  close(graceMs: number): Promise<void>;
}

interface Entry {
  of: FunctionEvents;
  trigger: Trigger;
  /** Another text, and it begins anew. */
  text: string;
  /** null: paused, a webhook, or the one before it has not ended. */
  running: Running | null;
}

const opener =
  <Type extends BrokerType>(adapters: SourceAdapters, type: Type): OpenSource<TriggerOf<Type>> =>
  async (options) => {
    const { openSource } = await adapters[type]();
    return openSource(options);
  };

const functionKey = (namespace: string, name: string): string => `${namespace}/${name}`;
/** What a trigger is made of beside itself: where it may dial. */
const textOf = (of: FunctionEvents, trigger: Trigger): string => JSON.stringify([trigger, of.networks]);

class TriggerSet implements Triggers {
  readonly #host: TriggerHost;
  readonly #adapters: TriggerAdapters;
  readonly #webhooks: Webhooks;
  /** By function, then by name. */
  readonly #entries = new Map<string, Map<string, Entry>>();
  /** Those that have not ended yet, by function and name: their successor waits for them. */
  readonly #ending = new Map<string, Promise<void>>();
  #closed = false;

  constructor(host: TriggerHost, adapters: TriggerAdapters) {
    this.#host = host;
    this.#adapters = adapters;
    this.#webhooks = new Webhooks(host);
  }

  get active(): boolean {
    for (const entries of this.#entries.values())
      for (const { trigger } of entries.values()) if (trigger.enabled && trigger.type !== 'webhook') return true;
    return false;
  }

  apply(set: readonly FunctionEvents[], remove: readonly { namespace: string; name: string; deleted: boolean }[]): void {
    if (this.#closed) return;
    for (const { namespace, name, deleted } of remove) {
      const entries = this.#entries.get(functionKey(namespace, name));
      for (const trigger of entries?.keys() ?? []) this.#end(namespace, name, trigger, deleted);
      this.#entries.delete(functionKey(namespace, name));
      if (deleted) void this.#forgetState(cronStateKey(namespace, name, ''));
    }
    for (const of of set) this.#set(of);
  }

  secretsChanged(names: ReadonlySet<string>): void {
    if (this.#closed) return;
    for (const entries of this.#entries.values())
      for (const { of, trigger, running } of [...entries.values()]) {
        // A webhook's secret is looked up with each delivery.
        if (trigger.type === 'webhook' || running === null) continue;
        if (!secretsNeeded(trigger).some((secret) => names.has(`${of.namespace}/${secret}`))) continue;
        this.#end(of.namespace, of.name, trigger.name, false);
        this.#begin(of, trigger);
      }
  }

  async status(namespace: string, name: string): Promise<Record<string, TriggerStatus>> {
    const statuses: Record<string, TriggerStatus> = {};
    for (const [key, { of, trigger, running }] of this.#entries.get(functionKey(namespace, name)) ?? []) {
      if (!trigger.enabled) statuses[key] = restingStatus('paused');
      else if (trigger.type === 'webhook') statuses[key] = this.#webhooks.status(of, trigger);
      else statuses[key] = running?.status() ?? restingStatus('connecting', 'what was in flight before the change ends first');
    }
    return statuses;
  }

  webhook(message: Parameters<Triggers['webhook']>[0]): ReturnType<Triggers['webhook']> {
    const entry = this.#entries.get(functionKey(message.namespace, message.name))?.get(message.trigger);
    const trigger = entry?.trigger;
    return this.#webhooks.receive(message, entry !== undefined && trigger?.type === 'webhook' ? { of: entry.of, trigger } : null);
  }

  async close(graceMs: number): Promise<void> {
    this.#closed = true;
    for (const entries of this.#entries.values())
      for (const { of, trigger } of [...entries.values()]) this.#end(of.namespace, of.name, trigger.name, false, graceMs);
    this.#entries.clear();
    await Promise.all(this.#ending.values());
  }

  #set(of: FunctionEvents): void {
    const { namespace, name } = of;
    const entries = this.#entries.get(functionKey(namespace, name)) ?? new Map<string, Entry>();
    this.#entries.set(functionKey(namespace, name), entries);
    const names = new Set(of.triggers.map((trigger) => trigger.name));
    for (const trigger of [...entries.keys()]) if (!names.has(trigger)) this.#end(namespace, name, trigger, true);
    for (const trigger of of.triggers) {
      const entry = entries.get(trigger.name);
      if (entry !== undefined && entry.text === textOf(of, trigger)) {
        entry.of = of;
        entry.running?.update(of);
        continue;
      }
      if (entry !== undefined) this.#end(namespace, name, trigger.name, false);
      this.#begin(of, trigger);
    }
  }

  #begin(of: FunctionEvents, trigger: Trigger): void {
    const entry: Entry = { of, trigger, text: textOf(of, trigger), running: null };
    const entries = this.#entries.get(functionKey(of.namespace, of.name));
    entries?.set(trigger.name, entry);
    if (!trigger.enabled || trigger.type === 'webhook') return;
    const begin = () => {
      if (this.#closed || this.#entries.get(functionKey(of.namespace, of.name))?.get(trigger.name) !== entry) return;
      entry.running =
        trigger.type === 'cron'
          ? new CronRunner({ host: this.#host, of: entry.of, trigger })
          : new TriggerRunner({ host: this.#host, of: entry.of, trigger, open: opener(this.#adapters.source, trigger.type) });
      entry.running.start();
    };
    const before = this.#ending.get(`${functionKey(of.namespace, of.name)}/${trigger.name}`);
    if (before === undefined) begin();
    else void before.then(begin);
  }

  /** `forget`: it was removed for good, not changed. */
  #end(namespace: string, name: string, trigger: string, forget: boolean, graceMs?: number): void {
    const entries = this.#entries.get(functionKey(namespace, name));
    const entry = entries?.get(trigger);
    entries?.delete(trigger);
    if (entry === undefined) return;
    // When nothing writes it any more, and before a successor reads it.
    const state = forget && entry.trigger.type === 'cron' ? cronStateKey(namespace, name, trigger) : null;
    if (entry.running === null && state === null) return;
    const key = `${functionKey(namespace, name)}/${trigger}`;
    const ended = Promise.all([this.#ending.get(key), entry.running?.close(graceMs ?? entry.of.timeoutMs + CHANGE_GRACE_MS)])
      .then(() => (state === null ? undefined : this.#forgetState(state)))
      .catch((error: unknown) => {
        this.#host.log.error({ namespace, function: name, trigger, error: String(error) }, 'a trigger did not end in order');
      })
      .finally(() => {
        if (this.#ending.get(key) === ended) this.#ending.delete(key);
      });
    this.#ending.set(key, ended);
  }

  #forgetState(prefix: string): Promise<void> {
    return this.#host.store.deleteState(prefix).catch((error: unknown) => {
      // A trigger of the same name would take up its last tick: at worst one that was missed.
      this.#host.log.warn({ prefix, error: String(error) }, 'the last tick of a schedule could not be forgotten');
    });
  }
}

/** Nothing runs until apply is called. */
export const createTriggers = (host: TriggerHost, adapters: TriggerAdapters): Triggers => new TriggerSet(host, adapters);
