/**
 * What the scripts of the event store have in common, and where everything is kept. Each operation is one script, so it happens whole
 * or not at all, and nothing in it takes longer because a million events wait.
 *
 * All keys begin with `fn:{NAME}:ev:`. Scripts make the names of their keys themselves (which events a claim touches is
 * not known before it runs), so all of them must be in one slot of a cluster: `{NAME}` is what makes them so.
 *
 *     seq                    counter: the order of enqueuing
 *     e:ID                   hash: the event. Its values are short, so Redis keeps it in one compact piece (listpack)
 *     p:ID, r:ID             its payload, and the function's answer
 *     due:LANE               sorted set of what may be claimed, by due time; member: 16 digits of seq, then the id
 *     s:STATE:LANE           sorted set of all in that state (0–5, as in STATE), by seq: counts and lists
 *     k:LANE KEY             sorted set of those with an order key that are not over, by seq; only its first can be in due:LANE
 *     c:OWNER                set of what an owner has claimed
 *     owners                 sorted set of owners, by the time until which they take part
 *     lanes, fl:NS/NAME      hash of lanes with their function; set of a function's lanes
 *     d:NS/NAME, d:NS/NAME TRIGGER   sorted sets of dead letters, by time; members as in due:LANE
 *     m:LANE TRIGGER MESSAGE the id that a broker's message has
 *     kept                   sorted set of what is over, by the time until which it is kept
 *     dd:NS/NAME, du         hash of keys of deduplication (TRIGGER KEY → until, id, fingerprint); all of them, by time
 *     state                  hash of small texts
 *     gone:TOKEN             the call with this token was given up: when it arrives after all, it must do nothing
 *
 * Fields of e:ID: l lane, n namespace, f function, t trigger, k order key, dk df du deduplication, c created, d due, x expires,
 * s state, q seq, fe fence, de deliveries, at attempts, fi first claim, ca claimed, o owner, tk token of the claim, rq request,
 * rv revision, er error, ri info of the result, z finished, ku kept until, re reason, m message.
 */
import { defineScript, type Script } from './connection.ts';

/** Values of an event among the arguments of a script, see eventArgs(). */
export const EVENT_ARGS = 13;
/** Fields of e:ID as a script returns them, after the id; then payload. */
export const VIEW_FIELDS = 'l n f t k dk df du c d x s fe de at fi ca rq rv er ri z ku re m'.split(' ');

const LIBRARY = `
local P = KEYS[1]
local call = redis.call
local VIEW = { ${VIEW_FIELDS.map((field) => `'${field}'`).join(', ')} }
local AT = {}
for i, field in ipairs(VIEW) do AT[field] = i + 1 end

local function get(id, ...) return call('HMGET', P .. 'e:' .. id, ...) end
-- '' stands for null; what is there has a + before it.
local function opt(value) if value == '' then return false end return string.sub(value, 2) end
local function member(seq, id) return string.format('%016d', tonumber(seq)) .. id end
local function idOf(found) return string.sub(found, 17) end

local function view(id, payload)
  local fields = call('HMGET', P .. 'e:' .. id, unpack(VIEW))
  fields[#VIEW + 1] = payload and call('GET', P .. 'p:' .. id)
  table.insert(fields, 1, id)
  return fields
end

-- From one state to another. false: it is not there yet, or not any more.
local function move(id, lane, seq, from, to)
  if from then call('ZREM', P .. 's:' .. from .. ':' .. lane, id) end
  if to then call('ZADD', P .. 's:' .. to .. ':' .. lane, seq, id) end
end

-- Makes the first of an order key claimable, where it waits. Idempotent.
local function wake(lane, key)
  local first = call('ZRANGE', P .. 'k:' .. lane .. ' ' .. key, 0, 0)[1]
  if not first then return end
  local e = get(first, 's', 'd', 'q')
  if tonumber(e[1]) < 2 then call('ZADD', P .. 'due:' .. lane, e[2], member(e[3], first)) end
end

-- It is over: the next one with its order key may go.
local function leaveOrder(id, lane, key)
  if not key then return end
  call('ZREM', P .. 'k:' .. lane .. ' ' .. key, id)
  wake(lane, key)
end

local function deadKeys(namespace, name, trigger)
  local key = P .. 'd:' .. namespace .. '/' .. name
  if trigger then return { key, key .. ' ' .. trigger } end
  return { key }
end

-- A claim ends, and the event waits again. back: 1 where this delivery was none.
local function free(id, back)
  local e = get(id, 'l', 'q', 'd', 'fi', 'o')
  local state = e[4] and '1' or '0'
  call('HSET', P .. 'e:' .. id, 's', state)
  call('HDEL', P .. 'e:' .. id, 'o', 'tk', 'ca')
  if back == 1 then call('HINCRBY', P .. 'e:' .. id, 'de', -1) end
  call('SREM', P .. 'c:' .. e[5], id)
  move(id, e[1], e[2], '2', state)
  call('ZADD', P .. 'due:' .. e[1], e[3], member(e[2], id))
end

local function leave(owner)
  call('ZREM', P .. 'owners', owner)
  local ids = call('SMEMBERS', P .. 'c:' .. owner)
  for _, id in ipairs(ids) do free(id, 0) end
  return #ids
end

local function claimOne(id, lane, seq, from, owner, token, at)
  local key = P .. 'e:' .. id
  call('HINCRBY', key, 'fe', 1)
  call('HINCRBY', key, 'de', 1)
  call('HSET', key, 's', '2', 'o', owner, 'tk', token, 'ca', at)
  call('SADD', P .. 'c:' .. owner, id)
  move(id, lane, seq, from, '2')
end

-- Of the arguments from i on. Returns a record, and where the next one begins.
local function readEvent(i)
  local e = {
    id = ARGV[i], lane = ARGV[i + 1], namespace = ARGV[i + 2], name = ARGV[i + 3], trigger = opt(ARGV[i + 4]), key = opt(ARGV[i + 5]),
    dk = opt(ARGV[i + 6]), df = ARGV[i + 7], du = ARGV[i + 8], created = ARGV[i + 9], due = ARGV[i + 10], expires = ARGV[i + 11],
    payload = ARGV[i + 12],
  }
  return e, i + ${EVENT_ARGS}
end

-- Writes it, in a state, and returns its seq.
local function add(e, state)
  local seq = call('INCR', P .. 'seq')
  local fields = { 'l', e.lane, 'n', e.namespace, 'f', e.name, 'c', e.created, 'd', e.due, 'x', e.expires, 's', state, 'q', seq }
  local function also(name, value) if value then fields[#fields + 1] = name; fields[#fields + 1] = value end end
  also('t', e.trigger)
  also('k', e.key)
  if e.dk then also('dk', e.dk) also('df', e.df) also('du', e.du) end
  call('HSET', P .. 'e:' .. e.id, unpack(fields))
  call('SET', P .. 'p:' .. e.id, e.payload)
  if call('HSETNX', P .. 'lanes', e.lane, e.namespace .. ' ' .. e.name) == 1 then
    call('SADD', P .. 'fl:' .. e.namespace .. '/' .. e.name, e.lane)
  end
  move(e.id, e.lane, seq, false, state)
  return seq
end

-- e: enqueued, c: and claimed, d or m and an id: there is one, or another one.
local function enqueue(e, at, owner, token)
  if call('EXISTS', P .. 'e:' .. e.id) == 1 then return 'd' .. e.id end
  if e.dk then
    local of = e.namespace .. '/' .. e.name
    local field = (e.trigger or '') .. ' ' .. e.dk
    local known = call('HGET', P .. 'dd:' .. of, field)
    if known then
      local till, id, fingerprint = string.match(known, '^(%S+) (%S+) (.*)$')
      if tonumber(till) > at then return (fingerprint == e.df and 'd' or 'm') .. id end
    end
    call('HSET', P .. 'dd:' .. of, field, e.du .. ' ' .. e.id .. ' ' .. e.df)
    call('ZADD', P .. 'du', e.du, of .. ' ' .. field)
  end
  local seq = add(e, '0')
  local blocked = false
  if e.key then
    local key = P .. 'k:' .. e.lane .. ' ' .. e.key
    call('ZADD', key, seq, e.id)
    blocked = call('ZCARD', key) > 1
  end
  if blocked then return 'e' end
  if owner and tonumber(e.due) <= at then
    claimOne(e.id, e.lane, seq, '0', owner, token, at)
    return 'c'
  end
  call('ZADD', P .. 'due:' .. e.lane, e.due, member(seq, e.id))
  return 'e'
end

-- Of a lane in which nothing at all is left.
local function dropLane(lane, namespace, name)
  for state = 0, 5 do if call('EXISTS', P .. 's:' .. state .. ':' .. lane) == 1 then return end end
  call('HDEL', P .. 'lanes', lane)
  call('SREM', P .. 'fl:' .. namespace .. '/' .. name, lane)
end

local function remove(id)
  local e = get(id, 'l', 's', 'q', 'n', 'f', 't', 'k', 'm', 'o')
  local lane, state, seq, trigger = e[1], e[2], e[3], e[6]
  move(id, lane, seq, state, false)
  call('ZREM', P .. 'due:' .. lane, member(seq, id))
  call('ZREM', P .. 'kept', id)
  if e[9] then call('SREM', P .. 'c:' .. e[9], id) end
  if state == '4' then for _, key in ipairs(deadKeys(e[4], e[5], trigger)) do call('ZREM', key, member(seq, id)) end end
  if e[8] then call('DEL', P .. 'm:' .. lane .. ' ' .. (trigger or '') .. ' ' .. e[8]) end
  call('UNLINK', P .. 'e:' .. id, P .. 'p:' .. id, P .. 'r:' .. id)
  if tonumber(state) < 3 then leaveOrder(id, lane, e[7]) end
  if call('EXISTS', P .. 's:' .. state .. ':' .. lane) == 0 then dropLane(lane, e[4], e[5]) end
end

-- It is a dead letter.
local function bury(id, at)
  local e = get(id, 'n', 'f', 't', 'q')
  for _, key in ipairs(deadKeys(e[1], e[2], e[3])) do call('ZADD', key, at, member(e[4], id)) end
end
`;

/** A script of the event store. KEYS[1]: what all of its keys begin with. */
export const eventScript = (body: string): Script => defineScript(`${LIBRARY}\n${body}`);
