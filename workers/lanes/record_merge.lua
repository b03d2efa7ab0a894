-- Record a merge: each merged record maps to its survivor, and the survivor inherits what we hold on it. Loaded with
-- surviving_id.lua in front.
--
-- ARGV  1 seconds to keep the map   2 key that exists while the portal has merges, and then for each merged record:
--       prefix of the keys of merged records, its id, the surviving id, newest timestamps of both, once effects of both

local ttl_s, has_merges = ARGV[1], ARGV[2]

local function inherit_newest(from, to)
  local newest = redis.call('HGETALL', from)
  for i = 1, #newest, 2 do
    local name, at = newest[i], newest[i + 1]
    local known = redis.call('HGET', to, name)
    if not known or tonumber(known) < tonumber(at) then
      redis.call('HSET', to, name, at)
      redis.call('EXPIRE', to, math.max(redis.call('TTL', from), 1))
    end
  end
end

local function inherit_effects(from, to)
  local effects = redis.call('HGETALL', from)
  for i = 1, #effects, 2 do
    local name = effects[i]
    redis.call('HSETNX', to, name, effects[i + 1])
    local in_flight_ms = redis.call('PTTL', from .. ':' .. name) -- see workers/delivery/once.py
    if in_flight_ms > 0 then
      redis.call('SET', to .. ':' .. name, 1, 'PX', in_flight_ms)
    end
  end
  if #effects > 0 then
    redis.call('EXPIRE', to, math.max(redis.call('TTL', from), 1))
  end
end

for at = 3, #ARGV, 7 do
  local prefix, merged_id, survivor, newest, survivor_newest, once, survivor_once = unpack(ARGV, at, at + 6)
  if surviving_id(prefix, survivor) ~= merged_id then -- else the record would map to itself
    redis.call('SET', prefix .. merged_id, survivor, 'EX', ttl_s)
    redis.call('SET', has_merges, '1', 'EX', ttl_s)
    pcall(inherit_newest, newest, survivor_newest) -- a key of another type is left as it is
    pcall(inherit_effects, once, survivor_once)
  end
end
