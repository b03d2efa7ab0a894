-- Count the members of sorted sets; a key that holds another type of value counts as empty.
--
-- KEYS  the sorted sets
--
-- Returns a count for each.

local counts = {}
for i = 1, #KEYS do
  local count = redis.pcall('ZCARD', KEYS[i])
  counts[i] = type(count) == 'number' and count or 0
end
return counts
