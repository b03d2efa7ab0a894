-- Read the traces by which a loss of data is noticed, and how much work Redis holds. A database without an identity gets one.
--
-- KEYS  1 deployment   2 job queue   3 job queue of imports   4 audit stream
-- ARGV  1 a new identity   2 id of a job that the caller runs, or nothing   3 its key
--
-- Returns the identity; 1 if it is new, else 0; deliveries in the queues; epoch ms since which the oldest is due, or 0;
-- records in the stream; records that the stream ever had, -1 if unknown; 1 if the job exists and is in no queue, else 0;
-- epoch ms of the last loss, or nothing.

local function number(command, ...)
  local answer = redis.pcall(command, ...)
  return type(answer) == 'number' and answer or 0
end

local function records_added()
  local info = redis.pcall('XINFO', 'STREAM', KEYS[4])
  for i = 1, info.err and 0 or #info, 2 do
    if info[i] == 'entries-added' then
      return info[i + 1]
    end
  end
  return redis.call('EXISTS', KEYS[4]) == 0 and 0 or -1
end

local function oldest_due()
  local oldest = 0
  for i = 2, 3 do
    local first = redis.pcall('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
    local due = tonumber(first[2])
    if due and (oldest == 0 or due < oldest) then
      oldest = due
    end
  end
  return oldest
end

local function is_unqueued(id, key)
  if id == '' or redis.call('EXISTS', key) == 0 then
    return 0
  end
  for i = 2, 3 do
    local score = redis.pcall('ZSCORE', KEYS[i], id)
    if score then -- or an error: the key holds another type
      return 0
    end
  end
  return 1
end

local identity = redis.pcall('HGET', KEYS[1], 'identity')
local is_new = 0
if not identity then
  local added = redis.pcall('HSET', KEYS[1], 'identity', ARGV[1]) -- a full Redis refuses it; the next call tries again
  identity, is_new = type(added) == 'number' and ARGV[1] or '', type(added) == 'number' and 1 or 0
elseif type(identity) ~= 'string' then
  identity = '' -- the key holds another type
end
local lost_at = redis.pcall('HGET', KEYS[1], 'lost_at')
return {
  identity, is_new, number('ZCARD', KEYS[2]) + number('ZCARD', KEYS[3]), string.format('%.0f', oldest_due()),
  number('XLEN', KEYS[4]), records_added(), is_unqueued(ARGV[2], ARGV[3]), type(lost_at) == 'string' and lost_at or '',
}
