-- Find the events of a portal that have a dedupe mark; nothing is written. admission.lua describes the marks.
--
-- ARGV  for each hour: key prefix, JSON [marks, their numbers]
--
-- Returns for each hour the positions (from 0) of the marks that are stored. A key with another type of value holds none.

local known_by_hour = {}
for i = 1, #ARGV, 2 do
  local prefix = ARGV[i]
  local marks, numbers = unpack(cjson.decode(ARGV[i + 1]))
  local count = redis.pcall('GET', prefix .. 'n')
  local set_count = math.floor((type(count) == 'string' and tonumber(count) or 0) / MARKS_PER_SET) + 1
  local power, known = power_within(set_count), {}
  for position, mark in ipairs(marks) do
    local set = numbers[position] % (power * 2)
    if set >= set_count then
      set = set - power
    end
    if redis.pcall('SISMEMBER', prefix .. set, mark) == 1 then
      known[#known + 1] = position - 1
    end
  end
  known_by_hour[#known_by_hour + 1] = known
end
return known_by_hour
