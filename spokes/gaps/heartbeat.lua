-- Write the heartbeat of a web process; report the time since the last heartbeat of any web process if it is too long.
--
-- KEYS  1 time of the last heartbeat (epoch ms)   2 list of reports
-- ARGV  now (ms), since when this process has been running without interruption (ms), longest silence (ms), margin (ms),
--       cause
--
-- A process that ran all the time was there to receive, even if Redis did not answer it: nothing is reported then.

local last = tonumber(redis.call('GET', KEYS[1]) or '') or 0
local now, running_since = tonumber(ARGV[1]), tonumber(ARGV[2])
if last > 0 and now - last > tonumber(ARGV[3]) and running_since > last + tonumber(ARGV[3]) then
  local since = string.format('%.0f', last - tonumber(ARGV[4]))
  local until_ms = string.format('%.0f', running_since)
  redis.call('RPUSH', KEYS[2], '{"since":' .. since .. ',"until":' .. until_ms .. ',"cause":"' .. ARGV[5] .. '"}')
end
if now > last then
  redis.call('SET', KEYS[1], ARGV[1])
end
