/** The part of the control API that is about events: triggers, invocations that are answered later, dead letters. */
import type { DeadLetterDetail, DeadLetterList, DeadLetterQuery, DeadLetterSelection, InvocationQuery } from '#contract/events.ts';
import {
  DeadLetterCount,
  DeadLetterDetail as DetailSchema,
  DeadLetterList as ListSchema,
  EventBacklog,
  EventId,
  InvocationList,
  InvocationResult,
  InvocationView,
} from '#contract/events.ts';
import type { Trigger } from '#contract/trigger.ts';
import { TriggerList, TriggerName, TriggerView } from '#contract/trigger.ts';
import type { ApiConnection } from './api-connection.ts';
import { functionRoute, namespaceRoute, queryText } from './api-routes.ts';
import { usageError } from './errors.ts';

export class EventsClient {
  readonly #api: ApiConnection;

  constructor(api: ApiConnection) {
    this.#api = api;
  }

  /** Of a function, or (`name` null) of all functions of the namespace. */
  async triggers(namespace: string, name: string | null): Promise<TriggerView[]> {
    const of = name === null ? namespaceRoute(namespace) : functionRoute(namespace, name);
    return (await this.#api.json({ method: 'GET', path: `${of}/triggers` }, TriggerList)).triggers;
  }

  async trigger(namespace: string, name: string, trigger: string): Promise<TriggerView> {
    return this.#api.json({ method: 'GET', path: triggerRoute(namespace, name, trigger) }, TriggerView);
  }

  /** Adds it, or replaces that of its name. */
  async putTrigger(namespace: string, name: string, trigger: Trigger): Promise<TriggerView> {
    return this.#api.json({ method: 'PUT', path: triggerRoute(namespace, name, trigger.name), json: trigger }, TriggerView);
  }

  async enableTrigger(namespace: string, name: string, trigger: string, enabled: boolean): Promise<TriggerView> {
    return this.#api.json({ method: 'PATCH', path: triggerRoute(namespace, name, trigger), json: { enabled } }, TriggerView);
  }

  async removeTrigger(namespace: string, name: string, trigger: string): Promise<void> {
    await this.#api.done({ method: 'DELETE', path: triggerRoute(namespace, name, trigger) });
  }

  /** The newest first. */
  async invocations(namespace: string, name: string, query: InvocationQuery): Promise<InvocationView[]> {
    const path = `${functionRoute(namespace, name)}/invocations${queryText(query)}`;
    return (await this.#api.json({ method: 'GET', path }, InvocationList)).invocations;
  }

  async invocation(namespace: string, name: string, id: string): Promise<InvocationView> {
    return this.#api.json({ method: 'GET', path: eventRoute(namespace, name, 'invocations', id) }, InvocationView);
  }

  async invocationResult(namespace: string, name: string, id: string): Promise<InvocationResult> {
    return this.#api.json({ method: 'GET', path: `${eventRoute(namespace, name, 'invocations', id)}/result` }, InvocationResult);
  }

  async cancelInvocation(namespace: string, name: string, id: string): Promise<InvocationView> {
    return this.#api.json({ method: 'DELETE', path: eventRoute(namespace, name, 'invocations', id) }, InvocationView);
  }

  async backlog(namespace: string, name: string): Promise<EventBacklog> {
    return this.#api.json({ method: 'GET', path: `${functionRoute(namespace, name)}/backlog` }, EventBacklog);
  }

  /** The newest first. */
  async deadLetters(namespace: string, name: string, query: DeadLetterQuery): Promise<DeadLetterList> {
    return this.#api.json({ method: 'GET', path: `${functionRoute(namespace, name)}/dead-letters${queryText(query)}` }, ListSchema);
  }

  async deadLetter(namespace: string, name: string, id: string): Promise<DeadLetterDetail> {
    return this.#api.json({ method: 'GET', path: eventRoute(namespace, name, 'dead-letters', id) }, DetailSchema);
  }

  /** How many there were. */
  async redrive(namespace: string, name: string, selection: DeadLetterSelection): Promise<number> {
    return this.#select(namespace, name, 'redrive', selection);
  }

  /** How many there were. */
  async purge(namespace: string, name: string, selection: DeadLetterSelection): Promise<number> {
    return this.#select(namespace, name, 'purge', selection);
  }

  async #select(namespace: string, name: string, what: 'redrive' | 'purge', selection: DeadLetterSelection): Promise<number> {
    const path = `${functionRoute(namespace, name)}/dead-letters/${what}`;
    return (await this.#api.json({ method: 'POST', path, json: selection }, DeadLetterCount)).count;
  }
}

/** Throws usageError where no invocation and no dead letter can have this id. */
export function checkedEventId(id: string): string {
  if (EventId.safeParse(id).success) return id;
  throw usageError(`${JSON.stringify(id)} is not an id: it is e- and 24 characters`, 'fn invocation list NAME and fn dlq list show them.');
}

/** Throws usageError where no trigger can have this name. */
export function checkedTriggerName(name: string): string {
  if (TriggerName.safeParse(name).success) return name;
  throw usageError(`${JSON.stringify(name)} is not a trigger's name`, 'fn trigger list shows the names.');
}

const triggerRoute = (namespace: string, name: string, trigger: string): string =>
  `${functionRoute(namespace, name)}/triggers/${checkedTriggerName(trigger)}`;
const eventRoute = (namespace: string, name: string, kind: 'invocations' | 'dead-letters', id: string): string =>
  `${functionRoute(namespace, name)}/${kind}/${checkedEventId(id)}`;
