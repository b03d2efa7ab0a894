-- Release the lanes of a worker that has ended.
--
-- KEYS  lanes
-- ARGV  1 what the token of each of the worker's lanes begins with

for _, lane in ipairs(KEYS) do
  local token = redis.pcall('GET', lane)
  if type(token) == 'string' and string.sub(token, 1, #ARGV[1]) == ARGV[1] then
    redis.call('DEL', lane)
  end
end
