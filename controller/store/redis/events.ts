/**
 * The event store on Redis: each operation is one script (events-scripts.ts). What resolved is as durable as Redis is
 * configured: with `appendfsync always` it is on the disk.
 *
 * **An answer that is lost.** A command that is not answered may have been done, or be done later. The caller is told
 * store-unavailable, and may call again: an enqueue makes no second event of an id, a settlement that was done is `fenced`.
 * A claim is another matter: nobody would ever know of it. So each call that claims has a token, which its events bear; before
 * the next one, what bears a token whose answer was lost is freed, and the token is void.
 *
 * **Large calls** go in parts, in their order: each part is done whole or not at all. Small ones that come at the same time go together.
 */
import type { InvocationState } from '#contract/events.ts';
import { FnError } from '#contract/errors.ts';
import { newLeaseId } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import type { RedisAddress } from '#kit/store-url.ts';
import {
  type Claim,
  type DeadLetterFilter,
  type EnqueueOutcome,
  type EventStore,
  type LaneInfo,
  MAX_LISTED_BYTES,
  type NewDeadLetter,
  type NewEvent,
  type Settlement,
  type StoredDeadLetter,
  type StoredEvent,
} from '../events.ts';
import { Batches, type Part, PART, partsOf } from './batches.ts';
import { openRedis, type RedisConnection, type RedisValue, type Script } from './connection.ts';
import { asList, asTextOrNull, asTexts, byText } from './replies.ts';
import { eventArgs, letterArgs, ms, settlementArgs, stateOf, STATES, toBytes, toClaim, toDeadLetter, toStored } from './events-codec.ts';
import * as scripts from './events-scripts.ts';

export interface RedisEventStoreOptions {
  address: RedisAddress;
  log: Log;
  /** After so long a command has failed, milliseconds. */
  commandTimeoutMs?: number;
  /** How long one waits for Redis at the start, milliseconds. */
  openTimeoutMs?: number;
}

/** Connects. Throws FnError store-unavailable, which says what to do. */
export async function openRedisEventStore(options: RedisEventStoreOptions): Promise<EventStore> {
  return new RedisEventStore(await openRedis({ ...options, clientName: 'fn-events' }));
}

/** Of one event, as the script says it. */
function outcomeOf(answer: string, event: NewEvent, at: number): EnqueueOutcome {
  const id = answer.slice(1);
  if (answer.startsWith('d')) return { outcome: 'duplicate', id };
  if (answer.startsWith('m')) return { outcome: 'mismatch', id };
  const claim = answer === 'c' ? { id: event.id, fence: 1, deliveries: 1, attempts: 0, firstAt: at, event } : null;
  return { outcome: 'enqueued', id: event.id, claim };
}

interface Wanted {
  lane: string;
  limit: number;
}

/** The first of them, as many as one script may claim. */
function firstOf(wanted: readonly Wanted[]): Wanted[] {
  let left = PART.items;
  return wanted.flatMap(({ lane, limit }) => {
    const some = Math.min(limit, left);
    left -= some;
    return some > 0 ? [{ lane, limit: some }] : [];
  });
}

/** What is still to be asked for: not of lanes that had less than they were asked for, unless the script ended early. */
function restOf(wanted: readonly Wanted[], asked: readonly Wanted[], claims: readonly Claim[], stopped: boolean): Wanted[] {
  const got = new Map<string, number>();
  for (const { event } of claims) got.set(event.lane, (got.get(event.lane) ?? 0) + 1);
  const askedFor = new Map(asked.map(({ lane, limit }) => [lane, limit]));
  return wanted.flatMap(({ lane, limit }) => {
    const found = got.get(lane) ?? 0;
    const most = askedFor.get(lane);
    const more = limit - found > 0 && (most === undefined || stopped || found === most);
    return more ? [{ lane, limit: limit - found }] : [];
  });
}

class RedisEventStore implements EventStore {
  readonly #connection: RedisConnection;
  readonly #prefix: string;
  readonly #enqueues: Batches;
  readonly #settlements: Batches;
  /** Of this process: no other one's token is the same. */
  readonly #session = newLeaseId();
  #calls = 0;
  /** Tokens of calls that claim and whose answer was lost → their owner. No more than were under way when Redis went away. */
  readonly #lost = new Map<string, string>();
  #recovery: Promise<void> | null = null;

  constructor(connection: RedisConnection) {
    this.#connection = connection;
    this.#prefix = connection.key('ev:');
    this.#enqueues = new Batches(async (owner, args) => {
      const send = async (token: string) =>
        asList(await this.#connection.runBuffer(scripts.ENQUEUE, [this.#prefix], [owner, token, ...args]));
      return await (owner === '' ? send('') : this.#claiming(owner, send));
    });
    this.#settlements = new Batches(async (_, args) => asList(await this.#connection.runBuffer(scripts.SETTLE, [this.#prefix], args)));
  }

  #run(script: Script, ...args: RedisValue[]): Promise<unknown> {
    return this.#connection.runBuffer(script, [this.#prefix], args);
  }

  async #count(script: Script, ...args: RedisValue[]): Promise<number> {
    return Number(await this.#run(script, ...args));
  }

  /** In parts, one after the other: their answers as one list. */
  async #inParts<T>(send: (part: Part) => Promise<unknown>, items: readonly T[], toArgs: (item: T) => RedisValue[]): Promise<unknown[]> {
    const answers: unknown[] = [];
    for (const part of partsOf(items, toArgs)) for (const answer of asList(await send(part))) answers.push(answer);
    return answers;
  }

  async join(owner: string, until: number): Promise<void> {
    await this.#run(scripts.JOIN, owner, ms(until));
  }

  async beat(owner: string, until: number): Promise<boolean> {
    await this.#recover();
    return (await this.#count(scripts.BEAT, owner, ms(until))) === 1;
  }

  leave(owner: string, _at: number): Promise<number> {
    return this.#count(scripts.LEAVE, owner);
  }

  expire(at: number): Promise<number> {
    return this.#count(scripts.EXPIRE, ms(at));
  }

  async enqueue(events: readonly NewEvent[], at: number, claimFor?: string): Promise<EnqueueOutcome[]> {
    if (events.length === 0) return [];
    const claim = claimFor === undefined ? 0 : 1;
    const send = (part: Part) => this.#enqueues.add(claimFor ?? '', part);
    const answers = await this.#inParts(send, events, (event) => [ms(at), claim, ...eventArgs(event)]);
    return events.map((event, i) => outcomeOf(String(answers[i]), event, ms(at)));
  }

  async claim(owner: string, lanes: readonly Wanted[], at: number): Promise<Claim[]> {
    const claims: Claim[] = [];
    // None asked for is still a question: whether this owner is there.
    let wanted: Wanted[] = [...lanes];
    do {
      const asked = firstOf(wanted);
      try {
        const found = await this.#claimPart(owner, asked, at);
        for (const claim of found.claims) claims.push(claim);
        wanted = restOf(wanted, asked, found.claims, found.stopped);
      } catch (error) {
        // What earlier parts claimed is claimed.
        if (claims.length === 0) throw error;
        return claims;
      }
    } while (wanted.length > 0);
    return claims;
  }

  #claimPart(owner: string, asked: readonly Wanted[], at: number): Promise<{ claims: Claim[]; stopped: boolean }> {
    return this.#claiming(owner, async (token) => {
      const lanes = asked.flatMap(({ lane, limit }) => [lane, limit]);
      const [stopped, ...found] = asList(await this.#run(scripts.CLAIM, owner, token, ms(at), PART.bytes, ...lanes));
      return { claims: found.map(toClaim), stopped: stopped === 1 };
    });
  }

  /** Runs what claims, with a token; see at the top. */
  async #claiming<T>(owner: string, run: (token: string) => Promise<T>): Promise<T> {
    // Not awaited for nothing: what is asked for behind it would overtake it.
    if (this.#lost.size > 0) await this.#recover();
    const token = `${this.#session}:${this.#calls++}`;
    // Without a connection nothing is sent: then there is nothing to be lost.
    const sent = this.#connection.ready;
    try {
      return await run(token);
    } catch (error) {
      if (sent && !(error instanceof FnError && error.code === 'not-leader')) this.#lost.set(token, owner);
      throw error;
    }
  }

  /** Throws FnError store-unavailable: what was lost stays so until the next time. */
  async #recover(): Promise<void> {
    if (this.#lost.size === 0) return;
    this.#recovery ??= this.#recoverAll().finally(() => (this.#recovery = null));
    await this.#recovery;
  }

  async #recoverAll(): Promise<void> {
    const byOwner = Map.groupBy(this.#lost, ([, owner]) => owner);
    for (const [owner, lost] of byOwner) {
      for (let i = 0; i < lost.length; i += PART.items) {
        const tokens = lost.slice(i, i + PART.items).map(([token]) => token);
        await this.#run(scripts.RECOVER, owner, ...tokens);
        for (const token of tokens) this.#lost.delete(token);
      }
    }
  }

  async settle(settlements: readonly Settlement[]): Promise<('settled' | 'fenced')[]> {
    const answers = await this.#inParts((part) => this.#settlements.add('', part), settlements, settlementArgs);
    return answers.map((done) => (done === 1 ? 'settled' : 'fenced'));
  }

  async get(id: string): Promise<StoredEvent | null> {
    const found = await this.#run(scripts.GET, id);
    return found === null ? null : toStored(found);
  }

  async result(id: string): Promise<Uint8Array | null> {
    return toBytes(await this.#connection.callBuffer('GET', `${this.#prefix}r:${id}`));
  }

  async cancel(id: string, at: number, keptUntil: number): Promise<InvocationState | null> {
    const state = await this.#run(scripts.CANCEL, id, ms(at), ms(keptUntil));
    return state === null ? null : stateOf(String(state));
  }

  async list(namespace: string, name: string, query: { state?: InvocationState | undefined; limit: number }): Promise<StoredEvent[]> {
    const states = query.state === undefined ? [...STATES.keys()] : [STATES.indexOf(query.state)];
    return asList(await this.#run(scripts.LIST, `${namespace}/${name}`, query.limit, ...states)).map(toStored);
  }

  async lanes(at: number): Promise<LaneInfo[]> {
    const infos = asList(await this.#run(scripts.LANES)).map((answer): LaneInfo => {
      const [lane, of, waiting, claimed, dead, first] = asList(answer);
      const [namespace = '', name = ''] = String(of).split(' ');
      const nextAt = first === null ? null : Number(first);
      const oldestAt = nextAt !== null && nextAt <= at ? nextAt : null;
      return {
        lane: String(lane),
        namespace,
        name,
        waiting: Number(waiting),
        claimed: Number(claimed),
        nextAt,
        oldestAt,
        dead: Number(dead),
      };
    });
    return infos.toSorted((a, b) => byText(a.lane, b.lane));
  }

  async addDead(letters: readonly NewDeadLetter[]): Promise<string[]> {
    return asTexts(await this.#inParts(({ args }) => this.#run(scripts.ADD_DEAD, ...args), letters, letterArgs));
  }

  async listDead(filter: DeadLetterFilter, query: { before?: string | undefined; limit: number }): Promise<StoredDeadLetter[]> {
    const letters: StoredDeadLetter[] = [];
    let { before = '' } = query;
    let total = 0;
    while (letters.length < query.limit) {
      const limit = Math.min(PART.items, query.limit - letters.length);
      const page = asList(await this.#run(scripts.LIST_DEAD, deadKey(filter), before, limit, PART.bytes)).flatMap(
        (found) => toDeadLetter(found) ?? [],
      );
      if (page.length === 0) return letters;
      for (const letter of page) {
        total += letter.event.payload.length;
        if (total > MAX_LISTED_BYTES && letters.length > 0) return letters;
        letters.push(letter);
        before = letter.event.id;
      }
    }
    return letters;
  }

  async countDead(filter: DeadLetterFilter): Promise<number> {
    return Number(await this.#connection.call('ZCARD', `${this.#prefix}d:${deadKey(filter)}`));
  }

  async getDead(id: string): Promise<StoredDeadLetter | null> {
    const found = await this.#run(scripts.GET, id);
    return found === null ? null : toDeadLetter(found);
  }

  async redrive(ids: readonly string[], at: number, expiresAt: number): Promise<string[]> {
    const send = ({ args }: Part) => this.#run(scripts.REDRIVE, ms(at), ms(expiresAt), ...args);
    return asTexts(await this.#inParts(send, ids, (id) => [id]));
  }

  async purge(ids: readonly string[]): Promise<string[]> {
    return asTexts(
      await this.#inParts(
        ({ args }) => this.#run(scripts.PURGE, ...args),
        ids,
        (id) => [id],
      ),
    );
  }

  async prune(at: number, limit: number): Promise<number> {
    let pruned = 0;
    for (let left = limit; left > 0; left -= PART.items) {
      const [events, keys] = asList(await this.#run(scripts.PRUNE, ms(at), Math.min(PART.items, left)));
      pruned += Number(events) + Number(keys);
      if (Number(events) + Number(keys) === 0) break;
    }
    return pruned;
  }

  async forget(namespace: string, name: string): Promise<number> {
    let forgotten = 0;
    for (;;) {
      const [events, keys] = asList(await this.#run(scripts.FORGET, `${namespace}/${name}`, PART.items)).map(Number);
      forgotten += events ?? 0;
      if (events === 0 && keys === 0) return forgotten;
    }
  }

  async getState(key: string): Promise<string | null> {
    return asTextOrNull(await this.#connection.call('HGET', `${this.#prefix}state`, key));
  }

  async putState(key: string, value: string): Promise<void> {
    await this.#connection.call('HSET', `${this.#prefix}state`, key, value);
  }

  async deleteState(prefix: string): Promise<void> {
    await this.#run(scripts.DELETE_STATE, prefix);
  }

  /** With its `maxmemory` reached Redis refuses what would add to it, and lets go what is removed. */
  hasRoom(): boolean {
    return true;
  }

  async close(): Promise<void> {
    this.#connection.close();
  }
}

const deadKey = ({ namespace, name, trigger }: DeadLetterFilter): string =>
  `${namespace}/${name}${trigger === undefined ? '' : ` ${trigger}`}`;
