-- End a dead letter: it goes, and what becomes of it is recorded, in one step. Whoever comes second finds nothing to end.
--
-- KEYS  1 the letter   2 index of its portal   3 index of its cause   4 audit stream   5 queue
--       6 job of the delivery that takes its event up
-- ARGV  1 event key   2 record   3 id of that delivery, empty when there is none   4 its payload   5 now (ms)
--       6 channel that wakes workers
--
-- Returns 1, or 0 when there is no such letter any more.

redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('XADD', KEYS[4], '*', 'r', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[6], ARGV[4])
  redis.call('ZADD', KEYS[5], ARGV[5], ARGV[3])
  redis.call('PUBLISH', ARGV[6], '')
end
return 1
