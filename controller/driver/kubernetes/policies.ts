/**
 * What instances may dial, as NetworkPolicies: for clusters whose network enforces them. All instances may dial nothing; those
 * labelled `internet` what is public; each different list of networks has a policy of its own, which all functions with that
 * list share and which is removed when none has used it for a while.
 */
import { shortHash } from '#kit/ids.ts';
import type { Clock } from '#kit/clock.ts';
import { apiVersion, NETWORK_POLICIES } from '../../kube/resources.ts';
import type { KubernetesSettings } from '../../kube/settings.ts';
import { KubeError, type KubeApi, type Manifest } from '../../kube/types.ts';
import { NEVER, PRIVATE, contains } from '../networks.ts';
import { ANNOTATIONS, LABELS } from './labels.ts';

/** A list that nobody has used for so long goes, ms: what is deployed again and again does not make it anew each time. */
const UNUSED_MS = 600_000;

/** All that is public in IPv6, and what of it leads to IPv4 addresses (Teredo, 6to4) or is for documents only. */
const PUBLIC_V6 = '2000::/3';
const NOT_PUBLIC_V6 = ['2001::/32', '2001:db8::/32', '2002::/16'] as const;

/** Where a cluster's DNS is: the usual label of its pods, and the usual address of a cache on each node. */
const DNS = {
  to: [{ namespaceSelector: {}, podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } }, { ipBlock: { cidr: '169.254.20.10/32' } }],
  ports: [
    { protocol: 'UDP', port: 53 },
    { protocol: 'TCP', port: 53 },
  ],
};

type Owner = { name: string; uid: string };

/** The label's value of a list of networks: the same for equal lists, in whatever order. */
export const egressHash = (networks: readonly string[]): string => shortHash(JSON.stringify([...new Set(networks)].toSorted()), 16);

/** Policies that hold for all instances, by the value of their label `fn.dev/egress` (`deny`: for all). */
export function basePolicies(settings: KubernetesSettings, owner: Owner): Manifest[] {
  const internal = settings.internalCidrs;
  const isV6 = (cidr: string) => cidr.includes(':');
  const v4 = [...NEVER, ...PRIVATE, ...internal.filter((cidr) => !isV6(cidr))];
  // Others are no part of it to begin with.
  const v6 = [...NOT_PUBLIC_V6, ...internal.filter((cidr) => isV6(cidr) && /^[23][0-9a-f]{3}:/i.test(cidr))];
  const anywhere = [{ ipBlock: { cidr: '0.0.0.0/0', except: v4 } }, { ipBlock: { cidr: PUBLIC_V6, except: v6 } }];
  return [
    policy(settings, owner, 'deny', { matchExpressions: [{ key: LABELS.instance, operator: 'Exists' }] }, []),
    policy(settings, owner, 'internet', { matchLabels: { [LABELS.egress]: 'internet' } }, [DNS, { to: anywhere }]),
  ];
}

/** The policy of a list. What is never to be dialled is not, also where it is listed. */
export function listPolicy(settings: KubernetesSettings, owner: Owner, networks: readonly string[]): Manifest {
  const hash = egressHash(networks);
  const blocks = [...new Set(networks)].toSorted().flatMap((cidr) => {
    const block = cidr.includes('/') ? cidr : `${cidr}/32`;
    if (NEVER.some((never) => contains(never, block))) return [];
    const except = NEVER.filter((never) => contains(block, never));
    return [{ ipBlock: { cidr: block, ...(except.length === 0 ? {} : { except }) } }];
  });
  const rules = [DNS, ...(blocks.length === 0 ? [] : [{ to: blocks }])];
  const made = policy(settings, owner, hash, { matchLabels: { [LABELS.egress]: hash } }, rules);
  return { ...made, metadata: { ...made.metadata, annotations: { [ANNOTATIONS.networks]: networks.join(',') } } };
}

function policy(settings: KubernetesSettings, owner: Owner, name: string, selector: Record<string, unknown>, egress: unknown[]): Manifest {
  const { installation, namespace } = settings;
  const labels = { [LABELS.installation]: installation };
  const matchLabels = Object.hasOwn(selector, 'matchLabels') ? Object(selector.matchLabels) : {};
  return {
    apiVersion: apiVersion(NETWORK_POLICIES),
    kind: NETWORK_POLICIES.kind,
    metadata: {
      name: policyName(installation, name),
      namespace,
      labels: { ...labels, 'app.kubernetes.io/managed-by': 'fn', [LABELS.egress]: name },
      ownerReferences: [{ apiVersion: 'v1', kind: 'ConfigMap', name: owner.name, uid: owner.uid, blockOwnerDeletion: false }],
    },
    spec: { podSelector: { ...selector, matchLabels: { ...labels, ...matchLabels } }, policyTypes: ['Egress'], egress },
  };
}

export const policyName = (installation: string, name: string): string => `fn-${installation}-egress-${name}`;

export interface PoliciesOptions {
  api: KubeApi;
  settings: KubernetesSettings;
  clock: Clock;
  /** Label values of all instances that are there. */
  inUse: () => ReadonlySet<string>;
}

export class Policies {
  readonly #options: PoliciesOptions;
  #owner: Owner = { name: '', uid: '' };
  /** Those that are there, with when they were last used. */
  readonly #there = new Map<string, number>();
  /** What is being done to one of them: one thing after another. */
  readonly #busy = new Map<string, Promise<void>>();

  constructor(options: PoliciesOptions) {
    this.#options = options;
  }

  /** Makes what all instances need, and looks up which lists are there. */
  async start(owner: Owner): Promise<void> {
    this.#owner = owner;
    await this.look();
  }

  /** Resolves when the list has its policy; returns the label's value. */
  async ensure(networks: readonly string[]): Promise<string> {
    const hash = egressHash(networks);
    await this.#alone(hash, async () => {
      if (!this.#there.has(hash)) await this.#create(listPolicy(this.#options.settings, this.#owner, networks));
      this.#there.set(hash, this.#options.clock.now());
    });
    return hash;
  }

  /** Puts back what others removed, and removes what nobody has used for a while. */
  async look(): Promise<void> {
    const { api, settings, clock, inUse } = this.#options;
    const { items } = await api.list(NETWORK_POLICIES, settings.namespace, { labels: `${LABELS.installation}=${settings.installation}` });
    const found = new Map(items.map((item) => [item.metadata.labels[LABELS.egress] ?? '', item]));
    for (const base of basePolicies(settings, this.#owner)) {
      const spec: unknown = Reflect.get(base, 'metadata');
      const name = String(Reflect.get(Object(Reflect.get(Object(spec), 'labels')), LABELS.egress));
      if (!found.has(name)) await this.#create(base);
      found.delete(name);
    }
    for (const hash of this.#there.keys()) if (!found.has(hash) && !this.#busy.has(hash)) this.#there.delete(hash);
    const used = inUse();
    for (const [hash, { metadata }] of found) {
      if (used.has(hash) || !this.#there.has(hash)) this.#there.set(hash, clock.now());
      else if (clock.now() - (this.#there.get(hash) ?? 0) > UNUSED_MS) await this.#remove(hash, metadata);
    }
    // Of one that is used and was deleted by others, the networks are not known here: its functions dial nothing until they are claimed anew.
  }

  async destroyAll(): Promise<void> {
    const { api, settings } = this.#options;
    const { items } = await api.list(NETWORK_POLICIES, settings.namespace, { labels: `${LABELS.installation}=${settings.installation}` });
    for (const { metadata } of items) await this.#delete(metadata);
    this.#there.clear();
  }

  async #remove(hash: string, metadata: { name: string; uid: string }): Promise<void> {
    await this.#alone(hash, async () => {
      const { inUse, clock } = this.#options;
      // Somebody may have asked for it just now, and not have claimed yet.
      if (inUse().has(hash) || clock.now() - (this.#there.get(hash) ?? 0) <= UNUSED_MS) return;
      this.#there.delete(hash);
      await this.#delete(metadata);
    });
  }

  async #delete({ name, uid }: { name: string; uid: string }): Promise<void> {
    const { api, settings } = this.#options;
    await api.delete(NETWORK_POLICIES, settings.namespace, name, { uid }).catch((error: unknown) => {
      if (!(error instanceof KubeError) || error.reason !== 'NotFound') throw error;
    });
  }

  async #create(manifest: Manifest): Promise<void> {
    const { api, settings } = this.#options;
    await api.create(NETWORK_POLICIES, settings.namespace, manifest).catch((error: unknown) => {
      if (!(error instanceof KubeError) || error.reason !== 'AlreadyExists') throw error;
    });
  }

  async #alone(hash: string, act: () => Promise<void>): Promise<void> {
    const before = this.#busy.get(hash) ?? Promise.resolve();
    const mine = before.catch(() => {}).then(act);
    this.#busy.set(hash, mine);
    try {
      await mine;
    } finally {
      if (this.#busy.get(hash) === mine) this.#busy.delete(hash);
    }
  }
}
