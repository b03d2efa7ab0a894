-- Take possession of a Redis database, or compare its deployment and its format with ours. Writes only what changes, so
-- that it works on a full Redis as well.
--
-- KEYS  1 deployment
-- ARGV  1 our fingerprint (empty: we have none)   2 format that we write   3 oldest format that we read
--       4 oldest format whose processes may run beside us
--
-- Returns 'ok', 'other' (another deployment's), 'newer' or 'older' (written in a format that we cannot share).

local fingerprint, format, oldest_beside = unpack(redis.call('HMGET', KEYS[1], 'fingerprint', 'format', 'oldest_beside'))
if fingerprint and fingerprint ~= ARGV[1] then
  return 'other'
end
if oldest_beside and tonumber(oldest_beside) > tonumber(ARGV[2]) then
  return 'newer'
end
if format and tonumber(format) < tonumber(ARGV[3]) then
  return 'older'
end
if not fingerprint and ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1])
end
if not format or tonumber(format) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'format', ARGV[2], 'oldest_beside', ARGV[4])
end
return 'ok'
