-- Claim due jobs, on arq's own keys and by its rule: who sets the in-progress key runs the job, and a running job stays
-- in the queue. Portals take turns. Where one fills the queue, those who came last are looked at as well, so that a
-- portal with little to do is not kept waiting by another's import. Jobs of a paused portal are put off, untouched.
-- How many events a job holds is told by its size, well enough.
--
-- KEYS  1 queue   2 hash of paused portals
-- ARGV  1 now (ms)   2 how many jobs   3 lease (ms)   4 our name   5 how long to put off (ms)   6 how many events
--
-- Returns ms until the next job is due (0 if we took as much as we may) or -1, and for each job: id, payload (nothing if
-- it has none), which try it is.

local queue, now, want, events = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[6])
local PAGE, PAGES, KEEP_TRIES_S = 128, 40, 88400
local HEAD_BYTES, EVENT_BYTES = 130, 36 -- of a payload, as spokes/core/delivery.py packs it
local paused = {}
for _, portal in ipairs(redis.call('HKEYS', KEYS[2])) do
  paused[portal] = true
end

local jobs = {}

local function is_full()
  return #jobs >= want or events <= 0
end

local function claim(id)
  if redis.call('SET', 'arq:in-progress:' .. id, ARGV[4], 'NX', 'PX', ARGV[3]) then
    local tries = redis.call('INCR', 'arq:retry:' .. id)
    redis.call('EXPIRE', 'arq:retry:' .. id, KEEP_TRIES_S)
    local payload = redis.call('GET', 'arq:job:' .. id)
    events = events - math.max(1, (#(payload or '') - HEAD_BYTES) / EVENT_BYTES)
    jobs[#jobs + 1] = {id, payload, tries}
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
  while left and not is_full() do
    left = false
    for _, ids in ipairs(portals) do
      if ids[turn] and not is_full() then
        left = true
        claim(ids[turn])
      end
    end
    turn = turn + 1
  end
  if is_full() or #page < PAGE then
    break
  end
  offset = offset + PAGE
end

if is_full() then
  return {0, jobs}
end
local coming = redis.call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {coming[2] and math.ceil(coming[2] - now) or -1, jobs}
