/**
 * Instances that leases are held of, each with its connections: which are left alone until the controller has looked, and why one
 * has died. Numbers in brackets are sections of docs/leases.md, as in leases.ts.
 */
import type { GatewayMessage } from '#contract/link.ts';
import type { Address } from '#contract/runtime.ts';
import type { Clock } from '#kit/clock.ts';
import type { Cause, Connection, HeldLease, Instance } from './demand.ts';

/**
 * [9] How long a reset connection waits for the controller to say why. Docker tells of a death 25–70 ms
 * late and has to be asked for the reason; on a busy host that took 200 ms, and 4 s on one with thirty
 * processes for its two cores, where out of memory was told as `instance-lost`. The wait ends when the
 * cause is known, so a long limit costs only those whose cause nobody knows.
 */
export const CAUSE_WAIT_MS = 5_000;
/** [9] How long the connections of a dead instance may still be read. */
export const LAST_WORDS_MS = 100;

export interface LeasedInstancesOptions<C extends Connection> {
  clock: Clock;
  connect: (instance: string, address: Address) => C;
  /** False while the link is down. */
  send: (message: GatewayMessage) => boolean;
  /** [9] Nobody said why it died, and nobody asks any more: its leases need not be kept for that. */
  onUnanswered: (instance: Instance<C>) => void;
}

export class LeasedInstances<C extends Connection> {
  readonly #options: LeasedInstancesOptions<C>;
  readonly #instances = new Map<string, Instance<C>>();

  constructor(options: LeasedInstancesOptions<C>) {
    this.#options = options;
  }

  /** That which a lease is granted of; the first one has it connected. */
  granted(id: string, address: Address): Instance<C> {
    let instance = this.#instances.get(id);
    if (instance === undefined) {
      instance = {
        id,
        address,
        connection: this.#options.connect(id, address),
        leases: new Set(),
        suspect: null,
        gone: null,
        askingWhy: new Set(),
      };
      this.#instances.set(id, instance);
    }
    return instance;
  }

  /** [10] Stops using an instance and asks the controller to look. */
  suspect(instance: Instance<C>, reason: string): void {
    if (instance.suspect !== null || instance.gone !== null) return;
    instance.suspect = reason.slice(0, 500);
    this.#tellSuspicion(instance.id, instance.suspect);
  }

  /** [10] The same for one that is known by its id alone. */
  unreachable(instanceId: string, reason: string): void {
    const instance = this.#instances.get(instanceId);
    if (instance !== undefined) this.suspect(instance, reason);
  }

  /** [10] After welcome: whoever is told now may not have been told before. */
  tellSuspicions(): void {
    for (const { id, suspect } of this.#instances.values()) if (suspect !== null) this.#tellSuspicion(id, suspect);
  }

  #tellSuspicion(instance: string, reason: string): void {
    this.#options.send({ type: 'suspect', instance, reason });
  }

  /** [10] It may be used again. Null where it is not known. */
  clear(instanceId: string): Instance<C> | null {
    const instance = this.#instances.get(instanceId);
    if (instance === undefined) return null;
    instance.suspect = null;
    return instance;
  }

  /**
   * [11] A request overran its timeout. The controller will end the instance, now or when its other
   * requests are done; so nothing new goes there, not even in the moment before it has said so.
   */
  timedOut(instance: Instance<C>, request: string): void {
    for (const lease of instance.leases) if (lease.state === 'held') lease.state = 'revoking';
    this.#options.send({ type: 'timeout', instance: instance.id, request });
  }

  /**
   * [9] Calls back with why the instance died, or with null when nobody said so in time. Asked before the slot is freed: only those
   * that hold a lease are told, so none is given back meanwhile.
   */
  why(instance: Instance<C>, tell: (cause: Cause | null) => void): void {
    if (instance.gone !== null) return tell(instance.gone);
    instance.askingWhy.add(tell);
    this.#options.clock.after(CAUSE_WAIT_MS, () => {
      if (!instance.askingWhy.delete(tell)) return;
      tell(null);
      if (instance.askingWhy.size === 0) this.#options.onUnanswered(instance);
    });
  }

  /** [9] Its leases are void. The connections are cut a little later: what it sent before it died may still be read. */
  gone(instanceId: string, cause: Cause, forget: (lease: HeldLease<C>) => void): void {
    const instance = this.#instances.get(instanceId);
    if (instance === undefined) return;
    instance.gone = cause;
    this.#instances.delete(instanceId);
    for (const lease of instance.leases) forget(lease);
    for (const tell of instance.askingWhy) tell(cause);
    instance.askingWhy.clear();
    this.#options.clock.after(LAST_WORDS_MS, () => instance.connection.close());
  }

  /** Lets go of leases that are void and in no use, and of the instance with the last one. */
  closeIfDone(instance: Instance<C>): void {
    for (const lease of instance.leases) if (lease.state === 'void' && lease.inFlight === 0) instance.leases.delete(lease);
    if (instance.leases.size > 0) return;
    // The same instance may be granted again: it gets connections of its own then.
    if (this.#instances.get(instance.id) === instance) this.#instances.delete(instance.id);
    instance.connection.close();
  }
}
