-- Count some of a queue's jobs by portal, which a job's id begins with.
--
-- KEYS  1 the queue
-- ARGV  1, 2 rank of the first and the last job
--
-- Returns the number of jobs read, and for each portal: id, number of its jobs, when the first of them was due (ms).

local ids = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
local counts, first_due, portals = {}, {}, {}
for i = 1, #ids, 2 do
  local portal = string.match(ids[i], '^(%d+)%-')
  if portal then
    if not counts[portal] then
      portals[#portals + 1] = portal
      counts[portal], first_due[portal] = 0, ids[i + 1]
    end
    counts[portal] = counts[portal] + 1
  end
end
local answer = {#ids / 2}
for _, portal in ipairs(portals) do
  answer[#answer + 1] = portal
  answer[#answer + 1] = counts[portal]
  answer[#answer + 1] = first_due[portal]
end
return answer
