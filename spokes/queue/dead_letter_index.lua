-- Take names out of all indexes whose letter is no more. One that has died again meanwhile stays.
-- KEYS: the indexes. ARGV: what comes before a name in the key of its letter, then the names.
-- Returns how many are gone.
local gone = 0
for at = 2, #ARGV do
  if redis.call('EXISTS', ARGV[1] .. ARGV[at]) == 0 then
    for _, index in ipairs(KEYS) do
      redis.call('ZREM', index, ARGV[at])
    end
    gone = gone + 1
  end
end
return gone
