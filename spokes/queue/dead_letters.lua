-- Close a dead letter: delete it, record the outcome and, for a replay, queue its event, in one step.
-- If several callers close the same letter, only the first one does.
--
-- KEYS  1 dead letter   2 index of its portal   3 index of its cause   4 audit stream   5 job queue
--       6 job of the delivery that replays the event
-- ARGV  1 event key   2 audit record   3 id of that delivery, empty if the letter is discarded   4 its job
--       5 now (ms)   6 channel that wakes workers
--
-- Returns 1, or 0 if the letter does not exist any more.

local letter, portal_index, cause_index = KEYS[1], KEYS[2], KEYS[3]
local audit_stream, job_queue, job_key = KEYS[4], KEYS[5], KEYS[6]
local event_key, record, delivery_id, job, now_ms, wake_channel = unpack(ARGV)

-- Return whether `command`, which returns a number, works on a key: it does not if the key holds another type.
local function has_type_for(command, key)
  return type(redis.pcall(command, key)) == 'number'
end

-- Before the first write, because Redis does not undo the writes of a script that fails.
if not (has_type_for('ZCARD', job_queue) and has_type_for('XLEN', audit_stream)) then
  return redis.error_reply('WRONGKEY the queue or the audit stream holds another type of value')
end

redis.call('ZREM', portal_index, event_key)
redis.call('ZREM', cause_index, event_key)
if redis.call('DEL', letter) == 0 then
  return 0
end
redis.call('XADD', audit_stream, '*', 'r', record)
if delivery_id ~= '' then
  redis.call('SET', job_key, job)
  redis.call('ZADD', job_queue, now_ms, delivery_id)
  redis.pcall('PUBLISH', wake_channel, '') -- a Redis user may have no channels
end
return 1
