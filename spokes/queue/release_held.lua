-- Make deliveries due that wait for the end of a pause: all of them after its end, or one as a probe.
-- A probe comes before everything else in its queue, and only one is under way at a time.
--
-- KEYS  1 held deliveries, by the time since which they wait   2 names of all sets with held deliveries
--       3 channel that wakes idle workers   4 the delivery that is the probe, and then the queues, one of which has
--       each delivery
-- ARGV  1 now (ms)   2 number of deliveries   3 lease of the probe (s), 0 to release without a probe
--       4 name of this set
--
-- Returns the number of deliveries made due; -1 if a probe is under way.

local now_ms, lease_s = tonumber(ARGV[1]), tonumber(ARGV[3])
if lease_s > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  return -1
end

-- Return the time at which a delivery becomes due in a queue.
local function due_at(queue)
  local first = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]
  return lease_s > 0 and first and math.min(now_ms, first - 1) or now_ms
end

local released, ids = 0, redis.pcall('ZRANGE', KEYS[1], 0, 999)
if ids.err then -- the key holds another type of value: the deliveries become due by time
  redis.call('SREM', KEYS[2], ARGV[4])
  return 0
end
for _, id in ipairs(ids) do
  if released == tonumber(ARGV[2]) then
    break
  end
  redis.call('ZREM', KEYS[1], id)
  for i = 5, #KEYS do
    if redis.call('ZSCORE', KEYS[i], id) then -- otherwise it has run since
      redis.call('ZADD', KEYS[i], due_at(KEYS[i]), id)
      released = released + 1
    end
  end
  if lease_s > 0 and released > 0 then
    redis.call('SET', KEYS[4], id, 'EX', lease_s)
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[4])
end
if released > 0 then
  redis.call('PUBLISH', KEYS[3], '')
end
return released
