/**
 * Instances that gateways complain of [10, 11]: asked for their health, cleared or ended. Section
 * numbers in brackets are those of docs/leases.md.
 */
import type { Address } from '#contract/runtime.ts';
import { revisionOf, type Instance } from '../core/world.ts';
import { messageOf, type EngineContext, type GoneCause } from './context.ts';
import type { Lifecycle } from './lifecycle.ts';
import type { Link } from './link-server.ts';
import { HEALTH_TIMEOUT_MS, RuntimeGone } from './runtime-client.ts';

/** [8] A revoked share is freed this long after its deadline, whatever the gateway says. */
export const REVOKE_GRACE_MS = 2_000;
/** How long the driver may take to say of a process that has ended why it did [9], ms; gateways wait a little longer. On a busy host 4 s were seen. */
const WORD_OF_END_MS = 4_500;
/** [10] The third suspicion kills. */
const MAX_SUSPICIONS = 3;

export interface SuspectParts {
  context: EngineContext;
  lifecycle: Lifecycle;
  /** Takes back all leases of an instance; returns how long what is in flight may go on, ms. */
  revoke: (instance: Instance) => number;
  /** Hears of an instance that takes no more requests, though nobody told it so. */
  drainedItself: (instance: Instance) => void;
  /** Something that the plan depends on has changed. */
  changed: () => void;
}

export class Suspects {
  readonly #parts: SuspectParts;
  /** Instances that are being asked for their health, with the gateways that suspect them: one question at a time, however many ask it. */
  readonly #asked = new Map<string, Set<Link>>();
  readonly #overran = new Set<string>();

  constructor(parts: SuspectParts) {
    this.#parts = parts;
  }

  /** [10] */
  async suspect(link: Link, id: string, reason: string): Promise<void> {
    const { world, log } = this.#parts.context;
    const instance = world.instances.get(id);
    if (!instance?.address) {
      link.send({ type: 'gone', instance: id, cause: 'lost', detail: 'the instance is not known' });
      return;
    }
    const asking = this.#asked.get(id)?.add(link);
    if (asking) return;
    log.warn({ instance: id, reason, times: instance.suspicions + 1 }, 'a gateway suspects an instance');
    instance.suspicions += 1;
    const links = new Set([link]);
    this.#asked.set(id, links);
    const alive = await this.#isAlive(instance, instance.address, reason).finally(() => this.#asked.delete(id));
    if (alive) for (const each of links) each.send({ type: 'clear', instance: id });
    this.#parts.changed();
  }

  /** Asks an instance that is suspected; ends it where it is to be ended. */
  async #isAlive(instance: Instance, address: Address, reason: string): Promise<boolean> {
    const { world } = this.#parts.context;
    instance.suspect = true;
    const asked = performance.now();
    let waitMs = HEALTH_TIMEOUT_MS;
    // No answer is the answer that was asked for, whatever kept it away.
    const health = await this.#parts.context.runtime.health(address).catch((error: unknown) => {
      if (error instanceof RuntimeGone) waitMs = WORD_OF_END_MS;
      return null;
    });
    // A process that has just died refuses at once; why it died takes the driver longer to say [9].
    if (!health && (await this.#parts.lifecycle.awaitEnd(instance, asked + waitMs))) return false;
    instance.suspect = false;
    world.touch(revisionOf(instance));
    // It may have ended while it was asked; the driver's word has then gone out already.
    if (world.instances.get(instance.id) !== instance || instance.address === null) return false;
    if (!health) this.#parts.lifecycle.kill(instance, 'lost', `it does not answer (${reason})`);
    // A function can drain its own shim. It serves nobody any more, so it is not kept.
    else if (health.status === 'draining') {
      // Now, not when it has gone: what is in flight may keep it for long, and the next is started at once.
      this.#parts.drainedItself(instance);
      this.#drainThenKill(instance, 'lost', 'it takes no more requests, and nobody told it not to');
    } else if (instance.suspicions >= MAX_SUSPICIONS)
      this.#drainThenKill(instance, 'lost', `suspected ${MAX_SUSPICIONS} times (${reason})`);
    else return true;
    return false;
  }

  /** [11] */
  async timedOut(id: string, request: string): Promise<void> {
    const instance = this.#parts.context.world.instances.get(id);
    if (!instance?.address || instance.state.kind === 'draining' || this.#overran.has(id)) return;
    // It will be ended either way; nothing new goes there while it is asked how.
    instance.suspect = true;
    this.#overran.add(id);
    // No answer means that nothing in it can be saved: it is killed at once.
    const health = await this.#parts.context.runtime.health(instance.address).catch(() => null);
    this.#overran.delete(id);
    if (this.#parts.context.world.instances.get(id) !== instance || instance.address === null) return;
    this.#parts.context.log.info({ instance: id, request, inFlight: health?.inFlight ?? null }, 'a request overran its timeout');
    // The handler that overran counts as in flight itself: more than one means neighbours.
    if (health && health.inFlight > 1) this.#drainThenKill(instance, 'timeout', 'a request overran its timeout');
    else this.#parts.lifecycle.kill(instance, 'timeout', 'a request overran its timeout');
  }

  /** The same by id, where it is still there. */
  drain(id: string, cause: GoneCause, detail: string): void {
    const instance = this.#parts.context.world.instances.get(id);
    if (instance?.address) this.#drainThenKill(instance, cause, detail);
  }

  /** No new requests; killed when the gateways gave its leases back, or when their time for that is over. */
  #drainThenKill(instance: Instance, cause: GoneCause, detail: string): void {
    const { world, clock, log } = this.#parts.context;
    if (instance.state.kind === 'draining') return;
    const revision = world.revisions.get(revisionOf(instance) ?? '');
    world.transition(instance, { kind: 'draining', revision: revision?.key ?? null, since: clock.now() });
    const deadlineMs = this.#parts.revoke(instance);
    if (instance.address) {
      this.#parts.context.runtime.drain(instance.address, deadlineMs).catch((error: unknown) => {
        log.warn({ instance: instance.id, error: messageOf(error) }, 'an instance does not hear that it should drain');
      });
    }
    // At the deadline the gateways begin to end streams, which takes the two sides a moment.
    const end = clock.now() + deadlineMs + REVOKE_GRACE_MS;
    const check = () => {
      if (instance.leases.size === 0 || clock.now() >= end) this.#parts.lifecycle.kill(instance, cause, detail);
      else clock.after(50, check);
    };
    check();
  }
}
