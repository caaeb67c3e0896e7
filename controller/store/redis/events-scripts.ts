/** The scripts of the event store: one per operation. Their keys are in events-library.ts. */
import { eventScript } from './events-library.ts';

/** Values of a settlement, before the events that follow from it. */
export const SETTLEMENT_ARGS = 13;
/** How long a command can be on its way, at most: a Redis that was frozen for longer has lost its connections. */
const GONE_SECONDS = 86_400;

/** ARGV: owner, until. */
export const JOIN = eventScript(`call('ZADD', P .. 'owners', ARGV[2], ARGV[1]) return 1`);

/** ARGV: owner, until. 0: it is not there. */
export const BEAT = eventScript(`
if not call('ZSCORE', P .. 'owners', ARGV[1]) then return 0 end
call('ZADD', P .. 'owners', ARGV[2], ARGV[1])
return 1`);

/** ARGV: owner. How many claims were freed. */
export const LEAVE = eventScript(`return leave(ARGV[1])`);

/** ARGV: at. How many claims were freed. */
export const EXPIRE = eventScript(`
local freed = 0
for _, owner in ipairs(call('ZRANGEBYSCORE', P .. 'owners', '-inf', ARGV[1])) do freed = freed + leave(owner) end
return freed`);

/** ARGV: owner, tokens. Their answers were lost: what they have claimed is free again, and one that arrives only now does nothing. */
export const RECOVER = eventScript(`
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
export const ENQUEUE = eventScript(`
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
export const CLAIM = eventScript(`
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
export const SETTLE = eventScript(`
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
    -- The platform's own failure: no worker was lost with it.
    if s.counted ~= '1' then call('HINCRBY', key, 'de', -1) end
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
export const GET = eventScript(`
if call('EXISTS', P .. 'e:' .. ARGV[1]) == 0 then return false end
return view(ARGV[1], true)`);

/** ARGV: id, at, keptUntil. The state it has then. */
export const CANCEL = eventScript(`
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
export const LIST = eventScript(`
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
export const LANES = eventScript(`
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
export const ADD_DEAD = eventScript(`
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
export const LIST_DEAD = eventScript(`
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
export const REDRIVE = eventScript(`
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
export const PURGE = eventScript(`
local done = {}
for _, id in ipairs(ARGV) do
  if get(id, 's')[1] == '4' then remove(id) done[#done + 1] = id end
end
return done`);

/** ARGV: at, limit. Events and keys that it removed. */
export const PRUNE = eventScript(`
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
export const FORGET = eventScript(`
local left = tonumber(ARGV[2])
local removed = 0
for _, lane in ipairs(call('SMEMBERS', P .. 'fl:' .. ARGV[1])) do
  for state = 0, 5 do
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
export const DELETE_STATE = eventScript(`
local removed = 0
for _, key in ipairs(call('HKEYS', P .. 'state')) do
  if string.sub(key, 1, #ARGV[1]) == ARGV[1] then removed = removed + call('HDEL', P .. 'state', key) end
end
return removed`);
