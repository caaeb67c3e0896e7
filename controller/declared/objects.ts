/** The objects as they are known, by the function that each declares: several may want the same one. */
import { FunctionName } from '#contract/names.ts';
import type { KubernetesSettings } from '../kube/settings.ts';
import type { Target } from './apply.ts';
import { byAge, type FunctionObject } from './resource.ts';

/** What an object declares; or why that is nothing. */
export type Claim = { target: Target } | { refused: { reason: string; message: string } };

/** Of what declares nothing: no name of a function looks like it. */
const REFUSED = '!';

export class DeclaredObjects {
  readonly #mapping: KubernetesSettings['declared'];
  readonly #keys = new Map<string, string>();
  readonly #claims = new Map<string, Map<string, FunctionObject>>();

  constructor(mapping: KubernetesSettings['declared']) {
    this.#mapping = mapping;
  }

  get(uid: string): FunctionObject | undefined {
    return this.#claims.get(this.#keys.get(uid) ?? '')?.get(uid);
  }

  /** Returns the keys that it concerns: what it declares now, and what it declared before. */
  set(object: FunctionObject): string[] {
    const { uid } = object.metadata;
    const before = this.delete(object);
    const key = this.keyOf(object);
    this.#keys.set(uid, key);
    const claims = this.#claims.get(key) ?? new Map<string, FunctionObject>();
    this.#claims.set(key, claims.set(uid, object));
    return [...new Set([key, ...before])];
  }

  /** Returns the key that it concerned. */
  delete({ metadata: { uid } }: FunctionObject): string[] {
    const key = this.#keys.get(uid);
    if (key === undefined) return [];
    this.#keys.delete(uid);
    const claims = this.#claims.get(key);
    claims?.delete(uid);
    if (claims?.size === 0) this.#claims.delete(key);
    return [key];
  }

  /** Those that declare it, the oldest first. One that is being deleted declares nothing. */
  claims(key: string): FunctionObject[] {
    return [...(this.#claims.get(key)?.values() ?? [])].filter(({ metadata }) => metadata.deletionTimestamp === undefined).sort(byAge);
  }

  /** Of all objects of a namespace of the cluster. */
  keysIn(kubeNamespace: string): string[] {
    return [...this.#claims]
      .filter(([, claims]) => [...claims.values()].some(({ metadata }) => metadata.namespace === kubeNamespace))
      .map(([key]) => key);
  }

  keyOf(object: FunctionObject): string {
    const claim = this.claimOf(object);
    if ('target' in claim) return `${claim.target.namespace}/${claim.target.name}`;
    return `${REFUSED}${object.metadata.namespace}/${object.metadata.name}`;
  }

  /** Namespaces of fn that a namespace of the cluster may declare functions in; the first is meant where an object names none. */
  allowed(kubeNamespace: string | undefined): string[] {
    return this.#mapping.filter((one) => one.kubeNamespace === kubeNamespace).map(({ namespace }) => namespace);
  }

  claimOf({ metadata, fields }: FunctionObject): Claim {
    const allowed = this.allowed(metadata.namespace);
    const wanted = fields.namespace ?? allowed[0];
    if (typeof wanted !== 'string' || !allowed.includes(wanted)) {
      const message = `/spec/namespace: functions of the namespace ${metadata.namespace} of the cluster are declared in ${allowed.join(' or ')} only`;
      return { refused: { reason: 'NamespaceNotAllowed', message } };
    }
    const name = FunctionName.safeParse(metadata.name);
    if (!name.success)
      return {
        refused: { reason: 'InvalidName', message: `/metadata/name: ${name.error.issues[0]?.message ?? 'is no name of a function'}` },
      };
    return { target: { namespace: wanted, name: name.data } };
  }
}

/** The function of a key; null where what has it declares none. */
export function targetOf(key: string): Target | null {
  if (key.startsWith(REFUSED)) return null;
  const slash = key.indexOf('/');
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
