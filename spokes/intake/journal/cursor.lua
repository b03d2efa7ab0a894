-- Change the journal's cursor, if the caller still holds the lease of the reader and no other reader has moved the cursor.
-- KEYS  1 the cursor   2 the lease
-- ARGV  the holder's token, the offset that the caller started from, then fields and values. Returns 1 if it changed.
if redis.call('GET', KEYS[2]) ~= ARGV[1] or (redis.call('HGET', KEYS[1], 'offset') or '') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
