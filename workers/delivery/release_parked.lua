-- Make a portal's deliveries due that are parked for want of its credentials.
--
-- KEYS  1 the parked deliveries   2 channel that wakes idle workers, and then the queues, one of which has each delivery
-- ARGV  1 now (ms)
--
-- Returns the number of deliveries made due.

local ids = redis.call('ZRANGE', KEYS[1], 0, 999)
for _, id in ipairs(ids) do
  for i = 3, #KEYS do
    redis.call('ZADD', KEYS[i], 'XX', ARGV[1], id)
  end
  redis.call('ZREM', KEYS[1], id)
end
if #ids > 0 then
  redis.call('PUBLISH', KEYS[2], '')
end
return #ids
