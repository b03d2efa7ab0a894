-- Record that a worker has the credentials of portals, and find those with parked deliveries.
--
-- KEYS  1 portals with credentials   2 ... the parked deliveries of each portal
-- ARGV  1 now (s)   2 whether the worker has the credentials   3 ... the portals, in the order of the keys
--
-- Returns the portals with parked deliveries.

local parked = {}
for i = 2, #KEYS do
  local portal = ARGV[i + 1]
  if ARGV[2] == '1' then
    redis.call('ZADD', KEYS[1], ARGV[1], portal)
  end
  local count = redis.pcall('ZCARD', KEYS[i])
  if type(count) ~= 'number' then -- another type of value, which something else wrote: parked deliveries are due after a day
    redis.call('DEL', KEYS[i])
  elseif count > 0 then
    parked[#parked + 1] = portal
  end
end
return parked
