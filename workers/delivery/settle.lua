-- Settle steps of deliveries, in their order, in one atomic step. A step whose event was settled already is left out,
-- and so is everything of a delivery that has ended, so the same call may be made twice.
--
-- A delivery that ends with all its steps at once needs no marks: it is gone before anybody could look, unless another
-- worker is at it.
--
-- KEYS  1 queue   2 audit stream
-- ARGV  1 seconds that marks are kept   2 our name   3 number of lanes to give back, and for each: lane, token; and then
--       for each delivery: job id, key of its settled marks, 1 if it ends with these steps, number of steps, and for
--       each step: what it hangs on (= : left out while another worker holds the delivery; + or - and a key: left out
--       unless that stands, or unless it does not; both, one of them, or nothing), number of event keys, the keys,
--       number of records, the records, number of commands, and for each command: number of its words, the words
--
-- Returns for each delivery 1, or 0 if a step that moves events was left out, because another worker had settled
-- some of them or is at them: the delivery then stays in the queue, and who takes it next sees what is left.

-- A command of ours: NEWER key name number ... sets those numbers of a hash that grow, and leaves the others.
local function newer(key, ...)
  local words = {...}
  for i = 1, #words, 2 do
    if tonumber(words[i + 1]) > tonumber(redis.call('HGET', key, words[i]) or 0) then
      redis.call('HSET', key, words[i], words[i + 1])
    end
  end
end

local keep, ours, lanes = ARGV[1], ARGV[2], tonumber(ARGV[3])
local at = 4 + 2 * lanes
local answer = {}
local STOCK = '1' -- what arq's own worker calls itself; it never loses a job to another, so it may be ours

-- Whether our lease on a delivery had lapsed and another worker has it now.
local function is_elsewhere(id)
  local holder = redis.call('GET', 'arq:in-progress:' .. id)
  return holder and holder ~= ours and holder ~= STOCK
end

-- Whether a step is the holder's alone, and whether it may be by the key that it hangs on.
local function conditions(hangs_on)
  local holders, stands, key = hangs_on:match('^(=?)([+-]?)(.*)$')
  return holders == '=', key == '' or redis.call('EXISTS', key) == (stands == '+' and 1 or 0)
end

while at <= #ARGV do
  local id, marks, ends, steps = ARGV[at], ARGV[at + 1], ARGV[at + 2] == '1', tonumber(ARGV[at + 3])
  at = at + 4
  local alive = redis.call('EXISTS', 'arq:job:' .. id) == 1
  local elsewhere = alive and is_elsewhere(id)
  local marked = alive and redis.call('EXISTS', marks) == 1
  local contested, marks_made = false, false
  for _ = 1, steps do
    local is_holders, may_be = conditions(ARGV[at])
    local not_ours = elsewhere and is_holders and may_be
    local fresh = alive and may_be and not not_ours
    contested = contested or not_ours
    local keys_from = at + 2
    local keys_to = at + 1 + tonumber(ARGV[at + 1])
    local records_from = keys_to + 2
    local records_to = keys_to + 1 + tonumber(ARGV[keys_to + 1])
    local commands = tonumber(ARGV[records_to + 1])
    at = records_to + 2
    if fresh and marked then
      for k = keys_from, keys_to do
        if redis.call('SISMEMBER', marks, ARGV[k]) == 1 then
          fresh = false
        end
      end
      contested = contested or (not fresh and keys_to > keys_from)
    end
    if fresh then
      for record = records_from, records_to do
        redis.call('XADD', KEYS[2], '*', 'r', ARGV[record])
      end
    end
    for _ = 1, commands do
      local last = at + tonumber(ARGV[at])
      if fresh and ARGV[at + 1] == 'NEWER' then
        newer(unpack(ARGV, at + 2, last))
      elseif fresh then
        redis.call(unpack(ARGV, at + 1, last))
      end
      at = last + 1
    end
    if fresh and (marked or elsewhere or not ends) then
      redis.call('SADD', marks, unpack(ARGV, keys_from, keys_to))
      marks_made, marked = true, true
    end
  end
  if marks_made then
    redis.call('EXPIRE', marks, keep)
  end
  if ends and alive and not contested then
    redis.call('ZREM', KEYS[1], id)
    redis.call('DEL', marks, 'arq:job:' .. id, 'arq:retry:' .. id, 'arq:in-progress:' .. id)
  end
  answer[#answer + 1] = contested and 0 or 1
end

for lane = 4, 3 + 2 * lanes, 2 do
  if redis.call('GET', ARGV[lane]) == ARGV[lane + 1] then
    redis.call('DEL', ARGV[lane])
  end
end
return answer
