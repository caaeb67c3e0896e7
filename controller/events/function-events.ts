/** What the dispatcher is told of a function. */
import { DEFAULT_NAMESPACE } from '#contract/names.ts';
import { secretsNeeded } from '#contract/trigger.ts';
import type { FunctionAccess } from '#contract/access.ts';
import type { NamespaceSettings } from '#contract/tenancy.ts';
import type { FunctionEvents } from '../dispatcher/types.ts';
import type { FunctionRecord } from '../store/types.ts';

/** Where triggers of a namespace may dial beside public addresses; null: anywhere. The operator's own namespace may, where nobody said otherwise. */
export function networksOf(namespace: string, settings: NamespaceSettings | null): string[] | null {
  return settings?.networks ?? (namespace === DEFAULT_NAMESPACE ? null : []);
}

/** By what its traffic leads to: the revision with the most time counts for the timeout, the smallest for the slots. */
export function functionEvents(record: FunctionRecord, settings: NamespaceSettings | null): FunctionEvents {
  const { namespace, name, access, traffic, revisions } = record;
  const numbers = new Set(traffic.map((share) => share.revision));
  const serving = revisions.filter((revision) => numbers.has(revision.number)).map((revision) => revision.settings);
  return {
    namespace,
    name,
    async: access.async,
    triggers: access.triggers,
    maxSlots: Math.min(...serving.map(({ max, concurrency }) => max * concurrency)),
    instanceSlots: Math.min(...serving.map(({ concurrency }) => concurrency)),
    timeoutMs: Math.max(...serving.map(({ timeoutSeconds }) => timeoutSeconds * 1_000)),
    networks: networksOf(namespace, settings),
  };
}

/** Names of the secrets that a function's triggers and destinations need. */
export function eventSecrets({ triggers, async: { onSuccess, onFailure } }: Pick<FunctionAccess, 'triggers' | 'async'>): string[] {
  return [...new Set([...triggers, ...onSuccess, ...onFailure].flatMap(secretsNeeded))];
}

/** Has something to do without being called: then a dispatcher must run. */
export const hasTriggers = ({ triggers }: Pick<FunctionEvents, 'triggers'>): boolean =>
  triggers.some((trigger) => trigger.enabled && trigger.type !== 'webhook');
