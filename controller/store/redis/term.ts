/**
 * The term of a controller in Redis, and the lease of who leads. Each write of a store is one script that
 * begins by asking whether its term is still the newest.
 *
 * A Redis that is not set to `appendfsync always` can lose its last second, and a replica that takes over a bit more. Then it is at
 * an earlier term than ours; the next write puts ours back. So a term has a random part, too: the same number, given
 * again to another controller after such a loss, is not ours.
 */
import { type ErrorCode, FnError } from '#contract/errors.ts';
import { newSecret } from '#kit/ids.ts';
import type { Leadership } from '../types.ts';
import { defineScript, type RedisConnection, type RedisValue, type Script } from './connection.ts';
import { asList } from './replies.ts';

const NOT_LEADER: ErrorCode = 'not-leader';

/** KEYS[1]: meta. ARGV[1], ARGV[2]: our term and its random part, or two empty strings. The script's own come after. */
const FENCE = `
local function fenced()
  if ARGV[1] == '' then return nil end
  local now = tonumber(redis.call('HGET', KEYS[1], 'term') or '0')
  local mine = tonumber(ARGV[1])
  if now < mine then
    redis.call('HSET', KEYS[1], 'term', ARGV[1], 'term-by', ARGV[2])
    return nil
  end
  if now == mine and redis.call('HGET', KEYS[1], 'term-by') == ARGV[2] then return nil end
  return redis.error_reply('FN ${NOT_LEADER} Another controller has taken over: this one has term ' .. ARGV[1] ..
    ', and the store is at ' .. now .. '. Nothing was changed.')
end
local refused = fenced()
if refused then return refused end
`;

/** A write: KEYS begin at 2 and ARGV at 3, for the fence has those before. */
export const defineWrite = (lua: string): Script => defineScript(FENCE + lua);

const CAMPAIGN = defineScript(`
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`);

const RESIGN = defineScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`);

/** KEYS: meta, lease. ARGV: random part, candidate ('' takes no part in the lease), the term that we have ('0' for none). */
const RAISE = defineScript(`
if ARGV[2] ~= '' then
  local held = redis.call('GET', KEYS[2])
  if held ~= ARGV[2] then
    return redis.error_reply('FN ${NOT_LEADER} The lease of the leader is ' .. (held and ('held by ' .. held) or 'over') .. ': the term was not raised.')
  end
end
local term = math.max(tonumber(redis.call('HGET', KEYS[1], 'term') or '0'), tonumber(ARGV[3])) + 1
redis.call('HSET', KEYS[1], 'term', term, 'term-by', ARGV[1])
return term
`);

export class RedisTerm implements Leadership {
  readonly connection: RedisConnection;
  /** Hash of what is there once: term, installation, format. */
  readonly meta: string;
  readonly #lease: string;
  #term: { number: number; by: string } | null = null;
  #candidate: string | null = null;

  readonly #onReplaced: () => void;

  /** `onReplaced` hears of each write that another's term has refused. */
  constructor(connection: RedisConnection, onReplaced: () => void = () => {}) {
    this.connection = connection;
    this.#onReplaced = onReplaced;
    this.meta = connection.key('meta');
    this.#lease = connection.key('leader');
  }

  async campaign(candidate: string, ttlMs: number): Promise<boolean> {
    const won = (await this.connection.run(CAMPAIGN, [this.#lease], [candidate, ttlMs])) === 1;
    if (won) this.#candidate = candidate;
    return won;
  }

  async resign(candidate: string): Promise<void> {
    await this.connection.run(RESIGN, [this.#lease], [candidate]);
  }

  async leader(): Promise<string | null> {
    const held = await this.connection.call('GET', this.#lease);
    return held === null ? null : String(held);
  }

  async raiseTerm(): Promise<number> {
    const by = newSecret();
    const number = Number(await this.connection.run(RAISE, [this.meta, this.#lease], [by, this.#candidate ?? '', this.#term?.number ?? 0]));
    this.#term = { number, by };
    return number;
  }

  /** A store that has lost its last writes is at an earlier term: ours is the newest then, too, and the next write puts it back. */
  async holdsTerm(): Promise<boolean> {
    if (this.#term === null) return false;
    const [now, by] = asList(await this.connection.call('HMGET', this.meta, 'term', 'term-by'));
    const newest = Number(now ?? 0);
    return newest < this.#term.number || (newest === this.#term.number && by === this.#term.by);
  }

  /** Runs a script of defineWrite(). Throws FnError not-leader, store-unavailable; then nothing is changed, or nobody knows whether it is. */
  async write(script: Script, keys: readonly string[], args: readonly RedisValue[]): Promise<unknown> {
    const fence = this.#term === null ? ['', ''] : [String(this.#term.number), this.#term.by];
    try {
      return await this.connection.run(script, [this.meta, ...keys], [...fence, ...args]);
    } catch (error) {
      if (error instanceof FnError && error.code === 'not-leader') this.#onReplaced();
      throw error;
    }
  }
}
