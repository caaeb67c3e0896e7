/**
 * Records of instances in Redis, for controllers that share no disk:
 *
 *     instances            hash of instance id → record (JSON)
 *     log-positions        hash of instance id → where the reader of its output is
 *
 * A record that cannot be written because Redis is away is kept here and written when it is back: starts go on meanwhile. Should
 * this controller end before, the next one finds what was recorded before, sees that the instance is something else by now,
 * and destroys it, as it does with all that it cannot vouch for. Under an old term nothing is kept: then it is another's instance.
 */
import { FnError } from '#contract/errors.ts';
import { backoffMs } from '#kit/backoff.ts';
import type { Clock } from '#kit/clock.ts';
import type { Log } from '#kit/log.ts';
import { parseJson } from '../stored.ts';
import { InstanceRecord, type InstanceRecords } from '../types.ts';
import { asList, asPairs, asTextOrNull } from './replies.ts';
import { defineWrite, type RedisTerm } from './term.ts';

/** Fields that are asked for at a time. Redis does nothing else meanwhile: some 0.2 ms. */
const PAGE = 500;
/** Changes sent in one script. */
const MAX_FIELDS = 500;
/** What could not be written is tried again after this. */
const AGAIN = { baseMs: 200, maxMs: 5_000, jitter: 0.3 };

/** KEYS: a hash. ARGV: field, value. */
const SET = defineWrite(`redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])`);

/** KEYS: hashes. ARGV: fields. */
const FORGET = defineWrite(`
for key = 2, #KEYS do
  for i = 3, #ARGV do redis.call('HDEL', KEYS[key], ARGV[i]) end
end
`);

export interface RedisRecordsOptions {
  /** Of the store: records are written under the same term. */
  term: RedisTerm;
  clock: Clock;
  log: Log;
}

export class RedisRecords implements InstanceRecords {
  readonly #options: RedisRecordsOptions;
  /** By id, what Redis has not been told: a record, or (null) that it is removed. */
  readonly #late = new Map<string, InstanceRecord | null>();
  #attempts = 0;
  #waiting = false;

  constructor(options: RedisRecordsOptions) {
    this.#options = options;
  }

  async load(): Promise<Map<string, InstanceRecord>> {
    const records = new Map<string, InstanceRecord>();
    for await (const [id, text] of this.#scan('instances')) {
      const parsed = InstanceRecord.safeParse(parseJson(text));
      if (parsed.success && parsed.data.id === id) records.set(id, parsed.data);
    }
    return records;
  }

  /** Resolves also where Redis is away. Throws FnError not-leader. */
  async write(record: InstanceRecord): Promise<void> {
    await this.#orLater(record.id, { ...record }, () => this.#set('instances', record.id, JSON.stringify(record)));
  }

  /** Resolves also where Redis is away. Throws FnError not-leader. */
  async remove(id: string): Promise<void> {
    await this.#orLater(id, null, () => this.#forget([id]));
  }

  /** Throws FnError store-unavailable, not-leader: a place that is written late would be behind the lines. */
  async writeLogPosition(id: string, position: string): Promise<void> {
    await this.#set('log-positions', id, position);
  }

  async logPosition(id: string): Promise<string | null> {
    return asTextOrNull(await this.#options.term.connection.call('HGET', this.#key('log-positions'), id));
  }

  async prune(keep: ReadonlySet<string>): Promise<void> {
    const gone = new Set<string>();
    for (const hash of ['instances', 'log-positions']) for await (const [id] of this.#scan(hash)) if (!keep.has(id)) gone.add(id);
    const ids = [...gone];
    for (let from = 0; from < ids.length; from += MAX_FIELDS) await this.#forget(ids.slice(from, from + MAX_FIELDS));
  }

  /** Tells Redis at once; where it is away, later. What came for the same instance before is out of date. */
  async #orLater(id: string, record: InstanceRecord | null, tell: () => Promise<void>): Promise<void> {
    const waited = this.#late.delete(id);
    try {
      await tell();
    } catch (error) {
      if (!(error instanceof FnError) || error.code !== 'store-unavailable') throw error;
      if (this.#late.size === 0 && !waited)
        this.#options.log.warn({ error: error.message }, 'records of instances cannot be written: kept until the store is back');
      // Unless a newer word has come while this one was under way.
      if (!this.#late.has(id)) this.#late.set(id, record);
      this.#tellLater();
    }
  }

  #tellLater(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    this.#attempts += 1;
    this.#options.clock.after(backoffMs(this.#attempts, AGAIN), () => {
      this.#waiting = false;
      void this.#tellAll();
    });
  }

  /** Ends at the first that fails; then it is tried again. */
  async #tellAll(): Promise<void> {
    const { log } = this.#options;
    const count = this.#late.size;
    try {
      for (const [id, record] of [...this.#late]) {
        if (this.#late.get(id) !== record) continue;
        if (record === null) await this.#forget([id]);
        else await this.#set('instances', id, JSON.stringify(record));
        if (this.#late.get(id) === record) this.#late.delete(id);
      }
      this.#attempts = 0;
      if (count > 0) log.info({ count }, 'the records of instances that waited for the store are written');
    } catch (error) {
      if (error instanceof FnError && error.code === 'store-unavailable') {
        this.#tellLater();
        return;
      }
      this.#late.clear();
      log.error(
        { count, error: error instanceof Error ? error.message : String(error) },
        'records of instances cannot be written any more',
      );
    }
  }

  async #set(hash: string, id: string, value: string): Promise<void> {
    await this.#options.term.write(SET, [this.#key(hash)], [id, value]);
  }

  async #forget(ids: readonly string[]): Promise<void> {
    await this.#options.term.write(FORGET, [this.#key('instances'), this.#key('log-positions')], [...ids]);
  }

  /** In pages; a field may come twice. */
  async *#scan(hash: string): AsyncGenerator<[string, string]> {
    let cursor = '0';
    do {
      const [next, found] = asList(await this.#options.term.connection.call('HSCAN', this.#key(hash), cursor, 'COUNT', PAGE));
      yield* asPairs(found, String);
      cursor = String(next);
    } while (cursor !== '0');
  }

  #key(name: string): string {
    return this.#options.term.connection.key(name);
  }
}
