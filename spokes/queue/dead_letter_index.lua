-- Remove event keys from all indexes of a portal if their dead letter does not exist any more.
--
-- KEYS  the indexes
-- ARGV  1 prefix of the keys of dead letters, then the event keys
--
-- Returns how many event keys had no dead letter.

local letter_prefix = ARGV[1]
local removed = 0
for i = 2, #ARGV do
  local event_key = ARGV[i]
  if redis.call('EXISTS', letter_prefix .. event_key) == 0 then
    for _, index in ipairs(KEYS) do
      redis.pcall('ZREM', index, event_key) -- an index that holds another type has no event keys
    end
    removed = removed + 1
  end
end
return removed
