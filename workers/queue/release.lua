-- Release a job that we hold, so that another worker can claim it at once. The try does not count.
--
-- KEYS  1 spokes:in-progress:ID   2 spokes:retry:ID
-- ARGV  1 our name   2 wake channel

if redis.call('GET', KEYS[1]) == ARGV[1] then -- else another worker holds it
  redis.call('DEL', KEYS[1])
  if redis.call('EXISTS', KEYS[2]) == 1 then -- else another worker closed it after our lease had lapsed
    redis.call('DECR', KEYS[2])
    redis.call('PUBLISH', ARGV[2], '')
  end
end
