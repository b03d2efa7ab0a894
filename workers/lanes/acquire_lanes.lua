-- Acquire the lanes of deliveries' objects, and read what must be known before their events run. Safe to repeat: a lane
-- that holds the token of this call is ours already. Loaded with false_lease.lua, arguments.lua and
-- surviving_id.lua in front.
--
-- ARGV  1 lease of a lane (ms)   2 token of this call, and then for each delivery: prefix of its portal's keys, set of its
--       settled events, number of echo keys, the keys, number of events with several handlers, and for each: key of its
--       verdict, number of its first echo key, how many it has; number of groups of objects, and for each: type, token of
--       their lanes if we hold them or nothing, number of ordering keys, the ordering keys, number of objects, their ids
--
-- An event with several handlers gets one verdict for all of them, when the first one is about to run: what that handler
-- writes does not make the event an echo for the others.
--
-- Returns the time (ms), and then for each delivery: the settled event keys; for each echo key 1 if it exists, else 0;
-- and for each object either the surviving id (its lane is then not acquired), or 0 if another holds the lane, or -1 if
-- one of its keys holds another type of value, or the newest timestamps of the ordering keys.

local VERDICT_TTL_S = 1800 -- twice as long as an own write is remembered; extended by every look

local lease_ms, new_token = next_arg(), next_arg()

-- Return whether we hold a lane now. A free lane is acquired, but one that we held and whose lease has lapsed is not:
-- another worker may have held it since, and our items wait in it with what we knew before.
local function acquire(lane, token)
  if token == '' then
    return redis.call('SET', lane, new_token, 'NX', 'PX', lease_ms)
      or redis.pcall('GET', lane) == new_token
      or (is_false_lease(lane, tonumber(lease_ms)) and redis.call('SET', lane, new_token, 'PX', lease_ms))
  end
  return redis.pcall('GET', lane) == token
end

local function echo_flags()
  local first, last = next_list()
  if first > last then
    return {}
  end
  local flags = redis.call('MGET', unpack(ARGV, first, last))
  for i = 1, #flags do
    flags[i] = flags[i] and 1 or 0
  end
  return flags
end

-- Replace the flags of events with several handlers by their verdicts: '1' an echo, '0' none.
local function apply_verdicts(flags)
  for _ = 1, tonumber(next_arg()) do
    local key, first, count = next_arg(), tonumber(next_arg()), tonumber(next_arg())
    local verdict = redis.pcall('GETEX', key, 'EX', VERDICT_TTL_S)
    if type(verdict) ~= 'string' then -- none, or something else wrote the key
      verdict = '0'
      for i = first, first + count - 1 do
        verdict = flags[i] == 1 and '1' or verdict
      end
      redis.call('SET', key, verdict, 'EX', VERDICT_TTL_S)
    end
    for i = first, first + count - 1 do
      flags[i] = verdict == '1' and 1 or 0
    end
  end
end

local portal, lane_prefix, merged_prefix, newest_prefix, has_merges

local function change_portal(prefix)
  portal = prefix
  lane_prefix, merged_prefix, newest_prefix = prefix .. 'lane:', prefix .. 'merged:', prefix .. 'newest:'
  has_merges = redis.call('EXISTS', prefix .. 'merges') == 1
end

-- Return the answer for one object; fails if the map of merged records holds another type of value. What else something
-- wrote under the object's keys is deleted: what they held before is lost in any case.
local function object_answer(object_type, id, token, first, last)
  local name = object_type .. ':' .. id
  local survivor = has_merges and surviving_id(merged_prefix .. object_type .. ':', id) or id
  if survivor ~= id then
    return survivor
  end
  local newest = first > last and {} or redis.pcall('HMGET', newest_prefix .. name, unpack(ARGV, first, last))
  if newest.err then
    redis.call('DEL', newest_prefix .. name)
    newest = redis.call('HMGET', newest_prefix .. name, unpack(ARGV, first, last))
  end
  return acquire(lane_prefix .. name, token) and newest or 0
end

local time = redis.call('TIME')
local answer = {time[1] * 1000 + math.floor(time[2] / 1000)}
while has_args() do
  local prefix, settled_key = next_arg(), next_arg()
  if prefix ~= portal then -- deliveries of one portal often follow each other
    change_portal(prefix)
  end
  local settled = settled_count(settled_key) > 0 and redis.call('SMEMBERS', settled_key) or {}
  local echoes = echo_flags()
  apply_verdicts(echoes)
  local objects = {}
  for _ = 1, tonumber(next_arg()) do
    local object_type, token = next_arg(), next_arg()
    local names_first, names_last = next_list()
    local ids_first, ids_last = next_list()
    for i = ids_first, ids_last do
      local is_read, result = pcall(object_answer, object_type, ARGV[i], token, names_first, names_last)
      if not is_read and not string.find(error_text(result), 'WRONGTYPE', 1, true) then
        error(result)
      end
      objects[#objects + 1] = is_read and result or -1
    end
  end
  answer[#answer + 1] = {settled, echoes, objects}
end
return answer
