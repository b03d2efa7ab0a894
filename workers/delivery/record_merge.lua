-- Learn merges: each loser is known under its survivor from now on, which inherits what we hold on it.
--
-- ARGV  1 seconds to keep it   2 key that stands while the portal has merges, and then for each loser: start of the keys
--       of merged records, its id, the survivor's id, newest marks of both, effects of both

local keep = ARGV[1]
local HOPS = 100

for at = 3, #ARGV, 7 do
  local start, loser, survivor, newest, newest_of_survivor, once, once_of_survivor = unpack(ARGV, at, at + 6)
  local last = survivor
  for _ = 1, HOPS do
    local later = redis.call('GET', start .. last)
    if not later then
      break
    end
    last = later
  end
  if last ~= loser then -- else it would follow itself for ever
    redis.call('SET', start .. loser, survivor, 'EX', keep)
    redis.call('SET', ARGV[2], '1', 'EX', keep)
    local marks = redis.call('HGETALL', newest)
    for i = 1, #marks, 2 do
      local known = redis.call('HGET', newest_of_survivor, marks[i])
      if not known or tonumber(known) < tonumber(marks[i + 1]) then
        redis.call('HSET', newest_of_survivor, marks[i], marks[i + 1])
        redis.call('EXPIRE', newest_of_survivor, math.max(redis.call('TTL', newest), 1))
      end
    end
    local effects = redis.call('HGETALL', once)
    for i = 1, #effects, 2 do
      redis.call('HSETNX', once_of_survivor, effects[i], effects[i + 1])
      local left = redis.call('PTTL', once .. ':' .. effects[i]) -- it may still come of itself: see workers/delivery/once.py
      if left > 0 then
        redis.call('SET', once_of_survivor .. ':' .. effects[i], 1, 'PX', left)
      end
    end
    if #effects > 0 then
      redis.call('EXPIRE', once_of_survivor, math.max(redis.call('TTL', once), 1))
    end
  end
end
