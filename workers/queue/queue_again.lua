-- Queue a job that is in no queue, due now.
--
-- KEYS  1 job   2 its queue, and then the other queues
-- ARGV  1 job id   2 now (ms)
--
-- Returns 1 if the job was queued, else 0.

if redis.call('EXISTS', KEYS[1]) == 0 then -- it was closed since
  return 0
end
for i = 2, #KEYS do
  if redis.call('ZSCORE', KEYS[i], ARGV[1]) then
    return 0
  end
end
return redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
