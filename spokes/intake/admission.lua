-- Admit a group of deliveries in one atomic step: whatever is marked as seen is also queued, and has its audit head.
--
-- Marks are whole numbers of 60 bits. Those of a period are spread over small sets, which Redis keeps as sorted arrays
-- of eight bytes a mark while each has at most 512. There are as many sets as the marks ask for; one more takes half the
-- marks of one other, so that no call ever moves more than that (linear hashing). Which set a mark is in tells its
-- number: its upper 32 bits, in reverse; so the half that moves is the half of the greater marks. Every set holds the
-- mark 0, which keeps it, and with it its expiry, from vanishing when its last other mark is taken back.
--
-- KEYS  1 queue   2 audit stream   3 channel on which idle workers listen
-- ARGV  1 now (ms)   2 number of deliveries, and then for each of them:
--       job id, job key, payload (empty: nothing to queue), number of audit records, the records,
--       number of periods, and for each period: prefix of its keys, the second at which they expire, "1" if that
--       is to be told to every set anew, and in JSON the marks, their numbers, and their places in the delivery
--       (from 1; none: in order)
--
-- Returns for each delivery the places of its events that are already known. A delivery with any known event is not
-- stored at all, and nothing of it stays marked: the caller takes those events out and comes again.

local PER_SET = 200 -- on the average; the fullest have little more than twice that
local now = ARGV[1]
local call, floor = redis.call, math.floor

-- The largest power of two that is at most `number`.
local function power_within(number)
  local power = 1
  while power * 2 <= number do
    power = power * 2
  end
  return power
end

local function new_set(key, expires)
  call('SADD', key, 0)
  call('EXPIREAT', key, expires)
end

-- The least mark that leaves set `from` when `power` sets have become so many and one.
local function least_to_leave(from, power)
  local least, unit = 0, 2 ^ 59
  while power > 1 do
    least = least + from % 2 * unit
    from, unit, power = floor(from / 2), unit / 2, power / 2
  end
  return least + unit
end

-- Go from `sets` sets to one more.
local function grow(prefix, sets, expires)
  local power = power_within(sets)
  local from, to = prefix .. (sets - power), prefix .. sets
  local least = least_to_leave(sets - power, power)
  local moving = {}
  for _, mark in ipairs(call('SMEMBERS', from)) do
    if tonumber(mark) >= least then
      moving[#moving + 1] = mark
    end
  end
  new_set(to, expires)
  if #moving > 0 then
    call('SREM', from, unpack(moving))
    call('SADD', to, unpack(moving))
  end
end

-- Do `command` with every mark of a period; return the set of those, by their order, that it changed nothing for.
local function each(command, prefix, sets, marks, numbers)
  local power, unchanged = power_within(sets), {}
  local double = power * 2
  for order, mark in ipairs(marks) do
    local index = numbers[order] % double
    if index >= sets then
      index = index - power
    end
    if call(command, prefix .. index, mark) == 0 then
      unchanged[order] = true
    end
  end
  return unchanged
end

-- Mark all of a period; add the places of what is known to `known`. Returns what `settle` and the undoing want to know.
local function mark_all(prefix, expires, refresh, told, known)
  local marks, numbers, places = unpack(cjson.decode(told))
  local count = tonumber(call('GET', prefix .. 'n') or 0)
  if count == 0 then
    new_set(prefix .. 0, expires)
  end
  local sets = floor(count / PER_SET) + 1
  local unchanged = each('SADD', prefix, sets, marks, numbers)
  local total = #marks
  if next(unchanged) then
    local new_marks, new_numbers = {}, {}
    for order, mark in ipairs(marks) do
      if unchanged[order] then
        known[#known + 1] = places[order] or order
      else
        new_marks[#new_marks + 1], new_numbers[#new_numbers + 1] = mark, numbers[order]
      end
    end
    marks, numbers = new_marks, new_numbers
  end
  return {
    prefix = prefix, expires = expires, refresh = refresh, sets = sets, count = count, fresh = total,
    marks = marks, numbers = numbers,
  }
end

local function settle(period)
  local prefix, expires, after = period.prefix, period.expires, period.count + period.fresh
  call('SET', prefix .. 'n', after, 'EXAT', expires)
  for sets = period.sets, floor(after / PER_SET) do
    grow(prefix, sets, expires)
  end
  if period.refresh == '1' then
    for index = 0, floor(after / PER_SET) do
      call('EXPIREAT', prefix .. index, expires)
    end
  end
end

local at = 3
local answer = {}
local queued = false
for d = 1, tonumber(ARGV[2]) do
  local id, job, payload, record_count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local records_at = at + 4
  at = records_at + record_count + 1
  local known, periods = {}, {}
  for p = 1, tonumber(ARGV[at - 1]) do
    periods[p] = mark_all(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], known)
    at = at + 4
  end
  if #known > 0 then
    for _, period in ipairs(periods) do
      each('SREM', period.prefix, period.sets, period.marks, period.numbers)
    end
  else
    for _, period in ipairs(periods) do
      settle(period)
    end
    if payload ~= '' then
      call('SET', job, payload)
      call('ZADD', KEYS[1], now, id)
      queued = true
    end
    for i = records_at, records_at + record_count - 1 do
      call('XADD', KEYS[2], '*', 'r', ARGV[i])
    end
  end
  answer[d] = known
end
if queued then
  call('PUBLISH', KEYS[3], '')
end
return answer
