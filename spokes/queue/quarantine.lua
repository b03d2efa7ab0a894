-- Store quarantined contents of one portal, and delete its oldest ones beyond the limits.
--
-- KEYS  1 index of the portal: keys by the epoch ms at which each was stored   2 set of portals with such an index
-- ARGV  1 portal   2 prefix of the contents' Redis keys   3 now (ms)   4 seconds for which a content is kept
--       5 most contents   6 most bytes   then for each content: its key, its stored form
--
-- Returns how many were stored, without those that were stored already, and how many older ones were deleted.

local index, portals = KEYS[1], KEYS[2]
local portal, prefix, now_ms, ttl_s = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local max_count, max_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])

local stored = 0
for i = 7, #ARGV, 2 do
  if redis.call('SET', prefix .. ARGV[i], ARGV[i + 1], 'EX', ttl_s, 'NX') then
    redis.call('ZADD', index, now_ms, ARGV[i])
    stored = stored + 1
  end
end
redis.call('SADD', portals, portal)
redis.call('ZREMRANGEBYSCORE', index, '-inf', now_ms - ttl_s * 1000)

local newest_first = redis.call('ZREVRANGE', index, 0, -1)
local bytes, deleted = 0, 0
for place, key in ipairs(newest_first) do
  bytes = bytes + redis.call('STRLEN', prefix .. key)
  if place > max_count or bytes > max_bytes then
    redis.call('DEL', prefix .. key)
    redis.call('ZREM', index, key)
    deleted = deleted + 1
  end
end
return {stored, deleted}
