-- Replace a stored secret by its resealed form, unless it was replaced in the meantime.
--
-- KEYS  1 the portal's hash of sealed secrets
-- ARGV  1 the secret's name   2 its sealed form as read   3 its new sealed form
-- Returns 1 if it was replaced, otherwise 0.

local SECRETS = KEYS[1]
local name, sealed, resealed = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HGET', SECRETS, name) ~= sealed then
  return 0
end
redis.call('HSET', SECRETS, name, resealed)
return 1
