-- The rate budget of one portal and kind, one operation a call. Redis' clock is the only clock; times are microseconds.
--
-- A slot is a member of a sorted set whose score is the moment it comes back: a lease while its call is under way,
-- a window after the call's end from then on. HubSpot counts a call when it arrives, between taking and ending its
-- slot, so as many calls as there are slots can never be more than the limit in any window.
--
-- Slots of background work stand in a second set as well. It leaves a reserve of the limit to interactive work, and
-- has as many places for itself, so that neither can starve the other.
--
-- KEYS  1 slots   2 those of background work   3 the portal's hash: limit:<kind> as HubSpot told it, until:<kind> and
--       why:<kind> of a pause, day:left and day:until of the daily limit
-- ARGV  1 operation   2 kind   3 and on: by operation, see below

local operation, kind = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local KEEP_MS = 2 * 24 * 3600 * 1000

local function paused_until()
  local until_kind, until_portal, why_kind, why_portal =
    unpack(redis.call('HMGET', KEYS[3], 'until:' .. kind, 'until:portal', 'why:' .. kind, 'why:portal'))
  local own, all = tonumber(until_kind or 0), tonumber(until_portal or 0)
  if all > own then
    return all, why_portal or ''
  end
  return own, why_kind or ''
end

local function limit_or(configured)
  return tonumber(redis.call('HGET', KEYS[3], 'limit:' .. kind) or configured)
end

-- Calls and searches count against the day; what is left of it is known until the day ends.
local function left_of_day()
  if kind == 'associations' then
    return nil
  end
  local left, due = unpack(redis.call('HMGET', KEYS[3], 'day:left', 'day:until'))
  if not left or tonumber(due) <= now then
    return nil
  end
  return tonumber(left), tonumber(due)
end

-- When, of the members that count, so many come back that there is room for one more.
local function room_at(key, over)
  return tonumber(redis.call('ZRANGE', key, over, over, 'WITHSCORES')[2])
end

-- take: 3 slot, 4 configured limit, 5 window, 6 lease, 7 share that is reserved, 8 'background' or 'interactive'.
-- Returns 1 and nothing to wait, or 0, how long, and why if paused.
if operation == 'take' then
  local window, lease, background = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[8] == 'background'
  local due, why = paused_until()
  if due > now then
    return {0, due - now, why}
  end
  local left, day_ends = left_of_day()
  if left and left <= 0 then
    return {0, day_ends - now, 'DAILY'}
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  local limit = limit_or(ARGV[4])
  local reserve = math.floor(limit * tonumber(ARGV[7]))
  local over = redis.call('ZCARD', KEYS[1]) - limit
  local next_due = over >= 0 and room_at(KEYS[1], over) or 0
  if background then
    local over_shared = over + reserve
    local over_own = redis.call('ZCARD', KEYS[2]) - reserve
    if over_shared >= 0 and over_own >= 0 then
      local shared = room_at(KEYS[1], over_shared)
      local own = room_at(KEYS[2], over_own) or shared -- where nothing is reserved, no place of its own comes back
      next_due = math.max(next_due, math.min(shared, own))
    end
  end
  if next_due > now then
    -- A call under way frees its slot a window after it ends, which is long before its lease is over.
    return {0, math.min(next_due - now, window), ''}
  end
  local keep = math.ceil(lease / 1000) + 1000
  redis.call('ZADD', KEYS[1], now + lease, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], keep)
  if background then
    redis.call('ZADD', KEYS[2], now + lease, ARGV[3])
    redis.call('PEXPIRE', KEYS[2], keep)
  end
  if left then
    redis.call('HINCRBY', KEYS[3], 'day:left', -1)
  end
  return {1, 0, ''}
end

-- end: 3 slot, 4 window, 5 limit that HubSpot told, or nothing, 6 what it says is left of the day, or nothing,
-- 7 how long the day lasts
if operation == 'end' then
  local back = now + tonumber(ARGV[4])
  redis.call('ZADD', KEYS[1], back, ARGV[3])
  redis.call('ZADD', KEYS[2], 'XX', back, ARGV[3])
  if ARGV[5] ~= '' then
    redis.call('HSET', KEYS[3], 'limit:' .. kind, ARGV[5])
    redis.call('PEXPIRE', KEYS[3], KEEP_MS)
  end
  if ARGV[6] ~= '' then
    -- Calls under way are not in HubSpot's figure yet, or only some of them.
    local under_way = redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', back), '+inf')
    redis.call('HSET', KEYS[3], 'day:left', ARGV[6] - under_way, 'day:until', now + tonumber(ARGV[7]))
    redis.call('PEXPIRE', KEYS[3], KEEP_MS)
  end
  return {}
end

-- back: 3 slot whose call was never made
if operation == 'back' then
  local given = redis.call('ZREM', KEYS[1], ARGV[3])
  redis.call('ZREM', KEYS[2], ARGV[3])
  if given == 1 and left_of_day() then
    redis.call('HINCRBY', KEYS[3], 'day:left', 1)
  end
  return {}
end

-- pause: 3 how long, 4 why. A longer pause stays as it is.
if operation == 'pause' then
  local due = now + tonumber(ARGV[3])
  if due > tonumber(redis.call('HGET', KEYS[3], 'until:' .. kind) or 0) then
    redis.call('HSET', KEYS[3], 'until:' .. kind, due, 'why:' .. kind, ARGV[4])
    redis.call('PEXPIRE', KEYS[3], KEEP_MS)
  end
  return {}
end

-- resume: ends the pause of `kind`
if operation == 'resume' then
  redis.call('HDEL', KEYS[3], 'until:' .. kind, 'why:' .. kind)
  return {}
end

-- state: 3 configured limit. Returns limit, slots taken, how long paused, why, and what is left of the day or -1.
if operation == 'state' then
  local due, why = paused_until()
  local used = redis.call('ZCOUNT', KEYS[1], now + 1, '+inf')
  local left = left_of_day()
  return {limit_or(ARGV[3]), used, math.max(due - now, 0), due > now and why or '', left or -1}
end

return redis.error_reply('unknown operation')
