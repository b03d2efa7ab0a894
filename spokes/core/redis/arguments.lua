-- Reads ARGV from left to right. Shared by acquire_lanes.lua and settle.lua, which are loaded with this file in front.

local next_index = 1

local function has_args()
  return next_index <= #ARGV
end

-- Skip that many arguments; return the indexes of the first and the last one.
local function skip_args(count)
  local first = next_index
  next_index = next_index + count
  return first, next_index - 1
end

local function next_arg()
  next_index = next_index + 1
  return ARGV[next_index - 1]
end

-- Skip a list that begins with its length; return the indexes of its first and last element.
local function next_list()
  return skip_args(tonumber(next_arg()))
end

-- Return the text of what `pcall` caught: Redis raises a table since version 7, a text before.
local function error_text(caught)
  return type(caught) == 'table' and tostring(caught.err) or tostring(caught)
end

-- Return how many events of a delivery are settled. Another type of value, which something else wrote, is deleted: all its
-- events run again.
local function settled_count(key)
  local count = redis.pcall('SCARD', key)
  if type(count) == 'number' then
    return count
  end
  redis.call('DEL', key)
  return 0
end
