-- Release a job that we hold, so that another worker can claim it. Either the try does not count and the job is due at
-- once, or the try counts and the job is due after a delay.
--
-- KEYS  1 spokes:in-progress:ID   2 spokes:retry:ID, and then the queues, one of which has the job
-- ARGV  1 our name   2 wake channel   3 job id   4 epoch ms at which it is due, or nothing

if redis.pcall('GET', KEYS[1]) == ARGV[1] then -- else another worker holds it
  redis.call('DEL', KEYS[1])
  if redis.call('EXISTS', KEYS[2]) == 1 then -- else another worker closed it after our lease had lapsed
    if ARGV[4] ~= '' then
      for i = 3, #KEYS do
        redis.call('ZADD', KEYS[i], 'XX', ARGV[4], ARGV[3])
      end
    else
      redis.call('DECR', KEYS[2])
    end
    redis.pcall('PUBLISH', ARGV[2], '') -- a Redis user may have no channels
  end
end
