-- Renew leases. One that has lapsed is taken again where that is allowed, unless another has it by now. Returns for each
-- whether it is ours.
--
-- ARGV  1 lease (ms), and then for each lease: key, what it must say, 1 if it may be taken again

local ours = {}
for i = 2, #ARGV, 3 do
  local said = redis.call('GET', ARGV[i])
  if said == ARGV[i + 1] then
    redis.call('PEXPIRE', ARGV[i], ARGV[1])
    ours[#ours + 1] = 1
  elseif not said and ARGV[i + 2] == '1' then
    redis.call('SET', ARGV[i], ARGV[i + 1], 'PX', ARGV[1])
    ours[#ours + 1] = 1
  else
    ours[#ours + 1] = 0
  end
end
return ours
