/** Tenants: namespaces with their quotas and hosts, and the tokens. What others ask of them is answered from memory. */
import { FnError } from '#contract/errors.ts';
import type { InvokeToken, NamespaceLimits } from '#contract/link.ts';
import { DEFAULT_NAMESPACE } from '#contract/names.ts';
import {
  type CreateTokenRequest,
  type CreateTokenResponse,
  covers,
  NamespaceSettings,
  type NamespaceView,
  NO_QUOTA,
  type Principal,
  type Quota,
  type TokenView,
} from '#contract/tenancy.ts';
import type { Clock } from '#kit/clock.ts';
import type { FunctionRecord, Store } from '../store/types.ts';
import { hostConflict } from './hosts.ts';
import { Tokens } from './tokens.ts';

/** Namespaces that can be set: gateways hear of all of them at once. */
const MAX_NAMESPACES = 10_000;

/** What nobody has set. */
const NOT_SET: NamespaceSettings = NamespaceSettings.parse({});

export interface TenantsOptions {
  store: Pick<
    Store,
    'listNamespaces' | 'putNamespace' | 'deleteNamespace' | 'addToken' | 'listTokens' | 'revokeToken' | 'listFunctions' | 'listSecrets'
  >;
  clock: Clock;
  /** The home's own token, where the API is to be reached over TCP. */
  homeToken: string | null;
}

/** A part of the platform that wants to know what instances take. */
export type MemoryUsage = () => Promise<ReadonlyMap<string, number>>;

/** The Tenants that the API speaks to, and the engine's view of them. */
export class Tenants {
  readonly #options: TenantsOptions;
  readonly #tokens: Tokens;
  readonly #namespaces = new Map<string, NamespaceSettings>();
  readonly #listeners: (() => void | Promise<void>)[] = [];
  #memoryUsage: MemoryUsage = async () => new Map();

  private constructor(options: TenantsOptions) {
    this.#options = options;
    this.#tokens = new Tokens(options);
  }

  /** Reads all that there is. */
  static async open(options: TenantsOptions): Promise<Tenants> {
    const tenants = new Tenants(options);
    await tenants.#tokens.load();
    for (const { name, settings } of await options.store.listNamespaces()) tenants.#namespaces.set(name, settings);
    return tenants;
  }

  /** Where the memory of instances is asked for, MiB by namespace; until it is told, they take none. */
  measureWith(memoryUsage: MemoryUsage): void {
    this.#memoryUsage = memoryUsage;
  }

  /** Called after quotas, hosts or tokens have changed; the change is answered when the listener is through. */
  onChange(listener: () => void | Promise<void>): void {
    this.#listeners.push(listener);
  }

  async #changed(): Promise<void> {
    for (const listener of this.#listeners) await listener();
  }

  /** Namespaces that were set, by name. */
  namespaces(): { name: string; settings: NamespaceSettings }[] {
    return [...this.#namespaces].map(([name, settings]) => ({ name, settings })).toSorted((a, b) => compare(a.name, b.name));
  }

  /** What was set of a namespace; null: nothing was. */
  settings(namespace: string): NamespaceSettings | null {
    return this.#namespaces.get(namespace) ?? null;
  }

  quota(namespace: string): Quota {
    return this.#namespaces.get(namespace)?.quota ?? NO_QUOTA;
  }

  /** What gateways keep: only namespaces that have such a limit, and tokens that may invoke. */
  gatewaySettings(): { limits: NamespaceLimits[]; tokens: InvokeToken[] } {
    const limits = this.namespaces().flatMap(({ name, settings: { quota } }) => {
      const { concurrency, requestsPerSecond } = quota;
      return concurrency === null && requestsPerSecond === null ? [] : { namespace: name, concurrency, requestsPerSecond };
    });
    return { limits, tokens: this.#tokens.forGateways() };
  }

  authenticate(authorization: string | undefined): Principal | null {
    return this.#tokens.authenticate(authorization);
  }

  async createToken(by: Principal, request: CreateTokenRequest): Promise<CreateTokenResponse> {
    const created = await this.#tokens.create(by, request);
    await this.#changed();
    return created;
  }

  async listTokens(by: Principal): Promise<TokenView[]> {
    return this.#tokens.list(by);
  }

  async revokeToken(by: Principal, id: string): Promise<TokenView> {
    const revoked = await this.#tokens.revoke(by, id);
    await this.#changed();
    return revoked;
  }

  async listNamespaces(by: Principal): Promise<NamespaceView[]> {
    const { views } = await this.#survey();
    return [...views.values()].filter((view) => covers(by.namespaces, view.name)).toSorted((a, b) => compare(a.name, b.name));
  }

  async getNamespace(name: string): Promise<NamespaceView> {
    const view = (await this.#survey()).views.get(name);
    if (view === undefined) throw notFound(name);
    return view;
  }

  async putNamespace(name: string, settings: NamespaceSettings): Promise<NamespaceView> {
    if (!this.#namespaces.has(name) && this.#namespaces.size >= MAX_NAMESPACES)
      throw new FnError('conflict', `There are ${MAX_NAMESPACES} namespaces, which is the most: delete some.`);
    const { store } = this.#options;
    const functions = await store.listFunctions();
    const others = this.namespaces().flatMap((one) => (one.name === name ? [] : { name: one.name, hosts: one.settings.hosts }));
    const conflict = hostConflict({ name, hosts: settings.hosts }, others, functions);
    if (conflict !== null) throw new FnError('conflict', conflict);
    await store.putNamespace(name, settings);
    this.#namespaces.set(name, settings);
    await this.#changed();
    return this.getNamespace(name);
  }

  async deleteNamespace(name: string): Promise<void> {
    const { store } = this.#options;
    const { views } = await this.#survey();
    const view = views.get(name);
    if (view === undefined) throw notFound(name);
    if (name === DEFAULT_NAMESPACE)
      throw new FnError('conflict', `The namespace ${name} is always there: set it to change its quota or its hosts.`);
    const secrets = (await store.listSecrets(name)).length;
    if (view.usage.functions > 0 || secrets > 0)
      throw new FnError(
        'conflict',
        `The namespace ${name} has ${view.usage.functions} functions and ${secrets} secrets: delete them first.`,
      );
    await store.deleteNamespace(name);
    this.#namespaces.delete(name);
    await this.#changed();
  }

  /** Every namespace that was set or has something in it; the default one always. */
  async #survey(): Promise<{ views: Map<string, NamespaceView> }> {
    const { store } = this.#options;
    const [functions, secrets, memory] = await Promise.all([store.listFunctions(), store.listSecrets(), this.#memoryUsage()]);
    const counts = countBy(functions);
    const names = new Set([DEFAULT_NAMESPACE, ...this.#namespaces.keys(), ...counts.keys(), ...secrets.map(({ namespace }) => namespace)]);
    const views = [...names].map((name): [string, NamespaceView] => {
      const settings = this.#namespaces.get(name) ?? NOT_SET;
      return [name, { ...settings, name, usage: { functions: counts.get(name) ?? 0, memoryMib: memory.get(name) ?? 0 } }];
    });
    return { views: new Map(views) };
  }
}

const notFound = (name: string) => new FnError('namespace-not-found', `There is no namespace ${name}.`);

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function countBy(functions: readonly FunctionRecord[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { namespace } of functions) counts.set(namespace, (counts.get(namespace) ?? 0) + 1);
  return counts;
}
