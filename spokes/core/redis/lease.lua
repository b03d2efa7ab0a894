-- Acquire or renew a lease, also in a Redis without memory: Redis checks its memory before the first write of a script
-- only, and PEXPIRE needs none. What frees memory would otherwise wait for memory. Loaded with false_lease.lua in front.
--
-- KEYS  1 lease
-- ARGV  1 our token   2 lease (ms)
--
-- Returns 1 if the lease is ours, else 0.

local lease, token, lease_ms = KEYS[1], ARGV[1], ARGV[2]
local holder = redis.pcall('GET', lease)
if holder and holder ~= token and not is_false_lease(lease, tonumber(lease_ms)) then
  return 0
end
redis.call('PEXPIRE', lease, lease_ms)
if holder ~= token then
  redis.call('SET', lease, token, 'PX', lease_ms)
end
return 1
