/**
 * Logs of functions in Redis, for controllers that share no disk. Of each log `NS/FN`:
 *
 *     log:NS/FN            hash: file → its bytes; `v` → whose writes count
 *     log-file:NS/FN/FILE  list of what was appended, piece by piece: no memory but for the bytes, and a piece is there or not
 *     log-times            sorted set of NS/FN/FILE, by when each was written to last (ms since 1970)
 *     log-bytes            of all files together
 *
 * A write that got no answer may be done later, when Redis goes on: after the same was tried again, or more was written. So
 * each names the version of the log that it is for, and what begins to write, or has lost an answer, sets a new one first.
 */
import { randomBytes } from 'node:crypto';
import type { LogFile, LogFiles } from '../types.ts';
import type { RedisValue, Script } from './connection.ts';
import { asList, asPairs, asTexts } from './replies.ts';
import { defineWrite, type RedisTerm } from './term.ts';

/** A field of the log's hash that is no file. */
const VERSION = 'v';

/** KEYS: log. ARGV: version. */
const TAKE = defineWrite(`redis.call('HSET', KEYS[2], '${VERSION}', ARGV[3])`);

/** KEYS: log, log-times, log-bytes. ARGV: version, what the keys of the log's files begin with, what its members of log-times do. */
const definePart = (lua: string): Script =>
  defineWrite(`
if (redis.call('HGET', KEYS[2], '${VERSION}') or '') ~= ARGV[3] then
  return redis.error_reply('FN store-unavailable A log was written to by a call that had been given up: it is looked at again.')
end
local function forget(file)
  redis.call('DECRBY', KEYS[4], redis.call('HGET', KEYS[2], file) or 0)
  redis.call('HDEL', KEYS[2], file)
  redis.call('ZREM', KEYS[3], ARGV[5] .. file)
  redis.call('UNLINK', ARGV[4] .. file)
end
${lua}
if redis.call('HLEN', KEYS[2]) == 1 then redis.call('DEL', KEYS[2]) end
return { tonumber(redis.call('GET', KEYS[4]) or '0'), redis.call('EXISTS', KEYS[2]) }
`);

/** ARGV: file, now, data. */
const APPEND = definePart(`
redis.call('RPUSH', ARGV[4] .. ARGV[6], ARGV[8])
redis.call('HINCRBY', KEYS[2], ARGV[6], #ARGV[8])
redis.call('ZADD', KEYS[3], ARGV[7], ARGV[5] .. ARGV[6])
redis.call('INCRBY', KEYS[4], #ARGV[8])
`);

/** ARGV: file, bytes. */
const TRUNCATE = definePart(`
local bytes = tonumber(redis.call('HGET', KEYS[2], ARGV[6]) or '0')
local wanted = tonumber(ARGV[7])
while bytes > wanted do
  local cut = #redis.call('RPOP', ARGV[4] .. ARGV[6])
  bytes = bytes - cut
  redis.call('HINCRBY', KEYS[2], ARGV[6], -cut)
  redis.call('DECRBY', KEYS[4], cut)
end
if bytes == 0 then forget(ARGV[6]) end
`);

/** ARGV: from, to. */
const RENAME = definePart(`
local bytes = redis.call('HGET', KEYS[2], ARGV[6])
if bytes then
  redis.call('HSET', KEYS[2], ARGV[7], bytes)
  redis.call('HDEL', KEYS[2], ARGV[6])
  redis.call('ZADD', KEYS[3], redis.call('ZSCORE', KEYS[3], ARGV[5] .. ARGV[6]) or 0, ARGV[5] .. ARGV[7])
  redis.call('ZREM', KEYS[3], ARGV[5] .. ARGV[6])
  redis.call('RENAME', ARGV[4] .. ARGV[6], ARGV[4] .. ARGV[7])
end
`);

/** ARGV: file. */
const REMOVE = definePart(`forget(ARGV[6])`);

const REMOVE_LOG = definePart(`
for _, file in ipairs(redis.call('HKEYS', KEYS[2])) do
  if file ~= '${VERSION}' then forget(file) end
end
redis.call('DEL', KEYS[2])
`);

export interface RedisLogsOptions {
  /** Of the store: logs are written under the same term. */
  term: RedisTerm;
  /** Of all logs together. What the newest lines push out is removed by whoever writes, segment by segment. */
  maxBytes: number;
}

export class RedisLogs implements LogFiles {
  readonly #term: RedisTerm;
  readonly #maxBytes: number;
  /** By log, the version that our writes are for. */
  readonly #versions = new Map<string, string>();
  /** As a write heard last. */
  #bytes = 0;

  constructor({ term, maxBytes }: RedisLogsOptions) {
    this.#term = term;
    this.#maxBytes = maxBytes;
  }

  get overfull(): boolean {
    return this.#bytes > this.#maxBytes;
  }

  /** No version of fn has kept them otherwise. */
  async prepare(): Promise<void> {}

  async logs(): Promise<string[]> {
    const members = asTexts(await this.#term.connection.call('ZRANGE', this.#key('log-times'), 0, -1));
    return [...new Set(members.map((member) => placeOf(member).log))];
  }

  async list(log: string): Promise<LogFile[]> {
    const fields = asPairs(await this.#term.connection.call('HGETALL', this.#key(`log:${log}`)), Number);
    const files = fields.filter(([name]) => name !== VERSION).toSorted(([a], [b]) => (a < b ? -1 : 1));
    if (files.length === 0) return [];
    const members = files.map(([name]) => `${log}/${name}`);
    const times = asList(await this.#term.connection.call('ZMSCORE', this.#key('log-times'), ...members));
    return files.map(([name, bytes], index) => ({ name, bytes, changedAt: Number(times[index] ?? 0) }));
  }

  async read(log: string, name: string): Promise<Buffer | null> {
    const pieces = asList(await this.#term.connection.callBuffer('LRANGE', this.#key(`log-file:${log}/${name}`), 0, -1));
    return pieces.length === 0 ? null : Buffer.concat(pieces.filter((piece) => Buffer.isBuffer(piece)));
  }

  async append(log: string, name: string, data: Buffer, at: number): Promise<void> {
    await this.#write(APPEND, log, [name, Math.round(at), data]);
  }

  async truncate(log: string, name: string, bytes: number): Promise<void> {
    await this.#write(TRUNCATE, log, [name, bytes]);
  }

  async rename(log: string, from: string, to: string): Promise<void> {
    await this.#write(RENAME, log, [from, to]);
  }

  async remove(log: string, name: string): Promise<void> {
    await this.#write(REMOVE, log, [name]);
  }

  async removeLog(log: string): Promise<void> {
    await this.#write(REMOVE_LOG, log, []);
  }

  async oldest(): Promise<{ log: string; name: string } | null> {
    const [member] = asTexts(await this.#term.connection.call('ZRANGE', this.#key('log-times'), 0, 0));
    return member === undefined ? null : placeOf(member);
  }

  async #write(script: Script, log: string, args: readonly RedisValue[]): Promise<void> {
    const index = this.#key(`log:${log}`);
    const version = this.#versions.get(log) ?? (await this.#take(log, index));
    // Until it is answered, nobody knows what the log is.
    this.#versions.delete(log);
    const keys = [index, this.#key('log-times'), this.#key('log-bytes')];
    const said = await this.#term.write(script, keys, [version, this.#key(`log-file:${log}/`), `${log}/`, ...args]);
    const [bytes, there] = asList(said).map(Number);
    this.#bytes = bytes!;
    if (there === 1) this.#versions.set(log, version);
  }

  /** From now on what others have sent, and what of ours was not answered, is not done any more. */
  async #take(log: string, index: string): Promise<string> {
    const version = randomBytes(8).toString('hex');
    await this.#term.write(TAKE, [index], [version]);
    return version;
  }

  #key(name: string): string {
    return this.#term.connection.key(name);
  }
}

/** `NS/FN/FILE` */
function placeOf(member: string): { log: string; name: string } {
  const slash = member.lastIndexOf('/');
  return { log: member.slice(0, slash), name: member.slice(slash + 1) };
}
