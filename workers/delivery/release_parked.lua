-- Record that a worker has a portal's credentials, and make the portal's parked deliveries due.
--
-- KEYS  1 deliveries that are parked for want of credentials   2 portals with credentials
--       3 channel that wakes idle workers, and then the queues, one of which has each delivery
-- ARGV  1 now (ms)   2 portal id   3 now (s)   4 announcements before this (s) are removed
--
-- Returns the number of deliveries made due.

redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])
local ids = redis.call('ZRANGE', KEYS[1], 0, 999)
for _, id in ipairs(ids) do
  for i = 4, #KEYS do
    redis.call('ZADD', KEYS[i], 'XX', ARGV[1], id)
  end
  redis.call('ZREM', KEYS[1], id)
end
if #ids > 0 then
  redis.call('PUBLISH', KEYS[3], '')
end
return #ids
