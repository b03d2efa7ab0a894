-- Move jobs from arq's default queue into one of ours, each with its due time and its number of tries. A job that a worker
-- holds stays: that worker closes it, or its lease lapses and the next call moves it.
--
-- KEYS  1 arq's default queue   2 our queue of their priority class   3 channel that wakes idle workers
-- ARGV  prefixes of job, retry and in-progress keys there   prefixes of job and retry keys here   ids of the jobs
--
-- Returns the number of moved jobs.

local job_there, retry_there, in_progress_there, job_here, retry_here = unpack(ARGV, 1, 5)
if type(redis.pcall('ZCARD', KEYS[2])) ~= 'number' then -- the moved jobs would be in no queue
  return redis.error_reply('WRONGKEY the queue holds another type of value')
end
local moved = 0
for i = 6, #ARGV do
  local id = ARGV[i]
  local due = redis.call('ZSCORE', KEYS[1], id)
  local is_held = redis.call('EXISTS', in_progress_there .. id) == 1
  if due and not is_held and redis.call('EXISTS', job_there .. id) == 1 then
    redis.call('RENAME', job_there .. id, job_here .. id)
    if redis.call('EXISTS', retry_there .. id) == 1 then
      redis.call('RENAME', retry_there .. id, retry_here .. id)
    end
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZADD', KEYS[2], due, id)
    moved = moved + 1
  end
end
if moved > 0 then
  redis.pcall('PUBLISH', KEYS[3], '')
end
return moved
