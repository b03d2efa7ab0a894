-- Rename a key of ours that holds another type of value, if it still does, and store what is known of our own value. RENAME
-- comes first: it needs no memory, so that a full Redis allows the rest.
--
-- KEYS  1 our key   2 new name of the other value
-- ARGV  1 type of our value   2 seconds to keep the other value, and then fields and values of our hash
--
-- Returns 1 if the key was renamed, else 0.

local stored = redis.call('TYPE', KEYS[1]).ok
if stored == 'none' or stored == ARGV[1] then
  return 0
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
if #ARGV > 2 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
end
return 1
