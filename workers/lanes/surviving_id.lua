-- Shared by acquire_lanes.lua and record_merge.lua, which are loaded with this file in front of them.

local MAX_HOPS = 100 -- merges of merges; more would be a circle

-- Return the id that a record has now, after any merges. `prefix`: start of the keys of merged records of its type.
local function surviving_id(prefix, id)
  for _ = 1, MAX_HOPS do
    local survivor = redis.call('GET', prefix .. id)
    if not survivor then
      break
    end
    id = survivor
  end
  return id
end

