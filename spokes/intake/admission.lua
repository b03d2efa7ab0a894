-- Admit a group of requests atomically: every event that gets a dedupe mark is also queued, with its audit records. A
-- request has one delivery for each priority class; all its deliveries are stored together or none.
--
-- Dedupe marks are integers of 60 bits. The marks of one hour are spread over small sets, which Redis stores as sorted
-- arrays of eight bytes a mark as long as each has at most 512. The number of sets grows with the number of marks; a new
-- set takes half the marks of one other set, so no call ever moves more than that (linear hashing). A mark's number
-- selects its set: the upper 32 bits in reverse order, so that the half that moves is the half of the greater marks.
-- Every set also holds the mark 0: without it, removing the last other mark would delete the set with its expiry.
--
-- KEYS  1 job queue   2 job queue of imports   3 audit stream   4 channel that wakes idle workers
-- ARGV  now (ms), number of requests (0: a probe, whose key is the last one), and then for each request:
--         number of jobs, for each job: id, key, payload, which of KEYS is its queue, number of audit records,
--         the records, number of hours, and for each hour: key prefix, expiry (epoch s), '1' if this expiry is to be
--         set on every set of the hour, JSON [marks, their numbers, the indexes of their events in the request (from 0;
--         -1: of a mark by which no event is known; empty: all, in order)]
--
-- Returns for each request the indexes (from 0) of its events that are already known. A request with a known event is
-- not stored, and none of its marks stay: the caller removes those events and calls again. The same holds for a request
-- whose marks cannot be stored because a key of theirs holds another type of value: it has the index -1.

local QUEUE, IMPORT_QUEUE, AUDIT_STREAM, WAKE_CHANNEL = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, pcall, floor = redis.call, redis.pcall, math.floor

local args_read = 0

-- Skip `count` arguments; return the positions of the first and the last of them.
local function skip_args(count)
  local first = args_read + 1
  args_read = args_read + count
  return first, args_read
end

-- Return the next `count` arguments.
local function next_args(count)
  return unpack(ARGV, skip_args(count))
end

-- Return the reply of a command, or its error if the key holds another type of value; any other error ends the script.
local function call_unless_wrong_type(...)
  local reply = pcall(...)
  if type(reply) == 'table' and reply.err and not string.find(reply.err, 'WRONGTYPE', 1, true) then
    return call(...)
  end
  return reply
end

-- Return whether the set was added; it is not if the key holds another type of value.
local function new_set(key, expires_at)
  if type(call_unless_wrong_type('SADD', key, 0)) ~= 'number' then
    return false
  end
  call('EXPIREAT', key, expires_at)
  return true
end

-- The smallest mark that moves out of set `from` when a set is added to `power` sets or more, but fewer than twice that.
local function smallest_to_move(from, power)
  local smallest, unit = 0, 2 ^ 59
  while power > 1 do
    smallest = smallest + from % 2 * unit
    from, unit, power = floor(from / 2), unit / 2, power / 2
  end
  return smallest + unit
end

-- Add one set to an hour that has `set_count`.
local function grow(prefix, set_count, expires_at)
  local power = power_within(set_count)
  local from, to = prefix .. (set_count - power), prefix .. set_count
  local smallest = smallest_to_move(set_count - power, power)
  local members, moving = call_unless_wrong_type('SMEMBERS', from), {}
  if members.err or not new_set(to, expires_at) then
    return -- a key holds another type of value: nothing moves
  end
  for _, mark in ipairs(members) do
    if tonumber(mark) >= smallest then
      moving[#moving + 1] = mark
    end
  end
  if #moving > 0 then
    call('SREM', from, unpack(moving))
    call('SADD', to, unpack(moving))
  end
end

-- Call `command` for every mark of an hour; return the set of the positions of those marks for which it changed nothing,
-- and whether it failed for one because the set holds another type of value.
local function for_each_mark(command, prefix, set_count, marks, numbers)
  local power, unchanged, has_failed = power_within(set_count), {}, false
  local double = power * 2
  for i, mark in ipairs(marks) do
    local set = numbers[i] % double
    if set >= set_count then
      set = set - power
    end
    local changed = pcall(command, prefix .. set, mark)
    if changed ~= 1 then
      unchanged[i] = true
      if changed ~= 0 then
        call_unless_wrong_type(command, prefix .. set, mark) -- the error again, if it is another one
        has_failed = true
      end
    end
  end
  return unchanged, has_failed
end

-- Add the marks of an hour; append the indexes of known events to `known`. Return what committing or undoing needs, and
-- whether adding failed.
local function add_marks(prefix, expires_at, is_extended, marks_json, known)
  local marks, numbers, indexes = unpack(cjson.decode(marks_json))
  local stored = call_unless_wrong_type('GET', prefix .. 'n')
  local count_before = type(stored) ~= 'table' and tonumber(stored or 0)
  if not count_before or (count_before == 0 and not new_set(prefix .. 0, expires_at)) then
    return {prefix = prefix, set_count = 1, marks = {}, numbers = {}}, true
  end
  local set_count = floor(count_before / MARKS_PER_SET) + 1
  local unchanged, has_failed = for_each_mark('SADD', prefix, set_count, marks, numbers)
  if next(unchanged) then
    local new_marks, new_numbers = {}, {}
    for i, mark in ipairs(marks) do
      if unchanged[i] then
        local index = indexes[i] or i - 1
        if index >= 0 then
          known[#known + 1] = index
        end
      else
        new_marks[#new_marks + 1], new_numbers[#new_numbers + 1] = mark, numbers[i]
      end
    end
    marks, numbers = new_marks, new_numbers
  end
  return {
    prefix = prefix, expires_at = expires_at, is_extended = is_extended, set_count = set_count,
    count_after = count_before + #marks, marks = marks, numbers = numbers,
  }, has_failed
end

-- Count the new marks of an hour, add the sets they need, and extend the expiry where asked. Only if no event is known.
local function commit_hour(hour)
  local prefix, expires_at = hour.prefix, hour.expires_at
  local last_set = floor(hour.count_after / MARKS_PER_SET)
  call('SET', prefix .. 'n', hour.count_after, 'EXAT', expires_at)
  for set_count = hour.set_count, last_set do
    grow(prefix, set_count, expires_at)
  end
  if hour.is_extended == '1' then
    for set = 0, last_set do
      call('EXPIREAT', prefix .. set, expires_at)
    end
  end
end

-- Return whether `command`, which returns a number, works on a key: it does not if the key holds another type.
local function has_type_for(command, key)
  return type(pcall(command, key)) == 'number'
end

-- Before the first write, because Redis does not undo the writes of a script that fails.
if not (has_type_for('ZCARD', QUEUE) and has_type_for('ZCARD', IMPORT_QUEUE) and has_type_for('XLEN', AUDIT_STREAM)) then
  return redis.error_reply('WRONGKEY a queue or the audit stream holds another type of value')
end

local now_ms, request_count = next_args(2)
if request_count == '0' then -- a probe: run every command that a delivery needs, on a key that is deleted again
  local probe, expires_at = KEYS[#KEYS], floor(now_ms / 1000) + 10
  call('SET', probe, 0, 'EXAT', expires_at)
  call('GET', probe)
  for _, write in ipairs({ { 'SADD', 0 }, { 'ZADD', 0, 0 }, { 'XADD', '*', 'r', 0 } }) do
    call('DEL', probe)
    call(write[1], probe, unpack(write, 2))
    call('EXPIREAT', probe, expires_at)
    if write[1] == 'SADD' then
      call('SREM', probe, call('SMEMBERS', probe)[1])
    end
  end
  call('DEL', probe)
  redis.pcall('PUBLISH', WAKE_CHANNEL, '')
  return {}
end
local known_by_request = {}
local has_queued = false
for request = 1, tonumber(request_count) do
  local first_job, last_job = skip_args(4 * tonumber((next_args(1))))
  local first_record, last_record = skip_args(tonumber((next_args(1))))
  local known, hours, has_failed = {}, {}, false
  for i = 1, tonumber((next_args(1))) do
    local prefix, expires_at, is_extended, marks_json = next_args(4)
    local hour_failed
    hours[i], hour_failed = add_marks(prefix, expires_at, is_extended, marks_json, known)
    has_failed = has_failed or hour_failed
  end
  if has_failed then
    known = {-1}
  end
  if #known > 0 then
    for _, hour in ipairs(hours) do
      for_each_mark('SREM', hour.prefix, hour.set_count, hour.marks, hour.numbers)
    end
  else
    for _, hour in ipairs(hours) do
      commit_hour(hour)
    end
    for position = first_job, last_job, 4 do
      local job_id, job_key, payload, queue = unpack(ARGV, position, position + 3)
      call('SET', job_key, payload)
      call('ZADD', KEYS[tonumber(queue)], now_ms, job_id)
      has_queued = true
    end
    for position = first_record, last_record do
      call('XADD', AUDIT_STREAM, '*', 'r', ARGV[position])
    end
  end
  known_by_request[request] = known
end
if has_queued then
  pcall('PUBLISH', WAKE_CHANNEL, '') -- may fail: a Redis user may have no channels, and workers poll
end
return known_by_request
