-- Begin the refresh of a portal's tokens, unless it has to wait.
--
-- KEYS  1 lease of the portal's refresh   2 backoff of the portal   3 backoff of the app   4 refreshes begun this second
-- ARGV  1 holder   2 lease (ms)   3 refreshes a second
--
-- Returns {1} with the lease acquired, or {0, ms to wait, why}.

for _, wait in ipairs({{KEYS[3], 'app'}, {KEYS[2], 'portal'}, {KEYS[1], 'held'}}) do
  local left = redis.call('PTTL', wait[1])
  if left > 0 then
    return {0, left, wait[2]}
  end
end
if tonumber(redis.call('GET', KEYS[4]) or 0) >= tonumber(ARGV[3]) then
  return {0, math.max(1, redis.call('PTTL', KEYS[4])), 'rate'}
end
if redis.call('INCR', KEYS[4]) == 1 then
  redis.call('PEXPIRE', KEYS[4], 1000)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1}
