/**
 * Who of several controllers leads, by a Lease of Kubernetes (coordination.k8s.io/v1), as client-go does it: the record says who
 * holds it, for how long from a renewal on, and how often it has changed hands. Each write replaces the record that was read
 * (resourceVersion), so of two that want it one gets it.
 *
 * Whether it is over is never told by the times in the record, which are other machines' clocks: who waits counts by its own
 * monotonic clock, from when it saw the record change last. So one that has just come waits for a whole term first. So does one
 * that finds the API server again: while it was away, who holds the lease could not renew it, and may lead on (leadership.ts).
 */
import { z } from 'zod';
import type { Clock } from '#kit/clock.ts';
import type { Leadership } from '../store/types.ts';
import { apiVersion } from './resources.ts';
import { type KubeApi, KubeError, KubeUnreachable, type Manifest, ObjectMeta, type Resource } from './types.ts';

const LeaseObject = z.object({
  metadata: ObjectMeta,
  spec: z
    .looseObject({
      holderIdentity: z.string().nullish(),
      leaseDurationSeconds: z.number().nullish(),
      acquireTime: z.string().nullish(),
      renewTime: z.string().nullish(),
      leaseTransitions: z.number().nullish(),
    })
    .prefault({}),
});
type LeaseObject = z.infer<typeof LeaseObject>;

/** Half of what a lease lasts (leadership.ts): who waits longer for one answer has no time left for another, over another connection. */
const TIMEOUT_MS = 3_000;

export const LEASES: Resource<LeaseObject> = {
  group: 'coordination.k8s.io',
  version: 'v1',
  plural: 'leases',
  kind: 'Lease',
  schema: LeaseObject,
  timeoutMs: TIMEOUT_MS,
};

/** Somebody else wrote between our reading and our writing: read again, so often. Two writes a second are many for a Lease. */
const MAX_CONFLICTS = 5;
/** Of a record that does not say for how long it is held: client-go's own, seconds. */
const USUAL_DURATION_SECONDS = 15;
/** An answer that takes so long, ms, says that the API server was away meanwhile: hung, not refusing. */
const AWAY_MS = 2_000;

/** Whether the API server is away as a whole, as far as can be told from here: it cannot be reached, or fails by itself. */
export const isApiServerAway = (error: unknown): boolean =>
  error instanceof KubeUnreachable || (error instanceof KubeError && error.status >= 500);

export interface KubeLeaseOptions {
  api: Pick<KubeApi, 'get' | 'create' | 'replace'>;
  namespace: string;
  /** Made where it is not there. */
  name: string;
  clock: Clock;
}

/** All methods throw KubeError and KubeUnreachable; then nobody knows whether a write was done, and the next call looks. */
export class KubeLease implements Leadership {
  readonly #options: KubeLeaseOptions;
  /** The record as it was seen last, and since when by our clock. */
  #seen = { record: '', at: 0 };
  /** It failed when it was asked last. */
  #away = false;
  /** Renewals in the same millisecond are told apart: a record that does not change is no renewal. */
  #count = 0;

  constructor(options: KubeLeaseOptions) {
    this.#options = options;
  }

  campaign(candidate: string, ttlMs: number): Promise<boolean> {
    return this.#insist(async () => {
      const found = await this.#read();
      const leaseDurationSeconds = Math.ceil(ttlMs / 1_000);
      const renewTime = this.#time();
      if (found === null) {
        await this.#create({ holderIdentity: candidate, leaseDurationSeconds, acquireTime: renewTime, renewTime, leaseTransitions: 0 });
        return true;
      }
      const { spec } = found;
      const mine = spec.holderIdentity === candidate;
      if (!mine && this.#holder(found) !== null) return false;
      const taken = mine ? {} : { acquireTime: renewTime, leaseTransitions: (spec.leaseTransitions ?? 0) + 1 };
      await this.#replace(found, { ...taken, holderIdentity: candidate, leaseDurationSeconds, renewTime });
      return true;
    });
  }

  async resign(candidate: string): Promise<void> {
    await this.#insist(async () => {
      const found = await this.#read();
      if (found?.spec.holderIdentity !== candidate) return;
      // As client-go gives it up: nobody holds it, and who does not know what that means waits a second only.
      await this.#replace(found, { holderIdentity: '', leaseDurationSeconds: 1, renewTime: this.#time() });
    });
  }

  async leader(): Promise<string | null> {
    const found = await this.#read();
    return found === null ? null : this.#holder(found);
  }

  /** Who holds it and has been seen to renew it within its time; null: nobody. */
  #holder({ spec }: LeaseObject): string | null {
    const holder = spec.holderIdentity ?? '';
    const ttlMs = (spec.leaseDurationSeconds ?? USUAL_DURATION_SECONDS) * 1_000;
    return holder === '' || this.#options.clock.now() >= this.#seen.at + ttlMs ? null : holder;
  }

  /** null: there is none. */
  async #read(): Promise<LeaseObject | null> {
    const { api, namespace, name, clock } = this.#options;
    const asked = clock.now();
    try {
      const found = await api.get(LEASES, namespace, name);
      if (this.#away || clock.now() - asked >= AWAY_MS) this.#seen.at = clock.now();
      this.#away = false;
      this.#observe(found);
      return found;
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return null;
      this.#away ||= isApiServerAway(error);
      throw error;
    }
  }

  /** Not the resourceVersion: who labels the object has not renewed it. */
  #observe({ metadata, spec }: LeaseObject): void {
    const { holderIdentity, leaseDurationSeconds, acquireTime, renewTime, leaseTransitions } = spec;
    const record = JSON.stringify([metadata.uid, holderIdentity, leaseDurationSeconds, acquireTime, renewTime, leaseTransitions]);
    if (record !== this.#seen.record) this.#seen = { record, at: this.#options.clock.now() };
  }

  async #create(spec: Record<string, unknown>): Promise<void> {
    const { api, namespace, name } = this.#options;
    this.#observe(await api.create(LEASES, namespace, { ...this.#head(), metadata: { name, namespace }, spec }));
  }

  async #replace(found: LeaseObject, change: Record<string, unknown>): Promise<void> {
    const { api, namespace, name } = this.#options;
    const manifest: Manifest = { ...this.#head(), metadata: found.metadata, spec: { ...found.spec, ...change } };
    this.#observe(await api.replace(LEASES, namespace, name, manifest));
  }

  #head(): { apiVersion: string; kind: string } {
    return { apiVersion: apiVersion(LEASES), kind: LEASES.kind };
  }

  /** Conflict: it has changed since it was read, or has been made. What is to be done then, the next reading says. */
  async #insist<T>(attempt: () => Promise<T>): Promise<T> {
    for (let conflicts = 0; ; conflicts += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof KubeError) || error.status !== 409 || conflicts >= MAX_CONFLICTS) throw error;
      }
    }
  }

  /** RFC 3339 with microseconds, as the API wants it. */
  #time(): string {
    this.#count = (this.#count + 1) % 1_000;
    return `${new Date(this.#options.clock.wall()).toISOString().slice(0, -1)}${String(this.#count).padStart(3, '0')}Z`;
  }
}
