/**
 * The store on Redis, for several controllers. Below `fn:{NAME}:` —
 *
 *     meta                   hash: format, installation, term, term-by
 *     leader                 the candidate that has the lease, with its time to live
 *     numbers                hash NS/FN → last number given to a function; outlives it
 *     functions              set of NS/FN
 *     function:NS/FN         hash: generation, traffic, access, declared-by (JSON); r:NUMBER → revision (JSON)
 *     idle-times             hash NS/FN → when it was used, as the engine writes it
 *     usage                  hash NS/FN ('' for the pool) → what it has used, as the accounting writes it
 *     revision-bundles       hash NS/FN@NUMBER → digest: a body that cannot be read still protects its bundle
 *     …                      tenants in tenancy.ts and audit.ts, bundles in bundles.ts, events in events*.ts
 *
 * Each change is one script: all of it or nothing, and nothing under an old term (term.ts). What a change does is worked out here,
 * from what was read, and the script does it only if that has not changed since; else it is worked out again.
 */
import { FnError } from '#contract/errors.ts';
import type { Revision } from '#contract/function.ts';
import { newSecret } from '#kit/ids.ts';
import type { Log } from '#kit/log.ts';
import {
  changed,
  functionNotFound,
  readFunction,
  readRevisions,
  revisionIsThere,
  servingNumbers,
  unlessDamaged,
  writableRevision,
} from '../stored.ts';
import type { FunctionChange, FunctionRecord, Store } from '../types.ts';
import { defineScript, type RedisConnection } from './connection.ts';
import { asPairs, asTexts, byText } from './replies.ts';
import { RedisTenancy } from './tenancy.ts';
import { defineWrite, RedisTerm } from './term.ts';

/** Of what is below our keys. A newer fn that lays it out otherwise raises it. */
const FORMAT = 1;

/** Writers that race for one function; each loses to another that won, so this many have been written meanwhile. */
const MAX_ATTEMPTS = 100;

/** KEYS: meta. ARGV: format, id. */
const INSTALL = defineScript(`
redis.call('HSETNX', KEYS[1], 'format', ARGV[1])
redis.call('HSETNX', KEYS[1], 'installation', ARGV[2])
return redis.call('HMGET', KEYS[1], 'format', 'installation')
`);

/** KEYS: numbers. ARGV: function. */
const RESERVE = defineWrite(`return redis.call('HINCRBY', KEYS[2], ARGV[3], 1)`);

/**
 * KEYS: functions, function, numbers, revision-bundles. ARGV: NS/FN, generation that it has ('' for none), traffic, access,
 * number of the new revision ('' for none), its body, its bundle, who declares it ('' for nobody), then the numbers that
 * get traffic.
 * Returns the generation, or why not: `again` (it has changed since it was read), `there`.
 */
const COMMIT = defineWrite(`
local number = ARGV[7]
if number ~= '' and redis.call('HEXISTS', KEYS[3], 'r:' .. number) == 1 then return 'there' end
if (redis.call('HGET', KEYS[3], 'generation') or '') ~= ARGV[4] then return 'again' end
for i = 11, #ARGV do
  if ARGV[i] ~= number and redis.call('HEXISTS', KEYS[3], 'r:' .. ARGV[i]) == 0 then return 'again' end
end
if number ~= '' then
  redis.call('HSET', KEYS[3], 'r:' .. number, ARGV[8])
  redis.call('HSET', KEYS[5], ARGV[3] .. '@' .. number, ARGV[9])
  local last = tonumber(redis.call('HGET', KEYS[4], ARGV[3]) or '0')
  if tonumber(number) > last then redis.call('HSET', KEYS[4], ARGV[3], number) end
end
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[3], 'traffic', ARGV[5], 'access', ARGV[6], 'declared-by', ARGV[10])
return redis.call('HINCRBY', KEYS[3], 'generation', 1)
`);

/** KEYS: function, revision-bundles. ARGV: NS/FN, generation, then numbers. Returns those removed, or `again`. */
const REMOVE = defineWrite(`
if (redis.call('HGET', KEYS[2], 'generation') or '') ~= ARGV[4] then return 'again' end
local removed = {}
for i = 5, #ARGV do
  if redis.call('HDEL', KEYS[2], 'r:' .. ARGV[i]) == 1 then
    redis.call('HDEL', KEYS[3], ARGV[3] .. '@' .. ARGV[i])
    removed[#removed + 1] = ARGV[i]
  end
end
return removed
`);

/** KEYS: functions, function, revision-bundles. ARGV: NS/FN. */
const DELETE = defineWrite(`
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
  local number = string.match(field, '^r:(%d+)$')
  if number then redis.call('HDEL', KEYS[4], ARGV[3] .. '@' .. number) end
end
redis.call('DEL', KEYS[3])
return redis.call('SREM', KEYS[2], ARGV[3])
`);

/** KEYS: one of the tables. ARGV: how many are set, then their fields and values, then the fields that are removed. */
const SAVE_ROWS = defineWrite(`
local first = 4 + 2 * tonumber(ARGV[3])
for i = 4, first - 2, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
for i = first, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
`);

/** Hashes of a text by a key. */
type RowTable = 'usage' | 'idle-times';
interface RowChange {
  set: ReadonlyMap<string, string>;
  remove: readonly string[];
}

export interface RedisStoreOptions {
  /** Closed with the store. */
  connection: RedisConnection;
  log: Log;
  /** Hears that another controller has taken over: a write was refused. */
  onReplaced?: () => void;
}

/** Throws FnError store-unavailable, also for what a newer fn has written. */
export async function openRedisStore({ connection, log, onReplaced }: RedisStoreOptions): Promise<RedisStore> {
  const store = new RedisStore(connection, log, onReplaced);
  await store.installationId();
  return store;
}

/** A function as it is there, before its parts were checked. */
interface Found {
  /** '' where there is none. */
  generation: string;
  traffic: string;
  access: string;
  declaredBy: string;
  /** The newest first. */
  revisions: { number: number; body: string }[];
}

export class RedisStore extends RedisTenancy implements Store {
  readonly #log: Log;
  readonly #connection: RedisConnection;

  constructor(connection: RedisConnection, log: Log, onReplaced?: () => void) {
    super(new RedisTerm(connection, onReplaced));
    this.#connection = connection;
    this.#log = log;
  }

  campaign(candidate: string, ttlMs: number): Promise<boolean> {
    return this.term.campaign(candidate, ttlMs);
  }

  resign(candidate: string): Promise<void> {
    return this.term.resign(candidate);
  }

  leader(): Promise<string | null> {
    return this.term.leader();
  }

  raiseTerm(): Promise<number> {
    return this.term.raiseTerm();
  }

  holdsTerm(): Promise<boolean> {
    return this.term.holdsTerm();
  }

  async installationId(): Promise<string> {
    const [format, id] = asTexts(await this.#connection.run(INSTALL, [this.term.meta], [FORMAT, newSecret()]));
    if (Number(format) !== FORMAT)
      throw new FnError(
        'store-unavailable',
        `The store ${this.#connection.address} has format ${format}, and this fn knows ${FORMAT}: it was written by a newer fn. Run that one, or use another ?name=.`,
      );
    return id!;
  }

  async reserveRevision(namespace: string, name: string): Promise<number> {
    return Number(await this.term.write(RESERVE, [this.key('numbers')], [`${namespace}/${name}`]));
  }

  async commitRevision(revision: Revision, change: FunctionChange): Promise<FunctionRecord> {
    return this.#commit(revision.namespace, revision.name, change, writableRevision(revision));
  }

  changeFunction(namespace: string, name: string, change: FunctionChange): Promise<FunctionRecord> {
    return this.#commit(namespace, name, change, null);
  }

  async #commit(namespace: string, name: string, change: FunctionChange, revision: Revision | null): Promise<FunctionRecord> {
    const of = `${namespace}/${name}`;
    const keys = [this.key('functions'), this.#functionKey(namespace, name), this.key('numbers'), this.key('revision-bundles')];
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const found = await this.#find(namespace, name);
      const before = this.#read(namespace, name, found);
      if (before === null && revision === null) throw functionNotFound(namespace, name);
      const kept = new Set(found.revisions.map(({ number }) => number));
      if (revision !== null && kept.has(revision.number)) throw revisionIsThere(revision.key);
      const { traffic, access, declaredBy } = changed(name, before, change, revision === null ? kept : kept.add(revision.number));
      const parts = revision === null ? ['', '', ''] : [revision.number, JSON.stringify(revision), revision.bundle];
      const declared = declaredBy === undefined ? '' : JSON.stringify(declaredBy);
      const shares = traffic.map((share) => share.revision);
      const args = [of, found.generation, JSON.stringify(traffic), JSON.stringify(access), ...parts, declared, ...shares];
      const said = await this.term.write(COMMIT, keys, args);
      if (said === 'there') throw revisionIsThere(revision!.key);
      if (said === 'again') continue;
      // What was just written is known; to read it would show what another has written since.
      const before_ = before?.revisions ?? [];
      const revisions = revision === null ? before_ : [...before_, revision].toSorted((a, b) => b.number - a.number);
      return {
        namespace,
        name,
        traffic,
        access,
        ...(declaredBy === undefined ? {} : { declaredBy }),
        generation: Number(said),
        revisions,
      };
    }
    throw tooMany(name);
  }

  async removeRevisions(namespace: string, name: string, numbers: readonly number[]): Promise<number[]> {
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const found = await this.#find(namespace, name);
      const used = servingNumbers(found.traffic);
      // Of one whose traffic cannot be read, nobody knows what is used.
      const free = this.#read(namespace, name, found) === null ? [] : numbers.filter((number) => !used.has(number));
      if (free.length === 0) return [];
      const keys = [this.#functionKey(namespace, name), this.key('revision-bundles')];
      const said = await this.term.write(REMOVE, keys, [`${namespace}/${name}`, found.generation, ...free]);
      if (said !== 'again') return asTexts(said).map(Number);
    }
    throw tooMany(name);
  }

  async getFunction(namespace: string, name: string): Promise<FunctionRecord | null> {
    return this.#read(namespace, name, await this.#find(namespace, name));
  }

  async listFunctions(namespace?: string): Promise<FunctionRecord[]> {
    const all = asTexts(await this.#connection.call('SMEMBERS', this.key('functions')))
      .map((of) => ({ namespace: of.slice(0, of.indexOf('/')), name: of.slice(of.indexOf('/') + 1) }))
      .filter((of) => namespace === undefined || of.namespace === namespace)
      .sort((a, b) => byText(a.namespace, b.namespace) || byText(a.name, b.name));
    return (await Promise.all(all.map((of) => unlessDamaged(of, this.#log, () => this.getFunction(of.namespace, of.name))))).flat();
  }

  async deleteFunction(namespace: string, name: string): Promise<boolean> {
    const keys = [this.key('functions'), this.#functionKey(namespace, name), this.key('revision-bundles')];
    return (await this.term.write(DELETE, keys, [`${namespace}/${name}`])) === 1;
  }

  async bundlesInUse(): Promise<Set<string>> {
    return new Set(asTexts(await this.#connection.call('HVALS', this.key('revision-bundles'))));
  }

  loadUsage(): Promise<Map<string, string>> {
    return this.#loadRows('usage');
  }

  saveUsage(change: RowChange): Promise<void> {
    return this.#saveRows('usage', change);
  }

  loadIdleTimes(): Promise<Map<string, string>> {
    return this.#loadRows('idle-times');
  }

  saveIdleTimes(change: RowChange): Promise<void> {
    return this.#saveRows('idle-times', change);
  }

  async #loadRows(table: RowTable): Promise<Map<string, string>> {
    return new Map(asPairs(await this.#connection.call('HGETALL', this.key(table)), String));
  }

  async #saveRows(table: RowTable, { set, remove }: RowChange): Promise<void> {
    await this.term.write(SAVE_ROWS, [this.key(table)], [set.size, ...[...set].flat(), ...remove]);
  }

  async close(): Promise<void> {
    this.#connection.close();
  }

  #functionKey(namespace: string, name: string): string {
    return this.key(`function:${namespace}/${name}`);
  }

  /** One HGETALL: all of it as of one moment. */
  async #find(namespace: string, name: string): Promise<Found> {
    const fields = new Map(asPairs(await this.#connection.call('HGETALL', this.#functionKey(namespace, name)), String));
    const revisions = [...fields]
      .filter(([field]) => field.startsWith('r:'))
      .map(([field, body]) => ({ number: Number(field.slice(2)), body }))
      .sort((a, b) => b.number - a.number);
    return {
      generation: fields.get('generation') ?? '',
      traffic: fields.get('traffic') ?? '',
      access: fields.get('access') ?? '',
      declaredBy: fields.get('declared-by') ?? '',
      revisions,
    };
  }

  #read(namespace: string, name: string, found: Found): FunctionRecord | null {
    if (found.generation === '') return null;
    const { traffic, access, declaredBy, generation } = found;
    const revisions = readRevisions({ namespace, name }, found.revisions, servingNumbers(traffic), this.#log);
    return readFunction({ namespace, name, generation: Number(generation), traffic, access, declaredBy }, revisions);
  }
}

const tooMany = (name: string): FnError =>
  new FnError('store-unavailable', `The function ${name} is being changed by ${MAX_ATTEMPTS} others at once.`, { retryAfterSeconds: 1 });
