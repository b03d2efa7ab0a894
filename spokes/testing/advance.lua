-- Advance the time of a test. Keys expire by the server's time, so what is left of their lives is made shorter. Leases
-- are left alone, because the worker renews them all the time. Dedupe marks have an absolute expiry of the test's time,
-- all other keys a relative one.
--
-- ARGV  1 by how much the time advances (ms)   2 by how much it is then ahead of the server's (ms)

local step_ms, ahead_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left_ms = redis.call('PTTL', key)
  local is_absolute = string.find(key, ':seen:', 1, true)
  local is_lease = string.find(key, ':in-progress:', 1, true) or string.find(key, ':lane:', 1, true)
  if left_ms > 0 and not is_lease then
    if left_ms <= (is_absolute and ahead_ms or step_ms) then
      redis.call('DEL', key)
    elseif not is_absolute then
      redis.call('PEXPIRE', key, left_ms - step_ms)
    end
  end
end
redis.call('SET', 'spokes:testing:ahead-us', ahead_ms * 1000)
