-- The rate budget of one portal and kind, one operation a call. Redis' clock is the only clock; times are microseconds.
--
-- A slot is a member of a sorted set whose score is the moment it comes back: a lease while its call is under way,
-- a window after the call's end from then on. HubSpot counts a call when it arrives, between taking and ending its
-- slot, so as many calls as there are slots can never be more than the limit in any window.
--
-- KEYS  1 slots   2 the portal's hash: limit:<kind> as HubSpot told it, until:<kind> and why:<kind> of a pause
-- ARGV  1 operation   2 kind   3 and on: by operation, see below

local operation, kind = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local KEEP_MS = 2 * 24 * 3600 * 1000

local function paused_until()
  local until_kind, until_portal, why_kind, why_portal =
    unpack(redis.call('HMGET', KEYS[2], 'until:' .. kind, 'until:portal', 'why:' .. kind, 'why:portal'))
  local own, all = tonumber(until_kind or 0), tonumber(until_portal or 0)
  if all > own then
    return all, why_portal or ''
  end
  return own, why_kind or ''
end

local function limit_or(configured)
  return tonumber(redis.call('HGET', KEYS[2], 'limit:' .. kind) or configured)
end

-- take: 3 slot, 4 configured limit, 5 window, 6 lease. Returns 1 and nothing to wait, or 0, how long, and why if paused.
if operation == 'take' then
  local window, lease = tonumber(ARGV[5]), tonumber(ARGV[6])
  local due, why = paused_until()
  if due > now then
    return {0, due - now, why}
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  local over = redis.call('ZCARD', KEYS[1]) - limit_or(ARGV[4])
  if over >= 0 then
    local next_due = tonumber(redis.call('ZRANGE', KEYS[1], over, over, 'WITHSCORES')[2])
    -- A call under way frees its slot a window after it ends, which is long before its lease is over.
    return {0, math.min(next_due - now, window), ''}
  end
  redis.call('ZADD', KEYS[1], now + lease, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], math.ceil(lease / 1000) + 1000)
  return {1, 0, ''}
end

-- end: 3 slot, 4 window, 5 limit that HubSpot told, or nothing
if operation == 'end' then
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), ARGV[3])
  if ARGV[5] ~= '' then
    redis.call('HSET', KEYS[2], 'limit:' .. kind, ARGV[5])
    redis.call('PEXPIRE', KEYS[2], KEEP_MS)
  end
  return {}
end

-- back: 3 slot whose call was never made
if operation == 'back' then
  redis.call('ZREM', KEYS[1], ARGV[3])
  return {}
end

-- pause: 3 how long, 4 why. A longer pause stays as it is.
if operation == 'pause' then
  local due = now + tonumber(ARGV[3])
  if due > tonumber(redis.call('HGET', KEYS[2], 'until:' .. kind) or 0) then
    redis.call('HSET', KEYS[2], 'until:' .. kind, due, 'why:' .. kind, ARGV[4])
    redis.call('PEXPIRE', KEYS[2], KEEP_MS)
  end
  return {}
end

-- resume: ends the pause of `kind`
if operation == 'resume' then
  redis.call('HDEL', KEYS[2], 'until:' .. kind, 'why:' .. kind)
  return {}
end

-- state: 3 configured limit. Returns limit, slots taken, how long paused, and why.
if operation == 'state' then
  local due, why = paused_until()
  local used = redis.call('ZCOUNT', KEYS[1], now + 1, '+inf')
  return {limit_or(ARGV[3]), used, math.max(due - now, 0), due > now and why or ''}
end

return redis.error_reply('unknown operation')
