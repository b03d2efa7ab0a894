-- Admit a group of deliveries in one atomic step: whatever is marked as seen is also queued, and has its audit head.
--
-- KEYS  1 queue   2 audit stream   3 channel on which idle workers listen
-- ARGV  1 now (ms)   2 seconds that a mark is kept   3 number of deliveries, and then for each of them:
--       job id, job key, payload, marks of this period, marks of the period before,
--       number of audit records, the records, number of event digests, the digests
--
-- Returns for each delivery the places (from 1) of its digests that are already known. A delivery with any known
-- digest is not stored at all: the caller takes those events out and comes again.

local now, keep, deliveries = ARGV[1], ARGV[2], tonumber(ARGV[3])
local at = 4
local answer = {}
local queued = false

local function slice(from, count)
  local part = {}
  for i = 1, count do
    part[i] = ARGV[from + i - 1]
  end
  return part
end

for d = 1, deliveries do
  local id, job, payload, marks, marks_before = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local record_count = tonumber(ARGV[at + 5])
  local records_at = at + 6
  local digest_count = tonumber(ARGV[records_at + record_count])
  local digests = slice(records_at + record_count + 1, digest_count)
  at = records_at + record_count + 1 + digest_count

  local known = {}
  if digest_count > 0 then
    local in_this = redis.call('SMISMEMBER', marks, unpack(digests))
    local in_last = redis.call('SMISMEMBER', marks_before, unpack(digests))
    for i = 1, digest_count do
      if in_this[i] == 1 or in_last[i] == 1 then
        known[#known + 1] = i
      end
    end
  end
  if #known == 0 then
    if digest_count > 0 then
      redis.call('SADD', marks, unpack(digests))
      redis.call('EXPIRE', marks, keep)
      redis.call('SET', job, payload)
      redis.call('ZADD', KEYS[1], now, id)
      queued = true
    end
    for i = records_at, records_at + record_count - 1 do
      redis.call('XADD', KEYS[2], '*', 'r', ARGV[i])
    end
  end
  answer[d] = known
end
if queued then
  redis.call('PUBLISH', KEYS[3], '')
end
return answer
