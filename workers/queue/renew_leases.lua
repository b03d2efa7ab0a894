-- Renew leases. A lapsed lease is reacquired if that is allowed and no other worker holds it. Returns for each lease 1
-- if it is ours, else 0. Loaded with false_lease.lua in front.
--
-- ARGV  1 lease (ms), and then for each lease: key, our value, 1 if it may be reacquired

local lease_ms = ARGV[1]
local ours = {}
for i = 2, #ARGV, 3 do
  local key, our_value, may_reacquire = ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1'
  local value = redis.pcall('GET', key)
  if value == our_value then
    redis.call('PEXPIRE', key, lease_ms)
    ours[#ours + 1] = 1
  elseif may_reacquire and (not value or is_false_lease(key, tonumber(lease_ms))) then
    redis.call('SET', key, our_value, 'PX', lease_ms)
    ours[#ours + 1] = 1
  else
    ours[#ours + 1] = 0
  end
end
return ours
