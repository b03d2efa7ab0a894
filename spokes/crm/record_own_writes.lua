-- Records own writes: sets each key to a value that expires. Returns how many.
--
-- KEYS  entries of the ledger
-- ARGV  1 seconds that an entry lives   then the value of each entry

for number, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[number + 1], 'EX', ARGV[1])
end
return #KEYS
