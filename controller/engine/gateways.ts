/**
 * What gateways and controller say to each other, and what it means: the rules of docs/leases.md.
 * Section numbers in brackets are those of that file.
 */
import type { CallRecord } from '#contract/call.ts';
import type { CountsBatch } from '#contract/stats.ts';
import type { Certificate, GatewayMessage, Lease, Route } from '#contract/link.ts';
import { newLeaseId } from '#kit/ids.ts';
import { leasedSlots, revisionOf, type Instance, type RevisionState } from '../core/world.ts';
import { type EngineContext, type GoneCause, type StartFailure } from './context.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { Hello, Link, LinkEvents } from './link-server.ts';
import { Recalls } from './recall.ts';
import { REVOKE_GRACE_MS, Suspects } from './suspects.ts';
import { startInfo, startProblem } from './start-info.ts';

/** [12] A gateway whose link is down for so long is lost. */
export const GATEWAY_LOST_MS = 5_000;
/** How often a gateway whose link is down is looked for by its pid. */
const PID_CHECK_MS = 100;
/** [15] How long the gateways may take to acknowledge routes. */
const ROUTED_TIMEOUT_MS = 2_000;
/** [8] Where shares are only moved from one gateway to another, the one that gives has this long, or as long as a stream may last. */
const REBALANCE_DEADLINE_MS = 30_000;
interface Gateway {
  key: string;
  link: Link | null;
  /** Newest version of the routes that it acknowledged. */
  routed: number;
  cancelLost: () => void;
}

export class Gateways implements LinkEvents {
  readonly #context: EngineContext;
  readonly #changed: () => void;
  readonly #recalls: Recalls;
  readonly #suspects: Suspects;
  readonly #gateways = new Map<string, Gateway>();
  readonly #routes = new Map<string, Route>();
  #routesJson: string | null = null;
  #version = 0;
  #inventoryDone = false;
  #early: [Link, Hello][] = [];
  #onRouted = new Set<() => void>();

  constructor(context: EngineContext, lifecycle: Lifecycle, changed: () => void) {
    this.#context = context;
    this.#changed = changed;
    this.#recalls = new Recalls(context.clock);
    const revoke = (instance: Instance) => this.revokeInstance(instance);
    const drainedItself = (instance: Instance) => this.onDrainedItself(instance);
    this.#suspects = new Suspects({ context, lifecycle, revoke, drainedItself, changed });
  }

  /** Has what is in flight on an instance end, and kills it. Nothing where it is not there. */
  drain(id: string, cause: GoneCause, detail: string): void {
    this.#suspects.drain(id, cause, detail);
  }

  /** State of a revision that somebody asks for; null where it is not kept. */
  wake: (revision: string) => RevisionState | null = () => null;

  /** Hears of a gateway that came back with leases of instances that have the old value of a secret [18]. */
  onStaleHeld: () => void = () => {};

  /** Hears of an instance that takes no more requests, though nobody told it so. */
  onDrainedItself: (instance: Instance) => void = () => {};

  /** Certificates that gateways get. */
  certificates: () => Certificate[] = () => [];

  /** Hears of requests that are over, as gateways tell of them. */
  onCalls: (calls: CallRecord[], skipped: number) => void = () => {};

  /** Hears what gateways counted of requests. */
  onCounted: (gateway: string, batch: CountsBatch) => void = () => {};

  /** A batch of a gateway is kept for good. One that is not connected sends it again. */
  acknowledgeCounts(gateway: string, seq: number): void {
    this.#gateways.get(gateway)?.link?.send({ type: 'counted', seq });
  }

  /** Hears that a gateway has an event and no dispatcher. */
  onEventsWanted: () => void = () => {};

  /** What the gateways remember of a request. */
  recall(id: string): Promise<CallRecord[]> {
    return this.#recalls.ask(this.connected, id);
  }

  /** Has the gateways tell of the requests that are over; `onCalls` has heard of them when it resolves. */
  flushCalls(): Promise<void> {
    return this.#recalls.flush(() => this.connected);
  }

  get connected(): Link[] {
    return [...this.#gateways.values()].flatMap((gateway) => (gateway.link ? [gateway.link] : []));
  }

  /** [3] From now on hellos are answered; those that came early, now. */
  inventoryDone(routes: Route[]): void {
    for (const route of routes) this.#routes.set(`${route.namespace}/${route.name}`, route);
    this.#version = 1;
    this.#inventoryDone = true;
    for (const [link, hello] of this.#early) this.#welcome(link, hello);
    this.#early = [];
  }

  onHello(link: Link, hello: Hello): void {
    if (this.#inventoryDone) this.#welcome(link, hello);
    else this.#early.push([link, hello]);
  }

  #welcome(link: Link, hello: Hello): void {
    const { world, clock, log } = this.#context;
    this.#gateways.get(link.key)?.cancelLost();
    const gateway: Gateway = { key: link.key, link, routed: 0, cancelLost: () => {} };
    this.#gateways.set(link.key, gateway);
    world.forgetDemand(link.key);
    const held = new Map(hello.held.map((lease) => [lease.lease, lease]));
    for (const instance of world.instances.values()) {
      for (const lease of instance.leases.values()) {
        if (lease.gateway === link.key && (!held.has(lease.id) || lease.state === 'revoking')) world.release(lease.id, clock.now());
      }
    }
    const keep: string[] = [];
    const drop: string[] = [];
    for (const lease of held.values()) (this.#keeps(link.key, lease) ? keep : drop).push(lease.lease);
    link.welcome({ type: 'welcome', keep, drop, version: this.#version }, this.#allRoutes());
    // A revoke that it has not heard: its share may have been granted on since.
    for (const id of keep) {
      const kept = world.findLease(id);
      if (kept && kept.slots < (held.get(id)?.slots ?? 0)) link.send({ type: 'revoke', lease: id, slots: kept.slots, deadlineMs: 0 });
    }
    link.send({ type: 'certificates', certificates: this.certificates() });
    this.#sendSettings();
    log.info({ gateway: link.key, pid: link.pid, kept: keep.length, dropped: drop.length }, 'a gateway is here');
    if (keep.some((id) => world.instances.get(world.leaseIndex.get(id) ?? '')?.stale)) this.onStaleHeld();
    this.#changed();
  }

  /**
   * Each keeps its share of a limit, so all must know how many there are. One that is being replaced and its successor
   * count once; one whose link is down serves on, and counts until it is lost [12, 13].
   */
  #sendSettings(): void {
    const gateways = Math.max(1, new Set([...this.#gateways.keys()].map((key) => key.slice(0, key.lastIndexOf('/')))).size);
    const { limits, tokens } = this.#context.tenancy.gatewaySettings();
    for (const link of this.connected) link.send({ type: 'settings', gateways, limits, tokens });
  }

  /** Limits or tokens have changed. Resolves when the connected gateways have heard, or after 2 s. */
  async settingsChanged(): Promise<void> {
    if (!this.#inventoryDone) return;
    this.#sendSettings();
    // What is acknowledged comes after what was sent before it.
    await this.route([], []);
  }

  certificatesChanged(): void {
    const certificates = this.certificates();
    for (const link of this.connected) link.send({ type: 'certificates', certificates });
  }

  /** All routes as JSON, some MB, made once for all gateways that come between two changes. */
  #allRoutes(): string {
    return (this.#routesJson ??= JSON.stringify([...this.#routes.values()]));
  }

  /** [3] Kept is what is alive, recorded, routed and fits. */
  #keeps(gateway: string, lease: Lease): boolean {
    const { world } = this.#context;
    const known = world.findLease(lease.lease);
    if (known) return known.gateway === gateway && known.state === 'granted';
    const instance = world.instances.get(lease.instance);
    if (!instance || instance.state.kind !== 'ready' || instance.state.revision !== lease.revision) return false;
    if (!world.revisions.get(lease.revision)?.routed) return false;
    if (leasedSlots(instance) + lease.slots > world.capacityOf(instance)) return false;
    world.grant(instance, lease.lease, gateway, lease.slots);
    return true;
  }

  onClose(link: Link): void {
    this.#early = this.#early.filter(([other]) => other !== link);
    const gateway = this.#gateways.get(link.key);
    if (gateway?.link !== link) return;
    gateway.link = null;
    const { world, clock } = this.#context;
    // Nothing can be granted to it now; it asks again when it is back [5].
    world.forgetDemand(link.key);
    const lostAt = clock.now() + GATEWAY_LOST_MS;
    const check = () => {
      if (clock.now() >= lostAt || (link.pid !== null && !processExists(link.pid))) this.#lost(gateway);
      else gateway.cancelLost = clock.after(PID_CHECK_MS, check);
    };
    check();
    this.#notifyRouted();
    this.#changed();
  }

  /** [12] */
  #lost(gateway: Gateway): void {
    this.#gateways.delete(gateway.key);
    const held = this.#context.world.dropGateway(gateway.key, this.#context.clock.now());
    this.#context.log.warn({ gateway: gateway.key, instances: held.length }, 'a gateway is gone; its leases are free');
    this.#sendSettings();
    this.#changed();
  }

  onMessage(link: Link, message: Exclude<GatewayMessage, Hello>): void {
    const { world, clock } = this.#context;
    // Of a link that its gateway has replaced by a newer one nothing counts any more.
    if (this.#gateways.get(link.key)?.link !== link) return;
    switch (message.type) {
      case 'want':
        this.#want(link, message);
        break;
      case 'release':
        if (world.findLease(message.lease)?.gateway === link.key) {
          world.shrink(message.lease, message.slots ?? 0, clock.now());
          this.#changed();
        }
        break;
      case 'suspect':
        void this.#suspects.suspect(link, message.instance, message.reason);
        break;
      case 'timeout':
        void this.#suspects.timedOut(message.instance, message.request);
        break;
      case 'calls':
        this.onCalls(message.calls, message.skipped);
        if (message.counted !== undefined) this.onCounted(link.key, message.counted);
        break;
      case 'events':
        this.onEventsWanted();
        break;
      case 'recalled':
        this.#recalls.answered(link, message.id, message.calls);
        break;
      case 'routed': {
        const gateway = this.#gateways.get(link.key);
        if (gateway) gateway.routed = Math.max(gateway.routed, message.version);
        this.#notifyRouted();
        break;
      }
    }
  }

  #want(link: Link, message: Extract<GatewayMessage, { type: 'want' }>): void {
    const { world, clock } = this.#context;
    // A `want` of nothing wakes nobody.
    const asleep = message.waiting + message.inFlight > 0 ? this.wake(message.revision) : null;
    const revision = world.revisions.get(message.revision) ?? asleep;
    if (!revision?.routed) {
      // It routes by an older version; the newer one is on its way and resolves these waiters again.
      return;
    }
    world.setDemand(revision, link.key, message, clock.now());
    if (message.waiting > 0 && revision.problem && clock.now() < revision.notBefore && !world.canServe(revision.key))
      this.#fail(link, revision);
    this.#changed();
  }

  #fail(link: Link, revision: RevisionState): void {
    const { clock } = this.#context;
    const retryAfterSeconds = Math.max(1, Math.ceil((revision.notBefore - clock.now()) / 1_000));
    link.send({ type: 'fail', revision: revision.key, problem: revision.problem!, retryAfterSeconds });
  }

  /** Waiters of this revision fail now, rather than at their deadline; not where instances are there that can serve them. */
  failWaiters(revision: RevisionState, failure: StartFailure): void {
    revision.problem = startProblem(revision, failure);
    this.#context.world.touch(revision.key);
    if (this.#context.world.canServe(revision.key)) return;
    for (const [key, demand] of revision.demand) {
      const link = this.#gateways.get(key)?.link;
      if (demand.waiting === 0 || !link) continue;
      this.#fail(link, revision);
      demand.waiting = 0;
      demand.since = null;
    }
  }

  /** [6] Recorded, then sent. */
  grant(instance: Instance, gateway: string, slots: number): void {
    const { world } = this.#context;
    const link = this.#gateways.get(gateway)?.link;
    const revision = world.revisions.get(revisionOf(instance) ?? '');
    if (!link || !revision || !instance.address) return;
    const start = startInfo(world, instance, revision, gateway);
    const lease = world.grant(instance, newLeaseId(), gateway, slots);
    link.send({
      type: 'grant',
      lease: { lease: lease.id, instance: instance.id, revision: revision.key, address: instance.address, slots },
      start,
    });
  }

  /** [8] */
  revoke(leaseId: string, keeps: number, deadlineMs = this.#longest(leaseId)): void {
    const { world, clock } = this.#context;
    const lease = world.revoke(leaseId, keeps, clock.now() + deadlineMs + REVOKE_GRACE_MS);
    if (!lease) return;
    this.#gateways.get(lease.gateway)?.link?.send({ type: 'revoke', lease: leaseId, slots: keeps, deadlineMs });
  }

  #longest(leaseId: string): number {
    const { world } = this.#context;
    const instance = world.instances.get(world.leaseIndex.get(leaseId) ?? '');
    const settings = world.revisions.get((instance && revisionOf(instance)) ?? '')?.revision.settings;
    return Math.max(REBALANCE_DEADLINE_MS, (settings?.maxStreamSeconds ?? 0) * 1_000);
  }

  /** Takes back every lease of a revision; what is in flight may end on it. */
  revokeRevision(revision: string): void {
    for (const instance of this.#context.world.instancesOf(revision)) this.revokeInstance(instance);
  }

  /** Takes back every lease of an instance; what is in flight may end on it, within the milliseconds that are returned. */
  revokeInstance(instance: Instance): number {
    const deadlineMs = this.#drainMs(instance);
    for (const lease of instance.leases.values()) this.revoke(lease.id, 0, deadlineMs);
    return deadlineMs;
  }

  /** What is in flight has so long: requests the timeout of their function, WebSockets and event streams what this host gives them. */
  #drainMs(instance: Instance): number {
    const { world, settings } = this.#context;
    const revision = world.revisions.get(revisionOf(instance) ?? '');
    return Math.max((revision?.revision.settings.timeoutSeconds ?? 0) * 1_000, settings.streamDrainMs);
  }

  /** [9] */
  gone(instance: Instance, holders: Set<string>, cause: GoneCause, detail: string): void {
    for (const key of holders) this.#gateways.get(key)?.link?.send({ type: 'gone', instance: instance.id, cause, detail });
  }

  /** [15] Changes the routes everywhere; resolves when all connected gateways route by them, or after 2 s. */
  async route(set: Route[], remove: { namespace: string; name: string }[]): Promise<void> {
    this.#routesJson = null;
    for (const route of set) this.#routes.set(`${route.namespace}/${route.name}`, route);
    for (const { namespace, name } of remove) this.#routes.delete(`${namespace}/${name}`);
    const version = (this.#version += 1);
    for (const link of this.connected) link.send({ type: 'routes', version, set, remove });
    const behind = () => [...this.#gateways.values()].filter((gateway) => gateway.link && gateway.routed < version);
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#onRouted.delete(check);
        cancel();
        resolve();
      };
      const check = () => {
        if (behind().length === 0) done();
      };
      const cancel = this.#context.clock.after(ROUTED_TIMEOUT_MS, () => {
        this.#context.log.warn(
          { version, behind: behind().map((gateway) => gateway.key) },
          'a gateway has not acknowledged new routes in time',
        );
        done();
      });
      this.#onRouted.add(check);
      check();
    });
  }

  #notifyRouted(): void {
    for (const check of [...this.#onRouted]) check();
  }
}

/** Whether a process is there. A gateway runs under a uid of its own, so EPERM says yes. */
function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
