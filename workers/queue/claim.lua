-- Claim due jobs by arq's rule: the worker that sets the in-progress key runs the job, and a running
-- job stays in the queue. Portals take turns. On a full page the newest jobs are read as well, so that one portal's
-- import does not delay the others. Jobs of a paused portal are delayed, and stay as they are otherwise.
-- The number of events in a job is estimated from its size.
--
-- KEYS  1 job queue   2 hash of paused portals
-- ARGV  1 now (ms)   2 maximum number of jobs   3 lease (ms)   4 our name   5 delay for paused portals (ms)
--       6 number of events to claim   7 ids of portals that are left to other workers
--
-- Returns ms until the next job is due (0 if we claimed as much as we may) or -1, and for each job: id, payload (nil if
-- it has none), number of the try.

local queue = KEYS[1]
local now_ms, max_jobs, lease_ms, our_name = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local paused_delay_ms, events_left = ARGV[5], tonumber(ARGV[6])
local PAGE_SIZE, MAX_PAGES, TRIES_TTL_S = 128, 40, 88400
local HEAD_BYTES, EVENT_BYTES = 130, 36 -- of a payload as spokes/core/delivery.py packs it
local paused = {}
for _, portal in ipairs(redis.call('HKEYS', KEYS[2])) do
  paused[portal] = true
end

local skipped = {}
for portal in string.gmatch(ARGV[7], '%d+') do
  skipped[portal] = true
end

local jobs = {}

local function is_full()
  return #jobs >= max_jobs or events_left <= 0
end

local function claim(id)
  if redis.call('SET', 'spokes:in-progress:' .. id, our_name, 'NX', 'PX', lease_ms) then
    local tries = redis.call('INCR', 'spokes:retry:' .. id)
    redis.call('EXPIRE', 'spokes:retry:' .. id, TRIES_TTL_S)
    local payload = redis.call('GET', 'spokes:job:' .. id)
    events_left = events_left - math.max(1, (#(payload or '') - HEAD_BYTES) / EVENT_BYTES)
    jobs[#jobs + 1] = {id, payload, tries}
  end
end

-- Add ids to `by_portal`: a list of lists of ids, which also maps each portal to its list. Delay jobs of paused
-- portals instead.
local function group_by_portal(ids, by_portal)
  for _, id in ipairs(ids) do
    local portal = string.match(id, '^(%d+)%-') or ''
    if paused[portal] then
      redis.call('ZADD', queue, 'XX', now_ms + paused_delay_ms, id)
    elseif not skipped[portal] then
      local portal_ids = by_portal[portal]
      if not portal_ids then
        portal_ids = {}
        by_portal[portal] = portal_ids
        by_portal[#by_portal + 1] = portal_ids
      end
      portal_ids[#portal_ids + 1] = id
    end
  end
end

-- Claim the first job of each portal, then the second, and so on.
local function claim_in_turn(by_portal)
  local turn, has_more = 1, true
  while has_more and not is_full() do
    has_more = false
    for _, portal_ids in ipairs(by_portal) do
      if portal_ids[turn] and not is_full() then
        has_more = true
        claim(portal_ids[turn])
      end
    end
    turn = turn + 1
  end
end

local offset = 0
for _ = 1, MAX_PAGES do
  local page = redis.call('ZRANGEBYSCORE', queue, '-inf', now_ms, 'LIMIT', offset, PAGE_SIZE)
  local by_portal = {}
  group_by_portal(page, by_portal)
  if #page == PAGE_SIZE then
    group_by_portal(redis.call('ZREVRANGEBYSCORE', queue, now_ms, '-inf', 'LIMIT', 0, PAGE_SIZE), by_portal)
  end
  claim_in_turn(by_portal)
  if is_full() or #page < PAGE_SIZE then
    break
  end
  offset = offset + PAGE_SIZE
end

if is_full() then
  return {0, jobs}
end
local next_due = redis.call('ZRANGEBYSCORE', queue, '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {next_due[2] and math.ceil(next_due[2] - now_ms) or -1, jobs}
