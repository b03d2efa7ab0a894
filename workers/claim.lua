-- Claim due jobs, on arq's own keys and by its rule: who sets the in-progress key runs the job, and a running job stays
-- in the queue. Portals take turns. Where one fills the queue, those who came last are looked at as well, so that a
-- portal with little to do is not kept waiting by another's import. Jobs of a paused portal are put off, untouched.
--
-- KEYS  1 queue   2 hash of paused portals
-- ARGV  1 now (ms)   2 how many   3 lease (ms)   4 our name   5 how long to put off (ms)
--
-- Returns ms until the next job is due or -1, and for each job: id, payload (nothing if it has none), which try it is.

local queue, now, want = KEYS[1], ARGV[1], tonumber(ARGV[2])
local PAGE, PAGES, KEEP_TRIES_S = 128, 40, 88400
local paused = {}
for _, portal in ipairs(redis.call('HKEYS', KEYS[2])) do
  paused[portal] = true
end

local jobs = {}

local function claim(id)
  if redis.call('SET', 'arq:in-progress:' .. id, ARGV[4], 'NX', 'PX', ARGV[3]) then
    local tries = redis.call('INCR', 'arq:retry:' .. id)
    redis.call('EXPIRE', 'arq:retry:' .. id, KEEP_TRIES_S)
    jobs[#jobs + 1] = {id, redis.call('GET', 'arq:job:' .. id), tries}
  end
end

local function by_portal(ids, portals)
  for _, id in ipairs(ids) do
    local portal = string.match(id, '^(%d+)%-') or ''
    if paused[portal] then
      redis.call('ZADD', queue, 'XX', now + ARGV[5], id)
    else
      local place = portals[portal]
      if not place then
        place = {}
        portals[portal] = place
        portals[#portals + 1] = place
      end
      place[#place + 1] = id
    end
  end
end

local offset = 0
for _ = 1, PAGES do
  local page = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', offset, PAGE)
  local portals = {}
  by_portal(page, portals)
  if #page == PAGE then
    by_portal(redis.call('ZREVRANGEBYSCORE', queue, now, '-inf', 'LIMIT', 0, PAGE), portals)
  end
  local turn, left = 1, true
  while left and #jobs < want do
    left = false
    for _, ids in ipairs(portals) do
      if ids[turn] and #jobs < want then
        left = true
        claim(ids[turn])
      end
    end
    turn = turn + 1
  end
  if #jobs >= want or #page < PAGE then
    break
  end
  offset = offset + PAGE
end

local coming = redis.call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {coming[2] and math.ceil(coming[2] - now) or -1, jobs}
