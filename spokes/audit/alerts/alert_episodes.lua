-- Change the state of an alert; append the audit record and queue the webhook message in the same step.
--
-- A problem shorter than its alert's hold-down is not reported. While it is held, Redis keeps it as the JSON
-- {since, report, ended}: since when it has existed, less the time in which it did not exist; what `report_held` needs to
-- report it; and when it ended last, absent while it exists. A problem that returns within the memory continues.
--
-- KEYS  1 active alerts (hash: name -> details)   2 audit stream   3 outbox (list of messages, oldest first)
--       4 held alerts (hash: name -> JSON)
-- ARGV  1 state: began, ended, happened, or due: began if it is still held and its hold-down is over   2 alert name   3 details (JSON), for began and due
--       4 audit record, empty for happened   5 message   6 maximum number of messages in the outbox
--       7 seconds in which happened is not queued again   8 expiry of the outbox (s)
--       9 hold-down (ms)   10 now (ms)   11 report (JSON), kept while the alert is held
--       12 memory (ms): a held problem that ended longer ago is forgotten
--
-- Returns 1, 0 when nothing changed, or -1 during the hold-down.

local active_alerts, audit_stream, outbox, held_alerts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local state, name, details, record, message = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local max_messages, repeat_after_s, outbox_ttl_s = tonumber(ARGV[6]), ARGV[7], ARGV[8]
local hold_down_ms, now_ms, report, memory_ms = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12])

-- Return the held problem; nil if there is none, if it is forgotten, or if its clock was ahead of ours.
local function held_problem()
  local stored = redis.call('HGET', held_alerts, name)
  local is_json, held = pcall(cjson.decode, stored or '')
  if not stored or not is_json or type(held) ~= 'table' or not tonumber(held.since) then return nil end
  if held.since > now_ms or (held.ended and now_ms - held.ended > memory_ms) then return nil end
  return held
end

-- First a write that needs no memory: Redis checks its memory before the first write of a script only, and an alert
-- about a full Redis must be stored.
redis.call('LTRIM', outbox, -max_messages, -1)
local changed
if state == 'due' then
  local held = held_problem()
  if not held or held.ended or now_ms - held.since < hold_down_ms then return 0 end
  redis.call('HDEL', held_alerts, name)
  state = 'began'
elseif state == 'began' and hold_down_ms > 0 and redis.call('HEXISTS', active_alerts, name) == 0 then
  local held = held_problem() or {since = now_ms}
  if held.ended then
    held.since, held.ended = held.since + now_ms - held.ended, nil
  end
  if now_ms - held.since < hold_down_ms then
    held.report = report
    redis.call('HSET', held_alerts, name, cjson.encode(held))
    return -1
  end
  redis.call('HDEL', held_alerts, name)
end
if state == 'ended' then
  local held = held_problem()
  if held and not held.ended then
    held.ended = now_ms
    redis.call('HSET', held_alerts, name, cjson.encode(held))
  elseif not held then
    redis.call('HDEL', held_alerts, name)
  end
end
if state == 'began' then
  changed = redis.call('HSETNX', active_alerts, name, details)
elseif state == 'ended' then
  changed = redis.call('HDEL', active_alerts, name)
else
  changed = redis.call('SET', active_alerts .. ':told:' .. name, '', 'NX', 'EX', repeat_after_s) and 1 or 0
end
if changed == 0 then return 0 end
if record ~= '' then redis.pcall('XADD', audit_stream, '*', 'r', record) end -- the alert may be about the stream
redis.call('RPUSH', outbox, message)
redis.call('LTRIM', outbox, -max_messages, -1)
redis.call('EXPIRE', outbox, outbox_ttl_s)
return 1
