-- Claim due jobs by arq's rule: the worker that sets the in-progress key runs the job, and a running
-- job stays in its queue. The priority classes take turns, and within a class the portals do, first those with the
-- fewest held events. On a full page the newest jobs are read as well, and sometimes others at a random place, so that
-- one portal's backlog does not delay the others. Without room, jobs of portals that have less than their share are
-- claimed nevertheless, see workers/fairness/portal_share.py. Jobs of a paused portal become held deliveries, see
-- spokes/queue/held_deliveries.py: they are not read again before the pause ends, or some minutes are over. The number
-- of events in a job is estimated from its size.
--
-- While calls of HubSpot are scarce, events that share a call save more than another worker gains: one worker is the
-- preferred one, and the others leave it the jobs that have been due for a moment only.
--
-- Loaded with false_lease.lua in front.
--
-- KEYS  1 hash of paused portals   2 name of the preferred worker   3 names of all sets with held deliveries, and then
--       the queue of each priority class, the most urgent first
-- ARGV  1 now (ms)   2 lease (ms)   3 our name   4 delay of held deliveries (ms)
--       5 ids of portals that are left to other workers   6 '1' if calls are scarce for us   7 number of jobs to claim
--       8 number of events to claim   9, 10 jobs and events that are a portal's share   11, 12 jobs and events that may
--       be claimed for portals with less than their share   13 what we hold: `portal:jobs:events`, separated by commas
--       14 where to read some more jobs, from 0 to 1, or -1; and then for each queue: the number of its jobs and of its
--       events to claim
--
-- Returns ms until the next job is due or -1; for each queue 1 if it has more due jobs than we may claim, else 0; and
-- for each job: id, payload (nil if it has none), number of the try, number of its queue (from 1), estimated number of
-- events.

local now_ms, lease_ms, our_name, held_delay_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local PAGE_SIZE, MAX_PAGES, TRIES_TTL_S = 128, 40, 88400
local PROBE_SIZE = 512 -- jobs that are read at a random place
local PATIENCE_MS, PREFERRED_MS = 50, 1000 -- a busy or dead preferred worker delays a job by the first
local SHORT_DELAY_MS = 5000 -- of jobs that cannot be held
local HEAD_BYTES, EVENT_BYTES = 130, 36 -- of a payload as spokes/core/delivery.py packs it
local paused = {}
for _, portal in ipairs(redis.call('HKEYS', KEYS[1])) do
  paused[portal] = true
end

local skipped = {}
for portal in string.gmatch(ARGV[5], '%d+') do
  skipped[portal] = true
end

local preferred = redis.pcall('GET', KEYS[2])
local is_preferred = type(preferred) ~= 'string' or preferred == our_name -- else a name, unless something else wrote it
local due_ms = is_preferred and now_ms or now_ms - PATIENCE_MS

local total = {jobs = tonumber(ARGV[7]), events = tonumber(ARGV[8])}
local share = {jobs = tonumber(ARGV[9]), events = tonumber(ARGV[10])}
local reserve = {jobs = tonumber(ARGV[11]), events = tonumber(ARGV[12])}
local probe = tonumber(ARGV[14])
local queues = {}
for i = 4, #KEYS do
  local room = {jobs = tonumber(ARGV[7 + 2 * i]), events = tonumber(ARGV[8 + 2 * i])}
  queues[i - 3] = {
    key = KEYS[i], room = room, ids = {}, taken = 0, is_last_page = false, page_count = 0, offset = 0, held_count = 0,
    portal_count = 0, has_passed_over = false,
  }
end

local ours = {} -- what we hold, by portal
for portal, job_count, event_count in string.gmatch(ARGV[13], '(%d+):(%d+):(%d+)') do
  ours[portal] = {jobs = tonumber(job_count), events = tonumber(event_count)}
end

local function has_room(room)
  return room.jobs > 0 and room.events > 0
end

local portals = {} -- by id

local function portal_of(id)
  local portal = portals[id]
  if not portal then
    portal = string.match(id, '^(%d+)%-') or ''
    portals[id] = portal
  end
  return portal
end

local function is_claimable(queue, portal)
  if has_room(total) and has_room(queue.room) then
    return true
  end
  local own = ours[portal]
  return has_room(reserve) and (not own or (own.jobs < share.jobs and own.events < share.events))
end

-- Hold a job, with the time since which it was due, until the end of its portal's pause.
local function hold(queue, portal, id)
  local since_ms = redis.call('ZSCORE', queue.key, id)
  local added = redis.pcall('ZADD', 'spokes:' .. portal .. ':held:all', 'NX', since_ms, id)
  local named = redis.pcall('SADD', KEYS[3], portal .. ':all')
  local is_held = type(added) == 'number' and type(named) == 'number' -- otherwise a key holds another type of value
  redis.call('ZADD', queue.key, 'XX', now_ms + (is_held and held_delay_ms or SHORT_DELAY_MS), id)
  queue.held_count = queue.held_count + 1
end

-- Return the holders of jobs in one call: a worker's own jobs stay in their queue while they run, and may be many.
local function holders_of(ids)
  local leases = {}
  for i, id in ipairs(ids) do
    leases[i] = 'spokes:in-progress:' .. id
  end
  return #ids > 0 and next(ours) and redis.call('MGET', unpack(leases)) or {}
end

-- Add ids to `by_portal`: a list of lists of ids, which also maps each portal to its list. Hold jobs of paused portals
-- instead, and leave out those that we run.
local function group_by_portal(queue, ids, by_portal)
  local holders = holders_of(ids)
  for i, id in ipairs(ids) do
    local portal = portal_of(id)
    if paused[portal] then
      hold(queue, portal, id)
    elseif not skipped[portal] and holders[i] ~= our_name then
      local portal_ids = by_portal[portal]
      if not portal_ids then
        portal_ids = {held = ours[portal] and ours[portal].events or 0, position = #by_portal}
        by_portal[portal] = portal_ids
        by_portal[#by_portal + 1] = portal_ids
      end
      portal_ids[#portal_ids + 1] = id
    end
  end
end

local function is_before(one, other)
  if one.held == other.held then
    return one.position < other.position
  end
  return one.held < other.held
end

-- Return the first job of each portal, then the second, and so on; in each turn, first of those with the fewest held events.
local function in_turn(by_portal)
  if #by_portal > 1 then
    table.sort(by_portal, is_before)
  end
  local ids, turn, has_more = {}, 1, true
  while has_more do
    has_more = false
    for _, portal_ids in ipairs(by_portal) do
      if portal_ids[turn] then
        has_more = true
        ids[#ids + 1] = portal_ids[turn]
      end
    end
    turn = turn + 1
  end
  return ids
end

local function read_page(queue)
  local page = redis.call('ZRANGEBYSCORE', queue.key, '-inf', due_ms, 'LIMIT', queue.offset, PAGE_SIZE)
  local by_portal, held_before = {}, queue.held_count
  group_by_portal(queue, page, by_portal)
  queue.offset = queue.offset + #page - (queue.held_count - held_before) -- held jobs are not due any more
  if #page == PAGE_SIZE then
    group_by_portal(queue, redis.call('ZREVRANGEBYSCORE', queue.key, due_ms, '-inf', 'LIMIT', 0, PAGE_SIZE), by_portal)
    if probe >= 0 and queue.page_count == 0 then
      local first = math.floor(probe * redis.call('ZCOUNT', queue.key, '-inf', due_ms))
      local some = redis.call('ZRANGE', queue.key, first, first + PROBE_SIZE - 1, 'WITHSCORES')
      local due = {}
      for i = 1, #some, 2 do
        if tonumber(some[i + 1]) <= tonumber(due_ms) then
          due[#due + 1] = some[i]
        end
      end
      group_by_portal(queue, due, by_portal)
    end
  end
  queue.ids, queue.taken, queue.page_count = in_turn(by_portal), 0, queue.page_count + 1
  queue.portal_count = #by_portal
  queue.is_last_page = #page < PAGE_SIZE or queue.page_count == MAX_PAGES
end

-- Return the next job of a queue that may be claimed, in the order in which its portals take turns; nil after the last.
local function next_id(queue)
  while true do
    while queue.taken == #queue.ids do
      if queue.is_last_page or (queue.page_count > 0 and not (has_room(total) and has_room(queue.room))) then
        return nil
      end
      read_page(queue)
    end
    queue.taken = queue.taken + 1
    local id = queue.ids[queue.taken]
    if is_claimable(queue, portal_of(id)) then
      return id
    end
    queue.has_passed_over = true
    if queue.portal_count == 1 then
      queue.taken = #queue.ids
    end
  end
end

local jobs = {}

local function take_room(room, events)
  room.jobs, room.events = room.jobs - 1, room.events - events
end

local function note_held(portal, events)
  local own = ours[portal] or {jobs = 0, events = 0}
  own.jobs, own.events = own.jobs + 1, own.events + events
  ours[portal] = own
end

-- Return the number of the try. A count that something else wrote starts anew: it must not keep other jobs from running.
local function count_try(key)
  if redis.call('SET', key, 1, 'NX', 'EX', TRIES_TTL_S) then
    return 1
  end
  local tries = redis.pcall('INCR', key)
  if type(tries) ~= 'number' then
    redis.call('DEL', key)
    tries = redis.call('INCR', key)
  end
  redis.call('EXPIRE', key, TRIES_TTL_S)
  return tries
end

-- Return a job's payload; nil if it has none, or if its key holds another type of value.
local function payload_of(key)
  local payload = redis.pcall('GET', key)
  return type(payload) == 'string' and payload or nil
end

local function claim(queue, number, id)
  local lease = 'spokes:in-progress:' .. id
  local is_ours = redis.call('SET', lease, our_name, 'NX', 'PX', lease_ms)
  if not is_ours and is_false_lease(lease, tonumber(lease_ms)) then
    is_ours = redis.call('SET', lease, our_name, 'PX', lease_ms)
  end
  if is_ours then
    local tries = count_try('spokes:retry:' .. id)
    local payload = payload_of('spokes:job:' .. id)
    local events = math.max(1, (#(payload or '') - HEAD_BYTES) / EVENT_BYTES)
    if not (has_room(total) and has_room(queue.room)) then
      take_room(reserve, events)
    end
    take_room(total, events)
    take_room(queue.room, events)
    note_held(portal_of(id), events)
    jobs[#jobs + 1] = {id, payload or false, tries, number, math.ceil(events)}
  end
end

local has_claimable = true
while has_claimable do
  has_claimable = false
  for number, queue in ipairs(queues) do
    local id = (has_room(reserve) or (has_room(total) and has_room(queue.room))) and next_id(queue)
    if id then
      has_claimable = true
      claim(queue, number, id)
    end
  end
end

if is_preferred and ARGV[6] == '1' and #jobs > 0 then
  redis.call('SET', KEYS[2], our_name, 'PX', PREFERRED_MS)
end

local next_ms, has_more = -1, {}
for number, queue in ipairs(queues) do
  local has_more_to_hold = queue.page_count == MAX_PAGES and queue.held_count > 0
  local is_all_read = queue.is_last_page and queue.taken == #queue.ids
  local is_read = is_all_read and not has_more_to_hold and not queue.has_passed_over
  has_more[number] = is_read and 0 or 1
  if is_read then
    local next_due = redis.call('ZRANGEBYSCORE', queue.key, '(' .. due_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    local wait_ms = next_due and math.ceil(next_due - due_ms)
    if wait_ms and (next_ms < 0 or wait_ms < next_ms) then
      next_ms = wait_ms
    end
  end
end
return {next_ms, has_more, jobs}
