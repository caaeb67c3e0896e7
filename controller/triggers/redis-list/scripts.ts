/**
 * What is done to a list, each in one step of the server. Beside the list there are, all in its hash slot:
 *
 * - values and order of what a consumer has taken: a hash from the message's id to `DELIVERIES:VALUE`, and a sorted set of ids in the
 *   order in which they were taken;
 * - which consumers there are, and until when each is taken to be alive;
 * - ids of values that went back to the list: a value in a list has no id, so they are found again by what is in it. Of two
 *   values that are the same it does not matter which one has which id.
 */
import { script } from '../redis-connection.ts';

/** KEYS of all scripts, in this order. */
export const keysOf = (list: string, consumer: string): string[] => {
  // All of them in the slot of the list: under its own hash tag, or its whole name as one.
  const own = `fn:list:{${/\{([^}]+)\}/.exec(list)?.[1] ?? list}}:${list}`;
  return [
    list,
    `${own}:ids`,
    `${own}:consumers`,
    `${own}:again`,
    `${own}:taken:${consumer}`,
    `${own}:order:${consumer}`,
    `${own}:lost:${consumer}`,
  ];
};

/** How long ids of what went back are kept, seconds: somebody else may have taken it. */
const AGAIN_SECONDS = 1_209_600;
/** How long one that was taken from a consumer is known to be, seconds. */
const LOST_SECONDS = 86_400;

const PRELUDE = `
local list, ids, consumers, again, taken, order, lost = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Back to the end that they came from, the oldest outermost; deliveries that were none are taken off.
local function back(push, taken, order, wanted, off)
  local sorted = redis.call('ZREVRANGE', order, 0, -1)
  local moved = {}
  for _, id in ipairs(sorted) do
    if wanted == nil or wanted[id] then
      local kept = redis.call('HGET', taken, id)
      if kept then
        local count, value = kept:match('^(%d+):(.*)$')
        redis.call(push, list, value)
        local hash = redis.sha1hex(value)
        local before = redis.call('HGET', again, hash)
        redis.call('HSET', again, hash, id .. ',' .. (count - off) .. ';' .. (before or ''))
        redis.call('HDEL', taken, id)
        moved[#moved + 1] = id
      end
      redis.call('ZREM', order, id)
    end
  end
  if #moved > 0 then redis.call('EXPIRE', again, ${AGAIN_SECONDS}) end
  return moved
end
`;

/** ARGV: consumer, how many, POP, alive for ms. → id, deliveries, value, … */
export const TAKE = script(`${PRELUDE}
local values = redis.call(ARGV[3], list, ARGV[2])
if not values then return {} end
local answer = {}
for _, value in ipairs(values) do
  local hash = redis.sha1hex(value)
  local kept = redis.call('HGET', again, hash)
  local id, count = nil, 0
  if kept then
    local first, rest = kept:match('^([^;]*);(.*)$')
    id, count = first:match('^(.*),(%d+)$')
    if rest == '' then redis.call('HDEL', again, hash) else redis.call('HSET', again, hash, rest) end
  end
  -- From the time on, so that a server that lost the counter gives no id twice.
  if not id then
    redis.call('SET', ids, time[1] .. string.format('%06d', time[2]), 'NX')
    id = string.format('%.0f', redis.call('INCR', ids))
  end
  count = count + 1
  redis.call('HSET', taken, id, count .. ':' .. value)
  local last = redis.call('ZREVRANGE', order, 0, 0, 'WITHSCORES')
  redis.call('ZADD', order, (last[2] or 0) + 1, id)
  redis.call('SREM', lost, id)
  answer[#answer + 1] = id
  answer[#answer + 1] = count
  answer[#answer + 1] = value
end
redis.call('ZADD', consumers, string.format('%.0f', now + ARGV[4]), ARGV[1])
return answer`);

/** ARGV: ids. → how many of them were taken away from this consumer meanwhile. */
export const ACK = script(`${PRELUDE}
local others = 0
for _, id in ipairs(ARGV) do
  if redis.call('HDEL', taken, id) == 0 and redis.call('SISMEMBER', lost, id) == 1 then others = others + 1 end
  redis.call('ZREM', order, id)
end
return others`);

/** ARGV: PUSH, ids. Without ids: all. */
export const RELEASE = script(`${PRELUDE}
local wanted = nil
if #ARGV > 1 then
  wanted = {}
  for i = 2, #ARGV do wanted[ARGV[i]] = true end
end
return #back(ARGV[1], taken, order, wanted, 1)`);

/** What this consumer has and does not know of: the answer of a TAKE got lost. ARGV: PUSH, ids that it knows of. → how many went back. */
export const RESCUE = script(`${PRELUDE}
local known, wanted = {}, {}
for i = 2, #ARGV do known[ARGV[i]] = true end
for _, id in ipairs(redis.call('ZRANGE', order, 0, -1)) do
  if not known[id] then wanted[id] = true end
end
return #back(ARGV[1], taken, order, wanted, 1)`);

/** ARGV: consumer, alive for ms. */
export const BEAT = script(`${PRELUDE}
if redis.call('EXISTS', taken) == 1 then redis.call('ZADD', consumers, string.format('%.0f', now + ARGV[2]), ARGV[1]) end
return 1`);

/** ARGV: consumer. When it has nothing any more. */
export const LEAVE = script(`${PRELUDE}
if redis.call('EXISTS', taken) == 0 then redis.call('ZREM', consumers, ARGV[1]) end
return 1`);

/** A sign of life of this one, and the consumers whose time is over. ARGV: consumer, alive for ms. */
export const EXPIRED = script(`${PRELUDE}
if redis.call('EXISTS', taken) == 1 then redis.call('ZADD', consumers, string.format('%.0f', now + ARGV[2]), ARGV[1]) end
return redis.call('ZRANGEBYSCORE', consumers, '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)`);

/** ARGV: consumer, PUSH. KEYS are of that consumer. → how many went back; none where it is alive after all. */
export const RECOVER = script(`${PRELUDE}
local score = redis.call('ZSCORE', consumers, ARGV[1])
if not score or tonumber(score) > now then return 0 end
local moved = back(ARGV[2], taken, order, nil, 0)
for _, id in ipairs(moved) do redis.call('SADD', lost, id) end
redis.call('EXPIRE', lost, ${LOST_SECONDS})
redis.call('ZREM', consumers, ARGV[1])
return #moved`);
