-- Start a run of a handler, if its limits allow one now.
--
-- A run counts while the lane holds the token under which it started, so that the runs of a killed worker count until
-- their lanes' leases have expired, and no longer.
--
-- KEYS  1 runs of the handler   2 its starts of the last period   3 the time for which its next refused run is planned
-- ARGV  1 lane of the run's object   2 token of the lane   3 most runs at a time, 0 without a limit
--       4 most starts in a period, 0 without a limit   5 the period (ms)   6 time of one run (ms), as far as known
--
-- Returns 0 if the run may begin, else the milliseconds to wait. Each refused run is planned after the one before it, as
-- fast as the limits let them start.

local lane, token = ARGV[1], ARGV[2]
local max_runs, max_starts, period_ms, run_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

-- Delete a key that holds another type of value: `command` returns a number for ours.
local function delete_unless(command, key)
  if type(redis.pcall(command, key)) ~= 'number' then
    redis.call('DEL', key)
  end
end

local function is_full()
  if max_runs == 0 or redis.call('HEXISTS', KEYS[1], lane) == 1 or redis.call('HLEN', KEYS[1]) < max_runs then
    return false
  end
  local runs = redis.call('HGETALL', KEYS[1])
  for i = 1, #runs, 2 do
    if redis.pcall('GET', runs[i]) ~= runs[i + 1] then
      redis.call('HDEL', KEYS[1], runs[i])
    end
  end
  return redis.call('HLEN', KEYS[1]) >= max_runs
end

local function is_too_early()
  if max_starts == 0 then
    return false
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms - period_ms)
  return redis.call('ZCARD', KEYS[2]) >= max_starts
end

if max_runs > 0 then
  delete_unless('HLEN', KEYS[1])
end
if max_starts > 0 then
  delete_unless('ZCARD', KEYS[2])
end
local too_early = is_too_early()
if too_early or is_full() then
  local step_ms = too_early and period_ms / max_starts or 0
  step_ms = math.max(1, step_ms, max_runs > 0 and run_ms / max_runs or 0)
  local first_ms = now_ms
  if too_early then
    first_ms = tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]) + period_ms
  end
  local planned_ms = math.max((tonumber(redis.pcall('GET', KEYS[3])) or 0) + step_ms, first_ms + 1)
  redis.call('SET', KEYS[3], string.format('%.3f', planned_ms), 'PXAT', math.ceil(planned_ms) + 1)
  return math.max(1, math.ceil(planned_ms - now_ms))
end
if max_runs > 0 then
  redis.call('HSET', KEYS[1], lane, token)
  redis.call('EXPIRE', KEYS[1], 86400)
end
if max_starts > 0 then
  redis.call('ZADD', KEYS[2], now_ms, lane .. ' ' .. time[1] .. time[2])
  redis.call('PEXPIRE', KEYS[2], period_ms)
end
return 0
