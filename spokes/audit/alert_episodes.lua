-- Change the state of an alert; append the audit record and queue the webhook message in the same step.
--
-- KEYS  1 active alerts (hash: name -> details)   2 audit stream   3 outbox (list of messages, oldest first)
-- ARGV  1 state: began, ended or happened   2 alert name   3 details (JSON), for began
--       4 audit record, empty for happened   5 message   6 maximum number of messages in the outbox
--       7 seconds in which happened is not queued again   8 expiry of the outbox (s)
--       9 hold-down (ms): how long began must be reported before the alert begins   10 longest gap between reports (ms)
--
-- Returns 1, 0 when nothing changed, or -1 during the hold-down.

local active_alerts, audit_stream, outbox = KEYS[1], KEYS[2], KEYS[3]
local state, name, details, record, message = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local max_messages, repeat_after_s, outbox_ttl_s = tonumber(ARGV[6]), ARGV[7], ARGV[8]
local hold_down_ms, longest_gap_ms = tonumber(ARGV[9]), tonumber(ARGV[10])
local pending = active_alerts .. ':pending:' .. name

-- First a write that needs no memory: Redis checks its memory before the first write of a script only, and an alert
-- about a full Redis must be stored.
redis.call('LTRIM', outbox, -max_messages, -1)
local changed
if state == 'ended' and hold_down_ms > 0 then redis.call('DEL', pending) end
if state == 'began' and hold_down_ms > 0 and redis.call('HEXISTS', active_alerts, name) == 0 then
  -- The remaining time to live says how long ago the problem began.
  redis.call('SET', pending, '', 'NX', 'PX', hold_down_ms + longest_gap_ms)
  if redis.call('PTTL', pending) > longest_gap_ms then return -1 end
  redis.call('DEL', pending)
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
