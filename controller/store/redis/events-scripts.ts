/**
 * The scripts of the event store. Each operation is one of them, so it happens whole or not at all, and nothing in it
 * takes longer because a million events wait.
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
import { defineScript } from './connection.ts';

/** Values of an event among the arguments of a script, see eventArgs(). */
export const EVENT_ARGS = 13;
/** Values of a settlement, before the events that follow from it. */
export const SETTLEMENT_ARGS = 13;
/** How long a command can be on its way, at most: a Redis that was frozen for longer has lost its connections. */
const GONE_SECONDS = 86_400;
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

const script = (body: string) => defineScript(`${LIBRARY}\n${body}`);

/** ARGV: owner, until. */
export const JOIN = script(`call('ZADD', P .. 'owners', ARGV[2], ARGV[1]) return 1`);

/** ARGV: owner, until. 0: it is not there. */
export const BEAT = script(`
if not call('ZSCORE', P .. 'owners', ARGV[1]) then return 0 end
call('ZADD', P .. 'owners', ARGV[2], ARGV[1])
return 1`);

/** ARGV: owner. How many claims were freed. */
export const LEAVE = script(`return leave(ARGV[1])`);

/** ARGV: at. How many claims were freed. */
export const EXPIRE = script(`
local freed = 0
for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'owners', '-inf', ARGV[1])) do freed = freed + leave(owner) end
return freed`);

/** ARGV: owner, tokens. Their answers were lost: what they have claimed is free again, and one that arrives only now does nothing. */
export const RECOVER = script(`
local owner, lost, freed = ARGV[1], {}, 0
for i = 2, #ARGV do
  lost[ARGV[i]] = true
  call('SET', P .. 'gone:' .. ARGV[i], '', 'EX', ${GONE_SECONDS})
end
for _, id in ipairs(call('SMEMBERS', P .. 'c:' .. owner)) do
  if lost[get(id, 'tk')[1]] then free(id, 1) freed = freed + 1 end
end
return freed`);

/** ARGV: owner or '', token or '', then of each event: at, 1 where it is to be claimed, the event. One text per event, see enqueue(). */
export const ENQUEUE = script(`
local owner, token = ARGV[1], ARGV[2]
if token ~= '' and call('EXISTS', P .. 'gone:' .. token) == 1 then return redis.error_reply('FN store-unavailable This call was given up.') end
if owner == '' or not call('ZSCORE', P .. 'owners', owner) then owner = false end
local outcomes = {}
local i = 3
while i <= #ARGV do
  local at, claim = tonumber(ARGV[i]), ARGV[i + 1] == '1'
  local e
  e, i = readEvent(i + 2)
  outcomes[#outcomes + 1] = enqueue(e, at, claim and owner, token)
end
return outcomes`);

/** ARGV: owner, token, at, bytes, then lane and limit, again and again. 1 where it ended because of so many bytes of payload, else 0; then an event per claim, see view(). */
export const CLAIM = script(`
local owner, token, at, bytes = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if call('EXISTS', P .. 'gone:' .. token) == 1 then return redis.error_reply('FN store-unavailable This call was given up.') end
if not call('ZSCORE', P .. 'owners', owner) then
  return redis.error_reply('FN not-leader ' .. owner .. ' has not beaten for too long: its events are others now.')
end
-- As text, as fields are returned.
local function plus(count) return string.format('%d', tonumber(count or 0) + 1) end
local claims = { 0 }
local stopped = false
for i = 5, #ARGV, 2 do
  local lane = ARGV[i]
  local due, running, waited = {}, {}, { ['0'] = {}, ['1'] = {} }
  for _, found in ipairs(stopped and {} or call('ZRANGEBYSCORE', P .. 'due:' .. lane, '-inf', at, 'LIMIT', 0, ARGV[i + 1])) do
    local id = idOf(found)
    local fields = view(id, true)
    bytes = bytes - #(fields[#fields] or '')
    if bytes < 0 and #claims > 1 then
      claims[1] = 1
      stopped = true
      break
    end
    local seq, state = tonumber(string.sub(found, 1, 16)), fields[AT.s]
    fields[AT.fe], fields[AT.de], fields[AT.ca] = plus(fields[AT.fe]), plus(fields[AT.de]), at
    call('HSET', P .. 'e:' .. id, 's', '2', 'o', owner, 'tk', token, 'ca', at, 'fe', fields[AT.fe], 'de', fields[AT.de])
    claims[#claims + 1] = fields
    due[#due + 1] = found
    waited[state][#waited[state] + 1] = id
    running[#running + 1] = seq
    running[#running + 1] = id
  end
  if #due > 0 then
    -- All of them at once: half of the time is spent in sorted sets.
    call('ZREM', P .. 'due:' .. lane, unpack(due))
    for state, ids in pairs(waited) do
      if #ids > 0 then
        call('ZREM', P .. 's:' .. state .. ':' .. lane, unpack(ids))
        call('SADD', P .. 'c:' .. owner, unpack(ids))
      end
    end
    call('ZADD', P .. 's:2:' .. lane, unpack(running))
  end
end
return claims`);

/** ARGV: settlements, each with the events that follow. 1 or 0 each. */
export const SETTLE = script(`
local function finish(id, e, s)
  local state = s.outcome == 'd' and '4' or '3'
  if s.result then call('SET', P .. 'r:' .. id, s.result) end
  call('ZADD', P .. 'kept', s.time, id)
  move(id, e.lane, e.seq, '2', state)
  if state == '4' then
    bury(id, s.at)
  else
    call('DEL', P .. 'p:' .. id)
  end
  leaveOrder(id, e.lane, e.key)
end

local function settle(id, fence, s)
  local found = get(id, 's', 'fe', 'l', 'q', 'k', 'fi', 'ca', 'o')
  if found[1] ~= '2' or found[2] ~= fence then return 0 end
  if s.outcome == 'b' then free(id, 1) return 1 end
  local key = P .. 'e:' .. id
  local e = { lane = found[3], seq = found[4], key = found[5] }
  call('HDEL', key, 'o', 'tk', 'ca', 'rq', 'rv')
  call('SREM', P .. 'c:' .. found[8], id)
  local retried = s.outcome == 'r'
  local fields = { 's', retried and '1' or (s.outcome == 'd' and '4' or '3') }
  local function set(name, value) if value then fields[#fields + 1] = name; fields[#fields + 1] = value end end
  set('rq', s.request)
  set('rv', s.revision)
  set('er', s.error)
  set('ri', s.info)
  if retried then set('d', s.time) else set('z', s.at) set('ku', s.time) end
  if retried and not found[6] then set('fi', found[7]) end
  if s.outcome == 'd' then set('re', s.reason) end
  call('HSET', key, unpack(fields))
  if s.counted == '1' then call('HINCRBY', key, 'at', 1) end
  if retried then
    move(id, e.lane, e.seq, '2', '1')
    call('ZADD', P .. 'due:' .. e.lane, s.time, member(e.seq, id))
  else
    finish(id, e, s)
  end
  return 1
end

local outcomes = {}
local i = 1
while i <= #ARGV do
  local s = {
    outcome = ARGV[i + 2], at = ARGV[i + 3], request = opt(ARGV[i + 4]), revision = opt(ARGV[i + 5]), time = ARGV[i + 6],
    counted = ARGV[i + 7], error = opt(ARGV[i + 8]), reason = ARGV[i + 9], result = opt(ARGV[i + 10]), info = opt(ARGV[i + 11]),
  }
  local done = settle(ARGV[i], ARGV[i + 1], s)
  local following = tonumber(ARGV[i + 12])
  i = i + ${SETTLEMENT_ARGS}
  for _ = 1, following do
    local e
    e, i = readEvent(i)
    if done == 1 then enqueue(e, tonumber(s.at), false, '') end
  end
  outcomes[#outcomes + 1] = done
end
return outcomes`);

/** ARGV: id. */
export const GET = script(`
if call('EXISTS', P .. 'e:' .. ARGV[1]) == 0 then return false end
return view(ARGV[1], true)`);

/** ARGV: id, at, keptUntil. The state it has then. */
export const CANCEL = script(`
local id = ARGV[1]
local e = get(id, 's', 'l', 'q', 'k', 'o')
local state, lane = e[1], e[2]
if not state then return false end
if tonumber(state) > 2 then return state end
call('HSET', P .. 'e:' .. id, 's', '5', 'z', ARGV[2], 'ku', ARGV[3])
call('HINCRBY', P .. 'e:' .. id, 'fe', 1)
call('HDEL', P .. 'e:' .. id, 'o', 'tk', 'ca')
call('DEL', P .. 'p:' .. id)
if e[5] then call('SREM', P .. 'c:' .. e[5], id) end
call('ZREM', P .. 'due:' .. lane, member(e[3], id))
call('ZADD', P .. 'kept', ARGV[3], id)
move(id, lane, e[3], state, '5')
leaveOrder(id, lane, e[4])
return '5'`);

/** ARGV: NS/NAME, limit, states. Events without payloads, the newest first. */
export const LIST = script(`
local limit = tonumber(ARGV[2])
local found = {}
for _, lane in ipairs(call('SMEMBERS', P .. 'fl:' .. ARGV[1])) do
  if string.sub(lane, -1) ~= '>' then
    for i = 3, #ARGV do
      local ids = call('ZREVRANGE', P .. 's:' .. ARGV[i] .. ':' .. lane, 0, limit - 1, 'WITHSCORES')
      for j = 1, #ids, 2 do found[#found + 1] = { ids[j], tonumber(ids[j + 1]) } end
    end
  end
end
table.sort(found, function(a, b) return a[2] > b[2] end)
local events = {}
for i = 1, math.min(limit, #found) do events[i] = view(found[i][1], false) end
return events`);

/** Of each lane: name, function, waiting, claimed, dead, first due time. */
export const LANES = script(`
local all = call('HGETALL', P .. 'lanes')
local infos = {}
for i = 1, #all, 2 do
  local lane = all[i]
  local function count(state) return call('ZCARD', P .. 's:' .. state .. ':' .. lane) end
  local waiting, claimed, dead = count(0) + count(1), count(2), count(4)
  if waiting + claimed + dead > 0 then
    local first = call('ZRANGE', P .. 'due:' .. lane, 0, 0, 'WITHSCORES')
    infos[#infos + 1] = { lane, all[i + 1], waiting, claimed, dead, first[2] or false }
  end
end
return infos`);

/** ARGV: letters, each an event and message, reason, error, attempts, request, deadAt, keptUntil. An id each. */
export const ADD_DEAD = script(`
local ids = {}
local i = 1
while i <= #ARGV do
  local e
  e, i = readEvent(i)
  local message, request, at, kept = ARGV[i], opt(ARGV[i + 4]), ARGV[i + 5], ARGV[i + 6]
  local known = call('GET', P .. 'm:' .. e.lane .. ' ' .. (e.trigger or '') .. ' ' .. message)
  if not known and call('EXISTS', P .. 'e:' .. e.id) == 1 then known = e.id end
  if not known then
    local seq = add(e, '4')
    call('HSET', P .. 'e:' .. e.id, 'm', message, 're', ARGV[i + 1], 'er', ARGV[i + 2], 'at', ARGV[i + 3], 'z', at, 'ku', kept)
    if request then call('HSET', P .. 'e:' .. e.id, 'rq', request) end
    call('SET', P .. 'm:' .. e.lane .. ' ' .. (e.trigger or '') .. ' ' .. message, e.id)
    call('ZADD', P .. 'kept', kept, e.id)
    bury(e.id, at)
  end
  ids[#ids + 1] = known or e.id
  i = i + 7
end
return ids`);

/** ARGV: NS/NAME or NS/NAME TRIGGER, before or '', limit, bytes. Dead letters, the newest first; ends after so many bytes of payload. */
export const LIST_DEAD = script(`
local key, before, bytes = P .. 'd:' .. ARGV[1], ARGV[2], tonumber(ARGV[4])
local from = 0
if before ~= '' then
  local seq = get(before, 'q')[1]
  local rank = seq and call('ZREVRANK', key, member(seq, before))
  if not rank then return {} end
  from = rank + 1
end
local letters = {}
for _, found in ipairs(call('ZREVRANGE', key, from, from + tonumber(ARGV[3]) - 1)) do
  local id = idOf(found)
  bytes = bytes - call('STRLEN', P .. 'p:' .. id)
  if bytes < 0 and #letters > 0 then return letters end
  letters[#letters + 1] = view(id, true)
end
return letters`);

/** ARGV: at, expiresAt, ids. Those that were there. */
export const REDRIVE = script(`
local done = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local e = get(id, 's', 'l', 'q', 'n', 'f', 't', 'k')
  if e[1] == '4' then
    local lane, seq = e[2], call('INCR', P .. 'seq')
    for _, key in ipairs(deadKeys(e[4], e[5], e[6])) do call('ZREM', key, member(e[3], id)) end
    call('ZREM', P .. 'kept', id)
    call('HDEL', P .. 'e:' .. id, 'de', 'at', 'fi', 'rq', 'rv', 'er', 'ri', 'z', 'ku', 're')
    call('HSET', P .. 'e:' .. id, 's', '0', 'q', seq, 'd', ARGV[1], 'x', ARGV[2])
    call('DEL', P .. 'r:' .. id)
    move(id, lane, seq, '4', '0')
    if e[7] then
      call('ZADD', P .. 'k:' .. lane .. ' ' .. e[7], seq, id)
      wake(lane, e[7])
    else
      call('ZADD', P .. 'due:' .. lane, ARGV[1], member(seq, id))
    end
    done[#done + 1] = id
  end
end
return done`);

/** ARGV: ids. Those that were there. */
export const PURGE = script(`
local done = {}
for _, id in ipairs(ARGV) do
  if get(id, 's')[1] == '4' then remove(id) done[#done + 1] = id end
end
return done`);

/** ARGV: at, limit. Events and keys that it removed. */
export const PRUNE = script(`
local ids = call('ZRANGEBYSCORE', P .. 'kept', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do remove(id) end
local keys = call('ZRANGEBYSCORE', P .. 'du', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, found in ipairs(keys) do
  local of, field = string.match(found, '^(%S+) (.*)$')
  call('HDEL', P .. 'dd:' .. of, field)
  call('ZREM', P .. 'du', found)
end
return { #ids, #keys }`);

/** ARGV: NS/NAME, limit. Events and keys that it removed. */
export const FORGET = script(`
local left = tonumber(ARGV[2])
local removed = 0
for _, lane in ipairs(call('SMEMBERS', P .. 'fl:' .. ARGV[1])) do
  for _, state in ipairs({ 0, 1, 2, 4 }) do
    if removed < left then
      local ids = call('ZREVRANGE', P .. 's:' .. state .. ':' .. lane, 0, left - removed - 1)
      for _, id in ipairs(ids) do remove(id) end
      removed = removed + #ids
    end
  end
end
local fields = removed < left and call('HRANDFIELD', P .. 'dd:' .. ARGV[1], left) or {}
for _, field in ipairs(fields) do
  call('HDEL', P .. 'dd:' .. ARGV[1], field)
  call('ZREM', P .. 'du', ARGV[1] .. ' ' .. field)
end
return { removed, #fields }`);

/** ARGV: prefix. */
export const DELETE_STATE = script(`
local removed = 0
for _, key in ipairs(call('HKEYS', P .. 'state')) do
  if string.sub(key, 1, #ARGV[1]) == ARGV[1] then removed = removed + call('HDEL', P .. 'state', key) end
end
return removed`);
