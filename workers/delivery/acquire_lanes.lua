-- Begin deliveries: take the lanes of their objects, and read all that must be known before their events are run.
-- Safe to repeat: a lane that bears our token already is ours.
--
-- ARGV  1 lease of a lane (ms)   2 the token of this call, and then for each delivery: key of its settled marks, key that
--       stands while the portal has merges, starts of the keys of lanes, merged records and newest marks, number of
--       echo keys, the keys, number of objects, and for each object: type, id, token of a lane that is ours already or
--       nothing, number of names, the names
--
-- Returns the time (ms), and then for each delivery: the settled event keys, for each echo key whether it stands, and for each object either
-- the id it lives on under (the lane is then not taken), or 0 when the lane is not ours, or the newest marks.

local lease, fresh = ARGV[1], ARGV[2]
local at = 3
local time = redis.call('TIME')
local answer = {time[1] * 1000 + math.floor(time[2] / 1000)}
local HOPS = 100 -- merges of merges; more would be a circle

local function range(count)
  local first = at
  at = at + count
  return unpack(ARGV, first, at - 1)
end

-- Whether a lane is ours: one that is free is taken, but not one that was ours and has lapsed. Another may have been in it
-- since, and who waits in it with us does not know what that one has done.
local function ours(lane, token)
  if token == '' then
    return redis.call('SET', lane, fresh, 'NX', 'PX', lease) or redis.call('GET', lane) == fresh
  end
  return redis.call('GET', lane) == token
end

local function survivor(start, id)
  local last = id
  for _ = 1, HOPS do
    local later = redis.call('GET', start .. last)
    if not later then
      break
    end
    last = later
  end
  return last
end

while at <= #ARGV do
  local marks, merges, lanes, mergers, newest, echo_count = unpack(ARGV, at, at + 5)
  echo_count = tonumber(echo_count)
  at = at + 6
  local settled = redis.call('SMEMBERS', marks)
  local merged = redis.call('EXISTS', merges) == 1
  local echoes = {}
  if echo_count > 0 then
    echoes = redis.call('MGET', range(echo_count))
    for i = 1, echo_count do
      echoes[i] = echoes[i] and 1 or 0
    end
  end
  local object_count = tonumber(ARGV[at])
  at = at + 1
  local objects = {}
  for i = 1, object_count do
    local of_type, id, token, names = unpack(ARGV, at, at + 3)
    at = at + 4
    local name = of_type .. ':' .. id
    local lane = lanes .. name
    local later = merged and survivor(mergers .. of_type .. ':', id) or id
    names = tonumber(names)
    if later ~= id then
      objects[i] = later
    elseif not ours(lane, token) then
      objects[i] = 0
    elseif names == 0 then
      objects[i] = {}
    else
      objects[i] = redis.call('HMGET', newest .. name, unpack(ARGV, at, at + names - 1))
    end
    at = at + names
  end
  answer[#answer + 1] = {settled, echoes, objects}
end
return answer
