/**
 * The audit log in Redis:
 *
 *     audit-id          the last id
 *     audit             sorted set of ids, by id
 *     audit-of:NS       the same, of one namespace
 *     audit-entries     hash id → namespace (or nothing), a line feed, the entry (JSON)
 */
import { AuditEntry } from '#contract/tenancy.ts';
import { parseJson, readable } from '../stored.ts';
import { asTextOrNull, asTexts } from './replies.ts';
import { defineWrite, type RedisTerm } from './term.ts';

/** Entries that are looked at or removed by one command: some ms. */
const PAGE = 1_000;

/** KEYS: audit-id, audit, audit-entries, audit-of:NS. ARGV: namespace ('' for none), entry. Returns the id. */
const ADD = defineWrite(`
local id = redis.call('INCR', KEYS[2])
redis.call('ZADD', KEYS[3], id, id)
redis.call('HSET', KEYS[4], id, ARGV[3] .. '\\n' .. ARGV[4])
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[5], id, id) end
return id
`);

/** KEYS: audit, audit-entries. ARGV: entries to keep, at most to remove, what the key of a namespace begins with. Returns how many. */
const PRUNE = defineWrite(`
local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[3])
local count = math.min(over, tonumber(ARGV[4]))
if count <= 0 then return 0 end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, count - 1)) do
  local namespace = string.match(redis.call('HGET', KEYS[3], id) or '', '^([^\\n]*)\\n')
  if namespace and namespace ~= '' then redis.call('ZREM', ARGV[5] .. namespace, id) end
  redis.call('HDEL', KEYS[3], id)
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, count - 1)
return count
`);

export class RedisAudit {
  /** Of the whole store: who writes beside it, as bundles do, writes under the same. */
  readonly term: RedisTerm;

  constructor(term: RedisTerm) {
    this.term = term;
  }

  protected key(name: string): string {
    return this.term.connection.key(name);
  }

  async addAudit(entry: Omit<AuditEntry, 'id'>): Promise<AuditEntry> {
    const namespace = entry.namespace ?? '';
    const keys = [this.key('audit-id'), this.key('audit'), this.key('audit-entries'), this.key(`audit-of:${namespace}`)];
    const id = Number(await this.term.write(ADD, keys, [namespace, JSON.stringify(entry)]));
    return { ...entry, id };
  }

  async listAudit(query: { namespaces: '*' | readonly string[]; since?: number; before?: number; limit: number }): Promise<AuditEntry[]> {
    const keys = query.namespaces === '*' ? [this.key('audit')] : query.namespaces.map((one) => this.key(`audit-of:${one}`));
    const found: AuditEntry[] = [];
    let before = query.before ?? Infinity;
    while (found.length < query.limit && keys.length > 0) {
      const page = await this.#page(keys, before);
      if (page.length === 0) break;
      before = page.at(-1)!;
      const entries = await this.#entries(page);
      // The times of entries need not be in order: the clock may have been set back.
      found.push(...entries.filter((entry) => query.since === undefined || entry.t >= query.since));
    }
    return found.slice(0, query.limit);
  }

  /** The highest ids below `before`, of all these keys together. */
  async #page(keys: readonly string[], before: number): Promise<number[]> {
    const upTo = before === Infinity ? '+inf' : `(${before}`;
    const read = (key: string) => this.term.connection.call('ZREVRANGEBYSCORE', key, upTo, '-inf', 'LIMIT', 0, PAGE);
    const lists = await Promise.all(keys.map(read));
    return lists
      .flatMap((list) => asTexts(list).map(Number))
      .sort((a, b) => b - a)
      .slice(0, PAGE);
  }

  async #entries(ids: readonly number[]): Promise<AuditEntry[]> {
    const reply = await this.term.connection.call('HMGET', this.key('audit-entries'), ...ids);
    const texts = Array.isArray(reply) ? reply.map(asTextOrNull) : [];
    return ids.flatMap((id, index) => {
      const text = texts[index];
      // Pruned between the two commands.
      if (text === null || text === undefined) return [];
      const stored = parseJson(text.slice(text.indexOf('\n') + 1));
      return readable(AuditEntry.safeParse(typeof stored === 'object' ? { ...stored, id } : stored), `audit entry ${id}`);
    });
  }

  async pruneAudit(keep: number): Promise<number> {
    let removed = 0;
    for (;;) {
      const keys = [this.key('audit'), this.key('audit-entries')];
      const count = Number(await this.term.write(PRUNE, keys, [keep, PAGE, this.key('audit-of:')]));
      removed += count;
      if (count < PAGE) return removed;
    }
  }
}
