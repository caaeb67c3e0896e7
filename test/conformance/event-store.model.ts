/** The event store as simple as it can be said: one list, looked through from its beginning. Stores are compared with it. */
import type { InvocationState } from '#contract/events.ts';
import type {
  Claim,
  DeadLetterFilter,
  EnqueueOutcome,
  LaneInfo,
  NewDeadLetter,
  NewEvent,
  Settlement,
  StoredDeadLetter,
  StoredEvent,
} from '../../controller/store/events.ts';

interface Entry {
  event: NewEvent;
  state: InvocationState;
  fence: number;
  deliveries: number;
  attempts: number;
  firstAt: number | null;
  claimedAt: number;
  owner: string | null;
  stored: Pick<StoredEvent, 'request' | 'revision' | 'error' | 'resultInfo' | 'finishedAt' | 'keptUntil'>;
  result: Uint8Array | null;
  reason: StoredDeadLetter['reason'];
  message: string | null;
}

const NOTHING = { request: null, revision: null, error: null, resultInfo: null, finishedAt: null, keptUntil: null };
const NO_PAYLOAD = new Uint8Array(0);

const waits = (entry: Entry): boolean => entry.state === 'queued' || entry.state === 'retrying';
const lives = (entry: Entry): boolean => waits(entry) || entry.state === 'running';

export class ModelEventStore {
  /** In the order of enqueuing. */
  #entries: Entry[] = [];
  #dedup = new Map<string, { id: string; fingerprint: string; until: number; of: string }>();
  #owners = new Map<string, number>();

  #find(id: string): Entry | undefined {
    return this.#entries.find(({ event }) => event.id === id);
  }

  #ready(entry: Entry, at: number): boolean {
    return waits(entry) && entry.event.dueAt <= at && this.#isHead(entry);
  }

  #isHead(entry: Entry): boolean {
    const { lane, orderKey } = entry.event;
    if (orderKey === null) return true;
    return this.#entries.find((other) => lives(other) && other.event.lane === lane && other.event.orderKey === orderKey) === entry;
  }

  join(owner: string, until: number): void {
    this.#owners.set(owner, until);
  }

  beat(owner: string, until: number): boolean {
    if (!this.#owners.has(owner)) return false;
    this.#owners.set(owner, until);
    return true;
  }

  leave(owner: string): number {
    this.#owners.delete(owner);
    const claimed = this.#entries.filter((entry) => entry.owner === owner);
    for (const entry of claimed) this.#free(entry);
    return claimed.length;
  }

  #free(entry: Entry): void {
    entry.owner = null;
    entry.state = entry.firstAt === null ? 'queued' : 'retrying';
  }

  expire(at: number): number {
    return [...this.#owners].filter(([, until]) => until <= at).reduce((sum, [owner]) => sum + this.leave(owner), 0);
  }

  enqueue(events: readonly NewEvent[], at: number, claimFor?: string): EnqueueOutcome[] {
    return events.map((event): EnqueueOutcome => {
      if (this.#find(event.id) !== undefined) return { outcome: 'duplicate', id: event.id };
      const of = JSON.stringify([event.namespace, event.name]);
      const key = JSON.stringify([of, event.trigger, event.dedup?.key]);
      const known = event.dedup === null ? undefined : this.#dedup.get(key);
      if (known !== undefined && known.until > at)
        return { outcome: known.fingerprint === event.dedup?.fingerprint ? 'duplicate' : 'mismatch', id: known.id };
      if (event.dedup !== null) this.#dedup.set(key, { id: event.id, fingerprint: event.dedup.fingerprint, until: event.dedup.until, of });
      const entry = this.#add(event, 'queued');
      const claimed = claimFor !== undefined && this.#owners.has(claimFor) && this.#ready(entry, at);
      return { outcome: 'enqueued', id: event.id, claim: claimed ? this.#claimOne(entry, claimFor, at) : null };
    });
  }

  #add(event: NewEvent, state: InvocationState): Entry {
    const counts = { fence: 0, deliveries: 0, attempts: 0, firstAt: null, claimedAt: 0 };
    const entry: Entry = {
      ...counts,
      event: { ...event },
      state,
      owner: null,
      stored: { ...NOTHING },
      result: null,
      reason: 'attempts',
      message: null,
    };
    this.#entries.push(entry);
    return entry;
  }

  #claimOne(entry: Entry, owner: string, at: number): Claim {
    entry.state = 'running';
    entry.owner = owner;
    entry.claimedAt = at;
    entry.fence++;
    entry.deliveries++;
    const { fence, deliveries, attempts, firstAt } = entry;
    return { id: entry.event.id, fence, deliveries, attempts, firstAt: firstAt ?? at, event: { ...entry.event } };
  }

  claim(owner: string, lanes: readonly { lane: string; limit: number }[], at: number): Claim[] | 'not-leader' {
    if (!this.#owners.has(owner)) return 'not-leader';
    return lanes.flatMap(({ lane, limit }) => {
      const due = this.#entries.filter((entry) => entry.event.lane === lane && this.#ready(entry, at));
      const earliest = due.toSorted((a, b) => a.event.dueAt - b.event.dueAt).slice(0, limit);
      return earliest.map((entry) => this.#claimOne(entry, owner, at));
    });
  }

  settle(settlements: readonly Settlement[]): ('settled' | 'fenced')[] {
    return settlements.map((settlement) => {
      const entry = this.#find(settlement.id);
      if (entry?.state !== 'running' || entry.fence !== settlement.fence) return 'fenced';
      this.#settleOne(entry, settlement);
      this.enqueue(settlement.following ?? [], settlement.at);
      return 'settled';
    });
  }

  #settleOne(entry: Entry, settlement: Settlement): void {
    entry.owner = null;
    if (settlement.outcome === 'released') {
      entry.deliveries--;
      this.#free(entry);
      return;
    }
    Object.assign(entry.stored, settlement.attempt);
    if (settlement.outcome === 'retry') {
      entry.state = 'retrying';
      entry.firstAt ??= entry.claimedAt;
      entry.event.dueAt = settlement.dueAt;
      entry.attempts += settlement.counted ? 1 : 0;
      entry.deliveries -= settlement.counted ? 0 : 1;
      entry.stored.error = settlement.error;
      return;
    }
    const { resultInfo, keptUntil, at, result } = settlement;
    Object.assign(entry.stored, { resultInfo, keptUntil, finishedAt: at });
    entry.result = result;
    if (settlement.outcome === 'succeeded') {
      entry.state = 'succeeded';
      entry.event.payload = NO_PAYLOAD;
      return;
    }
    entry.state = 'failed';
    entry.reason = settlement.reason;
    entry.stored.error = settlement.error;
    entry.attempts += settlement.counted ? 1 : 0;
  }

  get(id: string): StoredEvent | null {
    const entry = this.#find(id);
    return entry === undefined ? null : this.#view(entry);
  }

  #view({ event, state, fence, attempts, deliveries, stored }: Entry): StoredEvent {
    return { event: { ...event }, state, fence, attempts, deliveries, ...stored };
  }

  result(id: string): Uint8Array | null {
    return this.#find(id)?.result ?? null;
  }

  cancel(id: string, at: number, keptUntil: number): InvocationState | null {
    const entry = this.#find(id);
    if (entry === undefined) return null;
    if (!lives(entry)) return entry.state;
    entry.state = 'cancelled';
    entry.owner = null;
    entry.fence++;
    entry.event.payload = NO_PAYLOAD;
    Object.assign(entry.stored, { finishedAt: at, keptUntil });
    return 'cancelled';
  }

  list(namespace: string, name: string, query: { state?: InvocationState | undefined; limit: number }): StoredEvent[] {
    const of = this.#entries.filter(
      ({ event, state }) =>
        event.namespace === namespace &&
        event.name === name &&
        !event.lane.endsWith('>') &&
        (query.state === undefined || state === query.state),
    );
    const views = of.toReversed().map((entry) => this.#view(entry));
    return views.slice(0, query.limit).map((view) => ({ ...view, event: { ...view.event, payload: NO_PAYLOAD } }));
  }

  lanes(at: number): LaneInfo[] {
    const names = [...new Set(this.#entries.map(({ event }) => event.lane))].toSorted();
    const infos = names.flatMap((lane): LaneInfo[] => {
      const all = this.#entries.filter(({ event }) => event.lane === lane);
      const first = all[0]!.event;
      const due = all.filter((entry) => waits(entry) && this.#isHead(entry)).map(({ event }) => event.dueAt);
      const nextAt = due.length === 0 ? null : Math.min(...due);
      const count = (is: (entry: Entry) => boolean): number => all.filter(is).length;
      return [
        {
          lane,
          namespace: first.namespace,
          name: first.name,
          waiting: count(waits),
          claimed: count(({ state }) => state === 'running'),
          nextAt,
          oldestAt: nextAt !== null && nextAt <= at ? nextAt : null,
          dead: count(({ state }) => state === 'failed'),
        },
      ];
    });
    return infos.filter(({ waiting, claimed, dead }) => waiting + claimed + dead > 0);
  }

  addDead(letters: readonly NewDeadLetter[]): string[] {
    return letters.map(({ event, message, reason, error, attempts, request, deadAt, keptUntil }) => {
      const same = this.#entries.find(
        (entry) => entry.message === message && entry.event.lane === event.lane && entry.event.trigger === event.trigger,
      );
      const known = same ?? this.#find(event.id);
      if (known !== undefined) return known.event.id;
      const entry = this.#add(event, 'failed');
      Object.assign(entry, { message, reason, attempts });
      Object.assign(entry.stored, { error, request, finishedAt: deadAt, keptUntil });
      return event.id;
    });
  }

  #dead({ namespace, name, trigger }: DeadLetterFilter): Entry[] {
    const dead = this.#entries.filter(
      ({ state, event }) =>
        state === 'failed' && event.namespace === namespace && event.name === name && (trigger === undefined || event.trigger === trigger),
    );
    return dead.toReversed().toSorted((a, b) => b.stored.finishedAt! - a.stored.finishedAt!);
  }

  listDead(filter: DeadLetterFilter, query: { before?: string | undefined; limit: number }): StoredDeadLetter[] {
    const dead = this.#dead(filter);
    const position = query.before === undefined ? -1 : dead.findIndex(({ event }) => event.id === query.before);
    const after = query.before !== undefined && position === -1 ? [] : dead.slice(position + 1);
    return after.slice(0, query.limit).map((entry) => this.getDead(entry.event.id)!);
  }

  countDead(filter: DeadLetterFilter): number {
    return this.#dead(filter).length;
  }

  getDead(id: string): StoredDeadLetter | null {
    const entry = this.#find(id);
    if (entry?.state !== 'failed') return null;
    const { event, message, reason, attempts, stored } = entry;
    const { error, request, finishedAt, keptUntil } = stored;
    return { event: { ...event }, message, reason, error: error!, attempts, request, deadAt: finishedAt!, keptUntil: keptUntil! };
  }

  redrive(ids: readonly string[], at: number, expiresAt: number): string[] {
    return ids.filter((id) => {
      const entry = this.#find(id);
      if (entry?.state !== 'failed') return false;
      Object.assign(entry, { state: 'queued', deliveries: 0, attempts: 0, firstAt: null, result: null, stored: { ...NOTHING } });
      Object.assign(entry.event, { dueAt: at, expiresAt });
      this.#entries = [...this.#entries.filter((other) => other !== entry), entry];
      return true;
    });
  }

  purge(ids: readonly string[]): string[] {
    return ids.filter((id) => {
      const entry = this.#find(id);
      if (entry?.state !== 'failed') return false;
      this.#entries = this.#entries.filter((other) => other !== entry);
      return true;
    });
  }

  prune(at: number): number {
    const kept = this.#entries.filter(({ stored }) => stored.keptUntil === null || stored.keptUntil > at);
    const over = [...this.#dedup].filter(([, { until }]) => until <= at);
    for (const [key] of over) this.#dedup.delete(key);
    const pruned = this.#entries.length - kept.length + over.length;
    this.#entries = kept;
    return pruned;
  }

  forget(namespace: string, name: string): number {
    const gone = new Set(this.#entries.filter(({ event }) => event.namespace === namespace && event.name === name));
    this.#entries = this.#entries.filter((entry) => !gone.has(entry));
    for (const [key, { of }] of this.#dedup) if (of === JSON.stringify([namespace, name])) this.#dedup.delete(key);
    return gone.size;
  }
}
