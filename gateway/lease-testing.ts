/** A lease table in virtual time, with those who ask it and what it says, for its tests. */
import type { Problem } from '#contract/errors.ts';
import type { GatewayMessage, StartInfo } from '#contract/link.ts';
import { VirtualClock } from '#kit/clock.ts';
import type { Demand, HeldLease, Waiter } from './demand.ts';
import { LeaseTable } from './leases.ts';
import type { Place } from './queue.ts';

export const REVISION = 'default/hello@1';
export const WARM: StartInfo = { kind: 'warm', startMs: 0, initMs: 0 };
export const POOLED: StartInfo = { kind: 'pooled', startMs: 0, initMs: 3 };

export class Connection {
  closed = 0;
  close(): void {
    this.closed++;
  }
}

export type Lease = HeldLease<Connection>;

/** Asks for a slot, and keeps what it is told. */
export class Asker implements Waiter<Connection> {
  place: Place | null = null;
  giveUpAt = 30_000;
  lease: Lease | null = null;
  start: StartInfo | null = null;
  failed: Problem | null = null;
  rerouted = 0;

  onLease(lease: Lease, start: StartInfo | null): void {
    this.lease = lease;
    this.start = start;
  }
  onFail(reason: Problem): void {
    this.failed = reason;
  }
  onReroute(): void {
    this.rerouted++;
  }
}

/** A table in virtual time, with what it has sent and connected. */
export function setUp({ maxWaiting = 100, maxWaitingPerFunction = 10, linked = true } = {}) {
  const clock = new VirtualClock();
  const sent: GatewayMessage[] = [];
  const connections = new Map<string, Connection[]>();
  const state = { up: linked };
  const table = new LeaseTable<Connection>({
    clock,
    limits: { maxWaiting, maxWaitingPerFunction },
    connect: (instance) => {
      const connection = new Connection();
      connections.set(instance, [...(connections.get(instance) ?? []), connection]);
      return connection;
    },
    send: (message) => {
      if (state.up) sent.push(message);
      return state.up;
    },
  });
  if (linked) table.linkUp([]);
  const grant = (lease: string, instance: string, slots = 1, start = WARM): void =>
    table.grant({ lease, instance, revision: REVISION, address: { kind: 'unix', path: `/${instance}` }, slots }, start);
  // As the revision's target has it: what is at hand there must be as good as what is looked up.
  const desk: { demand: Demand<Connection> | null } = { demand: null };
  const ask = (again = false): Asker & { got: ReturnType<typeof table.acquire> } => {
    const asker = new Asker();
    const got = table.acquire(asker, { revision: REVISION, maxSlots: 10, desk }, again);
    if (typeof got !== 'string') asker.lease = got;
    return Object.assign(asker, { got });
  };
  const of = <T extends GatewayMessage['type']>(type: T) =>
    sent.filter((message): message is Extract<GatewayMessage, { type: T }> => message.type === type);
  return { clock, sent, connections, state, table, grant, ask, of };
}
