-- Records writes of handlers for the detection of rewrite loops. Returns how many records it made.
--
-- KEYS  per record: the hash of the object
-- ARGV  1 seconds that a hash lives   then per record: the handler, or '' if the fields are answers to an automation;
--       1 if the event was an automation's, else 0; the number of fields; the fields

local next_argument = 2
local function take()
  next_argument = next_argument + 1
  return ARGV[next_argument - 1]
end

for _, key in ipairs(KEYS) do
  local handler, is_automated, count = take(), take(), tonumber(take())
  for _ = 1, count do
    local field = take()
    if handler == '' then
      redis.call('HSET', key, field, '1')
    else
      redis.call('HSET', key, 'by:' .. field, handler)
      redis.call('HINCRBY', key, field, is_automated)
    end
  end
  if redis.call('TTL', key) < 0 then
    redis.call('EXPIRE', key, ARGV[1])
  end
end
return #KEYS
