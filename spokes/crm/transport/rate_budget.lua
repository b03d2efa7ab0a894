-- The rate budget of one portal and one kind of call; one operation per call. Redis' clock is the only clock; times are
-- in microseconds.
--
-- A slot is a member of a sorted set. Its score is the end of its lease while its call is in flight, one window after the
-- call's end from then on. HubSpot counts a call when it arrives, at an unknown moment between the grant and the call's
-- end. A slot therefore comes back one window after the call's end, less what the round trips of all recent calls have in
-- common: that part delays all arrivals alike. The rest may have passed before this call arrived, and delays its slot. So
-- as many calls as there are slots do not exceed the limit in any window.
--
-- Slots of imports are members of a second set too. Imports leave a reserve of the limit free for interactive calls, and
-- may hold as many slots even if interactive calls use all others, so neither starves the other. Imports are granted
-- evenly over the window: slots taken in a burst would all come back in a burst, and until then an interactive call
-- beyond the reserve would wait for nearly a whole window. An interactive call that waits gets the next slot.
--
-- KEYS  1 slots   2 slots of imports   3 the portal's hash: limit:<kind> as HubSpot reported it, until:<kind>
--       and why:<kind> of a pause, day:left, day:limit and day:until of the daily limit, even:<kind> when the imports
--       granted so far end if each lasts its share of the window, urgent:<kind> until when an interactive call waits for
--       a slot   4 the batch queues that were granted a slot a short time ago, by the time;
--       one that sends for both priorities is two members   5 the recent round trips: `fastest`, `total` and
--       `count` of those since a time `since`, and `before`, what those of the period before that had in common
-- ARGV  1 operation   2 kind   3 and on: the operation's arguments, in the order in which it reads them

local SLOTS, IMPORT_SLOTS, PORTAL, QUEUES, ROUND_TRIPS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local operation, kind = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local KEEP_MS = 2 * 24 * 3600 * 1000
local IMPORT_SHARE_OF_WINDOW = 0.95 -- of an even share: otherwise no delay of one call could be made up for
local IN_USE_SHARES = 4.5 -- four pauses, which are a little longer than one share a queue
local DAY_US = 24 * 3600 * 1000000
local GROWTH_SHARE_OF_WINDOW = 0.2 -- in which the growth of interactive work is measured
local RECHECK_SHARE_OF_WINDOW = 0.02 -- until an import that waits for a growing interactive load asks again
local IMPORT_QUEUE = 'import:' -- before the id of a batch queue that sends a batch of imports
local RETURN_PARTS = {0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9} -- as in pacing.py
local LEAST_PERIOD_US = 10000000 -- in which round trips are compared
local LEAST_ROUND_TRIPS = 20 -- of a period, to know what they have in common
local URGENT_US = 50000 -- after its slot is due, a waiting interactive call has asked again

local last_read = 2
local function next_text()
  last_read = last_read + 1
  return ARGV[last_read]
end

local function next_number()
  return tonumber(next_text())
end

-- Returns when the pause of this kind or of the portal ends, whichever is later, and its reason.
local function paused_until()
  local until_kind, until_portal, reason_kind, reason_portal =
    unpack(redis.call('HMGET', PORTAL, 'until:' .. kind, 'until:portal', 'why:' .. kind, 'why:portal'))
  local own, all = tonumber(until_kind or 0), tonumber(until_portal or 0)
  if all > own then
    return all, reason_portal or ''
  end
  return own, reason_kind or ''
end

local function limit_or(configured)
  return tonumber(redis.call('HGET', PORTAL, 'limit:' .. kind) or configured)
end

-- Returns how many calls are left of the day and when it ends; nil if unknown. Calls and searches count against it.
local function left_of_day()
  if kind == 'associations' then
    return nil
  end
  local left, due = unpack(redis.call('HMGET', PORTAL, 'day:left', 'day:until'))
  if not left or tonumber(due) <= now then
    return nil
  end
  return tonumber(left), tonumber(due)
end

-- Returns what round trips have in common, in microseconds: the shortest, less what they take longer on average.
local function common_round_trip(fastest, total, count)
  return math.floor(math.max(2 * fastest - total / count, 0))
end

-- Returns how long before its score a slot comes back: what the round trips of the current period and the one before have
-- in common, 0 while too few are known.
local function early_return()
  local fastest, total, count, before = unpack(redis.call('HMGET', ROUND_TRIPS, 'fastest', 'total', 'count', 'before'))
  if not fastest or (not before and tonumber(count) < LEAST_ROUND_TRIPS) then
    return 0
  end
  local common = common_round_trip(tonumber(fastest), tonumber(total), tonumber(count))
  return before and math.min(tonumber(before), common) or common
end

-- Takes note of the round trip of a call that has ended. A period lasts until the first call that ends a window or more
-- after its begin, so it and the one before hold the round trip of each call whose slot has not come back.
local function note_round_trip(round_trip, window)
  local since, fastest, total, count = unpack(redis.call('HMGET', ROUND_TRIPS, 'since', 'fastest', 'total', 'count'))
  local period = math.max(window, LEAST_PERIOD_US)
  if since and now - tonumber(since) < period then
    redis.call('HSET', ROUND_TRIPS, 'fastest', math.min(tonumber(fastest), round_trip), 'total', total + round_trip,
      'count', count + 1)
    return
  end
  if since then
    local is_known = tonumber(count) >= LEAST_ROUND_TRIPS
    local common = common_round_trip(tonumber(fastest), tonumber(total), tonumber(count))
    redis.call('HSET', ROUND_TRIPS, 'before', is_known and common or 0)
  end
  redis.call('HSET', ROUND_TRIPS, 'since', now, 'fastest', round_trip, 'total', round_trip, 'count', 1)
  redis.call('PEXPIRE', ROUND_TRIPS, math.ceil(2 * period / 1000))
end

-- Returns when enough of a set's slots have come back that there is room for one more; `excess` as many are too many.
local function room_at(key, excess, early)
  local score = redis.call('ZRANGE', key, excess, excess, 'WITHSCORES')[2]
  return score and tonumber(score) - early
end

-- Counts a batch queue as in use, and returns how many share its priority's part of the limit.
-- `share`: time between two calls if those that are left are spread evenly. A queue that pauses among n sends a batch
-- every n shares or so. From the latest grant back, the first queue that was granted none for several pauses of those
-- before it is not in use, nor are the others: a worker that sends a batch now and then shares the limit with nobody.
local function queues_in_use(queue, is_import, window, share)
  redis.call('ZADD', QUEUES, now, (is_import and IMPORT_QUEUE or '') .. queue)
  redis.call('ZREMRANGEBYSCORE', QUEUES, '-inf', now - window)
  redis.call('PEXPIRE', QUEUES, math.ceil(window / 1000))
  local latest, count = redis.call('ZREVRANGE', QUEUES, 0, -1, 'WITHSCORES'), 0
  for i = 1, #latest, 2 do
    if (latest[i]:sub(1, #IMPORT_QUEUE) == IMPORT_QUEUE) == is_import then
      if now - tonumber(latest[i + 1]) > IN_USE_SHARES * math.max(count, 1) * share then
        break
      end
      count = count + 1
    end
  end
  return math.max(count, 1)
end

-- Returns the time between two calls if those that are left, of a window and of a day that is used too fast, are spread
-- evenly; `left`: calls of the day, or nil.
local function even_share(window, available, left, day_limit, day_left_us)
  local share = window / math.max(available, 1)
  if left and left < day_limit * math.min(day_left_us / DAY_US, 1) then
    share = math.max(share, day_left_us / math.max(left, 1))
  end
  return share
end

-- Returns how many slots of imports have a score within a range.
local function import_slots(from, to)
  return redis.call('ZCOUNT', IMPORT_SLOTS, from, to)
end

-- Returns how many slots of interactive calls have a score within a range.
local function interactive_slots(from, to)
  return redis.call('ZCOUNT', SLOTS, from, to) - import_slots(from, to)
end

-- Returns how many calls interactive work will use at most while the slots of imports that begin now are in use: the
-- calls that it uses and goes on making as it does now, less those that come back until then. A small difference is
-- chance, and does not count.
local function expected_interactive(used, reserve, window, early)
  local part = GROWTH_SHARE_OF_WINDOW * window
  local latest = interactive_slots(string.format('%.0f', now + window - part), '+inf')
  local most = 0
  for parts = 0.5, 1 / GROWTH_SHARE_OF_WINDOW - 1, 0.5 do
    local returning = interactive_slots('-inf', string.format('%.0f', now + early + parts * part))
    local more = parts * latest - returning
    if more > math.max(parts, 1) * reserve / 2 then
      most = math.max(most, more)
    end
  end
  return used + most
end

-- Returns how many calls of a window interactive work leaves to imports, at least the reserve.
local function left_to_imports(limit, reserve, window, early)
  local used = redis.call('ZCARD', SLOTS) - redis.call('ZCARD', IMPORT_SLOTS)
  return math.max(1, reserve, limit - reserve - math.floor(expected_interactive(used, reserve, window, early)))
end

-- Returns how long one import lasts when imports are granted evenly, and how much earlier than that they may begin. The
-- reserve's worth faster than evenly: calls that a busy process takes late are made up for, up to what is left.
local function import_pace(left, reserve, window)
  local share = IMPORT_SHARE_OF_WINDOW * window / (left + reserve)
  return share, (math.max(1, reserve) - 1) * share
end

-- Returns when an import may have a slot; `excess`: by how many slots the limit is exceeded with one more.
local function import_due(limit, reserve, excess, window, early)
  local even, urgent = unpack(redis.call('HMGET', PORTAL, 'even:' .. kind, 'urgent:' .. kind))
  local own = redis.call('ZCARD', IMPORT_SLOTS)
  local due = 0
  if reserve > 0 then
    local left = left_to_imports(limit, reserve, window, early)
    local _, lead = import_pace(left, reserve, window)
    due = tonumber(even or 0) - lead
    if own >= left then
      due = math.max(due, now + RECHECK_SHARE_OF_WINDOW * window)
    end
  end
  if own >= math.max(1, reserve) then
    due = math.max(due, tonumber(urgent or 0))
  end
  local excess_shared, excess_own = excess + reserve, own - reserve
  if excess_shared >= 0 and excess_own >= 0 then
    local shared = room_at(SLOTS, excess_shared, early)
    local returning = room_at(IMPORT_SLOTS, excess_own, early) or shared -- without a reserve, imports have no own slots
    due = math.max(due, math.min(shared, returning))
  end
  return due
end

-- take: grant a slot. Returns {0, how long to wait, the pause's reason or ''}, or {1, 0, ''}. A batch queue is told more:
-- the slots that its priority uses and may use, the batch queues in use, the calls left of the day or -1, the day's limit
-- or -1, how long it lasts, and how many of the slots come back within each of RETURN_PARTS of a window.
if operation == 'take' then
  local slot_id = next_text()
  local configured_limit = next_text()
  local window = next_number()
  local lease = next_number()
  local reserved_share = next_number()
  local is_import = next_text() == 'import'
  local queue = next_text()
  local due, reason = paused_until()
  if due > now then
    return {0, due - now, reason}
  end
  local left, day_ends = left_of_day()
  if left and left <= 0 then
    return {0, day_ends - now, 'DAILY'}
  end
  local early = early_return()
  redis.call('ZREMRANGEBYSCORE', SLOTS, '-inf', now + early)
  redis.call('ZREMRANGEBYSCORE', IMPORT_SLOTS, '-inf', now + early)
  local limit = limit_or(configured_limit)
  local reserve = math.floor(limit * reserved_share)
  local excess = redis.call('ZCARD', SLOTS) - limit
  local next_due = excess >= 0 and room_at(SLOTS, excess, early) or 0
  if is_import then
    next_due = math.max(next_due, import_due(limit, reserve, excess, window, early))
  end
  if next_due > now then
    -- A call in flight frees its slot one window after it ends, which is long before its lease is over.
    local wait = math.min(next_due - now, window)
    if not is_import then
      redis.call('HSET', PORTAL, 'urgent:' .. kind, string.format('%.0f', now + wait + URGENT_US))
      redis.call('PEXPIRE', PORTAL, KEEP_MS)
    end
    return {0, wait, ''}
  end
  local keep_ms = math.ceil(lease / 1000) + 1000
  redis.call('ZADD', SLOTS, now + lease, slot_id)
  redis.call('PEXPIRE', SLOTS, keep_ms)
  if is_import then
    redis.call('ZADD', IMPORT_SLOTS, now + lease, slot_id)
    redis.call('PEXPIRE', IMPORT_SLOTS, keep_ms)
  end
  if is_import and reserve > 0 then
    local even = tonumber(redis.call('HGET', PORTAL, 'even:' .. kind) or 0)
    local share = import_pace(left_to_imports(limit, reserve, window, early), reserve, window)
    redis.call('HSET', PORTAL, 'even:' .. kind, string.format('%.0f', math.max(even, now) + share))
    redis.call('PEXPIRE', PORTAL, KEEP_MS)
  end
  if left then
    redis.call('HINCRBY', PORTAL, 'day:left', -1)
  end
  if queue == '' then
    return {1, 0, ''}
  end
  local used, imports = redis.call('ZCARD', SLOTS), redis.call('ZCARD', IMPORT_SLOTS)
  local available = limit
  if is_import then
    used, available = imports, left_to_imports(limit, reserve, window, early)
  elseif imports > 0 then -- what they hold is not free, to a bound, and who fills the rest to the last slot waits for it
    available = limit - reserve - math.min(math.max(imports, reserve), 2 * reserve)
  end
  if not is_import then
    used = used - imports
  end
  local count = is_import and import_slots or interactive_slots
  local day_limit = left and redis.call('HGET', PORTAL, 'day:limit') or -1
  local day_left_us = left and day_ends - now or 0
  local share = even_share(window, available, left, tonumber(day_limit) or 0, day_left_us)
  local queues = queues_in_use(queue, is_import, window, share)
  local use = {1, 0, '', used, available, queues, left or -1, tonumber(day_limit) or -1, day_left_us}
  for _, part in ipairs(RETURN_PARTS) do
    use[#use + 1] = count('-inf', string.format('%.0f', now + early + part * window))
  end
  return use
end

-- end: a call has ended, a round trip after its grant. Reported values are '' if the response had none.
if operation == 'end' then
  local slot_id = next_text()
  local window = next_number()
  note_round_trip(next_number(), window)
  local reported_limit = next_text()
  local reported_day_left = next_text()
  local reported_day_limit = next_text()
  local day_length = next_number()
  local back = now + window
  redis.call('ZADD', SLOTS, back, slot_id)
  redis.call('ZADD', IMPORT_SLOTS, 'XX', back, slot_id)
  if reported_limit ~= '' then
    redis.call('HSET', PORTAL, 'limit:' .. kind, reported_limit)
    redis.call('PEXPIRE', PORTAL, KEEP_MS)
  end
  if reported_day_left ~= '' then
    -- HubSpot's figure does not include the calls in flight, or only some of them.
    local in_flight = redis.call('ZCOUNT', SLOTS, '(' .. string.format('%.0f', back), '+inf')
    redis.call('HSET', PORTAL, 'day:left', reported_day_left - in_flight, 'day:limit', reported_day_limit,
      'day:until', now + day_length)
    redis.call('PEXPIRE', PORTAL, KEEP_MS)
  end
  return {}
end

-- back: release the slot of a call that was never made.
if operation == 'back' then
  local slot_id = next_text()
  local was_granted = redis.call('ZREM', SLOTS, slot_id)
  redis.call('ZREM', IMPORT_SLOTS, slot_id)
  if was_granted == 1 and left_of_day() then
    redis.call('HINCRBY', PORTAL, 'day:left', 1)
  end
  return {}
end

-- pause: grant no slots of `kind`; a longer pause stays as it is.
if operation == 'pause' then
  local length = next_number()
  local reason = next_text()
  local due = now + length
  if due > tonumber(redis.call('HGET', PORTAL, 'until:' .. kind) or 0) then
    redis.call('HSET', PORTAL, 'until:' .. kind, due, 'why:' .. kind, reason)
    redis.call('PEXPIRE', PORTAL, KEEP_MS)
  end
  return {}
end

-- resume: end the pause of `kind`.
if operation == 'resume' then
  redis.call('HDEL', PORTAL, 'until:' .. kind, 'why:' .. kind)
  return {}
end

-- state: returns the limit, the slots in use, how long calls are paused, the reason, what is left of the day or -1.
if operation == 'state' then
  local configured_limit = next_text()
  local due, reason = paused_until()
  local used = redis.call('ZCOUNT', SLOTS, now + early_return() + 1, '+inf')
  local left = left_of_day()
  return {limit_or(configured_limit), used, math.max(due - now, 0), due > now and reason or '', left or -1}
end

return redis.error_reply('unknown operation')
