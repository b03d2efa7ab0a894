-- Loaded in front of the scripts that acquire leases.

-- Return whether something else wrote the key of a lease: ours end within `lease_ms`, and what has no end, or a much later
-- one, would keep its work from running. SET replaces it, whatever type it has.
local function is_false_lease(key, lease_ms)
  local left_ms = redis.call('PTTL', key) -- -1 without an end, -2 without the key
  return left_ms == -1 or left_ms > 2 * lease_ms
end

