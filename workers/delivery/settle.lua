-- Carry out settlement steps of deliveries in their order, close deliveries, and release lanes, atomically. Safe to
-- repeat: a step is left out if one of its events is settled already, and everything of a closed delivery is left out.
-- Loaded with arguments.lua in front.
--
-- A delivery that is closed in the same call as all its steps stores no settled event keys: its job is deleted, so no
-- other worker could read them. If another worker holds the delivery, they are stored.
--
-- KEYS  1 job queue   2 job queue of imports   3 audit stream
-- ARGV  1 seconds to keep settled events   2 our name   3 number of lane tokens, and for each: the token, number of the
--       lanes to release that hold it, their keys; and then for each delivery: job id, set of its settled events, 1 if
--       it is closed with these steps, number of groups of its steps, and for each group: number of plain steps, which
--       settle one event with one record, and for each: event key, record; or 0, and then one other step: guard, number
--       of event keys, the keys, number of records, the records, number of commands, and for each command: number of
--       its arguments, the arguments
--
-- A command on an index, or on another key beside the event's own, that holds another type of value is left out: it must
-- not keep events from being settled.
--
-- Returns the names of such keys, and for each delivery 1, or 0 if a step that moves events away was left out, because another worker holds the
-- delivery or settled some of the events. The delivery then stays queued, and the next worker finds what is left.

-- A step is left out unless its guard holds. `needs_lease`: the delivery must not be held by another worker.
-- `must_exist`: whether a key must exist or must not; it follows the name of the guard after a colon.
local GUARDS = {
  [''] = {},
  ['lease'] = {needs_lease = true},
  ['exists'] = {must_exist = true},
  ['missing'] = {must_exist = false},
  ['lease+exists'] = {needs_lease = true, must_exist = true},
  ['lease+missing'] = {needs_lease = true, must_exist = false},
}

-- Our own command NEWER key field number ...: raise the numbers of a hash, and leave greater ones as they are.
local function raise_numbers(key, ...)
  local fields = {...}
  for i = 1, #fields, 2 do
    if tonumber(fields[i + 1]) > tonumber(redis.call('HGET', key, fields[i]) or 0) then
      redis.call('HSET', key, fields[i], fields[i + 1])
    end
  end
end

local function run(first, last)
  if ARGV[first] == 'NEWER' then
    raise_numbers(unpack(ARGV, first + 1, last))
  else
    redis.call(unpack(ARGV, first, last))
  end
end

local wrong_keys = {}

local function run_command(first, last)
  local is_done, caught = pcall(run, first, last)
  if is_done then
    return
  end
  if not string.find(error_text(caught), 'WRONGTYPE', 1, true) then
    error(caught)
  end
  wrong_keys[#wrong_keys + 1] = ARGV[first + 1]
end

local settled_ttl_s, our_name = next_arg(), next_arg()
local lanes = {}
for i = 1, tonumber(next_arg()) do
  lanes[i] = {token = next_arg()}
  lanes[i].first, lanes[i].last = next_list()
end

-- Return whether our lease on a job lapsed and another worker holds it now.
local function is_held_elsewhere(id)
  local holder = redis.pcall('GET', 'spokes:in-progress:' .. id)
  return type(holder) == 'string' and holder ~= our_name -- a key of another type is no worker's
end

-- Return whether a step needs the lease, and whether its key is as it must be.
local function read_guard(text)
  local name, key = text:match('^([^:]*):?(.*)$')
  local guard = GUARDS[name]
  local key_fits = guard.must_exist == nil or (redis.call('EXISTS', key) == 1) == guard.must_exist
  return guard.needs_lease, key_fits
end

local function is_any_settled(settled, first, last)
  for i = first, last do
    if redis.call('SISMEMBER', settled, ARGV[i]) == 1 then
      return true
    end
  end
  return false
end

-- Return whether `command`, which returns a number, works on a key: it does not if the key holds another type.
local function has_type_for(command, key)
  return type(redis.pcall(command, key)) == 'number'
end

-- Before the first write, because Redis does not undo the writes of a script that fails.
if not (has_type_for('ZCARD', KEYS[1]) and has_type_for('ZCARD', KEYS[2]) and has_type_for('XLEN', KEYS[3])) then
  return redis.error_reply('WRONGKEY a queue or the audit stream holds another type of value')
end

-- Of the delivery whose steps are carried out.
local settled, closes, exists, held_elsewhere, has_settled, is_contested, adds_settled

local function add_settled(first, last)
  if has_settled or held_elsewhere or not closes then
    redis.call('SADD', settled, unpack(ARGV, first, last))
    adds_settled, has_settled = true, true
  end
end

local function carry_out_plain_steps(count)
  local first, last = skip_args(2 * count)
  for i = first, exists and last or 0, 2 do
    if not (has_settled and redis.call('SISMEMBER', settled, ARGV[i]) == 1) then
      redis.call('XADD', KEYS[3], '*', 'r', ARGV[i + 1])
      add_settled(i, i)
    end
  end
end

local function carry_out_step()
  local needs_lease, key_fits = read_guard(next_arg())
  local keys_first, keys_last = next_list()
  local records_first, records_last = next_list()
  local lacks_lease = held_elsewhere and needs_lease and key_fits
  local applies = exists and key_fits and not lacks_lease
  is_contested = is_contested or lacks_lease
  if applies and has_settled and is_any_settled(settled, keys_first, keys_last) then
    applies = false
    is_contested = is_contested or keys_last > keys_first
  end
  if applies then
    for i = records_first, records_last do
      redis.call('XADD', KEYS[3], '*', 'r', ARGV[i])
    end
  end
  for _ = 1, tonumber(next_arg()) do
    local first, last = next_list()
    if applies then
      run_command(first, last)
    end
  end
  if applies then
    add_settled(keys_first, keys_last)
  end
end

local answer = {wrong_keys}
while has_args() do
  local id = next_arg()
  settled, closes = next_arg(), next_arg() == '1'
  exists = redis.call('EXISTS', 'spokes:job:' .. id) == 1
  held_elsewhere = exists and is_held_elsewhere(id)
  has_settled = exists and settled_count(settled) > 0
  is_contested, adds_settled = false, false
  for _ = 1, tonumber(next_arg()) do
    local plain_count = tonumber(next_arg())
    if plain_count > 0 then
      carry_out_plain_steps(plain_count)
    else
      carry_out_step()
    end
  end
  if adds_settled then
    redis.call('EXPIRE', settled, settled_ttl_s)
  end
  if closes and exists and not is_contested then
    if redis.call('ZREM', KEYS[1], id) == 0 then
      redis.call('ZREM', KEYS[2], id)
    end
    redis.call('DEL', settled, 'spokes:job:' .. id, 'spokes:retry:' .. id, 'spokes:in-progress:' .. id)
  end
  answer[#answer + 1] = is_contested and 0 or 1
end

for _, lane in ipairs(lanes) do
  local tokens, released = redis.call('MGET', unpack(ARGV, lane.first, lane.last)), {}
  for i = 1, #tokens do
    if tokens[i] == lane.token then
      released[#released + 1] = ARGV[lane.first + i - 1]
    end
  end
  if #released > 0 then
    redis.call('DEL', unpack(released))
  end
end
return answer
